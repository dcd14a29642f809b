use super::abi;

/// Value of `CONFIG`, one entry: what may change without a reload. Written by the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// A pod is silent when data went up and nothing came down for this long.
    pub silence_ns: u64,
    /// A pod that was seen dead or silent gets no new sessions for this long, unless it is heard again.
    pub distrust_ns: u64,
    /// At most one SHUTDOWN per flow in this long.
    pub shutdown_interval_ns: u64,
    /// Data packets that must go unanswered before silence counts.
    pub silence_packets: u32,
    /// An [`AnswerBy`].
    pub answer_by: u32,
    /// Nanoseconds between a source's INDUCTIONs; 0: no bound. As for the others, see [`super::SourceRate`].
    pub induction_interval_ns: u64,
    /// How far a source may be ahead of that.
    pub induction_burst_ns: u64,
    /// Nanoseconds between a source's CONCLUSIONs with a valid cookie; 0: no bound.
    pub conclusion_interval_ns: u64,
    /// How far a source may be ahead of that.
    pub conclusion_burst_ns: u64,
    /// Nanoseconds between rejections to a source; others are met with silence.
    pub rejection_interval_ns: u64,
}

/// How our own answers leave.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerBy {
    /// `XDP_TX`.
    #[default]
    Xdp = 0,
    /// tc at the uplink sends it back. For veths, which lose what `XDP_TX` sends unless their far end has an XDP
    /// program.
    Tc = 1,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            silence_ns: 300_000_000,
            distrust_ns: 5_000_000_000,
            shutdown_interval_ns: 10_000_000,
            silence_packets: 8,
            answer_by: AnswerBy::Xdp as u32,
            induction_interval_ns: 100_000_000,
            induction_burst_ns: 3_000_000_000,
            conclusion_interval_ns: 100_000_000,
            conclusion_burst_ns: 3_000_000_000,
            rejection_interval_ns: 1_000_000_000,
        }
    }
}

/// The Maglev table of a pool: value 0 of the inner maps of `TABLES`. Entries are slots; the last three are unused.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaglevTable {
    /// Slot by table position.
    pub slots: [u16; 16384],
}

/// Value of `NODE`, one entry: what the agent says of the dataplane, for the CLI. Read by nobody in the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// When the agent's last full state was in the maps (`CLOCK_REALTIME`, ns since 1970); 0: not yet.
    pub ready_unix_ns: u64,
    /// The agent that wrote this.
    pub agent_pid: u32,
    /// [`super::SCHEMA_VERSION`].
    pub schema: u32,
    /// Version of the agent, UTF-8 padded with zeros.
    pub agent_version: [u8; 32],
    /// The uplinks; unused entries have ifindex 0.
    pub uplinks: [Uplink; 8],
    /// When the agent looked at the streams last (`CLOCK_MONOTONIC`); long ago: nobody judges them.
    pub viewed_ns: u64,
}

/// One uplink of a [`Node`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// Interface index when the programs were attached.
    pub ifindex: u32,
    /// 1: native XDP; 2: generic.
    pub xdp_mode: u8,
    /// 1: the uplink is a veth.
    pub is_veth: u8,
    #[doc(hidden)]
    pub _pad: [u8; 2],
    /// Interface name, padded with zeros.
    pub name: [u8; 16],
}

/// Value of `EXPLAIN`, one entry: what a dry run of the XDP program decided (`ingest-agent explain`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explain {
    /// 1 pass, 2 drop, 3 deliver, 4 cut, 5 answer.
    pub verdict: u8,
    /// [`crate::reason::DropReason`] or [`crate::reason::PassReason`]; 0: not for a VIP.
    pub reason: u8,
    /// 1: an established flow decided; 0: placement did.
    pub by_flow: u8,
    /// A [`super::DeliveryMode`].
    pub mode: u8,
    /// Slot chosen, where the verdict is deliver or cut.
    pub slot: u16,
    /// [`super::Service::id`].
    pub service: u16,
    /// Index of the route that chose the pool, 0: none did.
    pub route: u16,
    /// Place of the rejection in [`crate::srt::Rejection::ALL`], from 1; 0: there is none.
    pub rejection: u8,
    #[doc(hidden)]
    pub _pad: u8,
}

/// XDP metadata in front of a packet that tc at the uplink must handle.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// `HANDOVER_PEER`, `HANDOVER_CUT` or `HANDOVER_ANSWER`.
    pub kind: u32,
    /// The pod port, for `HANDOVER_PEER`.
    pub ifindex: u32,
}

/// Redirect the packet into the pod behind `ifindex`.
pub const HANDOVER_PEER: u32 = 0x696e_6701;
/// The packet is a SHUTDOWN for the pod: send one to the caller too.
pub const HANDOVER_CUT: u32 = 0x696e_6702;
/// The packet is an answer to the client: send it back the way it came.
pub const HANDOVER_ANSWER: u32 = 0x696e_6703;

abi! {
    Config: 72 / 8,
    MaglevTable: 32768 / 2,
    Uplink: 24 / 4,
    Node: 248 / 8,
    Explain: 12 / 2,
    Handover: 8 / 4,
}
