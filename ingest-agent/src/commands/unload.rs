//! `ingest-agent unload`

use std::path::Path;

use crate::{cli::Output, dataplane, error::Error, output};

pub(super) fn run(pin_root: &Path, output: Output) -> Result<(), Error> {
    let removed = dataplane::unload(pin_root)?;
    output::print(output, &removed, |lines| match lines.len() {
        0 => "nothing was loaded".to_owned(),
        _ => lines.join("\n"),
    })
}
