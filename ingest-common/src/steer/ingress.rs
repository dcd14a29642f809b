//! Packets from clients, at XDP on the uplink.

use super::{Node, Outcome, Verdict, carry_out, handshake_of, icmp, session};
use crate::{
    abi::{self, FlowKey, SERVICE_CLOSING, SERVICE_SOURCE_RANGES, ServiceKey, SourceKey},
    packet::{Datagram, Frame, IPV4, IPV6, Icmp, Ip, Link, Packet},
    reason::{DropReason, PassReason},
};

/// Decides about a frame that came in by the uplink `ifindex`, and rewrites it.
///
/// 1. Ethernet, up to two VLAN tags, IPv4 without options or IPv6 without extension headers; the rest is passed.
/// 2. ICMP errors about a flow go to the flow's pod.
/// 3. UDP to a service: source ranges, then SRT checks, flow or placement, rewriting (`session`).
/// 4. A caller's handshake: [`handshake_of`].
pub fn ingress<F: Frame, N: Node>(frame: &mut F, node: &N, ifindex: u32) -> Verdict {
    let ifindex = || ifindex;
    let outcome = match Link::read(frame) {
        Ok(link) if link.kind == IPV4 => {
            let outcome = ingress_of::<IPV4, F, N>(frame, node, &link, ifindex);
            if outcome.is_handshake() {
                let decision = handshake_of::<IPV4, F, N>(frame, node, &link, ifindex);
                let decision = decision.part().map_or(decision, |part| node.decide(part));
                carry_out::<IPV4, F, N>(frame, node, &link, decision)
            } else {
                outcome
            }
        }
        Ok(link) if link.kind == IPV6 => {
            let outcome = ingress_of::<IPV6, F, N>(frame, node, &link, ifindex);
            if outcome.is_handshake() {
                let decision = handshake_of::<IPV6, F, N>(frame, node, &link, ifindex);
                let decision = decision.part().map_or(decision, |part| node.decide(part));
                carry_out::<IPV6, F, N>(frame, node, &link, decision)
            } else {
                outcome
            }
        }
        _ => Outcome::NOT_OURS,
    };
    outcome.unpack()
}

/// [`ingress`] for one IP version, given as EtherType, behind `link`. The kernel makes a function of each, with a stack
/// of its own, and one more where there are no tags: with every offset a constant, it is the fast path. `ifindex` is
/// called only where the interface is kept: the kernel follows three pointers for it.
#[inline(always)]
pub fn ingress_of<const FAMILY: u16, F: Frame, N: Node>(
    frame: &mut F,
    node: &N,
    link: &Link,
    ifindex: impl Fn() -> u32,
) -> Outcome {
    let packet = match Packet::read(frame, link, FAMILY) {
        Ok(Ip::Packet(packet)) => packet,
        Ok(Ip::Unsteerable(destination, reason)) => return pass_if_vip(node, destination, reason),
        // Shorter than its headers: the host counts such frames.
        Ok(Ip::Other) | Err(_) => return Outcome::NOT_OURS,
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
    ifindex: impl Fn() -> u32,
) -> Outcome {
    // The length check waits until the packet is known to be for a service: the rest is the host's business.
    let Ok([ports]) = frame.words::<1>(packet.l4) else {
        return Outcome::NOT_OURS;
    };
    let key = ServiceKey::of_words(packet.destination, u32::from_be(ports) as u16, abi::UDP);
    let Some(service) = node.service(&key) else {
        return pass_if_vip(node, packet.destination, PassReason::NoService);
    };
    let Ok(Some(datagram)) = Datagram::read(frame, packet) else {
        return Outcome::drop(DropReason::Malformed);
    };
    // A service that was removed has no say any more in who may come.
    if service.flags & (SERVICE_SOURCE_RANGES | SERVICE_CLOSING) == SERVICE_SOURCE_RANGES {
        let source = SourceKey {
            service: u32::from(service.id),
            address: packet.source(),
        };
        if !node.source_allowed(&source) {
            return Outcome::drop(DropReason::SourceDenied);
        }
    }
    let key = FlowKey::of_words(packet.source, datagram.source_port, service.id);
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
fn pass_if_vip<N: Node>(node: &N, destination: [u32; 4], reason: PassReason) -> Outcome {
    if node
        .service(&ServiceKey::of_words(destination, 0, 0))
        .is_some()
    {
        Outcome::pass(reason)
    } else {
        Outcome::NOT_OURS
    }
}
