//! Prints the definition of `StreamRoute`, as `deploy/` has it; a test says whether that is still so:
//!
//! ```text
//! for folder in kustomize/base helm/ingest/crds; do
//!     cargo run -p ingest-agent --example crd > deploy/$folder/streamroutes.yaml
//! done
//! ```

use std::io::{Write as _, stdout};

use ingest_agent::cluster::stream_route::definition;
use serde_saphyr::{ser_options, to_string_with_options};

const HEAD: &str =
    "# Made of ingest-agent/src/cluster/stream_route: cargo run -p ingest-agent --example crd";

fn main() -> anyhow::Result<()> {
    let options = ser_options! { compact_list_indent: false };
    let yaml = to_string_with_options(&definition(), options)?;
    Ok(write!(stdout(), "{HEAD}\n{yaml}")?)
}
