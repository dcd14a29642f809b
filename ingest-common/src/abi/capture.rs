use super::{FlowKey, abi};

/// Value of `CAPTURE`: what is copied for `ingest-agent capture`, which writes it whole before it marks the flow. The
/// programs count in it, each direction on its own; two CPUs at once may miscount by a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// The flow with the mark.
    pub key: FlowKey,
    /// Every nth packet of a direction is copied; 0 and 1: each.
    pub every: u32,
    /// The first packet from then on takes the mark away.
    pub until_ns: u64,
    /// Packets to copy still.
    pub left: u64,
    /// Packets of the flow, copied or not: from the client, from the pod.
    pub seen: [u64; 2],
    /// Packets that found the ring full.
    pub lost: u64,
    /// 1: whole packets; 0: what fits [`CAPTURE_HEADERS`].
    pub whole: u32,
    /// Who reads the ring.
    pub pid: u32,
}

/// Bytes of a packet of which the headers are copied: two VLAN tags, IPv6, UDP, the SRT header and some of what follows.
pub const CAPTURE_HEADERS: usize = 96;
/// Most bytes of a packet that is copied whole.
pub const CAPTURE_WHOLE: usize = 1600;
/// Bytes of the ring `CAPTURES`.
pub const CAPTURES_BYTES: usize = 1_048_576;

/// From the client.
pub const CAPTURED_UP: u8 = 0;
/// From the pod.
pub const CAPTURED_DOWN: u8 = 1;

/// A record of `CAPTURES`; `N` is [`CAPTURE_HEADERS`] or [`CAPTURE_WHOLE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured<const N: usize> {
    /// When.
    pub time_ns: u64,
    /// Bytes of the frame.
    pub length: u32,
    /// How many of them are here; what stands behind them means nothing.
    pub kept: u16,
    /// [`CAPTURED_UP`] or [`CAPTURED_DOWN`].
    pub direction: u8,
    #[doc(hidden)]
    pub _pad: u8,
    /// The frame, with the pod's address on the pod's side where it came from the client, and without tags but for
    /// those that a `stack` pod's packets keep.
    pub bytes: [u8; N],
}

abi! {
    Capture: 72 / 8,
    Captured<CAPTURE_HEADERS>: 112 / 8,
    Captured<CAPTURE_WHOLE>: 1616 / 8,
}
