//! The maps. One line each on key → value, who writes, who reads; layouts are in `ingest_common::abi`, and every
//! name, type and size here must equal `abi::MAPS` (checked on the object by the tests).

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, ArrayOfMaps, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use ingest_common::{
    abi::{
        Backend, CAPTURE_HEADERS, CAPTURES_BYTES, Capture, Captured, Config, EVENTS_BYTES,
        Endpoint, EndpointKey, Event, Explain, Flow, FlowKey, Group, GroupKey, Handshake, Health,
        Load, MAX_BACKENDS, MAX_FLOWS, MAX_GROUPS, MAX_HANDSHAKES, MAX_MATCHES, MAX_POOLS,
        MAX_ROUTES, MAX_SERVICE_KEYS, MAX_SERVICES, MAX_SOURCE_RATES, MAX_SOURCES, MAX_SPLICES,
        MaglevTable, Name, Node, Probe, Quota, Return, ReturnKey, Route, RouteKey, RouteState,
        RouteStats, Secrets, Service, ServiceKey, SourceKey, SourceRate, SourceRateKey, Splice,
        SpliceStats, StreamHealth, StreamId, Tenant, Thresholds, Traffic, Vip,
    },
    steer::Workspace,
};

/// VIP:port:protocol → service. Agent writes, XDP reads.
#[btf_map]
pub static SERVICES: HashMap<ServiceKey, Service, MAX_SERVICE_KEYS> = HashMap::new();
/// Service id → VIP:port. Agent writes, tc reads.
#[btf_map]
pub static VIPS: Array<Vip, MAX_SERVICES> = Array::new();
/// Service id → name. Agent writes, the CLI reads.
#[btf_map]
pub static SERVICE_NAMES: Array<Name, MAX_SERVICES> = Array::new();
/// Slot → backend. Agent writes, every program reads.
#[btf_map]
pub static BACKENDS: Array<Backend, MAX_BACKENDS> = Array::new();
/// Slot → name. Agent writes, the CLI reads.
#[btf_map]
pub static BACKEND_NAMES: Array<Name, MAX_BACKENDS> = Array::new();
/// Slot → whose process it is for. Agent only.
#[btf_map]
pub static TENANTS: Array<Tenant, MAX_BACKENDS> = Array::new();
/// Slot → what the kernel saw of the backend. Every program writes; the CLI writes `drain`.
#[btf_map]
pub static HEALTH: Array<Health, MAX_BACKENDS> = Array::new();
/// Pod address:port → slot. Agent writes, tc reads.
#[btf_map]
pub static ENDPOINTS: HashMap<EndpointKey, Endpoint, MAX_BACKENDS> = HashMap::new();
/// Slot → last answer to a probe. tc writes, agent reads.
#[btf_map]
pub static PROBES: Array<Probe, MAX_BACKENDS> = Array::new();
/// Pool → Maglev table (`abi::MaglevTable`), swapped whole. Agent writes, XDP reads. No struct in its BTF: the agent's
/// tables have none, and Linux 5.15 to 6.1 would not take them for maps of the same kind.
#[btf_map]
pub static TABLES: ArrayOfMaps<Array<[u16; size_of::<MaglevTable>() / 2], 1>, MAX_POOLS> =
    ArrayOfMaps::new();
/// Service id and source prefix → allowed. Agent writes, XDP reads.
#[btf_map]
pub static SOURCES: LpmTrie<SourceKey, u32, MAX_SOURCES> = LpmTrie::new();
/// Client on a service → flow. tc inserts, XDP and tc count, agent removes; least recently used goes first.
#[btf_map]
pub static FLOWS: LruHashMap<FlowKey, Flow, MAX_FLOWS> = LruHashMap::new();
/// Client at a slot → service of the flow. tc inserts and reads, agent removes; sized as FLOWS.
#[btf_map]
pub static RETURNS: LruHashMap<ReturnKey, Return, MAX_FLOWS> = LruHashMap::new();
/// Client at a slot → handshake under way. XDP inserts, tc reads; a flood of handshakes evicts only here.
#[btf_map]
pub static HANDSHAKES: LruHashMap<ReturnKey, Handshake, MAX_HANDSHAKES> = LruHashMap::new();
/// Service id → counters. Every program writes, user space reads.
#[btf_map]
pub static SERVICE_STATS: PerCpuArray<Traffic, MAX_SERVICES> = PerCpuArray::new();
/// Slot → counters. Every program writes, user space reads.
#[btf_map]
pub static BACKEND_STATS: PerCpuArray<Traffic, MAX_BACKENDS> = PerCpuArray::new();
/// `DropReason` → packets.
#[btf_map]
pub static DROPS: PerCpuArray<u64, 64> = PerCpuArray::new();
/// `PassReason` → packets.
#[btf_map]
pub static PASSES: PerCpuArray<u64, 64> = PerCpuArray::new();
/// Slot → pod port, for `redirect`. Agent writes.
#[btf_map]
pub static POD_PORTS: DevMap<MAX_BACKENDS> = DevMap::new();
/// Transitions, for the agent.
#[btf_map]
pub static EVENTS: RingBuf<Event, EVENTS_BYTES> = RingBuf::new();
/// Thresholds. Agent writes, every program reads.
#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();
/// Keys of our cookies. Agent writes, XDP reads.
#[btf_map]
pub static SECRETS: Array<Secrets, 1> = Array::new();
/// Client on a service → CONCLUSION that waits for its pod's cookie. XDP inserts, tc reads.
#[btf_map]
pub static SPLICES: LruHashMap<FlowKey, Splice, MAX_SPLICES> = LruHashMap::new();
/// Client on a service → what the caller of the flow asked for. tc inserts, the CLI reads; sized as FLOWS.
#[btf_map]
pub static STREAM_IDS: LruHashMap<FlowKey, StreamId, MAX_FLOWS> = LruHashMap::new();
/// Service id → counters of handshakes. XDP and tc write, user space reads.
#[btf_map]
pub static SPLICE_STATS: PerCpuArray<SpliceStats, MAX_SERVICES> = PerCpuArray::new();
/// Client address → how fast it asks. XDP only.
#[btf_map]
pub static SOURCE_RATES: LruHashMap<SourceRateKey, SourceRate, MAX_SOURCE_RATES> =
    LruHashMap::new();
