//! Plain UDP: no handshake tells where a session begins.

use super::{Next, Session};
use crate::{
    abi::{FlowState, SERVICE_CLOSING},
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
            self.note(frame, node, &key, |handshake| {
                handshake.first_ns = now;
                handshake.caller_id = 0;
                handshake.flow_window = 0;
                handshake.cookie_ns = 0;
                handshake.pod_cookie = 0;
                handshake.route = 0;
            })?;
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
