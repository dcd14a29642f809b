//! A datagram to a service: which backend, and what is counted.

mod udp;

use super::{Action, Delivery, Node, Outcome, account, cut, fate, police};
use crate::{
    abi::{
        BACKEND_PARTIAL_CHECKSUMS, Backend, CutReason, DeliveryMode, FLOW_CAPTURED, FLOW_POLICED,
        Flow, FlowKey, FlowState, SERVICE_CLOSING, SERVICE_SRT, Service,
    },
    packet::{Datagram, ETHERNET, End, Frame, Link, Packet, addresses, is_from},
    reason::{DropReason, PassReason},
    srt::{self, Header},
};

/// What is known of a datagram to a service.
pub(super) struct Session<'a, I> {
    pub(super) link: &'a Link,
    pub(super) packet: &'a Packet,
    pub(super) datagram: &'a Datagram,
    pub(super) service: Service,
    /// The client on the service.
    pub(super) key: FlowKey,
    /// Asks for the uplink.
    pub(super) ifindex: I,
}

/// What a datagram calls for. Every field is always set (see [`super::Outcome`]).
#[derive(Clone, Copy)]
pub(super) struct Next {
    /// `Pass`, `Deliver` or `Cut`; drops are errors.
    action: Action,
    /// Why, for `Pass`.
    reason: PassReason,
    /// The backend's slot.
    slot: u16,
    /// An established flow decided.
    by_flow: bool,
    /// The flow is marked for capture.
    captured: bool,
    /// It is a handshake, and decided about elsewhere.
    handshake: bool,
    /// What a data packet adds to the counters.
    data: account::Data,
    /// The listener's socket id, for `Cut`.
    listener_id: u32,
}

impl Next {
    const NO_FLOW: Self = Self {
        action: Action::Pass,
        reason: PassReason::NoFlow,
        slot: 0,
        by_flow: false,
        captured: false,
        handshake: false,
        data: account::Data::NONE,
        listener_id: 0,
    };

    const HANDSHAKE: Self = Self {
        handshake: true,
        ..Self::NO_FLOW
    };

    const ELSEWHERE: Self = Self {
        reason: PassReason::Elsewhere,
        ..Self::NO_FLOW
    };

    #[inline(always)]
    const fn deliver(slot: u16, by_flow: bool) -> Self {
        Self {
            action: Action::Deliver,
            slot,
            by_flow,
            ..Self::NO_FLOW
        }
    }
}