/// Bonded connection → where its first link went. XDP only.
#[btf_map]
pub static GROUPS: LruHashMap<GroupKey, Group, MAX_GROUPS> = LruHashMap::new();
/// Slot → sessions now. XDP and tc count, the agent corrects.
#[btf_map]
pub static LOADS: Array<Load, MAX_BACKENDS> = Array::new();
/// Service, field and text → route. Agent writes, XDP reads.
#[btf_map]
pub static ROUTES: LpmTrie<RouteKey, Route, MAX_MATCHES> = LpmTrie::new();
/// Route → name. Agent writes, the CLI reads.
#[btf_map]
pub static ROUTE_NAMES: Array<Name, MAX_ROUTES> = Array::new();
/// Route → what its streams may use. Agent writes, XDP and tc read.
#[btf_map]
pub static QUOTAS: Array<Quota, MAX_ROUTES> = Array::new();
/// Route → sessions now, and how fast. XDP and tc write, the agent corrects.
#[btf_map]
pub static ROUTE_STATES: Array<RouteState, MAX_ROUTES> = Array::new();
/// Route → counters. XDP and tc write, user space reads.
#[btf_map]
pub static ROUTE_STATS: PerCpuArray<RouteStats, MAX_ROUTES> = PerCpuArray::new();
/// Service or route → from when on its streams are not well. Agent only, and the CLI.
#[btf_map]
pub static THRESHOLDS: Array<Thresholds, { MAX_SERVICES + MAX_ROUTES }> = Array::new();
/// Client on a service → how its stream is. Agent only, and the CLI. Memory as it is used; sized as FLOWS.
#[btf_map]
pub static STREAM_HEALTH: HashMap<
    FlowKey,
    StreamHealth,
    MAX_FLOWS,
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();
/// What is captured. The CLI writes, XDP and tc count.
#[btf_map]
pub static CAPTURE: Array<Capture, 1> = Array::new();
/// Captured packets, for the CLI: whole ones are longer. Its own ring, so that they crowd out no event.
#[btf_map]
pub static CAPTURES: RingBuf<Captured<CAPTURE_HEADERS>, CAPTURES_BYTES> = RingBuf::new();
/// What the agent says of itself, for the CLI.
#[btf_map]
pub static NODE: Array<Node, 1> = Array::new();
/// What a dry run decided. Not pinned.
#[btf_map]
pub static EXPLAIN: Array<Explain, 1> = Array::new();
/// A flow, while it is built. Not pinned.
#[btf_map]
pub static NEW_FLOW: PerCpuArray<Flow, 1> = PerCpuArray::new();
/// A handshake, while it is noted. Not pinned.
#[btf_map]
pub static NEW_HANDSHAKE: PerCpuArray<Handshake, 1> = PerCpuArray::new();
/// A CONCLUSION, while it is taken apart. Not pinned.
#[btf_map]
pub static WORKSPACE: PerCpuArray<Workspace, 1> = PerCpuArray::new();

/// 1 once XDP has found that the driver has no room for metadata: tc then finds pods by address. Not pinned.
#[btf_map]
pub static NO_METADATA: Array<u32, 1> = Array::new();

/// 1: decide only, and write EXPLAIN. Read-only once loaded, so the verifier drops the other branch.
///
/// Its initial value is like no other constant's: LLVM merges equal ones, and a lookup by key 0 once used this very
/// word as its key.
#[unsafe(no_mangle)]
pub static DRY_RUN: Global<u32> = Global::new(0x6472_7921);
