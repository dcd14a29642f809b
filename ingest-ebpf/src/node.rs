//! `Node` over the maps. No decisions here.

use aya_ebpf::btf_maps::lpm_trie::Key;
// Linux 5.11.
#[cfg(not(feature = "linux-5-10"))]
use aya_ebpf::helpers::bpf_ktime_get_coarse_ns as ktime;
#[cfg(feature = "linux-5-10")]
use aya_ebpf::helpers::bpf_ktime_get_ns as ktime;
use ingest_common::{
    abi::{
        Backend, Capture, Config, EndpointKey, Event, Flow, FlowKey, Group, GroupKey, Handshake,
        Health, Load, Probe, Quota, Return, ReturnKey, Route, RouteKey, RouteState, RouteStats,
        Secrets, Service, ServiceKey, SourceKey, SourceRate, SourceRateKey, Splice, SpliceStats,
        StreamId, Traffic, Vip,
    },
    maglev,
    steer::{self, Decision, MatchKey, Part, Workspace},
};

use crate::{
    maps::{
        BACKEND_STATS, BACKENDS, CAPTURE, CONFIG, DRY_RUN, ENDPOINTS, EVENTS, FLOWS, GROUPS,
        HANDSHAKES, HEALTH, LOADS, NEW_FLOW, NEW_HANDSHAKE, PROBES, QUOTAS, RETURNS, ROUTE_STATES,
        ROUTE_STATS, ROUTES, SECRETS, SERVICE_STATS, SERVICES, SOURCE_RATES, SOURCES, SPLICE_STATS,
        SPLICES, STREAM_IDS, TABLES, VIPS, WORKSPACE,
    },
    part,
};

/// This node's maps.
pub struct Kernel;

// Keys are copied for each call of a helper: what a helper is given the address of stays in memory as a whole, with
// all that it is a part of, and a `FlowKey` is part of nearly everything.

/// A map value in place.
#[inline(always)]
fn at<'a, T>(pointer: Option<*mut T>) -> Option<&'a mut T> {
    // SAFETY: the pointer comes from a map lookup, so the verifier has it checked against null and its size. Values
    // stay readable until the program ends (RCU). Other CPUs may write them meanwhile: every field is one word with
    // one writer per direction, see `abi::Flow`.
    pointer.map(|pointer| unsafe { &mut *pointer })
}

