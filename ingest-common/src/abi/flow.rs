use super::{Address, abi, key_from_words, key_tail};

/// Key of `FLOWS`: a client's address and port on a service.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// The client's address.
    pub address: Address,
    /// The client's port, host order.
    pub port: u16,
    /// [`super::Service::id`].
    pub service: u16,
}

impl FlowKey {
    /// The key for a client's address in words.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn of_words(address: [u32; 4], port: u16, service: u16) -> Self {
        Self::from_words(address, key_tail(port, service))
    }
}

/// Key of `HANDSHAKES` and `RETURNS`: what a packet from a pod tells, the client and the pod's slot.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReturnKey {
    /// The client's address.
    pub address: Address,
    /// The client's port, host order.
    pub port: u16,
    /// Index in `BACKENDS`.
    pub slot: u16,
}

impl ReturnKey {
    /// The key for a client's address in words.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn of_words(address: [u32; 4], port: u16, slot: u16) -> Self {
        Self::from_words(address, key_tail(port, slot))
    }
}

/// Value of `RETURNS`: the service of an established flow. Written by tc when the flow is accepted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Return {
    /// [`super::Service::id`].
    pub service: u16,
    #[doc(hidden)]
    pub _pad: u16,
}

/// The way a client's packets come in; replies leave by the same way.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// The uplink.
    pub ifindex: u32,
    /// The next hop's MAC: the source of the client's frames.
    pub client_mac: [u8; 6],
    /// Our MAC: the destination of the client's frames.
    pub node_mac: [u8; 6],
    /// EtherType of the outer tag, 0 where frames are untagged.
    pub vlan_protocol: u16,
    /// Outer tag (host order).
    pub vlan_outer: u16,
    /// Inner tag (host order); `VLAN_NONE` where there is one tag.
    pub vlan_inner: u16,
    #[doc(hidden)]
    pub _pad: u16,
}

/// No inner VLAN tag.
pub const VLAN_NONE: u16 = 0xffff;

/// Value of `FLOWS`: a session that a backend has accepted.
///
/// Inserted by tc at the pod's acceptance; then XDP writes `up`, tc writes `down`, and whoever decides it writes
/// `state`. The two directions never write one field, so no field needs a lock.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// When the pod accepted.
    pub accepted_ns: u64,
    /// When it was cut or ended; 0 while it lives.
    pub ended_ns: u64,
    /// When the last SHUTDOWN was sent for it.
    pub shutdown_ns: u64,
    /// [`super::Backend::incarnation`] at acceptance.
    pub incarnation: u32,
    /// [`super::Health::deaths`] at acceptance.
    pub deaths: u32,
    /// The caller's SRT socket id: destination of everything down.
    pub caller_id: u32,
    /// The listener's SRT socket id: destination of everything up.
    pub listener_id: u32,
    /// Index in `BACKENDS`.
    pub slot: u16,
    /// A [`FlowState`].
    pub state: u8,
    /// A [`CutReason`], where the state is `Cut`.
    pub cut_reason: u8,
    /// How many SHUTDOWNs were sent for it.
    pub shutdowns: u32,
    /// The way the client's packets come.
    pub path: Path,
    /// The caller's flow window in packets: how far sequence numbers may jump.
    pub flow_window: u32,
    /// Index of the route that chose the pool, 0: none did.
    pub route: u16,
    /// `FLOW_*` bits; 0 for most flows, so that one comparison tells what is special about it.
    pub marks: u8,
    #[doc(hidden)]
    pub _pad: u8,
    /// Theoretical arrival time of the stream's next byte, where it is policed. Written by XDP.
    pub bytes_ns: u64,
    /// From the client. Written by XDP.
    pub up: Up,
    /// From the pod. Written by tc.
    pub down: Down,
}

/// Of [`Flow::marks`]: the route's quota bounds bitrates, so packets are measured.
pub const FLOW_POLICED: u8 = 1;
/// Of [`Flow::marks`]: packets are copied for `ingest-agent capture`.
pub const FLOW_CAPTURED: u8 = 2;

