//! The programs that `cargo xtask bench` needs beside ours: what the real ones are compared with, and generators
//! that hand each run of a program another packet. Never part of a dataplane.
//!
//! * References: [`xdp_empty`], [`xdp_drop`], and [`xdp_minimal`], the least that steers at all: parse, one LRU hit,
//!   one array read, DNAT, a time of last use, redirect.
//! * Generators: `BPF_PROG_TEST_RUN` repeats a program on one packet, so a repeated data packet would always be a
//!   duplicate of one flow. [`xdp_gen_v4`] and its siblings write client and sequence number and tail-call the
//!   program under test; the same generator before [`xdp_empty`] is what is to be subtracted. [`xdp_gen_shake`] and
//!   [`tc_gen_shake`] also undo what the last run made of the packet, and issue the cookie that the program under
//!   test would. [`xdp_live`] makes the frames that enter a veth.

#![no_std]
#![no_main]
#![allow(
    unsafe_code,
    reason = "every helper call and packet access is unsafe; each block says why it holds"
)]
#![allow(missing_docs, unreachable_pub, reason = "programs, not a library")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "the program macros hand contexts over by value"
)]
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "helpers mix C's signed and unsigned types; the values are small constants and sums"
)]
#![allow(
    clippy::let_underscore_must_use,
    reason = "where a helper's failure changes nothing, a comment says why"
)]

use core::ptr;

use aya_ebpf::{
    bindings::{
        TC_ACT_OK, TC_ACT_SHOT,
        xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    },
    btf_maps::{Array, DevMap, LruHashMap, ProgramArray},
    helpers::{
        bpf_ktime_get_coarse_ns, bpf_skb_change_tail, bpf_skb_store_bytes, bpf_xdp_adjust_meta,
        bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_store_bytes,
    },
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ingest_common::{
    abi::{Handover, Secrets},
    packet::{IPV4, difference, update, update_udp},
    srt,
};

/// A client's datagram, as in the packet: the 16 bytes that the reference numbers were taken with.
#[repr(C)]
#[derive(Clone, Copy)]
struct MinimalKey {
    source: u32,
    destination: u32,
    ports: u32,
    protocol: u32,
}

/// What a flow of the minimal program is.
#[repr(C)]
#[derive(Clone, Copy)]
struct MinimalFlow {
    seen_ns: u64,
    packets: u64,
    bytes: u64,
    backend: u32,
    _pad: u32,
}

/// Where a flow of the minimal program goes; all as in the packet.
#[repr(C)]
#[derive(Clone, Copy)]
struct MinimalBackend {
    address: u32,
    port: u16,
    macs: [u16; 6],
    _pad: u16,
}

/// What the generators write. User space sets it; the kernel counts.
#[repr(C)]
#[derive(Clone, Copy)]
struct Generator {
    /// Packets so far.
    counter: u64,
    /// Flows − 1; flows are a power of two.
    mask: u32,
    /// Odd: steps through the flows in an order that no prefetcher knows.
    step: u32,
    /// Bits of `mask`: after so many packets each flow's sequence number goes up by one.
    bits: u32,
    /// First client address, host order; 1024 ports each.
    address: u32,
    /// First client port.
    port: u32,
    /// 1: leave the sequence number alone (handshakes).
    keep_sequence: u32,
}

/// Most bytes of a packet that is restored: a CONCLUSION and its headers.
const ORIGINAL_MAX: usize = 1104;

/// A packet as it was before a program rewrote it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Original {
    /// Bytes of it.
    length: u32,
    /// 1: it is a CONCLUSION, and gets the cookie of its client. Its own is 0.
    cookie: u32,
    /// The packet, from the first client.
    bytes: [u8; ORIGINAL_MAX],
}

/// The first 64 bytes of live frames: the kernel recycles their pages as the last receiver left them.
#[repr(C)]
#[derive(Clone, Copy)]
struct Template {
    words: [u32; 16],
}

