//! A datagram to a service: which backend, and what is counted.

use super::{Action, Delivery, Node, Outcome, account, cut, fate};
use crate::{
    abi::{
        BACKEND_PARTIAL_CHECKSUMS, Backend, CutReason, DeliveryMode, Flow, FlowKey, FlowState,
        Handshake, ReturnKey, SERVICE_AFFINITY, SERVICE_CLOSING, SERVICE_ELSEWHERE, SERVICE_SRT,
        Service,
    },
    maglev,
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
    /// An INDUCTION was placed.
    induction: bool,
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
        induction: false,
        data: account::Data::NONE,
        listener_id: 0,
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

    #[inline(always)]
    fn return_key(&self, slot: u16) -> ReturnKey {
        ReturnKey::of_words(self.packet.source, self.key.port, slot)
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
            traffic.inductions += u64::from(next.induction);
            next.data.count(traffic);
        });
        if way.mode == DeliveryMode::Redirect
            && backend.flags & BACKEND_PARTIAL_CHECKSUMS != 0
            && self.datagram.is_partial(self.packet)
        {
            way.mode = DeliveryMode::Peer;
        }
        self.datagram.set_end(
            frame,
            self.packet,
            End::Destination,
            &backend.address,
            backend.port,
        )?;
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
            return self.handshake(frame, node, offset);
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
        let mut next = Next::deliver(slot, true);
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
        } else if header.control_type() == srt::control::SHUTDOWN && !node.dry_run() {
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

    /// A handshake to a listener: INDUCTION or CONCLUSION (`client` way: both go to the pod).
    #[inline(always)]
    fn handshake<F: Frame, N: Node>(
        &self,
        frame: &F,
        node: &N,
        offset: usize,
    ) -> Result<Next, DropReason> {
        let length = self.datagram.payload;
        let request = srt::Handshake::new(frame.words::<8>(offset + srt::HEADER)?);
        match request.kind {
            srt::INDUCTION => request.check_induction(length)?,
            srt::CONCLUSION => {
                if request.check_conclusion(length)? {
                    let mut scratch = node.scratch().ok_or(DropReason::Undeliverable)?;
                    frame.copy(offset, length as usize, &mut scratch)?;
                    drop(scratch);
                    if let Some(reason) = DropReason::from_u8(node.check_extensions(length)) {
                        return Err(reason);
                    }
                }
            }
            _ => return Err(DropReason::SrtUnaddressed),
        }
        let now = node.now();
        let induction = request.kind == srt::INDUCTION;
        let known = self.slot_of_flow(node, request.socket_id, now);
        let mut next = if known == maglev::EMPTY {
            let slot = self.place(node, request.socket_id, induction, now)?;
            if slot == maglev::EMPTY {
                return Ok(Next::ELSEWHERE);
            }
            Next::deliver(slot, false)
        } else {
            Next::deliver(known, true)
        };
        next.induction = induction;
        if !node.dry_run() {
            let key = self.return_key(next.slot);
            let first_ns = match node.handshake(&key) {
                Some(known) if known.caller_id == request.socket_id => known.first_ns,
                _ => now,
            };
            node.insert_handshake(
                &key,
                &Handshake {
                    first_ns,
                    path: self.link.path(frame, (self.ifindex)())?,
                    caller_id: request.socket_id,
                    service: self.service.id,
                    _pad: 0,
                    flow_window: request.flow_window,
                },
            );
        }
        Ok(next)
    }

    /// The slot of the client's flow, where a handshake belongs to it: the caller repeats itself (the pod's answer
    /// was lost), or a new socket on the same address and port meets the old one's pod. Else [`maglev::EMPTY`].
    #[inline(always)]
    fn slot_of_flow<N: Node>(&self, node: &N, caller_id: u32, now: u64) -> u16 {
        let Some(flow) = node.flow(&self.key) else {
            return maglev::EMPTY;
        };
        if FlowState::from_u8(flow.state) != FlowState::Established {
            return maglev::EMPTY;
        }
        let (Some(backend), Some(health)) = (node.backend(flow.slot), node.health(flow.slot))
        else {
            return maglev::EMPTY;
        };
        if fate::fate(&flow, &backend, &health, now) != 0 {
            return maglev::EMPTY;
        }
        if flow.caller_id == caller_id || fate::accepts(&backend, &health, &node.config(), now) {
            flow.slot
        } else {
            maglev::EMPTY
        }
    }

    /// Placement of a handshake. An INDUCTION that its pod left unanswered while it was not heard at all tells that
    /// the pod hangs: the retry goes elsewhere.
    #[inline(always)]
    fn place<N: Node>(
        &self,
        node: &N,
        caller_id: u32,
        induction: bool,
        now: u64,
    ) -> Result<u16, DropReason> {
        let slot = self.choose(node)?;
        if !induction || node.dry_run() {
            return Ok(slot);
        }
        let first_ns = match node.handshake(&self.return_key(slot)) {
            Some(known) if known.caller_id == caller_id => known.first_ns,
            _ => return Ok(slot),
        };
        if !fate::unanswered(node, slot, first_ns, now) {
            return Ok(slot);
        }
        self.choose(node)
    }

    /// The slot for a new session; [`maglev::EMPTY`] where none here takes it and the host knows others.
    #[inline(always)]
    fn choose<N: Node>(&self, node: &N) -> Result<u16, DropReason> {
        let port = if self.is(SERVICE_AFFINITY) {
            0
        } else {
            self.key.port
        };
        let hash = maglev::hash_client(&self.key.address, port);
        let mut slot = node.place(self.service.pool, hash);
        if slot == maglev::EMPTY {
            slot = node.place_in_doubt(self.service.pool, hash);
        }
        if slot == maglev::EMPTY && !self.is(SERVICE_ELSEWHERE) {
            Err(DropReason::NoBackend)
        } else {
            Ok(slot)
        }
    }

    /// Plain UDP: the client's flow where its backend goes on, else placement. A flow begins with the pod's first
    /// answer; until then, and for senders that are never answered, placement alone decides.
    #[inline(always)]
    fn udp<F: Frame, N: Node>(&self, frame: &F, node: &N) -> Result<Next, DropReason> {
        let now = node.now();
        let known = self.udp_flow(node, now);
        if known != maglev::EMPTY {
            return Ok(Next::deliver(known, true));
        }
        if self.is(SERVICE_CLOSING) {
            return Ok(Next::NO_FLOW);
        }
        let slot = self.choose(node)?;
        if slot == maglev::EMPTY {
            return Ok(Next::ELSEWHERE);
        }
        let key = self.return_key(slot);
        if !node.dry_run() && node.handshake(&key).is_none() {
            node.insert_handshake(
                &key,
                &Handshake {
                    first_ns: now,
                    path: self.link.path(frame, (self.ifindex)())?,
                    service: self.service.id,
                    ..Handshake::default()
                },
            );
        }
        Ok(Next::deliver(slot, false))
    }

    #[inline(always)]
    fn udp_flow<N: Node>(&self, node: &N, now: u64) -> u16 {
        let Some(mut flow) = node.flow(&self.key) else {
            return maglev::EMPTY;
        };
        if FlowState::from_u8(flow.state) != FlowState::Established {
            return maglev::EMPTY;
        }
        let slot = flow.slot;
        let (Some(backend), Some(health)) = (node.backend(slot), node.health(slot)) else {
            return maglev::EMPTY;
        };
        let goes_on = fate::fate(&flow, &backend, &health, now) == 0 && !self.is(SERVICE_CLOSING);
        if !node.dry_run() {
            if goes_on {
                flow.up.packets += 1;
                flow.up.bytes += u64::from(self.datagram.payload);
                flow.up.seen_ns = now;
            } else {
                // There is no session to end: the next answer, of another pod, begins a new flow (none where the
                // service is closing).
                flow.state = FlowState::Ended as u8;
                flow.ended_ns = now;
            }
        }
        if goes_on { slot } else { maglev::EMPTY }
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

/// [`srt::check_extensions`] on a node's scratch space: 0, or the number of a [`DropReason`].
#[inline(always)]
pub fn check_extensions<N: Node>(node: &N, length: u16) -> u8 {
    let Some(scratch) = node.scratch() else {
        return DropReason::Undeliverable as u8;
    };
    match srt::check_extensions(&scratch, length) {
        Ok(()) => 0,
        Err(reason) => reason as u8,
    }
}
