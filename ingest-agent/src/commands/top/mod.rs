//! `ingest-agent top`

use std::path::Path;

use crate::{cli::Top, error::Error};

pub(super) fn run(pin_root: &Path, args: &Top) -> Result<(), Error> {
    let _ = (pin_root, args);
    Ok(())
}
