//! The agent under test: `run` in a node's namespace with pins of its own, and the other subcommands.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cleanup::{self, BPFFS, Guard, Resource};
use crate::config::Config;
use crate::netns::{self, Namespace};
use crate::process::Process;

/// Where its metrics are, in the node's namespace.
pub(crate) const METRICS: &str = "127.0.0.1:9464";
/// Where its page and the API are.
const PAGE: &str = "127.0.0.1:9465";

/// An installed agent: its pins, its file, and the process while it runs.
#[derive(Debug)]
pub struct Agent {
    binary: PathBuf,
    netns: PathBuf,
    pin_root: PathBuf,
    config: PathBuf,
    /// Where `run` takes its services from.
    source: Vec<OsString>,
    delivery: String,
    process: Option<Process>,
    _guards: [Guard; 2],
}

impl Agent {
    /// Gives `node` an agent with a file of its own; nothing runs yet.
    pub fn install(node: &Namespace, config: &Config, delivery: &str) -> Result<Self> {
        let mut agent = Self::new(node, delivery)?;
        agent.source = vec!["--config".into(), agent.config.clone().into()];
        agent.write(&config.to_string())?;
        Ok(agent)
    }

    /// Gives `node` an agent that follows the cluster of `kubeconfig` as node `name`; nothing runs yet.
    pub fn in_cluster(
        node: &Namespace,
        kubeconfig: &Path,
        name: &str,
        delivery: &str,
    ) -> Result<Self> {
        let mut agent = Self::new(node, delivery)?;
        agent.source = ["--source", "kubernetes", "--uplink", netns::UPLINK]
            .map(OsString::from)
            .to_vec();
        agent
            .source
            .extend(["--node-name", name].map(OsString::from));
        agent
            .source
            .extend(["--kubeconfig".into(), kubeconfig.into()]);
        Ok(agent)
    }

    fn new(node: &Namespace, delivery: &str) -> Result<Self> {
        let binary = crate::built("INGEST_AGENT", "release/ingest-agent")?;
        let pin_root = Path::new(BPFFS).join(cleanup::unique_name("pins"));
        let (directory, scratch) = cleanup::scratch_directory("agent")?;
        Ok(Self {
            binary,
            netns: node.path(),
            config: directory.join("ingest.yaml"),
            source: Vec::new(),
            delivery: delivery.to_owned(),
            process: None,
            _guards: [Guard::new(Resource::Directory(pin_root.clone())), scratch],
            pin_root,
        })
    }

