//! The maps. One line each on key → value, who writes, who reads; layouts are in `ingest_common::abi`, and every
//! name, type and size here must equal `abi::MAPS` (checked on the object by the tests).

use aya_ebpf::{
    Global,
    btf_maps::{Array, ArrayOfMaps, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use ingest_common::{
    abi::{
        Backend, Config, EVENTS_BYTES, Endpoint, EndpointKey, Event, Explain, Flow, FlowKey,
        Handshake, Health, MAX_BACKENDS, MAX_FLOWS, MAX_HANDSHAKES, MAX_POOLS, MAX_SERVICE_KEYS,
        MAX_SERVICES, MAX_SOURCES, MaglevTable, Name, Node, Probe, Return, ReturnKey, Service,
        ServiceKey, SourceKey, Tenant, Traffic, Vip,
    },
    packet::COPY_MAX,
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
/// Pool → Maglev table, swapped whole. Agent writes, XDP reads.
#[btf_map]
pub static TABLES: ArrayOfMaps<Array<MaglevTable, 1>, MAX_POOLS> = ArrayOfMaps::new();
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
/// A handshake's payload, while it is checked. Not pinned.
#[btf_map]
pub static SCRATCH: PerCpuArray<[u8; COPY_MAX], 1> = PerCpuArray::new();

/// 1 once XDP has found that the driver has no room for metadata: tc then finds pods by address. Not pinned.
#[btf_map]
pub static NO_METADATA: Array<u32, 1> = Array::new();

/// 1: decide only, and write EXPLAIN. Read-only once loaded, so the verifier drops the other branch.
///
/// Its initial value is like no other constant's: LLVM merges equal ones, and a lookup by key 0 once used this very
/// word as its key.
#[unsafe(no_mangle)]
pub static DRY_RUN: Global<u32> = Global::new(0x6472_7921);
