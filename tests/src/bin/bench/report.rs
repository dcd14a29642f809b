//! Results for people and for programs.

use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Map, Value, json};

use crate::clock::Sample;

/// How the numbers come about, for whoever reads the JSON.
const METHOD: &str = "ns of CPU time of the measuring thread (CLOCK_THREAD_CPUTIME_ID), on one CPU. Every round \
visits every case of a group once, in changing order; min is nearest to a quiet machine, median is what was seen; net \
is minus the baseline's figure of the same kind. prog/: BPF_PROG_TEST_RUN, one program many times on a 1374-byte packet \
(handshakes and ACKs: their own size) whose rewriting leaves it as it was (VIP = pod). Established data packets are in \
order: a generator writes the next sequence number and tail-calls the program; the same generator before an empty \
program is the baseline. Everything is in the cache. _peer's baseline takes metadata away as its own generator does, \
but fails at it, which is a little cheaper. veth/: the whole way from the client's interface into the pod's IP stack \
(where nftables counts and drops), all of it on one CPU, ksoftirqd's time included; frames are native XDP frames \
(test run, live), sockets are UDP sockets, whose own cost is in every row; drop is XDP_DROP at the uplink. The \
kernel's own ways carry an empty XDP program for frames, none for sockets, so for sockets compare gross figures. \
scale/: the generator visits all flows in a scattered order, the worst case for the cache; 100k is 131072 flows. A new \
session is INDUCTION and CONCLUSION up, both answers down, and one event; each caller is new. agent: the agent's own CPU \
time and memory while the counters of 10,000 streams move once a second, and the time of an HTTP answer on loopback, \
connection included.";

/// One result.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    median: f64,
    min: f64,
    runs: usize,
    baseline: Option<(String, f64, f64)>,
    more: Vec<(&'static str, f64)>,
}

impl Row {
    /// The result called `name`, in ns per packet.
    pub(crate) fn new(name: String, sample: &Sample) -> Self {
        Self {
            name,
            median: sample.median(),
            min: sample.min(),
            runs: sample.len(),
            baseline: None,
            more: Vec::new(),
        }
    }

    /// Says what is to be subtracted.
    pub(crate) fn net_of(mut self, name: String, baseline: &Sample) -> Self {
        self.baseline = Some((name, baseline.median(), baseline.min()));
        self
    }

    /// Adds a figure of its own kind.
    pub(crate) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.more.push((name, value));
        self
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its median, gross.
    pub(crate) fn median(&self) -> f64 {
        self.median
    }

    /// Its median, net.
    pub(crate) fn net_median(&self) -> f64 {
        self.net().0
    }

    fn net(&self) -> (f64, f64) {
        match &self.baseline {
            Some((_, median, min)) => (self.median - median, self.min - min),
            None => (self.median, self.min),
        }
    }

