//! Where pods are on this node, asked of the kernel by rtnetlink.
//!
//! Owns finding and watching each pod's host-side interface (its pod port) by route, neighbour and bridge FDB, and
//! questions about interfaces. It decides no more than what is safe to start with; whether `redirect` works is
//! proven by probes elsewhere. Never reads `/sys/class/net`: that shows the mount's namespace, not ours.
//! * `decide`: from routes, neighbours and FDB to a pod port; pure.
//! * `netlink`: the questions.
//! * `pod_end`: the pod's end of a pod port.
//! * `watch`: asking again when something changed.

mod decide;
mod netlink;
mod pod_end;
mod watch;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::IpAddr,
    path::PathBuf,
};

use tokio::{sync::watch as channel, task::JoinHandle};

use self::netlink::Netlink;
pub use self::pod_end::{PodEnd, pod_end};
use crate::reconcile::PodPort;

/// What can go wrong with netlink.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No socket.
    #[error("opening a netlink socket failed")]
    Socket(#[source] io::Error),
    /// The kernel refused a question.
    #[error("asking the kernel for {what} failed")]
    Query {
        /// What was asked.
        what: String,
        /// Why.
        source: Box<rtnetlink::Error>,
    },
    /// No way into the pod behind a pod port.
    #[error(
        "no network namespace in {} has the far end of interface {ifindex}; \
         name the directory where the container runtime binds them: --netns-dir",
        netns_dir.display()
    )]
    NoPodEnd {
        /// The pod port.
        ifindex: u32,
        /// Where it was looked for.
        netns_dir: PathBuf,
    },
    /// Namespaces cannot be listed.
    #[error(
        "{} cannot be read; name the directory where the container runtime binds network namespaces: --netns-dir",
        netns_dir.display()
    )]
    NetnsDir {
        /// The directory.
        netns_dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket that tells of changes is gone.
    #[error("the kernel's netlink socket closed: pod ports are not followed any more")]
    Closed,
}

/// Finds pod ports and follows them.
#[derive(Debug)]
pub struct PortWatcher {
    /// The pod port of each wanted address; a missing one is not looked up yet (milliseconds).
    pub ports: channel::Receiver<HashMap<IpAddr, PodPort>>,
    /// Ends when the sender of `addresses` is dropped, or with an error.
    pub task: JoinHandle<Result<(), Error>>,
}

impl PortWatcher {
    /// Starts to look up `addresses` and to follow links, routes and neighbours in the calling thread's network
    /// namespace; needs a tokio runtime. `uplinks` are never pod ports, whatever they are; `partial_checksums` goes
    /// into every [`PodPort`]: whether one of them is a veth.
    pub fn spawn(
        addresses: channel::Receiver<BTreeSet<IpAddr>>,
        uplinks: Vec<u32>,
        partial_checksums: bool,
    ) -> Result<Self, Error> {
        let (publish, ports) = channel::channel(HashMap::new());
        let surroundings = decide::Surroundings {
            uplinks,
            partial_checksums,
        };
        let watcher = watch::Watcher::new(addresses, publish, surroundings)?;
        Ok(Self {
            ports,
            task: tokio::spawn(watcher.run()),
        })
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
    /// Index of the bridge, bond or VRF that it is a port of.
    pub controller: Option<u32>,
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

/// The interfaces of this network namespace's default routes, IPv4 and IPv6, by name.
pub async fn default_interfaces() -> Result<Vec<String>, Error> {
    let netlink = Netlink::connect()?;
    let indexes = netlink.default_routes().await?;
    let links = netlink.links().await?;
    let named = links.into_iter().filter(|l| indexes.contains(&l.ifindex));
    Ok(named.map(|link| link.name).collect())
}

/// The interface of this name in the calling thread's network namespace; `None` where there is none.
pub async fn link_by_name(name: &str) -> Result<Option<LinkInfo>, Error> {
    Netlink::connect()?.link_by_name(name).await
}
