//! An agent that has counted one of everything, for the list of all metrics and for tests.

use std::time::{Duration, SystemTime};

use ingest_common::abi::{CutReason, EventKind};

use super::{AgentMetrics, Flows};

/// What lists and watches fail of.
const FAILURES: [&str; 12] = [
    "connection",
    "decode",
    "emptied",
    "forbidden",
    "gone",
    "invalid",
    "missing",
    "other",
    "server",
    "throttled",
    "timeout",
    "unauthorized",
];
/// What the source follows.
const RESOURCES: [&str; 4] = ["endpointslices", "pods", "services", "streamroutes"];

impl AgentMetrics {
    pub(super) fn sample() -> Self {
        let agent = Self::default();
        agent.config_read(true);
        for kind in (0..=u8::MAX).filter_map(EventKind::from_u8) {
            agent.event(Some(kind));
        }
        agent.event(None);
        agent.applied(Duration::from_millis(2));
        agent.programmed(&[SystemTime::now()]);
        agent.set_flows(Flows {
            by_service: [(3, 7)].into(),
            entries: 8,
        });
        let changes = agent.changes();
        changes.viewed();
        changes.set_services(["live/srt"].into_iter());
        changes.set_backends(["live/pod-a"].into_iter());
        changes.restarted("live/pod-a");
        changes.reconnected("live/srt");
        changes.failed_over(
            "live/srt",
            Some(CutReason::Unreachable),
            Duration::from_millis(700),
        );
        let cluster = agent.cluster();
        cluster.heard();
        for kind in FAILURES {
            cluster.watch_error("services", kind);
        }
        for resource in RESOURCES {
            cluster.objects(resource, 1);
        }
        cluster.conditions("NoReadyBackend", 1);
        agent
    }
}
