//! What a command can end with, and its exit code.

use std::{error::Error as _, io, net::SocketAddr, path::PathBuf};

use crate::{cluster, dataplane, ports, reconcile::PlanError, source};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration file was refused.
    #[error(transparent)]
    Config(#[from] source::file::Error),
    /// A source without its file.
    #[error("--source file needs --config FILE")]
    NoConfig,
    /// No interface to work on.
    #[error(
        "no default route, so no uplink was found; \
         name the interfaces that clients' packets come in by: --uplink eth0"
    )]
    NoUplink,
    /// The cluster cannot be a source.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The configuration does not fit into the maps.
    #[error("the configuration cannot be applied")]
    Plan(#[from] PlanError),
    /// The kernel side failed.
    #[error(transparent)]
    Dataplane(#[from] dataplane::Error),
    /// Netlink failed.
    #[error(transparent)]
    Ports(#[from] ports::Error),
    /// The following of pod ports ended.
    #[error("following links and routes ended unexpectedly; restart the agent")]
    PortsEnded,
    /// No metrics could be served.
    #[error("cannot serve metrics on {address}; choose another --metrics-addr")]
    MetricsAddress {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No page could be served.
    #[error("cannot serve the page on {address}; choose another --page-addr, or `none`")]
    PageAddress {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The log filter makes no sense.
    #[error(
        "--log-level (or RUST_LOG) is no log filter; write for example info or ingest_agent=debug"
    )]
    LogFilter(#[source] tracing_subscriber::filter::ParseError),
    /// The runtime could not be set up.
    #[error("{operation} failed")]
    Runtime {
        /// What.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// stdout could not be written.
    #[error("writing the output failed")]
    Output(#[source] io::Error),
    /// `top` was started where nobody sees it.
    #[error(
        "top needs a terminal, for its output and for keys; \
         `ingest-agent streams --watch` writes to pipes and files"
    )]
    NoTerminal,
    /// No backend is called that.
    #[error("no backend {wanted}; `ingest-agent backends` lists them")]
    NoSuchBackend {
        /// What was asked for.
        wanted: String,
    },
    /// No service is called that.
    #[error("no service {wanted}; `ingest-agent services` lists them")]
    NoSuchService {
        /// What was asked for.
        wanted: String,
    },
    /// More than one service would do.
    #[error("the client may mean any of {candidates}; name one by --service or --vip")]
    WhichService {
        /// The services.
        candidates: String,
    },
    /// No stream is meant by that.
    #[error("no live stream {wanted}; `ingest-agent streams` lists them")]
    NoSuchStream {
        /// What was asked for.
        wanted: String,
    },
    /// More than one stream is.
    #[error(
        "{wanted} is the Stream ID of several streams: name one by its client, any of {clients}"
    )]
    WhichStream {
        /// What was asked for.
        wanted: String,
        /// Their clients.
        clients: String,
    },
    /// A capture could not be written.
    #[error("writing {} failed", path.display())]
    CaptureFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `doctor` found what will not work.
    #[error("{failures} of {checks} checks failed; their remedies are above")]
    Unfit {
        /// Failed ones.
        failures: usize,
        /// All.
        checks: usize,
    },
}

impl Error {
    /// 1: failed; 2: usage or configuration; 3: the kernel or the pins do not fit this version.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Dataplane(error) if error.is_incompatible() => 3,
            Self::Dataplane(
                dataplane::Error::NoInterface { .. }
                | dataplane::Error::UplinkTwice { .. }
                | dataplane::Error::UplinkCount { .. },
            )
            | Self::Config(_)
            | Self::NoConfig
            | Self::NoUplink
            | Self::Cluster(_)
            | Self::Plan(_)
            | Self::MetricsAddress { .. }
            | Self::PageAddress { .. }
            | Self::LogFilter(_)
            | Self::NoTerminal
            | Self::NoSuchBackend { .. }
            | Self::NoSuchService { .. }
            | Self::WhichService { .. }
            | Self::NoSuchStream { .. }
            | Self::WhichStream { .. } => 2,
            Self::Dataplane(_)
            | Self::Ports(_)
            | Self::PortsEnded
            | Self::Runtime { .. }
            | Self::Output(_)
            | Self::CaptureFile { .. }
            | Self::Unfit { .. } => 1,
        }
    }

    /// The error and its causes, once, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let next = error.to_string();
            // Transparent errors say what their cause says.
            if !text.ends_with(&next) {
                text = format!("{text}: {next}");
            }
            cause = error.source();
        }
        text
    }

    /// Whether the reader of our output has gone, as `head` does: no failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_whose_fault_it_is() {
        let incompatible = dataplane::Error::PinIncompatible {
            map: "FLOWS",
            field: "value size",
            expected: 224,
            found: 216,
        };
        assert_eq!(Error::from(incompatible).exit_code(), 3);
        let interface = dataplane::Error::NoInterface {
            interface: "eth9".into(),
        };
        assert_eq!(Error::from(interface).exit_code(), 2);
        let locked = dataplane::Error::Locked {
            pin_root: "/sys/fs/bpf/ingest".into(),
        };
        assert_eq!(Error::from(locked).exit_code(), 1);
        assert_eq!(
            Error::from(PlanError::TooManyServices { limit: 1 }).exit_code(),
            2
        );
    }

    #[test]
    fn the_chain_names_every_cause_once() {
        let error = Error::MetricsAddress {
            address: SocketAddr::from(([192, 0, 2, 1], 9464)),
            source: io::Error::from(io::ErrorKind::AddrNotAvailable),
        };
        let chain = error.chain();
        assert!(
            chain.contains("192.0.2.1:9464") && chain.contains("--metrics-addr"),
            "{chain}"
        );
        assert_eq!(chain.matches("not available").count(), 1, "{chain}");
    }
}
