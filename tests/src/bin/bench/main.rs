//! The benchmarks: what the kernel programs cost, beside what anything would cost.
//!
//! * [`prog`]: ns per packet of each path, by `BPF_PROG_TEST_RUN`.
//! * [`veth`]: packets that travel from a client into a pod, by each delivery mode and by the kernel's own means.
//! * [`scale`]: how that grows with flows and backends, what a new session costs, memory.
//! * [`agent`]: CPU, memory and answers of the agent with ten thousand streams.
//! * [`mod@run`]: running one path of a program many times.
//! * [`clock`]: how time is taken, and rounds that visit every case in turn.
//! * [`real`]: the object under test with its maps filled; [`mod@reference`]: what it is compared with.
//! * [`frames`] makes packets.
//! * [`report`]: the table and the JSON.
//!
//! It fails when it cannot measure, never because something is slow.

#![expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds; 52 bits are plenty"
)]

mod agent;
mod clock;
mod frames;
mod prog;
mod real;
mod reference;
mod report;
mod run;
mod scale;
mod veth;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Benchmarks of the kernel programs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// Fewer and shorter rounds: under a minute, and coarser.
    #[arg(long)]
    quick: bool,
    /// Also write the results there, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only results whose name begins with this (and their baselines), such as prog/established or veth.
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
    /// The CPU that everything runs on; the last one by default.
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let only = arguments.only.as_str();
    let wanted = |group: &str| only.starts_with(group) || group.starts_with(only);
    // Before this thread is kept on one CPU, and so its children are.
    let agent = if wanted("agent") {
        agent::measure(arguments.quick)?
    } else {
        Vec::new()
    };
    let cpu = clock::pin(arguments.cpu)?;
    let effort = if arguments.quick {
        clock::Effort::QUICK
    } else {
        clock::Effort::FULL
    };
    let mut report = report::Report::new(cpu);
    if wanted("agent") {
        report.figures("the agent with 10,000 streams", agent);
    }
    if wanted("prog") {
        report.extend("ns per packet of a program", prog::measure(&effort, only)?);
    }
    if wanted("veth") {
        let title = "ns of CPU per packet, client to pod";
        report.extend(title, veth::measure(&effort, only, cpu)?);
    }
    if wanted("scale") {
        let rows = scale::measure(&effort, only)?;
        report.extend("growth, and new sessions", rows);
        report.memory(scale::memory()?);
    }
    report.goals();
    report.finish(arguments.json.as_deref())
}
