//! Long-running processes in a namespace: their output is read as it comes, and they die with their handle.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cleanup::{Guard, Resource};
use crate::monotonic_ns;

/// How long the output of a process that has ended is waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    guard: Option<Guard>,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

/// Lines that a reader thread collects.
#[derive(Debug, Default)]
struct Lines {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Lines {
    /// Starts the thread that fills it from `source`.
    fn follow(source: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let writer = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                writer
                    .state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
                    .push(line);
                writer.changed.notify_all();
            }
            writer
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .1 = true;
            writer.changed.notify_all();
        });
        lines
    }

    fn snapshot(&self) -> Vec<String> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .clone()
    }

    /// The first answer `find` gives on the lines so far, waiting for more until `deadline`.
    fn wait<T>(
        &self,
        deadline: Instant,
        mut find: impl FnMut(&[String]) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&state.0) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.1 {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Process {
    /// Starts `command`. `name` is for messages.
    pub fn spawn(name: impl Into<String>, mut command: Command) -> Result<Self> {
        let name = name.into();
        // A group of its own: Ctrl-C at the terminal is for us, and we end our children in order.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let (mut child, guard) = Guard::with(|| {
            let child = command
                .spawn()
                .with_context(|| format!("cannot start {name}: {command:?}"))?;
            let pid = pid_of(&child);
            Ok((child, Resource::Process(pid)))
        })?;
        let stdout = child.stdout.take().context("stdout was piped")?;
        let stderr = child.stderr.take().context("stderr was piped")?;
        Ok(Self {
            name,
            guard: Some(guard),
            stdout: Lines::follow(stdout),
            stderr: Lines::follow(stderr),
            child,
        })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        pid_of(&self.child)
    }

    /// Sends `signal` and says when, in ns of the monotonic clock, just before.
    pub fn signal(&self, signal: Signal) -> Result<u64> {
        let now = monotonic_ns();
        kill(self.pid(), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))?;
        Ok(now)
    }

    /// Waits until none of its threads runs: SIGSTOP takes a moment to reach them all.
    pub fn wait_stopped(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.is_stopped()? {
            if Instant::now() >= deadline {
                bail!("{} is not stopped after {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn is_stopped(&self) -> Result<bool> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid()))?;
        for thread in threads {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            // The state comes after the name, which may hold anything but is in parentheses.
            let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
            if !state.starts_with('T') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// SIGKILL, and waits for the end. Says when.
    pub fn kill(&mut self) -> Result<u64> {
        let when = self.signal(Signal::SIGKILL)?;
        self.child.wait()?;
        self.reaped();
        Ok(when)
    }

    /// The exit status, where it has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.reaped();
        }
        Ok(status)
    }

    /// Waits for the end at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait()? {
                // Its last words may still be on their way to us. Who inherited its pipes may hold them longer.
                let end = Instant::now() + LAST_WORDS;
                self.stdout.wait(end, |_| None::<()>);
                self.stderr.wait(end, |_| None::<()>);
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} still runs after {limit:?}; it said:\n{}",
                    self.name,
                    self.said()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end, which must be exit code 0.
    pub fn finish(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if !status.success() {
            bail!(
                "{} ended by {:?} (signal {:?}); it said:\n{}",
                self.name,
                status.code(),
                status.signal(),
                self.said()
            );
        }
        Ok(())
    }

    /// What it printed on stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.snapshot()
    }

    /// What it printed on stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.snapshot()
    }

    /// The first answer `find` gives on the stdout lines, waiting for more at most `limit`.
    pub fn wait_stdout<T>(
        &self,
        what: &str,
        limit: Duration,
        find: impl FnMut(&[String]) -> Option<T>,
    ) -> Result<T> {
        self.stdout
            .wait(Instant::now() + limit, find)
            .with_context(|| {
                format!(
                    "{}: no {what} within {limit:?}; it said:\n{}",
                    self.name,
                    self.said()
                )
            })
    }

    /// The last lines of both outputs, for messages.
    pub fn said(&self) -> String {
        let mut text = String::new();
        for (label, lines) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            for line in lines.iter().skip(lines.len().saturating_sub(30)) {
                text.extend(["  ", label, ": ", line, "\n"]);
            }
        }
        text
    }

    /// A reaped pid may belong to somebody else soon.
    fn reaped(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.release();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.said());
        }
        // The guard kills; the wait only reaps.
        if let Some(guard) = self.guard.take() {
            drop(guard);
            drop(self.child.wait());
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}
