//! Which backend takes a stream.

use crate::{
    abi::{Group, GroupKey},
    maglev,
    steer::{Node, fate},
};

/// The links of a bonded connection are set up within seconds of each other.
const GROUP_NS: u64 = 10_000_000_000;

/// A slot of the pool; [`maglev::EMPTY`] where none takes new sessions.
#[inline(always)]
pub(super) fn in_pool<N: Node>(node: &N, pool: u16, hash: u32) -> u16 {
    let slot = node.place(pool, hash);
    if slot == maglev::EMPTY {
        node.place_in_doubt(pool, hash)
    } else {
        slot
    }
}

/// The slot that the connection's first link went to, where it still takes sessions: all links must meet in one process,
/// even one that is full otherwise.
#[inline(always)]
pub(super) fn of_group<N: Node>(node: &N, key: &GroupKey, now: u64) -> u16 {
    let Some(group) = node.group(key) else {
        return maglev::EMPTY;
    };
    let (slot, incarnation, seen_ns) = (group.slot, group.incarnation, group.seen_ns);
    drop(group);
    let (Some(backend), Some(health)) = (node.backend(slot), node.health(slot)) else {
        return maglev::EMPTY;
    };
    if now.saturating_sub(seen_ns) < GROUP_NS
        && backend.incarnation == incarnation
        && fate::accepts(&backend, &health, &node.config(), now)
    {
        slot
    } else {
        maglev::EMPTY
    }
}

/// Notes where a link went.
#[inline(always)]
pub(super) fn note_group<N: Node>(node: &N, key: &GroupKey, slot: u16, incarnation: u32, now: u64) {
    let group = Group {
        seen_ns: now,
        incarnation,
        slot,
        _pad: 0,
    };
    node.insert_group(key, &group);
}
