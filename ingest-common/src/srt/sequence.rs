/// How far ahead of `expected` the sequence number `sequence` is, in the 31-bit circle: negative is behind.
#[must_use]
#[inline(always)]
pub const fn ahead(sequence: u32, expected: u32) -> i32 {
    (sequence.wrapping_sub(expected) << 1).cast_signed() >> 1
}

/// The sequence number after `sequence`.
#[must_use]
#[inline(always)]
pub const fn next(sequence: u32) -> u32 {
    sequence.wrapping_add(1) & 0x7fff_ffff
}

/// How many words of a NAK's loss list are read: enough for every list of a healthy stream; a longer one counts
/// low.
pub const NAK_WORDS: usize = 16;

/// Adds up a NAK's loss list (draft §3.2.5): a word with the top bit starts a range that the next word ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct LossList {
    range_start: Option<u32>,
    /// Sequence numbers reported lost so far.
    pub lost: u32,
}

impl LossList {
    /// Takes the next word, host order.
    #[inline(always)]
    pub fn push(&mut self, word: u32) {
        if word >> 31 == 1 {
            self.range_start = Some(word & 0x7fff_ffff);
        } else if let Some(start) = self.range_start.take() {
            let span = ahead(word, start);
            // A range that runs backwards, or over half the circle, is a lie: it counts as one.
            self.lost += if (0..0x10_0000).contains(&span) {
                span.cast_unsigned() + 1
            } else {
                1
            };
        } else {
            self.lost += 1;
        }
    }
}
