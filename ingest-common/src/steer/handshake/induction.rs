//! INDUCTION to a `stream` service: answered with a cookie that only its receiver can give back. Nothing is kept of it but
//! how fast its source asks.

use super::{Decision, admit, place};
use crate::{
    abi::{FlowState, NO_SLOT, SERVICE_ELSEWHERE, words_from_address},
    maglev,
    reason::{DropReason, PassReason},
    srt,
    steer::Node,
};

#[inline(always)]
pub(super) fn decide<N: Node>(node: &N) -> Result<Decision, Decision> {
    let Some(space) = node.workspace() else {
        return Err(Decision::drop(DropReason::Undeliverable));
    };
    let (key, caller_id) = (space.request.key, space.request.caller_id);
    let (flags, pool) = (space.request.flags, space.request.pool);
    drop(space);
    if !admit::source(node, key.address, admit::Act::Induction) {
        return Err(Decision::drop(DropReason::SourceRate));
    }
    // A late copy: libsrt 1.5.7 ends a session when it is given an INDUCTION response.
    if let Some(flow) = node.flow(&key)
        && flow.caller_id == caller_id
        && flow.state == FlowState::Established as u8
    {
        return Err(Decision::drop(DropReason::SrtInduction));
    }
    // Our cookie means nothing to another node: what none here takes is left to the host before it has one.
    if flags & SERVICE_ELSEWHERE != 0 {
        let hash = maglev::hash_client(&key.address, 0);
        if place::in_pool(node, pool, hash) == maglev::EMPTY {
            return Ok(Decision::pass(PassReason::Elsewhere));
        }
    }
    let Some(secrets) = node.secrets() else {
        return Err(Decision::drop(DropReason::Undeliverable));
    };
    if secrets.serial == 0 {
        return Err(Decision::drop(DropReason::Undeliverable));
    }
    let client = words_from_address(key.address);
    let cookie = srt::cookie(&secrets, client, key.port, caller_id, node.now());
    drop(secrets);
    if let Some(mut space) = node.workspace() {
        space.request.send_cookie = cookie;
    }
    node.count(key.service, NO_SLOT, |traffic| traffic.inductions += 1);
    node.count_splice(key.service, |stats| stats.cookies_sent += 1);
    Ok(Decision::ANSWER)
}
