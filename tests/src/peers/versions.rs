//! Peers on other versions of libsrt than the machine's: `cargo xtask test` unpacks and builds them.

use std::path::PathBuf;

use anyhow::Result;

/// Those that Debian's suites carry, the oldest first. `xtask/src/srt_versions.rs` says which is whose. The last stands
/// for itself and all newer ones: its suite moves on.
pub const LIBSRT_VERSIONS: [&str; 4] = ["1.4.2", "1.5.1", "1.5.4", "1.5.7"];

/// Peer `name` on this version of libsrt; `None`: the machine's.
pub(super) fn program(name: &str, libsrt: Option<&str>) -> Result<PathBuf> {
    let Some(version) = libsrt else {
        let variable = format!("INGEST_{}", name.to_uppercase());
        return crate::built(&variable, &format!("peers/{name}"));
    };
    let program = crate::built("INGEST_SRT_VERSIONS", "srt-versions")?
        .join(version)
        .join(name);
    anyhow::ensure!(
        program.exists(),
        "there is no {name} on libsrt {version} at {}: `cargo xtask test --tier netns` builds it, or says why it cannot",
        program.display()
    );
    Ok(program)
}

/// Fails where a peer runs on another version than it was asked to.
pub(super) fn check(name: &str, libsrt: Option<&str>, found: &str) -> Result<()> {
    if let Some(version) = libsrt {
        let numbers = |version: &str| -> Vec<u32> {
            version.split('.').map_while(|n| n.parse().ok()).collect()
        };
        let newer = LIBSRT_VERSIONS.last() == Some(&version) && numbers(found) >= numbers(version);
        anyhow::ensure!(
            found == version || newer,
            "{name} was to run on libsrt {version}, and runs on {found}"
        );
    }
    Ok(())
}
