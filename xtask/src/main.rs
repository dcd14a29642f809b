//! Project tasks, one module each. `cargo xtask --help` lists them.
//!
//! Owns how the project is set up, built, tested and checked. It depends on none of the project's crates, so that
//! it compiles in seconds and works when they do not.

mod assets;
mod bench;
mod build;
mod build_ebpf;
mod ci;
mod command;
mod debian;
mod demo;
mod elf;
mod kernels;
mod manifest_tools;
mod prometheus;
mod setup;
mod srt_versions;
mod test;
mod tidy;
mod toolchain;
mod workspace;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Project tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what this machine lacks; says what it does, and does nothing where all is there.
    Setup {
        /// Only what building needs: no run-time tools, no checks of the running kernel.
        #[arg(long)]
        build_only: bool,
    },
    /// Build the kernel programs into target/ebpf/ and check the objects.
    BuildEbpf,
    /// Build everything: kernel programs, agent, demo, benchmarks, SRT peers.
    Build,
    /// Watch real encoders stream through the kernel program while listeners fail (needs root).
    Demo {
        /// Leave it running at the end, with the lines to inspect it.
        #[arg(long)]
        keep: bool,
        /// Passed to the demo as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run the tests (every tier but `unit` needs root).
    Test {
        #[arg(long, value_enum, default_value_t = test::Tier::All)]
        tier: test::Tier,
        /// Only tests whose names contain this.
        filter: Option<String>,
    },
    /// Measure the kernel programs and the delivery modes (needs root).
    Bench {
        /// Write the results there as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Fewer and shorter runs.
        #[arg(long)]
        quick: bool,
        /// Passed to the runner as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Write the copies that kustomize and the chart need of deploy/prometheus/rules.yaml.
    Rules,
    /// Check the rules of the house that no compiler knows.
    Tidy,
    /// Everything that must pass before a merge, step by step.
    Ci {
        /// Only steps whose names contain one of these.
        steps: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Setup { build_only } => setup::run(if build_only {
            setup::Scope::Build
        } else {
            setup::Scope::All
        }),
        Task::BuildEbpf => build_ebpf::run(),
        Task::Build => build::run(setup::Scope::Build),
        Task::Demo { keep, arguments } => demo::run(keep, &arguments),
        Task::Test { tier, filter } => test::run(tier, filter.as_deref()),
        Task::Bench {
            json,
            quick,
            arguments,
        } => bench::run(json.as_deref(), quick, &arguments),
        Task::Rules => prometheus::copy_rules(),
        Task::Tidy => tidy::run(),
        Task::Ci { steps } => ci::run(&steps),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
