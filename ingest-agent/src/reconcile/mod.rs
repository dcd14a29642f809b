//! What should be, what is, and the difference. Pure: no aya, no clock, no I/O.
//!
//! [`Desired`] comes from a source, [`PodPort`]s from netlink, [`Observed`] from the maps. [`plan`] turns them into
//! an ordered list of [`Op`]s, which `dataplane` writes one by one, and [`Observed::apply`] follows. Ids stay stable:
//! a service keeps its id, a backend its slot, across agents.

mod matches;
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
    /// By name, unique. Of two that match the same, the first has it.
    pub routes: Vec<Route>,
}

/// A named service: one VIP:port:protocol per VIP, sharing backends of the VIP's address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `namespace/name`, with `:port` where a Service has several.
    pub name: String,
    /// None: it is only a pool, for routes.
    pub vips: Vec<IpAddr>,
    /// The VIPs' port; 0 where there are none.
    pub port: u16,
    /// What the service carries.
    pub protocol: Protocol,
    /// Who answers callers' handshakes; of SRT services only.
    pub handshake: Handshake,
    /// What no route matches is rejected instead of going to the service's own backends.
    pub routed_only: bool,
    /// Backends without a limit of their own get one: a quarter above the mean.
    pub balance: bool,
    /// Empty: everyone.
    pub source_ranges: Vec<IpNet>,
    /// All sessions of a client address go to one backend.
    pub affinity: bool,
    /// Other nodes have ready backends: what no backend here takes is left to the host.
    pub elsewhere: bool,
    /// From when on one of its streams is not well; 0: as by default.
    pub thresholds: abi::Thresholds,
    /// Serving and draining ones; what does neither is not listed.
    pub backends: Vec<Backend>,
}

/// Who answers callers' handshakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handshake {
    /// The kernel does, learns the Stream ID, and splices the session with a pod.
    #[default]
    Stream,
    /// The pod that the client's address and port lead to.
    Client,
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
    /// Share of new sessions, relative to the pool's others: 1 to 100, usually 1.
    pub weight: u16,
    /// Most sessions; `None`: no limit.
    pub limit: Option<u32>,
    /// Whose process it is, as far as the source knows: another one has none of the old one's sessions.
    pub tenant: abi::Tenant,
}

/// Which streams of a service go where, and what they may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `namespace/name`, with `/rule` where a route has several.
    pub name: String,
    /// Name of the [`Service`] whose callers it is for.
    pub service: String,
    /// Any of these.
    pub matches: Vec<Match>,
    /// Where they go.
    pub target: Target,
    /// What all of them together may use, on this node.
    pub quota: Quota,
    /// From when on one of its streams is not well; 0: as the service says.
    pub thresholds: abi::Thresholds,
}

/// What a route looks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// Where.
    pub what: What,
    /// Only this `m=`; `None`: any, or none.
    pub mode: Option<Mode>,
}

/// Where a [`Match`] looks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// The whole Stream ID.
    StreamId(Text),
    /// `r=`
    Resource(Text),
    /// `u=`
    User(Text),
    /// `h=`
    Host(Text),
    /// Nowhere: the mode alone.
    Mode,
    /// The caller's address, where no other match of the service fits.
    Source(IpNet),
}

/// A text to look for. At most [`abi::ROUTE_TEXT`] bytes, less one where it is exact, and none of them zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Text {
    /// This.
    Exact(String),
    /// What begins so; empty: any.
    Prefix(String),
}

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// `m=publish`
    Publish,
    /// `m=request`
    Request,
}

/// Where a route's callers go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the backends of the [`Service`] of this name.
    Pool(String),
    /// Nowhere: they are told that it is forbidden.
    Reject,
}

/// Bounds of a route, none of them 0. `None`: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Sessions at once.
    pub streams: Option<u32>,
    /// New sessions a second.
    pub sessions_per_second: Option<u32>,
    /// Bits a second of UDP payload, each stream.
    pub stream_bitrate: Option<u64>,
    /// Bits a second of UDP payload, all streams.
    pub bitrate: Option<u64>,
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
        /// Whose pool it is.
        name: PoolName,
        /// The slots it was built from, each as often as it weighs; empty: every position is
        /// [`ingest_common::maglev::EMPTY`].
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
    /// Write `QUOTAS[route]` and its name. `fresh`: the index is newly used, its state and statistics are cleared.
    SetQuota {
        /// The route's index.
        route: u16,
        /// What its streams may use.
        quota: abi::Quota,
        /// The route's name.
        name: String,
        /// A new index.
        fresh: bool,
    },
    /// Free the route's index.
    RemoveQuota {
        /// The route's index.
        route: u16,
    },
    /// Write an entry of `THRESHOLDS`: zeros once nobody has the index.
    SetThresholds {
        /// [`abi::Thresholds::of_service`] or [`abi::Thresholds::of_route`]
        index: u32,
        /// The value.
        thresholds: abi::Thresholds,
    },
    /// Write an entry of `ROUTES`.
    SetRoute {
        /// The key.
        key: MatchKey,
        /// The value.
        route: abi::Route,
    },
    /// Remove an entry of `ROUTES`.
    RemoveRoute {
        /// The key.
        key: MatchKey,
    },
}

/// A service's backends of one address family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName {
    /// Name of the service.
    pub service: String,
    /// IPv4, or else IPv6.
    pub is_v4: bool,
}

/// A key of `ROUTES`, in an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatchKey {
    /// [`abi::Service::id`]
    pub service: u16,
    /// What it looks at.
    pub field: abi::RouteField,
    /// Which mode it asks for.
    pub mode: abi::StreamMode,
    /// The bytes, with the zero behind an exact text.
    pub text: Vec<u8>,
    /// How many bits of `text` count: all, but for source prefixes.
    pub bits: u32,
}