/// What came from the client. Bytes are UDP payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Up {
    /// Packets, all kinds.
    pub packets: u64,
    /// UDP payload bytes of them.
    pub bytes: u64,
    /// SRT data packets, retransmitted ones included.
    pub data_packets: u64,
    /// SRT data packets with the R flag.
    pub retransmitted: u64,
    /// Sequence numbers skipped by first transmissions: lost before the node, or reordered.
    pub gaps: u64,
    /// First transmissions that came behind a later one: each fills one of `gaps`.
    pub out_of_order: u64,
    /// Last packet.
    pub seen_ns: u64,
    /// First data packet since the pod's last packet.
    pub unanswered_since_ns: u64,
    /// Low 32 bits of `down.packets` when `unanswered` began to count.
    pub answered_mark: u32,
    /// Data packets since the pod's last packet.
    pub unanswered: u32,
    /// The sequence number expected next.
    pub next_sequence: u32,
    /// Data packets in a row outside the sequence window.
    pub out_of_window: u32,
}

/// What came from the pod. Bytes are UDP payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Down {
    /// Packets, all kinds.
    pub packets: u64,
    /// UDP payload bytes of them.
    pub bytes: u64,
    /// Last packet.
    pub seen_ns: u64,
    /// ACKs of any size.
    pub acks: u64,
    /// NAKs.
    pub naks: u64,
    /// Sequence numbers reported lost by NAKs (repeats count again).
    pub reported_lost: u64,
    /// Round trip pod–caller by the last full ACK, µs; 0: none seen.
    pub rtt_us: u32,
    /// Its variance, µs.
    pub rtt_variance_us: u32,
    /// Free receive buffer of the pod by the last ACK, packets.
    pub receive_buffer: u32,
    /// Latency that the two have agreed on for data to the pod, ms; 0: not known (HSv4).
    pub receiver_latency: u16,
    /// The same for data to the caller.
    pub sender_latency: u16,
}

/// Where a flow is in its life.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowState {
    /// No flow.
    #[default]
    None = 0,
    /// Accepted and steered.
    Established = 1,
    /// One of its ends sent SHUTDOWN.
    Ended = 2,
    /// Its backend cannot go on: the caller is told SHUTDOWN.
    Cut = 3,
}

impl FlowState {
    /// The state for its ABI form; unknown values read as [`FlowState::None`].
    #[must_use]
    #[inline(always)]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Established,
            2 => Self::Ended,
            3 => Self::Cut,
            _ => Self::None,
        }
    }

    /// The word shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Established => "established",
            Self::Ended => "ended",
            Self::Cut => "cut",
        }
    }
}

/// Why a flow was cut. Numbers are never reused.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// The backend is gone from the source, or its slot has another tenant.
    BackendGone = 1,
    /// The pod answered "port unreachable": its process is dead.
    Unreachable = 2,
    /// Data went up and nothing came down: the pod hangs.
    Silent = 3,
    /// The pod port vanished.
    PortGone = 4,
    /// The drain deadline has passed.
    DrainDeadline = 5,
    /// The listener sent SHUTDOWN; a caller that did not hear it is told again.
    ListenerClosed = 6,
    /// The service was removed.
    ServiceGone = 7,
}

impl CutReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::BackendGone,
        Self::Unreachable,
        Self::Silent,
        Self::PortGone,
        Self::DrainDeadline,
        Self::ListenerClosed,
        Self::ServiceGone,
    ];

    /// The reason for its ABI form.
    #[must_use]
    #[inline(always)]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::BackendGone),
            2 => Some(Self::Unreachable),
            3 => Some(Self::Silent),
            4 => Some(Self::PortGone),
            5 => Some(Self::DrainDeadline),
            6 => Some(Self::ListenerClosed),
            7 => Some(Self::ServiceGone),
            _ => None,
        }
    }

    /// The word shown to people and used as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BackendGone => "backend_gone",
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::PortGone => "port_gone",
            Self::DrainDeadline => "drain_deadline",
            Self::ListenerClosed => "listener_closed",
            Self::ServiceGone => "service_gone",
        }
    }

    /// Whether the listener may live and so should be told SHUTDOWN as well.
    #[must_use]
    #[inline(always)]
    pub const fn listener_may_live(self) -> bool {
        matches!(
            self,
            Self::BackendGone | Self::Silent | Self::DrainDeadline | Self::ServiceGone
        )
    }
}

abi! {
    FlowKey: 20 / 4,
    ReturnKey: 20 / 4,
    Return: 4 / 2,
    Path: 24 / 4,
    Flow: 232 / 8,
    Up: 80 / 8,
    Down: 64 / 8,
}

key_from_words! { FlowKey, ReturnKey }
