//! Ending sessions: SHUTDOWN to the caller, and to the listener where it may live.
//!
//! A caller's own packet is turned into the listener's SHUTDOWN by XDP, cut to size and addressed to the pod. tc at
//! the uplink finds its flow, sends a copy rewritten as the caller's SHUTDOWN out again, and then lets the pod's go
//! on or drops it. One packet ends both sides, on any driver: `XDP_TX` would lose the answer in silence on a veth
//! whose far end carries no XDP program.

use super::Node;
use crate::{
    abi::{
        self, Address, Backend, CutReason, DeliveryMode, EndpointKey, EventKind, Flow, FlowKey,
        FlowState, Path, ReturnKey, words_from_address,
    },
    packet::{Datagram, Frame, IPV4, IPV6, Ip, Link, Packet, Truncated, finish_udp, fold, sum},
    reason::DropReason,
    srt,
};

/// Bytes of UDP that carry a SHUTDOWN.
const LENGTH: u16 = 8 + srt::SHUTDOWN_LENGTH;

/// Ends `flow` for `reason` (a [`CutReason`]'s number) if it lived. An error where this packet, of `payload` bytes, is
/// not to become its SHUTDOWN: one was sent just now, or it is too short to hold one.
#[inline(always)]
pub(super) fn cut<N: Node>(
    node: &N,
    flow: &mut Flow,
    key: &FlowKey,
    payload: u16,
    reason: u8,
    now: u64,
) -> Result<(), DropReason> {
    if node.dry_run() {
        return Ok(());
    }
    if flow.state == FlowState::Established as u8 {
        flow.state = FlowState::Cut as u8;
        flow.cut_reason = reason;
        flow.ended_ns = now;
        leave(node, flow);
        node.count(key.service, flow.slot, |traffic| traffic.cut += 1);
        emit(node, EventKind::FlowCut, reason, flow, key, now);
    }
    // A lost SHUTDOWN heals itself: while packets still come, another follows.
    let due = now.saturating_sub(flow.shutdown_ns) >= node.config().shutdown_interval_ns;
    if !due || payload < srt::SHUTDOWN_LENGTH {
        return Err(DropReason::FlowCut);
    }
    flow.shutdown_ns = now;
    flow.shutdowns += 1;
    node.count(key.service, flow.slot, |traffic| traffic.shutdowns += 1);
    Ok(())
}

/// Makes the caller's packet the SHUTDOWN for its listener.
#[inline(always)]
pub(super) fn rewrite<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    key: &FlowKey,
    backend: &Backend,
    listener_id: u32,
) -> Result<(), DropReason> {
    frame.truncate(packet.l4 + LENGTH as usize)?;
    let from = (key.address, key.port);
    let to = (backend.address, backend.port);
    write(frame, packet.l3, packet.v6, from, to, listener_id)?;
    Ok(())
}

/// Notes that one of the session's ends sent SHUTDOWN.
#[inline(always)]
pub(super) fn end<N: Node>(node: &N, flow: &mut Flow, key: &FlowKey, now: u64) {
    if flow.state != FlowState::Established as u8 {
        return;
    }
    flow.state = FlowState::Ended as u8;
    flow.ended_ns = now;
    leave(node, flow);
    node.count(key.service, flow.slot, |traffic| traffic.ended += 1);
    emit(node, EventKind::FlowEnded, 0, flow, key, now);
}

/// Counts a session out that is no longer established. Flows of plain UDP were never counted in.
#[inline(always)]
fn leave<N: Node>(node: &N, flow: &Flow) {
    if flow.listener_id != 0 {
        node.session_ended(flow.slot, flow.route);
    }
}

/// Tells a change of a flow.
#[inline(always)]
pub(super) fn emit<N: Node>(
    node: &N,
    kind: EventKind,
    reason: u8,
    flow: &Flow,
    key: &FlowKey,
    now: u64,
) {
    node.emit(|event| {
        event.time_ns = now;
        event.address = key.address;
        event.port = key.port;
        event.service = key.service;
        event.slot = flow.slot;
        event.kind = kind as u8;
        event.reason = reason;
        event.caller_id = flow.caller_id;
        event.listener_id = flow.listener_id;
        event.route = flow.route;
    });
}

/// What tc at the uplink does once the frame is the caller's SHUTDOWN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerShutdown {
    /// The way back to the caller.
    pub path: Path,
    /// Whether the listener is told as well, by [`listener_shutdown`] on the same frame.
    pub tells_listener: bool,
    /// How. Always set: verifiers before Linux 6.3 refuse to copy what was never written.
    pub listener: ListenerShutdown,
}

/// The pod's end of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerShutdown {
    /// How it gets there.
    pub mode: DeliveryMode,
    /// The pod port.
    pub ifindex: u32,
    v6: bool,
    client: (Address, u16),
    backend: (Address, u16),
    socket_id: u32,
}

