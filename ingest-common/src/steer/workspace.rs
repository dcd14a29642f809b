//! Where a CONCLUSION is taken apart: one per CPU, since no stack holds it.

use super::Replay;
use crate::abi::{FlowKey, Path, RouteKey, STREAM_ID_MAX, Splice};

/// The place. What one packet leaves behind, the next one overwrites.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Workspace {
    /// The CONCLUSION and what it asks for, as it goes into `SPLICES`.
    pub splice: Splice,
    /// The whole Stream ID in reading order; valid up to `splice.stream.length`.
    pub text: [u8; STREAM_ID_MAX],
    /// Where its fields are: `r`, `u`, `h`, `m`.
    pub fields: [Field; 4],
    /// Offset of the SID block's text in `splice.bytes`, 0: there is none.
    pub sid_at: u32,
    /// The key that `ROUTES` is asked with.
    pub route: MatchKey,
    /// What tc has decided, for its function that carries it out.
    pub replay: Replay,
    /// Who asks, and what for.
    pub request: Request,
}

/// A handshake as the packet tells it: all that is decided by, once the packet itself is out of reach.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The client on the service.
    pub key: FlowKey,
    /// [`crate::abi::Service::flags`].
    pub flags: u32,
    /// [`crate::abi::Service::pool`].
    pub pool: u16,
    /// Bytes of UDP payload.
    pub length: u16,
    /// [`crate::srt::INDUCTION`] or [`crate::srt::CONCLUSION`].
    pub kind: u32,
    /// Handshake version, 4 or 5.
    pub version: u16,
    /// Encryption field.
    pub encryption: u16,
    /// The caller's SRT socket id.
    pub caller_id: u32,
    /// The caller's flow window in packets.
    pub flow_window: u32,
    /// The cookie that came, host order.
    pub cookie: u32,
    /// The cookie to send: ours to the caller, or the pod's to the pod.
    pub send_cookie: u32,
    /// Sum of what the UDP checksum covers beside the payload, itself included.
    pub sum: u32,
    /// 1: there is a checksum to verify.
    pub summed: u32,
    /// 1: its route's quota has been charged before.
    pub charged: u32,
    /// The way it came.
    pub path: Path,
}

/// The value of a field of a Stream ID in [`Workspace::text`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Offset.
    pub start: u16,
    /// Bytes.
    pub length: u16,
    /// Hash of the bytes.
    pub hash: u32,
}

/// A key of `ROUTES` as the trie wants it: how many bits count, then the data.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatchKey {
    /// Bits of `key`.
    pub bits: u32,
    /// The data.
    pub key: RouteKey,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            splice: Splice::default(),
            text: [0; STREAM_ID_MAX],
            fields: [Field::default(); 4],
            sid_at: 0,
            route: MatchKey::default(),
            replay: Replay::default(),
            request: Request::default(),
        }
    }
}
