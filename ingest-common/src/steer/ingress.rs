//! Packets from clients, at XDP on the uplink.

use super::{Node, Verdict, icmp, session};
use crate::{
    abi::{self, FlowKey, SERVICE_SOURCE_RANGES, ServiceKey, SourceKey, address_from_words},
    packet::{Datagram, Frame, IPV4, IPV6, Icmp, Ip, Link, Packet},
    reason::{DropReason, PassReason},
};

/// Decides about a frame that came in by the uplink `ifindex`, and rewrites it.
///
/// 1. Ethernet, up to two VLAN tags, IPv4 without options or IPv6 without extension headers; the rest is passed.
/// 2. ICMP errors about a flow go to the flow's pod.
/// 3. UDP to a service: source ranges, then SRT checks, flow or placement, rewriting (`session`).
pub fn ingress<F: Frame, N: Node>(frame: &mut F, node: &N, ifindex: u32) -> Verdict {
    match family(frame) {
        IPV4 => ingress_of::<IPV4, F, N>(frame, node, ifindex),
        IPV6 => ingress_of::<IPV6, F, N>(frame, node, ifindex),
        _ => Verdict::NOT_OURS,
    }
}

/// The frame's EtherType behind its tags; 0 where it has none.
#[inline(always)]
pub fn family<F: Frame>(frame: &F) -> u16 {
    Link::read(frame).map_or(0, |link| link.kind)
}

/// [`ingress`] for one IP version, given as EtherType. The kernel makes two functions of it, each with a stack of
/// its own.
#[inline(always)]
pub fn ingress_of<const FAMILY: u16, F: Frame, N: Node>(
    frame: &mut F,
    node: &N,
    ifindex: u32,
) -> Verdict {
    let Ok(link) = Link::read(frame) else {
        return Verdict::NOT_OURS;
    };
    let link = &link;
    let packet = match Packet::read(frame, link, FAMILY) {
        Ok(Ip::Packet(packet)) => packet,
        Ok(Ip::Unsteerable(destination, reason)) => return pass_if_vip(node, destination, reason),
        // Shorter than its headers: the host counts such frames.
        Ok(Ip::Other) | Err(_) => return Verdict::NOT_OURS,
    };
    if packet.protocol == abi::UDP {
        return udp(frame, node, link, &packet, ifindex);
    }
    if Icmp::is(&packet) {
        return icmp::to_vip(frame, node, link, &packet);
    }
    pass_if_vip(node, packet.destination, PassReason::NoService)
}

#[inline(always)]
fn udp<F: Frame, N: Node>(
    frame: &mut F,
    node: &N,
    link: &Link,
    packet: &Packet,
    ifindex: u32,
) -> Verdict {
    // The length check waits until the packet is known to be for a service: the rest is the host's business.
    let Ok([ports]) = frame.words::<1>(packet.l4) else {
        return Verdict::NOT_OURS;
    };
    let key = ServiceKey::new(packet.destination(), u32::from_be(ports) as u16, abi::UDP);
    let Some(service) = node.service(&key) else {
        return pass_if_vip(node, packet.destination, PassReason::NoService);
    };
    let Ok(Some(datagram)) = Datagram::read(frame, packet) else {
        return Verdict::drop(DropReason::Malformed);
    };
    if service.flags & SERVICE_SOURCE_RANGES != 0 {
        let source = SourceKey {
            service: u32::from(service.id),
            address: packet.source(),
        };
        if !node.source_allowed(&source) {
            return Verdict::drop(DropReason::SourceDenied);
        }
    }
    let key = FlowKey {
        address: packet.source(),
        port: datagram.source_port,
        service: service.id,
    };
    let session = session::Session {
        link,
        packet,
        datagram: &datagram,
        service,
        key,
        ifindex,
    };
    session.steer(frame, node)
}

/// A packet that cannot be steered is counted where it is for a VIP, and is none of our business elsewhere.
#[inline(always)]
fn pass_if_vip<N: Node>(node: &N, destination: [u32; 4], reason: PassReason) -> Verdict {
    if node
        .service(&ServiceKey::vip(address_from_words(destination)))
        .is_some()
    {
        Verdict::pass(reason)
    } else {
        Verdict::NOT_OURS
    }
}
