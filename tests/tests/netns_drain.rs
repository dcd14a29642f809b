//! Draining: sessions stay, new ones go elsewhere, and at the deadline both ends are told.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::time::Duration;

use ingest_tests::monotonic_ns;
use ingest_tests::peers::{Caller, CallerOptions};
use ingest_tests::scene::{LIMIT, Scene};

/// Starts a caller that stays for `seconds`, and says at which pod it is.
fn stay(scene: &Scene, stream: &str, seconds: f64) -> (Caller, usize) {
    let target = scene.target(stream);
    let options = CallerOptions::lasting(2e6, seconds);
    let caller = Caller::start(&scene.topology.client, &target, &options).unwrap();
    let (pod, _) = scene.wait_accepted(stream, 0, LIMIT).unwrap();
    (caller, pod)
}

/// Asserts that six new callers all go elsewhere than `pod`.
fn new_ones_avoid(scene: &Scene, pod: usize, what: &str) {
    let callers: Vec<_> = (0..6)
        .map(|number| stay(scene, &format!("live/{what}{number}"), 0.1))
        .collect();
    for (caller, seat) in callers {
        assert_ne!(seat, pod, "{what}");
        caller.finish(LIMIT).unwrap();
    }
}

fn state_of(scene: &Scene, pod: usize, field: &str, value: &str) {
    let name = format!("live/{}", scene.topology.pods[pod].name);
    scene
        .agent
        .wait_json(&["backends"], LIMIT, |rows| {
            let row = rows
                .as_array()?
                .iter()
                .find(|row| row["name"] == name.as_str())?;
            (row[field] == value).then_some(())
        })
        .unwrap();
}

/// * a pod becomes terminating: its session stays and loses nothing;
/// * new callers go elsewhere;
/// * the pod leaves the file: its session ends at both ends, and continues at another pod.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_terminating_pod_keeps_its_sessions_until_it_is_gone() {
    let scene = Scene::new(3, "auto").unwrap();
    let (caller, pod) = stay(&scene, "live/cam1", 5.0);
    let name = &scene.topology.pods[pod].name;
    scene.reload(&scene.config.clone().draining(name)).unwrap();
    state_of(&scene, pod, "state", "draining");
    new_ones_avoid(&scene, pod, "while-draining");
    assert_eq!(
        scene.accepted("live/cam1", 0).len(),
        1,
        "the session did not stay"
    );

    let gone = monotonic_ns();
    scene.reload(&scene.config.clone().without(name)).unwrap();
    let (to, _) = scene
        .wait_accepted("live/cam1", gone, Duration::from_secs(2))
        .unwrap();
    assert_ne!(to, pod);
    let closed = scene.listeners[pod]
        .wait_closed("live/cam1", Duration::from_secs(2))
        .unwrap();
    assert!(closed.is_whole() && closed.messages > 0, "{closed:?}");
    caller.finish(LIMIT).unwrap();
}

/// * an operator drains a backend by the command line: its session stays, new callers go elsewhere;
/// * `--cancel` takes it back: new callers go there too;
/// * the session never moved and lost nothing.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_operators_drain_can_be_taken_back() {
    let scene = Scene::new(2, "auto").unwrap();
    let (caller, pod) = stay(&scene, "live/cam1", 4.0);
    let backend = format!("live/{}", scene.topology.pods[pod].name);
    let drained = scene.agent.json(&["drain", &backend]).unwrap();
    assert_eq!(drained[0]["flows"], 1, "{drained}");
    new_ones_avoid(&scene, pod, "while-drained");

    scene.agent.json(&["drain", &backend, "--cancel"]).unwrap();
    let callers: Vec<_> = (0..12)
        .map(|number| stay(&scene, &format!("live/after{number}"), 0.1))
        .collect();
    assert!(
        callers.iter().any(|(_, seat)| *seat == pod),
        "nobody goes there again"
    );
    for (after, _) in callers {
        after.finish(LIMIT).unwrap();
    }
    let sent = caller.finish(LIMIT).unwrap();
    assert_eq!(scene.accepted("live/cam1", 0).len(), 1);
    let session = scene.listeners[pod]
        .wait_closed("live/cam1", LIMIT)
        .unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{session:?}"
    );
}

/// * a backend is drained with a deadline: until then its session stays;
/// * then both ends are told: the listener's session closes, and the caller is at another pod;
/// * all that came before the deadline is whole.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_drain_deadline_ends_both_ends() {
    let scene = Scene::new(2, "auto").unwrap();
    let (caller, pod) = stay(&scene, "live/cam1", 4.0);
    let backend = format!("live/{}", scene.topology.pods[pod].name);
    let told = monotonic_ns();
    scene
        .agent
        .json(&["drain", &backend, "--deadline", "1500ms", "--window", "0s"])
        .unwrap();
    let (to, accepted) = scene
        .wait_accepted("live/cam1", told, Duration::from_secs(3))
        .unwrap();
    assert_ne!(to, pod);
    let stayed = Duration::from_nanos(accepted.t - told);
    assert!(
        stayed > Duration::from_millis(1400),
        "moved after {stayed:?}"
    );
    let closed = scene.listeners[pod]
        .wait_closed("live/cam1", Duration::from_secs(1))
        .unwrap();
    assert!(closed.is_whole(), "{closed:?}");
    caller.finish(LIMIT).unwrap();
}
