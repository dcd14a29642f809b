//! The command line: types for clap, and nothing else.

mod look;
mod run;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ingest_common::abi;

pub use self::look::{Capture, Top};
pub use self::run::{
    AnswerBy, Cluster, Delivery, Handshakes, KernelLog, PageAddress, PageShows, Run, Source,
    XdpMode,
};
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
    /// List streams: what they ask for, where they go, bitrate, losses, round trip.
    Streams(Streams),
    /// Show streams live: sorted, filtered, each with its last minute.
    Top(Top),
    /// Copy the packets of one stream into a file that Wireshark reads.
    Capture(Capture),
    /// List routes: whose streams go where, what they may use, what was refused and dropped.
    Routes,
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
    /// How Stream IDs are shown.
    #[arg(long, value_enum, default_value_t)]
    pub stream_ids: StreamIds,
}

/// How Stream IDs are shown. They hold passwords and stream keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StreamIds {
    /// Names of fields, mode and type, of all else at most three characters and a hash.
    #[default]
    Redacted,
    /// All of it: its first 128 bytes.
    Full,
    /// A hash of all of it.
    Hash,
}

/// `ingest-agent explain`
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// The client: an address, or address:port (`198.51.100.7:40000`, `[2001:db8::7]:40000`).
    #[arg(value_name = "IP[:PORT]")]
    pub client: Client,
    /// The Stream ID that it asks for; without one it asks for none.
    #[arg(value_name = "STREAM-ID", value_parser = stream_id)]
    pub stream_id: Option<String>,
    /// The service that it talks to, by name; not needed where there is only one.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "vip")]
    pub service: Option<String>,
    /// The service that it talks to, by address and port.
    #[arg(long, value_name = "IP:PORT")]
    pub vip: Option<SocketAddr>,
}

fn stream_id(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("an empty Stream ID is none: leave it out".to_owned()),
        1..=abi::STREAM_ID_MAX => Ok(text.to_owned()),
        more => Err(format!(
            "{more} bytes, and a Stream ID has at most {}",
            abi::STREAM_ID_MAX
        )),
    }
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
        let wrong: [&[&str]; 10] = [
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
                "run",
                "--config",
                "f",
                "--secret-rotation",
                "119s",
            ],
            &["ingest-agent", "explain", "198.51.100.7", ""],
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
