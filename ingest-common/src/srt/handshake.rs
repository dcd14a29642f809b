//! Handshakes: the fixed 48 bytes, and the extension walk of a CONCLUSION (draft §3.2.1).

use crate::{abi::StreamId, packet::COPY_MAX, reason::DropReason};

/// Bytes of a handshake without extensions: header and fixed part.
pub const HANDSHAKE: u16 = 64;
/// Most bytes of a CONCLUSION; the largest legal one is about 912.
pub const CONCLUSION_MAX: u16 = COPY_MAX as u16;
/// Type word of an INDUCTION.
pub const INDUCTION: u32 = 1;
/// Type word of a CONCLUSION.
pub const CONCLUSION: u32 = 0xffff_ffff;
/// Extension block of a CONCLUSION response: what the listener has agreed to.
pub const HSRSP: u32 = 2;
/// Type words from here on are rejections (in the signed sense: up to `i32::MAX`).
pub const REJECTION: u32 = 1000;

/// Why we reject a session: libsrt's "predefined" codes, plus 1000 (`access_control.h`).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    /// The Stream ID makes no sense.
    BadRequest = 0,
    /// Over a quota.
    Overload = 1,
    /// The route rejects.
    Forbidden = 2,
    /// No route.
    NotFound = 3,
    /// No backend.
    Unavailable = 4,
}

impl Rejection {
    /// Every one; a place in this list is its place in [`crate::abi::SpliceStats::rejected`].
    pub const ALL: [Self; 5] = [
        Self::BadRequest,
        Self::Overload,
        Self::Forbidden,
        Self::NotFound,
        Self::Unavailable,
    ];

    /// By its place in [`Self::ALL`], from 1.
    #[must_use]
    #[inline(always)]
    pub const fn from_place(place: u8) -> Option<Self> {
        match place {
            1 => Some(Self::BadRequest),
            2 => Some(Self::Overload),
            3 => Some(Self::Forbidden),
            4 => Some(Self::NotFound),
            5 => Some(Self::Unavailable),
            _ => None,
        }
    }

    /// The type word: 1000 and the reason that `srt_getrejectreason()` tells the caller.
    #[must_use]
    #[inline(always)]
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 2400,
            Self::Overload => 2402,
            Self::Forbidden => 2403,
            Self::NotFound => 2404,
            Self::Unavailable => 2503,
        }
    }

    /// The word shown to people and used as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Overload => "overload",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The fixed part of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// 4 or 5.
    pub version: u32,
    /// Encryption field: 0, 2, 3, 4.
    pub encryption: u16,
    /// Extension field: flags in a CONCLUSION.
    pub extension: u16,
    /// Initial sequence number.
    pub initial_sequence: u32,
    /// Maximum transmission unit.
    pub mtu: u32,
    /// Flow window in packets.
    pub flow_window: u32,
    /// Type word.
    pub kind: u32,
    /// The sender's socket id.
    pub socket_id: u32,
    /// The cookie.
    pub cookie: u32,
}

impl Handshake {
    /// From the eight words behind the header, as in memory.
    #[must_use]
    #[inline(always)]
    pub const fn new(words: [u32; 8]) -> Self {
        let [version, fields, isn, mtu, window, kind, id, cookie] = words;
        let fields = u32::from_be(fields);
        Self {
            version: u32::from_be(version),
            encryption: (fields >> 16) as u16,
            extension: fields as u16,
            initial_sequence: u32::from_be(isn),
            mtu: u32::from_be(mtu),
            flow_window: u32::from_be(window),
            kind: u32::from_be(kind),
            socket_id: u32::from_be(id),
            cookie: u32::from_be(cookie),
        }
    }

    /// What both requests share: a socket id, a 31-bit sequence number, an MTU and window that can carry anything.
    #[inline(always)]
    const fn fields_ok(&self) -> bool {
        self.socket_id != 0
            && self.initial_sequence >> 31 == 0
            && self.mtu >= 76
            && self.mtu <= 1500
            && self.flow_window >= 2
            && self.flow_window <= i32::MAX as u32
    }

    /// Check 4: an INDUCTION request of `length` bytes.
    #[inline(always)]
    pub const fn check_induction(&self, length: u16) -> Result<(), DropReason> {
        if length == HANDSHAKE
            && (self.version == 4 || self.version == 5)
            && self.cookie == 0
            && self.fields_ok()
        {
            Ok(())
        } else {
            Err(DropReason::SrtInduction)
        }
    }

