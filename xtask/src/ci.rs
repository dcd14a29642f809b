//! What must pass before a merge: named, timed steps, all of them run, the failures named at the end.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{
    build_ebpf,
    command::{cargo, run as run_command},
    setup::{self, Scope},
    test::{self, Tier, seconds},
    tidy,
};

const WORKSPACE: [&str; 3] = ["--workspace", "--exclude", "ingest-ebpf"];

type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 10] = [
    ("setup", || setup::run(Scope::All)),
    ("versions", versions),
    ("format", || {
        run_command(cargo().args(["fmt", "--all", "--check"]))
    }),
    ("tidy", tidy::run),
    ("kernel programs", build_ebpf::run),
    ("clippy", clippy),
    ("clippy, kernel programs", build_ebpf::clippy),
    ("documentation", documentation),
    ("tests", || test::run(Tier::All, None)),
    ("kernels", || test::run(Tier::Kernels, None)),
];

/// Runs the steps whose names contain one of `only`; all of them where it is empty.
pub(crate) fn run(only: &[String]) -> Result<()> {
    let wanted =
        |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    let steps: Vec<_> = STEPS.iter().filter(|(name, _)| wanted(name)).collect();
    if steps.is_empty() {
        bail!(
            "no such step: there are {}",
            STEPS.map(|(name, _)| name).join("; ")
        );
    }
    let begun = Instant::now();
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    for (index, (name, step)) in steps.iter().enumerate() {
        println!("\n==> {}/{} {name}", index + 1, steps.len());
        let begun = Instant::now();
        let result = step();
        let time = seconds(begun.elapsed());
        match result {
            Ok(()) => lines.push(format!("ok      {time:>8}  {name}")),
            Err(error) => {
                eprintln!("error: {name}: {error:#}");
                lines.push(format!("FAILED  {time:>8}  {name}: {error:#}"));
                failed.push(*name);
            }
        }
    }
    println!("\n==> summary");
    for line in lines {
        println!("{line}");
    }
    println!("{} in all", seconds(begun.elapsed()));
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("failed: {}", failed.join("; "))
    }
}

fn versions() -> Result<()> {
    run_command(cargo().arg("--version"))?;
    run_command(cargo().args(["clippy", "--version"]))?;
    run_command(std::process::Command::new("uname").arg("-a"))?;
    // Fails where Cargo.lock does not match the manifests.
    run_command(cargo().args(["fetch", "--locked"]))
}

fn clippy() -> Result<()> {
    let mut clippy = cargo();
    clippy
        .arg("clippy")
        .args(WORKSPACE)
        .args(["--all-targets", "--", "--deny", "warnings"]);
    run_command(&mut clippy)
}

fn documentation() -> Result<()> {
    let mut doc = cargo();
    doc.arg("doc")
        .args(WORKSPACE)
        .arg("--no-deps")
        .env("RUSTDOCFLAGS", "--deny warnings");
    run_command(&mut doc)
}
