use std::{boxed::Box, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::abi::{MAX_POOL_BACKENDS, v4_mapped};

fn members(count: usize, seed: u64) -> Vec<Member> {
    (0..count)
        .map(|slot| Member {
            slot: slot as u16,
            identity: identity(&[seed.to_be_bytes(), (slot as u64).to_be_bytes()].concat()),
            weight: 1,
        })
        .collect()
}

#[expect(clippy::large_stack_arrays, reason = "moved to the heap at once")]
fn table(members: &[Member]) -> Vec<u16> {
    let mut members = members.to_vec();
    let mut scratch = vec![Cursor::default(); members.len()];
    let mut table = Box::new(MaglevTable { slots: [7; 16_384] });
    build(&mut members, &mut scratch, &mut table);
    assert!(
        table.slots[TABLE_SIZE as usize..]
            .iter()
            .all(|slot| *slot == EMPTY),
        "entries behind the table are unused"
    );
    table.slots[..TABLE_SIZE as usize].to_vec()
}

/// One number for a table.
fn crc(table: &[u16]) -> u64 {
    let bytes: Vec<u8> = table.iter().flat_map(|slot| slot.to_be_bytes()).collect();
    identity(&bytes)
}

/// [`crc`] of the table of 100 members without weights, seed 7, as the release before weights built it.
const PLAIN: u64 = 3_152_207_841_640_855_670;

fn shares(table: &[u16], members: usize) -> Vec<usize> {
    let mut shares = vec![0; members];
    for slot in table {
        shares[*slot as usize] += 1;
    }
    shares
}

#[test]
fn an_empty_pool_has_an_empty_table() {
    assert!(table(&[]).iter().all(|slot| *slot == EMPTY));
}

#[test]
fn shares_differ_by_one_at_most() {
    for count in [1, 2, 3, 7, 64, 100, 333, 1000, MAX_POOL_BACKENDS] {
        let shares = shares(&table(&members(count, 1)), count);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(most - least <= 1, "{count} members: {least}..={most}");
    }
}

#[test]
fn a_leaver_moves_little_but_its_own() {
    for count in [2, 3, 8, 50, 200, MAX_POOL_BACKENDS] {
        let all = members(count, 2);
        let before = table(&all);
        let leaver = count / 2;
        let after = table(
            &all.iter()
                .filter(|m| m.slot != leaver as u16)
                .copied()
                .collect::<Vec<_>>(),
        );
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| **before != leaver as u16 && before != after)
            .count();
        let share = TABLE_SIZE as usize / count;
        assert!(!after.contains(&(leaver as u16)));
        // Entries that move although their backend stays: at most twice the leaver's share, and a twentieth of the
        // table where shares are small.
        let bound = (2 * share).max(TABLE_SIZE as usize / 20);
        assert!(
            moved <= bound,
            "{count} members: {moved} of others moved, {share} were the leaver's"
        );
    }
}

fn weighted(weights: &[u16], seed: u64) -> Vec<Member> {
    let mut members = members(weights.len(), seed);
    for (member, weight) in members.iter_mut().zip(weights) {
        member.weight = *weight;
    }
    members
}

/// Each member's share is its weight's, but for two turns and a twentieth: rounds end in the middle.
fn assert_proportional(weights: &[u16], seed: u64) {
    let shares = shares(&table(&weighted(weights, seed)), weights.len());
    let sum: f64 = weights.iter().copied().map(f64::from).sum();
    for (share, weight) in shares.iter().zip(weights) {
        let due = f64::from(TABLE_SIZE) * f64::from(*weight) / sum;
        let slack = 2.0 + due * 0.05;
        assert!(
            (f64::from(u32::try_from(*share).unwrap()) - due).abs() <= slack,
            "weight {weight} of {weights:?} has {share}, {due:.1} are due"
        );
    }
}

#[test]
fn equal_weights_make_the_table_that_none_make() {
    let plain = table(&members(100, 7));
    assert_eq!(PLAIN, crc(&plain));
    for weight in [1, 2, 100, u16::MAX] {
        assert!(plain == table(&weighted(&[weight; 100], 7)), "{weight}");
    }
    assert!(plain == table(&weighted(&[0; 100], 7)), "no weight is 1");
}

