//! The live table of streams: once a second on a terminal, every five seconds elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::events::Move;
use crate::report::{new_table, time_of};
use crate::stage::{Stage, sender_of, vip};

/// What has been said, and when the table is due again.
#[derive(Debug)]
pub(crate) struct Screen {
    began: Instant,
    terminal: bool,
    said: Vec<String>,
    due: Instant,
    /// Bytes by client, and when: bitrates are differences.
    last: HashMap<String, u64>,
    last_at: Instant,
}

/// A row, as `ingest-agent -o json streams` says it.
#[derive(Debug, Deserialize)]
struct Stream {
    client: String,
    backend: Option<String>,
    state: String,
    up_packets: u64,
    up_bytes: u64,
    lost: u64,
    retransmitted: u64,
    rtt_ms: Option<f64>,
}

impl Screen {
    /// Nothing said yet.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            terminal: stdout().is_terminal(),
            said: Vec::new(),
            due: now,
            last: HashMap::new(),
            last_at: now,
        }
    }

    /// Says a line, and keeps it over the table.
    pub(crate) fn say(&mut self, text: &str) {
        let line = format!("[{:5.1} s] {text}", self.began.elapsed().as_secs_f64());
        println!("{line}");
        self.said.push(line);
    }

    /// Says how a stream moved.
    pub(crate) fn say_move(&mut self, moved: &Move) {
        let to = moved.to.as_deref().unwrap_or("nowhere");
        let text = format!(
            "  {} ({}): {} → {to} in {}",
            moved.stream,
            sender_of(moved.stream),
            moved.from,
            time_of(moved)
        );
        self.say(&text);
    }

    /// Lets time pass, drawing whenever it is due.
    pub(crate) fn watch(&mut self, stage: &Stage, span: Duration) {
        let until = Instant::now() + span;
        loop {
            if Instant::now() >= self.due {
                self.draw(stage);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(self.due.saturating_duration_since(Instant::now())));
        }
    }

    fn draw(&mut self, stage: &Stage) {
        self.due = Instant::now() + Duration::from_secs(if self.terminal { 1 } else { 5 });
        let text = match self.table(stage) {
            Ok(table) => table,
            Err(error) => format!("no table: {error:#}"),
        };
        if self.terminal {
            // Home, clear, all again: the table grows and shrinks with its streams.
            print!("\x1b[H\x1b[2J{}\n\n", self.said.join("\n"));
        }
        println!("{text}");
        stdout().flush().ok();
    }

    fn table(&mut self, stage: &Stage) -> Result<String> {
        let streams = streams(stage)?;
        let elapsed = self.last_at.elapsed().as_secs_f64();
        let mut table = new_table(&[
            "stream", "encoder", "pod", "state", "bitrate", "packets", "lost", "resent", "RTT",
            "client",
        ]);
        let mut rows = Vec::new();
        for stream in &streams {
            let name = stage
                .stream_of_client(&stream.client)
                .unwrap_or_else(|| "?".to_owned());
            // A bitrate needs two looks.
            let rate = self
                .last
                .get(&stream.client)
                .map_or_else(String::new, |before| {
                    let bits = stream.up_bytes.saturating_sub(*before) as f64 * 8.0;
                    format!("{:.2} Mbit/s", bits / elapsed.max(0.001) / 1e6)
                });
            rows.push([
                name.clone(),
                sender_of(&name).to_owned(),
                stream
                    .backend
                    .as_deref()
                    .unwrap_or("?")
                    .trim_start_matches("live/")
                    .to_owned(),
                stream.state.clone(),
                rate,
                stream.up_packets.to_string(),
                stream.lost.to_string(),
                stream.retransmitted.to_string(),
                stream
                    .rtt_ms
                    .map_or_else(String::new, |rtt| format!("{rtt:.2} ms")),
                stream.client.clone(),
            ]);
        }
        rows.sort();
        table.add_rows(rows);
        self.last = streams
            .into_iter()
            .map(|s| (s.client, s.up_bytes))
            .collect();
        self.last_at = Instant::now();
        Ok(format!(
            "streams of {} at {:.0} s\n{table}",
            vip(),
            self.began.elapsed().as_secs_f64()
        ))
    }
}

/// Reads the CLI's answer.
fn streams(stage: &Stage) -> Result<Vec<Stream>> {
    stage
        .agent
        .streams()?
        .into_iter()
        .map(|row| serde_json::from_value(row).context("unexpected answer of `streams`"))
        .collect()
}
