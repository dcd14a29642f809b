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
