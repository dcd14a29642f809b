//! Prints docs/metrics.md; a test says whether it is still so:
//!
//! ```text
//! cargo run -p ingest-agent --example metrics > docs/metrics.md
//! ```

use std::io::{Write as _, stdout};

fn main() -> anyhow::Result<()> {
    Ok(write!(stdout(), "{}", ingest_agent::metrics::reference()?)?)
}