    /// Checks 5 and 6, but for the cookie's validity, which only the listener knows: a CONCLUSION request of
    /// `length` bytes. Tells whether extensions follow.
    #[inline(always)]
    pub const fn check_conclusion(&self, length: u16) -> Result<bool, DropReason> {
        if !self.fields_ok() || self.cookie == 0 {
            return Err(DropReason::SrtConclusion);
        }
        match self.version {
            5 if length >= 80
                && length <= CONCLUSION_MAX
                && self.extension & !7 == 0
                && self.extension & 1 == 1
                && matches!(self.encryption, 0 | 2 | 3 | 4) =>
            {
                Ok(true)
            }
            // HSv4 says UDT_DGRAM here and has no extensions.
            4 if length == HANDSHAKE && self.extension == 2 && self.encryption == 0 => Ok(false),
            _ => Err(DropReason::SrtConclusion),
        }
    }
}

/// Extension types (draft §3.2.1.1, and libsrt's FILTER and GROUP).
mod extension {
    pub(super) const HSREQ: u16 = 1;
    pub(super) const KMREQ: u16 = 3;
    pub(super) const SID: u16 = 5;
    pub(super) const CONGESTION: u16 = 6;
    pub(super) const FILTER: u16 = 7;
    pub(super) const GROUP: u16 = 8;
}

/// Most extension blocks of a CONCLUSION.
const BLOCKS_MAX: usize = 8;
/// Lowest SRT version that speaks HSv5: 1.3.0.
const VERSION_MIN: u32 = 0x0001_0300;

/// Check 7: walks the extensions of a CONCLUSION that stands in `bytes`, `length` (≤ 1024, a multiple of 4) of
/// them valid. Notes in `stream` what they ask for; gives the offset of the Stream ID, 0 where there is none.
///
/// Every offset is masked to the buffer: the verifier then needs no proof, and the walk cannot leave it.
#[inline(always)]
pub fn check_extensions(
    bytes: &[u8; COPY_MAX],
    length: u16,
    stream: &mut StreamId,
) -> Result<u32, DropReason> {
    let end = length as usize;
    let mut at = HANDSHAKE as usize;
    let mut block = 0;
    let mut sid_at = 0;
    while block < BLOCKS_MAX {
        if at == end {
            return if block > 0 {
                Ok(sid_at)
            } else {
                Err(DropReason::SrtExtension)
            };
        }
        let head = word(bytes, at);
        let (kind, words) = ((head >> 16) as u16, (head & 0xffff) as usize);
        let body = at + 4;
        // `end` is at most 1024, so an honest block has at most 239 words; a larger claim never fits.
        if words > 256 || body + 4 * words > end {
            return Err(DropReason::SrtExtension);
        }
        // The first block is HSREQ, and it names a version that has HSv5.
        if (block == 0) != (kind == extension::HSREQ) {
            return Err(DropReason::SrtExtension);
        }
        let ok = match kind {
            extension::HSREQ => {
                let latencies = word(bytes, body + 8);
                stream.version = word(bytes, body);
                stream.receiver_latency = (latencies >> 16) as u16;
                stream.sender_latency = latencies as u16;
                words == 3 && stream.version >= VERSION_MIN
            }
            extension::SID => {
                let first = sid_at == 0;
                sid_at = body as u32;
                first && (1..=128).contains(&words)
            }
            extension::CONGESTION => (1..=4).contains(&words),
            extension::FILTER => (1..=16).contains(&words),
            extension::GROUP => {
                stream.group = word(bytes, body);
                words >= 2 && words % 2 == 0
            }
            extension::KMREQ => {
                stream.encrypted = 1;
                if !key_material_ok(word(bytes, body), word(bytes, body + 12), words) {
                    return Err(DropReason::SrtKeyMaterial);
                }
                true
            }
            // HSRSP and KMRSP belong to answers.
            _ => false,
        };
        if !ok {
            return Err(DropReason::SrtExtension);
        }
        at = body + 4 * words;
        block += 1;
    }
    if at == end {
        Ok(sid_at)
    } else {
        Err(DropReason::SrtExtension)
    }
}

/// Key material (draft §3.2.2) of so many words, by its first and fourth: version 1, packet type 2, sign "HAI"; 16 bytes
/// of salt; and exactly the keys that it announces. libsrt before 1.5.6 copies it unbounded.
#[inline(always)]
const fn key_material_ok(first: u32, lengths: u32, words: usize) -> bool {
    let keys = match first & 3 {
        0 => return false,
        3 => 2,
        _ => 1,
    };
    let (salt, key) = (lengths >> 8 & 0xff, (lengths & 0xff) as usize);
    // 4 words of header, 4 of salt, the keys, and the 2 that wrapping adds.
    first >> 8 == 0x0012_2029
        && salt == 4
        && (key == 4 || key == 6 || key == 8)
        && words == 10 + keys * key
}

/// The word at `at`, host order. `at` is a multiple of 4.
#[inline(always)]
fn word(bytes: &[u8; COPY_MAX], at: usize) -> u32 {
    let (words, _) = bytes.as_chunks::<4>();
    // The mask keeps the index inside, so `get` never fails.
    words
        .get((at >> 2) & (COPY_MAX / 4 - 1))
        .map_or(0, |word| u32::from_be_bytes(*word))
}
