//! Runs the benchmarks.

use std::{env, ffi::OsString, path::Path};

use anyhow::{Context, Result};

use crate::{
    build,
    command::{as_root, become_it, with_built_programs},
    setup::Scope,
    workspace,
};

/// Builds, then becomes the runner.
pub(crate) fn run(json: Option<&Path>, quick: bool, arguments: &[OsString]) -> Result<()> {
    build::run(Scope::All)?;
    let mut runner = as_root(workspace::release_binary("ingest-bench-runner"))?;
    if let Some(file) = json {
        // Relative to where the user is, not to where the runner runs.
        let folder = env::current_dir().context("finding the current directory")?;
        runner.arg("--json").arg(folder.join(file));
    }
    with_built_programs(&mut runner);
    runner.current_dir(workspace::root());
    runner.args(quick.then_some("--quick")).args(arguments);
    Err(become_it(&mut runner))
}
