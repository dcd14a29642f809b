//! The border between kernel and user space: every struct that lives in a BPF map.
//!
//! Rules: `repr(C)`, no implicit padding (padding is a named zero field), no `bool`, no enum: enums have a
//! `u8` form and convert by `from_u8`. Addresses are 16 bytes, IPv4 as `::ffff:a.b.c.d`; ports are in host order,
//! so that `bpftool map dump` shows `"port": 9000`. Times are nanoseconds of `CLOCK_MONOTONIC`, 0 meaning never.
//!
//! Any change of a layout, or of the meaning of a field, bumps [`SCHEMA_VERSION`].

mod backend;
mod capture;
mod config;
mod event;
mod flow;
mod handshake;
mod health;
mod names;
mod route;
mod service;
mod stats;

pub use backend::*;
pub use capture::*;
pub use config::*;
pub use event::*;
pub use flow::*;
pub use handshake::*;
pub use health::*;
pub use names::*;
pub use route::*;
pub use service::*;
pub use stats::*;

/// The version of everything in this module. It is part of the pin path, so agents of different schemas never
/// share maps.
pub const SCHEMA_VERSION: u32 = 1;

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`, in network byte order.
pub type Address = [u8; 16];

/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// The IPv4-mapped form of an IPv4 address.
#[must_use]
#[inline(always)]
pub const fn v4_mapped(address: [u8; 4]) -> Address {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The IPv4 address in `address`, where it is an IPv4-mapped one.
#[must_use]
pub const fn as_v4(address: &Address) -> Option<[u8; 4]> {
    match *address {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
        _ => None,
    }
}

/// The address in four words as they stand in a packet or a key.
///
/// Packets are read in words, keys hold bytes: between them the kernel moves four registers instead of sixteen bytes.
#[must_use]
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "a plain change of type that the compiler must not turn into byte moves"
)]
pub const fn address_from_words(words: [u32; 4]) -> Address {
    // SAFETY: both are 16 bytes of plain integers; every bit pattern is valid.
    unsafe { core::mem::transmute::<[u32; 4], Address>(words) }
}

/// The reverse of [`address_from_words`].
#[must_use]
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "a plain change of type that the compiler must not turn into byte moves"
)]
pub const fn words_from_address(address: Address) -> [u32; 4] {
    // SAFETY: both are 16 bytes of plain integers; every bit pattern is valid.
    unsafe { core::mem::transmute::<Address, [u32; 4]>(address) }
}

/// The last word of a key, as in memory: two halves. Built in a register and stored once, since the hash reads it as
/// one word: two stores of two bytes would stall that read.
#[must_use]
#[inline(always)]
pub(crate) const fn key_tail(first: u16, second: u16) -> u32 {
    if cfg!(target_endian = "little") {
        (first as u32) | (second as u32) << 16
    } else {
        (first as u32) << 16 | (second as u32)
    }
}

/// A constructor from words, for a key of an address and two halves.
macro_rules! key_from_words {
    ($($type:ty),+ $(,)?) => {$(
        impl $type {
            /// The key of these words, as in memory.
            #[must_use]
            #[inline(always)]
            #[expect(unsafe_code, reason = "a plain change of type that the compiler must not turn into byte moves")]
            pub(crate) const fn from_words(address: [u32; 4], tail: u32) -> Self {
                let [a, b, c, d] = address;
                // SAFETY: both are 20 bytes of plain integers, aligned to 4; every bit pattern is valid.
                unsafe { core::mem::transmute::<[u32; 5], Self>([a, b, c, d, tail]) }
            }
        }
    )+};
}
pub(crate) use key_from_words;

/// Constructors of a key of address, port and protocol.
macro_rules! address_key {
    ($($type:ident),+ $(,)?) => {$(
        impl $type {
            /// The key of `address`:`port`.
            #[must_use]
            #[inline(always)]
            pub const fn new(address: Address, port: u16, protocol: u8) -> Self {
                Self { address, port, protocol, _pad: 0 }
            }

            /// [`Self::new`] for an address in words.
            #[must_use]
            #[inline(always)]
            pub(crate) const fn of_words(address: [u32; 4], port: u16, protocol: u8) -> Self {
                let second =
                    if cfg!(target_endian = "little") { protocol as u16 } else { (protocol as u16) << 8 };
                Self::from_words(address, $crate::abi::key_tail(port, second))
            }
        }
    )+};
}
pub(crate) use address_key;

/// Says the size and alignment of ABI structs out loud, and marks them `aya::Pod` for user space.
macro_rules! abi {
    ($($type:ty: $size:literal / $align:literal),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $size && align_of::<$type>() == $align);
        // SAFETY: repr(C), only integers and arrays of them, no implicit padding: the size assert above is the
        // sum of the fields; every bit pattern is valid.
        #[cfg(feature = "user")]
        #[expect(unsafe_code, reason = "aya::Pod is an unsafe marker trait")]
        unsafe impl aya::Pod for $type {}
    )+};
}
pub(crate) use abi;
