//! The kernel side, as seen from the agent: loading and attaching the programs, writing and reading their maps.
//!
//! Owns everything that touches aya, bpffs and `unsafe`. It knows no cluster, no file format and no policy: it does
//! what [`Op`]s say and reports what it finds.
//! * [`Lock`] → [`Dataplane::load`] → [`Dataplane::apply`] → [`Dataplane::attach`]: the running agent's way.
//! * [`Reader`]: the CLI's and the metrics' way, from pins alone, whether an agent runs or not.
//! * [`explain`], [`unload`].
//!
//! Everything outlives the process: maps and links are pinned, and the next agent adopts them.

mod error;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use ingest_common::{
    abi,
    reason::{DropReason, PassReason},
};

pub use self::error::Error;
use crate::reconcile::{Observed, Op};

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
    /// Logging of the kernel programs; `None`: compiled out by the verifier.
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
    /// The hook; `None` before [`Dataplane::attach`].
    pub xdp: Option<XdpHook>,
    /// Whether it is a veth: frames with partial checksums may come.
    pub is_veth: bool,
    /// Whether a link of an earlier agent was taken over.
    pub adopted: bool,
}

/// Held by the one agent of a pin root.
#[derive(Debug)]
pub struct Lock {
    pin_root: PathBuf,
}

impl Lock {
    /// Takes the lock: mounts a BPF filesystem on `/sys/fs/bpf` if none is there, makes `pin_root`.
    pub fn acquire(pin_root: &Path) -> Result<Self, Error> {
        unimplemented!("{}", pin_root.display())
    }

    /// Whether an agent holds it.
    pub fn is_held(pin_root: &Path) -> bool {
        unimplemented!("{}", pin_root.display())
    }

    /// What it guards.
    pub fn pin_root(&self) -> &Path {
        &self.pin_root
    }
}

/// The loaded programs and their maps. Dropping it leaves traffic running.
#[derive(Debug)]
pub struct Dataplane {
    uplinks: Vec<UplinkState>,
}

impl Dataplane {
    /// Checks the preconditions and the pins, loads maps (adopting pinned ones) and programs, runs the self-test.
    /// Nothing is attached yet. Takes about 100 ms, blocking.
    pub async fn load(options: &Options, lock: &Lock) -> Result<Self, Error> {
        unimplemented!("{options:?} {lock:?}")
    }

    /// Puts the programs on the uplinks, or swaps them into the links of an earlier agent.
    pub fn attach(&mut self) -> Result<(), Error> {
        unimplemented!()
    }

    /// The uplinks, in configured order.
    pub fn uplinks(&self) -> &[UplinkState] {
        &self.uplinks
    }

    /// Entries of `FLOWS`, which an adopted map decides rather than the options.
    pub fn max_flows(&self) -> u32 {
        unimplemented!()
    }

    /// Makes `tc_pod` run at the ingress of exactly these interfaces. One that vanished meanwhile is skipped.
    pub fn set_pod_ports(&mut self, ifindexes: &BTreeSet<u32>) -> Result<(), Error> {
        unimplemented!("{ifindexes:?}")
    }

    /// Reads what the maps hold (about 2 ms: batched).
    pub fn observe(&mut self) -> Result<Observed, Error> {
        unimplemented!()
    }

    /// Does `ops` in order; stops at the first that fails.
    pub fn apply(&mut self, ops: &[Op]) -> Result<(), Error> {
        unimplemented!("{ops:?}")
    }

    /// Writes `CONFIG`.
    pub fn set_config(&mut self, config: &abi::Config) -> Result<(), Error> {
        unimplemented!("{config:?}")
    }

    /// Writes `NODE`: who runs, on which uplinks, and since when the desired state is in the maps
    /// (`ready_unix_ns`, 0: not yet).
    pub fn set_node(&mut self, ready_unix_ns: u64) -> Result<(), Error> {
        unimplemented!("{ready_unix_ns}")
    }

    /// The reader of `EVENTS`; needs a tokio runtime. There is one: a second call gives `None`.
    pub fn events(&mut self) -> Result<Option<EventReader>, Error> {
        unimplemented!()
    }

    /// Sends one echo request into the backend of `slot` by `mode` (`Redirect` or `Peer`), as the packet path would.
    /// Its `POD_PORTS` entry and `tc_pod` on its pod port must be there, and [`Self::attach`] done.
    pub fn send_probe(&mut self, slot: u16, mode: abi::DeliveryMode) -> Result<ProbeTicket, Error> {
        unimplemented!("{slot} {mode:?}")
    }

    /// Whether the pod has answered the probe.
    pub fn probe_answered(&self, ticket: &ProbeTicket) -> Result<bool, Error> {
        unimplemented!("{ticket:?}")
    }

    /// Forgets flows that are over and counts the others. `now_ns`: [`now_ns`].
    pub fn sweep(&mut self, now_ns: u64) -> Result<SweepReport, Error> {
        unimplemented!("{now_ns}")
    }
}

