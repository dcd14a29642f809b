use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Error, Lock,
    pins::{Pins, list, remove_file},
};

/// Directory of map pins, in every schema.
const MAPS: &str = "maps";

/// Detaches everything and removes all pins, of every schema version. Gives a line for each thing removed.
/// Refuses while an agent holds the lock.
pub fn unload(pin_root: &Path) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    if !pin_root.exists() {
        return Ok(removed);
    }
    let lock = Lock::take(pin_root)?;
    for version in list(pin_root)? {
        let schema = pin_root.join(version);
        // Links first: a program must not run on while its maps are being taken from whoever reads them.
        let (maps, links): (Vec<_>, Vec<_>) =
            list(&schema)?.into_iter().partition(|name| name == MAPS);
        for directory in links.iter().map(|name| schema.join(name)) {
            for pin in list(&directory)?.iter().map(|name| directory.join(name)) {
                Pins::remove_link(&pin)?;
                removed.push(format!("link {}", pin.display()));
            }
            remove_directory(&directory)?;
        }
        for directory in maps.iter().map(|name| schema.join(name)) {
            for pin in list(&directory)?.iter().map(|name| directory.join(name)) {
                remove_file(&pin)?;
                removed.push(format!("map {}", pin.display()));
            }
            remove_directory(&directory)?;
        }
        remove_directory(&schema)?;
        removed.push(format!("directory {}", schema.display()));
    }
    drop(lock);
    remove_directory(pin_root)?;
    Ok(removed)
}

fn remove_directory(path: &Path) -> Result<(), Error> {
    fs::remove_dir(path).map_err(|source| Error::Files {
        operation: "removing directory",
        path: PathBuf::from(path),
        source,
    })
}
