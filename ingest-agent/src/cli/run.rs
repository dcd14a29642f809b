//! The arguments of `run`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use ingest_common::abi;
use ipnet::IpNet;

use super::StreamIds;

/// `ingest-agent run`
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Where the services come from.
    #[arg(long, value_enum, default_value_t)]
    pub source: Source,
    /// The services, as YAML. Watched: changes apply at once, invalid ones are refused whole.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "source",
        required_if_eq("source", "file")
    )]
    pub config: Option<PathBuf>,
    /// Of which cluster and node.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Where /metrics, /livez and /readyz are served.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9464")]
    pub metrics_addr: SocketAddr,
    /// Where the page and the JSON API are served; `none`: nowhere. They have no password.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9465", value_parser = page_address)]
    pub page_addr: PageAddress,
    /// How Stream IDs and clients' addresses appear on the page and in the API.
    #[arg(long, value_enum, default_value_t)]
    pub page_shows: PageShows,
    /// Streams with metrics of their own, those that are not well first, then by bitrate; 0: none.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub stream_series: u32,
    /// How packets get into pods.
    #[arg(long, value_enum, default_value_t)]
    pub delivery: Delivery,
    /// Which XDP hook to use.
    #[arg(long, value_enum, default_value_t)]
    pub xdp_mode: XdpMode,
    /// Have the kernel programs log on their slow paths; without it that code is not even loaded.
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub kernel_log: Option<KernelLog>,
    /// Flows that fit (664 bytes each). Fixed when the maps are made: `unload` to change it.
    #[arg(long, value_name = "N", default_value_t = abi::MAX_FLOWS as u32, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    pub max_flows: u32,
    /// End the sessions of a terminating backend this long after it began; without it they may stay.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub drain_deadline: Option<Duration>,
    /// Spread these ends over this long, so that not all encoders reconnect at once.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub drain_window: Duration,
    /// A pod that gets data and sends nothing for this long hangs: its callers are told to reconnect.
    #[arg(long, value_name = "DURATION", default_value = "300ms", value_parser = silence)]
    pub silence: Duration,
    /// How callers' handshakes are answered.
    #[command(flatten)]
    pub handshakes: Handshakes,
}

/// How the kernel answers callers' handshakes, where services have it do so (`handshake: stream`).
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Handshakes")]
pub struct Handshakes {
    /// How long one secret makes the cookies that prove callers' addresses. Cookies of the one before stay valid.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = rotation)]
    pub secret_rotation: Duration,
    /// How answers leave.
    #[arg(long, value_enum, default_value_t)]
    pub answer_by: AnswerBy,
    /// First handshakes a second that a source (an IPv4 address, an IPv6 /64) gets answered; 0: no bound.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub induction_rate: u32,
    /// Second handshakes a second that are taken from a source; 0: no bound.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub conclusion_rate: u32,
    /// How Stream IDs appear in the log.
    #[arg(long, value_enum, default_value_t)]
    pub stream_ids: StreamIds,
}

/// How the kernel's own answers leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AnswerBy {
    /// `tc` where an uplink is a veth, `xdp` elsewhere.
    #[default]
    Auto,
    /// XDP_TX. A veth loses them unless its far end has an XDP program.
    Xdp,
    /// tc at the uplink.
    Tc,
}

/// Where the services come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// One YAML file.
    #[default]
    File,
    /// Services, EndpointSlices and Pods of the cluster that this node is in.
    Kubernetes,
}

/// What `--source kubernetes` takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct Cluster {
    /// How to reach the API server; without it the pod's own service account.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// This node's name in the cluster.
    #[arg(
        long,
        value_name = "NAME",
        env = "NODE_NAME",
        required_if_eq("source", "kubernetes")
    )]
    pub node_name: Option<String>,
    /// Interfaces that clients' packets come in by; without it those of the default routes.
    #[arg(long, value_name = "INTERFACE", env = "UPLINKS", value_delimiter = ',')]
    pub uplink: Vec<String>,
    /// This node's addresses, which --node-ports takes for VIPs.
    #[arg(long, value_name = "IP", env = "NODE_IPS", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Steer node ports too.
    #[arg(long, requires = "node_ip")]
    pub node_ports: bool,
    /// Take `spec.externalIPs` for VIPs. Whoever may write Services can then claim any address (CVE-2020-8554).
    #[arg(long)]
    pub allow_external_ips: bool,
    /// What Services of class ingest.steering.dev/xdp may ask for; without it they get no address.
    #[arg(long, value_name = "CIDR", env = "VIP_RANGES", value_delimiter = ',')]
    pub vip_range: Vec<IpNet>,
    /// Switch GRO on in steered pods, which `redirect` needs. Takes CAP_SYS_ADMIN.
    #[arg(long)]
    pub pod_gro: bool,
    /// Where the container runtime binds the network namespaces of pods.
    #[arg(long, value_name = "DIR", default_value = "/run/netns")]
    pub netns_dir: PathBuf,
}

/// Where the page is served; `None`: nowhere.
pub type PageAddress = Option<SocketAddr>;

fn page_address(text: &str) -> Result<PageAddress, String> {
    if text == "none" {
        return Ok(None);
    }
    let address = text.parse::<SocketAddr>();
    address
        .map(Some)
        .map_err(|_| "neither IP:PORT nor `none`".to_owned())
}

/// How much the page shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PageShows {
    /// Stream IDs redacted, of clients their network (/24, /48).
    #[default]
    Redacted,
    /// All of both.
    Full,
}

/// A cookie lives half a minute, and handshakes in flight have one of the secret before.
fn rotation(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if duration >= Duration::from_mins(2) {
        Ok(duration)
    } else {
        Err("must be 2m or more".to_owned())
    }
}

/// Below, packets in flight would count as silence; above, callers have long given up (libsrt: 5 s).
fn silence(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if (Duration::from_millis(50)..=Duration::from_secs(10)).contains(&duration) {
        Ok(duration)
    } else {
        Err("must be from 50ms to 10s".to_owned())
    }
}

/// How packets get into pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Delivery {
    /// `peer` at once, `redirect` once a probe has proven it, `stack` for pods without a veth.
    #[default]
    Auto,
    /// XDP_REDIRECT into the pod's veth; `peer` where a probe goes unanswered.
    Redirect,
    /// bpf_redirect_peer by tc at the uplink.
    Peer,
    /// The host routes rewritten packets.
    Stack,
}

/// Which XDP hook to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum XdpMode {
    /// Native, or else generic with a warning.
    #[default]
    Auto,
    /// Native or nothing.
    Native,
    /// Generic: slow, works everywhere.
    Generic,
}

/// How much the kernel programs log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KernelLog {
    /// Errors.
    Error,
    /// And warnings.
    Warn,
    /// And information.
    Info,
    /// And debugging.
    Debug,
    /// Everything.
    Trace,
}
