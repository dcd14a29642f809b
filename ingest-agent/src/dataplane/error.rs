use std::{io, path::PathBuf};

use aya::{
    EbpfError,
    maps::{MapError, xdp::XdpMapError},
    pin::PinError,
    programs::{ProgramError, links::LinkError},
};

/// What can go wrong between the agent and the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The agent was built without a kernel object.
    #[error(
        "this agent was built without its kernel object: run `cargo xtask build-ebpf`, then build it again"
    )]
    NoObject,
    /// The caller lacks rights.
    #[error(
        "missing {capabilities}: run as root, or give the process CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Capabilities {
        /// The missing ones.
        capabilities: String,
    },
    /// The kernel is too old.
    #[error(
        "kernel {found} is too old: bpf_redirect_peer needs {needed} or newer; boot a newer kernel on this node"
    )]
    KernelTooOld {
        /// The running kernel.
        found: String,
        /// The oldest that works.
        needed: &'static str,
    },
    /// No uplink was given, or more than the dataplane keeps.
    #[error("{found} uplinks are configured, 1 to {most} are possible: correct `uplink`")]
    UplinkCount {
        /// How many were given.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// An uplink is given twice.
    #[error("uplink {interface} is given twice: correct `uplink`")]
    UplinkTwice {
        /// Its name.
        interface: String,
    },
    /// An uplink does not exist.
    #[error("interface {interface} does not exist here: correct `uplink`, see `ip link`")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// Somebody else's XDP program is on the uplink.
    #[error(
        "interface {interface} already runs the XDP program {program} (id {id}), which is not ours: \
         stop its owner, or remove it by `ip link set dev {interface} xdp off`"
    )]
    ForeignProgram {
        /// The uplink.
        interface: String,
        /// The program's name, where the kernel tells it.
        program: String,
        /// Its id.
        id: u32,
    },
    /// The kernel took the attachment, but not as a link that can be pinned.
    #[error(
        "attaching {program} to {interface} gave no BPF link, so it could not outlive the agent: \
         is the kernel built without bpf_link?"
    )]
    NotALink {
        /// The program.
        program: &'static str,
        /// The interface.
        interface: String,
    },
    /// Neither native nor generic XDP, or not by tc, could be attached.
    #[error("attaching {program} to {interface} failed; {remedy}")]
    Attach {
        /// The program.
        program: &'static str,
        /// The interface.
        interface: String,
        /// What to do.
        remedy: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// A pinned map has another shape than this agent's.
    #[error(
        "pinned map {map} has {field} {found}, this agent needs {expected}: run the agent version that made it, \
         or drop its state (and its streams) by `ingest-agent unload`"
    )]
    PinIncompatible {
        /// The map.
        map: &'static str,
        /// What differs.
        field: &'static str,
        /// This agent's.
        expected: u32,
        /// The pin's.
        found: u32,
    },
    /// An agent of another schema left its programs attached.
    #[error(
        "{} belongs to another version of the dataplane (this agent has schema v{ours}): drop it, and its streams, by \
         `ingest-agent unload`", path.display()
    )]
    OtherSchema {
        /// Where its pins are.
        path: PathBuf,
        /// This agent's schema version.
        ours: u32,
    },
    /// Another agent runs.
    #[error(
        "another ingest-agent works on {}: one agent a node; stop it first", pin_root.display()
    )]
    Locked {
        /// What both want.
        pin_root: PathBuf,
    },
    /// Nothing was ever loaded.
    #[error(
        "no dataplane is loaded under {}: start one by `ingest-agent run`", pin_root.display()
    )]
    NotLoaded {
        /// Where pins were looked for.
        pin_root: PathBuf,
    },
    /// The pin root is no place for pins.
    #[error(
        "{} is not on a BPF filesystem: mount one by `mount -t bpf bpf /sys/fs/bpf`, or correct --pin-root",
        path.display()
    )]
    NotBpffs {
        /// The pin root.
        path: PathBuf,
    },
    /// A step on the filesystem failed.
    #[error("{operation} {} failed", path.display())]
    Files {
        /// The step.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call without a path failed.
    #[error("{operation} failed")]
    System {
        /// The step.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel object could not be loaded.
    #[error("loading the kernel object failed")]
    Object {
        /// Why.
        source: Box<EbpfError>,
    },
    /// A program is not in the object, or of another type.
    #[error(
        "the kernel object has no usable program {program}: it is of another version than the agent"
    )]
    NoProgram {
        /// The program.
        program: &'static str,
    },
    /// A map is not in the object, or of another type.
    #[error("the kernel object has no usable map {map}: it is of another version than the agent")]
    NoMap {
        /// The map.
        map: &'static str,
    },
    /// The verifier refused a program.
    #[error("the kernel refused program {program}: {reason}")]
    ProgramRefused {
        /// The program.
        program: &'static str,
        /// The error and the last lines of the verifier's log.
        reason: String,
    },
    /// An operation on a loaded program failed.
    #[error("{operation} of program {program} failed")]
    Program {
        /// The step.
        operation: &'static str,
        /// The program.
        program: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// The program answered the canned frame wrongly.
    #[error(
        "self-test of {program} failed: verdict {found} instead of {expected} for a frame that is not ours; \
         this kernel and this agent do not work together"
    )]
    SelfTest {
        /// The program.
        program: &'static str,
        /// The right verdict.
        expected: u32,
        /// The verdict.
        found: u32,
    },
    /// A map operation failed.
    #[error("{operation} map {map} failed")]
    Map {
        /// The step.
        operation: &'static str,
        /// The map.
        map: &'static str,
        /// Why.
        source: Box<MapError>,
    },
    /// A raw batch operation failed.
    #[error("reading map {map} failed")]
    Batch {
        /// The map.
        map: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A raw write failed.
    #[error("writing map {map} failed")]
    Update {
        /// The map.
        map: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An element could not be deleted.
    #[error("deleting from map {map} failed")]
    Delete {
        /// The map.
        map: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A pod port could not be written.
    #[error("writing map POD_PORTS failed for slot {slot}, interface index {ifindex}")]
    PodPort {
        /// The slot.
        slot: u32,
        /// The interface.
        ifindex: u32,
        /// Why.
        source: Box<XdpMapError>,
    },
    /// A link could not be read, pinned or removed.
    #[error("{operation} link {} failed", path.display())]
    Link {
        /// The step.
        operation: &'static str,
        /// Its pin.
        path: PathBuf,
        /// Why.
        source: Box<LinkError>,
    },
    /// A link could not be pinned.
    #[error("pinning link {} failed", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        source: Box<PinError>,
    },
    /// A backend cannot be probed in this mode.
    #[error(
        "slot {slot} cannot be probed by {mode}: it has no pod port, or its pod's MAC is not known yet"
    )]
    NoProbe {
        /// The slot.
        slot: u16,
        /// The mode.
        mode: &'static str,
    },
    /// GRO in a pod.
    #[error("{operation} the network namespace {} failed; `peer` delivery needs none of this", netns.display())]
    PodGro {
        /// What.
        operation: &'static str,
        /// The namespace.
        netns: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pod's namespace may not be entered.
    #[error(
        "entering the network namespace {} needs CAP_SYS_ADMIN: give it to the agent, or run it without --pod-gro",
        netns.display()
    )]
    NotAdmin {
        /// The namespace.
        netns: PathBuf,
    },
    /// Another process captures.
    #[error("process {pid} captures a stream: one capture a node; wait for its end, or stop it")]
    Capturing {
        /// The process, as its PID namespace numbers it; 0: it is about to begin.
        pid: u32,
    },
    /// Netlink did not answer.
    #[error("asking the kernel for its interfaces failed")]
    Netlink(#[from] crate::ports::Error),
}

