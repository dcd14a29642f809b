//! What is kept of a handshake until its pod has answered.

use crate::{
    abi::{GroupKey, ReturnKey, Route},
    steer::{Node, Request},
};

/// Notes that the client asked the pod of `slot`, and by which way.
#[inline(always)]
pub(super) fn note<N: Node>(node: &N, slot: u16, route: u16, now: u64) {
    let Some(space) = node.workspace() else {
        return;
    };
    let asked: &Request = &space.request;
    let caller_id = asked.caller_id;
    let key = ReturnKey {
        address: asked.key.address,
        port: asked.key.port,
        slot,
    };
    let first_ns = match node.handshake(&key) {
        Some(known) if known.caller_id == caller_id => known.first_ns,
        _ => now,
    };
    let Some(mut handshake) = node.new_handshake() else {
        return;
    };
    handshake.first_ns = first_ns;
    handshake.cookie_ns = 0;
    handshake.path = asked.path;
    handshake.caller_id = caller_id;
    handshake.pod_cookie = 0;
    handshake.service = asked.key.service;
    handshake.route = route;
    handshake.flow_window = asked.flow_window;
    node.insert_handshake(&key, &handshake);
}

/// Keeps the CONCLUSION of the workspace for the pod of `slot`.
#[inline(always)]
pub(super) fn keep<N: Node>(node: &N, slot: u16, incarnation: u32, route: u16) {
    let Some(mut space) = node.workspace() else {
        return;
    };
    let (key, length) = (space.request.key, space.request.length);
    space.splice.slot = slot;
    space.splice.length = length;
    space.splice.incarnation = incarnation;
    space.splice.stream.route = route;
    node.insert_splice(&key, &space.splice);
}

/// The bonded connection that the caller's link is part of, of which the pool's key is one; `None`: it is not bonded.
#[inline(always)]
pub(super) fn group_key<N: Node>(node: &N, route: &Route) -> Option<GroupKey> {
    let space = node.workspace()?;
    let stream = &space.splice.stream;
    (stream.group != 0).then(|| GroupKey {
        key: stream.key,
        group: stream.group,
        pool: u32::from(route.pool),
    })
}
