//! Runs the demo.

use std::ffi::OsString;

use anyhow::Result;

use crate::{
    build,
    command::{as_root, become_it, with_built_programs},
    setup::Scope,
    workspace,
};

/// Builds, then becomes the demo: Ctrl-C and the exit code are the demo's own.
pub(crate) fn run(keep: bool, arguments: &[OsString]) -> Result<()> {
    build::run(Scope::All)?;
    let mut demo = as_root(workspace::release_binary("ingest-demo"))?;
    with_built_programs(&mut demo);
    demo.current_dir(workspace::root());
    demo.args(keep.then_some("--keep")).args(arguments);
    Err(become_it(&mut demo))
}
