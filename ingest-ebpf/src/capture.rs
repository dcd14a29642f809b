//! Copies packets of the marked flow into `CAPTURES`, and sets the mark.

use core::ptr;

use aya_ebpf::{
    bindings::{
        __sk_buff,
        xdp_action::{XDP_DROP, XDP_PASS},
        xdp_md,
    },
    programs::XdpContext,
};
use ingest_common::{
    abi::{
        CAPTURE_HEADERS, CAPTURED_DOWN, CAPTURED_UP, Captured, FLOW_CAPTURED, FlowKey, FlowState,
    },
    packet::Frame,
    steer::Copied,
};

use crate::{
    frame::{Hook, Skb, Xdp, XdpFrame},
    maps::{CAPTURE, CAPTURES, FLOWS},
    part,
};

/// A packet on its way to the pod. Not inlined: it is nobody's business whose flow has no mark.
#[inline(never)]
pub fn up(ctx: *mut xdp_md) -> u32 {
    copy::<Xdp, { Xdp::COPY_WHOLE }>(ctx, CAPTURED_UP)
}

/// A packet on its way to the client. Not inlined, as the other.
#[inline(never)]
pub fn down(ctx: *mut __sk_buff) -> u32 {
    copy::<Skb, { Skb::COPY_WHOLE }>(ctx, CAPTURED_DOWN)
}

#[inline(always)]
fn copy<H: Hook, const WHOLE: usize>(ctx: *mut H::Context, direction: u8) -> u32 {
    let copied = part::capture(u32::from(direction));
    if copied == Copied::Headers as u32 {
        record::<H, CAPTURE_HEADERS>(ctx, direction);
    } else if copied == Copied::Whole as u32 {
        record::<H, WHOLE>(ctx, direction);
    }
    copied
}

#[inline(always)]
fn record<H: Hook, const N: usize>(ctx: *mut H::Context, direction: u8) {
    let Some(mut entry) = CAPTURES.reserve_untyped::<Captured<N>>(0) else {
        if let Some(capture) = CAPTURE.get_ptr_mut(0) {
            // SAFETY: a field of a map's value; another CPU may count at the same time, which costs a count.
            unsafe { (*capture).lost += 1 };
        }
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted, and its bytes have room for N.
    let kept = unsafe { H::copy(ctx, ptr::addr_of_mut!((*record).bytes).cast(), N) };
    if kept == 0 {
        entry.discard(0);
        return;
    }
    // SAFETY: as above. Nothing reads the bytes behind those kept.
    unsafe {
        (*record).time_ns = aya_ebpf::helpers::bpf_ktime_get_ns();
        (*record).length = H::length(ctx) as u32;
        (*record).kept = kept as u16;
        (*record).direction = direction;
        (*record)._pad = 0;
    }
    entry.submit(0);
}

/// Sets the mark of a flow, or takes it away: the frame holds the flow's key, the caller's socket id (0: any), and 1
/// or 0. Passes where it has done so, drops where there is no such flow.
///
/// A program, since a write of the whole value from user space would lose what is counted meanwhile.
#[inline(always)]
pub fn mark(ctx: &XdpContext) -> u32 {
    let frame = XdpFrame::new(ctx.ctx);
    let (Ok(key), Ok([caller_id, on])) = (frame.words::<5>(0), frame.words::<2>(20)) else {
        return XDP_DROP;
    };
    // SAFETY: a key is 20 bytes of integers, aligned to 4.
    let key = unsafe { core::mem::transmute::<[u32; 5], FlowKey>(key) };
    let Some(flow) = FLOWS.get_ptr_mut(key) else {
        return XDP_DROP;
    };
    // SAFETY: checked against null; only XDP writes the marks of a flow that is there.
    let flow = unsafe { &mut *flow };
    if on == 0 {
        flow.marks &= !FLOW_CAPTURED;
        return XDP_PASS;
    }
    if flow.state != FlowState::Established as u8 {
        return XDP_DROP;
    }
    if caller_id != 0 && caller_id != flow.caller_id {
        return XDP_DROP;
    }
    flow.marks |= FLOW_CAPTURED;
    XDP_PASS
}
