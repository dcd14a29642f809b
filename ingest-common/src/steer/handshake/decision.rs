//! What a handshake calls for, in one word: in the kernel it crosses the border of a function that the verifier knows by its
//! signature only.

use crate::{
    abi::NO_SLOT,
    reason::{DropReason, PassReason},
    srt::Rejection,
};

/// Which handshake is decided about, and how.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Any, to a `client` service.
    Client = 0,
    /// INDUCTION to a `stream` service.
    Induction = 1,
    /// CONCLUSION to a `stream` service.
    Conclusion = 2,
    /// The same, once it has passed the filter: whether it is known.
    Known = 3,
    /// The same, once it is not: which stream it is for.
    Stream = 4,
}

/// What to do with the packet.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Drop it.
    Drop = 0,
    /// Leave it to the host.
    Pass = 1,
    /// On to the pod as it is.
    Forward = 2,
    /// On to the pod with its cookie in place of ours.
    Rewrite = 3,
    /// On to the pod as an INDUCTION.
    Cut = 4,
    /// Back as our INDUCTION response.
    Answer = 5,
    /// Back as a rejection.
    Reject = 6,
    /// Not known: go on.
    Unknown = 7,
    /// Known, but its pod does not answer, or takes no more sessions: go on, and do not charge it again.
    Unplaced = 8,
    /// It is for a [`Part`] to say.
    Ask = 9,
}

/// The decision. From the lowest byte: step, reason, place of the rejection in [`Rejection::ALL`] from 1, whether a flow
/// decided; then slot and route (16 bits each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision(u64);

impl Decision {
    /// Answer the INDUCTION.
    pub(super) const ANSWER: Self = Self::new(Step::Answer, 0, 0, NO_SLOT, 0);

    /// See [`Step::Unknown`].
    pub(super) const UNKNOWN: Self = Self::new(Step::Unknown, 0, 0, NO_SLOT, 0);
    /// See [`Step::Unplaced`].
    pub(super) const UNPLACED: Self = Self::new(Step::Unplaced, 0, 0, NO_SLOT, 0);

    #[inline(always)]
    const fn new(step: Step, reason: u8, rejection: u8, slot: u16, route: u16) -> Self {
        Self(
            step as u64
                | (reason as u64) << 8
                | (rejection as u64) << 16
                | (slot as u64) << 32
                | (route as u64) << 48,
        )
    }

    /// See [`Step::Ask`].
    #[inline(always)]
    pub(super) const fn ask(part: Part) -> Self {
        Self::new(Step::Ask, part as u8, 0, NO_SLOT, 0)
    }

    /// Whom to ask for the decision.
    #[must_use]
    #[inline(always)]
    pub const fn part(self) -> Option<Part> {
        match self.0 as u16 {
            0x0009 => Some(Part::Client),
            0x0109 => Some(Part::Induction),
            0x0209 => Some(Part::Conclusion),
            _ => None,
        }
    }

    #[inline(always)]
    pub(super) const fn drop(reason: DropReason) -> Self {
        Self::drop_by(reason as u8)
    }

    /// [`Self::drop`] by the reason's number.
    #[inline(always)]
    pub(super) const fn drop_by(reason: u8) -> Self {
        Self::new(Step::Drop, reason, 0, NO_SLOT, 0)
    }

    #[inline(always)]
    pub(super) const fn pass(reason: PassReason) -> Self {
        Self::new(Step::Pass, reason as u8, 0, NO_SLOT, 0)
    }

    #[inline(always)]
    pub(super) const fn reject(rejection: Rejection, reason: DropReason, route: u16) -> Self {
        Self::new(
            Step::Reject,
            reason as u8,
            rejection as u8 + 1,
            NO_SLOT,
            route,
        )
    }

    /// On to the pod of `slot`: [`Step::Forward`], `Rewrite` or `Cut`.
    #[inline(always)]
    pub(super) const fn on(step: Step, slot: u16, route: u16, by_flow: bool) -> Self {
        Self(Self::new(step, 0, 0, slot, route).0 | (by_flow as u64) << 24)
    }

    /// The same, with the route that it is about.
    #[inline(always)]
    pub(super) const fn of_route(self, route: u16) -> Self {
        Self(self.0 & 0x0000_ffff_ffff_ffff | (route as u64) << 48)
    }

    /// From its word.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// As a word.
    #[must_use]
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(super) const fn step(self) -> Step {
        match self.0 as u8 {
            1 => Step::Pass,
            2 => Step::Forward,
            3 => Step::Rewrite,
            4 => Step::Cut,
            5 => Step::Answer,
            6 => Step::Reject,
            7 => Step::Unknown,
            8 => Step::Unplaced,
            9 => Step::Ask,
            _ => Step::Drop,
        }
    }

    #[inline(always)]
    pub(super) const fn reason(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Place in [`Rejection::ALL`] from 1.
    #[inline(always)]
    pub(super) const fn rejection(self) -> u8 {
        (self.0 >> 16) as u8
    }

    #[inline(always)]
    pub(super) const fn by_flow(self) -> bool {
        self.0 >> 24 & 1 == 1
    }

    #[inline(always)]
    pub(super) const fn slot(self) -> u16 {
        (self.0 >> 32) as u16
    }

    #[inline(always)]
    pub(super) const fn route(self) -> u16 {
        (self.0 >> 48) as u16
    }
}
