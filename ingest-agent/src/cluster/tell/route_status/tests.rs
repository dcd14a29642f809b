//! When something is to be written, and what.

use proptest::prelude::*;

use super::*;
use crate::reconcile::{Quota, Target};

const GENERATION: i64 = 3;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn verdict(holds: bool, reason: &'static str) -> Verdict {
    Verdict {
        holds,
        reason,
        message: format!("{reason} it is."),
    }
}

fn route(pool: &str) -> Route {
    Route {
        name: "live/acme".to_owned(),
        service: "live/ingest".to_owned(),
        matches: Vec::new(),
        target: Target::Pool(pool.to_owned()),
        quota: Quota::default(),
        thresholds: ingest_common::abi::Thresholds::default(),
    }
}

/// One that has become `live/acme`.
fn state() -> RouteState {
    RouteState {
        generation: GENERATION,
        version: "7".to_owned(),
        accepted: verdict(true, "Accepted"),
        resolved: verdict(true, "ResolvedRefs"),
        becomes: Ok(["live/acme".to_owned()].into()),
        written: Vec::new(),
    }
}

fn holding(pool: &str) -> InForce {
    InForce {
        routes: [("live/acme".to_owned(), route(pool))].into(),
        refused: None,
    }
}

fn refusing() -> InForce {
    InForce {
        refused: Some("full".to_owned()),
        ..InForce::default()
    }
}

fn due(state: &RouteState, in_force: &InForce, second: i64) -> Option<Vec<Condition>> {
    let wanted = route("live/acme");
    let desired = [("live/acme", &wanted)].into();
    conditions(state, &desired, in_force, at(second))
}

/// Writes what is due.
fn write(state: &mut RouteState, in_force: &InForce, second: i64) -> bool {
    let due = due(state, in_force, second);
    let written = due.is_some();
    state.written = due.unwrap_or_else(|| state.written.clone());
    written
}

fn words(state: &RouteState) -> Vec<String> {
    let all = state.written.iter();
    all.map(|c| format!("{} {} {}", c.type_, c.status, c.reason))
        .collect()
}

#[test]
fn programmed_follows_the_maps_and_then_nothing_is_due() {
    let mut state = state();
    assert!(write(&mut state, &InForce::default(), 0));
    assert_eq!(
        words(&state),
        ["Accepted True Accepted", "ResolvedRefs True ResolvedRefs"]
    );
    assert!(due(&state, &InForce::default(), 1).is_none());
    // The old one of the name, which leads elsewhere.
    assert!(due(&state, &holding("live/other"), 1).is_none());
    assert!(write(&mut state, &holding("live/acme"), 2));
    assert_eq!(words(&state)[2], "Programmed True Programmed");
    assert!(due(&state, &holding("live/acme"), 3).is_none());
}

#[test]
fn who_has_it_not_says_so_only_where_nobody_has_it() {
    let mut state = state();
    assert!(write(&mut state, &refusing(), 0));
    assert_eq!(words(&state)[2], "Programmed False Refused");
    assert!(due(&state, &refusing(), 1).is_none());
    // Another node's has it: that stays.
    assert!(write(&mut state, &holding("live/acme"), 2));
    assert!(due(&state, &refusing(), 3).is_none());
    assert!(due(&state, &InForce::default(), 3).is_none());
    // But for another generation the word is free.
    state.generation += 1;
    assert!(write(&mut state, &refusing(), 4));
    assert_eq!(words(&state)[2], "Programmed False Refused");
}

#[test]
fn the_time_of_a_condition_is_when_its_status_changed() {
    let mut state = state();
    write(&mut state, &holding("live/acme"), 0);
    state.generation += 1;
    assert!(write(&mut state, &holding("live/acme"), 5));
    assert!(
        state
            .written
            .iter()
            .all(|c| c.last_transition_time == Time(at(0)))
    );
    assert!(
        state
            .written
            .iter()
            .all(|c| c.observed_generation == Some(GENERATION + 1))
    );
    state.accepted = verdict(false, "Conflict");
    state.becomes = Err(verdict(false, "NotAccepted"));
    assert!(write(&mut state, &holding("live/acme"), 9));
    let times = state.written.iter().map(|c| c.last_transition_time.0);
    assert_eq!(times.collect::<Vec<_>>(), [at(9), at(0), at(9)]);
}

#[test]
fn what_others_wrote_there_is_left_alone() {
    let mut state = state();
    write(&mut state, &holding("live/acme"), 0);
    let mut other = state.written[0].clone();
    other.type_ = "Billed".to_owned();
    state.written.push(other);
    assert!(due(&state, &holding("live/acme"), 1).is_none());
    state.generation += 1;
    let due = due(&state, &holding("live/acme"), 1).unwrap();
    assert_eq!(due.len(), 3);
}

proptest! {
    /// Agents whose maps differ come to rest, whoever writes next.
    #[test]
    fn agents_do_not_take_turns(
        nodes in prop::collection::vec(0_u8..3, 2..5),
        turns in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let nodes: Vec<_> = nodes
            .into_iter()
            .map(|kind| match kind {
                0 => InForce::default(),
                1 => refusing(),
                _ => holding("live/acme"),
            })
            .collect();
        let mut state = state();
        let mut writes = 0;
        for (second, turn) in (0..).zip(&turns) {
            writes += usize::from(write(&mut state, turn.get(&nodes), second));
        }
        // What all say alike, then a refusal, then somebody's success.
        prop_assert!(writes <= 3, "{writes}");
    }
}
