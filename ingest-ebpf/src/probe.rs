//! The agent's proof of a delivery mode: an echo request that goes into the pod exactly as a client's packet would.

use aya_ebpf::{bindings::xdp_action::XDP_DROP, programs::XdpContext};
use ingest_common::{
    abi::{DeliveryMode, HANDOVER_PEER, Handover},
    packet::{Frame, IPV4},
    steer::Node,
};

use crate::{frame::XdpFrame, maps::POD_PORTS, node::Kernel, uplink};

/// The frame names its slot in the echo identifier and the mode in the last byte of its source address.
#[inline(always)]
pub fn send(ctx: &XdpContext) -> u32 {
    let frame = XdpFrame::new(ctx.ctx);
    let Ok([_, _, _, _, _, mode, kind]) = frame.halves::<7>(0) else {
        return XDP_DROP;
    };
    let id = if u16::from_be(kind) == IPV4 {
        frame.halves::<1>(38)
    } else {
        frame.halves::<1>(58)
    };
    let Ok([slot]) = id else { return XDP_DROP };
    let slot = u16::from_be(slot);
    let Some(backend) = Kernel.backend(slot) else {
        return XDP_DROP;
    };
    match DeliveryMode::from_u8(u16::from_be(mode) as u8) {
        DeliveryMode::Redirect => POD_PORTS
            .redirect(u32::from(slot), u64::from(XDP_DROP))
            .unwrap_or(XDP_DROP),
        DeliveryMode::Peer => uplink::pass_with(
            ctx,
            Handover {
                kind: HANDOVER_PEER,
                ifindex: backend.ifindex,
            },
        ),
        _ => XDP_DROP,
    }
}
