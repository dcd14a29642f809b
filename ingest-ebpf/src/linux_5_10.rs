//! What the helpers of Linux 5.18 do, for kernels without them. Their packets are linear, so all of a packet can be
//! reached directly.

use core::{ffi::c_void, ptr};

use aya_ebpf::bindings::xdp_md;
use ingest_common::packet::COPY_MAX;

use super::{Hook, Xdp, read};

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

/// See [`Hook::length`].
#[inline(always)]
pub(super) fn xdp_length(ctx: *mut xdp_md) -> usize {
    let (data, end, _) = registers(ctx, 0);
    end - data
}
