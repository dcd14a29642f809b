//! A datagram to a service: which backend, and what is counted.

use super::{Delivery, Node, Verdict, account, cut, fate};
use crate::{
    abi::{
        BACKEND_PARTIAL_CHECKSUMS, Backend, DeliveryMode, Flow, FlowKey, FlowState, Handshake,
        ReturnKey, Service,
    },
    maglev,
    packet::{Datagram, ETHERNET, End, Frame, Link, Packet, addresses, is_from},
    reason::{DropReason, PassReason},
    srt::{self, Header},
};

/// What is known of a datagram to a service.
pub(super) struct Session<'a> {
    pub(super) link: &'a Link,
    pub(super) packet: &'a Packet,
    pub(super) datagram: &'a Datagram,
    pub(super) service: Service,
    /// The client on the service.
    pub(super) key: FlowKey,
    /// The uplink.
    pub(super) ifindex: u32,
}

impl Session<'_> {
    #[inline(always)]
    fn return_key(&self, slot: u16) -> ReturnKey {
        ReturnKey {
            address: self.key.address,
            port: self.key.port,
            slot,
        }
    }

    /// SRT: the filter, then handshake or flow.
    #[inline(always)]
    pub(super) fn srt<F: Frame, N: Node>(
        &self,
        frame: &mut F,
        node: &N,
    ) -> Result<Verdict, DropReason> {
        let offset = self.packet.l4 + Datagram::PAYLOAD;
        if self.datagram.payload < srt::HEADER as u16 {
            return Err(DropReason::SrtLength);
        }
        let header = Header::new(frame.words::<4>(offset)?);
        srt::check(frame, &header, offset, self.datagram.payload)?;
        if header.destination == 0 {
            return self.handshake(frame, node, offset);
        }
        match node.flow(&self.key) {
            Some(mut flow) => self.established(frame, node, &mut flow, &header),
            None => Ok(Verdict::pass(PassReason::NoFlow)),
        }
    }

    #[inline(always)]
    fn established<F: Frame, N: Node>(
        &self,
        frame: &mut F,
        node: &N,
        flow: &mut Flow,
        header: &Header,
    ) -> Result<Verdict, DropReason> {
        if header.destination != flow.listener_id {
            return Err(DropReason::SrtSocketId);
        }
        let now = node.now();
        let slot = flow.slot;
        let backend = node.backend(slot).ok_or(DropReason::Undeliverable)?;
        let cutting = match FlowState::from_u8(flow.state) {
            FlowState::Established => {
                let health = node.health(slot).ok_or(DropReason::Undeliverable)?;
                match fate::fate(flow, &backend, &health, now) {
                    None if !header.is_control() => account::silence(node, flow, slot, now),
                    fate => fate,
                }
            }
            FlowState::Cut => crate::abi::CutReason::from_u8(flow.cut_reason),
            // The caller closed; what still comes is for the pod to ignore.
            _ => None,
        };
        if let Some(reason) = cutting {
            return cut::cut(self, frame, node, flow, &backend, reason, now);
        }
        let data = if header.is_control() {
            if header.control_type() == srt::control::SHUTDOWN && !node.dry_run() {
                cut::end(node, flow, &self.key, now);
            }
            account::Data::default()
        } else {
            account::data(flow, header)?
        };
        if !node.dry_run() {
            flow.up.packets += 1;
            flow.up.bytes += u64::from(self.datagram.payload);
            flow.up.seen_ns = now;
            if !is_from(frame, &flow.path.client_mac)? {
                // The next hop changed (a router failed over): replies follow the packets.
                flow.path = self.link.path(frame, self.ifindex)?;
            }
        }
        let payload = u64::from(self.datagram.payload);
        node.count(self.service.id, slot, |traffic| {
            traffic.up_packets += 1;
            traffic.up_bytes += payload;
            data.count(traffic);
        });
        self.deliver(frame, &backend, slot, true)
    }

    /// A handshake to a listener: INDUCTION or CONCLUSION (`client` way: both go to the pod).
    #[inline(always)]
    fn handshake<F: Frame, N: Node>(
        &self,
        frame: &mut F,
        node: &N,
        offset: usize,
    ) -> Result<Verdict, DropReason> {
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
        let (slot, by_flow) = match self.slot_of_flow(node, request.socket_id, now) {
            Some(slot) => (slot, true),
            None => (self.place(node, &request, induction, now)?, false),
        };
        if !node.dry_run() {
            let key = self.return_key(slot);
            let first_ns = match node.handshake(&key) {
                Some(known) if known.caller_id == request.socket_id => known.first_ns,
                _ => now,
            };
            node.insert_handshake(
                &key,
                &Handshake {
                    first_ns,
                    path: self.link.path(frame, self.ifindex)?,
                    caller_id: request.socket_id,
                    service: self.service.id,
                    _pad: 0,
                    flow_window: request.flow_window,
                },
            );
        }
        let payload = u64::from(length);
        node.count(self.service.id, slot, |traffic| {
            traffic.up_packets += 1;
            traffic.up_bytes += payload;
            traffic.inductions += u64::from(induction);
        });
        let backend = node.backend(slot).ok_or(DropReason::Undeliverable)?;
        self.deliver(frame, &backend, slot, by_flow)
    }

    /// The slot of the client's flow, where a handshake belongs to it: the caller repeats itself (the pod's answer
    /// was lost), or a new socket on the same address and port meets the old one's pod.
    #[inline(always)]
    fn slot_of_flow<N: Node>(&self, node: &N, caller_id: u32, now: u64) -> Option<u16> {
        let flow = node.flow(&self.key)?;
        if FlowState::from_u8(flow.state) != FlowState::Established {
            return None;
        }
        let backend = node.backend(flow.slot)?;
        let health = node.health(flow.slot)?;
        if fate::fate(&flow, &backend, &health, now).is_some() {
            return None;
        }
        let same = flow.caller_id == caller_id;
        (same || fate::accepts(&backend, &health, &node.config(), now)).then_some(flow.slot)
    }

    /// Placement of a handshake. An INDUCTION that its pod left unanswered while it was not heard at all tells that
    /// the pod hangs: the retry goes elsewhere.
    #[inline(always)]
    fn place<N: Node>(
        &self,
        node: &N,
        request: &srt::Handshake,
        induction: bool,
        now: u64,
    ) -> Result<u16, DropReason> {
        let slot = self.choose(node)?;
        if !induction || node.dry_run() {
            return Ok(slot);
        }
        let first_ns = match node.handshake(&self.return_key(slot)) {
            Some(known) if known.caller_id == request.socket_id => known.first_ns,
            _ => return Ok(slot),
        };
        if !fate::unanswered(node, slot, first_ns, now) {
            return Ok(slot);
        }
        self.choose(node)
    }

    #[inline(always)]
    fn choose<N: Node>(&self, node: &N) -> Result<u16, DropReason> {
        let hash = maglev::hash_client(&self.key.address, self.key.port);
        let slot = node.place(self.service.pool, hash);
        if slot == maglev::EMPTY {
            Err(DropReason::NoBackend)
        } else {
            Ok(slot)
        }
    }

    /// Plain UDP: the client's flow where its backend goes on, else placement. A flow begins with the pod's first
    /// answer; until then, and for senders that are never answered, placement alone decides.
    #[inline(always)]
    pub(super) fn udp<F: Frame, N: Node>(
        &self,
        frame: &mut F,
        node: &N,
    ) -> Result<Verdict, DropReason> {
        let now = node.now();
        let payload = u64::from(self.datagram.payload);
        let (slot, by_flow) = match self.udp_flow(node, now) {
            Some(slot) => (slot, true),
            None => {
                let slot = self.choose(node)?;
                let key = self.return_key(slot);
                if !node.dry_run() && node.handshake(&key).is_none() {
                    node.insert_handshake(
                        &key,
                        &Handshake {
                            first_ns: now,
                            path: self.link.path(frame, self.ifindex)?,
                            service: self.service.id,
                            ..Handshake::default()
                        },
                    );
                }
                (slot, false)
            }
        };
        node.count(self.service.id, slot, |traffic| {
            traffic.up_packets += 1;
            traffic.up_bytes += payload;
        });
        let backend = node.backend(slot).ok_or(DropReason::Undeliverable)?;
        self.deliver(frame, &backend, slot, by_flow)
    }

    #[inline(always)]
    fn udp_flow<N: Node>(&self, node: &N, now: u64) -> Option<u16> {
        let mut flow = node.flow(&self.key)?;
        if FlowState::from_u8(flow.state) != FlowState::Established {
            return None;
        }
        let slot = flow.slot;
        let backend = node.backend(slot)?;
        let health = node.health(slot)?;
        if fate::fate(&flow, &backend, &health, now).is_some() {
            // There is no session to end: the next answer, of another pod, begins a new flow.
            if !node.dry_run() {
                flow.state = FlowState::Ended as u8;
                flow.ended_ns = now;
            }
            return None;
        }
        if !node.dry_run() {
            flow.up.packets += 1;
            flow.up.bytes += u64::from(self.datagram.payload);
            flow.up.seen_ns = now;
        }
        Some(slot)
    }

    /// Readdresses the packet to the backend and says the way.
    #[inline(always)]
    fn deliver<F: Frame>(
        &self,
        frame: &mut F,
        backend: &Backend,
        slot: u16,
        by_flow: bool,
    ) -> Result<Verdict, DropReason> {
        let mut delivery = delivery(self.service.id, self.link, backend, slot, by_flow);
        if delivery.mode == DeliveryMode::Redirect
            && backend.flags & BACKEND_PARTIAL_CHECKSUMS != 0
            && self.datagram.is_partial(self.packet)
        {
            delivery.mode = DeliveryMode::Peer;
        }
        self.datagram.set_end(
            frame,
            self.packet,
            End::Destination,
            &backend.address,
            backend.port,
        )?;
        finish(frame, backend, &delivery)?;
        Ok(Verdict::deliver(delivery))
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
