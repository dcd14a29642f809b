//! What the helpers of Linux 5.18 do, for kernels without them. Their packets are linear, so all of a packet can be
//! reached directly.

use core::{ffi::c_void, ptr};

use aya_ebpf::bindings::xdp_md;
use ingest_common::{abi::CAPTURE_HEADERS, packet::COPY_MAX};

use super::{Hook, Xdp, opaque, read};

/// No header that we read begins further on: two VLAN tags, IPv6, UDP, a handshake's extensions. The verifier wants
/// a bound, and one below 64 KiB.
const OFFSET_MAX: usize = 4095;

/// See [`Hook::load`]; at most `COPY_MAX` bytes.
#[inline(always)]
pub(super) unsafe fn xdp_load(
    ctx: *mut xdp_md,
    offset: u32,
    into: *mut c_void,
    length: u32,
) -> i64 {
    let (data, end, offset) = registers(ctx, offset);
    if offset > OFFSET_MAX {
        return -1;
    }
    let start = data + offset;
    if length != 4 {
        return copy(start, end, into, length);
    }
    match read::<u32>(start, end) {
        Ok(word) => {
            // SAFETY: the caller's promise, 4 bytes.
            unsafe { ptr::write(into.cast(), word) };
            0
        }
        Err(_) => -1,
    }
}

/// The packet's addresses and an offset, as values that LLVM knows nothing of. It would take the addresses for 32-bit
/// ones, and the verifier refuses arithmetic on half a pointer; and it would leave out the bounds check of an offset
/// that it knows to be small. Each moves to itself, since the kernel takes no two source lines for one instruction.
#[inline(always)]
fn registers(ctx: *mut xdp_md, offset: u32) -> (usize, usize, usize) {
    let (mut data, mut end) = Xdp::linear(ctx);
    let mut offset = offset as usize;
    #[cfg(target_arch = "bpf")]
    // SAFETY: the registers keep their values.
    unsafe {
        core::arch::asm!(
            "{0} = {0}", "{1} = {1}", "{2} = {2}", inout(reg) data, inout(reg) end, inout(reg) offset,
            options(nomem, nostack, preserves_flags)
        );
    }
    (data, end, offset)
}

/// Copies whole words: an SRT control packet has no others, which was checked before.
///
/// Not inlined: each turn that may be the last is a state of its own, and whatever follows would be walked from each.
#[inline(never)]
fn copy(start: usize, end: usize, into: *mut c_void, length: u32) -> i64 {
    if !length.is_multiple_of(4) {
        return -1;
    }
    let mut at = 0;
    while at < COPY_MAX {
        if at >= length as usize {
            break;
        }
        let Ok(word) = read::<u32>(start + at, end) else {
            return -1;
        };
        // SAFETY: `into` has room for `length` bytes, a multiple of 4, of which `at` is less.
        unsafe { ptr::write(into.byte_add(at).cast(), word) };
        at += 4;
    }
    0
}

/// Headers only, see [`xdp_copy`].
pub(super) const COPY_WHOLE: usize = CAPTURE_HEADERS;

/// See [`Hook::copy`]. An Ethernet header is no multiple of a word: half a word, whole words, and half a word where
/// there is one more.
#[inline(always)]
pub(super) unsafe fn xdp_copy(ctx: *mut xdp_md, into: *mut u8, _most: usize) -> u32 {
    const WORDS: u64 = CAPTURE_HEADERS as u64 - 4;
    let (data, end, _) = registers(ctx, 0);
    let Ok(first) = read::<u16>(data, end) else {
        return 0;
    };
    let rest = opaque((end - data - 2) as u64);
    let mut words = rest & !3;
    if words > WORDS {
        words = WORDS;
    }
    // The verifier takes no bound from what was masked.
    let words = opaque(words);
    if words > WORDS {
        return 0;
    }
    let behind = 2 + words as usize;
    // SAFETY: the caller's promise: there is room for CAPTURE_HEADERS bytes.
    let copied = unsafe {
        ptr::write(into.cast(), first);
        copy(data + 2, end, into.add(2).cast(), words as u32)
    };
    if copied != 0 {
        return 0;
    }
    if let Ok(last) = read::<u16>(data + behind, end) {
        // SAFETY: two bytes behind WORDS and two.
        unsafe { ptr::write(into.add(behind).cast(), last) };
        return behind as u32 + 2;
    }
    behind as u32
}

/// See [`Hook::length`].
#[inline(always)]
pub(super) fn xdp_length(ctx: *mut xdp_md) -> usize {
    let (data, end, _) = registers(ctx, 0);
    end - data
}
