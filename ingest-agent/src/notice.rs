//! What the run loop has to tell the people of a cluster. Plain data: the run loop knows no Kubernetes.

use ingest_common::{abi::CutReason, srt::Rejection};

use crate::reconcile::Route;

/// Something that happened to a backend or a service here. Names are those of the desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Packets get into the pod by a lesser way than was wanted, or by none.
    Fallback {
        /// `namespace/name` of the pod.
        backend: String,
        /// The way in use.
        mode: &'static str,
        /// Why not a better one.
        reason: &'static str,
    },
    /// A session ended because its backend cannot go on; its caller was told to reconnect.
    Cut {
        /// `namespace/name[:port]` of the service.
        service: String,
        /// `namespace/name` of the pod.
        backend: String,
        /// Why.
        reason: CutReason,
    },
    /// A caller was told that it gets no session.
    Refused {
        /// `namespace/name[:port]` of the service.
        service: String,
        /// Name of the route that it was for, where there was one.
        route: Option<String>,
        /// What it was told.
        rejection: Rejection,
    },
    /// The last session of a draining backend has ended.
    Drained {
        /// `namespace/name` of the pod.
        backend: String,
    },
    /// Streams are not well, or well again.
    Streams {
        /// `namespace/name[:port]` of the service.
        service: String,
        /// `namespace/name` of the pod, where it is known.
        backend: Option<String>,
        /// What they have become.
        are: StreamsAre,
        /// Why: bits of [`ingest_common::abi::Reason`].
        reasons: u16,
        /// How many.
        count: u32,
        /// What the caller of one of them asked for, redacted.
        example: Option<String>,
    },
    /// The maps hold these routes, and no others.
    RoutesInForce {
        /// All.
        routes: Vec<Route>,
    },
    /// The maps cannot hold what is desired now; the last good state stays in force.
    PlanRefused {
        /// Why.
        why: String,
    },
}

/// What streams have become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamsAre {
    /// Over or under a threshold.
    InWarning,
    /// Without data.
    Stalled,
    /// Neither any more.
    Well,
}
