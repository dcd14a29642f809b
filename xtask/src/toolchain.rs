//! Which compiler builds the kernel programs: any rustc whose `core` sources are at hand, since the bpf target has
//! no prebuilt `core`, and whose LLVM is no newer than bpf-linker's.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    command::{cargo, find, output},
    setup,
};

/// The oldest rustc that builds aya-ebpf and our edition.
const OLDEST_MINOR: u32 = 90;
/// The newest LLVM that `setup` can give bpf-linker.
pub(crate) const NEWEST_LLVM: u32 = 22;

/// A compiler for the bpf target.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) rustc: PathBuf,
    pub(crate) sysroot: PathBuf,
    /// `rustc 1.95.0, LLVM 22`.
    pub(crate) version: String,
}

impl Toolchain {
    /// The toolchain's own cargo where it has one: it knows best how to build its `core`.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let own = self.sysroot.join("bin/cargo");
        let mut command = cargo();
        if own.is_file() {
            let folder = command.get_current_dir().map(Path::to_path_buf);
            command = Command::new(own);
            folder.map(|folder| command.current_dir(folder));
        }
        command
            .arg(subcommand)
            .env("RUSTC", &self.rustc)
            // Allows -Z build-std on a stable compiler.
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER");
        command
    }

    /// Whether the sources of `core` belong to it.
    fn has_source(&self) -> bool {
        self.sysroot
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .is_file()
    }

    /// Whether clippy belongs to it.
    fn has_clippy(&self) -> bool {
        self.sysroot.join("bin/cargo-clippy").is_file()
    }
}

/// The toolchain that `setup` found or installed.
pub(crate) fn find_toolchain() -> Result<Toolchain> {
    detect().context(
        "no rustc with the sources of `core` that bpf-linker's LLVM can read: run `cargo xtask setup`",
    )
}

/// The first usable of: a nightly, stable, any other rustup toolchain, Debian's rustc.
pub(crate) fn detect() -> Option<Toolchain> {
    usable().next()
}

/// The toolchain to lint with: a stable one where there is a choice, so that new lints come with new releases only.
pub(crate) fn with_clippy() -> Option<Toolchain> {
    usable()
        .filter(Toolchain::has_clippy)
        .min_by_key(|toolchain| toolchain.version.contains("nightly"))
}

fn usable() -> impl Iterator<Item = Toolchain> {
    let rustup = rustup_toolchains()
        .into_iter()
        .map(|(_, sysroot)| sysroot.join("bin/rustc"));
    let rustc = rustup.chain([PathBuf::from("/usr/bin/rustc")]);
    rustc
        .filter_map(|rustc| inspect(&rustc))
        .filter(Toolchain::has_source)
}

/// Makes a toolchain usable by the least that does it.
pub(crate) fn install() -> Result<Toolchain> {
    let rustup = find("rustup");
    if let Some(rustup) = &rustup {
        for (name, sysroot) in rustup_toolchains() {
            let mut add = Command::new(rustup);
            add.args(["component", "add", "rust-src", "--toolchain", &name]);
            // Sources of a compiler that will not do are of no use.
            if inspect(&sysroot.join("bin/rustc")).is_some()
                && attempt(&mut add)
                && let Some(toolchain) = detect()
            {
                return Ok(toolchain);
            }
        }
    }
    if debian_rustc_is_new_enough()
        && setup::apt_install(&["rustc-web", "rust-web-src"])
            .inspect_err(|error| eprintln!("  {error:#}; trying the next way"))
            .is_ok()
        && let Some(toolchain) = detect()
    {
        return Ok(toolchain);
    }
    if let Some(rustup) = &rustup {
        let mut command = Command::new(rustup);
        command.args(["toolchain", "install", "nightly"]);
        command.args(["--profile", "minimal", "--component", "rust-src"]);
        if attempt(&mut command)
            && let Some(toolchain) = detect()
        {
            return Ok(toolchain);
        }
    }
    bail!(
        "no way to get a rustc (1.{OLDEST_MINOR} or newer, LLVM {NEWEST_LLVM} or older) with the sources of `core`: \
         tried rustup's rust-src component and Debian's rustc-web; the lines above say why each failed"
    )
}

/// One of several ways: its failure is shown, and the next is tried.
fn attempt(command: &mut Command) -> bool {
    crate::command::run(command)
        .inspect_err(|error| eprintln!("  {error:#}; trying the next way"))
        .is_ok()
}

/// Installed toolchains: name and root. Links to others are skipped.
fn rustup_toolchains() -> Vec<(String, PathBuf)> {
    let home = env::var_os("RUSTUP_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".rustup"),
        PathBuf::from,
    );
    let Ok(entries) = fs::read_dir(home.join("toolchains")) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect();
    // A nightly first: where there is one, it is there for such things. "nightly" before "nightly-2026-01-01".
    let rank = |name: &str| {
        ["nightly", "stable"]
            .iter()
            .position(|kind| name.starts_with(kind))
            .unwrap_or(2)
    };
    found.sort_by_key(|(name, _)| (rank(name), name.len()));
    found
}

/// The toolchain of `rustc`, where its version will do.
fn inspect(rustc: &Path) -> Option<Toolchain> {
    if !rustc.is_file() {
        return None;
    }
    let sysroot = PathBuf::from(output(Command::new(rustc).args(["--print", "sysroot"]))?.trim());
    let verbose = output(Command::new(rustc).arg("-vV"))?;
    let release = field(&verbose, "release")?;
    let llvm = major(field(&verbose, "LLVM version")?)?;
    let minor: u32 = release.split('.').nth(1)?.parse().ok()?;
    let fits = minor >= OLDEST_MINOR && llvm <= NEWEST_LLVM;
    fits.then(|| Toolchain {
        rustc: rustc.to_path_buf(),
        version: format!("rustc {release}, LLVM {llvm}"),
        sysroot,
    })
}

fn field<'a>(verbose: &'a str, name: &str) -> Option<&'a str> {
    verbose
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// Whether apt would install a `rustc-web` that will do.
fn debian_rustc_is_new_enough() -> bool {
    setup::apt_candidate("rustc-web").is_some_and(|version| debian_version_fits(&version))
}

fn debian_version_fits(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(1)), Some(Ok(minor))) if minor >= OLDEST_MINOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBOSE: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nrelease: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn versions_are_read() {
        assert_eq!(field(VERBOSE, "release"), Some("1.95.0"));
        assert_eq!(field(VERBOSE, "LLVM version").and_then(major), Some(22));
        assert_eq!(field(VERBOSE, "host"), None);
    }

    #[test]
    fn old_debian_compilers_are_refused() {
        assert!(debian_version_fits("1.96.0+dfsg1-1~deb12u2"));
        assert!(!debian_version_fits("1.85.0+dfsg3-1~deb12u3"));
        assert!(!debian_version_fits("(none)"));
    }
}
