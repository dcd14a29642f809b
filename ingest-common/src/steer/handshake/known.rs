//! A CONCLUSION that came before: the caller repeats it every 250 ms until the pod's answer reaches it. It goes to the same
//! pod, is not charged again, and costs four bytes once the pod's cookie is known.

use super::{
    decision::{Decision, Step},
    keep,
};
use crate::{
    abi::{FlowKey, FlowState, ReturnKey},
    packet::COPY_MAX,
    reason::DropReason,
    steer::{Node, fate},
};

/// libsrt takes a cookie of its own for at least this long.
const POD_COOKIE_NS: u64 = 60_000_000_000;

/// Looks for the very same CONCLUSION. Another one of the same caller is another question: its Stream ID may be one that
/// the pod must never see.
#[inline(always)]
pub(super) fn decide<N: Node>(node: &N) -> Result<Decision, Decision> {
    let (key, caller_id) = match node.workspace() {
        Some(space) => (space.request.key, space.request.caller_id),
        None => return Err(Decision::drop(DropReason::Undeliverable)),
    };
    let now = node.now();
    let decision = look_up(node, &key, caller_id, now);
    if node.dry_run() {
        return Ok(decision);
    }
    match decision.step() {
        Step::Rewrite => node.count_splice(key.service, |stats| stats.rewritten += 1),
        Step::Cut => {
            refresh(node, &key);
            keep::note(node, decision.slot(), decision.route(), now);
        }
        _ => {}
    }
    Ok(decision)
}

#[inline(always)]
fn look_up<N: Node>(node: &N, key: &FlowKey, caller_id: u32, now: u64) -> Decision {
    let Some(splice) = node.splice(key) else {
        return Decision::UNKNOWN;
    };
    let (slot, incarnation, route) = (splice.slot, splice.incarnation, splice.stream.route);
    let same = splice.stream.caller_id == caller_id;
    drop(splice);
    if !same || !node.is_repeated() {
        return Decision::UNKNOWN;
    }
    let (Some(backend), Some(health)) = (node.backend(slot), node.health(slot)) else {
        return Decision::UNPLACED;
    };
    let by_flow = match node.flow(key) {
        Some(flow) => {
            flow.caller_id == caller_id
                && flow.slot == slot
                && flow.state == FlowState::Established as u8
                && fate::fate(&flow, &backend, &health, now) == 0
        }
        None => false,
    };
    if !by_flow
        && (backend.incarnation != incarnation
            || !fate::accepts(&backend, &health, &node.config(), now))
    {
        return Decision::UNPLACED;
    }
    drop(health);
    drop(backend);
    let back = ReturnKey {
        address: key.address,
        port: key.port,
        slot,
    };
    let again = Decision::on(Step::Cut, slot, route, by_flow);
    let Some(handshake) = node.handshake(&back) else {
        return again;
    };
    if handshake.caller_id != caller_id {
        return again;
    }
    let (first_ns, cookie_ns) = (handshake.first_ns, handshake.cookie_ns);
    let cookie = handshake.pod_cookie;
    drop(handshake);
    if cookie == 0 {
        return if !node.dry_run() && fate::unanswered(node, slot, first_ns, now) {
            Decision::UNPLACED
        } else {
            again
        };
    }
    if now.saturating_sub(cookie_ns) >= POD_COOKIE_NS {
        return again;
    }
    if let Some(mut space) = node.workspace() {
        space.request.send_cookie = cookie;
    }
    Decision::on(Step::Rewrite, slot, route, by_flow)
}

/// Word of the timestamp.
const TIME: usize = 2;
/// First word of the handshake.
const FIRST: usize = 4;
/// Word of the cookie.
const COOKIE: usize = 11;

/// The kept CONCLUSION gets the time of the newest: the pod takes its sender's clock from what it is given.
#[inline(always)]
fn refresh<N: Node>(node: &N, key: &FlowKey) {
    let Some(space) = node.workspace() else {
        return;
    };
    let (words, _) = space.splice.bytes.as_chunks::<4>();
    let time = words.get(TIME).copied();
    drop(space);
    if let (Some(time), Some(mut splice)) = (time, node.splice(key)) {
        let (words, _) = splice.bytes.as_chunks_mut::<4>();
        if let Some(word) = words.get_mut(TIME) {
            *word = time;
        }
    }
}

/// Whether `SPLICES` keeps the very CONCLUSION of the workspace, but for its time and cookie.
#[must_use]
#[inline(always)]
pub fn is_repeated<N: Node>(node: &N) -> bool {
    let Some(space) = node.workspace() else {
        return false;
    };
    let (key, length) = (space.request.key, space.request.length);
    let Some(splice) = node.splice(&key) else {
        return false;
    };
    if splice.length != length {
        return false;
    }
    let (new, _) = space.splice.bytes.as_chunks::<4>();
    let (old, _) = splice.bytes.as_chunks::<4>();
    let mut at = FIRST;
    while at < COPY_MAX / 4 {
        if at >= length as usize / 4 {
            break;
        }
        let (Some(new), Some(old)) = (new.get(at), old.get(at)) else {
            break;
        };
        if at != COOKIE && u32::from_ne_bytes(*new) != u32::from_ne_bytes(*old) {
            return false;
        }
        at += 1;
    }
    true
}
