//! Builds everything that runs.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{
    build_ebpf,
    command::{self, cargo, output},
    setup::{self, Scope},
    workspace,
};

/// Sets up what is missing, then builds the kernel programs, the agent, the demo, the benchmarks and the SRT peers.
pub(crate) fn run(scope: Scope) -> Result<()> {
    setup::run(scope)?;
    build_ebpf::run()?;
    host()
}

/// Builds all but the kernel programs, which must be there.
pub(crate) fn host() -> Result<()> {
    let packages = ["--package", "ingest-agent", "--package", "ingest-tests"];
    command::run(
        cargo()
            .args(["build", "--release", "--bins"])
            .args(packages),
    )?;
    let flags = output(Command::new("pkg-config").args(["--cflags", "--libs", "srt"]))
        .context("pkg-config does not know srt: run `cargo xtask setup`")?;
    let flags: Vec<_> = flags.split_whitespace().collect();
    peers(&workspace::target_dir().join("peers"), &flags)
}

/// Compiles `tests/peers/*.c` into folder `to`: SRT callers and listeners on the real library, which `flags` name.
pub(crate) fn peers(to: &Path, flags: &[&str]) -> Result<()> {
    let folder = workspace::root().join("tests/peers");
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        files.push(entry?.path());
    }
    files.sort();
    let has_extension = |path: &Path, wanted| path.extension().is_some_and(|found| found == wanted);
    let headers: Vec<_> = files
        .iter()
        .filter(|path| has_extension(path, "h"))
        .collect();
    for source in files.iter().filter(|path| has_extension(path, "c")) {
        let program = to.join(source.file_stem().unwrap_or_default());
        let is_newer = |path: &Path| Some(modified(path)? > modified(&program)?);
        if program.is_file()
            && headers
                .iter()
                .copied()
                .chain([source])
                .all(|path| is_newer(path) == Some(false))
        {
            continue;
        }
        let mut compile = Command::new("cc");
        compile.args(["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-o"]);
        compile
            .arg(&program)
            .arg(source)
            .args(flags)
            .arg("-pthread");
        command::run(&mut compile)?;
    }
    Ok(())
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    path.metadata().and_then(|file| file.modified()).ok()
}
