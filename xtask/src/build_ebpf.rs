//! Builds the kernel programs and checks the objects.
//!
//! The objects are built here and not by a build script: they need another target, another target directory (cargo
//! locks its own) and mostly another toolchain than the host's.

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    command,
    elf::Object,
    setup,
    toolchain::{self, Toolchain},
    workspace,
};

const TARGET: &str = "bpfel-unknown-none";
/// The objects that the agent embeds: for kernels since 5.18, and for older ones.
const INGEST: &str = "ingest";
const INGEST_5_10: &str = "ingest-linux-5.10";
/// The kernel crate's feature that makes the latter of the same sources.
const FEATURE_5_10: &str = "linux-5-10";
/// The programs that `bench` compares it with.
const BENCH: &str = "ingest-bench";
/// The kernel cuts longer names, and then bpftool and we disagree.
const LONGEST_NAME: usize = 15;

/// Builds the objects into `target/ebpf/`.
pub(crate) fn run() -> Result<()> {
    let toolchain = toolchain::find_toolchain()?;
    println!("build-ebpf: {}", toolchain.version);
    let built = workspace::target_dir()
        .join("ebpf-build")
        .join(TARGET)
        .join("release");
    let publish =
        |name: &str, to: &str| publish(&built.join(name), &workspace::ebpf_dir().join(to));
    let mut older = cargo(&toolchain, "build")?;
    older.args(["--bin", INGEST, "--features", FEATURE_5_10]);
    command::run(&mut older)?;
    publish(INGEST, INGEST_5_10)?;
    command::run(cargo(&toolchain, "build")?.arg("--bins"))?;
    publish(INGEST, INGEST)?;
    publish(BENCH, BENCH)?;
    check()
}

/// Lints the kernel crate with the flags of the build.
pub(crate) fn clippy() -> Result<()> {
    let Some(toolchain) = toolchain::with_clippy() else {
        println!(
            "skipped: no toolchain with the sources of `core` has clippy (rustup component add rust-src)"
        );
        return Ok(());
    };
    for features in ["", FEATURE_5_10] {
        let mut clippy = cargo(&toolchain, "clippy")?;
        // Found by cargo on the path; it must be the toolchain's own.
        clippy.env("PATH", command::path_with(&toolchain.sysroot.join("bin")));
        clippy.args(["--bins", "--features", features]);
        command::run(clippy.args(["--", "--deny", "warnings"]))?;
    }
    Ok(())
}

/// `cargo <subcommand>` over the kernel crate, for the bpf target.
fn cargo(toolchain: &Toolchain, subcommand: &str) -> Result<Command> {
    let linker = setup::find_bpf_linker().context("no bpf-linker: run `cargo xtask setup`")?;
    let flags = [
        // Chooses aya-ebpf's bindings.
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
        // The maps are declared by their BTF types.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // 32-bit ALU and jumps: kernels since 5.1.
        "-Ctarget-cpu=v3".to_owned(),
    ];
    let mut command = toolchain.cargo(subcommand);
    command
        .args(["--release", "--package", "ingest-ebpf"])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(workspace::target_dir().join("ebpf-build"))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker);
    Ok(command)
}

/// Copies an object to where others look for it; one that did not change keeps its time, so nothing is rebuilt.
fn publish(built: &Path, to: &Path) -> Result<()> {
    let object = fs::read(built).with_context(|| format!("reading {}", built.display()))?;
    if fs::read(to).is_ok_and(|old| old == object) {
        return Ok(());
    }
    fs::create_dir_all(workspace::ebpf_dir()).context("creating the folder of the objects")?;
    fs::write(to, object).with_context(|| format!("writing {}", to.display()))
}

/// Checks the objects in `target/ebpf/`.
pub(crate) fn check() -> Result<()> {
    let abi = workspace::read("ingest-common/src/abi/names.rs")?;
    let names = Names::parse(&abi);
    for (name, expected) in [
        (INGEST, Some(&names)),
        (INGEST_5_10, Some(&names)),
        (BENCH, None),
    ] {
        let path = workspace::ebpf_dir().join(name);
        let file = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let object = Object::parse(&file).with_context(|| format!("parsing {}", path.display()))?;
        let faults = faults(&object, expected);
        if !faults.is_empty() {
            bail!("{}:\n  {}", path.display(), faults.join("\n  "));
        }
        println!("{}: {} bytes", path.display(), file.len());
        for program in object.programs() {
            println!("  {:15} {:6} instructions", program.name, program.size / 8);
        }
        let shared = object.section(".text").map_or(0, <[u8]>::len);
        println!("  {:15} {:6} instructions", "subprograms", shared / 8);
    }
    Ok(())
}

