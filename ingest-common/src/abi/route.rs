use super::abi;

/// Bytes of text that a route is matched by; longer Stream IDs are matched by their first ones.
pub const ROUTE_TEXT: usize = 124;

/// Data of a key of `ROUTES`, an LPM trie: four bytes that always match, then text.
///
/// A prefix is its own bytes; an exact text ends with a zero byte, which no Stream ID holds. A source prefix is the 16
/// bytes of an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteKey {
    /// [`super::Service::id`].
    pub service: u16,
    /// A [`RouteField`].
    pub field: u8,
    /// A [`StreamMode`]; `Any` where the route does not ask for one.
    pub mode: u8,
    /// The text.
    pub text: [u8; ROUTE_TEXT],
}

impl Default for RouteKey {
    fn default() -> Self {
        Self {
            service: 0,
            field: 0,
            mode: 0,
            text: [0; ROUTE_TEXT],
        }
    }
}

/// What of a caller a route looks at. Of two routes that match equally long texts, the one of the field that comes first
/// here wins; a route that asks for a mode wins over one that does not.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteField {
    /// The whole Stream ID.
    StreamId = 1,
    /// Its resource, `r=`.
    Resource = 2,
    /// Its user, `u=`.
    User = 3,
    /// Its host, `h=`.
    Host = 4,
    /// Nothing but the mode: any text matches.
    Mode = 5,
    /// The caller's address. Looked at only where no Stream ID route matches.
    Source = 6,
}

impl RouteField {
    /// Every field, in order of precedence.
    pub const ALL: [Self; 6] = [
        Self::StreamId,
        Self::Resource,
        Self::User,
        Self::Host,
        Self::Mode,
        Self::Source,
    ];

    /// The bit of [`super::Service::flags`] that says: the service has a route of this field.
    #[must_use]
    #[inline(always)]
    pub const fn flag(self) -> u32 {
        1 << (15 + self as u32)
    }
}

/// What a caller wants: `m=` of its Stream ID.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamMode {
    /// It does not say, or a route does not care.
    #[default]
    Any = 0,
    /// `m=publish`
    Publish = 1,
    /// `m=request`
    Request = 2,
    /// `m=bidirectional`
    Bidirectional = 3,
}

/// Value of `ROUTES`. Written by the agent, read by XDP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Index in `QUOTAS`, `ROUTE_STATES`, `ROUTE_STATS` and `ROUTE_NAMES`; from 1.
    pub route: u16,
    /// Index in `TABLES`: the pool's; [`NO_POOL`]: callers are rejected as forbidden.
    pub pool: u16,
    /// Bytes of text that matched, the exact one's zero byte included.
    pub length: u16,
    #[doc(hidden)]
    pub _pad: u16,
}

/// A route without a pool rejects.
pub const NO_POOL: u16 = u16::MAX;

/// Value of `QUOTAS`, by route: what its streams may use. All zeros: no bounds. Written by the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Nanoseconds between new sessions; 0: no bound.
    pub session_interval_ns: u64,
    /// How far new sessions may be ahead of that.
    pub session_burst_ns: u64,
    /// Nanoseconds that a byte of a stream takes, times 65536; 0: no bound.
    pub stream_byte_cost: u64,
    /// Nanoseconds that a byte of all the route's streams takes, times 65536; 0: no bound.
    pub route_byte_cost: u64,
    /// How far bytes may be ahead of that.
    pub bitrate_burst_ns: u64,
    /// Most sessions at once; 0: no bound.
    pub streams: u32,
    /// 1 where a route has this index.
    pub in_use: u32,
}

impl Quota {
    /// Whether packets of its sessions must be measured.
    #[must_use]
    #[inline(always)]
    pub const fn polices(&self) -> bool {
        self.stream_byte_cost | self.route_byte_cost != 0
    }
}

/// Value of `ROUTE_STATES`, by route. Written by XDP and tc; the agent corrects `active` when it has counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteState {
    /// Theoretical arrival time of the next session.
    pub sessions_ns: u64,
    /// Theoretical arrival time of the next byte.
    pub bytes_ns: u64,
    /// Sessions now.
    pub active: u64,
}

/// Value of `LOADS`, by slot. Written by XDP and tc; the agent corrects it when it has counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Sessions now.
    pub active: u64,
}

/// Value of `ROUTE_STATS`, by route, one per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteStats {
    /// Sessions accepted by a pod.
    pub accepted: u64,
    /// CONCLUSIONs refused since the route has as many sessions as it may.
    pub refused_streams: u64,
    /// CONCLUSIONs refused since new sessions came too fast.
    pub refused_sessions: u64,
    /// CONCLUSIONs that the route rejects.
    pub forbidden: u64,
    /// Packets dropped since their stream was over its bitrate.
    pub over_stream_packets: u64,
    /// UDP payload bytes of them.
    pub over_stream_bytes: u64,
    /// Packets dropped since all the route's streams together were over the bitrate.
    pub over_route_packets: u64,
    /// UDP payload bytes of them.
    pub over_route_bytes: u64,
}

impl RouteStats {
    /// Adds `other` field by field: user space sums the CPUs with it.
    pub fn add(&mut self, other: &Self) {
        let Self {
            accepted,
            refused_streams,
            refused_sessions,
            forbidden,
            over_stream_packets,
            over_stream_bytes,
            over_route_packets,
            over_route_bytes,
        } = other;
        self.accepted += accepted;
        self.refused_streams += refused_streams;
        self.refused_sessions += refused_sessions;
        self.forbidden += forbidden;
        self.over_stream_packets += over_stream_packets;
        self.over_stream_bytes += over_stream_bytes;
        self.over_route_packets += over_route_packets;
        self.over_route_bytes += over_route_bytes;
    }
}

abi! {
    RouteKey: 128 / 2,
    Route: 8 / 2,
    Quota: 48 / 8,
    RouteState: 24 / 8,
    Load: 8 / 8,
    RouteStats: 64 / 8,
}
