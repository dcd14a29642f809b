//! Kernels, qemu and busybox, from Debian.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{KERNELS, Kernel, directory};
use crate::{
    command::{output, run as run_command},
    debian::{self, Apt},
};

/// Where the emulator comes from, whatever the machine runs: its own may be in other packages' way.
const TOOLS_SUITE: &str = "trixie";
/// The kernels for virtual machines: a third of the others' size, with the same networking and BPF.
const IMAGE: &str = "linux-image-cloud-amd64";
/// Modules that the guests need, in the order of loading. The rest is built in.
const MODULES: [&str; 3] = ["veth", "sch_ingress", "cls_bpf"];
/// What a kernel's folder holds.
pub(super) const VMLINUZ: &str = "vmlinuz";
const TOOLS: &str = "tools";

/// Fetches what is missing or other than wanted.
pub(super) fn install() -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the kernels are fetched for x86-64 only");
    }
    let directory = directory();
    let stamp = directory.join("fetched.txt");
    let wanted = format!("{KERNELS:#?}\n{TOOLS_SUITE} {IMAGE} {MODULES:?}\n");
    if fs::read_to_string(&stamp).is_ok_and(|fetched| fetched == wanted) {
        return Ok(());
    }
    println!(
        "kernels: fetching qemu, and the kernels of {}",
        KERNELS.each_ref().map(|kernel| kernel.suite).join(", ")
    );
    if directory.exists() {
        debian::remove(&directory)?;
    }
    tools()?;
    KERNELS.iter().try_for_each(image)?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

fn tools() -> Result<()> {
    let apt = Apt::new(directory().join("apt"), &[TOOLS_SUITE])?;
    for package in apt.download_with_dependencies(&["qemu-system-x86", "busybox-static"])? {
        debian::unpack(&package, &directory().join(TOOLS))?;
    }
    apt.remove()
}

/// The statically linked busybox.
pub(super) fn busybox() -> PathBuf {
    directory().join(TOOLS).join("usr/bin/busybox")
}

/// qemu, by its own loader and libraries.
pub(super) fn qemu() -> Command {
    let usr = directory().join(TOOLS).join("usr");
    let libraries = usr.join("lib/x86_64-linux-gnu");
    let mut qemu = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    qemu.arg("--library-path")
        .arg(format!("{0}:{0}/pulseaudio", libraries.display()));
    qemu.arg(usr.join("bin/qemu-system-x86_64"));
    for firmware in ["share/qemu", "share/seabios"] {
        qemu.arg("-L").arg(usr.join(firmware));
    }
    qemu
}

fn image(kernel: &Kernel) -> Result<()> {
    let apt = Apt::new(directory().join("apt"), &[kernel.suite])?;
    let packages = directory().join("apt/packages");
    let root = directory().join("apt/root");
    // A package that only names the one of today's version, which may in turn name its parts.
    let mut names = vec![IMAGE.to_owned()];
    while let Some(name) = names.pop() {
        let to = packages.join(&name);
        for package in apt.download(&to, kernel.suite, &[&name])? {
            names.extend(parts(
                &debian::field(&package, "Depends").unwrap_or_default(),
            ));
            debian::unpack(&package, &root)?;
        }
    }
    let folder = kernel.folder();
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let copy = |from: &Path, to: &str| {
        let to = folder.join(to);
        fs::copy(from, &to)
            .with_context(|| format!("copying {} to {}", from.display(), to.display()))
    };
    let vmlinuz = find(&root, "vmlinuz")?;
    check(kernel, &vmlinuz)?;
    copy(&vmlinuz, VMLINUZ)?;
    for (index, module) in MODULES.iter().enumerate() {
        let file = find(&root, &format!("{module}.ko"))?;
        let to = format!("{index}-{module}.ko");
        if file.extension().is_some_and(|extension| extension == "xz") {
            copy(&file, &format!("{to}.xz"))?;
            run_command(
                Command::new(busybox())
                    .arg("unxz")
                    .arg(folder.join(format!("{to}.xz"))),
            )?;
        } else {
            copy(&file, &to)?;
        }
    }
    apt.remove()
}

/// The kernel packages among what a kernel package depends on.
fn parts(depends: &str) -> Vec<String> {
    let names = depends
        .split([',', '|'])
        .filter_map(|dependency| dependency.split_whitespace().next());
    names
        .filter(|name| {
            ["linux-image-", "linux-binary-", "linux-modules-"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })
        .map(str::to_owned)
        .collect()
}

/// The suite has the kernel that it is there for.
fn check(kernel: &Kernel, vmlinuz: &Path) -> Result<()> {
    let path = vmlinuz.display().to_string();
    let (major, minor) = kernel.series;
    let series = format!("{major}.{minor}.");
    let is_it = path.contains(&format!("vmlinuz-{series}")) || path.contains(&format!("/{series}"));
    // Sid moves on, and the newest kernel is what it is there for.
    if is_it || kernel.suite == "sid" {
        return Ok(());
    }
    bail!(
        "{} has no kernel {major}.{minor} any more but {path}: change xtask/src/kernels/mod.rs",
        kernel.suite
    )
}

/// The file below `root` whose name begins with `prefix`.
fn find(root: &Path, prefix: &str) -> Result<PathBuf> {
    let found =
        output(
            Command::new("find")
                .arg(root)
                .args(["-type", "f", "-name", &format!("{prefix}*")]),
        )
        .unwrap_or_default();
    let first = found
        .lines()
        .next()
        .with_context(|| format!("no {prefix}* in the package of the kernel"))?;
    Ok(PathBuf::from(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_kernel_are_found_in_what_it_depends_on() {
        let depends = "dracut | linux-initramfs-tool, linux-base-7.2.13 (= 7.2.13-1), \
                       linux-binary-7.2.13 (= 7.2.13-1), linux-modules-7.2.13 (= 7.2.13-1)";
        assert_eq!(
            parts(depends),
            ["linux-binary-7.2.13", "linux-modules-7.2.13"]
        );
        assert!(parts("kmod, linux-base (>= 4.3~), initramfs-tools").is_empty());
    }
}