    /// Installs, starts, and waits until it is ready.
    pub fn start(node: &Namespace, config: &Config, delivery: &str) -> Result<Self> {
        let mut agent = Self::install(node, config, delivery)?;
        agent.run()?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Its pins.
    pub fn pin_root(&self) -> &Path {
        &self.pin_root
    }

    /// Its file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// A command line of the agent in its namespace, with its pins.
    pub fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.netns.display()))
            .arg("--")
            .arg(&self.binary)
            .arg("--pin-root")
            .arg(&self.pin_root);
        command
    }

    /// The command line of `run`.
    pub fn run_command(&self) -> Command {
        let mut command = self.command();
        command.args([
            "run",
            "--metrics-addr",
            METRICS,
            "--delivery",
            &self.delivery,
        ]);
        command.args(&self.source);
        command
    }

    /// Starts it. Returns at once.
    pub fn run(&mut self) -> Result<()> {
        self.run_with(&[])
    }

    /// Starts it with more arguments. Returns at once.
    pub fn run_with(&mut self, arguments: &[&str]) -> Result<()> {
        anyhow::ensure!(self.process.is_none(), "the agent runs already");
        let mut command = self.run_command();
        command.args(arguments);
        self.process = Some(Process::spawn("ingest-agent", command)?);
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        // A busy emulated CPU takes that long for the verifier's work.
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let process = self.process.as_mut().context("the agent was not started")?;
            if let Some(status) = process.try_wait()? {
                bail!(
                    "the agent ended ({status}) before it was ready:\n{}",
                    process.said()
                );
            }
            if self.get("/readyz").is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the agent is not ready after two minutes:\n{}", self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process, while it runs.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("the agent does not run")
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        let process = self.process.as_ref();
        let lines = process.map(|process| [process.stdout(), process.stderr()].concat());
        lines.unwrap_or_default().join("\n")
    }

    /// The last lines of that, for messages.
    pub fn said(&self) -> String {
        self.process.as_ref().map(Process::said).unwrap_or_default()
    }

    /// SIGKILL: it crashes.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for a good end.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::SIGTERM)?;
            process.finish(Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// Replaces its file by `text`, as editors and Kubernetes do: write beside, then rename.
    pub fn write(&self, text: &str) -> Result<()> {
        let beside = self.config.with_extension("new");
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &self.config))
            .with_context(|| format!("cannot write {}", self.config.display()))
    }

    /// Runs a subcommand and returns what it did, whatever the exit code.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null());
        command
            .output()
            .with_context(|| format!("cannot run {command:?}"))
    }

    /// Runs a subcommand with `-o json`, which must succeed.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.cli(&[&["-o", "json"], arguments].concat())?;
        if !output.status.success() {
            bail!(
                "ingest-agent {arguments:?}: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "not JSON: {}",
                String::from_utf8_lossy(&output.stdout).trim()
            )
        })
    }

    /// Asks `arguments` with `-o json` until `find` gives an answer on what it says.
    pub fn wait_json<T>(
        &self,
        arguments: &[&str],
        limit: Duration,
        mut find: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let answer = self.json(arguments)?;
            if let Some(found) = find(&answer) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                bail!(
                    "after {limit:?} {arguments:?} still says {answer}; log:\n{}",
                    self.said()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the delivery mode of every backend is `mode`, and each pod has answered a probe (`stack` needs none).
    pub fn wait_mode(&self, mode: &str) -> Result<()> {
        self.wait_json(&["backends"], Duration::from_secs(5), |backends| {
            let rows = backends.as_array()?;
            let proven = |row: &Value| mode == "stack" || row["probed_ms"].is_number();
            let all = rows.iter().all(|row| row["mode"] == mode && proven(row));
            (all && !rows.is_empty()).then_some(())
        })
    }

    /// The streams as `streams -o json` says them, without measuring bitrates.
    pub fn streams(&self) -> Result<Vec<Value>> {
        let answer = self.json(&["streams", "--sample", "0s"])?;
        Ok(answer.as_array().context("`streams` gave no list")?.clone())
    }

    /// The entries of the map `name`, as bpftool reads them by its BTF: `key` and `value` of each.
    pub fn dump(&self, name: &str) -> Result<Vec<Value>> {
        let pins = self.pins(name)?;
        let [pin] = &pins[..] else {
            anyhow::bail!("{name} is pinned at {pins:?}");
        };
        let words: [&std::ffi::OsStr; 5] = [
            "-j".as_ref(),
            "map".as_ref(),
            "dump".as_ref(),
            "pinned".as_ref(),
            pin.as_os_str(),
        ];
        let dump = crate::command::run("bpftool", &words)?;
        let entries: Vec<Value> = serde_json::from_str(&dump).context("bpftool gave no list")?;
        let formatted = |mut entry: Value| entry["formatted"].take();
        Ok(entries.into_iter().map(formatted).collect())
    }

    /// Files under its pins whose name is `name`.
    pub fn pins(&self, name: &str) -> Result<Vec<PathBuf>> {
        let found = crate::command::run(
            "find",
            &[self.pin_root.as_os_str(), "-name".as_ref(), name.as_ref()],
        )?;
        Ok(found.lines().map(PathBuf::from).collect())
    }

    /// What it serves for scrapes and probes; any status but 200 is an error.
    pub fn get(&self, path: &str) -> Result<String> {
        netns::http(&self.netns, METRICS, path)
    }

    /// What it serves for people: the page and the API; any status but 200 is an error.
    pub fn page(&self, path: &str) -> Result<String> {
        netns::http(&self.netns, PAGE, path)
    }

    /// The sum of a metric's samples whose label text contains `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let page = self.get("/metrics")?;
        Ok(page
            .lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && line.contains(labels)
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }
}
