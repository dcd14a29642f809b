use super::{MAX_SERVICES, abi};

/// Value of `THRESHOLDS`: from when on a stream is not well. 0 in a field: what the service says, and of a service what
/// [`Thresholds::DEFAULT`] says; [`OFF`]: never. Written by the agent, read by whoever judges streams, never by a program.
///
/// Indexed by [`Thresholds::of_service`] and [`Thresholds::of_route`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Bits a second of SRT payload.
    pub min_bitrate: u64,
    /// How long a stream must be below that, ms.
    pub min_bitrate_for_ms: u32,
    /// A stream without data for this long is stalled, ms.
    pub stalled_after_ms: u32,
    /// First transmissions lost before this node, in hundredths of a percent.
    pub max_loss: u32,
    /// Round trip in percent of the latency that the two ends agreed on.
    pub max_rtt: u32,
}

/// No threshold, whatever the service or the default says.
pub const OFF: u32 = u32::MAX;

impl Thresholds {
    /// Without a bitrate: nobody can know what an encoder is meant to send. A round trip of half the latency leaves a lost
    /// packet one chance to be sent again in time.
    pub const DEFAULT: Self = Self {
        min_bitrate: 0,
        min_bitrate_for_ms: 5000,
        stalled_after_ms: 3000,
        max_loss: 500,
        max_rtt: 50,
    };

    /// The index of a service's, by its id.
    #[must_use]
    pub const fn of_service(service: u16) -> u32 {
        service as u32
    }

    /// The index of a route's.
    #[must_use]
    pub const fn of_route(route: u16) -> u32 {
        MAX_SERVICES as u32 + route as u32
    }

    /// What is set here, and else what `base` says.
    #[must_use]
    pub const fn or(self, base: Self) -> Self {
        const fn first(own: u32, base: u32) -> u32 {
            if own == 0 { base } else { own }
        }
        Self {
            min_bitrate: if self.min_bitrate == 0 {
                base.min_bitrate
            } else {
                self.min_bitrate
            },
            min_bitrate_for_ms: first(self.min_bitrate_for_ms, base.min_bitrate_for_ms),
            stalled_after_ms: first(self.stalled_after_ms, base.stalled_after_ms),
            max_loss: first(self.max_loss, base.max_loss),
            max_rtt: first(self.max_rtt, base.max_rtt),
        }
    }
}

/// Value of `STREAM_HEALTH`, by [`super::FlowKey`]: the agent's judgement of a stream, for the CLI and for the next agent.
/// Written when it changes; as old as [`super::Node::viewed_ns`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamHealth {
    /// Since when it is in this state.
    pub since_ns: u64,
    /// The caller's SRT socket id: tells whether this is still the flow's.
    pub caller_id: u32,
    /// How often its caller has come back, counted over sessions of one Stream ID.
    pub reconnects: u32,
    /// How often it came back because its pod could not go on.
    pub failovers: u32,
    /// A [`StreamState`].
    pub state: u8,
    #[doc(hidden)]
    pub _pad: u8,
    /// Bits of [`Reason`].
    pub reasons: u16,
}

/// How a stream is. Where several hold, the last of these.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamState {
    /// Well.
    #[default]
    Active = 0,
    /// Over or under a threshold; [`Reason`]s tell which.
    Warning = 1,
    /// Its pod is draining: the stream stays until the deadline.
    Draining = 2,
    /// No data comes; a [`Reason`] tells whose fault it is.
    Stalled = 3,
    /// It has ended or was cut, and is about to be forgotten.
    Ending = 4,
}

impl StreamState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Active,
        Self::Warning,
        Self::Draining,
        Self::Stalled,
        Self::Ending,
    ];

    /// The state for its ABI form; unknown values read as [`StreamState::Active`].
    #[must_use]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Warning,
            2 => Self::Draining,
            3 => Self::Stalled,
            4 => Self::Ending,
            _ => Self::Active,
        }
    }

    /// The word shown to people, and the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Warning => "warning",
            Self::Draining => "draining",
            Self::Stalled => "stalled",
            Self::Ending => "ending",
        }
    }
}

/// What is not well about a stream. The number is the bit in [`StreamHealth::reasons`]; never reused.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The encoder sends less than the threshold, and the network does not lose it.
    LowBitrate = 0,
    /// More is lost before this node than the threshold.
    Loss = 1,
    /// The round trip is long against the latency: what is lost comes too late.
    Rtt = 2,
    /// The pod's receive buffer is nearly full: its application does not read.
    PodBuffer = 3,
    /// Data goes up and the pod says nothing.
    PodSilent = 4,
    /// Stalled: the encoder is there (it keeps the session alive) and sends no data.
    EncoderStopped = 5,
    /// Stalled: nothing comes from the encoder, the network or the encoder is gone.
    EncoderUnreachable = 6,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::LowBitrate,
        Self::Loss,
        Self::Rtt,
        Self::PodBuffer,
        Self::PodSilent,
        Self::EncoderStopped,
        Self::EncoderUnreachable,
    ];

    /// Its bit.
    #[must_use]
    pub const fn bit(self) -> u16 {
        1 << self as u8
    }

    /// The word shown to people, and the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LowBitrate => "low_bitrate",
            Self::Loss => "loss",
            Self::Rtt => "rtt",
            Self::PodBuffer => "pod_buffer",
            Self::PodSilent => "pod_silent",
            Self::EncoderStopped => "encoder_stopped",
            Self::EncoderUnreachable => "encoder_unreachable",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub const fn explained(self) -> &'static str {
        match self {
            Self::LowBitrate => "the encoder sends less than the threshold",
            Self::Loss => "the network before this node loses more than the threshold",
            Self::Rtt => "the round trip is long against the latency",
            Self::PodBuffer => "the pod's receive buffer fills: its application does not read",
            Self::PodSilent => "the pod does not answer",
            Self::EncoderStopped => "the encoder is connected and sends no data",
            Self::EncoderUnreachable => "nothing comes from the encoder",
        }
    }
}

abi! {
    Thresholds: 24 / 8,
    StreamHealth: 24 / 8,
}
