use super::{Address, Path, abi};
use crate::packet::COPY_MAX;

/// Value of `HANDSHAKES`: a client has asked, the pod has not accepted yet. Written by XDP; tc writes the pod's cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// When the client asked this pod first, with this socket id.
    pub first_ns: u64,
    /// When the pod's cookie came (`stream` only).
    pub cookie_ns: u64,
    /// The way it came.
    pub path: Path,
    /// The caller's SRT socket id (0 for plain UDP).
    pub caller_id: u32,
    /// The cookie of the pod's INDUCTION response, host order; 0: it has not come (`stream` only).
    pub pod_cookie: u32,
    /// [`super::Service::id`].
    pub service: u16,
    /// Index of the route that chose the pool, 0: none did.
    pub route: u16,
    /// The caller's flow window in packets.
    pub flow_window: u32,
}

/// Value of `SPLICES`, by [`super::FlowKey`]: a CONCLUSION kept until its pod has issued a cookie. Written by XDP, after the
/// caller has proved its address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    /// The pod that it was sent to: index in `BACKENDS`.
    pub slot: u16,
    /// Bytes kept: the UDP payload.
    pub length: u16,
    /// [`super::Backend::incarnation`] of the slot then.
    pub incarnation: u32,
    /// What the caller asked for.
    pub stream: StreamId,
    /// The CONCLUSION.
    pub bytes: [u8; COPY_MAX],
}

impl Default for Splice {
    fn default() -> Self {
        Self {
            slot: 0,
            length: 0,
            incarnation: 0,
            stream: StreamId::default(),
            bytes: [0; COPY_MAX],
        }
    }
}

/// Most bytes of a Stream ID that are kept for people.
pub const STREAM_ID_KEPT: usize = 128;
/// Most bytes of a Stream ID (libsrt's limit).
pub const STREAM_ID_MAX: usize = 512;

/// Value of `STREAM_IDS`, by [`super::FlowKey`]: what the caller of an accepted session asked for. Written by tc, for people.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId {
    /// The caller's SRT socket id: tells whether this is still the flow's.
    pub caller_id: u32,
    /// The caller's SRT version, as in HSREQ: `0x00010501` is 1.5.1. 0 with HSv4.
    pub version: u32,
    /// Receiver latency asked for, ms.
    pub receiver_latency: u16,
    /// Sender latency asked for, ms.
    pub sender_latency: u16,
    /// Bytes of the whole Stream ID; 0: none.
    pub length: u16,
    /// Index of the route that chose the pool, 0: none did.
    pub route: u16,
    /// The group that the link is bonded in; 0: none.
    pub group: u32,
    /// Hash of what the session is placed by.
    pub key: u32,
    /// AES key length in units of 8 bytes, 0: none advertised.
    pub encryption: u8,
    /// 1 where key material came with it: the stream is encrypted.
    pub encrypted: u8,
    /// Handshake version, 4 or 5.
    pub handshake: u8,
    #[doc(hidden)]
    pub _pad: u8,
    /// The first bytes of the Stream ID, in reading order, padded with zeros.
    pub text: [u8; STREAM_ID_KEPT],
}

impl Default for StreamId {
    fn default() -> Self {
        Self {
            caller_id: 0,
            version: 0,
            receiver_latency: 0,
            sender_latency: 0,
            length: 0,
            route: 0,
            group: 0,
            key: 0,
            encryption: 0,
            encrypted: 0,
            handshake: 0,
            _pad: 0,
            text: [0; STREAM_ID_KEPT],
        }
    }
}

/// Value of `SECRETS`, one entry: the keys of our cookies. The agent writes a new key over the idle one, and then, by another
/// write, makes it the current one; so cookies made with the one before stay valid until the next rotation.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Secrets {
    /// SipHash keys.
    pub keys: [[u64; 2]; 2],
    /// Index of the current one.
    pub current: u32,
    /// How many keys there have been; 0: none yet, and nobody is answered.
    pub serial: u32,
    /// When the current one became so.
    pub since_ns: u64,
}

impl core::fmt::Debug for Secrets {
    /// Without the keys: whoever has them opens sessions under any address.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Secrets")
            .field("current", &self.current)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// Key of `SOURCE_RATES`: a client's address; the /64 of an IPv6 one, since its owner has all of that.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRateKey {
    /// The address.
    pub address: Address,
}

/// Value of `SOURCE_RATES`: how fast a source asks. Each stamp is a theoretical arrival time (GCRA): what comes more than a
/// burst ahead of it is too much. Written by XDP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceRate {
    /// Of INDUCTIONs.
    pub inductions_ns: u64,
    /// Of CONCLUSIONs with a valid cookie.
    pub conclusions_ns: u64,
    /// When it was sent a rejection last.
    pub rejected_ns: u64,
}

/// Key of `GROUPS`: the links of a bonded connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// Hash of what the session is placed by: group ids alone are the callers' own business.
    pub key: u32,
    /// Group id of the caller.
    pub group: u32,
    /// The pool, as in [`super::Service::pool`].
    pub pool: u32,
}

/// Value of `GROUPS`: where the first link went. Written by XDP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// When a link asked last.
    pub seen_ns: u64,
    /// [`super::Backend::incarnation`] then.
    pub incarnation: u32,
    /// Index in `BACKENDS`.
    pub slot: u16,
    #[doc(hidden)]
    pub _pad: u16,
}

/// Value of `SPLICE_STATS`, by service id, one per CPU: handshakes of services that are answered here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpliceStats {
    /// INDUCTIONs answered, each with a cookie.
    pub cookies_sent: u64,
    /// CONCLUSIONs with a valid cookie.
    pub cookies_valid: u64,
    /// With one of ours that is too old.
    pub cookies_stale: u64,
    /// With one that we never issued.
    pub cookies_forged: u64,
    /// CONCLUSIONs kept, and replayed with the pod's cookie.
    pub splices: u64,
    /// Pods' cookies without a kept CONCLUSION: the caller's next retry opens the session.
    pub lazies: u64,
    /// CONCLUSIONs sent on with the pod's cookie in place of ours: retries.
    pub rewritten: u64,
    /// Pods' INDUCTION responses that nobody waited for.
    pub surplus: u64,
    /// Rejections sent, by [`crate::srt::Rejection`].
    pub rejected: [u64; 6],
    /// Rejections not sent, since the source was told within the last second.
    pub unsaid: u64,
    #[doc(hidden)]
    pub _pad: u64,
}

impl SpliceStats {
    /// Adds `other` field by field: user space sums the CPUs with it.
    pub fn add(&mut self, other: &Self) {
        let Self {
            cookies_sent,
            cookies_valid,
            cookies_stale,
            cookies_forged,
            splices,
            lazies,
            rewritten,
            surplus,
            rejected,
            unsaid,
            _pad: _,
        } = other;
        self.cookies_sent += cookies_sent;
        self.cookies_valid += cookies_valid;
        self.cookies_stale += cookies_stale;
        self.cookies_forged += cookies_forged;
        self.splices += splices;
        self.lazies += lazies;
        self.rewritten += rewritten;
        self.surplus += surplus;
        for (sum, value) in self.rejected.iter_mut().zip(rejected) {
            *sum += value;
        }
        self.unsaid += unsaid;
    }
}

abi! {
    Handshake: 56 / 8,
    Splice: 1188 / 4,
    StreamId: 156 / 4,
    Secrets: 48 / 8,
    SourceRateKey: 16 / 4,
    SourceRate: 24 / 8,
    GroupKey: 12 / 4,
    Group: 16 / 8,
    SpliceStats: 128 / 8,
}
