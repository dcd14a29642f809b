//! Reading and rewriting frames, through one accessor that the kernel and the host implement.
//!
//! Headers are read in whole words with one bounds check: [`Frame::words`] gives them as they stand in memory
//! (network order), and the few fields that need arithmetic are converted where they are used.

mod checksum;
mod datagram;
mod ethernet;
mod icmp;
#[cfg(test)]
mod tests;

pub use checksum::*;
pub use datagram::*;
pub use ethernet::*;
pub use icmp::*;

/// The frame ends before the bytes asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// Largest SRT payload that the handshake walk copies.
pub const COPY_MAX: usize = 1024;

/// A frame as a program sees it, from its Ethernet header on. Offsets are bytes.
///
/// In the kernel only the linear part is reached by `words` and `halves`; `word_at` and `copy` reach all of it.
pub trait Frame {
    /// `N` 32-bit words from `offset`, in network order.
    fn words<const N: usize>(&self, offset: usize) -> Result<[u32; N], Truncated>;

    /// `N` 16-bit words from `offset`, in network order.
    fn halves<const N: usize>(&self, offset: usize) -> Result<[u16; N], Truncated>;

    /// Overwrites `N` 32-bit words.
    fn set_words<const N: usize>(
        &mut self,
        offset: usize,
        value: [u32; N],
    ) -> Result<(), Truncated>;

    /// Overwrites `N` 16-bit words.
    fn set_halves<const N: usize>(
        &mut self,
        offset: usize,
        value: [u16; N],
    ) -> Result<(), Truncated>;

    /// One word from an offset that is not a constant.
    fn word_at(&self, offset: usize) -> Result<u32, Truncated>;

    /// Copies `length` bytes (16..=[`COPY_MAX`]) from `offset` to the start of `into`.
    fn copy(
        &self,
        offset: usize,
        length: usize,
        into: &mut [u8; COPY_MAX],
    ) -> Result<(), Truncated>;

    /// Whether the whole frame has at least `length` bytes.
    fn holds(&self, length: usize) -> bool;

    /// Cuts the frame to `length` bytes. Everything read before stays valid as a value, not as a place.
    fn truncate(&mut self, length: usize) -> Result<(), Truncated>;
}

/// A frame in memory: host tests, fuzzing, and packets that the agent builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameBuf<B>(pub B);

impl<B: AsRef<[u8]> + AsMut<[u8]> + Shorten> Frame for FrameBuf<B> {
    fn words<const N: usize>(&self, offset: usize) -> Result<[u32; N], Truncated> {
        let bytes = self
            .0
            .as_ref()
            .get(offset..)
            .and_then(|b| b.get(..4 * N))
            .ok_or(Truncated)?;
        let mut words = [0; N];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*chunk);
        }
        Ok(words)
    }

    fn halves<const N: usize>(&self, offset: usize) -> Result<[u16; N], Truncated> {
        let bytes = self
            .0
            .as_ref()
            .get(offset..)
            .and_then(|b| b.get(..2 * N))
            .ok_or(Truncated)?;
        let mut halves = [0; N];
        for (half, chunk) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = u16::from_ne_bytes(*chunk);
        }
        Ok(halves)
    }

    fn set_words<const N: usize>(
        &mut self,
        offset: usize,
        value: [u32; N],
    ) -> Result<(), Truncated> {
        let bytes = self
            .0
            .as_mut()
            .get_mut(offset..)
            .and_then(|b| b.get_mut(..4 * N))
            .ok_or(Truncated)?;
        for (chunk, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(value) {
            *chunk = word.to_ne_bytes();
        }
        Ok(())
    }

    fn set_halves<const N: usize>(
        &mut self,
        offset: usize,
        value: [u16; N],
    ) -> Result<(), Truncated> {
        let bytes = self
            .0
            .as_mut()
            .get_mut(offset..)
            .and_then(|b| b.get_mut(..2 * N))
            .ok_or(Truncated)?;
        for (chunk, half) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(value) {
            *chunk = half.to_ne_bytes();
        }
        Ok(())
    }

    fn word_at(&self, offset: usize) -> Result<u32, Truncated> {
        let [word] = self.words::<1>(offset)?;
        Ok(word)
    }

    fn copy(
        &self,
        offset: usize,
        length: usize,
        into: &mut [u8; COPY_MAX],
    ) -> Result<(), Truncated> {
        let from = self
            .0
            .as_ref()
            .get(offset..)
            .and_then(|b| b.get(..length))
            .ok_or(Truncated)?;
        into.get_mut(..length)
            .ok_or(Truncated)?
            .copy_from_slice(from);
        Ok(())
    }

    fn holds(&self, length: usize) -> bool {
        self.0.as_ref().len() >= length
    }

    fn truncate(&mut self, length: usize) -> Result<(), Truncated> {
        if !self.holds(length) {
            return Err(Truncated);
        }
        self.0.shorten(length);
        Ok(())
    }
}

/// A byte store that can lose its tail.
pub trait Shorten {
    /// Keeps the first `length` bytes.
    fn shorten(&mut self, length: usize);
}

impl Shorten for &mut [u8] {
    fn shorten(&mut self, length: usize) {
        let all = core::mem::take(self);
        let end = length.min(all.len());
        *self = all.split_at_mut(end).0;
    }
}

#[cfg(feature = "user")]
mod vec {
    extern crate alloc;

    impl super::Shorten for alloc::vec::Vec<u8> {
        fn shorten(&mut self, length: usize) {
            self.truncate(length);
        }
    }
}

#[cfg(all(test, not(feature = "user")))]
impl Shorten for std::vec::Vec<u8> {
    fn shorten(&mut self, length: usize) {
        self.truncate(length);
    }
}
