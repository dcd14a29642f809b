//! Says where the kernel objects are that `dataplane` embeds: `$INGEST_EBPF_OBJECT` and, beside it, the one for older
//! kernels; else what `cargo xtask build-ebpf` left under the workspace's `target/ebpf`.
//!
//! It never builds the objects: that takes another target and toolchain. Where one is missing, an empty file is
//! embedded, so that `cargo check`, `clippy` and `doc` work; loading it then fails with one clear sentence.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Each object's file name with what is put after `$INGEST_EBPF_OBJECT` to get it.
const OBJECTS: [(&str, &str); 2] = [("ingest", ""), ("ingest-linux-5.10", "-linux-5.10")];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=INGEST_EBPF_OBJECT");
    let first = match env::var_os("INGEST_EBPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => directory("CARGO_MANIFEST_DIR")?.join("../target/ebpf/ingest"),
    };
    let embedded = directory("OUT_DIR")?;
    for (name, suffix) in OBJECTS {
        let mut built = first.clone().into_os_string();
        built.push(suffix);
        embed(Path::new(&built), &embedded.join(name))?;
    }
    println!(
        "cargo::rustc-env=INGEST_EBPF_OBJECTS={}",
        embedded.display()
    );
    Ok(())
}

fn embed(built: &Path, embedded: &Path) -> io::Result<()> {
    // A missing file counts as changed, so the build that follows `build-ebpf` embeds the new object.
    println!("cargo::rerun-if-changed={}", built.display());
    if built.is_file() {
        return fs::copy(built, embedded).map(drop);
    }
    println!(
        "cargo::warning={} is missing: this agent cannot load programs; run `cargo xtask build-ebpf`",
        built.display()
    );
    fs::write(embedded, [])
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
