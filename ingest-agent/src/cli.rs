//! The command line: types for clap, and nothing else.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ingest_common::abi;
use ipnet::IpNet;

use crate::dataplane;

/// Steers SRT streams from a virtual address into ingest pods, in the kernel.
///
/// `run` is the per-node agent. All other commands read what is pinned under --pin-root and work whether the agent
/// runs or not. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 the kernel or the pinned state does
/// not fit this version.
#[derive(Clone, Debug, Parser)]
#[command(name = "ingest-agent", version, propagate_version = true)]
pub struct Cli {
    /// Directory on a BPF filesystem that maps and links are pinned under.
    #[arg(long, global = true, value_name = "DIR", default_value = dataplane::PIN_ROOT)]
    pub pin_root: PathBuf,
    /// Form of the output.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Output,
    /// What is logged to stderr, as in RUST_LOG (which it overrides): `info`, `debug`, `ingest_agent=trace`, …
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "RUST_LOG",
        default_value = "info"
    )]
    pub log_level: String,
    /// Form of the log.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the agent: keep the maps equal to the configuration until SIGTERM.
    Run(Run),
    /// Show what is loaded, on which interfaces, and how it does.
    Status,
    /// List services and their counters.
    Services,
    /// List backends, their state and how packets reach them.
    Backends,
    /// List streams: where they go, bitrate, losses, round trip.
    Streams(Streams),
    /// Say where a client's packets would go, and why, by running the real program on a made-up one.
    Explain(Explain),
    /// Give a backend no new sessions, and perhaps end its sessions after a while.
    Drain(Drain),
    /// Say why it would not work on this node.
    Doctor(Doctor),
    /// Detach all programs and remove all pins. Streams stop being steered.
    Unload,
}

/// Form of a command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs; field names are stable.
    Json,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

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
    /// How packets get into pods.
    #[arg(long, value_enum, default_value_t)]
    pub delivery: Delivery,
    /// Which XDP hook to use.
    #[arg(long, value_enum, default_value_t)]
    pub xdp_mode: XdpMode,
    /// Have the kernel programs log on their slow paths; without it that code is not even loaded.
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub kernel_log: Option<KernelLog>,
    /// Flows that fit (370 bytes each). Fixed when the maps are made: `unload` to change it.
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

/// `ingest-agent streams`
#[derive(Clone, Debug, Args)]
pub struct Streams {
    /// Show it again after every sample, until Ctrl-C.
    #[arg(short, long)]
    pub watch: bool,
    /// Streams that have ended or were cut, too.
    #[arg(short, long)]
    pub all: bool,
    /// Measure bitrates over this long; 0s: do not.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub sample: Duration,
}

/// `ingest-agent explain`
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// The client: an address, or address:port (`198.51.100.7:40000`, `[2001:db8::7]:40000`).
    #[arg(value_name = "IP[:PORT]")]
    pub client: Client,
    /// The service that it talks to, by name; not needed where there is only one.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "vip")]
    pub service: Option<String>,
    /// The service that it talks to, by address and port.
    #[arg(long, value_name = "IP:PORT")]
    pub vip: Option<SocketAddr>,
}

/// A client's address, perhaps with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address.
    pub address: IpAddr,
    /// The source port of its packets.
    pub port: Option<u16>,
}

impl FromStr for Client {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self {
                address: socket.ip(),
                port: Some(socket.port()),
            });
        }
        text.trim_matches(['[', ']'])
            .parse()
            .map(|address| Self {
                address,
                port: None,
            })
            .map_err(|_| "neither an IP address nor IP:PORT".to_owned())
    }
}

/// `ingest-agent drain`
#[derive(Clone, Debug, Args)]
pub struct Drain {
    /// The backend, by its pod's name or by address:port.
    #[arg(value_name = "NAMESPACE/NAME|IP:PORT")]
    pub backend: String,
    /// End its sessions this long from now; without it they may stay.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub deadline: Option<Duration>,
    /// Spread these ends over this long.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub window: Duration,
    /// Take the drain back.
    #[arg(long, conflicts_with_all = ["deadline", "window"])]
    pub cancel: bool,
}

/// `ingest-agent doctor`
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// Check the uplinks of this configuration, and the configuration.
    #[arg(long, value_name = "FILE", conflicts_with = "uplink")]
    pub config: Option<PathBuf>,
    /// Check what `run` with this source needs.
    #[arg(long, value_enum, default_value_t)]
    pub source: Source,
    /// Of which cluster and node.
    #[command(flatten)]
    pub cluster: Cluster,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn clients() {
        let parse = |text: &str| {
            text.parse::<Client>()
                .map(|c| (c.address.to_string(), c.port))
        };
        assert_eq!(parse("198.51.100.7"), Ok(("198.51.100.7".into(), None)));
        assert_eq!(
            parse("198.51.100.7:40000"),
            Ok(("198.51.100.7".into(), Some(40000)))
        );
        assert_eq!(parse("2001:db8::7"), Ok(("2001:db8::7".into(), None)));
        assert_eq!(
            parse("[2001:db8::7]:40000"),
            Ok(("2001:db8::7".into(), Some(40000)))
        );
        assert!(parse("encoder").is_err());
    }

    #[test]
    fn wrong_values_are_usage_errors() {
        let wrong: [&[&str]; 8] = [
            &["ingest-agent", "run", "--source", "file"],
            // Without a node's name.
            &["ingest-agent", "run", "--source", "kubernetes"],
            &[
                "ingest-agent",
                "run",
                "--config",
                "f",
                "--vip-range",
                "192.0.2.0",
            ],
            &[
                "ingest-agent",
                "run",
                "--config",
                "f",
                "--metrics-addr",
                "localhost",
            ],
            &["ingest-agent", "run", "--config", "f", "--silence", "1ms"],
            &["ingest-agent", "run", "--config", "f", "--max-flows", "1"],
            &["ingest-agent", "run"],
            &[
                "ingest-agent",
                "drain",
                "live/a",
                "--cancel",
                "--deadline",
                "1s",
            ],
        ];
        for arguments in wrong {
            let error = Cli::try_parse_from(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }
}
