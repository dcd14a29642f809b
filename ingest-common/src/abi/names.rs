//! Map and program names, and the shape every map must have: what pins are checked against before adoption.

use super::{
    Backend, CAPTURES_BYTES, Capture, Config, Endpoint, EndpointKey, Explain, Flow, FlowKey, Group,
    GroupKey, Handshake, Health, Load, Name, Node, Probe, Quota, Return, ReturnKey, Route,
    RouteKey, RouteState, RouteStats, Secrets, Service, ServiceKey, SourceKey, SourceRate,
    SourceRateKey, Splice, SpliceStats, StreamHealth, StreamId, Tenant, Thresholds, Traffic, Vip,
};

/// Most services (VIP:port:protocol) of a node.
pub const MAX_SERVICES: usize = 1024;
/// Most entries of `SERVICES`: the services and the marks of their addresses.
pub const MAX_SERVICE_KEYS: usize = 2 * MAX_SERVICES;
/// Most pools (a service's backends of one address family). 32 KiB each.
pub const MAX_POOLS: usize = 512;
/// Most backends of a node. 1.6 KiB each with names and statistics on two CPUs.
pub const MAX_BACKENDS: usize = 4096;
/// Most backends of one pool.
pub const MAX_POOL_BACKENDS: usize = 1024;
/// Flows by default (`--max-flows`). 664 B each with their entries in `RETURNS` and `STREAM_IDS`.
pub const MAX_FLOWS: usize = 131_072;
/// Handshakes under way.
pub const MAX_HANDSHAKES: usize = 16_384;
/// CONCLUSIONs kept. 1.3 KiB each.
pub const MAX_SPLICES: usize = 8192;
/// Sources whose handshakes are counted.
pub const MAX_SOURCE_RATES: usize = 65_536;
/// Bonded connections.
pub const MAX_GROUPS: usize = 16_384;
/// Routes, by index: each may have many matches.
pub const MAX_ROUTES: usize = 4096;
/// Matches of all routes together, counted once a VIP.
pub const MAX_MATCHES: usize = 65_536;
/// Source ranges of all services together.
pub const MAX_SOURCES: usize = 16_384;
/// Bytes of the event ring.
pub const EVENTS_BYTES: usize = 262_144;

