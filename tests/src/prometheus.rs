//! A real Prometheus that scrapes an agent and evaluates rules.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::cleanup::{self, Guard};
use crate::command;
use crate::netns::{self, Namespace};
use crate::process::Process;

/// Where it listens, in its namespace.
const ADDRESS: &str = "127.0.0.1:9090";

/// `prometheus` or `promtool`, which `cargo xtask test` unpacks.
pub fn program(name: &str) -> Result<PathBuf> {
    Ok(crate::built("INGEST_PROMETHEUS", "prometheus/usr/bin")?.join(name))
}

/// A running one; its data is gone with it.
#[derive(Debug)]
pub struct Prometheus {
    netns: PathBuf,
    process: Process,
    _directory: Guard,
}

impl Prometheus {
    /// Starts one in `netns`, which scrapes the agent there every second and evaluates `rules`.
    pub fn start(netns: &Namespace, rules: &Path) -> Result<Self> {
        let (directory, guard) = cleanup::scratch_directory("prometheus")?;
        let file = directory.join("prometheus.yml");
        let configuration = serde_json::json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "ingest-agent",
                "static_configs": [{ "targets": [crate::agent::METRICS] }],
            }],
        });
        std::fs::write(&file, configuration.to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = netns.command(program("prometheus")?);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("data").display()
            ))
            .arg(format!("--web.listen-address={ADDRESS}"));
        Ok(Self {
            netns: netns.path(),
            process: Process::spawn("prometheus", command)?,
            _directory: guard,
        })
    }

    /// What a query of the present gives, by promtool: a broken one is an error.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let mut promtool = std::process::Command::new("nsenter");
        promtool
            .arg(format!("--net={}", self.netns.display()))
            .arg("--")
            .arg(program("promtool")?)
            .args(["query", "--format=json", "instant"])
            .arg(format!("http://{ADDRESS}"))
            .arg(expression);
        let answer = command::output(promtool)?;
        serde_json::from_slice(&answer.stdout).with_context(|| {
            format!(
                "{expression}: not a list: {}",
                String::from_utf8_lossy(&answer.stdout).trim()
            )
        })
    }

    /// Asks until something comes.
    pub fn wait(&self, expression: &str, limit: Duration) -> Result<Vec<Value>> {
        let deadline = Instant::now() + limit;
        loop {
            match self.query(expression) {
                Ok(found) if !found.is_empty() => return Ok(found),
                answer if Instant::now() >= deadline => {
                    return Err(answer.err().unwrap_or_else(|| {
                        anyhow!(
                            "nothing within {limit:?}: {expression}\n{}",
                            self.process.said()
                        )
                    }));
                }
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// `data` of an answer of its API.
    pub fn api(&self, path: &str) -> Result<Value> {
        let body = netns::http(&self.netns, ADDRESS, &format!("/api/v1/{path}"))?;
        let mut answer: Value =
            serde_json::from_str(&body).with_context(|| format!("{path}: not JSON: {body}"))?;
        anyhow::ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].take())
    }
}
