//! Says where the kernel object is that `dataplane` embeds: `$INGEST_EBPF_OBJECT`, else what
//! `cargo xtask build-ebpf` left under the workspace's `target/ebpf`.
//!
//! It never builds the object: that takes another target and toolchain. Where none is there, an empty file is
//! embedded, so that `cargo check`, `clippy` and `doc` work; loading it then fails with one clear sentence.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=INGEST_EBPF_OBJECT");
    let built = match env::var_os("INGEST_EBPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => directory("CARGO_MANIFEST_DIR")?.join("../target/ebpf/ingest"),
    };
    // A missing file counts as changed, so the build that follows `build-ebpf` embeds the new object.
    println!("cargo::rerun-if-changed={}", built.display());
    let embedded = directory("OUT_DIR")?.join("ingest");
    if built.is_file() {
        fs::copy(&built, &embedded)?;
    } else {
        println!(
            "cargo::warning={} is missing: this agent cannot load programs; run `cargo xtask build-ebpf`",
            built.display()
        );
        fs::write(&embedded, [])?;
    }
    println!(
        "cargo::rustc-env=INGEST_EBPF_OBJECT={}",
        Path::new(&embedded).display()
    );
    Ok(())
}

/// A directory that cargo names to every build script.
fn directory(variable: &str) -> io::Result<PathBuf> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("cargo did not set {variable}"),
        )
    })
}
