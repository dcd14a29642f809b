//! A handshake to a `client` service: the client's address chooses the pod, which gets both handshakes as they are.

use super::{
    decision::{Decision, Step},
    keep, place,
};
use crate::{
    abi::{FlowKey, FlowState, ReturnKey, SERVICE_AFFINITY, SERVICE_ELSEWHERE},
    maglev,
    reason::{DropReason, PassReason},
    srt,
    steer::{Node, fate},
};

#[inline(always)]
pub(super) fn decide<N: Node>(node: &N) -> Result<Decision, Decision> {
    let Some(space) = node.workspace() else {
        return Err(Decision::drop(DropReason::Undeliverable));
    };
    let (key, caller_id) = (space.request.key, space.request.caller_id);
    let (flags, pool) = (space.request.flags, space.request.pool);
    let induction = space.request.kind == srt::INDUCTION;
    drop(space);
    if !induction {
        let bad = node.check_extensions();
        if bad != 0 {
            return Err(Decision::drop_by(bad));
        }
    }
    let now = node.now();
    let known = slot_of_flow(node, &key, caller_id, now);
    let slot = if known == maglev::EMPTY {
        let port = if flags & SERVICE_AFFINITY == 0 {
            key.port
        } else {
            0
        };
        let hash = maglev::hash_client(&key.address, port);
        let mut slot = place::in_pool(node, pool, hash);
        if slot != maglev::EMPTY
            && induction
            && !node.dry_run()
            && unanswered(node, &key, slot, caller_id, now)
        {
            slot = place::in_pool(node, pool, hash);
        }
        if slot == maglev::EMPTY {
            return if flags & SERVICE_ELSEWHERE == 0 {
                Err(Decision::drop(DropReason::NoBackend))
            } else {
                Ok(Decision::pass(PassReason::Elsewhere))
            };
        }
        slot
    } else {
        known
    };
    if !node.dry_run() {
        keep::note(node, slot, 0, now);
    }
    let by_flow = known != maglev::EMPTY;
    Ok(Decision::on(Step::Forward, slot, 0, by_flow))
}

/// The slot of the client's flow, where a handshake belongs to it: the caller repeats itself (the pod's answer was
/// lost), or a new socket on the same address and port meets the old one's pod. Else [`maglev::EMPTY`].
#[inline(always)]
fn slot_of_flow<N: Node>(node: &N, key: &FlowKey, caller_id: u32, now: u64) -> u16 {
    let Some(flow) = node.flow(key) else {
        return maglev::EMPTY;
    };
    if FlowState::from_u8(flow.state) != FlowState::Established {
        return maglev::EMPTY;
    }
    let (Some(backend), Some(health)) = (node.backend(flow.slot), node.health(flow.slot)) else {
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

/// Whether an INDUCTION was left unanswered by its pod while that was not heard at all: the pod hangs, and the retry goes
/// elsewhere.
#[inline(always)]
fn unanswered<N: Node>(node: &N, key: &FlowKey, slot: u16, caller_id: u32, now: u64) -> bool {
    let back = ReturnKey {
        address: key.address,
        port: key.port,
        slot,
    };
    let first_ns = match node.handshake(&back) {
        Some(known) if known.caller_id == caller_id => known.first_ns,
        _ => return false,
    };
    fate::unanswered(node, slot, first_ns, now)
}