impl steer::Node for Kernel {
    type Ref<'a, T: 'a> = &'a mut T;

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: takes no arguments.
        unsafe { ktime() }
    }

    #[inline(always)]
    fn config(&self) -> Config {
        CONFIG.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        at(SERVICES.get_ptr_mut(*key)).copied_out()
    }

    #[inline(always)]
    fn vip(&self, service: u16) -> Option<&mut Vip> {
        at(VIPS.get_ptr_mut(u32::from(service)))
    }

    #[inline(always)]
    fn source_allowed(&self, key: &SourceKey) -> bool {
        SOURCES
            .get(&Key::new(8 * size_of::<SourceKey>() as u32, *key))
            .is_some()
    }

    #[inline(always)]
    fn table(&self, pool: u16, position: u32) -> Option<u16> {
        let table = TABLES.get_value_ptr_mut(u32::from(pool), &0)?;
        if position >= maglev::TABLE_SIZE {
            return None;
        }
        // SAFETY: the table has 16384 entries of 2 bytes, and the position is below 16381.
        Some(unsafe { *table.cast::<u16>().add(position as usize) })
    }

    #[inline(always)]
    fn backend(&self, slot: u16) -> Option<&mut Backend> {
        at(BACKENDS.get_ptr_mut(u32::from(slot)))
    }

    #[inline(always)]
    fn health(&self, slot: u16) -> Option<&mut Health> {
        at(HEALTH.get_ptr_mut(u32::from(slot)))
    }

    #[inline(always)]
    fn endpoint(&self, key: &EndpointKey) -> Option<u16> {
        at(ENDPOINTS.get_ptr_mut(*key)).map(|endpoint| endpoint.slot as u16)
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<&mut Flow> {
        at(FLOWS.get_ptr_mut(*key))
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey, flow: &Flow) {
        let back = ReturnKey {
            address: key.address,
            port: key.port,
            slot: flow.slot,
        };
        // An LRU map makes room; what still fails (no memory) leaves the session to the caller's next handshake.
        if FLOWS.insert(*key, flow, 0).is_ok() {
            let _: Result<(), i32> = RETURNS.insert(
                back,
                Return {
                    service: key.service,
                    _pad: 0,
                },
                0,
            );
        }
    }

    #[inline(always)]
    fn returns(&self, key: &ReturnKey) -> Option<u16> {
        at(RETURNS.get_ptr_mut(*key)).map(|value| value.service)
    }

    #[inline(always)]
    fn handshake(&self, key: &ReturnKey) -> Option<&mut Handshake> {
        at(HANDSHAKES.get_ptr_mut(*key))
    }

    #[inline(always)]
    fn insert_handshake(&self, key: &ReturnKey, handshake: &Handshake) {
        // Failure costs one handshake; the caller repeats it.
        let _: Result<(), i32> = HANDSHAKES.insert(*key, handshake, 0);
    }

    #[inline(always)]
    fn count(&self, service: u16, slot: u16, add: impl Fn(&mut Traffic)) {
        if self.dry_run() {
            return;
        }
        if let Some(traffic) = at(SERVICE_STATS.get_ptr_mut(u32::from(service))) {
            add(traffic);
        }
        if let Some(traffic) = at(BACKEND_STATS.get_ptr_mut(u32::from(slot))) {
            add(traffic);
        }
    }

    #[inline(always)]
    fn emit(&self, fill: impl FnOnce(&mut Event)) {
        if self.dry_run() {
            return;
        }
        // A full ring loses the event; counters and maps still tell what happened.
        if let Some(mut entry) = EVENTS.reserve(0) {
            fill(entry.write(Event::default()));
            entry.submit(0);
        }
    }

    #[inline(always)]
    fn probe_answered(&self, slot: u16, sequence: u32) {
        let answered_ns = self.now();
        let _: Result<(), i32> = PROBES.set(
            u32::from(slot),
            Probe {
                answered_ns,
                sequence,
                _pad: 0,
            },
            0,
        );
    }

    #[inline(always)]
    fn secrets(&self) -> Option<&mut Secrets> {
        at(SECRETS.get_ptr_mut(0))
    }

    #[inline(always)]
    fn splice(&self, key: &FlowKey) -> Option<&mut Splice> {
        at(SPLICES.get_ptr_mut(*key))
    }

    #[inline(always)]
    fn insert_splice(&self, key: &FlowKey, splice: &Splice) {
        // Failure costs the splice; the caller's retry is sent on with the pod's cookie.
        let _: Result<(), i32> = SPLICES.insert(*key, splice, 0);
    }

    #[inline(always)]
    fn insert_stream_id(&self, key: &FlowKey, stream: &StreamId) {
        // Failure costs people a name.
        let _: Result<(), i32> = STREAM_IDS.insert(*key, stream, 0);
    }

    #[inline(always)]
    fn source_rate(&self, key: &SourceRateKey) -> Option<&mut SourceRate> {
        at(SOURCE_RATES.get_ptr_mut(*key))
    }

    #[inline(always)]
    fn insert_source_rate(&self, key: &SourceRateKey, rate: &SourceRate) {
        // Failure lets a packet more through.
        let _: Result<(), i32> = SOURCE_RATES.insert(*key, *rate, 0);
    }

    #[inline(always)]
    fn group(&self, key: &GroupKey) -> Option<&mut Group> {
        at(GROUPS.get_ptr_mut(*key))
    }

    #[inline(always)]
    fn insert_group(&self, key: &GroupKey, group: &Group) {
        // Failure leaves the next link to the table, which mostly says the same.
        let _: Result<(), i32> = GROUPS.insert(*key, *group, 0);
    }

    #[inline(always)]
    fn route(&self, key: &MatchKey) -> Option<Route> {
        // SAFETY: both are a u32 of bits, then the data, and both live in a map's value.
        let key = unsafe { &*core::ptr::from_ref(key).cast::<Key<RouteKey>>() };
        ROUTES.get(key).copied()
    }

    #[inline(always)]
    fn quota(&self, route: u16) -> Option<&mut Quota> {
        at(QUOTAS.get_ptr_mut(u32::from(route)))
    }

    #[inline(always)]
    fn route_state(&self, route: u16) -> Option<&mut RouteState> {
        at(ROUTE_STATES.get_ptr_mut(u32::from(route)))
    }

    #[inline(always)]
    fn load(&self, slot: u16) -> Option<&mut Load> {
        at(LOADS.get_ptr_mut(u32::from(slot)))
    }

    #[inline(always)]
    fn session_began(&self, slot: u16, route: u16) {
        if let Some(load) = self.load(slot) {
            add(&mut load.active, 1);
        }
        if route != 0
            && let Some(state) = self.route_state(route)
        {
            add(&mut state.active, 1);
        }
    }

    #[inline(always)]
    fn session_ended(&self, slot: u16, route: u16) {
        if let Some(load) = self.load(slot)
            && load.active != 0
        {
            add(&mut load.active, u64::MAX);
        }
        if route != 0
            && let Some(state) = self.route_state(route)
            && state.active != 0
        {
            add(&mut state.active, u64::MAX);
        }
    }

    #[inline(always)]
    fn capture(&self) -> Option<&mut Capture> {
        at(CAPTURE.get_ptr_mut(0))
    }

    #[inline(always)]
    fn count_splice(&self, service: u16, add: impl Fn(&mut SpliceStats)) {
        if self.dry_run() {
            return;
        }
        if let Some(stats) = at(SPLICE_STATS.get_ptr_mut(u32::from(service))) {
            add(stats);
        }
    }

    #[inline(always)]
    fn count_route(&self, route: u16, add: impl Fn(&mut RouteStats)) {
        if self.dry_run() {
            return;
        }
        if let Some(stats) = at(ROUTE_STATS.get_ptr_mut(u32::from(route))) {
            add(stats);
        }
    }

    #[inline(always)]
    fn workspace(&self) -> Option<&mut Workspace> {
        at(WORKSPACE.get_ptr_mut(0))
    }

    #[inline(always)]
    fn new_flow(&self) -> Option<&mut Flow> {
        at(NEW_FLOW.get_ptr_mut(0))
    }

    #[inline(always)]
    fn new_handshake(&self) -> Option<&mut Handshake> {
        at(NEW_HANDSHAKE.get_ptr_mut(0))
    }

    #[inline(always)]
    fn place(&self, pool: u16, hash: u32) -> u16 {
        part::place(u32::from(pool), hash) as u16
    }

    #[inline(always)]
    fn place_in_doubt(&self, pool: u16, hash: u32) -> u16 {
        part::doubtful(u32::from(pool), hash) as u16
    }

    #[inline(always)]
    fn check_extensions(&self) -> u8 {
        part::extensions() as u8
    }

    #[inline(always)]
    fn check_cookie(&self) -> u8 {
        part::cookie() as u8
    }

    #[inline(always)]
    fn payload_sum(&self) -> u16 {
        part::sum() as u16
    }

    #[inline(always)]
    fn is_repeated(&self) -> bool {
        part::repeated() != 0
    }

    #[inline(always)]
    fn read_stream_id(&self) -> u8 {
        part::stream_id() as u8
    }

    #[inline(always)]
    fn match_key(&self, field: u8) -> bool {
        part::match_key(u32::from(field)) != 0
    }

    #[inline(always)]
    fn find_route(&self) -> Route {
        let word = part::route();
        Route {
            route: word as u16,
            pool: (word >> 16) as u16,
            length: (word >> 32) as u16,
            _pad: 0,
        }
    }

    #[inline(always)]
    fn decide(&self, part: Part) -> Decision {
        Decision::from_word(match part {
            Part::Client => part::client(),
            Part::Induction => part::induction(),
            Part::Conclusion => part::conclusion(),
            Part::Known => part::known(),
            Part::Stream => part::stream(),
        })
    }

    #[inline(always)]
    fn dry_run(&self) -> bool {
        DRY_RUN.load() == 1
    }
}

/// Adds to a counter that several CPUs count in. By hand, since Rust has no atomics for BPF; the sum before is not asked
/// for, since kernels before 5.12 cannot tell it.
#[inline(always)]
fn add(counter: &mut u64, value: u64) {
    let counter = core::ptr::from_mut(counter);
    // SAFETY: a field of a map's value, aligned to 8; other CPUs only add to it, and the agent writes whole words.
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) value, options(nostack));
    }
}

/// `Option::copied` for the mutable references of [`at`].
trait CopiedOut<T> {
    fn copied_out(self) -> Option<T>;
}

impl<T: Copy> CopiedOut<T> for Option<&mut T> {
    #[inline(always)]
    fn copied_out(self) -> Option<T> {
        self.map(|value| *value)
    }
}