/// What `ingest_common::abi` promises of the object.
#[derive(Debug, PartialEq, Eq)]
struct Names<'a> {
    maps: BTreeSet<&'a str>,
    programs: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    /// Reads the source text, since this crate depends on none of the others.
    fn parse(source: &'a str) -> Self {
        let maps = source
            .lines()
            // Maps outside the table need not be in the object.
            .filter(|line| !line.trim_start().starts_with("pub const"))
            .filter_map(|line| line.split_once("map(\"")?.1.split_once('"'))
            .map(|(name, _)| name)
            .collect();
        let programs = source
            .split_once("pub mod program")
            .map_or("", |(_, module)| {
                module.split('}').next().unwrap_or_default()
            })
            .lines()
            .filter_map(|line| line.split_once("&str = \"")?.1.split_once('"'))
            .map(|(name, _)| name)
            .collect();
        Self { maps, programs }
    }
}

/// What is wrong with an object.
fn faults(object: &Object<'_>, expected: Option<&Names<'_>>) -> Vec<String> {
    let mut faults = Vec::new();
    for section in [".BTF", ".BTF.ext"] {
        if object.section(section).is_none_or(<[u8]>::is_empty) {
            faults.push(format!(
                "no {section}: bpf-linker must run with --btf over debuginfo=2"
            ));
        }
    }
    if !object
        .section("license")
        .is_some_and(|license| license.windows(3).any(|w| w == b"GPL"))
    {
        faults
            .push("no GPL-compatible `license` section: the kernel denies most helpers".to_owned());
    }
    for symbol in object
        .symbols
        .iter()
        .filter(|symbol| symbol.name.contains("panicking"))
    {
        faults.push(format!(
            "{}: a panic can be reached, which the verifier refuses: use get(), checked or wrapping arithmetic",
            symbol.name
        ));
    }
    let maps = object.defined_in(|section| section == ".maps");
    let programs = object.programs();
    for symbol in maps
        .iter()
        .chain(&programs)
        .filter(|symbol| symbol.name.len() > LONGEST_NAME)
    {
        faults.push(format!("{}: longer than {LONGEST_NAME} bytes", symbol.name));
    }
    if programs.is_empty() {
        faults.push("no program in it".to_owned());
    }
    if let Some(expected) = expected {
        let has = |found: &[&crate::elf::Symbol<'_>], name: &str| {
            found.iter().any(|symbol| symbol.name == name)
        };
        for name in expected.maps.iter().filter(|name| !has(&maps, name)) {
            faults.push(format!("map {name} of abi::names is not in the object"));
        }
        for name in expected
            .programs
            .iter()
            .filter(|name| !has(&programs, name))
        {
            faults.push(format!("program {name} of abi::names is not in the object"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
        pub const MAPS: [MapShape; 2] = [
            map("SERVICES", MapKind::Hash, 1, 2, 3),
            by_flows(map("FLOWS", MapKind::LruHash, 1, 2, 3)),
        ];
        pub const NODE_MAP: MapShape = map("NODE", MapKind::Array, 4, 5, 1);
        pub mod program {
            /// XDP at the uplink.
            pub const XDP_INGEST: &str = "xdp_ingest";
        }
        pub const DRY_RUN: &str = "DRY_RUN";
    "#;

    #[test]
    fn names_are_read_from_the_abi() {
        let names = Names::parse(SOURCE);
        assert_eq!(names.maps, BTreeSet::from(["FLOWS", "SERVICES"]));
        assert_eq!(names.programs, BTreeSet::from(["xdp_ingest"]));
    }

    #[test]
    fn an_empty_object_has_every_fault() {
        let object = Object {
            sections: Vec::new(),
            symbols: Vec::new(),
        };
        let found = faults(&object, Some(&Names::parse(SOURCE))).join("\n");
        for fault in [
            ".BTF:",
            ".BTF.ext:",
            "license",
            "no program",
            "map FLOWS",
            "map SERVICES",
            "program xdp_ingest",
        ] {
            assert!(found.contains(fault), "{fault} is missing in {found}");
        }
    }

    #[test]
    fn panics_and_long_names_are_faults() {
        let symbol = |name| crate::elf::Symbol {
            name,
            size: 8,
            section: 1,
            is_global_function: true,
        };
        let sections = vec![
            crate::elf::Section::fake(""),
            crate::elf::Section::fake("xdp"),
        ];
        let symbols = vec![
            symbol("_ZN4core9panicking5panic17h0E"),
            symbol("a_name_of_16_byte"),
        ];
        let found = faults(&Object { sections, symbols }, None).join("\n");
        assert!(found.contains("a panic can be reached"), "{found}");
        assert!(found.contains("a_name_of_16_byte: longer"), "{found}");
    }
}