/// Turns a frame that XDP has marked as a cut (see [`super::Action::Cut`]) into the SHUTDOWN for the caller. `None`: it is
/// not one, and stays as it is.
#[inline(always)]
pub fn caller_shutdown<F: Frame, N: Node>(frame: &mut F, node: &N) -> Option<CallerShutdown> {
    let link = Link::read(frame).ok()?;
    if link.kind != IPV4 && link.kind != IPV6 {
        return None;
    }
    let Ok(Ip::Packet(packet)) = Packet::read(frame, &link, link.kind) else {
        return None;
    };
    if packet.protocol != abi::UDP || packet.length != LENGTH {
        return None;
    }
    let datagram = Datagram::read(frame, &packet).ok()??;
    let [first] = frame.words::<1>(packet.l4 + Datagram::PAYLOAD).ok()?;
    if first != srt::shutdown(0)[0] {
        return None;
    }
    let slot = node.endpoint(&EndpointKey::new(
        packet.destination(),
        datagram.destination_port,
        abi::UDP,
    ))?;
    let client = (packet.source(), datagram.source_port);
    let service = node.returns(&ReturnKey {
        address: client.0,
        port: client.1,
        slot,
    })?;
    let vip = *node.vip(service)?;
    let flow = node.flow(&FlowKey {
        address: client.0,
        port: client.1,
        service,
    })?;
    if flow.state != FlowState::Cut as u8 {
        return None;
    }
    let reason = CutReason::from_u8(flow.cut_reason)?;
    let (path, caller_id) = (flow.path, flow.caller_id);
    let listener_id = flow.listener_id;
    drop(flow);
    let backend = node.backend(slot)?;
    let mode = DeliveryMode::from_u8(backend.mode);
    let tells_listener = reason.listener_may_live() && mode != DeliveryMode::None;
    let listener = ListenerShutdown {
        mode,
        ifindex: backend.ifindex,
        v6: packet.v6,
        client,
        backend: (backend.address, backend.port),
        socket_id: listener_id,
    };
    drop(backend);
    frame
        .set_halves::<6>(0, crate::packet::addresses(path.client_mac, path.node_mac))
        .ok()?;
    write(
        frame,
        packet.l3,
        packet.v6,
        (vip.address, vip.port),
        client,
        caller_id,
    )
    .ok()?;
    Some(CallerShutdown {
        path,
        tells_listener,
        listener,
    })
}

/// Turns the caller's SHUTDOWN, untagged, back into the listener's.
#[inline(always)]
pub fn listener_shutdown<F: Frame>(
    frame: &mut F,
    listener: &ListenerShutdown,
) -> Result<(), Truncated> {
    let ListenerShutdown {
        v6,
        client,
        backend,
        socket_id,
        ..
    } = *listener;
    write(
        frame,
        crate::packet::ETHERNET,
        v6,
        client,
        backend,
        socket_id,
    )
}

/// Writes a whole SHUTDOWN from IP on. Everything is known, so both checksums are computed anew: the packet it
/// replaces may have carried only part of one.
#[inline(always)]
fn write<F: Frame>(
    frame: &mut F,
    l3: usize,
    v6: bool,
    (source, source_port): (Address, u16),
    (destination, destination_port): (Address, u16),
    socket_id: u32,
) -> Result<(), Truncated> {
    const TTL: u32 = 64;
    const DONT_FRAGMENT: u32 = 0x4000;
    let (source, destination) = (words_from_address(source), words_from_address(destination));
    let udp = u32::from(abi::UDP);
    let (l4, addresses) = if v6 {
        let next = (u32::from(LENGTH) << 16 | udp << 8 | TTL).to_be();
        let [s0, s1, s2, s3] = source;
        let [d0, d1, d2, d3] = destination;
        frame.set_words::<10>(
            l3,
            [
                0x6000_0000_u32.to_be(),
                next,
                s0,
                s1,
                s2,
                s3,
                d0,
                d1,
                d2,
                d3,
            ],
        )?;
        (l3 + 40, sum(source) + sum(destination))
    } else {
        let first = (0x4500_0000 | (20 + u32::from(LENGTH))).to_be();
        let header = [
            first,
            DONT_FRAGMENT.to_be(),
            (TTL << 24 | udp << 16).to_be(),
            source[3],
            destination[3],
        ];
        let checksum = !fold(sum(header));
        let [_, _, third, ..] = header;
        // The checksum is the second half of the third word, as in memory.
        let third = third | u32::from(u16::from_be(checksum)).to_be();
        frame.set_words::<5>(
            l3,
            [
                first,
                DONT_FRAGMENT.to_be(),
                third,
                source[3],
                destination[3],
            ],
        )?;
        (l3 + 20, sum([source[3], destination[3]]))
    };
    let ports = (u32::from(source_port) << 16 | u32::from(destination_port)).to_be();
    let length = u32::from(LENGTH).to_be();
    let payload = srt::shutdown(socket_id);
    let total = addresses + sum([ports, length, length, udp.to_be()]) + sum(payload);
    let checksum = finish_udp(total);
    let second = (u32::from(LENGTH) << 16 | u32::from(u16::from_be(checksum))).to_be();
    let [p0, p1, p2, p3, p4] = payload;
    frame.set_words::<7>(l4, [ports, second, p0, p1, p2, p3, p4])
}
