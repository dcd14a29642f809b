//! Keeps copies of the objects, and derives the whole desired state from all of them at each change.
//!
//! `resource` follows one kind of object, as `kinds` says which, `slices` the EndpointSlices of the Services that are claimed right now.
//! [`follow`] takes up what they tell; nothing it does waits for the API server or for the run loop.

mod backoff;
mod departed;
mod failure;
mod kinds;
mod resource;
mod slices;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{self, Instant},
};
use tracing::{info, warn};

pub(super) use self::backoff::Backoff;
use self::{
    departed::Departed,
    resource::{Change, Learned},
    slices::{Slices, Which},
    store::{Store, Taken},
};
use super::{
    Options,
    stream_route::StreamRoute,
    translate::{
        Derived, LocalPods, ObjectName, View, backends, is_claimed, translate, trigger_time,
    },
};
use crate::{
    metrics::ClusterMetrics,
    source::{self, Snapshot, Update},
};

/// How long the first state waits for Pods alone. They only speed things up.
const PODS_GRACE: Duration = Duration::from_secs(5);

/// Follows Services, slices and this node's Pods, sends an [`Update`] whenever the desired state is another, and
/// shows `derived` to those who tell. Ends when nobody receives `changes`.
pub(super) async fn follow(
    client: Client,
    options: Options,
    changes: mpsc::Sender<source::Change>,
    derived: watch::Sender<Arc<Derived>>,
    metrics: ClusterMetrics,
) {
    let mut tasks = JoinSet::new();
    let mut services = kinds::services(&client, options.held, &mut tasks, &metrics);
    let mut routes = kinds::routes(&client, &mut tasks, &metrics);
    let mut pods = kinds::pods(&client, &options.node, &mut tasks, &metrics);
    let mut state = State::new(client, options, derived, metrics);
    loop {
        let wake = state.wake();
        tokio::select! {
            () = changes.closed() => return,
            Some(learned) = services.recv() => state.service(learned),
            Some(learned) = routes.recv() => state.route(learned),
            (which, learned) = state.slices.recv() => state.slice(which, learned),
            Some(learned) = pods.recv() => state.pod(learned),
            () = until(wake) => {}
            Ok(permit) = changes.reserve(), if state.update.is_some() => {
                if let Some(update) = state.update.take() {
                    permit.send(Ok(update));
                }
                continue;
            }
        }
        // One state for all that is there already.
        while let Ok(learned) = services.try_recv() {
            state.service(learned);
        }
        while let Ok(learned) = routes.try_recv() {
            state.route(learned);
        }
        while let Some((which, learned)) = state.slices.try_recv() {
            state.slice(which, learned);
        }
        while let Ok(learned) = pods.try_recv() {
            state.pod(learned);
        }
        state.derive();
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => time::sleep_until(at).await,
        None => future::pending().await,
    }
}

/// What is known, and what came of it.
struct State {
    options: Options,
    /// All. None: not listed yet.
    services: Option<Store<Service>>,
    /// None: not listed yet.
    routes: Option<Store<StreamRoute>>,
    /// Of each route the newest version whose backends' slices are known.
    settled: BTreeMap<ObjectName, Arc<StreamRoute>>,
    slices: Slices,
    departed: Departed,
    pods: LocalPods,
    pods_listed: bool,
    /// From when on Pods are not waited for.
    without_pods: Option<Instant>,
    /// The last that was derived. None: nothing yet.
    last: Option<Arc<Derived>>,
    derived: watch::Sender<Arc<Derived>>,
    /// On its way to the run loop, which may be busy: newer states take its place.
    update: Option<Update>,
    /// Since when there is something to derive.
    learned: Option<Instant>,
    triggered: Vec<SystemTime>,
}

impl State {
    fn new(
        client: Client,
        options: Options,
        derived: watch::Sender<Arc<Derived>>,
        metrics: ClusterMetrics,
    ) -> Self {
        Self {
            options,
            services: None,
            routes: None,
            settled: BTreeMap::new(),
            slices: Slices::new(client, metrics),
            departed: Departed::default(),
            pods: LocalPods::default(),
            pods_listed: false,
            without_pods: None,
            last: None,
            derived,
            update: None,
            learned: None,
            triggered: Vec::new(),
        }
    }

    fn learned(&mut self, at: Instant) {
        self.learned = Some(self.learned.map_or(at, |first| first.min(at)));
    }

    fn service(&mut self, Learned { at, change }: Learned<Service>) {
        self.learned(at);
        self.services.get_or_insert_default().take(change);
        self.want();
    }

    fn route(&mut self, Learned { at, change }: Learned<StreamRoute>) {
        self.learned(at);
        self.routes.get_or_insert_default().take(change);
        self.want();
    }

    /// Asks for the slices of all Services that are claimed or that routes lead to.
    fn want(&mut self) {
        let services = self.services.iter().flat_map(Store::iter);
        let claimed = services.filter(|(_, service)| is_claimed(service));
        let claimed = claimed.map(|((_, name), _)| name.clone());
        let routes = self.routes.iter().flat_map(Store::iter);
        let pools = routes.flat_map(|(_, route)| backends(route));
        let pools = pools.filter(|name| self.exists(name));
        let names = claimed.chain(pools.map(|(_, name)| name)).collect();
        self.slices.want(names);
    }

