//! A caller's handshake: checked, given a backend, and noted for the pod's answer.

use super::{Next, Session};
use crate::{
    abi::{FlowState, Handshake, ReturnKey, SERVICE_AFFINITY, SERVICE_ELSEWHERE},
    maglev,
    packet::Frame,
    reason::DropReason,
    srt,
    steer::{Node, fate},
};

impl<I: Fn() -> u32> Session<'_, I> {
    /// A handshake to a listener: INDUCTION or CONCLUSION (`client` way: both go to the pod).
    #[inline(always)]
    pub(super) fn handshake<F: Frame, N: Node>(
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
                    let mut workspace = node.workspace().ok_or(DropReason::Undeliverable)?;
                    frame.copy(offset, length as usize, &mut workspace.splice.bytes)?;
                    drop(workspace);
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
            self.note(frame, node, &key, |handshake| {
                handshake.first_ns = first_ns;
                handshake.caller_id = request.socket_id;
                handshake.flow_window = request.flow_window;
                handshake.cookie_ns = 0;
                handshake.pod_cookie = 0;
                handshake.route = 0;
            })?;
        }
        Ok(next)
    }

    /// Notes that the client asked, and by which way. `fill` sets the rest.
    #[inline(always)]
    pub(super) fn note<F: Frame, N: Node>(
        &self,
        frame: &F,
        node: &N,
        key: &ReturnKey,
        fill: impl FnOnce(&mut Handshake),
    ) -> Result<(), DropReason> {
        let mut handshake = node.new_handshake().ok_or(DropReason::Undeliverable)?;
        handshake.path = self.link.path(frame, (self.ifindex)())?;
        handshake.service = self.service.id;
        fill(&mut handshake);
        node.insert_handshake(key, &handshake);
        Ok(())
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
    pub(super) fn choose<N: Node>(&self, node: &N) -> Result<u16, DropReason> {
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
}

/// [`srt::check_extensions`] on a node's workspace: 0, or the number of a [`DropReason`].
#[inline(always)]
pub fn check_extensions<N: Node>(node: &N, length: u16) -> u8 {
    let Some(workspace) = node.workspace() else {
        return DropReason::Undeliverable as u8;
    };
    match srt::check_extensions(&workspace.splice.bytes, length) {
        Ok(()) => 0,
        Err(reason) => reason as u8,
    }
}
