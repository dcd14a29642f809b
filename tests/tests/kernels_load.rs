//! The kernel programs on the running kernel, whichever it is: each is taken by its verifier, by itself, so that one
//! run names all that are not.

use ingest_common::abi::program;
use ingest_tests::fixtures::kernel::{self, Build, Kernel};

/// What the verifiers of older kernels end with, and all of it that is worth reading.
const TAIL: usize = 4000;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_program_loads() {
    let mut ebpf = kernel::open(Build::for_this_kernel(), false).expect("the maps are made");
    let mut refused = Vec::new();
    for name in [
        program::XDP_INGEST,
        program::XDP_PROBE,
        program::XDP_MARK,
        program::TC_UPLINK_IN,
        program::TC_UPLINK_OUT,
        program::TC_POD,
    ] {
        match Kernel::load_program(&mut ebpf, name) {
            Ok(walked) => println!("{name}: {walked:?} instructions"),
            Err(error) => {
                let error = format!("{error:#}");
                let tail = error.len().saturating_sub(TAIL);
                let tail = error.get(tail..).unwrap_or(&error);
                refused.push(format!("{name}: …{tail}"));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
