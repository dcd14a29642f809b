//! Where the desired state comes from. A source reads, checks and watches; it knows neither maps nor netlink.
//!
//! Every source gives the same [`Snapshot`], whole at each change, and never a part of one. [`mod@file`] is here,
//! Kubernetes is [`crate::cluster`].

pub mod file;
pub(crate) mod thresholds;

use std::{
    net::IpAddr,
    time::{Instant, SystemTime},
};

use crate::reconcile::Desired;

/// The whole desired state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Names of the interfaces that clients' packets come in by. Fixed while the agent runs.
    pub uplinks: Vec<String>,
    /// What the maps should say.
    pub desired: Desired,
    /// What is allowed but probably not meant, one sentence each.
    pub warnings: Vec<String>,
}

/// A new desired state, on its way to the maps.
#[derive(Clone, Debug)]
pub struct Update {
    /// The state.
    pub snapshot: Snapshot,
    /// When the source learned of the change: from here on the time is the agent's own.
    pub learned: Instant,
    /// When the changes happened, as their authors stamped them (`endpoints.kubernetes.io/last-change-trigger-time`).
    pub triggered: Vec<SystemTime>,
}

impl Update {
    /// Of a change learned of now.
    pub fn now(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            learned: Instant::now(),
            triggered: Vec::new(),
        }
    }
}

/// A change of the source: the new state, or why it is refused. Kubernetes' is never refused whole.
pub type Change = Result<Update, file::Error>;

/// The kind of address that no host of a network has, and nothing can be steered to; `None` for a usable one.
pub(crate) fn not_unicast(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(a) if a.is_broadcast() => Some("the broadcast"),
        IpAddr::V6(a) if a.to_ipv4_mapped().is_some() => Some("an IPv4-mapped"),
        a if a.is_unspecified() => Some("the unspecified"),
        a if a.is_multicast() => Some("a multicast"),
        a if a.is_loopback() => Some("a loopback"),
        _ => None,
    }
}
