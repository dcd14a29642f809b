use super::{Address, abi};

/// A record of `EVENTS`: something changed. Never one per packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time_ns: u64,
    /// The client's address, where a flow is concerned.
    pub address: Address,
    /// The client's port, host order.
    pub port: u16,
    /// [`super::Service::id`].
    pub service: u16,
    /// Index in `BACKENDS`.
    pub slot: u16,
    /// An [`EventKind`].
    pub kind: u8,
    /// A [`super::CutReason`] for `FlowCut`, a [`crate::reason::DropReason`] for `HandshakeRefused`.
    pub reason: u8,
    /// The caller's SRT socket id.
    pub caller_id: u32,
    /// The listener's SRT socket id; for `HandshakeRejected` and `HandshakeRefused` the rejection's type word.
    pub listener_id: u32,
    /// Index of the route that chose the pool, 0: none did.
    pub route: u16,
    #[doc(hidden)]
    pub _pad: [u8; 6],
}

/// What changed. Numbers are never reused.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A pod accepted a session.
    FlowAccepted = 1,
    /// One of a session's ends sent SHUTDOWN.
    FlowEnded = 2,
    /// A session was cut; its caller is told to reconnect.
    FlowCut = 3,
    /// A pod rejected a session.
    HandshakeRejected = 4,
    /// A pod answered "port unreachable".
    BackendUnreachable = 5,
    /// A flow of a backend fell silent.
    BackendSilent = 6,
    /// A backend that was unreachable or silent was heard again.
    BackendHeard = 7,
    /// We rejected a session: no route, over a quota, no backend. Its slot is [`NO_SLOT`].
    HandshakeRefused = 8,
}

/// No backend is concerned.
pub const NO_SLOT: u16 = u16::MAX;

impl EventKind {
    /// The kind for its ABI form.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::FlowAccepted),
            2 => Some(Self::FlowEnded),
            3 => Some(Self::FlowCut),
            4 => Some(Self::HandshakeRejected),
            5 => Some(Self::BackendUnreachable),
            6 => Some(Self::BackendSilent),
            7 => Some(Self::BackendHeard),
            8 => Some(Self::HandshakeRefused),
            _ => None,
        }
    }

    /// The word in logs and the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FlowAccepted => "flow_accepted",
            Self::FlowEnded => "flow_ended",
            Self::FlowCut => "flow_cut",
            Self::HandshakeRejected => "handshake_rejected",
            Self::BackendUnreachable => "backend_unreachable",
            Self::BackendSilent => "backend_silent",
            Self::BackendHeard => "backend_heard",
            Self::HandshakeRefused => "handshake_refused",
        }
    }
}

abi! { Event: 48 / 8 }
