//! The demo: real encoders of two customers stream through the kernel program into real listeners, each into those that
//! its Stream ID is routed to, while these fail one by one.
//!
//! * [`stage`]: who is on it: namespaces, agent, listeners, encoders; and where each stream is.
//! * [`events`]: what happens: a restart, a kill, a hang, a drain, and how long each stream was away.
//! * [`table`]: the live table of streams, from `ingest-agent -o json streams`.
//! * [`report`]: the summary, and the verdict that is the exit code.

#![expect(clippy::cast_precision_loss, reason = "rates and times for people")]

mod events;
mod report;
mod stage;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use ingest_tests::cleanup::{self, Guard, Resource};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stage::Stage;
use crate::table::Screen;

/// Where a kept demo can be found by `--down`.
const PID_FILE: &str = "/run/ingest-demo.pid";

/// Watch real encoders stream through the kernel program while listeners fail.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo")]
struct Arguments {
    /// Leave it running at the end, with the lines to inspect it by, until Ctrl-C or `--down`.
    #[arg(long)]
    keep: bool,
    /// End a demo that `--keep` left running, and remove what a killed one left.
    #[arg(long)]
    down: bool,
    /// Delivery mode, as `ingest-agent run --delivery`.
    #[arg(long, default_value = "auto")]
    delivery: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if arguments.down {
        down().map(|()| true)
    } else {
        run(&arguments)
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The whole show. Returns whether every stream lived.
fn run(arguments: &Arguments) -> Result<bool> {
    let began = Instant::now();
    let mut screen = Screen::new();
    screen.say("setting the stage: namespaces client, node, pod-a to pod-d; the agent; four listeners, two of them for one customer alone");
    let mut stage = Stage::set(&arguments.delivery)?;
    screen.say("four encoders of two customers dial one VIP: two srt-live-transmit with verified payload, two ffmpeg test pictures");
    stage.start_encoders()?;
    let outcomes = events::play(&mut stage, &mut screen)?;
    let lived = report::print(&stage, &outcomes, began.elapsed());
    if arguments.keep {
        keep(&stage)?;
    }
    Ok(lived)
}

/// Stays until a signal ends it (the harness cleans up then).
fn keep(stage: &Stage) -> Result<()> {
    let _file = Guard::new(Resource::File(PID_FILE.into()));
    std::fs::write(PID_FILE, std::process::id().to_string())
        .with_context(|| format!("cannot write {PID_FILE}"))?;
    report::print_inspection(stage);
    loop {
        std::thread::sleep(Duration::from_mins(1));
    }
}

/// Ends a kept demo and removes leftovers.
fn down() -> Result<()> {
    if let Ok(text) = std::fs::read_to_string(PID_FILE) {
        let pid: i32 = text
            .trim()
            .parse()
            .with_context(|| format!("{PID_FILE} holds no pid"))?;
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // The pid may belong to somebody else by now.
        if command.trim() == "ingest-demo" {
            kill(Pid::from_raw(pid), Signal::SIGTERM).context("cannot end the demo")?;
            let deadline = Instant::now() + Duration::from_secs(10);
            while Path::new(&format!("/proc/{pid}")).exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        // Where the demo was killed, it could not do this itself.
        std::fs::remove_file(PID_FILE).ok();
    }
    cleanup::sweep_leftovers()?;
    println!("the demo is down");
    Ok(())
}
