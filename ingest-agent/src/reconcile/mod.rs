//! What should be, what is, and the difference. Pure: no aya, no clock, no I/O.
//!
//! [`Desired`] comes from a source, [`PodPort`]s from netlink, [`Observed`] from the maps. [`plan`] turns them into
//! an ordered list of [`Op`]s, which `dataplane` writes one by one, and [`Observed::apply`] follows. Ids stay stable:
//! a service keeps its id, a backend its slot, across agents.

mod observed;
mod plan;

use std::net::IpAddr;

use ingest_common::abi;
use ipnet::IpNet;

pub use observed::Observed;
pub(crate) use observed::vip;
pub use plan::{PlanError, PlanOptions, from_abi, plan, repoint, to_abi};

/// What the cluster, or the file, wants. Plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// By name, unique.
    pub services: Vec<Service>,
}

/// A named service: one VIP:port:protocol per VIP, sharing backends of the VIP's address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `namespace/name`, with `:port` where a Service has several.
    pub name: String,
    /// At least one.
    pub vips: Vec<IpAddr>,
    /// The VIPs' port.
    pub port: u16,
    /// What the service carries.
    pub protocol: Protocol,
    /// Empty: everyone.
    pub source_ranges: Vec<IpNet>,
    /// All sessions of a client address go to one backend.
    pub affinity: bool,
    /// Other nodes have ready backends: what no backend here takes is left to the host.
    pub elsewhere: bool,
    /// Serving and draining ones; what does neither is not listed.
    pub backends: Vec<Backend>,
}

/// What a service carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// SRT over UDP.
    Srt,
    /// Any UDP.
    Udp,
}

/// A pod endpoint. One address:port may serve several services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `namespace/name` of the pod.
    pub name: String,
    /// The pod's address.
    pub address: IpAddr,
    /// The pod's port.
    pub port: u16,
    /// Serving, or draining: established sessions only.
    pub draining: bool,
    /// Whose process it is, as far as the source knows: another one has none of the old one's sessions.
    pub tenant: abi::Tenant,
}

/// How a pod is reached from this node; learned by netlink and by probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// The mode in use.
    pub mode: abi::DeliveryMode,
    /// Interface index of the host-side interface; 0 with `Stack` and `None`.
    pub ifindex: u32,
    /// The pod's MAC, zeros where unknown.
    pub pod_mac: [u8; 6],
    /// The pod port's MAC.
    pub port_mac: [u8; 6],
    /// Frames with partial checksums may come (the uplink is a veth).
    pub partial_checksums: bool,
}

/// One write to the dataplane. In a plan's order every packet in between finds a consistent state: backends exist
/// before tables name them, tables before services use them; and the other way round on removal.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Write `BACKENDS[slot]`, its name and endpoint and its `POD_PORTS` entry. `fresh`: the slot has a new tenant,
    /// so `HEALTH` and `BACKEND_STATS` are cleared first.
    SetBackend {
        /// The slot.
        slot: u16,
        /// The whole entry.
        backend: abi::Backend,
        /// The pod's name.
        name: String,
        /// Whose process it is.
        tenant: abi::Tenant,
        /// A new tenant.
        fresh: bool,
    },
    /// Free the slot: state `Free`, incarnation kept; endpoint and pod port removed.
    FreeBackend {
        /// The slot.
        slot: u16,
    },
    /// Swap in a new Maglev table, built from `slots` (sorted; name → order is the planner's business).
    SetTable {
        /// The pool.
        pool: u16,
        /// The slots it was built from; empty: every position is [`ingest_common::maglev::EMPTY`].
        slots: Vec<u16>,
        /// The table.
        table: Box<abi::MaglevTable>,
    },
    /// Remove a pool's table.
    RemoveTable {
        /// The pool.
        pool: u16,
    },
    /// Write `VIPS[id]`, the name, then `SERVICES[key]`. `fresh`: the id is newly used, its statistics are cleared.
    /// One that is wanted no more is first set to [`abi::SERVICE_CLOSING`].
    SetService {
        /// The key.
        key: abi::ServiceKey,
        /// The value.
        service: abi::Service,
        /// The name.
        name: String,
        /// A new id.
        fresh: bool,
    },
    /// Mark an address as a VIP.
    MarkVip {
        /// The mark's key.
        key: abi::ServiceKey,
    },
    /// Remove a service that is closed and without sessions, or a mark.
    RemoveService {
        /// The key.
        key: abi::ServiceKey,
    },
    /// Allow a source range.
    AddSource {
        /// Service id.
        service: u16,
        /// The range.
        range: IpNet,
    },
    /// Remove a source range.
    RemoveSource {
        /// Service id.
        service: u16,
        /// The range.
        range: IpNet,
    },
}
