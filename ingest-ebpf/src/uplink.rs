//! The uplink's two programs: XDP decides, tc carries out what XDP cannot.

use aya_ebpf::{
    bindings::{
        TC_ACT_SHOT,
        xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
        xdp_md,
    },
    helpers::{
        bpf_clone_redirect, bpf_redirect, bpf_redirect_peer, bpf_xdp_adjust_head,
        bpf_xdp_adjust_meta,
    },
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::{debug, info};
use ingest_common::{
    abi::{
        self, AnswerBy, DeliveryMode, EndpointKey, Explain, HANDOVER_ANSWER, HANDOVER_CUT,
        HANDOVER_PEER, Handover,
    },
    packet::{ETHERNET, Frame, IPV4, IPV6, Ip, Link, Packet, Truncated},
    reason::DropReason,
    steer::{self, Action, CallerShutdown, Decision, Delivery, Node, Verdict},
};

use crate::{
    NEXT, capture, count_drop, count_pass,
    frame::{SkbFrame, XdpFrame},
    maps::{EXPLAIN, NO_METADATA, POD_PORTS},
    node::Kernel,
    skb,
};

#[inline(always)]
pub fn ingest(ctx: &XdpContext) -> u32 {
    let Ok(link) = Link::read(&XdpFrame::new(ctx.ctx)) else {
        return XDP_PASS;
    };
    let done = match (link.kind, link.l3) {
        (IPV4, ETHERNET) => ingest_v4(ctx.ctx),
        (IPV6, ETHERNET) => ingest_v6(ctx.ctx),
        (IPV4, _) => ingest_tagged_v4(ctx.ctx),
        (IPV6, _) => ingest_tagged_v6(ctx.ctx),
        _ => return XDP_PASS,
    };
    if done != HANDSHAKE {
        if done & CAPTURED == 0 {
            return done;
        }
        capture::up(ctx.ctx);
        return done ^ CAPTURED;
    }
    // Each from here, where the stack of the one before is free again.
    let decision = match (link.kind, link.l3) {
        (IPV4, ETHERNET) => handshake_v4(ctx.ctx),
        (IPV4, _) => handshake_tagged_v4(ctx.ctx),
        (_, ETHERNET) => handshake_v6(ctx.ctx),
        _ => handshake_tagged_v6(ctx.ctx),
    };
    let decision = match Decision::from_word(decision).part() {
        Some(part) => Kernel.decide(part).word(),
        None => decision,
    };
    match (link.kind, link.l3) {
        (IPV4, ETHERNET) => carry_out_v4(ctx.ctx, decision),
        (IPV4, _) => carry_out_tagged_v4(ctx.ctx, decision),
        (_, ETHERNET) => carry_out_v6(ctx.ctx, decision),
        _ => carry_out_tagged_v6(ctx.ctx, decision),
    }
}

/// No action of XDP's: a handshake, nothing done yet.
const HANDSHAKE: u32 = u32::MAX;
/// Beside an action: the flow is marked for capture.
const CAPTURED: u32 = 1 << 8;

/// Not inlined, like its siblings: together they would not fit the 512 bytes of a program's stack.
#[inline(never)]
fn ingest_v4(ctx: *mut xdp_md) -> u32 {
    ingest_of::<IPV4>(&XdpContext::new(ctx), &Link::untagged(IPV4))
}

#[inline(never)]
fn ingest_v6(ctx: *mut xdp_md) -> u32 {
    ingest_of::<IPV6>(&XdpContext::new(ctx), &Link::untagged(IPV6))
}

#[inline(never)]
fn ingest_tagged_v4(ctx: *mut xdp_md) -> u32 {
    let Ok(link) = Link::read(&XdpFrame::new(ctx)) else {
        return XDP_PASS;
    };
    ingest_of::<IPV4>(&XdpContext::new(ctx), &link)
}

#[inline(never)]
fn ingest_tagged_v6(ctx: *mut xdp_md) -> u32 {
    let Ok(link) = Link::read(&XdpFrame::new(ctx)) else {
        return XDP_PASS;
    };
    ingest_of::<IPV6>(&XdpContext::new(ctx), &link)
}

#[inline(never)]
fn handshake_v4(ctx: *mut xdp_md) -> u64 {
    handshake_of::<IPV4>(&XdpContext::new(ctx), &Link::untagged(IPV4))
}

#[inline(never)]
fn handshake_v6(ctx: *mut xdp_md) -> u64 {
    handshake_of::<IPV6>(&XdpContext::new(ctx), &Link::untagged(IPV6))
}

#[inline(never)]
fn handshake_tagged_v4(ctx: *mut xdp_md) -> u64 {
    let Ok(link) = Link::read(&XdpFrame::new(ctx)) else {
        return 0;
    };
    handshake_of::<IPV4>(&XdpContext::new(ctx), &link)
}

#[inline(never)]
fn handshake_tagged_v6(ctx: *mut xdp_md) -> u64 {
    let Ok(link) = Link::read(&XdpFrame::new(ctx)) else {
        return 0;
    };
    handshake_of::<IPV6>(&XdpContext::new(ctx), &link)
}

#[inline(never)]
fn carry_out_v4(ctx: *mut xdp_md, decision: u64) -> u32 {
    carry_out::<IPV4>(&XdpContext::new(ctx), &Link::untagged(IPV4), decision)
}

#[inline(never)]
fn carry_out_v6(ctx: *mut xdp_md, decision: u64) -> u32 {
    carry_out::<IPV6>(&XdpContext::new(ctx), &Link::untagged(IPV6), decision)
}

#[inline(never)]
fn carry_out_tagged_v4(ctx: *mut xdp_md, decision: u64) -> u32 {
    let Ok(link) = Link::read(&XdpFrame::new(ctx)) else {
        return XDP_PASS;
    };
    carry_out::<IPV4>(&XdpContext::new(ctx), &link, decision)
}

#[inline(never)]
fn carry_out_tagged_v6(ctx: *mut xdp_md, decision: u64) -> u32 {
    let Ok(link) = Link::read(&XdpFrame::new(ctx)) else {
        return XDP_PASS;
    };
    carry_out::<IPV6>(&XdpContext::new(ctx), &link, decision)
}

#[inline(always)]
fn ingest_of<const FAMILY: u16>(ctx: &XdpContext, link: &Link) -> u32 {
    let mut frame = XdpFrame::new(ctx.ctx);
    let uplink = || ctx.ingress_ifindex() as u32;
    let outcome = steer::ingress_of::<FAMILY, _, _>(&mut frame, &Kernel, link, uplink);
    if outcome.is_handshake() {
        return HANDSHAKE;
    }
    let verdict = outcome.unpack();
    if Kernel.dry_run() {
        explain(&verdict);
        return XDP_PASS;
    }
    let way = &verdict.way;
    if verdict.action == Action::Cut {
        info!(
            ctx,
            "session cut: service {} slot {}", way.service, way.slot
        );
        return match strip(ctx, way) {
            Ok(()) => pass_with(
                ctx,
                Handover {
                    kind: HANDOVER_CUT,
                    ifindex: way.ifindex,
                },
            ),
            Err(reason) => drop(ctx, reason as u8),
        };
    }
    let done = end(ctx, &verdict);
    if way.captured && verdict.action == Action::Deliver {
        done | CAPTURED
    } else {
        done
    }
}

#[inline(always)]
fn handshake_of<const FAMILY: u16>(ctx: &XdpContext, link: &Link) -> u64 {
    let uplink = || ctx.ingress_ifindex() as u32;
    steer::handshake_of::<FAMILY, _, _>(&XdpFrame::new(ctx.ctx), &Kernel, link, uplink).word()
}

#[inline(always)]
fn carry_out<const FAMILY: u16>(ctx: &XdpContext, link: &Link, decision: u64) -> u32 {
    let mut frame = XdpFrame::new(ctx.ctx);
    let decision = Decision::from_word(decision);
    let verdict = steer::carry_out::<FAMILY, _, _>(&mut frame, &Kernel, link, decision).unpack();
    if Kernel.dry_run() {
        explain(&verdict);
        return XDP_PASS;
    }
    if verdict.action == Action::Answer {
        if verdict.reason != 0 {
            count_drop(verdict.reason);
        }
        return answer(ctx, &verdict.way);
    }
    end(ctx, &verdict)
}

/// What both come to.
#[inline(always)]
fn end(ctx: &XdpContext, verdict: &Verdict) -> u32 {
    match verdict.action {
        Action::Drop => drop(ctx, verdict.reason),
        Action::Deliver => {
            deliver(ctx, &verdict.way).unwrap_or_else(|reason| drop(ctx, reason as u8))
        }
        _ => {
            if verdict.reason != 0 {
                count_pass(verdict.reason);
            }
            XDP_PASS
        }
    }
}

#[inline(always)]
fn drop(ctx: &XdpContext, reason: u8) -> u32 {
    count_drop(reason);
    debug!(ctx, "dropped: reason {}", reason);
    XDP_DROP
}

#[inline(always)]
fn deliver(ctx: &XdpContext, way: &Delivery) -> Result<u32, DropReason> {
    strip(ctx, way)?;
    match way.mode {
        DeliveryMode::Redirect => POD_PORTS
            .redirect(u32::from(way.slot), u64::from(XDP_DROP))
            .map_err(|_| DropReason::Undeliverable),
        DeliveryMode::Peer => Ok(pass_with(
            ctx,
            Handover {
                kind: HANDOVER_PEER,
                ifindex: way.ifindex,
            },
        )),
        DeliveryMode::Stack => Ok(XDP_PASS),
        DeliveryMode::None => Err(DropReason::Undeliverable),
    }
}

/// Sends the packet, which is now our answer, back to the client.
#[inline(always)]
fn answer(ctx: &XdpContext, way: &Delivery) -> u32 {
    if Kernel.config().answer_by == AnswerBy::Xdp as u32 {
        return XDP_TX;
    }
    pass_with(
        ctx,
        Handover {
            kind: HANDOVER_ANSWER,
            ifindex: way.ifindex,
        },
    )
}

/// Removes VLAN tags; the Ethernet addresses already stand behind them.
#[inline(always)]
fn strip(ctx: &XdpContext, way: &Delivery) -> Result<(), DropReason> {
    if way.strip == 0 {
        return Ok(());
    }
    // SAFETY: the helper checks the length; no packet address is used afterwards.
    let result = unsafe { bpf_xdp_adjust_head(ctx.ctx, i32::from(way.strip)) };
    if result == 0 {
        Ok(())
    } else {
        Err(DropReason::Undeliverable)
    }
}

/// Passes the packet on with `handover` in front of it, for tc.
#[inline(always)]
pub fn pass_with(ctx: &XdpContext, handover: Handover) -> u32 {
    // SAFETY: the helper checks the room; packet addresses are read anew below.
    if unsafe { bpf_xdp_adjust_meta(ctx.ctx, -(size_of::<Handover>() as i32)) } != 0 {
        // An array's only entry: this cannot fail.
        let _: Result<(), i32> = NO_METADATA.set(0, 1, 0);
        return XDP_PASS;
    }
    let (start, end) = (ctx.metadata(), ctx.metadata_end());
    if start + size_of::<Handover>() <= end {
        // SAFETY: the comparison proves that the metadata has room; the kernel aligns it to 4.
        unsafe { core::ptr::write(start as *mut Handover, handover) };
    }
    XDP_PASS
}

#[inline(always)]
fn explain(verdict: &Verdict) {
    let way = &verdict.way;
    let explain = Explain {
        verdict: verdict.action as u8,
        reason: verdict.reason,
        by_flow: u8::from(way.by_flow),
        mode: way.mode as u8,
        slot: way.slot,
        service: way.service,
        route: way.route,
        rejection: way.rejection,
        _pad: 0,
    };
    // An array's only entry: this cannot fail.
    let _: Result<(), i32> = EXPLAIN.set(0, explain, 0);
}

#[inline(always)]
pub fn hand_over(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the kernel passes a valid context; its fields are read through the verifier's rewriting.
    let (meta, data) = unsafe { ((*skb).data_meta as usize, (*skb).data as usize) };
    if meta + size_of::<Handover>() <= data {
        // SAFETY: the comparison proves that the metadata has these bytes; the kernel aligns it to 4.
        let handover = unsafe { core::ptr::read(meta as *const Handover) };
        return match handover.kind {
            // SAFETY: the helper takes plain values.
            HANDOVER_PEER => unsafe { bpf_redirect_peer(handover.ifindex, 0) as i32 },
            // SAFETY: as above. Out of the interface that it came in by.
            HANDOVER_ANSWER => unsafe { bpf_redirect((*skb).ifindex, 0) as i32 },
            HANDOVER_CUT => cut(ctx, &mut SkbFrame::pulled(skb)).unwrap_or(TC_ACT_SHOT),
            _ => NEXT,
        };
    }
    if NO_METADATA.get(0).is_none_or(|missing| *missing == 0) {
        return NEXT;
    }
    let mut frame = SkbFrame::pulled(skb);
    cut(ctx, &mut frame)
        .or_else(|| by_address(&frame))
        .unwrap_or(NEXT)
}

/// Without metadata: the packet's address tells the pod.
#[inline(always)]
fn by_address(frame: &SkbFrame) -> Option<i32> {
    let link = Link::read(frame).ok()?;
    if link.kind != IPV4 && link.kind != IPV6 {
        return None;
    }
    let Ok(Ip::Packet(packet)) = Packet::read(frame, &link, link.kind) else {
        return None;
    };
    if packet.protocol != abi::UDP {
        return None;
    }
    let [ports] = frame.words::<1>(packet.l4).ok()?;
    let port = u32::from_be(ports) as u16;
    let slot = Kernel.endpoint(&EndpointKey::new(packet.destination(), port, abi::UDP))?;
    let backend = Kernel.backend(slot)?;
    if backend.mode == DeliveryMode::Stack as u8 || backend.ifindex == 0 {
        return None;
    }
    // SAFETY: the helper takes plain values.
    Some(unsafe { bpf_redirect_peer(backend.ifindex, 0) as i32 })
}

/// Sends a cut session's SHUTDOWNs.
#[inline(always)]
fn cut(ctx: &TcContext, frame: &mut SkbFrame) -> Option<i32> {
    let shutdown = steer::caller_shutdown(frame, &Kernel)?;
    Some(send_shutdowns(ctx, &shutdown).unwrap_or_else(|Truncated| {
        count_drop(DropReason::Undeliverable as u8);
        TC_ACT_SHOT
    }))
}

#[inline(always)]
fn send_shutdowns(ctx: &TcContext, shutdown: &CallerShutdown) -> Result<i32, Truncated> {
    let skb = ctx.skb.skb;
    skb::push_tags(skb, &shutdown.path)?;
    // SAFETY: the helper takes plain values; packet addresses are read anew below.
    let sent = unsafe { bpf_clone_redirect(skb, shutdown.path.ifindex, 0) };
    if sent != 0 {
        debug!(
            ctx,
            "SHUTDOWN not sent by interface {}: {}", shutdown.path.ifindex, sent
        );
    }
    if !shutdown.tells_listener {
        return Ok(TC_ACT_SHOT);
    }
    let listener = &shutdown.listener;
    skb::pop_tags(skb, &shutdown.path)?;
    steer::listener_shutdown(&mut SkbFrame::pulled(skb), listener)?;
    if listener.mode == DeliveryMode::Stack {
        return Ok(NEXT);
    }
    // SAFETY: the helper takes plain values.
    Ok(unsafe { bpf_redirect_peer(listener.ifindex, 0) as i32 })
}
