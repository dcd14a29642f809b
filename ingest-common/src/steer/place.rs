//! Placement of a new session: the pool's Maglev table, passing over backends that take none or are full.

use super::{Node, fate};
use crate::{
    abi::{BACKEND_SOFT_LIMIT, Backend},
    maglev,
};

/// How many positions of the table are tried.
const PROBES: u32 = 16;

/// The slot for a session whose key hashes to `hash`; [`maglev::EMPTY`] where no probed backend accepts. Every node with
/// the same table and the same knowledge of its backends finds the same.
#[inline(always)]
pub fn place<N: Node>(node: &N, pool: u16, hash: u32) -> u16 {
    let now = node.now();
    let config = node.config();
    let mut probe = 0;
    while probe < PROBES {
        let slot = candidate(node, pool, hash, probe);
        if slot == maglev::EMPTY {
            break;
        }
        if let (Some(backend), Some(health)) = (node.backend(slot), node.health(slot))
            && fate::accepts(&backend, &health, &config, now)
            && !full(node, slot, &backend)
        {
            return slot;
        }
        probe += 1;
    }
    maglev::EMPTY
}

/// Where every probed backend that serves was seen dead or silent lately, the one whose failure is longest ago: it is
/// the likeliest to have been restarted, and a dead one costs the caller nothing more than there being none. One whose limit
/// only spreads comes before those.
/// [`maglev::EMPTY`] where none serves.
#[inline(always)]
pub fn place_in_doubt<N: Node>(node: &N, pool: u16, hash: u32) -> u16 {
    let mut oldest = (maglev::EMPTY, u64::MAX);
    let mut probe = 0;
    while probe < PROBES {
        let slot = candidate(node, pool, hash, probe);
        if slot == maglev::EMPTY {
            break;
        }
        if let (Some(backend), Some(health)) = (node.backend(slot), node.health(slot)) {
            let failure = health.unreachable_ns.max(health.silent_ns);
            let spreads = backend.flags & BACKEND_SOFT_LIMIT != 0;
            if failure < oldest.1
                && fate::serves(&backend, &health)
                && (spreads || !full(node, slot, &backend))
            {
                oldest = (slot, failure);
            }
        }
        probe += 1;
    }
    oldest.0
}

/// Whether the backend has as many sessions as it takes.
#[inline(always)]
fn full<N: Node>(node: &N, slot: u16, backend: &Backend) -> bool {
    backend.limit != 0
        && node
            .load(slot)
            .is_some_and(|load| load.active >= u64::from(backend.limit))
}

#[inline(always)]
fn candidate<N: Node>(node: &N, pool: u16, hash: u32, probe: u32) -> u16 {
    node.table(pool, maglev::position(hash, probe))
        .unwrap_or(maglev::EMPTY)
}
