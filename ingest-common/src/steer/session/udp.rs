//! Plain UDP: no handshake tells where a session begins.

use super::{Next, Session};
use crate::{
    abi::{
        FLOW_CAPTURED, FlowState, ReturnKey, SERVICE_AFFINITY, SERVICE_CLOSING, SERVICE_ELSEWHERE,
    },
    maglev,
    packet::Frame,
    reason::DropReason,
    steer::{Node, fate},
};

impl<I: Fn() -> u32> Session<'_, I> {
    /// Plain UDP: the client's flow where its backend goes on, else placement. A flow begins with the pod's first
    /// answer; until then, and for senders that are never answered, placement alone decides.
    #[inline(always)]
    pub(super) fn udp<F: Frame, N: Node>(&self, frame: &F, node: &N) -> Result<Next, DropReason> {
        let now = node.now();
        let (known, captured) = self.udp_flow(node, now);
        if known != maglev::EMPTY {
            let mut next = Next::deliver(known, true);
            next.captured = captured;
            return Ok(next);
        }
        if self.is(SERVICE_CLOSING) {
            return Ok(Next::NO_FLOW);
        }
        let slot = self.choose(node)?;
        if slot == maglev::EMPTY {
            return Ok(Next::ELSEWHERE);
        }
        let key = ReturnKey::of_words(self.packet.source, self.key.port, slot);
        if !node.dry_run() && node.handshake(&key).is_none() {
            let mut handshake = node.new_handshake().ok_or(DropReason::Undeliverable)?;
            handshake.first_ns = now;
            handshake.cookie_ns = 0;
            handshake.path = self.link.path(frame, (self.ifindex)())?;
            handshake.caller_id = 0;
            handshake.pod_cookie = 0;
            handshake.service = self.service.id;
            handshake.route = 0;
            handshake.flow_window = 0;
            node.insert_handshake(&key, &handshake);
        }
        Ok(Next::deliver(slot, false))
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

    /// The slot of the flow that goes on, or [`maglev::EMPTY`]; and whether it is marked for capture.
    #[inline(always)]
    fn udp_flow<N: Node>(&self, node: &N, now: u64) -> (u16, bool) {
        let Some(mut flow) = node.flow(&self.key) else {
            return (maglev::EMPTY, false);
        };
        if FlowState::from_u8(flow.state) != FlowState::Established {
            return (maglev::EMPTY, false);
        }
        let slot = flow.slot;
        let (Some(backend), Some(health)) = (node.backend(slot), node.health(slot)) else {
            return (maglev::EMPTY, false);
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
        let captured = flow.marks & FLOW_CAPTURED != 0;
        (if goes_on { slot } else { maglev::EMPTY }, captured)
    }
}
