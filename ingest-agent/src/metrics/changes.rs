//! What is counted of streams and backends as it happens: what has come back, and when streams were looked at.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ingest_common::abi::CutReason;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// From a cut to the acceptance by another pod: libsrt tries again after a quarter of a second at best.
const FAILOVER_SECONDS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0];

/// Shared: the viewer and the run loop write, scrapes read.
#[derive(Debug)]
pub struct Changes {
    reconnects: Family<ServiceLabel, Counter>,
    failovers: Family<FailoverLabels, Counter>,
    failover_seconds: Histogram,
    restarts: Family<BackendLabel, Counter>,
    viewed: Gauge<f64, AtomicU64>,
    /// Who has series.
    services: Mutex<BTreeSet<String>>,
    backends: Mutex<BTreeSet<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabel {
    service: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailoverLabels {
    service: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    backend: String,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            reconnects: Family::default(),
            failovers: Family::default(),
            failover_seconds: Histogram::new(FAILOVER_SECONDS),
            restarts: Family::default(),
            viewed: Gauge::default(),
            services: Mutex::default(),
            backends: Mutex::default(),
        }
    }
}

impl Changes {
    /// Puts all families into `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "reconnects",
            "Callers that came back of themselves: new sessions of a Stream ID within ten minutes of its last one",
            self.reconnects.clone(),
        );
        registry.register(
            "failovers",
            "Callers that came back after their session was cut, by why it was",
            self.failovers.clone(),
        );
        registry.register(
            "failover_duration_seconds",
            "Time from the cut of a session to the acceptance of its caller's next one",
            self.failover_seconds.clone(),
        );
        registry.register(
            "backend_restarts",
            "How often the process behind a backend's name and port was found to be another: its pod or its container was restarted",
            self.restarts.clone(),
        );
        registry.register(
            "view_timestamp_seconds",
            "When the streams were looked at last, which is done every second; 0: not yet",
            self.viewed.clone(),
        );
    }

    /// The streams were looked at.
    pub fn viewed(&self) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.viewed.set(now.as_secs_f64());
    }

    /// These are the services: each has series from the start, so that a rate over a first failover is not missing, and
    /// none once it is gone.
    pub fn set_services<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let failover = |service: &str, reason| FailoverLabels {
            service: service.to_owned(),
            reason,
        };
        let reasons = || CutReason::ALL.map(CutReason::as_str);
        replace(
            &self.services,
            names,
            |new| {
                let service = new.to_owned();
                self.reconnects
                    .get_or_create(&ServiceLabel { service })
                    .inc_by(0);
                for reason in reasons() {
                    self.failovers
                        .get_or_create(&failover(new, reason))
                        .inc_by(0);
                }
            },
            |gone| {
                let service = gone.to_owned();
                self.reconnects.remove(&ServiceLabel { service });
                for reason in reasons() {
                    self.failovers.remove(&failover(gone, reason));
                }
                self.failovers.remove(&failover(gone, UNKNOWN));
            },
        );
    }

    /// These are the backends, as for services.
    pub fn set_backends<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let label = |backend: &str| BackendLabel {
            backend: backend.to_owned(),
        };
        replace(
            &self.backends,
            names,
            |new| {
                self.restarts.get_or_create(&label(new)).inc_by(0);
            },
            |gone| {
                self.restarts.remove(&label(gone));
            },
        );
    }

    /// A caller came back of itself.
    pub fn reconnected(&self, service: &str) {
        let service = service.to_owned();
        self.reconnects
            .get_or_create(&ServiceLabel { service })
            .inc();
    }

    /// A caller came back after its session was cut.
    pub fn failed_over(&self, service: &str, reason: Option<CutReason>, took: Duration) {
        let labels = FailoverLabels {
            service: service.to_owned(),
            reason: reason.map_or(UNKNOWN, CutReason::as_str),
        };
        self.failovers.get_or_create(&labels).inc();
        self.failover_seconds.observe(took.as_secs_f64());
    }

    /// A backend's process is another.
    pub fn restarted(&self, backend: &str) {
        let backend = backend.to_owned();
        self.restarts.get_or_create(&BackendLabel { backend }).inc();
    }
}

/// The reason of a cut that an older program gave no reason for.
const UNKNOWN: &str = "unknown";

/// Makes `held` what `names` says, and tells what came and what went.
fn replace<'a>(
    held: &Mutex<BTreeSet<String>>,
    names: impl Iterator<Item = &'a str>,
    added: impl Fn(&str),
    removed: impl Fn(&str),
) {
    let names: BTreeSet<&str> = names.collect();
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    if held.len() == names.len() && held.iter().all(|name| names.contains(name.as_str())) {
        return;
    }
    held.retain(|name| {
        let stays = names.contains(name.as_str());
        if !stays {
            removed(name);
        }
        stays
    });
    for name in names {
        if held.insert(name.to_owned()) {
            added(name);
        }
    }
}
