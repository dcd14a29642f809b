//! In which order a change is written: what ends or begins soonest first, and nobody without a backend in between.

use super::{
    super::*,
    model::{backend, one, pods, run, service},
};

/// `b`: a backend, `t`: a table.
fn letters(ops: &[Op]) -> String {
    let letter = |op: &Op| match op {
        Op::SetBackend { .. } => 'b',
        Op::SetTable { .. } => 't',
        Op::FreeBackend { .. } => 'f',
        _ => '.',
    };
    ops.iter().map(letter).collect()
}

/// The writes from `from` to `to`, in letters.
fn change(from: &Desired, to: &Desired) -> String {
    let mut maps = Observed::default();
    run(&mut maps, from, &HashMap::new());
    letters(&run(&mut maps, to, &HashMap::new()))
}

fn draining(count: usize, those: &[usize]) -> Desired {
    let mut backends = pods(count);
    for i in those {
        backends[*i].draining = true;
    }
    one(backends)
}

#[test]
fn who_stops_serving_is_passed_over_before_the_table_knows() {
    assert_eq!(change(&one(pods(3)), &draining(3, &[1])), "bt");
    assert_eq!(change(&one(pods(3)), &draining(3, &[0, 1])), "bbt");
    assert_eq!(change(&one(pods(3)), &one(pods(2))), "bt");
}

#[test]
fn the_last_one_serves_until_the_table_has_another() {
    assert_eq!(change(&one(pods(1)), &draining(2, &[0])), "btb");
    let other = one(vec![backend("live/other", "10.0.9.9")]);
    assert_eq!(change(&one(pods(2)), &other), "btbb");
    assert_eq!(change(&one(pods(1)), &draining(1, &[0])), "tb", "or none");
}

#[test]
fn who_has_no_sessions_to_lose_in_any_table_is_written_at_once() {
    let both = |first: Vec<Backend>, second: Vec<Backend>| Desired {
        services: vec![
            service("live/a", &["203.0.113.10"], first),
            service("live/b", &["203.0.113.11"], second),
        ],
        ..Desired::default()
    };
    let before = both(pods(2), pods(1));
    let left = |mut pods: Vec<Backend>| {
        pods.remove(0);
        pods
    };
    let after = both(left(pods(2)), left(pods(1)));
    assert_eq!(change(&before, &after), "ttb", "the last one of b");
    assert_eq!(change(&draining(2, &[0]), &one(left(pods(2)))), "b");
}

#[test]
fn who_serves_again_is_there_before_the_table_names_it() {
    assert_eq!(change(&draining(3, &[1]), &one(pods(3))), "bt");
}

#[test]
fn a_table_that_was_adopted_may_name_anybody() {
    let mut maps = Observed::default();
    run(&mut maps, &one(pods(3)), &HashMap::new());
    maps.tables.clear();
    let ops = run(&mut maps, &draining(3, &[1]), &HashMap::new());
    assert_eq!(letters(&ops), "tb");
}

#[test]
fn a_slot_that_a_table_names_is_not_given_away() {
    let mut maps = Observed::default();
    run(&mut maps, &one(pods(3)), &HashMap::new());
    let ops = plan(
        &one(pods(2)),
        &HashMap::new(),
        &maps,
        &PlanOptions::default(),
    )
    .unwrap();
    // The table could not be written.
    maps.apply(&ops[0]);
    let Op::SetBackend { slot, .. } = ops[0] else {
        panic!("{ops:?}");
    };
    maps.idle_gone = vec![slot];
    let ops = plan(
        &one(pods(2)),
        &HashMap::new(),
        &maps,
        &PlanOptions::default(),
    )
    .unwrap();
    assert_eq!(letters(&ops), "t");
}
