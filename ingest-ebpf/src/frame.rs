//! `Frame` over the packets of XDP and tc: direct access to the linear part, helpers for the rest.

use core::{mem, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::{
        bpf_skb_load_bytes, bpf_skb_pull_data, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
        bpf_xdp_load_bytes,
    },
};
use ingest_common::packet::{COPY_MAX, Frame, Truncated};

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

/// Hides where `value` comes from, so that LLVM keeps the bounds checks that the verifier needs to see.
#[inline(always)]
fn opaque(mut value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: an empty instruction; the register keeps its value.
    unsafe {
        core::arch::asm!("/* {0} */", inout(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// A frame at XDP.
pub struct XdpFrame {
    ctx: *mut xdp_md,
    data: usize,
    end: usize,
}

impl XdpFrame {
    /// The frame of `ctx`.
    #[inline(always)]
    pub fn new(ctx: *mut xdp_md) -> Self {
        // SAFETY: the kernel passes a valid context; its fields are read through the verifier's rewriting.
        let (data, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
        Self { ctx, data, end }
    }
}

impl Frame for XdpFrame {
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
        // SAFETY: `word` has the 4 bytes asked for; the helper checks the offset.
        let result = unsafe {
            bpf_xdp_load_bytes(self.ctx, offset as u32, ptr::from_mut(&mut word).cast(), 4)
        };
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
        // SAFETY: `into` has COPY_MAX bytes, at least `length`; the helper checks the offset.
        let result = unsafe {
            bpf_xdp_load_bytes(
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
        // Beyond the linear part only with jumbo frames in fragments.
        // SAFETY: the helper only reads the context.
        self.data + length <= self.end || unsafe { bpf_xdp_get_buff_len(self.ctx) } >= length as u64
    }

    #[inline(always)]
    fn truncate(&mut self, length: usize) -> Result<(), Truncated> {
        // SAFETY: the helper only reads the context.
        let now = unsafe { bpf_xdp_get_buff_len(self.ctx) } as i32;
        // SAFETY: the helper checks the new length; packet addresses are read anew below.
        if unsafe { bpf_xdp_adjust_tail(self.ctx, length as i32 - now) } != 0 {
            return Err(Truncated);
        }
        *self = Self::new(self.ctx);
        Ok(())
    }
}

/// A frame at tc.
pub struct SkbFrame {
    ctx: *mut __sk_buff,
    data: usize,
    end: usize,
}

/// Headers of an IPv6 packet with an SRT handshake.
const LINEAR: u32 = 14 + 40 + 8 + 64;

impl SkbFrame {
    /// The frame of `ctx`, its headers pulled into the linear part.
    #[inline(always)]
    pub fn new(ctx: *mut __sk_buff) -> Self {
        let frame = Self::fetch(ctx);
        if frame.data + LINEAR as usize <= frame.end {
            return frame;
        }
        // SAFETY: the kernel passes a valid context.
        let length = unsafe { (*ctx).len };
        // SAFETY: the helper only rearranges the packet; addresses are read anew below. Failure leaves the packet as
        // it was, and reads beyond its linear part fail as truncated.
        unsafe { bpf_skb_pull_data(ctx, if length < LINEAR { length } else { LINEAR }) };
        Self::fetch(ctx)
    }

    #[inline(always)]
    fn fetch(ctx: *mut __sk_buff) -> Self {
        // SAFETY: the kernel passes a valid context; its fields are read through the verifier's rewriting.
        let (data, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
        Self { ctx, data, end }
    }
}

impl Frame for SkbFrame {
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
        // SAFETY: `word` has the 4 bytes asked for; the helper checks the offset.
        let result = unsafe {
            bpf_skb_load_bytes(
                self.ctx.cast(),
                offset as u32,
                ptr::from_mut(&mut word).cast(),
                4,
            )
        };
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
        // SAFETY: `into` has COPY_MAX bytes, at least `length`; the helper checks the offset.
        let result = unsafe {
            bpf_skb_load_bytes(
                self.ctx.cast(),
                offset as u32,
                into.as_mut_ptr().cast(),
                length as u32,
            )
        };
        if result == 0 { Ok(()) } else { Err(Truncated) }
    }

    #[inline(always)]
    fn holds(&self, length: usize) -> bool {
        // SAFETY: the kernel passes a valid context.
        unsafe { (*self.ctx).len as usize >= length }
    }

    /// tc never shortens packets: XDP has done so.
    #[inline(always)]
    fn truncate(&mut self, _length: usize) -> Result<(), Truncated> {
        Err(Truncated)
    }
}
