//! The fixture table on the host's dataplane.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use ingest_common::reason::{DropReason, PassReason};
use ingest_tests::fixtures::{
    model::differences,
    plane::{At, Dataplane, Host, Verdict},
    table,
};

#[test]
fn every_row_holds() {
    let mut failed = Vec::new();
    let rows = table::rows();
    for row in &rows {
        if catch_unwind(AssertUnwindSafe(|| row.play(&mut Host::new()))).is_err() {
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

#[test]
fn rows_have_names_of_their_own() {
    let rows = table::rows();
    let names: BTreeSet<_> = rows.iter().map(|row| &row.name).collect();
    assert_eq!(names.len(), rows.len());
}

#[test]
fn every_reason_has_a_row() {
    let mut drops = BTreeSet::new();
    let mut passes = BTreeSet::new();
    for row in table::rows() {
        let (_, world) = row.play(&mut Host::new());
        drops.extend(world.drops.borrow().keys().copied());
        passes.extend(world.passes.borrow().keys().copied());
    }
    let missing: Vec<_> = DropReason::ALL
        .iter()
        .filter(|reason| !drops.contains(&(**reason as u8)))
        .collect();
    assert!(missing.is_empty(), "no row drops for {missing:?}");
    let missing: Vec<_> = PassReason::ALL
        .iter()
        .filter(|reason| !passes.contains(&(**reason as u8)))
        .collect();
    assert!(missing.is_empty(), "no row passes for {missing:?}");
}

#[test]
fn a_dry_run_leaves_no_trace() {
    for row in table::rows() {
        let mut host = Host::new();
        let mut world = row.world(host.now());
        world.dry_run = true;
        for frame in row.uplink_frames(host.now()) {
            host.load(&world);
            assert_eq!(host.run(At::Uplink, &frame).verdict, Verdict::XdpPass);
            let after = host.world();
            after.explain.set(world.explain.get());
            let trace = differences(&after.normalised(0), &world.normalised(0));
            assert!(trace.is_empty(), "{}: a trace:\n{trace}", row.name);
        }
    }
}
