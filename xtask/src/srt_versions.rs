//! The SRT peers on the libsrt of each Debian suite: what encoders and pods out there run. Nothing but tests runs them.
//!
//! `target/srt-versions/<version>/` holds `caller`, `listener` and all they load.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    debian::{self, Apt},
    workspace,
};

/// A libsrt and the suite that has it.
#[derive(Debug)]
struct Version {
    libsrt: &'static str,
    suite: &'static str,
    /// The library first, then what it needs of its own suite.
    packages: [&'static str; 3],
}

/// The tests name the same ones: `tests/src/peers/versions.rs`.
const VERSIONS: [Version; 4] = [
    Version {
        libsrt: "1.4.2",
        suite: "bullseye",
        packages: ["libsrt1.4-openssl", "libsrt-openssl-dev", "libssl1.1"],
    },
    Version {
        libsrt: "1.5.1",
        suite: "bookworm",
        packages: ["libsrt1.5-openssl", "libsrt-openssl-dev", "libssl3"],
    },
    Version {
        libsrt: "1.5.4",
        suite: "trixie",
        packages: ["libsrt1.5-openssl", "libsrt-openssl-dev", "libssl3t64"],
    },
    Version {
        libsrt: "1.5.7",
        suite: "sid",
        packages: ["libsrt1.5-openssl", "libsrt-openssl-dev", "libssl3t64"],
    },
];

/// What all of them run on: the peers are linked by this machine's compiler, and need a glibc no older than its own.
const RUNTIME: [&str; 5] = ["libc6", "libgcc-s1", "libstdc++6", "libzstd1", "zlib1g"];
const RUNTIME_SUITE: &str = "sid";

/// Where they are.
pub(crate) fn directory() -> PathBuf {
    workspace::target_dir().join("srt-versions")
}

/// Fetches the libraries where they are missing or others than wanted, and compiles the peers on each.
pub(crate) fn install() -> Result<()> {
    let directory = directory();
    let stamp = directory.join("fetched.txt");
    // The programs name their loader by its full path: a moved target directory needs others.
    let wanted = format!("{VERSIONS:#?}\n{RUNTIME:?}\n{}\n", directory.display());
    if fs::read_to_string(&stamp).is_ok_and(|fetched| fetched == wanted) {
        return VERSIONS.iter().try_for_each(compile);
    }
    println!("setup: SRT peers on libsrt of {}", suites().join(", "));
    if directory.exists() {
        debian::remove(&directory)?;
    }
    fetch(&directory)?;
    VERSIONS.iter().try_for_each(compile)?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

fn suites() -> [&'static str; 4] {
    VERSIONS.each_ref().map(|version| version.suite)
}

/// Downloads and unpacks.
fn fetch(directory: &Path) -> Result<()> {
    let apt = Apt::new(directory.join("apt"), &suites())?;
    let packages = directory.join("apt/packages");
    let runtime = apt.download(&packages.join("runtime"), RUNTIME_SUITE, &RUNTIME)?;
    for version in &VERSIONS {
        let to = packages.join(version.suite);
        let own = apt.download(&to, version.suite, &version.packages)?;
        check(version, &own)?;
        let root = directory.join(version.libsrt);
        for package in own.iter().chain(&runtime) {
            debian::unpack(package, &root)?;
        }
    }
    apt.remove()
}

/// The suite has the version that the tests are about.
fn check(version: &Version, packages: &[PathBuf]) -> Result<()> {
    let Version { libsrt, suite, .. } = version;
    let prefix = format!("{}_", version.packages[0]);
    let is_library = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with(&prefix)
    };
    let library = packages.iter().find(is_library);
    let found = library
        .and_then(|package| debian::field(package, "Version"))
        .with_context(|| format!("no {} was downloaded of {suite}", version.packages[0]))?;
    // Sid moves on, and the newest libsrt is what it is there for.
    let found_upstream = upstream(found.trim());
    let will_do = *suite == "sid" && numbers(found_upstream) >= numbers(libsrt);
    if found_upstream != *libsrt && !will_do {
        bail!(
            "{suite} has libsrt {}, and the tests are about {libsrt}: \
             if the newer one will do, change it in xtask/src/srt_versions.rs and tests/src/peers/versions.rs",
            found.trim()
        );
    }
    Ok(())
}

/// For comparing.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|n| n.parse().ok()).collect()
}

/// `1.5.1` of `1.5.1-1+deb12u2`.
fn upstream(version: &str) -> &str {
    let without_epoch = version.split_once(':').map_or(version, |(_, rest)| rest);
    without_epoch
        .split(['-', '+', '~'])
        .next()
        .unwrap_or_default()
}

/// The peers of one version: its headers, its library, its loader.
fn compile(version: &Version) -> Result<()> {
    let root = directory().join(version.libsrt);
    let libraries = libraries(&root)?;
    let loader = file_in(&libraries, "ld-linux")?;
    let flags = [
        format!("-I{}", root.join("usr/include").display()),
        format!("-L{}", libraries.display()),
        "-lsrt".to_owned(),
        // Not this machine's: what the library loads comes from beside it (DT_RPATH is inherited, DT_RUNPATH is not).
        format!("-Wl,--dynamic-linker={}", loader.display()),
        format!("-Wl,--disable-new-dtags,-rpath={}", libraries.display()),
        "-Wl,--unresolved-symbols=ignore-in-shared-libs".to_owned(),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    build::peers(&root, &flags).with_context(|| format!("the peers of libsrt {}", version.libsrt))
}

/// `usr/lib/<machine>`, whatever the machine.
fn libraries(root: &Path) -> Result<PathBuf> {
    let folder = root.join("usr/lib");
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let candidate = entry?.path();
        if candidate.join("libsrt.so").exists() {
            return Ok(candidate);
        }
    }
    bail!("no libsrt.so under {}", folder.display())
}

fn file_in(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("no {prefix}* in {}", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_upstream() {
        assert_eq!(upstream("1.4.2-1.3"), "1.4.2");
        assert_eq!(upstream("1.5.1-1+deb12u2"), "1.5.1");
        assert_eq!(upstream("2:1.5.7+really1.5.6-1"), "1.5.7");
        assert_eq!(upstream("1.5.70-1"), "1.5.70");
    }
}
