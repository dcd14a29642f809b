//! Placement of a new session: the pool's Maglev table, passing over backends that take none.

use super::{Node, fate};
use crate::maglev;

/// How many positions of the table are tried.
const PROBES: u32 = 16;

/// The slot for a session whose key hashes to `hash`; [`maglev::EMPTY`] where no backend serves. Every node with the
/// same table and the same knowledge of its backends finds the same.
///
/// When every probed backend that serves was seen dead or silent, the first of them is tried all the same: a
/// restarted pod is found at once, and a dead one costs the caller nothing more than there being none.
#[inline(always)]
pub fn place<N: Node>(node: &N, pool: u16, hash: u32) -> u16 {
    let now = node.now();
    let config = node.config();
    let mut second_best = maglev::EMPTY;
    let mut probe = 0;
    while probe < PROBES {
        let slot = node
            .table(pool, maglev::position(hash, probe))
            .unwrap_or(maglev::EMPTY);
        if slot == maglev::EMPTY {
            break;
        }
        if let (Some(backend), Some(health)) = (node.backend(slot), node.health(slot)) {
            if fate::accepts(&backend, &health, &config, now) {
                return slot;
            }
            if second_best == maglev::EMPTY && fate::serves(&backend, &health) {
                second_best = slot;
            }
        }
        probe += 1;
    }
    second_best
}
