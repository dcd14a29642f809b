//! Where pods are on this node, asked of the kernel by rtnetlink.
//!
//! Owns finding and watching each pod's host-side interface (its pod port) by route, neighbour and bridge FDB, and
//! questions about interfaces. It decides no more than what is safe to start with; whether `redirect` works is
//! proven by probes elsewhere. Never reads `/sys/class/net`: that shows the mount's namespace, not ours.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use tokio::{sync::watch, task::JoinHandle};

use crate::reconcile::PodPort;

/// What can go wrong with netlink.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No socket.
    #[error("opening a netlink socket failed")]
    Socket(#[source] std::io::Error),
    /// The kernel refused a question.
    #[error("asking the kernel for {what} failed")]
    Query {
        /// What was asked.
        what: String,
        /// Why.
        source: Box<rtnetlink::Error>,
    },
}

/// Finds pod ports and follows them.
#[derive(Debug)]
pub struct PortWatcher {
    /// The pod port of each wanted address; a missing one is not looked up yet (milliseconds).
    pub ports: watch::Receiver<HashMap<IpAddr, PodPort>>,
    /// Ends when `addresses` is dropped, or with an error.
    pub task: JoinHandle<Result<(), Error>>,
}

impl PortWatcher {
    /// Starts to look up `addresses` and to follow links, routes and neighbours in the calling thread's network
    /// namespace. `uplinks` are never pod ports, whatever they are; `partial_checksums` goes into every [`PodPort`]:
    /// whether one of them is a veth.
    pub fn spawn(
        addresses: watch::Receiver<BTreeSet<IpAddr>>,
        uplinks: Vec<u32>,
        partial_checksums: bool,
    ) -> Result<Self, Error> {
        unimplemented!("{addresses:?} {uplinks:?} {partial_checksums}")
    }
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Name.
    pub name: String,
    /// Index.
    pub ifindex: u32,
    /// `veth`, `bridge`, `netkit`, …; empty for physical ones.
    pub kind: String,
    /// MAC, where it has one.
    pub mac: Option<[u8; 6]>,
    /// MTU.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// The XDP program on it.
    pub xdp: Option<Xdp>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// The kernel's id of the program.
    pub program: u32,
    /// In generic mode rather than in the driver.
    pub generic: bool,
}

impl LinkInfo {
    /// Whether it is one end of a veth pair.
    pub fn is_veth(&self) -> bool {
        self.kind == "veth"
    }
}

/// The interface of this name in the calling thread's network namespace; `None` where there is none.
pub async fn link_by_name(name: &str) -> Result<Option<LinkInfo>, Error> {
    unimplemented!("{name}")
}
