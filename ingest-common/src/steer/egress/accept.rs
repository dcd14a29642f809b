//! A pod's answer to a handshake: acceptance makes the flow.

use super::{FromPod, Reply};
use crate::{
    abi::{
        EventKind, FLOW_POLICED, Flow, FlowKey, FlowState, Handshake, ReturnKey, SERVICE_CLOSING,
        SERVICE_STREAM,
    },
    packet::{Datagram, Frame},
    reason::DropReason,
    srt::{self, Header},
    steer::{Node, fate},
};

impl FromPod<'_> {
    /// A handshake answer: a CONCLUSION makes the flow, a rejection is counted. An error where the caller is not to
    /// hear of it.
    #[inline(always)]
    pub(super) fn handshake<F: Frame, N: Node>(
        &self,
        frame: &F,
        node: &N,
        key: &ReturnKey,
        flow_key: &FlowKey,
        header: &Header,
        flags: u32,
    ) -> Result<(), Reply> {
        if self.datagram.payload < srt::HANDSHAKE {
            return Ok(());
        }
        let at = self.packet.l4 + Datagram::PAYLOAD + srt::HEADER;
        let Ok(words) = frame.words::<8>(at) else {
            return Ok(());
        };
        let answer = srt::Handshake::new(words);
        let caller_id = header.destination;
        if answer.kind == srt::INDUCTION && flags & SERVICE_STREAM != 0 {
            if flags & SERVICE_CLOSING != 0 {
                return Err(Reply::Drop(DropReason::InductionResponse));
            }
            return Err(self.induction(node, key, flow_key, caller_id, answer.cookie));
        }
        // Flows of a closing service only become fewer: the agent waits for the last one.
        if flags & SERVICE_CLOSING != 0 {
            return Ok(());
        }
        if answer.kind == srt::CONCLUSION {
            let latencies = self.latencies(frame, answer.version);
            return self.accepted(node, key, flow_key, caller_id, &answer, latencies);
        }
        if answer.kind >= srt::REJECTION && i32::try_from(answer.kind).is_ok() {
            let route = node.handshake(key).map_or(0, |known| known.route);
            node.count(flow_key.service, self.slot, |traffic| traffic.rejected += 1);
            let kind = EventKind::HandshakeRejected;
            self.emit(node, kind, flow_key, caller_id, answer.kind, route);
        }
        Ok(())
    }

    /// The latencies agreed on, as in HSRSP (draft §3.2.1.1): the pod's as receiver, then as sender; 0 where the
    /// response does not say. libsrt puts the block first.
    #[inline(always)]
    fn latencies<F: Frame>(&self, frame: &F, version: u32) -> u32 {
        if version != 5 || self.datagram.payload < srt::HANDSHAKE + 16 {
            return 0;
        }
        let at = self.packet.l4 + Datagram::PAYLOAD + srt::HANDSHAKE as usize;
        let Ok([block, _, _, latencies]) = frame.words::<4>(at) else {
            return 0;
        };
        let block = u32::from_be(block);
        if block >> 16 != srt::HSRSP || block & 0xffff < 3 {
            return 0;
        }
        u32::from_be(latencies)
    }

    /// A CONCLUSION response: the pod has accepted.
    #[inline(always)]
    fn accepted<N: Node>(
        &self,
        node: &N,
        key: &ReturnKey,
        flow_key: &FlowKey,
        caller_id: u32,
        answer: &srt::Handshake,
        latencies: u32,
    ) -> Result<(), Reply> {
        // What its end must be counted for, where this replaces a session that nobody ended.
        let mut replaced = None;
        if let Some(flow) = node.flow(flow_key)
            && flow.state == FlowState::Established as u8
        {
            if flow.caller_id == caller_id {
                if flow.slot == self.slot && flow.listener_id == answer.socket_id {
                    // The answer was lost and comes again.
                    return Ok(());
                }
                if flow.slot != self.slot && goes_on(node, &flow, self.now) {
                    return Err(Reply::Drop(DropReason::AcceptedElsewhere));
                }
            }
            replaced = Some((flow.slot, flow.route));
        }
        let Some(known) = node.handshake(key) else {
            return Ok(());
        };
        if known.caller_id != caller_id {
            return Ok(());
        }
        let route = known.route;
        let Some(mut flow) = self.new_flow(node, &known, answer.socket_id) else {
            return Ok(());
        };
        flow.flow_window = answer.flow_window.max(known.flow_window);
        flow.up.next_sequence = answer.initial_sequence;
        flow.down.receiver_latency = (latencies >> 16) as u16;
        flow.down.sender_latency = latencies as u16;
        drop(known);
        node.insert_flow(flow_key, &flow);
        drop(flow);
        if let Some((slot, route)) = replaced {
            node.session_ended(slot, route);
        }
        node.session_began(self.slot, route);
        if route != 0 {
            node.count_route(route, |stats| stats.accepted += 1);
        }
        if let Some(splice) = node.splice(flow_key)
            && splice.stream.caller_id == caller_id
        {
            node.insert_stream_id(flow_key, &splice.stream);
        }
        node.count(flow_key.service, self.slot, |traffic| traffic.accepted += 1);
        let (kind, listener_id) = (EventKind::FlowAccepted, answer.socket_id);
        self.emit(node, kind, flow_key, caller_id, listener_id, route);
        Ok(())
    }

    #[inline(always)]
    fn emit<N: Node>(
        &self,
        node: &N,
        kind: EventKind,
        key: &FlowKey,
        caller_id: u32,
        listener_id: u32,
        route: u16,
    ) {
        node.emit(|event| {
            event.time_ns = self.now;
            event.address = key.address;
            event.port = key.port;
            event.service = key.service;
            event.slot = self.slot;
            event.kind = kind as u8;
            event.caller_id = caller_id;
            event.listener_id = listener_id;
            event.route = route;
        });
    }

    /// Plain UDP: the pod's first answer makes the flow.
    #[inline(always)]
    pub(super) fn accept_udp<N: Node>(&self, node: &N, key: &ReturnKey, flow_key: &FlowKey) {
        if let Some(flow) = node.flow(flow_key)
            && flow.slot == self.slot
            && flow.state == FlowState::Established as u8
        {
            return;
        }
        let Some(known) = node.handshake(key) else {
            return;
        };
        let Some(flow) = self.new_flow(node, &known, 0) else {
            return;
        };
        node.insert_flow(flow_key, &flow);
        node.count(flow_key.service, self.slot, |traffic| traffic.accepted += 1);
        self.emit(node, EventKind::FlowAccepted, flow_key, 0, 0, 0);
    }

    #[inline(always)]
    fn new_flow<'a, N: Node>(
        &self,
        node: &'a N,
        known: &Handshake,
        listener_id: u32,
    ) -> Option<N::Ref<'a, Flow>> {
        let incarnation = node.backend(self.slot)?.incarnation;
        let deaths = node.health(self.slot)?.deaths;
        // Only the fields below, are ever written here: the rest stays zero.
        // (Clearing all of it is a call in the kernel, whose stack has no room for one more.)
        let policed =
            known.route != 0 && node.quota(known.route).is_some_and(|quota| quota.polices());
        let mut flow = node.new_flow()?;
        flow.accepted_ns = self.now;
        flow.incarnation = incarnation;
        flow.deaths = deaths;
        flow.caller_id = known.caller_id;
        flow.listener_id = listener_id;
        flow.slot = self.slot;
        flow.state = FlowState::Established as u8;
        flow.path = known.path;
        flow.route = known.route;
        flow.marks = if policed { FLOW_POLICED } else { 0 };
        flow.flow_window = known.flow_window;
        flow.up.seen_ns = self.now;
        flow.up.next_sequence = 0;
        flow.down.receiver_latency = 0;
        flow.down.sender_latency = 0;
        Some(flow)
    }
}

/// Whether the flow's own pod serves it still.
#[inline(always)]
fn goes_on<N: Node>(node: &N, flow: &Flow, now: u64) -> bool {
    let (Some(backend), Some(health)) = (node.backend(flow.slot), node.health(flow.slot)) else {
        return false;
    };
    fate::fate(flow, &backend, &health, now) == 0
}