#[test]
fn shares_are_in_proportion_to_weights() {
    assert_proportional(&[1, 2], 1);
    assert_proportional(&[1, 1, 2], 1);
    assert_proportional(&[1, 100], 1);
    assert_proportional(&[50, 100, 100, 75], 1);
    let mut one_heavy = vec![1; 1000];
    one_heavy[500] = 100;
    assert_proportional(&one_heavy, 1);
    let mut one_light = vec![100; 1000];
    one_light[500] = 1;
    assert_proportional(&one_light, 1);
}

#[test]
fn a_weighted_leaver_moves_little_but_its_own() {
    for weights in [
        vec![1, 2, 3, 4],
        vec![100, 1, 50, 25, 25],
        (1..=50).collect::<Vec<u16>>(),
        (0..300).map(|n| if n % 3 == 0 { 10 } else { 1 }).collect(),
    ] {
        let all = weighted(&weights, 2);
        let before = table(&all);
        for leaver in 0..weights.len().min(60) as u16 {
            let rest: Vec<_> = all.iter().filter(|m| m.slot != leaver).copied().collect();
            let after = table(&rest);
            let own = before.iter().filter(|slot| **slot == leaver).count();
            let moved = before
                .iter()
                .zip(&after)
                .filter(|(before, after)| **before != leaver && before != after)
                .count();
            let bound = own.max(TABLE_SIZE as usize / 20);
            assert!(
                moved <= bound,
                "{leaver} of {weights:?}: {moved} of others moved, {own} were its own"
            );
        }
    }
}

#[test]
fn a_client_hash_differs_by_every_bit() {
    let base = hash_client(&v4_mapped([192, 0, 2, 1]), 40_000);
    assert_ne!(base, hash_client(&v4_mapped([192, 0, 2, 1]), 40_001));
    for bit in 0..128 {
        let mut address = v4_mapped([192, 0, 2, 1]);
        address[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(base, hash_client(&address, 40_000), "bit {bit}");
    }
}

#[test]
fn clients_spread_over_the_table() {
    // One address with many ports: each tenth of the table gets its tenth, by and large.
    let mut tenths = [0_u32; 10];
    for port in 1024..=u16::MAX {
        let position = position(hash_client(&v4_mapped([198, 51, 100, 7]), port), 0);
        tenths[(position * 10 / TABLE_SIZE) as usize] += 1;
    }
    let mean = (u32::from(u16::MAX) - 1023) / 10;
    for count in tenths {
        assert!(count.abs_diff(mean) < mean / 10, "{tenths:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_members_order_does_not_matter(count in 1_usize..200, seed in any::<u64>(), shift in any::<usize>()) {
        let sorted = members(count, seed);
        let mut turned = sorted.clone();
        turned.rotate_left(shift % count);
        turned.reverse();
        prop_assert_eq!(table(&sorted), table(&turned));
    }

    #[test]
    fn every_member_has_its_share(count in 1_usize..=MAX_POOL_BACKENDS, seed in any::<u64>()) {
        let shares = shares(&table(&members(count, seed)), count);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        prop_assert!(most - least <= 1);
    }

    #[test]
    fn every_member_has_what_its_weight_is_due(
        weights in prop::collection::vec(1..=100_u16, 1..200),
        seed in any::<u64>(),
    ) {
        assert_proportional(&weights, seed);
    }

    #[test]
    fn the_order_does_not_matter_with_weights_either(
        weights in prop::collection::vec(1..=100_u16, 1..100),
        seed in any::<u64>(),
    ) {
        let sorted = weighted(&weights, seed);
        let mut turned = sorted.clone();
        turned.reverse();
        prop_assert_eq!(table(&sorted), table(&turned));
    }

    #[test]
    fn positions_are_in_the_table(hash in any::<u32>(), probe in any::<u32>()) {
        prop_assert!(position(hash, probe) < TABLE_SIZE);
    }
}