/// Flows of the minimal program.
#[btf_map]
static MINI_FLOWS: LruHashMap<MinimalKey, MinimalFlow, 131_072> = LruHashMap::new();
/// Backends of the minimal program.
#[btf_map]
static MINI_BACKENDS: Array<MinimalBackend, 1024> = Array::new();
/// Pod ports of the minimal program (by backend).
#[btf_map]
static MINI_PORTS: DevMap<1024> = DevMap::new();
/// State of the generators.
#[btf_map]
static GENERATOR: Array<Generator, 1> = Array::new();
/// Headers of [`xdp_live`].
#[btf_map]
static TEMPLATE: Array<Template, 1> = Array::new();
/// Packet of the handshake generators.
#[btf_map]
static ORIGINAL: Array<Original, 1> = Array::new();
/// Keys of the cookies that they issue: those of the program under test.
#[btf_map]
static GEN_SECRETS: Array<Secrets, 1> = Array::new();
/// Entry 0: where [`xdp_live`] sends its frames.
#[btf_map]
static LIVE_PORT: DevMap<1> = DevMap::new();
/// Entry 0: the XDP program under test.
#[btf_map]
static XDP_TARGET: ProgramArray<1> = ProgramArray::new();
/// Entry 0: the tc program under test.
#[btf_map]
static TC_TARGET: ProgramArray<1> = ProgramArray::new();

/// Reads a `T` from the packet.
#[inline(always)]
fn read<T: Copy>(start: usize, end: usize) -> Option<T> {
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the comparison proves the bytes lie in the packet; T is an array of integers. BPF loads need no
    // alignment on the architectures we run on.
    Some(unsafe { ptr::read(start as *const T) })
}

/// Writes a `T` into the packet.
#[inline(always)]
fn write<T: Copy>(start: usize, end: usize, value: T) -> Option<()> {
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: as in `read`; the program has the only reference to the packet.
    unsafe { ptr::write(start as *mut T, value) };
    Some(())
}

