//! Where things are in the workspace.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    // Cargo sets it at run time too; the compiled-in value serves a binary that is started by hand.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or(manifest.clone(), Path::to_path_buf)
}

/// Cargo's target directory.
pub(crate) fn target_dir() -> PathBuf {
    let root = root();
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// Where `build-ebpf` leaves the objects.
pub(crate) fn ebpf_dir() -> PathBuf {
    target_dir().join("ebpf")
}

/// A binary of the release profile.
pub(crate) fn release_binary(name: &str) -> PathBuf {
    target_dir().join("release").join(name)
}

/// Every file of the project, relative to the root and sorted: no build output, no hidden folders but `.ci`.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let shown = root.join(&folder);
        let entries =
            fs::read_dir(&shown).with_context(|| format!("reading folder {}", shown.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let path = folder.join(&name);
            let hidden = name.to_string_lossy().starts_with('.') && name != ".ci";
            if entry.file_type()?.is_dir() {
                if !hidden && name != "target" && name != "artifacts" {
                    folders.push(path);
                }
            } else if !hidden {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A text file of the project, by its path relative to the root.
pub(crate) fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = root().join(path);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}
