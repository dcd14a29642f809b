//! Brings a machine to where the project builds and runs: detects first, installs only what is missing, says so.

use std::{env, fs, path::Path, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    command::{as_root, cargo, find, output, run as run_command},
    toolchain::{self, NEWEST_LLVM},
};

/// How much to set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What building needs.
    Build,
    /// And what the demo, the tests and the benchmarks need: tools, bpffs, a kernel that will do.
    All,
}

/// The bpf-linker that builds are known to work with.
const BPF_LINKER: &str = "0.13.0";
/// tcx, by which the tc programs are attached, came with it.
const OLDEST_KERNEL: (u32, u32) = (6, 6);

/// A thing that a Debian package brings.
struct Need {
    thing: Thing,
    package: &'static str,
}

enum Thing {
    Program(&'static str),
    File(&'static str),
}

impl Need {
    const fn program(name: &'static str, package: &'static str) -> Self {
        Self {
            thing: Thing::Program(name),
            package,
        }
    }

    const fn file(path: &'static str, package: &'static str) -> Self {
        Self {
            thing: Thing::File(path),
            package,
        }
    }

    fn is_met(&self) -> bool {
        match self.thing {
            Thing::Program(name) => find(name).is_some(),
            Thing::File(path) => Path::new(path).exists(),
        }
    }
}

const BUILD: [Need; 4] = [
    Need::program("cc", "gcc"),
    Need::file("/usr/include/stdio.h", "libc6-dev"),
    Need::program("pkg-config", "pkg-config"),
    Need::file("/usr/include/srt/srt.h", "libsrt-openssl-dev"),
];

const RUN: [Need; 13] = [
    Need::program("ffmpeg", "ffmpeg"),
    Need::program("srt-live-transmit", "srt-tools"),
    Need::program("ip", "iproute2"),
    Need::program("nft", "nftables"),
    Need::program("ethtool", "ethtool"),
    Need::program("bpftool", "bpftool"),
    Need::program("tcpdump", "tcpdump"),
    Need::program("tshark", "tshark"),
    Need::program("ps", "procps"),
    Need::program("nsenter", "util-linux"),
    Need::file("/usr/lib/cni/ptp", "containernetworking-plugins"),
    Need::program("chromium", "chromium"),
    Need::program("chromedriver", "chromium-driver"),
];

/// Installs what is missing.
pub(crate) fn run(scope: Scope) -> Result<()> {
    if scope == Scope::All {
        check_kernel()?;
    }
    packages(scope)?;
    let toolchain = match toolchain::detect() {
        Some(toolchain) => toolchain,
        None => toolchain::install()?,
    };
    let linker = bpf_linker()?;
    if scope == Scope::All {
        mount_bpffs()?;
    }
    println!(
        "setup: packages present; kernel programs: {} ({}), {}",
        toolchain.version,
        toolchain.rustc.display(),
        linker.display(),
    );
    Ok(())
}

fn packages(scope: Scope) -> Result<()> {
    let needs = BUILD
        .iter()
        .chain(if scope == Scope::All { &RUN[..] } else { &[] });
    let missing: Vec<_> = needs
        .filter(|need| !need.is_met())
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("setup: missing packages: {}", missing.join(" "));
    apt_install(&missing)
}

/// Installs Debian packages. The package lists are fetched only where they do not know one of them.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    if find("apt-get").is_none() {
        bail!(
            "there is no apt-get here: install what these Debian packages bring, then run this again: {}",
            packages.join(" ")
        );
    }
    if packages
        .iter()
        .any(|package| apt_candidate(package).is_none())
    {
        apt_update()?;
    }
    let mut install = as_root("apt-get")?;
    install
        // Nothing of the user's gives way: Debian's rustc conflicts with Debian's rustup, say.
        .args(["install", "-qq", "--no-install-recommends", "--no-remove"])
        .args(packages);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    if run_command(&mut install).is_ok() {
        return Ok(());
    }
    // The commonest reason: the lists are older than the archive.
    apt_update()?;
    run_command(&mut install)
}

fn apt_update() -> Result<()> {
    run_command(as_root("apt-get")?.args(["update", "-qq"]))
}