impl Error {
    /// Whether this agent and what the kernel holds do not fit (exit code 3).
    pub fn is_incompatible(&self) -> bool {
        matches!(
            self,
            Self::PinIncompatible { .. }
                | Self::OtherSchema { .. }
                | Self::KernelTooOld { .. }
                | Self::SelfTest { .. }
        )
    }

    /// A word for metric labels and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoObject => "no_object",
            Self::Capabilities { .. } => "capabilities",
            Self::KernelTooOld { .. } => "kernel_too_old",
            Self::UplinkCount { .. } => "uplink_count",
            Self::UplinkTwice { .. } => "uplink_twice",
            Self::NoInterface { .. } => "no_interface",
            Self::ForeignProgram { .. } => "foreign_program",
            Self::NotALink { .. } => "not_a_link",
            Self::Attach { .. } => "attach",
            Self::PinIncompatible { .. } => "pin_incompatible",
            Self::OtherSchema { .. } => "other_schema",
            Self::Locked { .. } => "locked",
            Self::NotLoaded { .. } => "not_loaded",
            Self::NotBpffs { .. } => "not_bpffs",
            Self::Files { .. } => "files",
            Self::System { .. } => "system",
            Self::Object { .. } => "object",
            Self::NoProgram { .. } => "no_program",
            Self::NoMap { .. } => "no_map",
            Self::ProgramRefused { .. } => "program_refused",
            Self::Program { .. } => "program",
            Self::SelfTest { .. } => "self_test",
            Self::Map { .. } => "map",
            Self::Batch { .. } => "batch",
            Self::Update { .. } => "update",
            Self::Delete { .. } => "delete",
            Self::PodPort { .. } => "pod_port",
            Self::Link { .. } => "link",
            Self::Pin { .. } => "pin",
            Self::NoProbe { .. } => "no_probe",
            Self::PodGro { .. } => "pod_gro",
            Self::NotAdmin { .. } => "not_admin",
            Self::Capturing { .. } => "capturing",
            Self::Netlink(_) => "netlink",
        }
    }
}
