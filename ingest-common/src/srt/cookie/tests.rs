use std::{hash::Hasher, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::abi::{v4_mapped, words_from_address};

const SLOT: u64 = 1 << SLOT_SHIFT;
/// Eleven days after boot, early in an even slot.
const NOW: u64 = 28_000 * SLOT + 5;
const CALLER: u32 = 0x1f01_3076;
const PORT: u16 = 40_000;

fn client() -> [u32; 4] {
    words_from_address(v4_mapped([192, 0, 2, 1]))
}

fn secrets() -> Secrets {
    Secrets {
        keys: [[0x1111, 0x2222], [0x3333, 0x4444]],
        current: 0,
        serial: 2,
        since_ns: 0,
    }
}

/// As the agent does it: over the idle one, then current.
fn rotate(secrets: &mut Secrets, key: [u64; 2]) {
    let idle = 1 - secrets.current;
    secrets.keys[idle as usize] = key;
    secrets.current = idle;
    secrets.serial += 1;
}

fn check(secrets: &Secrets, cookie: u32, now: u64) -> CookieCheck {
    check_cookie(secrets, client(), PORT, CALLER, cookie, now)
}

#[test]
fn siphash_is_the_authors() {
    // `vectors.h` of the reference implementation, 26 bytes: 0, 1, 2, … under the key 0, 1, 2, …
    let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
    let words = [
        0x0706_0504_0302_0100,
        0x0f0e_0d0c_0b0a_0908,
        0x1716_1514_1312_1110,
    ];
    assert_eq!(siphash(key, words, 0x1918), 0x17d8_35b8_5bbb_15f3);
}

#[test]
fn a_cookie_holds_for_one_slot_and_all_of_the_next() {
    let secrets = secrets();
    for (at, what) in [
        (NOW, CookieCheck::Valid),
        (NOW + SLOT, CookieCheck::Valid),
        (NOW - 5 + 2 * SLOT - 1, CookieCheck::Valid),
        (NOW - 5 + 2 * SLOT, CookieCheck::Stale),
        (NOW + 3 * SLOT, CookieCheck::Stale),
        (NOW - 5 + 4 * SLOT, CookieCheck::Forged),
        (NOW + 1000 * SLOT, CookieCheck::Forged),
    ] {
        let cookie = cookie(&secrets, client(), PORT, CALLER, NOW);
        assert_eq!(
            check(&secrets, cookie, at),
            what,
            "{} s later",
            (at - NOW) / 1_000_000_000
        );
    }
}

#[test]
fn the_first_minute_after_boot_is_no_different() {
    let secrets = secrets();
    for now in [0, 1, SLOT - 1, SLOT, 2 * SLOT] {
        let cookie = cookie(&secrets, client(), PORT, CALLER, now);
        assert_eq!(check(&secrets, cookie, now), CookieCheck::Valid);
    }
}

#[test]
fn a_slot_makes_another_cookie() {
    let secrets = secrets();
    let of = |now| cookie(&secrets, client(), PORT, CALLER, now);
    assert_eq!(of(NOW), of(NOW + SLOT - 6));
    assert_ne!(of(NOW), of(NOW + SLOT));
    assert_ne!(of(NOW), of(NOW + 2 * SLOT));
}

#[test]
fn a_cookie_outlives_one_rotation() {
    let mut secrets = secrets();
    let cookie = cookie(&secrets, client(), PORT, CALLER, NOW);
    rotate(&mut secrets, [5, 6]);
    assert_eq!(check(&secrets, cookie, NOW), CookieCheck::Valid);
    assert_ne!(
        cookie & 1,
        super::cookie(&secrets, client(), PORT, CALLER, NOW) & 1
    );
    rotate(&mut secrets, [7, 8]);
    assert_eq!(check(&secrets, cookie, NOW), CookieCheck::Forged);
}

#[test]
fn a_key_half_way_through_a_rotation_is_not_used_yet() {
    let mut secrets = secrets();
    let made = cookie(&secrets, client(), PORT, CALLER, NOW);
    secrets.keys[1] = [9, 10];
    assert_eq!(cookie(&secrets, client(), PORT, CALLER, NOW), made);
    assert_eq!(check(&secrets, made, NOW), CookieCheck::Valid);
}

#[test]
fn a_place_that_never_held_a_secret_proves_nothing() {
    // Anybody can make these.
    let mut zeros = Secrets {
        serial: 2,
        ..Secrets::default()
    };
    let known = |zeros: &mut Secrets, current| {
        zeros.current = current;
        cookie(zeros, client(), PORT, CALLER, NOW)
    };
    let forged = [known(&mut zeros, 0), known(&mut zeros, 1)];
    let first = Secrets {
        keys: [[1, 2], [0, 0]],
        current: 0,
        serial: 1,
        since_ns: 0,
    };
    let second = Secrets {
        keys: [[0, 0], [1, 2]],
        current: 1,
        ..first
    };
    for cookie in forged {
        for secrets in [Secrets::default(), first, second] {
            assert_eq!(check(&secrets, cookie, NOW), CookieCheck::Forged);
        }
    }
    assert_eq!(
        check(&first, cookie(&first, client(), PORT, CALLER, NOW), NOW),
        CookieCheck::Valid
    );
}

#[test]
fn no_cookie_is_zero() {
    assert_eq!(form(0, 0, 0), 1 << 31);
    assert_eq!(
        form(3, 4, 2),
        1 << 31,
        "slot and index even, no bit of the MAC counts"
    );
    assert_eq!(form(0, 1, 1), 3);
    assert_eq!(form(0xffff_ffff, 0, 0), 0xffff_fffc);
    assert_eq!(check(&secrets(), 0, NOW), CookieCheck::Forged);
}

/// The message as bytes, through the standard library's own SipHash-2-4.
#[expect(
    deprecated,
    reason = "deprecated as a map's hasher; it is the algorithm that is wanted"
)]
fn by_std(key: [u64; 2], client: [u32; 4], port: u16, caller_id: u32, slot: u32) -> u64 {
    let mut bytes: Vec<u8> = client.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(caller_id.to_le_bytes());
    bytes.extend(slot.to_le_bytes());
    bytes.extend(port.to_le_bytes());
    let mut hasher = std::hash::SipHasher::new_with_keys(key[0], key[1]);
    hasher.write(&bytes);
    hasher.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cookie_is_what_std_hashes(
        keys in any::<[[u64; 2]; 2]>(),
        current in 0..2_u32,
        client in any::<[u32; 4]>(),
        port in any::<u16>(),
        caller in any::<u32>(),
        now in any::<u64>(),
    ) {
        let secrets = Secrets { keys, current, serial: 2, since_ns: 0 };
        let slot = (now >> SLOT_SHIFT) as u32;
        let made = cookie(&secrets, client, port, caller, now);
        let mac = by_std(keys[current as usize], client, port, caller, slot) as u32;
        prop_assert!(made != 0);
        prop_assert_eq!(made >> 2, mac >> 2);
        prop_assert_eq!(made & 1, current);
        prop_assert_eq!(made >> 1 & 1, slot & 1);
        prop_assert_eq!(check_cookie(&secrets, client, port, caller, made, now), CookieCheck::Valid);
    }

    #[test]
    fn a_cookie_is_good_for_its_caller_alone(
        bit in 0..32_u32,
        address_bit in 0..128_u32,
        port in any::<u16>(),
        caller in any::<u32>(),
        now in any::<u64>(),
    ) {
        let secrets = secrets();
        let made = cookie(&secrets, client(), PORT, CALLER, now);
        let mut other = client();
        other[address_bit as usize / 32] ^= 1 << (address_bit % 32);
        let forged = CookieCheck::Forged;
        prop_assert_eq!(check_cookie(&secrets, other, PORT, CALLER, made, now), forged);
        prop_assume!(port != PORT && caller != CALLER);
        prop_assert_eq!(check_cookie(&secrets, client(), port, CALLER, made, now), forged);
        prop_assert_eq!(check_cookie(&secrets, client(), PORT, caller, made, now), forged);
        prop_assert_ne!(check_cookie(&secrets, client(), PORT, CALLER, made ^ 1 << bit, now), CookieCheck::Valid);
    }
}
