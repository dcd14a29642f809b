/// Bytes of every SRT header (draft §3).
pub const HEADER: usize = 16;
/// Most bytes of UDP payload: MTU 1500 less IPv4 and UDP headers.
pub const PAYLOAD_MAX: u16 = 1472;
/// Bytes of a SHUTDOWN. The draft says "no CIF", but libsrt pads to 20 and its release 1.5.7 ignores the 16-byte
/// form.
pub const SHUTDOWN_LENGTH: u16 = 20;

/// Control packet types (draft §3.2).
pub mod control {
    /// Handshake.
    pub const HANDSHAKE: u16 = 0;
    /// Keepalive.
    pub const KEEPALIVE: u16 = 1;
    /// Acknowledgement.
    pub const ACK: u16 = 2;
    /// Loss report.
    pub const NAK: u16 = 3;
    /// Congestion warning; libsrt never sends it.
    pub const CONGESTION: u16 = 4;
    /// End of the session.
    pub const SHUTDOWN: u16 = 5;
    /// Acknowledgement of an acknowledgement.
    pub const ACKACK: u16 = 6;
    /// The sender gave packets up.
    pub const DROP_REQUEST: u16 = 7;
    /// Error at the peer.
    pub const PEER_ERROR: u16 = 8;
    /// Extended by its subtype: key refresh, HSv4 handshake extensions.
    pub const USER: u16 = 0x7fff;
}

/// An SRT header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    first: u32,
    second: u32,
    /// The SRT socket id the packet is for; 0 only in handshakes to a listener.
    pub destination: u32,
}

impl Header {
    /// No header: reads as a data packet for nobody.
    pub const NONE: Self = Self {
        first: 0,
        second: 0,
        destination: 0,
    };

    /// From the four words of a header, as in memory.
    #[must_use]
    #[inline(always)]
    pub const fn new(words: [u32; 4]) -> Self {
        let [first, second, _, destination] = words;
        Self {
            first: u32::from_be(first),
            second: u32::from_be(second),
            destination: u32::from_be(destination),
        }
    }

    /// A control packet (F bit).
    #[must_use]
    #[inline(always)]
    pub const fn is_control(&self) -> bool {
        self.first >> 31 == 1
    }

    /// Type of a control packet.
    #[must_use]
    #[inline(always)]
    pub const fn control_type(&self) -> u16 {
        (self.first >> 16) as u16 & 0x7fff
    }

    /// Subtype of a control packet.
    #[must_use]
    #[inline(always)]
    pub const fn subtype(&self) -> u16 {
        self.first as u16
    }

    /// Sequence number of a data packet, 31 bits.
    #[must_use]
    #[inline(always)]
    pub const fn sequence(&self) -> u32 {
        self.first & 0x7fff_ffff
    }

    /// Key field of a data packet: 0 clear, 1 even, 2 odd; 3 is never sent.
    #[must_use]
    #[inline(always)]
    pub const fn key(&self) -> u32 {
        self.second >> 27 & 3
    }

    /// The R bit of a data packet: retransmitted.
    #[must_use]
    #[inline(always)]
    pub const fn is_retransmitted(&self) -> bool {
        self.second >> 26 & 1 == 1
    }
}

/// The words of a SHUTDOWN for socket `destination`, as in memory. The timestamp is 0: no peer looks at it.
#[must_use]
#[inline(always)]
pub const fn shutdown(destination: u32) -> [u32; 5] {
    [
        (0x8000_0000 | (control::SHUTDOWN as u32) << 16).to_be(),
        0,
        0,
        destination.to_be(),
        0,
    ]
}
