//! Bitrates: packets of an established session against its route's quota.
//!
//! Owns the two bounds of a packet. Must not decide which packets are measured, nor what becomes of one that is over.

use super::Node;
use crate::{abi::Flow, rate, reason::DropReason};

/// Whether a packet with `bytes` of UDP payload is within the bitrates of `flow`, which is policed, and of its route. A
/// packet that is not costs neither of them anything: it is not sent.
#[inline(always)]
pub fn police<N: Node>(node: &N, flow: &mut Flow, bytes: u16, now: u64) -> Result<(), DropReason> {
    let route = flow.route;
    let Some(quota) = node.quota(route) else {
        return Ok(());
    };
    let stream_ns = cost(bytes, quota.stream_byte_cost);
    let route_ns = cost(bytes, quota.route_byte_cost);
    let burst_ns = quota.bitrate_burst_ns;
    drop(quota);
    let mut stamp = flow.bytes_ns;
    if !rate::allow(&mut stamp, now, stream_ns, burst_ns) {
        node.count_route(route, |stats| {
            stats.over_stream_packets += 1;
            stats.over_stream_bytes += u64::from(bytes);
        });
        return Err(DropReason::QuotaStreamBitrate);
    }
    if route_ns != 0 {
        let Some(mut state) = node.route_state(route) else {
            return Ok(());
        };
        let allowed = rate::allow(&mut state.bytes_ns, now, route_ns, burst_ns);
        drop(state);
        if !allowed {
            node.count_route(route, |stats| {
                stats.over_route_packets += 1;
                stats.over_route_bytes += u64::from(bytes);
            });
            return Err(DropReason::QuotaRouteBitrate);
        }
    }
    flow.bytes_ns = stamp;
    Ok(())
}

/// Nanoseconds that `bytes` take.
#[inline(always)]
fn cost(bytes: u16, byte_cost: u64) -> u64 {
    u64::from(bytes).wrapping_mul(byte_cost) >> 16
}
