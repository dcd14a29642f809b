//! Internet checksums (RFC 1071), changed incrementally (RFC 1624 eqn. 3).
//!
//! Ones' complement sums do not care for byte order, so words are added as they stand in memory.

/// Folds a sum of 16- or 32-bit words to 16 bits.
#[must_use]
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The sum of `words`, to be added to others and folded.
#[must_use]
#[inline(always)]
pub fn sum<const N: usize>(words: [u32; N]) -> u64 {
    let mut total = 0_u64;
    for word in words {
        total = total.wrapping_add(u64::from(word));
    }
    total
}

/// The difference that replacing `old` by `new` makes to a sum.
#[must_use]
#[inline(always)]
pub fn difference<const N: usize>(old: [u32; N], new: [u32; N]) -> u64 {
    let mut total = 0_u64;
    for word in old {
        total = total.wrapping_add(u64::from(!word));
    }
    total.wrapping_add(sum(new))
}

/// `checksum` after `difference` has been applied to what it covers.
#[must_use]
#[inline(always)]
pub const fn update(checksum: u16, difference: u64) -> u16 {
    !fold((!checksum) as u64 + (difference & 0xffff_ffff) + (difference >> 32))
}

/// [`update`] for UDP: 0 means "no checksum" and stays, a sum of 0 is sent as 0xffff (RFC 768).
#[must_use]
#[inline(always)]
pub const fn update_udp(checksum: u16, difference: u64) -> u16 {
    if checksum == 0 {
        return 0;
    }
    match update(checksum, difference) {
        0 => 0xffff,
        sum => sum,
    }
}

/// A UDP checksum from the sum of everything it covers.
#[must_use]
#[inline(always)]
pub const fn finish_udp(sum: u64) -> u16 {
    match !fold(sum) {
        0 => 0xffff,
        sum => sum,
    }
}
