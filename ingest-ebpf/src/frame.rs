//! `Frame` over the packets of XDP and tc: direct access to the linear part, helpers for the rest.

use core::{ffi::c_void, mem, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::{bpf_skb_load_bytes, bpf_skb_pull_data, bpf_xdp_adjust_tail},
};
use ingest_common::{
    abi::CAPTURE_WHOLE,
    packet::{COPY_MAX, Frame, Truncated},
};

/// XDP's helpers of Linux 5.18.
#[cfg(not(feature = "linux-5-10"))]
mod linux {
    use core::ffi::c_void;

    use aya_ebpf::{
        bindings::xdp_md,
        helpers::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    };

    /// See [`super::Hook::load`].
    #[inline(always)]
    pub(super) unsafe fn xdp_load(
        ctx: *mut xdp_md,
        offset: u32,
        into: *mut c_void,
        length: u32,
    ) -> i64 {
        // SAFETY: the caller's promise; the helper checks the offset.
        unsafe { bpf_xdp_load_bytes(ctx, offset, into, length) }
    }

    pub(super) const COPY_WHOLE: usize = super::CAPTURE_WHOLE;

    /// See [`super::Hook::copy`].
    #[inline(always)]
    pub(super) unsafe fn xdp_copy(ctx: *mut xdp_md, into: *mut u8, most: usize) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { super::copy::<super::Xdp>(ctx, into, most) }
    }

    /// See [`super::Hook::length`].
    #[inline(always)]
    pub(super) fn xdp_length(ctx: *mut xdp_md) -> usize {
        // SAFETY: the helper only reads the context.
        unsafe { bpf_xdp_get_buff_len(ctx) as usize }
    }
}

#[cfg(feature = "linux-5-10")]
#[path = "linux_5_10.rs"]
mod linux;

/// Reads a `T` at `start`, if it ends before `end`.
#[inline(always)]
fn read<T: Copy>(start: usize, end: usize) -> Result<T, Truncated> {
    if start + mem::size_of::<T>() > end {
        return Err(Truncated);
    }
    // SAFETY: the comparison above proves the bytes lie in the packet, and the verifier checks that it does. T is an
    // array of integers, valid for any bytes. The address may be 2 bytes off T's alignment: BPF loads do not care on
    // the architectures we run on, and one word load instead of four byte loads is most of the parser's cost.
    Ok(unsafe { ptr::read(start as *const T) })
}

/// Writes a `T` at `start`, if it ends before `end`.
#[inline(always)]
fn write<T: Copy>(start: usize, end: usize, value: T) -> Result<(), Truncated> {
    if start + mem::size_of::<T>() > end {
        return Err(Truncated);
    }
    // SAFETY: as in `read`; the program has the only reference to the packet.
    unsafe { ptr::write(start as *mut T, value) };
    Ok(())
}

/// Hides where `value` comes from, so that LLVM keeps the bounds checks that the verifier needs to see. An instruction, if an
/// idle one: of none at all, the line would be told twice for the next, which the kernel refuses.
#[inline(always)]
pub fn opaque(mut value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the register keeps its value.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// What XDP and tc call differently.
pub trait Hook {
    /// The context type that the kernel passes.
    type Context;

    /// Addresses of the linear part.
    fn linear(ctx: *mut Self::Context) -> (usize, usize);

    /// Copies `length` bytes from `offset` of the packet. 0 where it did.
    ///
    /// # Safety
    /// `into` must have room for `length` bytes.
    unsafe fn load(ctx: *mut Self::Context, offset: u32, into: *mut c_void, length: u32) -> i64;

    /// Bytes of the whole packet.
    fn length(ctx: *mut Self::Context) -> usize;

    /// Most bytes of [`Self::copy`].
    const COPY_WHOLE: usize;

    /// Copies the packet's first bytes, at most `most`. How many; 0 where it could not.
    ///
    /// # Safety
    /// `into` must have room for `most` bytes.
    unsafe fn copy(ctx: *mut Self::Context, into: *mut u8, most: usize) -> u32;

    /// Cuts the packet to `length` bytes. 0 where it did; packet addresses are stale then.
    fn truncate(ctx: *mut Self::Context, length: usize) -> i64;
}

/// [`Hook::copy`] by the hook's helper.
///
/// # Safety
/// `into` must have room for `most` bytes.
#[inline(always)]
unsafe fn copy<H: Hook>(ctx: *mut H::Context, into: *mut u8, most: usize) -> u32 {
    let mut length = opaque(H::length(ctx) as u64);
    if length > most as u64 {
        length = most as u64;
    }
    let length = opaque(length);
    if length < 14 {
        return 0;
    }
    // SAFETY: at most `most` bytes.
    if unsafe { H::load(ctx, 0, into.cast(), length as u32) } != 0 {
        return 0;
    }
    length as u32
}

/// XDP.
pub struct Xdp;

/// tc.
pub struct Skb;

impl Hook for Xdp {
    type Context = xdp_md;

    #[inline(always)]
    fn linear(ctx: *mut xdp_md) -> (usize, usize) {
        // SAFETY: the kernel passes a valid context; its fields are read through the verifier's rewriting.
        unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) }
    }

    #[inline(always)]
    unsafe fn load(ctx: *mut xdp_md, offset: u32, into: *mut c_void, length: u32) -> i64 {
        // SAFETY: the caller's promise.
        unsafe { linux::xdp_load(ctx, offset, into, length) }
    }

    #[inline(always)]
    fn length(ctx: *mut xdp_md) -> usize {
        linux::xdp_length(ctx)
    }

    const COPY_WHOLE: usize = linux::COPY_WHOLE;

    #[inline(always)]
    unsafe fn copy(ctx: *mut xdp_md, into: *mut u8, most: usize) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { linux::xdp_copy(ctx, into, most) }
    }

    #[inline(always)]
    fn truncate(ctx: *mut xdp_md, length: usize) -> i64 {
        let delta = length as i32 - Self::length(ctx) as i32;
        // SAFETY: the helper checks the new length.
        unsafe { bpf_xdp_adjust_tail(ctx, delta) }
    }
}