    fn json(&self) -> Value {
        let (net_median, net_min) = self.net();
        let mut object = Map::new();
        object.insert("name".into(), json!(self.name));
        object.insert("net_ns_median".into(), json!(rounded(net_median)));
        object.insert("net_ns_min".into(), json!(rounded(net_min)));
        object.insert("runs".into(), json!(self.runs));
        object.insert("ns_median".into(), json!(rounded(self.median)));
        object.insert("ns_min".into(), json!(rounded(self.min)));
        object.insert(
            "baseline".into(),
            json!(self.baseline.as_ref().map(|(name, ..)| name)),
        );
        for (name, value) in &self.more {
            object.insert((*name).into(), json!(rounded(*value)));
        }
        Value::Object(object)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A number that is no time per packet.
#[derive(Debug)]
pub(crate) struct Figure {
    name: &'static str,
    unit: &'static str,
    value: f64,
}

impl Figure {
    /// What it is called, and what it is in.
    pub(crate) fn new(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self { name, unit, value }
    }
}

/// All results.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
    figures: Vec<Figure>,
    memory: Vec<(&'static str, f64)>,
    cpu: usize,
}

impl Report {
    /// Nothing yet.
    pub(crate) fn new(cpu: usize) -> Self {
        Self {
            rows: Vec::new(),
            figures: Vec::new(),
            memory: Vec::new(),
            cpu,
        }
    }

    /// Adds and prints a group.
    pub(crate) fn extend(&mut self, title: &str, rows: Vec<Row>) {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header([
            title,
            "net median",
            "net min",
            "median",
            "min",
            "runs",
            "net of",
        ]);
        for row in &rows {
            let (net_median, net_min) = row.net();
            let more: Vec<_> = row
                .more
                .iter()
                .map(|(name, value)| format!("{name} {}", value.round()))
                .collect();
            let baseline = row.baseline.as_ref().map_or("", |(name, ..)| name);
            table.add_row([
                row.name.clone(),
                format!("{net_median:.1}"),
                format!("{net_min:.1}"),
                format!("{:.1}", row.median),
                format!("{:.1}", row.min),
                row.runs.to_string(),
                [&[baseline.to_owned()][..], &more].concat().join("  "),
            ]);
        }
        for column in 1..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{table}");
        self.rows.extend(rows);
    }

    /// Adds and prints figures.
    pub(crate) fn figures(&mut self, title: &str, figures: Vec<Figure>) {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header([title, "", "in"]);
        for Figure { name, unit, value } in &figures {
            table.add_row([*name, &format!("{value:.1}"), *unit]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
        self.figures.extend(figures);
    }

    /// Adds and prints what things take of the kernel's memory, in bytes.
    pub(crate) fn memory(&mut self, memory: Vec<(&'static str, f64)>) {
        for (name, bytes) in &memory {
            println!("{name}: {bytes:.0} bytes of kernel memory");
        }
        self.memory = memory;
    }

    /// Prints what is wanted of some results, beside them.
    pub(crate) fn goals(&self) {
        let row = |name: &str| self.rows.iter().find(|row| row.name == name);
        if let Some(established) = row("prog/established_v4") {
            let net = established.net_median();
            println!("established data packet: {net:.0} ns net; wanted: at most 100");
            if let Some(minimal) = row("prog/minimal") {
                println!(
                    "  the minimal program takes {:.0} here, and about 60 where that was said",
                    minimal.net_median()
                );
            }
        }
        let frames = |way: &str| row(&format!("veth/frames/{way}"));
        if let (Some(redirect), Some(minimal)) = (frames("redirect"), frames("minimal")) {
            let ratio = redirect.median / minimal.median;
            println!(
                "native frames, redirect: {ratio:.2} times the minimal program's; wanted: at most 1.25"
            );
        }
        for way in ["routing", "nftables"] {
            if let (Some(redirect), Some(other)) = (frames("redirect"), frames(way)) {
                let ratio = redirect.median / other.median;
                println!("native frames, redirect: {ratio:.2} times {way}; wanted: less than 1");
            }
        }
        if let Some(session) = row("scale/new_session") {
            let rate = 1e9 / session.net_median();
            println!("new sessions: {rate:.0} a second and core; wanted: at least 20000");
        }
    }

    /// Writes the JSON, if it is wanted.
    pub(crate) fn finish(&self, file: Option<&Path>) -> Result<()> {
        let Some(file) = file else { return Ok(()) };
        let value = json!({
            "results": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "memory_bytes": self.memory.iter().map(|(name, bytes)| ((*name).to_owned(), json!(rounded(*bytes)))).collect::<Map<_, _>>(),
            "agent": self.figures.iter().map(|f| (f.name.to_owned(), json!(rounded(f.value)))).collect::<Map<_, _>>(),
            "method": METHOD,
            "machine": machine(self.cpu),
        });
        let text = serde_json::to_string_pretty(&value)?;
        std::fs::write(file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

/// What the numbers depend on.
fn machine(cpu: usize) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    let info = read("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, model)| model.trim().to_owned());
    json!({
        "cpu": model,
        "cpus": info.lines().filter(|line| line.starts_with("processor")).count(),
        "measured_on_cpu": cpu,
        "kernel": read("/proc/sys/kernel/osrelease").ok(),
        "jit_harden": read("/proc/sys/net/core/bpf_jit_harden").ok(),
        "load": read("/proc/loadavg").ok(),
    })
}
