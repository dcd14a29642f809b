//! The `file` source: one YAML file, for machines without Kubernetes.
//!
//! `schema` is the format, `check` refuses what cannot be right, [`watch`] follows changes. A file is taken
//! whole or not at all.

mod check;
mod error;
mod schema;
mod watch;

use std::path::Path;

pub use error::{Error, Problem};
pub use watch::watch;

use super::Snapshot;

/// Reads the file at `path`.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_path_buf(),
        source,
    })
}

/// Checks `bytes` as the content of the file; `path` is for messages only.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Snapshot, Error> {
    let invalid = |problems| Error::Invalid {
        path: path.to_path_buf(),
        problems,
    };
    let file: schema::File =
        serde_saphyr::from_slice(bytes).map_err(|e| invalid(vec![error::from_yaml(&e)]))?;
    check::check(file).map_err(invalid)
}

#[cfg(test)]
mod tests;
