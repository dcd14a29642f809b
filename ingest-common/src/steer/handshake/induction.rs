//! INDUCTION to a `stream` service: answered with a cookie that only its receiver can give back. Nothing is kept of it but
//! how fast its source asks.

use super::{Decision, admit, place};
use crate::{
    abi::{Address, FlowState, NO_SLOT, SERVICE_ELSEWHERE, words_from_address},
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
    if is_elsewhere(node, flags, pool, &key.address) {
        return Ok(Decision::pass(PassReason::Elsewhere));
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

/// Whether a service's callers are left to the host: no backend here takes them, and other nodes have some. Our cookie means
/// nothing there, so that is decided before they have one; their CONCLUSION then has a pod's.
#[inline(always)]
pub(super) fn is_elsewhere<N: Node>(node: &N, flags: u32, pool: u16, client: &Address) -> bool {
    flags & SERVICE_ELSEWHERE != 0
        && place::in_pool(node, pool, maglev::hash_client(client, 0)) == maglev::EMPTY
}
