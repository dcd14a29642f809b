//! A pod's answer to a handshake: acceptance makes the flow.

use super::FromPod;
use crate::{
    abi::{EventKind, Flow, FlowKey, FlowState, Handshake, ReturnKey},
    packet::{Datagram, Frame},
    srt::{self, Header},
    steer::Node,
};

impl FromPod<'_> {
    /// A handshake answer: a CONCLUSION makes the flow, a rejection is counted.
    #[inline(always)]
    pub(super) fn handshake<F: Frame, N: Node>(
        &self,
        frame: &F,
        node: &N,
        key: &ReturnKey,
        flow_key: &FlowKey,
        header: &Header,
    ) {
        if self.datagram.payload < srt::HANDSHAKE {
            return;
        }
        let at = self.packet.l4 + Datagram::PAYLOAD + srt::HEADER;
        let Ok(words) = frame.words::<8>(at) else {
            return;
        };
        let answer = srt::Handshake::new(words);
        let caller_id = header.destination;
        if answer.kind == srt::CONCLUSION {
            if let Some(flow) = node.flow(flow_key) {
                // The answer was lost and comes again.
                if flow.caller_id == caller_id
                    && flow.listener_id == answer.socket_id
                    && flow.slot == self.slot
                {
                    return;
                }
            }
            let Some(known) = node.handshake(key) else {
                return;
            };
            if known.caller_id != caller_id {
                return;
            }
            let Some(mut flow) = self.new_flow(node, &known, answer.socket_id) else {
                return;
            };
            flow.flow_window = answer.flow_window.max(known.flow_window);
            flow.up.next_sequence = answer.initial_sequence;
            node.insert_flow(flow_key, &flow);
            drop(flow);
            node.count(flow_key.service, self.slot, |traffic| traffic.accepted += 1);
            self.emit(
                node,
                EventKind::FlowAccepted,
                flow_key,
                caller_id,
                answer.socket_id,
            );
        } else if answer.kind >= srt::REJECTION && i32::try_from(answer.kind).is_ok() {
            node.count(flow_key.service, self.slot, |traffic| traffic.rejected += 1);
            self.emit(
                node,
                EventKind::HandshakeRejected,
                flow_key,
                caller_id,
                answer.kind,
            );
        }
    }

    #[inline(always)]
    fn emit<N: Node>(
        &self,
        node: &N,
        kind: EventKind,
        key: &FlowKey,
        caller_id: u32,
        listener_id: u32,
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
        self.emit(node, EventKind::FlowAccepted, flow_key, 0, 0);
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
        let mut flow = node.new_flow()?;
        flow.accepted_ns = self.now;
        flow.incarnation = incarnation;
        flow.deaths = deaths;
        flow.caller_id = known.caller_id;
        flow.listener_id = listener_id;
        flow.slot = self.slot;
        flow.state = FlowState::Established as u8;
        flow.path = known.path;
        flow.flow_window = known.flow_window;
        flow.up.seen_ns = self.now;
        flow.up.next_sequence = 0;
        Some(flow)
    }
}
