//! What the Kubernetes source counts. Labels are kinds, never names of objects.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Shared: the tasks of the source write, scrapes read.
#[derive(Clone, Debug, Default)]
pub struct ClusterMetrics {
    watch_errors: Family<WatchError, Counter>,
    heard: Gauge<f64, std::sync::atomic::AtomicU64>,
    objects: Family<Resource, Gauge>,
    conditions: Family<Condition, Gauge>,
    events: Family<Outcome, Counter>,
    status_writes: Family<Outcome, Counter>,
    route_status_writes: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchError {
    resource: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resource {
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Condition {
    condition: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

impl ClusterMetrics {
    /// Puts all families into `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        // All series from the start, so that a rate over a first failure is not missing.
        for result in ["created", "known", "failed", "dropped"] {
            self.events.get_or_create(&Outcome { result }).inc_by(0);
        }
        for result in ["written", "failed"] {
            self.status_writes
                .get_or_create(&Outcome { result })
                .inc_by(0);
        }
        for result in ["written", "outrun", "failed"] {
            self.route_status_writes
                .get_or_create(&Outcome { result })
                .inc_by(0);
        }
        registry.register(
            "watch_errors",
            "Failed lists and watches of the API server",
            self.watch_errors.clone(),
        );
        registry.register(
            "apiserver_last_heard_timestamp_seconds",
            "When the API server last gave a good answer; 0: never",
            self.heard.clone(),
        );
        registry.register(
            "cluster_objects",
            "Objects that the source holds copies of",
            self.objects.clone(),
        );
        registry.register(
            "service_conditions",
            "Conditions of steered Services that their owners should know",
            self.conditions.clone(),
        );
        registry.register(
            "kube_events",
            "Events about Services and Pods, by what became of them",
            self.events.clone(),
        );
        registry.register(
            "service_status_writes",
            "Writes to the status of Services of our class",
            self.status_writes.clone(),
        );
        registry.register(
            "route_status_writes",
            "Writes to the status of StreamRoutes",
            self.route_status_writes.clone(),
        );
    }

    /// A list or watch of `resource` failed.
    pub(crate) fn watch_error(&self, resource: &'static str, kind: &'static str) {
        self.watch_errors
            .get_or_create(&WatchError { resource, kind })
            .inc();
    }

    #[cfg(test)]
    pub(crate) fn watch_errors_of(&self, resource: &'static str, kind: &'static str) -> u64 {
        self.watch_errors
            .get_or_create(&WatchError { resource, kind })
            .get()
    }

    /// The API server gave a good answer.
    pub(crate) fn heard(&self) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.heard.set(now.as_secs_f64());
    }

    /// So many copies are held.
    pub(crate) fn objects(&self, resource: &'static str, count: usize) {
        self.objects
            .get_or_create(&Resource { resource })
            .set(count.try_into().unwrap_or(i64::MAX));
    }

    #[cfg(test)]
    pub(crate) fn objects_of(&self, resource: &'static str) -> i64 {
        self.objects.get_or_create(&Resource { resource }).get()
    }

    /// So many Services are in a condition.
    pub(crate) fn conditions(&self, condition: &'static str, count: usize) {
        self.conditions
            .get_or_create(&Condition { condition })
            .set(count.try_into().unwrap_or(i64::MAX));
    }

    /// What became of an Event: `created`, `known` (another agent was first), `failed`, `dropped`.
    pub(crate) fn event(&self, result: &'static str) {
        self.events.get_or_create(&Outcome { result }).inc();
    }

    #[cfg(test)]
    pub(crate) fn events_of(&self, result: &'static str) -> u64 {
        self.events.get_or_create(&Outcome { result }).get()
    }

    /// A status was `written`, or that `failed`.
    pub(crate) fn status_write(&self, result: &'static str) {
        self.status_writes.get_or_create(&Outcome { result }).inc();
    }

    /// A StreamRoute's status was `written`, another agent was first (`outrun`), or that `failed`.
    pub(crate) fn route_status_write(&self, result: &'static str) {
        self.route_status_writes
            .get_or_create(&Outcome { result })
            .inc();
    }
}
