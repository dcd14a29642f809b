//! The arguments of `top` and `capture`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::StreamIds;

/// `ingest-agent top`
#[derive(Clone, Debug, Args)]
pub struct Top {
    /// Show only streams with this text in their Stream ID, service, route, pod, client or state.
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub filter: String,
    /// How Stream IDs are shown.
    #[arg(long, value_enum, default_value_t)]
    pub stream_ids: StreamIds,
}

/// `ingest-agent capture`
#[derive(Clone, Debug, Args)]
pub struct Capture {
    /// The stream: its id as `streams` shows it, its whole Stream ID, or its client as IP:PORT.
    #[arg(value_name = "STREAM")]
    pub stream: String,
    /// Write to this file; `-`: to standard output.
    #[arg(short, long, value_name = "FILE")]
    pub write: PathBuf,
    /// Stop after so many packets.
    #[arg(short, long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub count: u32,
    /// Stop after this long.
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Copy every Nth packet.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub every: u32,
    /// Whole packets, not only their headers: the payload is people's video and sound.
    #[arg(long)]
    pub payload: bool,
}
