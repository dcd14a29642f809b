//! `peers/listener.c`: the ingest server of the tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde::Deserialize;

use super::{LATENCY_MS, PORT, versions};
use crate::netns::{Family, Namespace};
use crate::process::Process;

/// A line of the listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ListenerEvent {
    /// It may be called.
    Listening {
        /// ns of the monotonic clock.
        t: u64,
        /// The version of the library it runs on.
        libsrt: String,
    },
    /// A caller is connected.
    Accepted(Accepted),
    /// What a session has received so far.
    Stats(Session),
    /// A session's end, and what it received.
    Closed(Session),
}

/// A caller is connected.
#[derive(Clone, Debug, Deserialize)]
pub struct Accepted {
    /// ns of the monotonic clock.
    pub t: u64,
    /// The listener's socket id.
    pub socket: u32,
    /// The caller's address and port as the listener sees them.
    pub peer: String,
    /// The Stream ID.
    pub streamid: String,
}

/// What a session has received.
#[derive(Clone, Debug, Deserialize)]
pub struct Session {
    /// ns of the monotonic clock.
    pub t: u64,
    /// The listener's socket id.
    pub socket: u32,
    /// The caller's address and port as the listener sees them.
    pub peer: String,
    /// The Stream ID.
    pub streamid: String,
    /// `counter`, `ts` or `unknown`.
    pub kind: String,
    /// Messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Messages that are not what was sent.
    pub bad: u64,
    /// Counters (or TS continuity counters) skipped.
    pub lost: u64,
    /// Messages behind a later one.
    pub reordered: u64,
    /// First counter.
    pub first: u64,
    /// Highest counter.
    pub last: u64,
    /// Longest pause between messages.
    pub gap_max_ns: u64,
    /// Longest way from generator to listener.
    pub delay_max_ns: u64,
}

impl Session {
    /// Whether nothing is missing, double or altered between its first message and its last.
    pub fn is_whole(&self) -> bool {
        self.bad == 0 && self.lost == 0 && self.reordered == 0
    }
}

/// How a listener is started.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Which wildcard it binds to.
    pub family: Family,
    /// The address to bind to instead, which its answers come from.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// 10 to 79 characters; `None`: in the clear.
    pub passphrase: Option<String>,
    /// Latency, ms.
    pub latency_ms: u32,
    /// One of [`super::LIBSRT_VERSIONS`]; `None`: the machine's.
    pub libsrt: Option<&'static str>,
    /// For how many seconds it has listened when it starts: listeners whose ages differ by minutes issue other cookies.
    /// 1.4.2 is always fresh.
    pub age: u32,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            family: Family::V4,
            address: None,
            port: PORT,
            passphrase: None,
            latency_ms: LATENCY_MS,
            libsrt: None,
            age: 0,
        }
    }
}

/// A running listener.
#[derive(Debug)]
pub struct Listener {
    process: Process,
}

impl Listener {
    /// Starts one in `netns` and waits until it may be called.
    pub fn start(netns: &Namespace, name: &str, options: &ListenerOptions) -> Result<Self> {
        let mut command = netns.command(versions::program("listener", options.libsrt)?);
        let any = || options.family.any().to_owned();
        let bind = options.address.map_or_else(any, |ip| ip.to_string());
        command.args(["--bind", &bind, "--port", &options.port.to_string()]);
        command.args(["--latency", &options.latency_ms.to_string()]);
        command.args(["--age", &options.age.to_string()]);
        if let Some(passphrase) = &options.passphrase {
            command.args(["--passphrase", passphrase]);
        }
        let process = Process::spawn(format!("listener {name}"), command)?;
        let listener = Self { process };
        let found = listener.wait("start", Duration::from_secs(5), |event| match event {
            ListenerEvent::Listening { libsrt, .. } => Some(libsrt),
            _ => None,
        })?;
        versions::check("listener", options.libsrt, &found)?;
        Ok(listener)
    }

    /// Its process: to kill, stop or look into.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL. Says when.
    pub fn kill(&mut self) -> Result<u64> {
        self.process.kill()
    }

    /// SIGSTOP: it hangs. Says when.
    pub fn hang(&self) -> Result<u64> {
        let when = self.process.signal(Signal::SIGSTOP)?;
        self.process.wait_stopped(Duration::from_secs(1))?;
        Ok(when)
    }

    /// SIGCONT: it hangs no more.
    pub fn resume(&self) -> Result<u64> {
        self.process.signal(Signal::SIGCONT)
    }

    /// What it said so far.
    pub fn events(&self) -> Vec<ListenerEvent> {
        parse(&self.process.stdout())
    }

    /// The last word on each session, by socket id: every session that has begun is there once it received anything.
    pub fn sessions(&self) -> Vec<Session> {
        let mut sessions = BTreeMap::new();
        for event in self.events() {
            if let ListenerEvent::Stats(session) | ListenerEvent::Closed(session) = event {
                sessions.insert(session.socket, session);
            }
        }
        sessions.into_values().collect()
    }

    /// Callers accepted so far.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.events()
            .into_iter()
            .filter_map(|event| match event {
                ListenerEvent::Accepted(accepted) => Some(accepted),
                _ => None,
            })
            .collect()
    }

    /// Waits until `stream_id` is accepted later than `after_ns`.
    pub fn wait_accepted(
        &self,
        stream_id: &str,
        after_ns: u64,
        limit: Duration,
    ) -> Result<Accepted> {
        self.wait(
            &format!("session of {stream_id}"),
            limit,
            |event| match event {
                ListenerEvent::Accepted(a) if a.streamid == stream_id && a.t > after_ns => Some(a),
                _ => None,
            },
        )
    }

    /// Waits until a session of `stream_id` is closed.
    pub fn wait_closed(&self, stream_id: &str, limit: Duration) -> Result<Session> {
        self.wait(&format!("end of {stream_id}"), limit, |event| match event {
            ListenerEvent::Closed(session) if session.streamid == stream_id => Some(session),
            _ => None,
        })
    }

    /// SIGTERM; then the last word on each session.
    pub fn finish(mut self) -> Result<Vec<Session>> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.finish(Duration::from_secs(5))?;
        // The reader thread may lag behind the end of the process.
        self.process
            .wait_stdout("end of output", Duration::from_millis(200), |_| None::<()>)
            .ok();
        Ok(self.sessions())
    }

    fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut find: impl FnMut(ListenerEvent) -> Option<T>,
    ) -> Result<T> {
        self.process
            .wait_stdout(what, limit, |lines| {
                parse(lines).into_iter().find_map(&mut find)
            })
            .context("listener")
    }
}

fn parse(lines: &[String]) -> Vec<ListenerEvent> {
    lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