/// The version that apt would install, as far as its lists know.
pub(crate) fn apt_candidate(package: &str) -> Option<String> {
    let policy = output(
        Command::new("apt-cache")
            .args(["policy", package])
            .env("LC_ALL", "C"),
    )?;
    let version = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// The bpf-linker in use, installed from source where there is none.
fn bpf_linker() -> Result<PathBuf> {
    if let Some(linker) = find_bpf_linker() {
        return Ok(linker);
    }
    let prefix = llvm_prefix()?;
    println!(
        "setup: no bpf-linker {BPF_LINKER}: building it against {}",
        prefix.display()
    );
    let mut install = cargo();
    install.args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked"]);
    install
        .args(["--no-default-features", "--features"])
        .arg(format!("llvm-{NEWEST_LLVM}"));
    // The host's compiler builds it; the workspace's settings are none of its business.
    install
        .current_dir(env::temp_dir())
        .env("LLVM_PREFIX", &prefix)
        .env_remove("CARGO_TARGET_DIR");
    run_command(&mut install)?;
    find_bpf_linker().context("cargo installed bpf-linker, but it does not start")
}

/// A bpf-linker of the right version, on the path or where cargo installs programs.
pub(crate) fn find_bpf_linker() -> Option<PathBuf> {
    let installed = cargo_home().join("bin/bpf-linker");
    let candidates = find("bpf-linker").into_iter().chain([installed]);
    candidates.into_iter().find(|linker| {
        output(Command::new(linker).arg("--version"))
            .is_some_and(|version| version.trim().ends_with(BPF_LINKER))
    })
}

fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

/// LLVM's libraries for building bpf-linker.
fn llvm_prefix() -> Result<PathBuf> {
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{NEWEST_LLVM}"));
    if !prefix.join("lib/libLLVM.so").exists() {
        let package = format!("llvm-{NEWEST_LLVM}-dev");
        println!("setup: missing packages: {package}");
        apt_install(&[&package]).with_context(|| {
            format!(
                "{package} is in Debian's security archive and at https://apt.llvm.org; \
                 or put a bpf-linker {BPF_LINKER} on the path"
            )
        })?;
    }
    Ok(prefix)
}

fn mount_bpffs() -> Result<()> {
    const BPFFS: &str = "/sys/fs/bpf";
    let mounts = fs::read_to_string("/proc/mounts").context("reading /proc/mounts")?;
    if mounts
        .lines()
        .any(|line| line.contains(" /sys/fs/bpf bpf "))
    {
        return Ok(());
    }
    println!("setup: no bpf file system at {BPFFS}: mounting one (until the next boot)");
    run_command(as_root("mount")?.args(["-t", "bpf", "bpf", BPFFS]))
}

fn check_kernel() -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("reading the kernel's version (the project runs on Linux only)")?;
    let release = release.trim();
    let (major, minor) = OLDEST_KERNEL;
    if !kernel_is_at_least(release, OLDEST_KERNEL) {
        bail!(
            "this kernel is {release}, and tcx needs {major}.{minor}: boot a newer kernel, \
             or use `cargo xtask setup --build-only` where nothing is to run"
        );
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        bail!(
            "this kernel has no BTF (/sys/kernel/btf/vmlinux): boot one with CONFIG_DEBUG_INFO_BTF=y"
        );
    }
    Ok(())
}

fn kernel_is_at_least(release: &str, oldest: (u32, u32)) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= oldest,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_as_numbers() {
        assert!(kernel_is_at_least("6.18.44-cloud", OLDEST_KERNEL));
        assert!(kernel_is_at_least("6.6.0", OLDEST_KERNEL));
        assert!(kernel_is_at_least("7.0-rc1", OLDEST_KERNEL));
        assert!(!kernel_is_at_least("6.1.0-37-amd64", OLDEST_KERNEL));
        assert!(!kernel_is_at_least("5.15.0", OLDEST_KERNEL));
        assert!(!kernel_is_at_least("", OLDEST_KERNEL));
    }

    #[test]
    fn needs_are_detected() {
        assert!(Need::program("sh", "dash").is_met());
        assert!(!Need::program("no-such-program", "nothing").is_met());
        assert!(!Need::file("/no/such/file", "nothing").is_met());
    }
}
