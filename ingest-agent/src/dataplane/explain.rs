use std::path::Path;

use aya::{TestRun, programs::TestRunOptions};
use ingest_common::abi::{self, program};

use super::{
    Error, checks,
    maps::ArrayMap,
    object::{self, Load},
    pins::Pins,
    raw,
};

/// Room for what the program may put before a frame.
const GROWTH: usize = 256;

/// Runs the XDP program dry on `frame` and the pinned maps: what it decided, and the frame as it would go on.
/// Nothing is counted, kept or sent.
pub fn explain(pin_root: &Path, frame: &[u8]) -> Result<(abi::Explain, Vec<u8>), Error> {
    checks::preconditions()?;
    raw::lift_memory_limit();
    let pins = Pins::new(pin_root);
    if !pins.verify()?.is_empty() {
        return Err(Error::NotLoaded {
            pin_root: pin_root.to_owned(),
        });
    }
    let load = Load {
        pins: &pins,
        absent: &[],
        max_flows: 0,
        log_level: 0,
        dry_run: true,
    };
    let mut ebpf = load.load()?;
    let xdp = object::xdp(&mut ebpf, program::XDP_INGEST)?;
    xdp.load().map_err(object::refused(program::XDP_INGEST))?;
    let mut out = vec![0; frame.len() + GROWTH];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ..TestRunOptions::new()
    };
    let result = xdp.test_run(options).map_err(|source| Error::Program {
        operation: "test run",
        program: program::XDP_INGEST,
        source: Box::new(source),
    })?;
    out.truncate(result.data_size_out as usize);
    let explained = ArrayMap::<abi::Explain>::take(&mut ebpf, abi::EXPLAIN_MAP.name)?;
    Ok((explained.get(0)?, out))
}
