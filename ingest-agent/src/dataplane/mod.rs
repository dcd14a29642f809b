//! The kernel side, as seen from the agent: loading and attaching the programs, writing and reading their maps.
//!
//! Owns everything that touches aya, bpffs and `unsafe`. It knows no cluster, no file format and no policy: it does
//! what [`Op`](crate::reconcile::Op)s say and reports what it finds.
//! * [`Lock`] → [`Dataplane::load`] → [`Dataplane::apply`] → [`Dataplane::attach`]: the running agent's way.
//! * [`Reader`]: the CLI's and the metrics' way, from pins alone, whether an agent runs or not.
//! * [`explain`], [`unload`], [`CaptureSession`].
//!
//! Everything outlives the process: maps and links are pinned, and the next agent adopts them.

mod apply;
mod capture;
mod checks;
mod error;
mod events;
mod explain;
mod filters;
mod gro;
mod kernel_log;
mod keys;
mod links;
mod load;
mod lock;
mod maps;
mod object;
mod observe;
mod packet;
mod pins;
mod probe;
mod raw;
mod reader;
mod reading;
mod secrets;
mod sweep;
mod tables;
mod unload;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

use aya::Ebpf;
use ingest_common::abi;
use nix::time::{ClockId, clock_gettime};

use crate::reconcile::PoolName;

pub use self::{
    capture::{CaptureProgress, CaptureRequest, CaptureSession, CapturedPacket},
    error::Error,
    events::EventReader,
    explain::explain,
    gro::{GroOutcome, enable_gro},
    lock::Lock,
    packet::client_frame,
    probe::ProbeTicket,
    reader::{BackendView, LinkView, Reader, RouteView, ServiceView},
    secrets::SecretsState,
    sweep::SweepReport,
    unload::unload,
};

/// Where pins are by default.
pub const PIN_ROOT: &str = "/sys/fs/bpf/ingest";

/// How to load and attach.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where pins go.
    pub pin_root: PathBuf,
    /// Interfaces that clients' packets come in by; at most eight.
    pub uplinks: Vec<String>,
    /// Which XDP hook.
    pub xdp_mode: XdpChoice,
    /// Logging of the kernel programs; `None`: the verifier removes it.
    pub kernel_log: Option<LogLevel>,
    /// Entries of `FLOWS` and `RETURNS`, where they are not pinned yet.
    pub max_flows: u32,
}

/// Which XDP hook to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpChoice {
    /// Native, or else generic with a warning.
    #[default]
    Auto,
    /// Native or nothing.
    Native,
    /// Generic.
    Generic,
}

/// The XDP hook in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpHook {
    /// In the driver.
    Native,
    /// After the skb is built: slow, works everywhere.
    Generic,
}

impl XdpHook {
    /// The word in `status` and the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// The hook for its form in [`abi::Uplink::xdp_mode`].
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Native),
            2 => Some(Self::Generic),
            _ => None,
        }
    }

    fn to_u8(self) -> u8 {
        match self {
            Self::Native => 1,
            Self::Generic => 2,
        }
    }
}

/// How much the kernel programs log (slow paths only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// Errors.
    Error = 1,
    /// And warnings.
    Warn = 2,
    /// And information.
    Info = 3,
    /// And debugging.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

/// An uplink with the programs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkState {
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: [u8; 6],
    /// The hook. Before [`Dataplane::attach`], that of an earlier agent's link, or `None`.
    pub xdp: Option<XdpHook>,
    /// Whether it is a veth: frames with partial checksums may come.
    pub is_veth: bool,
    /// Whether a link of an earlier agent was taken over.
    pub adopted: bool,
}

/// The loaded programs and their maps. Dropping it leaves traffic running.
#[derive(Debug)]
pub struct Dataplane {
    /// The programs; the maps are taken out of it.
    ebpf: Ebpf,
    maps: maps::Maps,
    table_writer: tables::TableWriter,
    /// Until [`Self::events`] gives it away: a ring has one reader.
    events: Option<events::Ring>,
    pins: pins::Pins,
    xdp_mode: XdpChoice,
    uplinks: Vec<UplinkState>,
    max_flows: u32,
    /// Interfaces with `tc_pod` of this agent.
    pod_ports: BTreeSet<u32>,
    pod_ports_adopted: bool,
    /// The tc programs are filters of a qdisc, since the kernel has no tcx.
    filters: bool,
    /// Whose each pool is, and what this agent has built its table from.
    tables: HashMap<u16, (PoolName, Vec<u16>)>,
    /// What the last sweep found.
    idle: sweep::Idle,
    /// Of the last probe.
    sequence: u16,
    /// Ends with the dataplane.
    _kernel_log: Option<kernel_log::KernelLog>,
}

impl Dataplane {
    /// The uplinks, in configured order.
    pub fn uplinks(&self) -> &[UplinkState] {
        &self.uplinks
    }

    /// Entries of `FLOWS`, which an adopted map decides rather than the options.
    pub fn max_flows(&self) -> u32 {
        self.max_flows
    }

    /// Writes `CONFIG`.
    pub fn set_config(&mut self, config: &abi::Config) -> Result<(), Error> {
        self.maps.config.set(0, config)
    }

    /// `STREAM_IDS`: what the caller of a flow asked for.
    pub fn stream_id(&self, key: &abi::FlowKey) -> Result<Option<abi::StreamId>, Error> {
        self.maps.stream_ids.get(key)
    }

    /// Writes `NODE`: who runs, on which uplinks, and since when the desired state is in the maps
    /// (`ready_unix_ns`, 0: not yet).
    pub fn set_node(&mut self, ready_unix_ns: u64) -> Result<(), Error> {
        let mut uplinks = [abi::Uplink::default(); 8];
        for (entry, uplink) in uplinks.iter_mut().zip(&self.uplinks) {
            *entry = abi::Uplink {
                ifindex: uplink.ifindex,
                xdp_mode: uplink.xdp.map_or(0, XdpHook::to_u8),
                is_veth: uplink.is_veth.into(),
                name: padded(&uplink.name),
                ..Default::default()
            };
        }
        reading::change_node(&mut self.maps.node, |node| {
            *node = abi::Node {
                ready_unix_ns,
                agent_pid: std::process::id(),
                schema: abi::SCHEMA_VERSION,
                agent_version: padded(env!("CARGO_PKG_VERSION")),
                uplinks,
                viewed_ns: node.viewed_ns,
            };
        })
    }
}

/// The first bytes of `text`, and zeros.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes
        .iter_mut()
        .zip(text.bytes())
        .for_each(|(to, from)| *to = from);
    bytes
}

/// The clock of all times in the maps: `CLOCK_MONOTONIC`.
pub fn now_ns() -> u64 {
    // The clock exists on every Linux, so it cannot fail; 0 would read as "never".
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(std::time::Duration::from)
        .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
