//! ICMP: errors about a flow's packets go to its pod; "port unreachable" from a pod tells that its process died.

use super::{Hook, Node, Outcome, Reply, fate, session};
use crate::{
    abi::{self, EndpointKey, FlowKey, PROBE_V4, PROBE_V6, ReturnKey, ServiceKey, v4_mapped},
    packet::{Frame, Icmp, Link, Packet},
    reason::{DropReason, PassReason},
};

/// An ICMP packet to a VIP. An error that quotes a packet of one of our flows (path MTU, unreachable) belongs to the
/// pod that sent it; the host knows nothing of it.
#[inline(always)]
pub(super) fn to_vip<F: Frame, N: Node>(
    frame: &mut F,
    node: &N,
    link: &Link,
    packet: &Packet,
) -> Outcome {
    if node
        .service(&ServiceKey::of_words(packet.destination, 0, 0))
        .is_none()
    {
        return Outcome::NOT_OURS;
    }
    match readdress(frame, node, link, packet) {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Outcome::pass(PassReason::Icmp),
        Err(reason) => Outcome::drop(reason),
    }
}

#[inline(always)]
fn readdress<F: Frame, N: Node>(
    frame: &mut F,
    node: &N,
    link: &Link,
    packet: &Packet,
) -> Result<Option<Outcome>, DropReason> {
    // Too short to quote a packet: the host's business.
    let Ok(Icmp::Error(error)) = Icmp::read(frame, packet) else {
        return Ok(None);
    };
    // The quoted packet is ours only if it came from the very address the error is sent to.
    if error.source != packet.destination {
        return Ok(None);
    }
    let Some(service) = node.service(&ServiceKey::new(
        error.source(),
        error.source_port,
        abi::UDP,
    )) else {
        return Ok(None);
    };
    let key = FlowKey {
        address: error.destination(),
        port: error.destination_port,
        service: service.id,
    };
    let Some(slot) = node.flow(&key).map(|flow| flow.slot) else {
        return Ok(None);
    };
    let backend = node.backend(slot).ok_or(DropReason::Undeliverable)?;
    let way = session::delivery(service.id, link, &backend, slot, true);
    error.readdress(frame, packet, &backend.address, backend.port)?;
    session::finish(frame, &backend, &way)?;
    Ok(Some(Outcome::deliver(&way)))
}

/// An ICMP packet from a pod.
#[inline(always)]
pub(super) fn from_pod<F: Frame, N: Node>(
    frame: &F,
    node: &N,
    packet: &Packet,
    hook: Hook,
) -> Reply {
    let Ok(icmp) = Icmp::read(frame, packet) else {
        return Reply::Pass;
    };
    match icmp {
        Icmp::EchoReply(slot, sequence) => {
            let probe = if packet.v6 {
                PROBE_V6
            } else {
                v4_mapped(PROBE_V4)
            };
            if packet.destination() != probe {
                return Reply::Pass;
            }
            let Some(backend) = node.backend(slot) else {
                return Reply::Pass;
            };
            if backend.address == packet.source() && hook.is_of(&backend) {
                node.probe_answered(slot, u32::from(sequence));
            }
            Reply::Drop(DropReason::ProbeReply)
        }
        Icmp::Error(error) if error.port_unreachable => {
            let key = EndpointKey::new(error.destination(), error.destination_port, abi::UDP);
            let Some(slot) = node.endpoint(&key) else {
                return Reply::Pass;
            };
            let Some(backend) = node.backend(slot) else {
                return Reply::Pass;
            };
            // Only the pod itself speaks for its ports.
            if !hook.is_of(&backend) || packet.source() != backend.address {
                return Reply::Pass;
            }
            drop(backend);
            fate::died(node, slot, node.now());
            let session = ReturnKey {
                address: error.source(),
                port: error.source_port,
                slot,
            };
            if node.returns(&session).is_some() || node.handshake(&session).is_some() {
                Reply::Drop(DropReason::PodUnreachable)
            } else {
                // Somebody else's packet, sent to the pod directly: the answer is for him.
                Reply::Pass
            }
        }
        _ => Reply::Pass,
    }
}
