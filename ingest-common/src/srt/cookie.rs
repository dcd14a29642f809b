//! Our own cookies: what an INDUCTION is answered with, and what a CONCLUSION proves its caller's address by.
//!
//! Nothing is kept: a cookie is a SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012) of who asks and
//! when. Bit 0 says which key made it and bit 1 whether its time slot was odd, so one hash is enough to check a good one.

use crate::abi::Secrets;

#[cfg(test)]
mod tests;

/// A time slot is 2^35 ns, 34 s: a cookie is good for that long at least, and twice that at most.
const SLOT_SHIFT: u32 = 35;

/// What a cookie turned out to be.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieCheck {
    /// Ours, for this caller, and young enough.
    Valid = 0,
    /// Ours, for this caller, but too old.
    Stale = 1,
    /// Never ours, or another caller's.
    Forged = 2,
}

/// The cookie for the caller with socket id `caller_id` at `client` (words as in memory) and `port`, host order. Never 0.
///
/// There must be a secret: `secrets.serial` is not 0.
#[must_use]
#[inline(always)]
pub fn cookie(secrets: &Secrets, client: [u32; 4], port: u16, caller_id: u32, now: u64) -> u32 {
    let slot = (now >> SLOT_SHIFT) as u32;
    of_slot(secrets, secrets.current, client, port, caller_id, slot)
}

/// Checks a cookie that the caller sent back.
#[must_use]
#[inline(always)]
pub fn check_cookie(
    secrets: &Secrets,
    client: [u32; 4],
    port: u16,
    caller_id: u32,
    cookie: u32,
    now: u64,
) -> CookieCheck {
    let index = cookie & 1;
    // A place that never held a secret holds zeros, and anybody can hash with those.
    if secrets.serial == 0 || (secrets.serial == 1 && index != secrets.current & 1) {
        return CookieCheck::Forged;
    }
    let slot = (now >> SLOT_SHIFT) as u32;
    // The youngest slot of the cookie's parity: this one or the one before.
    let mut slot = slot.wrapping_sub((slot ^ cookie >> 1) & 1);
    let mut verdict = CookieCheck::Valid;
    let mut turn = 0;
    while turn < 2 {
        if of_slot(secrets, index, client, port, caller_id, slot) == cookie {
            return verdict;
        }
        slot = slot.wrapping_sub(2);
        verdict = CookieCheck::Stale;
        turn += 1;
    }
    CookieCheck::Forged
}

#[inline(always)]
fn of_slot(
    secrets: &Secrets,
    index: u32,
    client: [u32; 4],
    port: u16,
    caller_id: u32,
    slot: u32,
) -> u32 {
    let [first, second] = secrets.keys;
    let key = if index & 1 == 0 { first } else { second };
    let mac = siphash(
        key,
        [
            pair(u32::from_le(client[0]), u32::from_le(client[1])),
            pair(u32::from_le(client[2]), u32::from_le(client[3])),
            pair(caller_id, slot),
        ],
        port,
    );
    form(mac as u32, slot, index)
}

#[inline(always)]
const fn form(mac: u32, slot: u32, index: u32) -> u32 {
    let cookie = mac & !3 | (slot & 1) << 1 | index & 1;
    // 0 is what a caller sends that has no cookie yet.
    if cookie == 0 { 1 << 31 } else { cookie }
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// SipHash-2-4 of a message of 26 bytes: three words, and two bytes that share the last block with the length.
#[inline(always)]
fn siphash(key: [u64; 2], words: [u64; 3], tail: u16) -> u64 {
    let [k0, k1] = key;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let [a, b, c] = words;
    v = absorb(v, a);
    v = absorb(v, b);
    v = absorb(v, c);
    v = absorb(v, 26 << 56 | u64::from(tail));
    v[2] ^= 0xff;
    v = round(round(round(round(v))));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
const fn absorb(mut v: [u64; 4], word: u64) -> [u64; 4] {
    v[3] ^= word;
    v = round(round(v));
    v[0] ^= word;
    v
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}