/// The kinds of BPF map in use; the number is the kernel's `enum bpf_map_type`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`
    Array = 2,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`
    LruHash = 9,
    /// `BPF_MAP_TYPE_LPM_TRIE`
    LpmTrie = 11,
    /// `BPF_MAP_TYPE_ARRAY_OF_MAPS`
    ArrayOfMaps = 12,
    /// `BPF_MAP_TYPE_DEVMAP`
    DevMap = 14,
    /// `BPF_MAP_TYPE_RINGBUF`
    RingBuf = 27,
}

/// The shape of a pinned map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// Name, at most 15 bytes, so that bpftool and we agree.
    pub name: &'static str,
    /// Type.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries; for maps that `--max-flows` sizes, the default.
    pub max_entries: u32,
    /// Whether `--max-flows` sets the entries.
    pub sized_by_flows: bool,
}

const fn map(
    name: &'static str,
    kind: MapKind,
    key: usize,
    value: usize,
    entries: usize,
) -> MapShape {
    assert!(name.len() <= 15);
    MapShape {
        name,
        kind,
        key_size: key as u32,
        value_size: value as u32,
        max_entries: entries as u32,
        sized_by_flows: false,
    }
}

const fn by_flows(mut shape: MapShape) -> MapShape {
    shape.sized_by_flows = true;
    shape
}

/// Every map that is pinned.
pub const MAPS: [MapShape; 37] = [
    map(
        "SERVICES",
        MapKind::Hash,
        size_of::<ServiceKey>(),
        size_of::<Service>(),
        MAX_SERVICE_KEYS,
    ),
    map("VIPS", MapKind::Array, 4, size_of::<Vip>(), MAX_SERVICES),
    map(
        "SERVICE_NAMES",
        MapKind::Array,
        4,
        size_of::<Name>(),
        MAX_SERVICES,
    ),
    map(
        "BACKENDS",
        MapKind::Array,
        4,
        size_of::<Backend>(),
        MAX_BACKENDS,
    ),
    map(
        "BACKEND_NAMES",
        MapKind::Array,
        4,
        size_of::<Name>(),
        MAX_BACKENDS,
    ),
    map(
        "TENANTS",
        MapKind::Array,
        4,
        size_of::<Tenant>(),
        MAX_BACKENDS,
    ),
    map(
        "HEALTH",
        MapKind::Array,
        4,
        size_of::<Health>(),
        MAX_BACKENDS,
    ),
    map(
        "ENDPOINTS",
        MapKind::Hash,
        size_of::<EndpointKey>(),
        size_of::<Endpoint>(),
        MAX_BACKENDS,
    ),
    map(
        "PROBES",
        MapKind::Array,
        4,
        size_of::<Probe>(),
        MAX_BACKENDS,
    ),
    map("TABLES", MapKind::ArrayOfMaps, 4, 4, MAX_POOLS),
    map(
        "SOURCES",
        MapKind::LpmTrie,
        4 + size_of::<SourceKey>(),
        4,
        MAX_SOURCES,
    ),
    by_flows(map(
        "FLOWS",
        MapKind::LruHash,
        size_of::<FlowKey>(),
        size_of::<Flow>(),
        MAX_FLOWS,
    )),
    by_flows(map(
        "RETURNS",
        MapKind::LruHash,
        size_of::<ReturnKey>(),
        size_of::<Return>(),
        MAX_FLOWS,
    )),
    map(
        "HANDSHAKES",
        MapKind::LruHash,
        size_of::<ReturnKey>(),
        size_of::<Handshake>(),
        MAX_HANDSHAKES,
    ),
    map(
        "SERVICE_STATS",
        MapKind::PerCpuArray,
        4,
        size_of::<Traffic>(),
        MAX_SERVICES,
    ),
    map(
        "BACKEND_STATS",
        MapKind::PerCpuArray,
        4,
        size_of::<Traffic>(),
        MAX_BACKENDS,
    ),
    map("DROPS", MapKind::PerCpuArray, 4, 8, 64),
    map("PASSES", MapKind::PerCpuArray, 4, 8, 64),
    map("POD_PORTS", MapKind::DevMap, 4, 8, MAX_BACKENDS),
    map("EVENTS", MapKind::RingBuf, 0, 0, EVENTS_BYTES),
    map("CONFIG", MapKind::Array, 4, size_of::<Config>(), 1),
    map("SECRETS", MapKind::Array, 4, size_of::<Secrets>(), 1),
    map(
        "SPLICES",
        MapKind::LruHash,
        size_of::<FlowKey>(),
        size_of::<Splice>(),
        MAX_SPLICES,
    ),
    by_flows(map(
        "STREAM_IDS",
        MapKind::LruHash,
        size_of::<FlowKey>(),
        size_of::<StreamId>(),
        MAX_FLOWS,
    )),
    map(
        "SPLICE_STATS",
        MapKind::PerCpuArray,
        4,
        size_of::<SpliceStats>(),
        MAX_SERVICES,
    ),
    map(
        "SOURCE_RATES",
        MapKind::LruHash,
        size_of::<SourceRateKey>(),
        size_of::<SourceRate>(),
        MAX_SOURCE_RATES,
    ),
    map(
        "GROUPS",
        MapKind::LruHash,
        size_of::<GroupKey>(),
        size_of::<Group>(),
        MAX_GROUPS,
    ),
    map("LOADS", MapKind::Array, 4, size_of::<Load>(), MAX_BACKENDS),
    map(
        "ROUTES",
        MapKind::LpmTrie,
        4 + size_of::<RouteKey>(),
        size_of::<Route>(),
        MAX_MATCHES,
    ),
    map(
        "ROUTE_NAMES",
        MapKind::Array,
        4,
        size_of::<Name>(),
        MAX_ROUTES,
    ),
    map("QUOTAS", MapKind::Array, 4, size_of::<Quota>(), MAX_ROUTES),
    map(
        "ROUTE_STATES",
        MapKind::Array,
        4,
        size_of::<RouteState>(),
        MAX_ROUTES,
    ),
    map(
        "ROUTE_STATS",
        MapKind::PerCpuArray,
        4,
        size_of::<RouteStats>(),
        MAX_ROUTES,
    ),
    map(
        "THRESHOLDS",
        MapKind::Array,
        4,
        size_of::<Thresholds>(),
        MAX_SERVICES + MAX_ROUTES,
    ),
    by_flows(map(
        "STREAM_HEALTH",
        MapKind::Hash,
        size_of::<FlowKey>(),
        size_of::<StreamHealth>(),
        MAX_FLOWS,
    )),
    map("CAPTURE", MapKind::Array, 4, size_of::<Capture>(), 1),
    map("CAPTURES", MapKind::RingBuf, 0, 0, CAPTURES_BYTES),
];

/// Maps that are pinned for the CLI and read by no program's packet path.
pub const NODE_MAP: MapShape = map("NODE", MapKind::Array, 4, size_of::<Node>(), 1);
/// Written by dry runs only; not pinned.
pub const EXPLAIN_MAP: MapShape = map("EXPLAIN", MapKind::Array, 4, size_of::<Explain>(), 1);

/// Programs, each at most 15 bytes.
pub mod program {
    /// XDP at the uplink: clients' packets.
    pub const XDP_INGEST: &str = "xdp_ingest";
    /// tc ingress at the uplink: hands over to pods, sends SHUTDOWN.
    pub const TC_UPLINK_IN: &str = "tc_uplink_in";
    /// tc egress at the uplink: replies of `stack` pods.
    pub const TC_UPLINK_OUT: &str = "tc_uplink_out";
    /// tc ingress at a pod port: replies of pods.
    pub const TC_POD: &str = "tc_pod";
    /// XDP, never attached: carries the agent's probes into pods.
    pub const XDP_PROBE: &str = "xdp_probe";
    /// XDP, never attached: marks a flow for capture, or takes the mark away.
    pub const XDP_MARK: &str = "xdp_mark";
}

/// Loaded into `.rodata` before the programs are: 1 makes the XDP program decide and write `EXPLAIN` without
/// counting or keeping anything.
pub const DRY_RUN: &str = "DRY_RUN";
