//! Parses, runs, and turns the result into an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use ingest_agent::{cli::Cli, commands, error::Error, telemetry};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match telemetry::init(&cli.log_level, cli.log_format).and_then(|()| commands::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

#[expect(clippy::print_stderr, reason = "the one place where a failure is told")]
fn fail(error: &Error) -> ExitCode {
    eprintln!("error: {}", error.chain());
    ExitCode::from(error.exit_code())
}
