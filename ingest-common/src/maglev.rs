//! Maglev consistent hashing: building the table (agent) and looking a key up (kernel).
//!
//! Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4.

use crate::abi::MaglevTable;

#[cfg(test)]
mod tests;

/// Positions of a table: a prime, so that every skip visits all of them.
pub const TABLE_SIZE: u32 = 16_381;

/// A position no backend holds (only in the table of an empty pool).
pub const EMPTY: u16 = u16::MAX;

/// A backend as the table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its slot on this node: what the table holds.
    pub slot: u16,
    /// Hash of what names it on every node (address, port): so that all nodes build the same table.
    pub identity: u64,
    /// Its share, in proportion to the others'; 0 counts as 1.
    pub weight: u16,
}

/// A 64-bit hash of `bytes` that every node and every release computes alike (FNV-1a with a final mix).
#[must_use]
pub fn identity(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(hash)
}

/// The finalizer of SplitMix64: spreads every input bit over all output bits.
#[inline(always)]
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Fills `table` from `members`, in an order that does not depend on the members' order.
///
/// Each member walks its own permutation of the positions and takes the next free one in turn: the heaviest one in every
/// round, a lighter one in its share of them. With no members every position is [`EMPTY`]. At most
/// [`crate::abi::MAX_POOL_BACKENDS`] members are used; `scratch` must hold one entry per member.
pub fn build(members: &mut [Member], scratch: &mut [Cursor], table: &mut MaglevTable) {
    table.slots.fill(EMPTY);
    members.sort_unstable_by_key(|m| (m.identity, m.slot));
    let count = members.len().min(scratch.len());
    if count == 0 {
        return;
    }
    let weights = members.iter().take(count).map(|m| m.weight.max(1));
    let heaviest = weights.max().map_or(1, u32::from);
    for (cursor, member) in scratch.iter_mut().zip(members.iter()) {
        let skip_hash = mix(member.identity ^ 0x9e37_79b9_7f4a_7c15);
        *cursor = Cursor {
            position: (member.identity % u64::from(TABLE_SIZE)) as u32,
            skip: (skip_hash % u64::from(TABLE_SIZE - 1)) as u32 + 1,
            // Light members do not all take their turns in the same rounds: the table would end with one share too many
            // of each, at the heavy ones' cost.
            credit: ((u64::from(skip_hash as u32) * u64::from(heaviest)) >> 32) as u32,
        };
    }
    let mut filled = 0;
    'rounds: loop {
        for (cursor, member) in scratch.iter_mut().zip(members.iter()) {
            cursor.credit += u32::from(member.weight.max(1));
            if cursor.credit < heaviest {
                continue;
            }
            cursor.credit -= heaviest;
            loop {
                let Some(entry) = table.slots.get_mut(cursor.position as usize) else {
                    return;
                };
                cursor.position = (cursor.position + cursor.skip) % TABLE_SIZE;
                if *entry == EMPTY {
                    *entry = member.slot;
                    break;
                }
            }
            filled += 1;
            if filled == TABLE_SIZE {
                break 'rounds;
            }
        }
    }
}

/// Where a member's permutation stands while a table is built.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    position: u32,
    skip: u32,
    /// What it is owed, in the heaviest member's share.
    credit: u32,
}

/// Hash of a placement key made of a client's address and port.
#[must_use]
#[inline(always)]
pub fn hash_client(address: &[u8; 16], port: u16) -> u32 {
    let high = u64::from_be_bytes([
        address[0], address[1], address[2], address[3], address[4], address[5], address[6],
        address[7],
    ]);
    let low = u64::from_be_bytes([
        address[8],
        address[9],
        address[10],
        address[11],
        address[12],
        address[13],
        address[14],
        address[15],
    ]);
    (mix(mix(high ^ 0x1b87_3593_cc9e_2d51) ^ low.wrapping_add(mix(u64::from(port)))) >> 32) as u32
}

/// The table position of probe number `probe` for `hash`: the first choice is probe 0, later ones spread over the
/// table.
#[must_use]
#[inline(always)]
pub fn position(hash: u32, probe: u32) -> u32 {
    // A multiply instead of a remainder: the verifier knows the bound of (u32 × 16381) >> 32.
    let spread = hash.wrapping_add(probe.wrapping_mul(0x9e37_79b1));
    ((u64::from(spread) * u64::from(TABLE_SIZE)) >> 32) as u32
}