/// A probe under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTicket {
    /// The backend's slot.
    pub slot: u16,
    /// The echo's sequence number.
    pub sequence: u16,
    /// When it was sent ([`now_ns`]).
    pub sent_ns: u64,
}

/// What [`Dataplane::sweep`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Flows forgotten.
    pub removed: usize,
    /// Flows kept, all states.
    pub kept: usize,
    /// Established flows by service id.
    pub by_service: HashMap<u16, u32>,
    /// Established flows by slot (and of the slot's present incarnation).
    pub by_slot: HashMap<u16, u32>,
}

/// Reads `EVENTS`.
#[derive(Debug)]
pub struct EventReader {}

impl EventReader {
    /// Waits for the next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<abi::Event, Error> {
        unimplemented!()
    }
}

/// Read access by pins, and the few writes of the CLI. Needs no agent and loads no program.
#[derive(Debug)]
pub struct Reader {}

/// A row of `SERVICES`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// VIP, port, protocol.
    pub key: abi::ServiceKey,
    /// Id, pool, flags.
    pub service: abi::Service,
    /// `namespace/name`.
    pub name: String,
    /// Its counters, summed over CPUs.
    pub traffic: abi::Traffic,
}

/// A slot that is not free.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendView {
    /// Index in `BACKENDS`.
    pub slot: u16,
    /// The entry.
    pub backend: abi::Backend,
    /// What the kernel saw of it.
    pub health: abi::Health,
    /// `namespace/name` of the pod.
    pub name: String,
    /// Its counters, summed over CPUs.
    pub traffic: abi::Traffic,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// The interface's name as in the pin path; for pod ports its index.
    pub interface: String,
    /// `xdp`, `tc_in`, `tc_out` or `tc_pod`.
    pub hook: String,
    /// Kernel's id of the link.
    pub link_id: u32,
    /// Kernel's id of the program in it.
    pub program_id: u32,
}

impl Reader {
    /// Opens the pins. [`Error::NotLoaded`] where there are none.
    pub fn open(pin_root: &Path) -> Result<Self, Error> {
        unimplemented!("{}", pin_root.display())
    }

    /// What the last agent said of itself.
    pub fn node(&self) -> Result<abi::Node, Error> {
        unimplemented!()
    }

    /// The packet path's settings.
    pub fn config(&self) -> Result<abi::Config, Error> {
        unimplemented!()
    }

    /// Services without the marks of VIP addresses, sorted by name, then key.
    pub fn services(&self) -> Result<Vec<ServiceView>, Error> {
        unimplemented!()
    }

    /// Slots that are not free, by slot.
    pub fn backends(&self) -> Result<Vec<BackendView>, Error> {
        unimplemented!()
    }

    /// All flows, unsorted. Under traffic one that comes or goes meanwhile may be missing or twice.
    pub fn flows(&self) -> Result<Vec<(abi::FlowKey, abi::Flow)>, Error> {
        unimplemented!()
    }

    /// Entries that `FLOWS` can hold.
    pub fn max_flows(&self) -> u32 {
        unimplemented!()
    }

    /// Handshakes under way (entries of `HANDSHAKES`, stale ones included).
    pub fn handshakes(&self) -> Result<usize, Error> {
        unimplemented!()
    }

    /// Dropped packets by reason, every reason.
    pub fn drops(&self) -> Result<Vec<(DropReason, u64)>, Error> {
        unimplemented!()
    }

    /// Passed packets to VIPs by reason, every reason.
    pub fn passes(&self) -> Result<Vec<(PassReason, u64)>, Error> {
        unimplemented!()
    }

    /// The pinned links.
    pub fn links(&self) -> Result<Vec<LinkView>, Error> {
        unimplemented!()
    }

    /// No new sessions for the backend of `slot`; its sessions end between `deadline_ns` ([`now_ns`]; 0: never) and
    /// `window_ns` later.
    pub fn drain(&self, slot: u16, deadline_ns: u64, window_ns: u64) -> Result<(), Error> {
        unimplemented!("{slot} {deadline_ns} {window_ns}")
    }

    /// Takes back [`Self::drain`].
    pub fn undrain(&self, slot: u16) -> Result<(), Error> {
        unimplemented!("{slot}")
    }
}

/// Runs the XDP program dry on `frame`: what it decided, and the frame as it would go on.
pub fn explain(pin_root: &Path, frame: &[u8]) -> Result<(abi::Explain, Vec<u8>), Error> {
    unimplemented!("{} {frame:?}", pin_root.display())
}

/// Detaches everything and removes all pins, of every schema version. Gives a line for each thing removed.
/// Refuses while an agent holds the lock.
pub fn unload(pin_root: &Path) -> Result<Vec<String>, Error> {
    unimplemented!("{}", pin_root.display())
}

/// The clock of all times in the maps: `CLOCK_MONOTONIC`.
pub fn now_ns() -> u64 {
    unimplemented!()
}
