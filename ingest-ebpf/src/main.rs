//! The kernel programs. Each is a thin shell: packet and maps behind the traits of `ingest_common`, which decides;
//! what is done here is what only a helper can do.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(
    unsafe_code,
    reason = "every helper call and packet access is unsafe; each block says why it holds"
)]
#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]
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

mod capture;
mod frame;
mod maps;
mod node;
mod part;
mod probe;
mod reply;
mod skb;
mod uplink;

use aya_ebpf::{
    bindings::TC_ACT_UNSPEC,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ingest_common::steer::Hook;

/// tc's verdict on what is not ours to decide about: the programs behind ours, a CNI's, have their say. `TC_ACT_OK` would
/// pass it at once, past them.
const NEXT: i32 = TC_ACT_UNSPEC;

/// Clients' packets.
#[cfg_attr(not(feature = "linux-5-10"), xdp(frags))]
#[cfg_attr(feature = "linux-5-10", xdp)]
pub fn xdp_ingest(ctx: XdpContext) -> u32 {
    uplink::ingest(&ctx)
}

/// Packets that XDP handed over: into the pod, or a SHUTDOWN for both ends.
#[classifier]
pub fn tc_uplink_in(ctx: TcContext) -> i32 {
    uplink::hand_over(&ctx)
}

/// Pods' packets, at their port.
#[classifier]
pub fn tc_pod(ctx: TcContext) -> i32 {
    // SAFETY: the kernel passes a valid context.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    reply::decide(ctx.skb.skb, Hook::PodPort(ifindex))
}

/// Pods' packets that the host has routed (`stack`).
#[classifier]
pub fn tc_uplink_out(ctx: TcContext) -> i32 {
    reply::decide(ctx.skb.skb, Hook::Uplink)
}

/// Carries the agent's probe into a pod; run by the agent, never attached. `frags`, as every program that shares
/// POD_PORTS must be.
#[cfg_attr(not(feature = "linux-5-10"), xdp(frags))]
#[cfg_attr(feature = "linux-5-10", xdp)]
pub fn xdp_probe(ctx: XdpContext) -> u32 {
    probe::send(&ctx)
}

/// Marks a flow for capture; run by the CLI, never attached.
#[xdp]
pub fn xdp_mark(ctx: XdpContext) -> u32 {
    capture::mark(&ctx)
}

/// Adds one to a reason's counter.
#[inline(always)]
fn count_drop(reason: u8) {
    if let Some(counter) = maps::DROPS.get_ptr_mut(u32::from(reason)) {
        // SAFETY: a value of a per-CPU array: only this CPU writes it.
        unsafe { *counter += 1 };
    }
}

/// Adds one to a reason's counter.
#[inline(always)]
fn count_pass(reason: u8) {
    if let Some(counter) = maps::PASSES.get_ptr_mut(u32::from(reason)) {
        // SAFETY: a value of a per-CPU array: only this CPU writes it.
        unsafe { *counter += 1 };
    }
}

/// The kernel lets only GPL-compatible programs call some helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