impl Hook for Skb {
    type Context = __sk_buff;

    #[inline(always)]
    fn linear(ctx: *mut __sk_buff) -> (usize, usize) {
        // SAFETY: the kernel passes a valid context; its fields are read through the verifier's rewriting.
        unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) }
    }

    #[inline(always)]
    unsafe fn load(ctx: *mut __sk_buff, offset: u32, into: *mut c_void, length: u32) -> i64 {
        // SAFETY: the caller's promise; the helper checks the offset.
        unsafe { bpf_skb_load_bytes(ctx.cast(), offset, into, length) }
    }

    #[inline(always)]
    fn length(ctx: *mut __sk_buff) -> usize {
        // SAFETY: the kernel passes a valid context.
        unsafe { (*ctx).len as usize }
    }

    const COPY_WHOLE: usize = CAPTURE_WHOLE;

    #[inline(always)]
    unsafe fn copy(ctx: *mut __sk_buff, into: *mut u8, most: usize) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { copy::<Self>(ctx, into, most) }
    }

    /// tc never shortens packets: XDP has done so.
    #[inline(always)]
    fn truncate(_ctx: *mut __sk_buff, _length: usize) -> i64 {
        -1
    }
}

/// A frame at a hook.
pub struct HookFrame<H: Hook> {
    ctx: *mut H::Context,
    data: usize,
    end: usize,
}

/// A frame at XDP.
pub type XdpFrame = HookFrame<Xdp>;

/// A frame at tc.
pub type SkbFrame = HookFrame<Skb>;

/// Headers of an IPv6 packet with an SRT handshake and its first extension, HSREQ or HSRSP.
const LINEAR: usize = 14 + 40 + 8 + 64 + 16;

impl SkbFrame {
    /// The frame of `ctx`, its headers pulled into the linear part.
    #[inline(always)]
    pub fn pulled(ctx: *mut __sk_buff) -> Self {
        let frame = Self::new(ctx);
        if frame.data + LINEAR <= frame.end {
            return frame;
        }
        let length = Skb::length(ctx).min(LINEAR) as u32;
        // SAFETY: the helper only rearranges the packet; addresses are read anew below. Failure leaves the packet as
        // it was, and reads beyond its linear part fail as truncated.
        unsafe { bpf_skb_pull_data(ctx, length) };
        Self::new(ctx)
    }
}

impl<H: Hook> HookFrame<H> {
    /// The frame of `ctx`.
    #[inline(always)]
    pub fn new(ctx: *mut H::Context) -> Self {
        let (data, end) = H::linear(ctx);
        Self { ctx, data, end }
    }
}

impl<H: Hook> Frame for HookFrame<H> {
    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Result<[u32; N], Truncated> {
        read(self.data + offset, self.end)
    }

    #[inline(always)]
    fn halves<const N: usize>(&self, offset: usize) -> Result<[u16; N], Truncated> {
        read(self.data + offset, self.end)
    }

    #[inline(always)]
    fn set_words<const N: usize>(
        &mut self,
        offset: usize,
        value: [u32; N],
    ) -> Result<(), Truncated> {
        write(self.data + offset, self.end, value)
    }

    #[inline(always)]
    fn set_halves<const N: usize>(
        &mut self,
        offset: usize,
        value: [u16; N],
    ) -> Result<(), Truncated> {
        write(self.data + offset, self.end, value)
    }

    #[inline(always)]
    fn word_at(&self, offset: usize) -> Result<u32, Truncated> {
        let mut word = 0_u32;
        // SAFETY: `word` has the 4 bytes asked for.
        let result =
            unsafe { H::load(self.ctx, offset as u32, ptr::from_mut(&mut word).cast(), 4) };
        if result == 0 {
            Ok(word)
        } else {
            Err(Truncated)
        }
    }

    #[inline(always)]
    fn copy(
        &self,
        offset: usize,
        length: usize,
        into: &mut [u8; COPY_MAX],
    ) -> Result<(), Truncated> {
        let length = opaque(length as u64);
        if length < 16 {
            return Err(Truncated);
        }
        if length > COPY_MAX as u64 {
            return Err(Truncated);
        }
        // SAFETY: `into` has COPY_MAX bytes, at least `length`.
        let result = unsafe {
            H::load(
                self.ctx,
                offset as u32,
                into.as_mut_ptr().cast(),
                length as u32,
            )
        };
        if result == 0 { Ok(()) } else { Err(Truncated) }
    }

    #[inline(always)]
    fn holds(&self, length: usize) -> bool {
        // Beyond the linear part only where a packet has fragments.
        self.data + length <= self.end || H::length(self.ctx) >= length
    }

    #[inline(always)]
    fn truncate(&mut self, length: usize) -> Result<(), Truncated> {
        if H::truncate(self.ctx, length) != 0 {
            return Err(Truncated);
        }
        *self = Self::new(self.ctx);
        Ok(())
    }
}
