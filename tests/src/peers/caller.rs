//! `peers/caller.c`: the caller that accounts for every message.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde::Deserialize;

use super::{Target, versions};
use crate::netns::Namespace;
use crate::process::Process;

/// A line of the caller.
#[derive(Clone, Debug, Deserialize)]
pub struct CallerEvent {
    /// `started`, `connected`, `refused`, `broken` or `done`.
    pub event: String,
    /// ns of the monotonic clock.
    pub t: u64,
    /// Messages handed to libsrt so far.
    pub sent: u64,
    /// For people.
    #[serde(default)]
    pub detail: String,
    /// Why it was refused: libsrt's `SRT_REJ_…`, which is a rejection's wire code less 1000. 0: it was not.
    #[serde(default)]
    pub reason: i32,
}

/// What a caller sends.
#[derive(Clone, Debug)]
pub struct CallerOptions {
    /// Bits per second.
    pub rate: f64,
    /// Bits per second while it is throttled; 0: nothing.
    pub low: f64,
    /// Messages of 1316 bytes.
    pub count: u64,
    /// Seconds to stay connected without data after them.
    pub idle: f64,
    /// One of [`super::LIBSRT_VERSIONS`]; `None`: the machine's.
    pub libsrt: Option<&'static str>,
    /// The address that it calls from; `None`: the kernel chooses.
    pub from: Option<IpAddr>,
}

impl CallerOptions {
    /// `seconds` of `rate` bits per second.
    pub fn lasting(rate: f64, seconds: f64) -> Self {
        let count = rate * seconds / 8.0 / crate::traffic::PAYLOAD_SIZE as f64;
        #[expect(clippy::cast_sign_loss, reason = "rates and times are positive")]
        Self {
            rate,
            low: 0.0,
            count: count as u64,
            idle: 0.0,
            libsrt: None,
            from: None,
        }
    }
}

/// A running caller.
#[derive(Debug)]
pub struct Caller {
    process: Process,
    count: u64,
}

impl Caller {
    /// Starts one in `netns`.
    pub fn start(netns: &Namespace, target: &Target, options: &CallerOptions) -> Result<Self> {
        let mut command = netns.command(versions::program("caller", options.libsrt)?);
        command
            .args(["--host", &target.address.ip().to_string()])
            .args(["--port", &target.address.port().to_string()])
            .args(["--rate", &options.rate.to_string()])
            .args(["--low", &options.low.to_string()])
            .args(["--count", &options.count.to_string()])
            .args(["--idle", &options.idle.to_string()])
            .args(["--latency", &target.latency_ms.to_string()])
            .args(["--streamid", &target.stream_id]);
        if let Some(passphrase) = &target.passphrase {
            command.args(["--passphrase", passphrase]);
        }
        if let Some(from) = options.from {
            command.args(["--from", &from.to_string()]);
        }
        let process = Process::spawn(format!("caller {}", target.stream_id), command)?;
        let caller = Self {
            process,
            count: options.count,
        };
        let started = caller.wait("started", 1, Duration::from_secs(5))?;
        versions::check("caller", options.libsrt, &started.detail)?;
        Ok(caller)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// It sends at [`CallerOptions::low`] from now. Says when.
    pub fn throttle(&self) -> Result<u64> {
        self.process.signal(Signal::SIGUSR1)
    }

    /// It sends at [`CallerOptions::rate`] again. Says when.
    pub fn release(&self) -> Result<u64> {
        self.process.signal(Signal::SIGUSR2)
    }

    /// What it said so far.
    pub fn events(&self) -> Vec<CallerEvent> {
        self.process
            .stdout()
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for the `count`th event of this kind (from 1).
    pub fn wait(&self, kind: &str, count: usize, limit: Duration) -> Result<CallerEvent> {
        self.process
            .wait_stdout(kind, limit, |lines| {
                lines
                    .iter()
                    .filter_map(|line| serde_json::from_str::<CallerEvent>(line).ok())
                    .filter(|event| event.event == kind)
                    .nth(count - 1)
            })
            .context("caller")
    }

    /// Waits until it has sent everything and has closed. Returns how many messages that were.
    pub fn finish(mut self, limit: Duration) -> Result<u64> {
        self.process.finish(limit)?;
        Ok(self.count)
    }
}