/// The floor of the harness.
#[xdp(frags)]
pub fn xdp_empty(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// As [`xdp_empty`], for kernels before 5.18: they know no fragments.
#[xdp]
pub fn xdp_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// The floor of a receiving interface.
#[xdp(frags)]
pub fn xdp_drop(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// The floor of the harness for tc.
#[classifier]
pub fn tc_empty(_ctx: TcContext) -> i32 {
    TC_ACT_OK
}

/// The least that steers: untagged IPv4 without options, no checks, one counter pair.
#[xdp(frags)]
pub fn xdp_minimal(ctx: XdpContext) -> u32 {
    minimal(ctx.data(), ctx.data_end()).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn minimal(data: usize, end: usize) -> Option<u32> {
    let [kind] = read::<[u16; 1]>(data + 12, end)?;
    if kind != IPV4.to_be() {
        return None;
    }
    let [first, _, third, source, destination, ports, udp] = read::<[u32; 7]>(data + 14, end)?;
    if u32::from_be(first) >> 24 != 0x45 || u32::from_be(third) >> 16 & 0xff != 17 {
        return None;
    }
    let key = MinimalKey {
        source,
        destination,
        ports,
        protocol: 17,
    };
    // SAFETY: a value of the map, checked against null; other CPUs write only counters to it.
    let flow = unsafe { &mut *MINI_FLOWS.get_ptr_mut(key)? };
    let index = flow.backend;
    let backend = MINI_BACKENDS.get(index)?;
    // SAFETY: takes no arguments.
    flow.seen_ns = unsafe { bpf_ktime_get_coarse_ns() };
    flow.packets += 1;
    flow.bytes += (end - data) as u64;

    let new_ports = (u32::from_be(ports) & 0xffff_0000 | u32::from(backend.port)).to_be();
    let delta = difference([destination], [backend.address]);
    let [ip_checksum] = read::<[u16; 1]>(data + 24, end)?;
    write(data + 24, end, [update(ip_checksum, delta)])?;
    write(data + 30, end, [backend.address, new_ports])?;
    let checksum = (u32::from_be(udp) as u16).to_be();
    let delta = delta + difference([ports], [new_ports]);
    write(data + 40, end, [update_udp(checksum, delta)])?;
    write(data, end, backend.macs)?;
    Some(
        MINI_PORTS
            .redirect(index, u64::from(XDP_DROP))
            .unwrap_or(XDP_DROP),
    )
}

/// The next client and sequence number.
struct Next {
    address: u32,
    port: u16,
    sequence: Option<u32>,
}

#[inline(always)]
fn next() -> Option<Next> {
    // SAFETY: an array's only entry; one CPU generates at a time.
    let generator = unsafe { &mut *GENERATOR.get_ptr_mut(0)? };
    let counter = generator.counter;
    generator.counter = counter + 1;
    let index = (counter as u32).wrapping_mul(generator.step) & generator.mask;
    Some(Next {
        address: generator.address + (index >> 10),
        port: (generator.port + (index & 0x3ff)) as u16,
        sequence: (generator.keep_sequence == 0)
            .then_some((counter >> (generator.bits & 63)) as u32 & 0x7fff_ffff),
    })
}

/// Writes client and sequence number into an untagged packet; checksums stay as they are, nobody checks them.
#[inline(always)]
fn generate<const V6: bool>(data: usize, end: usize, client: End) -> Option<()> {
    let next = next()?;
    let l4 = data + if V6 { 54 } else { 34 };
    let (address_at, port_at) = match (V6, client) {
        (false, End::Source) => (data + 26, l4),
        (false, End::Destination) => (data + 30, l4 + 2),
        // The last four bytes of the address.
        (true, End::Source) => (data + 34, l4),
        (true, End::Destination) => (data + 50, l4 + 2),
    };
    write(address_at, end, [next.address.to_be()])?;
    write(port_at, end, [next.port.to_be()])?;
    if let Some(sequence) = next.sequence {
        write(l4 + 8, end, [sequence.to_be()])?;
    }
    Some(())
}

/// Which end of a packet the client is.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// Another packet from a client each time, then the program under test.
#[xdp(frags)]
pub fn xdp_gen_v4(ctx: XdpContext) -> u32 {
    generate_xdp::<false>(&ctx)
}

/// As [`xdp_gen_v4`], for programs that put metadata in front of the packet: takes the last run's away.
#[xdp(frags)]
pub fn xdp_gen_meta_v4(ctx: XdpContext) -> u32 {
    // SAFETY: the helper checks the room. Where there is no metadata it refuses, at about the same cost.
    let _: i64 = unsafe { bpf_xdp_adjust_meta(ctx.ctx, size_of::<Handover>() as i32) };
    generate_xdp::<false>(&ctx)
}

/// As [`xdp_gen_v4`].
#[xdp(frags)]
pub fn xdp_gen_v6(ctx: XdpContext) -> u32 {
    generate_xdp::<true>(&ctx)
}

#[inline(always)]
fn generate_xdp<const V6: bool>(ctx: &XdpContext) -> u32 {
    if generate::<V6>(ctx.data(), ctx.data_end(), End::Source).is_none() {
        return XDP_ABORTED;
    }
    // SAFETY: nothing here has a destructor.
    unsafe { XDP_TARGET.tail_call(ctx, 0) };
    XDP_ABORTED
}

/// Another packet to a client each time, then the program under test.
#[classifier]
pub fn tc_gen_v4(ctx: TcContext) -> i32 {
    if generate::<false>(ctx.data(), ctx.data_end(), End::Destination).is_none() {
        return TC_ACT_SHOT;
    }
    // SAFETY: nothing here has a destructor.
    unsafe { TC_TARGET.tail_call(&ctx, 0) };
    TC_ACT_SHOT
}

/// The packet's length, where a helper takes it: the verifier wants to see its bounds.
#[inline(always)]
fn length_of(original: &Original) -> Option<u32> {
    let length = original.length;
    (42..=ORIGINAL_MAX as u32)
        .contains(&length)
        .then_some(length)
}

/// The packet as it was, from another client each time, then the program under test.
#[xdp(frags)]
pub fn xdp_gen_shake(ctx: XdpContext) -> u32 {
    if gen_handshake(&ctx).is_none() {
        return XDP_ABORTED;
    }
    // SAFETY: nothing here has a destructor.
    unsafe { XDP_TARGET.tail_call(&ctx, 0) };
    XDP_ABORTED
}

#[inline(always)]
fn gen_handshake(ctx: &XdpContext) -> Option<()> {
    let original = ORIGINAL.get(0)?;
    let length = length_of(original)?;
    // SAFETY: takes away the last run's metadata, if there is some; packet addresses are read below.
    let _: i64 = unsafe { bpf_xdp_adjust_meta(ctx.ctx, size_of::<Handover>() as i32) };
    // SAFETY: the helpers check lengths; packet addresses are read below.
    unsafe {
        let missing = length as i32 - bpf_xdp_get_buff_len(ctx.ctx) as i32;
        if missing != 0 && bpf_xdp_adjust_tail(ctx.ctx, missing) != 0 {
            return None;
        }
        let bytes = original.bytes.as_ptr().cast_mut().cast();
        if bpf_xdp_store_bytes(ctx.ctx, 0, bytes, length) != 0 {
            return None;
        }
    }
    let next = next()?;
    let (data, end) = (ctx.data(), ctx.data_end());
    let [source, _, ports, second] = read::<[u32; 4]>(data + 26, end)?;
    let (address, port) = (next.address.to_be(), next.port);
    let new_ports = (u32::from_be(ports) & 0xffff | u32::from(port) << 16).to_be();
    let mut delta = difference([source, ports], [address, new_ports]);
    if original.cookie != 0 {
        let [caller_id] = read::<[u32; 1]>(data + 82, end)?;
        let client = [0, 0, 0xffff_u32.to_be(), address];
        // SAFETY: takes no arguments.
        let now = unsafe { bpf_ktime_get_coarse_ns() };
        let secrets = GEN_SECRETS.get(0)?;
        let cookie = srt::cookie(secrets, client, port, u32::from_be(caller_id), now).to_be();
        delta = delta.wrapping_add(u64::from(cookie));
        write(data + 86, end, [cookie])?;
    }
    write(data + 26, end, [address])?;
    write(data + 34, end, [new_ports])?;
    let checksum = (u32::from_be(second) as u16).to_be();
    write(data + 40, end, [update_udp(checksum, delta)])
}

/// The packet as it was, to another client each time, then the program under test.
#[classifier]
pub fn tc_gen_shake(ctx: TcContext) -> i32 {
    if gen_answer(&ctx).is_none() {
        return TC_ACT_SHOT;
    }
    // SAFETY: nothing here has a destructor.
    unsafe { TC_TARGET.tail_call(&ctx, 0) };
    TC_ACT_SHOT
}

#[inline(always)]
fn gen_answer(ctx: &TcContext) -> Option<()> {
    let original = ORIGINAL.get(0)?;
    let length = length_of(original)?;
    let skb = ctx.skb.skb;
    // SAFETY: the helpers check lengths; packet addresses are read below.
    unsafe {
        if (*skb).len != length && bpf_skb_change_tail(skb, length, 0) != 0 {
            return None;
        }
        let bytes = original.bytes.as_ptr().cast();
        if bpf_skb_store_bytes(skb.cast(), 0, bytes, length, 0) != 0 {
            return None;
        }
    }
    generate::<false>(ctx.data(), ctx.data_end(), End::Destination)
}

/// Another IPv4 data packet each time, sent out of [`LIVE_PORT`] with right checksums.
#[xdp(frags)]
pub fn xdp_live(ctx: XdpContext) -> u32 {
    live(ctx.data(), ctx.data_end()).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn live(data: usize, end: usize) -> Option<u32> {
    let next = next()?;
    let template = TEMPLATE.get(0)?;
    write(data, end, template.words)?;
    let sequence = next.sequence?.to_be();
    // The template has port and sequence number 0; one address serves all flows.
    let port = next.port;
    let [checksum] = read::<[u16; 1]>(data + 40, end)?;
    let delta = u64::from(port.to_be()) + u64::from(sequence);
    write(data + 34, end, [port.to_be()])?;
    write(data + 40, end, [update_udp(checksum, delta)])?;
    write(data + 42, end, [sequence])?;
    Some(
        LIVE_PORT
            .redirect(0, u64::from(XDP_ABORTED))
            .unwrap_or(XDP_ABORTED),
    )
}

/// The kernel lets only GPL-compatible programs call some helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
