//! The EndpointSlices of claimed Services: which are watched changes with the Services.
//!
//! The old watch stays in force, and its objects with it, until the new one has its first full list.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    resource::{Change, Followed, Learned},
    store::{Store, Taken},
};
use crate::metrics::ClusterMetrics;

/// Joins a slice to its Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How many changes may wait.
pub(super) const WAITING: usize = 256;

#[derive(Debug)]
struct Watch {
    /// Names of Services, in any namespace.
    names: BTreeSet<String>,
    learned: mpsc::Receiver<Learned<EndpointSlice>>,
    /// Ends when dropped.
    _task: JoinSet<()>,
}

/// The slices, and who tells of them.
pub(super) struct Slices {
    client: Client,
    metrics: ClusterMetrics,
    in_force: Option<Watch>,
    /// Has no full list yet.
    next: Option<Watch>,
    store: Store<EndpointSlice>,
}

/// Which watch has told something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    InForce,
    Next,
}

impl Slices {
    pub(super) fn new(client: Client, metrics: ClusterMetrics) -> Self {
        Self {
            client,
            metrics,
            in_force: None,
            next: None,
            store: Store::default(),
        }
    }

    pub(super) fn store(&self) -> &Store<EndpointSlice> {
        &self.store
    }

    /// Whether all slices of Services of this name are known.
    pub(super) fn cover(&self, service: &str) -> bool {
        self.in_force
            .as_ref()
            .is_some_and(|watch| watch.names.contains(service))
    }

    /// Whether a watch is on its way to its first list.
    pub(super) fn pending(&self) -> bool {
        self.next.is_some()
    }

    /// From now on the slices of Services of these names are wanted.
    pub(super) fn want(&mut self, names: BTreeSet<String>) {
        let watched = |watch: &Option<Watch>| watch.as_ref().map(|watch| watch.names.clone());
        if watched(&self.next)
            .or(watched(&self.in_force))
            .unwrap_or_default()
            == names
        {
            return;
        }
        self.next = None;
        if names.is_empty() {
            self.in_force = None;
            self.store.clear();
            self.metrics.objects("endpointslices", 0);
        } else if watched(&self.in_force).as_ref() != Some(&names) {
            self.next = Some(self.watch(names));
        }
    }

    fn watch(&self, names: BTreeSet<String>) -> Watch {
        let list = names
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(",");
        let known = self.store.iter().filter(|(_, slice)| {
            let labels = slice.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get(SERVICE_NAME))
                .is_some_and(|service| names.contains(service))
        });
        let followed = Followed {
            name: "endpointslices",
            api: Api::<EndpointSlice>::all(self.client.clone()),
            labels: Some(format!("{SERVICE_NAME} in ({list})")),
            fields: None,
            keep: |slice| {
                slice.metadata.managed_fields = None;
                true
            },
            counts: |_| true,
            known: known.map(|(name, _)| (name.clone(), true)).collect(),
            expected: false,
            optional: false,
        };
        let (sender, learned) = mpsc::channel(WAITING);
        let mut task = JoinSet::new();
        task.spawn(followed.run(sender, self.metrics.clone()));
        Watch {
            names,
            learned,
            _task: task,
        }
    }

    /// What either watch tells next. May be cancelled.
    pub(super) async fn recv(&mut self) -> (Which, Learned<EndpointSlice>) {
        tokio::select! {
            learned = next(&mut self.in_force) => (Which::InForce, learned),
            learned = next(&mut self.next) => (Which::Next, learned),
        }
    }

    /// What is there already.
    pub(super) fn try_recv(&mut self) -> Option<(Which, Learned<EndpointSlice>)> {
        let ready = |watch: &mut Option<Watch>| watch.as_mut()?.learned.try_recv().ok();
        ready(&mut self.in_force)
            .map(|learned| (Which::InForce, learned))
            .or_else(|| ready(&mut self.next).map(|learned| (Which::Next, learned)))
    }

    /// Takes it up. Gives the slices that changed, but for the first list of a watch: nothing has happened then.
    pub(super) fn take(
        &mut self,
        which: Which,
        change: Change<EndpointSlice>,
    ) -> Vec<Taken<EndpointSlice>> {
        let first = matches!(which, Which::Next);
        if first {
            // Its first word is a list.
            self.in_force = self.next.take();
        }
        let changed = self.store.take(change);
        if first { Vec::new() } else { changed }
    }
}

async fn next(watch: &mut Option<Watch>) -> Learned<EndpointSlice> {
    let learned = match watch {
        Some(watch) => watch.learned.recv().await,
        None => None,
    };
    match learned {
        Some(learned) => learned,
        None => std::future::pending().await,
    }
}
