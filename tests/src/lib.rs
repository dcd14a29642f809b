//! The harness of the tests that need root, and of the demo: network namespaces, real SRT peers, the agent.
//!
//! * [`netns`]: the topology (client, node, pods) in namespaces of its own.
//! * [`process`]: processes in a namespace, killed when dropped, read by deadlines; [`command`]: one-shot commands.
//! * [`cleanup`]: whatever way a run ends, nothing of it stays; leftovers of killed runs are swept at the next start.
//! * [`peers`]: SRT listeners and callers, `srt-live-transmit` and ffmpeg; [`traffic`]: verified payload for them.
//! * [`raw`]: packets built by hand; [`wan`]: a bad network; [`xdp`]: an interface like a NIC's.
//! * [`scene`]: what most tests begin with; [`terminal`]: a program on a terminal.
//! * [`agent`]: the agent under test; [`config`]: its file; [`nft`]: kube-proxy's way, for comparison.
//! * [`prometheus`]: a Prometheus that scrapes it.
//! * [`browser`]: headless Chromium, for the page.
//! * [`planted`]: what callers tell and nobody else is to read.
//! * [`cluster`]: a Kubernetes API server, and pods made by CNI plugins.
//!
//! It must not know how the agent or the kernel programs work: it sees their command line, their JSON and the
//! packets. It panics nowhere but in tests; everything returns [`anyhow::Result`].

#![expect(
    clippy::cast_precision_loss,
    reason = "rates and times; 52 bits are plenty"
)]

pub mod agent;
pub mod browser;
pub mod cleanup;
pub mod cluster;
pub mod command;
pub mod config;
pub mod fixtures;
pub mod netns;
pub mod nft;
pub mod peers;
pub mod planted;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod scene;
pub mod terminal;
pub mod traffic;
pub mod wan;
pub mod xdp;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`: the clock of every event that is compared here, and of the peers' JSON.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_path_buf()
}

/// Cargo's target directory, which this program was built into.
fn target_directory() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").exists())
        .map_or_else(|| workspace().join("target"), Path::to_path_buf)
}

/// A built file: what the environment variable says, else `default` in the target directory.
pub fn built(variable: &str, default: &str) -> anyhow::Result<PathBuf> {
    let path =
        std::env::var_os(variable).map_or_else(|| target_directory().join(default), PathBuf::from);
    anyhow::ensure!(
        path.exists(),
        "{} is not built: run it through `cargo xtask` (test, demo, bench), or set {variable}",
        path.display()
    );
    Ok(path)
}

/// Milliseconds between two times of [`monotonic_ns`].
pub fn milliseconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e6
}

/// The middle of the values (the lower one of two).
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(f64::NAN)
}
