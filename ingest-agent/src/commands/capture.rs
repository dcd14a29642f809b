//! `ingest-agent capture`

use std::path::Path;

use crate::{cli::Capture, error::Error};

pub(super) fn run(pin_root: &Path, args: &Capture) -> Result<(), Error> {
    let _ = (pin_root, args);
    Ok(())
}