impl<I: Fn() -> u32> Session<'_, I> {
    #[inline(always)]
    const fn is(&self, flag: u32) -> bool {
        self.service.flags & flag != 0
    }

    /// Decides about the datagram, rewrites and counts it.
    #[inline(always)]
    pub(super) fn steer<F: Frame, N: Node>(&self, frame: &mut F, node: &N) -> Outcome {
        let next = if self.is(SERVICE_SRT) {
            self.srt(frame, node)
        } else {
            self.udp(frame, node)
        };
        match next {
            Ok(next) if next.handshake => Outcome::HANDSHAKE,
            Ok(next) => self
                .carry_out(frame, node, &next)
                .unwrap_or_else(Outcome::drop),
            Err(reason) => Outcome::drop(reason),
        }
    }

    #[inline(always)]
    fn carry_out<F: Frame, N: Node>(
        &self,
        frame: &mut F,
        node: &N,
        next: &Next,
    ) -> Result<Outcome, DropReason> {
        if next.action == Action::Pass {
            return Ok(Outcome::pass(next.reason));
        }
        let backend = node.backend(next.slot).ok_or(DropReason::Undeliverable)?;
        let mut way = delivery(
            self.service.id,
            self.link,
            &backend,
            next.slot,
            next.by_flow,
        );
        way.captured = next.captured;
        if next.action == Action::Cut {
            if !node.dry_run() {
                cut::rewrite(frame, self.packet, &self.key, &backend, next.listener_id)?;
                finish(frame, &backend, &way)?;
            }
            return Ok(Outcome::cut(&way));
        }
        let payload = u64::from(self.datagram.payload);
        node.count(self.service.id, next.slot, |traffic| {
            traffic.up_packets += 1;
            traffic.up_bytes += payload;
            next.data.count(traffic);
        });
        if way.mode == DeliveryMode::Redirect
            && backend.flags & BACKEND_PARTIAL_CHECKSUMS != 0
            && self.datagram.is_partial(frame, self.packet)?
        {
            way.mode = DeliveryMode::Peer;
        }
        self.packet
            .set_udp_end(frame, End::Destination, &backend.address, backend.port)?;
        finish(frame, &backend, &way)?;
        Ok(Outcome::deliver(&way))
    }

    /// SRT: the filter, then handshake or flow.
    #[inline(always)]
    fn srt<F: Frame, N: Node>(&self, frame: &F, node: &N) -> Result<Next, DropReason> {
        let offset = self.packet.l4 + Datagram::PAYLOAD;
        if self.datagram.payload < srt::HEADER as u16 {
            return Err(DropReason::SrtLength);
        }
        let header = Header::new(frame.words::<4>(offset)?);
        srt::check(frame, &header, offset, self.datagram.payload)?;
        if header.destination == 0 {
            if self.is(SERVICE_CLOSING) {
                return Ok(Next::NO_FLOW);
            }
            return Ok(Next::HANDSHAKE);
        }
        match node.flow(&self.key) {
            Some(mut flow) => self.established(frame, node, &mut flow, &header),
            None => Ok(Next::NO_FLOW),
        }
    }

    #[inline(always)]
    fn established<F: Frame, N: Node>(
        &self,
        frame: &F,
        node: &N,
        flow: &mut Flow,
        header: &Header,
    ) -> Result<Next, DropReason> {
        if header.destination != flow.listener_id {
            return Err(DropReason::SrtSocketId);
        }
        let now = node.now();
        let slot = flow.slot;
        let shutdown = header.is_control() && header.control_type() == srt::control::SHUTDOWN;
        // Before anything is counted: a pod does not answer what it does not get.
        if flow.marks & FLOW_POLICED != 0 && !shutdown && !node.dry_run() {
            police(node, flow, self.datagram.payload, now)?;
        }
        let mut next = Next::deliver(slot, true);
        next.captured = flow.marks & FLOW_CAPTURED != 0;
        let cutting = match FlowState::from_u8(flow.state) {
            FlowState::Established => {
                let backend = node.backend(slot).ok_or(DropReason::Undeliverable)?;
                let health = node.health(slot).ok_or(DropReason::Undeliverable)?;
                let fate = fate::fate(flow, &backend, &health, now);
                // Silence is written to the health that is held here.
                drop(health);
                if fate != 0 {
                    fate
                } else if self.is(SERVICE_CLOSING) {
                    CutReason::ServiceGone as u8
                } else if header.is_control() {
                    0
                } else {
                    account::silence(node, flow, now)
                }
            }
            FlowState::Cut => flow.cut_reason,
            // The caller closed; what still comes is for the pod to ignore.
            _ => 0,
        };
        if cutting != 0 {
            cut::cut(node, flow, &self.key, self.datagram.payload, cutting, now)?;
            next.action = Action::Cut;
            next.listener_id = flow.listener_id;
            return Ok(next);
        }
        if !header.is_control() {
            if !node.dry_run() {
                next.data = account::data(flow, header)?;
            }
        } else if shutdown && !node.dry_run() {
            cut::end(node, flow, &self.key, now);
        }
        if !node.dry_run() {
            flow.up.packets += 1;
            flow.up.bytes += u64::from(self.datagram.payload);
            flow.up.seen_ns = now;
            if !is_from(frame, &flow.path.client_mac)? {
                // The next hop changed (a router failed over): replies follow the packets.
                flow.path = self.link.path(frame, (self.ifindex)())?;
            }
        }
        Ok(next)
    }
}

/// The way to `backend`.
#[inline(always)]
pub(super) fn delivery(
    service: u16,
    link: &Link,
    backend: &Backend,
    slot: u16,
    by_flow: bool,
) -> Delivery {
    let mode = DeliveryMode::from_u8(backend.mode);
    // The host's own routing wants to see the tags; a pod does not.
    let strip = if mode == DeliveryMode::Stack {
        0
    } else {
        (link.l3 - ETHERNET) as u8
    };
    Delivery {
        service,
        slot,
        mode,
        ifindex: backend.ifindex,
        strip,
        by_flow,
        captured: false,
        route: 0,
        rejection: 0,
    }
}

/// Writes the Ethernet addresses where they will stand once the tags are gone.
#[inline(always)]
pub(super) fn finish<F: Frame>(
    frame: &mut F,
    backend: &Backend,
    delivery: &Delivery,
) -> Result<(), DropReason> {
    let at = delivery.strip as usize;
    if delivery.mode == DeliveryMode::Redirect {
        frame.set_halves::<6>(at, addresses(backend.pod_mac, backend.port_mac))?;
    } else if at > 0 {
        let addresses = frame.halves::<6>(0)?;
        frame.set_halves::<6>(at, addresses)?;
    }
    Ok(())
}
