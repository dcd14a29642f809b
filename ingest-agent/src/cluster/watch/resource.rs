//! One kind of object, followed whatever the API server does.
//!
//! List, then watch from there, then watch again. Everything that fails is logged, counted and tried again; what was
//! told before stays true meanwhile. kube's own `watcher` is not used: it hides bookmarks, does not slow down when
//! watches end at once, goes on after an event that it could not read, and takes an empty list at its word.

use std::{collections::BTreeMap, fmt::Debug, pin::pin, sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::{
    Api, Resource,
    api::{ListParams, WatchEvent, WatchParams},
    core::ObjectMeta,
};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

use super::{backoff::Backoff, failure::Failure};
use crate::{
    cluster::{connect::WATCH_TIMEOUT, translate::ObjectName},
    metrics::ClusterMetrics,
};

/// Objects a page. An API server refuses nothing for being large, but it is slow.
const PAGE: u32 = 500;
/// A list of a hundred pages from a busy server takes less.
const LIST_TIMEOUT: Duration = Duration::from_mins(2);
/// A page. Servers give up after 60 s, but then there is no use in it.
const PAGE_TIMEOUT: Duration = Duration::from_secs(40);
/// The server ends watches itself; this much later the connection is dead.
const WATCH_MARGIN: Duration = Duration::from_secs(5);
/// A watch that ends sooner was not ended by its time, and would end again at once.
const SHORT: Duration = Duration::from_secs(1);
/// How long an empty list is not believed.
pub(super) const DOUBT: Duration = Duration::from_secs(10);

/// How often a kind that the cluster does not know is asked for.
const MISSING: Duration = Duration::from_secs(30);

/// What is followed.
#[derive(Debug)]
pub(super) struct Followed<K> {
    /// For logs and metrics.
    pub(super) name: &'static str,
    pub(super) api: Api<K>,
    pub(super) labels: Option<String>,
    pub(super) fields: Option<String>,
    /// Whether an object is ours; if so, leaves out what nobody reads.
    pub(super) keep: fn(&mut K) -> bool,
    /// Whether an object is one of those that do not vanish all at once; such are counted.
    pub(super) counts: fn(&K) -> bool,
    /// What was told of, and whether it counts.
    pub(super) known: BTreeMap<ObjectName, bool>,
    /// Some that count are known to have been there, by an earlier agent.
    pub(super) expected: bool,
    /// The cluster may lack the kind itself.
    pub(super) optional: bool,
}

/// What was learned, and when.
#[derive(Debug)]
pub(super) struct Learned<K> {
    pub(super) at: Instant,
    pub(super) change: Change<K>,
}

#[derive(Debug)]
pub(super) enum Change<K> {
    Applied(ObjectName, Arc<K>),
    Deleted(ObjectName, Arc<K>),
    /// All there is.
    Listed(Vec<(ObjectName, Arc<K>)>),
}

/// The receiver is gone.
struct Closed;

impl<K> Followed<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Follows until nobody receives.
    pub(super) async fn run(mut self, to: mpsc::Sender<Learned<K>>, metrics: ClusterMetrics) {
        let mut backoff = Backoff::default();
        // The version to watch from. None: list first.
        let mut version: Option<String> = None;
        let mut emptied = false;
        let (mut failing, mut missing) = (false, false);
        loop {
            let watching = version.is_some();
            let result = match &mut version {
                None => match self.list().await {
                    Ok((objects, _)) if !emptied && self.is_doubtful(&objects) => {
                        warn!(
                            resource = self.name,
                            had = self.counted(),
                            "the API server has none any more, all at once; asking again in {} s",
                            DOUBT.as_secs()
                        );
                        metrics.watch_error(self.name, "emptied");
                        emptied = true;
                        time::sleep(DOUBT).await;
                        continue;
                    }
                    Ok((objects, listed)) => {
                        (emptied, self.expected) = (false, false);
                        debug!(resource = self.name, objects = objects.len(), "listed");
                        let known = objects.iter();
                        self.known = known
                            .map(|(name, object)| (name.clone(), (self.counts)(object)))
                            .collect();
                        let told = self.tell(&to, &metrics, Change::Listed(objects)).await;
                        version = listed;
                        if version.is_none() && told.is_ok() {
                            if !std::mem::replace(&mut missing, true) {
                                info!(
                                    resource = self.name,
                                    "the cluster does not know them: going on without; asking again every {} s",
                                    MISSING.as_secs()
                                );
                            }
                            tokio::select! {
                                () = time::sleep(MISSING) => continue,
                                () = to.closed() => return,
                            }
                        }
                        if std::mem::take(&mut missing) {
                            info!(resource = self.name, "the cluster knows them now");
                        }
                        told.map(Ok)
                    }
                    Err(failure) => Ok(Err(failure)),
                },
                Some(version) => self.watch(version, &to, &metrics).await,
            };
            match result {
                Err(Closed) => return,
                // A list says little: what it is followed by may fail again and again.
                Ok(Ok(())) if !watching => {}
                Ok(Ok(())) => {
                    if std::mem::take(&mut failing) {
                        info!(resource = self.name, "following again");
                    }
                    backoff.reset();
                }
                Ok(Err(failure)) => {
                    metrics.watch_error(self.name, failure.kind());
                    let wait = backoff.next(failure.kind() == "throttled");
                    self.log(&failure, std::mem::replace(&mut failing, true));
                    if failure.needs_list() {
                        version = None;
                    }
                    tokio::select! {
                        () = time::sleep(wait) => {}
                        () = to.closed() => return,
                    }
                }
            }
        }
    }

    fn log(&self, failure: &Failure, again: bool) {
        let (resource, kind) = (self.name, failure.kind());
        let error = failure as &dyn std::error::Error;
        if again {
            debug!(resource, kind, error, "failed again");
        } else {
            warn!(
                resource,
                kind, error, "cannot follow; the last state stays in force"
            );
        }
    }

    /// Whether a list without any that count is to be asked for again.
    fn is_doubtful(&self, objects: &[(ObjectName, Arc<K>)]) -> bool {
        let had_some = self.expected || self.counted() > 0;
        had_some && !objects.iter().any(|(_, object)| (self.counts)(object))
    }

    fn counted(&self) -> usize {
        self.known.values().filter(|counts| **counts).count()
    }

    /// All objects that are ours, as of one version; none where the cluster does not know the kind.
    async fn list(&self) -> Result<(Vec<(ObjectName, Arc<K>)>, Option<String>), Failure> {
        let endless = |_| Failure::ListEndless {
            seconds: LIST_TIMEOUT.as_secs(),
        };
        let listed = time::timeout(LIST_TIMEOUT, self.pages())
            .await
            .map_err(endless)?;
        match listed {
            Err(failure) if self.optional && failure.kind() == "missing" => Ok((Vec::new(), None)),
            Err(failure) => Err(failure),
            Ok((objects, version)) => Ok((objects, Some(version))),
        }
    }

    async fn pages(&self) -> Result<(Vec<(ObjectName, Arc<K>)>, String), Failure> {
        // No resource version: the answer must not be older than what was told before, or dead backends come back.
        let mut params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            ..Default::default()
        };
        let mut objects = Vec::new();
        loop {
            let page = time::timeout(PAGE_TIMEOUT, self.api.list(&params))
                .await
                .map_err(|_| Failure::ListEndless {
                    seconds: PAGE_TIMEOUT.as_secs(),
                })?
                .map_err(Failure::List)?;
            for mut object in page.items {
                let name = name(object.meta()).ok_or(Failure::ObjectUnnamed)?;
                if (self.keep)(&mut object) {
                    objects.push((name, Arc::new(object)));
                }
            }
            let more = page.metadata.continue_.filter(|token| !token.is_empty());
            if more.is_none() {
                let version = page.metadata.resource_version.filter(|v| !v.is_empty());
                return Ok((objects, version.ok_or(Failure::ListUnversioned)?));
            }
            params.continue_token = more;
        }
    }

    /// Watches from `version` on, which follows what is told. Ends well when the server ends it.
    async fn watch(
        &mut self,
        version: &mut String,
        to: &mpsc::Sender<Learned<K>>,
        metrics: &ClusterMetrics,
    ) -> Result<Result<(), Failure>, Closed> {
        let began = Instant::now();
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_TIMEOUT.as_secs() as u32),
            ..Default::default()
        };
        let limit = WATCH_TIMEOUT + WATCH_MARGIN;
        let silent = Failure::WatchSilent {
            seconds: limit.as_secs(),
        };
        let mut stream = match time::timeout(limit, self.api.watch(&params, version)).await {
            Err(_) => return Ok(Err(silent)),
            Ok(Err(error)) => return Ok(Err(Failure::Watch(error))),
            Ok(Ok(stream)) => pin!(stream),
        };
        loop {
            let event = tokio::select! {
                event = time::timeout(limit, stream.try_next()) => event,
                () = to.closed() => return Err(Closed),
            };
            let event = match event {
                Err(_) => return Ok(Err(silent)),
                Ok(Err(error)) => return Ok(Err(Failure::Watch(error))),
                Ok(Ok(None)) if began.elapsed() < SHORT => return Ok(Err(Failure::WatchCut)),
                Ok(Ok(None)) => return Ok(Ok(())),
                Ok(Ok(Some(event))) => event,
            };
            let (object, deleted) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(bookmark) => {
                    version.clone_from(&bookmark.metadata.resource_version);
                    metrics.heard();
                    continue;
                }
                WatchEvent::Error(status) => {
                    return Ok(Err(Failure::WatchRefused {
                        code: status.code,
                        message: status.message,
                    }));
                }
            };
            let named = name(object.meta());
            let next = object
                .meta()
                .resource_version
                .clone()
                .filter(|v| !v.is_empty());
            let (Some(name), Some(next)) = (named, next) else {
                return Ok(Err(Failure::ObjectUnnamed));
            };
            metrics.heard();
            if let Some(change) = self.change(name, object, deleted) {
                self.tell(to, metrics, change).await?;
            }
            *version = next;
        }
    }

    /// What an event means to those who have been told of `known`.
    fn change(&mut self, name: ObjectName, mut object: K, deleted: bool) -> Option<Change<K>> {
        if !deleted && (self.keep)(&mut object) {
            self.known.insert(name.clone(), (self.counts)(&object));
            return Some(Change::Applied(name, Arc::new(object)));
        }
        // Gone, or no longer ours.
        let known = self.known.remove(&name);
        known.map(|_| Change::Deleted(name, Arc::new(object)))
    }

    async fn tell(
        &self,
        to: &mpsc::Sender<Learned<K>>,
        metrics: &ClusterMetrics,
        change: Change<K>,
    ) -> Result<(), Closed> {
        metrics.objects(self.name, self.counted());
        let learned = Learned {
            at: Instant::now(),
            change,
        };
        to.send(learned).await.map_err(|_| Closed)
    }
}

fn name(meta: &ObjectMeta) -> Option<ObjectName> {
    Some((meta.namespace.clone()?, meta.name.clone()?))
}