    fn exists(&self, service: &ObjectName) -> bool {
        let services = self.services.as_ref();
        services.is_some_and(|services| services.contains(service))
    }

    /// A route whose backends' slices are not known yet stays as it was: it would look as if it led nowhere.
    fn settle(&mut self) {
        let mut before = std::mem::take(&mut self.settled);
        let routes = self.routes.iter().flat_map(Store::iter);
        let settled = routes.filter_map(|(name, route)| {
            let known = |b: ObjectName| !self.exists(&b) || self.slices.cover(&b.1);
            let version = if backends(route).all(known) {
                route.clone()
            } else {
                before.remove(name)?
            };
            Some((name.clone(), version))
        });
        let settled = settled.collect();
        self.settled = settled;
    }

    fn slice(&mut self, which: Which, Learned { at, change }: Learned<EndpointSlice>) {
        self.learned(at);
        // A list is of one moment; only single events may be halfway.
        let listed = matches!(change, Change::Listed(_));
        if let Change::Deleted(_, slice) = &change {
            self.departed.left(slice, None, at);
        }
        for Taken { before, now } in self.slices.take(which, change) {
            if let Some(before) = before.as_ref().filter(|_| !listed) {
                self.departed.left(before, Some(&now), at);
            }
            let before = before.and_then(|slice| trigger_time(&slice));
            // Slices also change for reasons that no one stamped.
            self.triggered
                .extend(trigger_time(&now).filter(|&at| before != Some(at)));
        }
    }

    fn pod(&mut self, Learned { at, change }: Learned<Pod>) {
        self.learned(at);
        match change {
            Change::Applied(_, pod) => self.pods.applied(&pod, at.into_std()),
            Change::Deleted(_, pod) => self.pods.deleted(&pod),
            Change::Listed(pods) => {
                self.pods_listed = true;
                let pods = pods.into_iter().map(|(_, pod)| pod).collect::<Vec<_>>();
                self.pods.relisted(&pods, at.into_std());
            }
        }
    }

    /// When to derive anew though nothing was told.
    fn wake(&self) -> Option<Instant> {
        if self.last.is_none() {
            return self.without_pods;
        }
        let pods = self.pods.next_expiry().map(Instant::from_std);
        pods.into_iter().chain(self.departed.next_expiry()).min()
    }

    /// Whether enough is known for a first state.
    fn complete(&mut self) -> bool {
        if self.last.is_some() {
            return true;
        }
        if self.services.is_none() || self.routes.is_none() || self.slices.pending() {
            return false;
        }
        let now = Instant::now();
        let until = *self.without_pods.get_or_insert(now + PODS_GRACE);
        if !self.pods_listed && now < until {
            return false;
        }
        if !self.pods_listed {
            warn!(
                "this node's Pods are not known: going on without them; backends go down only once their slices say so"
            );
        }
        true
    }

    fn derive(&mut self) {
        if !self.complete() {
            return;
        }
        let now = Instant::now();
        self.pods.expire(now.into_std());
        let slices = self.slices.store().iter();
        let mut slices = slices.map(|(_, slice)| slice.clone()).collect::<Vec<_>>();
        self.departed.forget(&slices, now);
        slices.extend(self.departed.slices().cloned());
        self.pods.forget_unreferenced(&slices);
        self.settle();
        let routes = self.settled.values().cloned().collect::<Vec<_>>();
        // A Service whose slices are not known yet is not there yet: it would look as if it had no backends.
        let covered = self.services.iter().flat_map(Store::iter);
        let covered =
            covered.filter(|((_, name), service)| self.slices.cover(name) || !is_claimed(service));
        let services = covered
            .map(|(_, service)| service.clone())
            .collect::<Vec<_>>();
        let view = View {
            services: &services,
            routes: &routes,
            slices: &slices,
            pods: &self.pods,
        };
        let derived = translate(&view, &self.options);
        let learned = self.learned.take().unwrap_or(now);
        let triggered = std::mem::take(&mut self.triggered);
        let last = self.last.clone();
        if last.is_none() {
            info!(
                services = self.claimed(),
                routes = routes.len(),
                slices = slices.len(),
                "the cluster is known"
            );
        }
        if last
            .as_ref()
            .is_none_or(|last| last.desired != derived.desired)
        {
            self.update(&derived, learned, triggered);
        }
        if last.is_some_and(|last| *last == derived) {
            return;
        }
        let derived = Arc::new(derived);
        self.last = Some(derived.clone());
        self.derived.send_replace(derived);
    }

    fn claimed(&self) -> usize {
        let services = self.services.iter().flat_map(Store::iter);
        services.filter(|(_, service)| is_claimed(service)).count()
    }

    fn update(&mut self, derived: &Derived, learned: Instant, triggered: Vec<SystemTime>) {
        let waiting = self.update.take();
        let learned = learned.into_std();
        let mut all = waiting
            .as_ref()
            .map(|u| u.triggered.clone())
            .unwrap_or_default();
        all.extend(triggered);
        self.update = Some(Update {
            snapshot: Snapshot {
                uplinks: self.options.uplinks.clone(),
                desired: derived.desired.clone(),
                warnings: Vec::new(),
            },
            learned: waiting.map_or(learned, |update| update.learned.min(learned)),
            triggered: all,
        });
    }
}
