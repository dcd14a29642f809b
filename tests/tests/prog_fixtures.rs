//! The fixture table on the real object: verdicts, bytes, counters and maps must be the host's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ingest_tests::fixtures::{
    kernel::{Build, Kernel},
    model::differences,
    plane::{Dataplane, Host},
    table,
};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_row_holds_and_the_kernel_agrees_with_the_host() {
    check(Build::Current);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_row_holds_on_the_object_for_older_kernels() {
    check(Build::Linux5_10);
}

fn check(build: Build) {
    let mut kernel = Kernel::load_as(build, false).expect("the object loads");
    let mut failed = Vec::new();
    let rows = table::rows();
    for row in &rows {
        let agreed = catch_unwind(AssertUnwindSafe(|| {
            let mut host = Host::new();
            // Cookies depend on the time, and are kept.
            host.0.now.set(kernel.now());
            let (_, on_host) = row.play(&mut host);
            let (_, on_kernel) = row.play(&mut kernel);
            let differences = differences(&on_kernel, &on_host);
            assert!(
                differences.is_empty(),
                "{}: maps, not the host's:\n{differences}",
                row.name
            );
        }));
        if agreed.is_err() {
            failed.push(row.name.as_str());
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} rows:\n{}",
        failed.len(),
        rows.len(),
        failed.join("\n")
    );
}
