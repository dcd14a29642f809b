use super::{Address, abi, address_key, key_from_words};

/// Value of `BACKENDS`, by slot. Written by the agent only, read by every program.
///
/// What the kernel itself learns of a backend is in [`Health`], so that neither side overwrites the other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// The pod's address.
    pub address: Address,
    /// The pod's port, host order.
    pub port: u16,
    /// IP protocol: 17.
    pub protocol: u8,
    /// A [`BackendState`].
    pub state: u8,
    /// A [`DeliveryMode`].
    pub mode: u8,
    /// `BACKEND_*` bits.
    pub flags: u8,
    /// Destination MAC of frames into the pod (`redirect` only).
    pub pod_mac: [u8; 6],
    /// Source MAC of frames into the pod: the pod port's own (`redirect` only).
    pub port_mac: [u8; 6],
    #[doc(hidden)]
    pub _pad: [u8; 2],
    /// Interface index of the pod port, 0 where there is none (`stack`, or no delivery).
    pub ifindex: u32,
    /// Counts the uses of this slot: a flow of an earlier use never reaches a later one.
    pub incarnation: u32,
    /// Most sessions the backend takes; 0: no limit.
    pub limit: u32,
    /// When the backend's remaining sessions are to be ended; 0: never.
    pub drain_deadline_ns: u64,
    /// The ends are spread over this long after the deadline.
    pub drain_window_ns: u64,
}

/// The redirect target shares a veth with senders that leave checksums to the device: frames whose UDP checksum
/// is only the pseudo-header's go by `peer`, since an XDP frame cannot carry that mark.
pub const BACKEND_PARTIAL_CHECKSUMS: u8 = 1;
/// The limit only spreads: where all of a pool are at theirs, they take more.
pub const BACKEND_SOFT_LIMIT: u8 = 2;

/// What the agent says of a backend.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendState {
    /// The slot is free.
    #[default]
    Free = 0,
    /// New and established sessions.
    Serving = 1,
    /// Established sessions only.
    Draining = 2,
    /// Gone from the source: established sessions are told to reconnect.
    Gone = 3,
}

impl BackendState {
    /// The state for its ABI form; unknown values read as [`BackendState::Free`].
    #[must_use]
    #[inline(always)]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Serving,
            2 => Self::Draining,
            3 => Self::Gone,
            _ => Self::Free,
        }
    }

    /// The word shown to people and used as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Gone => "gone",
        }
    }
}

/// How a packet gets from the uplink into the pod.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryMode {
    /// No way is known: the pod port vanished, or was not found yet.
    #[default]
    None = 0,
    /// `XDP_REDIRECT` through `POD_PORTS` into the pod port.
    Redirect = 1,
    /// `XDP_PASS`, then `bpf_redirect_peer` by tc at the uplink.
    Peer = 2,
    /// `XDP_PASS`, then the host routes.
    Stack = 3,
}

impl DeliveryMode {
    /// The mode for its ABI form; unknown values read as [`DeliveryMode::None`].
    #[must_use]
    #[inline(always)]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Redirect,
            2 => Self::Peer,
            3 => Self::Stack,
            _ => Self::None,
        }
    }

    /// The word shown to people and used as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Redirect => "redirect",
            Self::Peer => "peer",
            Self::Stack => "stack",
        }
    }
}

/// Value of `HEALTH`, by slot: what the kernel saw, and what an operator said. The agent clears it when it gives
/// the slot to a backend and otherwise only reads it; `ingest-agent drain` writes the `drain_*` fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// When a packet came from the backend last (granularity 1 ms).
    pub heard_ns: u64,
    /// When a flow of the backend fell silent last. Later than `heard_ns`: no new sessions.
    pub silent_ns: u64,
    /// When the pod answered "port unreachable" last. Later than `heard_ns`: no new sessions for a while.
    pub unreachable_ns: u64,
    /// When an operator's drain ends the remaining sessions; 0: never.
    pub drain_deadline_ns: u64,
    /// The ends are spread over this long after the deadline.
    pub drain_window_ns: u64,
    /// How often the pod's process was seen dead. A flow that began before is told to reconnect.
    pub deaths: u32,
    /// 1 while an operator drains the backend.
    pub drain: u32,
}

/// Value of `TENANTS`, by slot: which process the slot's sessions are with. The agent's own memory across restarts; no
/// program reads it. 0: not known, which matches anything.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// Hash of the pod's UID.
    pub pod: u32,
    /// Hash of the id of the container that serves the port.
    pub process: u32,
}

/// Key of `ENDPOINTS`: where packets of a pod come from.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// The pod's address.
    pub address: Address,
    /// The pod's port, host order.
    pub port: u16,
    /// IP protocol: 17.
    pub protocol: u8,
    #[doc(hidden)]
    pub _pad: u8,
}

/// Value of `ENDPOINTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Index in `BACKENDS`.
    pub slot: u32,
}

/// Value of `PROBES`, by slot: the last answer to the agent's proof of a delivery mode.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// When the pod's echo reply was seen at its port.
    pub answered_ns: u64,
    /// The echo's sequence number.
    pub sequence: u32,
    #[doc(hidden)]
    pub _pad: u32,
}

/// Source of the agent's probes: the IPv4 dummy address, which no host has (RFC 7600 §4.8), and its like
/// in the discard prefix (RFC 6666).
pub const PROBE_V4: [u8; 4] = [192, 0, 0, 8];
/// See [`PROBE_V4`].
pub const PROBE_V6: Address = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8];

abi! {
    Backend: 64 / 8,
    Health: 48 / 8,
    EndpointKey: 20 / 4,
    Endpoint: 4 / 4,
    Tenant: 8 / 4,
    Probe: 16 / 8,
}

key_from_words! { EndpointKey }
address_key! { EndpointKey }
