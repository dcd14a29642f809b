//! Pods' packets at tc: what the decision calls for is done here.
//!
//! Logs nothing: the formatting would not fit the stack beside the rest, and what is dropped here is counted and, where it
//! matters, an event.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT},
    helpers::{bpf_redirect, bpf_redirect_peer},
};
use ingest_common::{
    packet::Truncated,
    reason::DropReason,
    steer::{self, Hook, Node, Reply, Response, Rewrite},
};

use crate::{NEXT, capture, count_drop, frame::SkbFrame, node::Kernel, skb};

/// Decides about a pod's packet, and carries it out.
#[inline(always)]
pub fn decide(ctx: *mut __sk_buff, hook: Hook) -> i32 {
    let port = match hook {
        Hook::PodPort(ifindex) => ifindex,
        Hook::Uplink => 0,
    };
    let done = match flow(ctx, port) {
        HANDSHAKE => match handshake(ctx, port) {
            REPLAY => replay(ctx, port),
            done => done,
        },
        done => done,
    };
    // The least verdict is NEXT.
    if done < CAPTURED + NEXT {
        return done;
    }
    capture::down(ctx);
    done - CAPTURED
}

/// No verdict of tc's: the packet is a handshake.
const HANDSHAKE: i32 = 256;
/// Nor this: the workspace tells what to make of it.
const REPLAY: i32 = 257;
/// Added to a verdict: the flow is marked for capture.
const CAPTURED: i32 = 1024;

/// Not inlined, like its siblings: together they would not fit the 512 bytes of a program's stack. `port`: the pod port,
/// 0 at the uplink.
#[inline(never)]
fn flow(ctx: *mut __sk_buff, port: u32) -> i32 {
    decide_of::<false>(ctx, port)
}

#[inline(never)]
fn handshake(ctx: *mut __sk_buff, port: u32) -> i32 {
    decide_of::<true>(ctx, port)
}

#[inline(never)]
fn replay(ctx: *mut __sk_buff, port: u32) -> i32 {
    give_back(ctx, port).unwrap_or_else(|Truncated| undeliverable())
}

#[inline(always)]
fn decide_of<const HANDSHAKES: bool>(ctx: *mut __sk_buff, port: u32) -> i32 {
    let hook = if port == 0 {
        Hook::Uplink
    } else {
        Hook::PodPort(port)
    };
    let frame = SkbFrame::pulled(ctx);
    let done = match steer::egress_of::<HANDSHAKES, _, _>(&frame, &Kernel, hook) {
        Reply::Pass => return NEXT,
        Reply::Handshake => return HANDSHAKE,
        Reply::Drop(reason) => {
            count_drop(reason as u8);
            return TC_ACT_SHOT;
        }
        Reply::Send(rewrite) => {
            let captured = if rewrite.captured { CAPTURED } else { 0 };
            send(ctx, hook, &rewrite).map(|verdict| verdict + captured)
        }
        Reply::Replay(replay) => {
            let Some(space) = Kernel.workspace() else {
                return undeliverable();
            };
            space.replay = replay;
            return REPLAY;
        }
    };
    done.unwrap_or_else(|Truncated| undeliverable())
}

#[inline(always)]
fn undeliverable() -> i32 {
    count_drop(DropReason::Undeliverable as u8);
    TC_ACT_SHOT
}

#[inline(always)]
fn send(ctx: *mut __sk_buff, hook: Hook, rewrite: &Rewrite) -> Result<i32, Truncated> {
    skb::rewrite_source(ctx, rewrite)?;
    if hook == Hook::Uplink {
        return Ok(NEXT);
    }
    skb::address_to(ctx, &rewrite.path)?;
    skb::push_tags(ctx, &rewrite.path)?;
    // SAFETY: the helper takes plain values. It leaves by the uplink's egress, past the host's netfilter, which
    // never saw the request and would drop or masquerade the reply.
    Ok(unsafe { bpf_redirect(rewrite.path.ifindex, 0) } as i32)
}

#[inline(always)]
fn give_back(ctx: *mut __sk_buff, port: u32) -> Result<i32, Truncated> {
    let response = Response::read(&SkbFrame::pulled(ctx)).ok_or(Truncated)?;
    skb::replay(ctx, &response)?;
    // SAFETY: the kernel passes a valid context; the helpers take plain values.
    Ok(unsafe {
        if port != 0 {
            // Past the pod port's own egress, where a policy would meet a packet that it never let in.
            bpf_redirect_peer(port, 0)
        } else {
            // As if the client had sent it: the host routes it to the pod once more.
            bpf_redirect((*ctx).ifindex, u64::from(BPF_F_INGRESS))
        }
    } as i32)
}
