//! The agent on the running kernel, whichever it is: the programs load, a real session is steered, an agent is
//! replaced, and nothing stays behind. `cargo xtask test --tier kernels` runs it here and on other kernels under qemu.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::time::Duration;

use ingest_tests::monotonic_ns;
use ingest_tests::netns::{Family, Layout};
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions};
use ingest_tests::scene::{LIMIT, Scene};
use ingest_tests::xdp::PassAll;

/// Callers send 2 Mbit/s: an emulated CPU is slow.
const RATE: f64 = 2e6;

/// Who answers callers' handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// The pods.
    Client,
    /// The node, and its answers leave by this.
    Stream(&'static str),
}

/// A node with that many pods. The latency gives losses by a slow CPU time to heal.
fn scene(pods: usize, family: Family, handshake: Handshake) -> Scene {
    let layout = Layout {
        pods,
        ..Layout::default()
    };
    let options = ListenerOptions {
        family,
        latency_ms: 1000,
        ..ListenerOptions::default()
    };
    let by = match handshake {
        Handshake::Client => "auto",
        Handshake::Stream(by) => by,
    };
    Scene::changed(
        layout,
        "auto",
        &options,
        &["--answer-by", by],
        |config, _| match handshake {
            Handshake::Client => config,
            Handshake::Stream(_) => config.stream(),
        },
    )
    .unwrap()
}

fn stream(scene: &Scene, seconds: f64) -> Caller {
    let options = CallerOptions::lasting(RATE, seconds);
    let caller =
        Caller::start(&scene.topology.client, &scene.target("live/cam1"), &options).unwrap();
    scene.wait_accepted("live/cam1", 0, LIMIT).unwrap();
    caller
}

/// Asserts that the stream ended by itself, in one session, with every byte.
fn nothing_was_lost(scene: &Scene, caller: Caller) {
    let sent = caller.finish(Duration::from_secs(20)).unwrap();
    let sessions: Vec<_> = scene.accepted("live/cam1", 0);
    assert_eq!(sessions.len(), 1, "the session was cut");
    let session = scene.listeners[sessions[0].0]
        .wait_closed("live/cam1", LIMIT)
        .unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{sent} sent, {session:?}"
    );
}

/// The running kernel, as two numbers.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().unwrap().parse().unwrap();
    (next(), next())
}

/// The names of the tc programs at a hook of an interface of the node.
fn filters(scene: &Scene, interface: &str, hook: &str) -> String {
    let node = &scene.topology.node;
    node.shell(&format!("tc filter show dev {interface} {hook}"))
        .unwrap()
}

/// Streams to a listener through the VIP, and asserts that every message arrives in one session.
fn session(family: Family, handshake: Handshake) {
    let scene = scene(2, family, handshake);
    // What XDP sends back to a veth needs a program there; what tc sends does not.
    let _pass = (handshake == Handshake::Stream("xdp"))
        .then(|| PassAll::attach(&scene.topology.client, "eth0").unwrap());
    let caller = stream(&scene, 1.5);
    nothing_was_lost(&scene, caller);
    let status = scene.agent.json(&["status"]).unwrap();
    let drops = status["drops"].as_object().unwrap();
    let expected = ["probe_reply", "handshake_spliced"];
    assert!(
        drops
            .keys()
            .all(|reason| expected.contains(&reason.as_str())),
        "{family:?} {handshake:?}: {status}"
    );
    let spliced = status["splices"]["splices"].as_u64().unwrap() > 0;
    assert_eq!(spliced, handshake != Handshake::Client, "{status}");
}

/// * a real caller reaches a real listener through the VIP, IPv4 and IPv6, and the pod answers its handshake;
/// * every message arrives.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_session_is_whole() {
    session(Family::V4, Handshake::Client);
    session(Family::V6, Handshake::Client);
}

/// * the same, but the node answers, by tc and by XDP, and splices the handshake.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_session_whose_handshake_the_node_answers_is_whole() {
    session(Family::V4, Handshake::Stream("tc"));
    session(Family::V6, Handshake::Stream("tc"));
    session(Family::V4, Handshake::Stream("xdp"));
}

/// * a listener is killed; its caller is told, and is at another pod at once.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_killed_listeners_caller_is_told() {
    let mut scene = scene(2, Family::V4, Handshake::Client);
    let caller = stream(&scene, 60.0);
    std::thread::sleep(Duration::from_millis(500));
    let pod = scene.seat("live/cam1").unwrap();
    scene.listeners[pod].kill().unwrap();
    // libsrt by itself needs 5 s.
    caller.wait("broken", 1, Duration::from_secs(3)).unwrap();
    let again = monotonic_ns();
    let _caller = stream(&scene, 60.0);
    let (to, _) = scene.wait_accepted("live/cam1", again, LIMIT).unwrap();
    assert_ne!(to, pod);
}

/// * `status` says how the tc programs are attached, and they are;
/// * the agent is killed under a stream and another takes over: no byte is lost, and no packet is the host's;
/// * `unload` removes every program.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_agent_is_replaced_and_unloaded() {
    let mut scene = scene(1, Family::V4, Handshake::Client);
    let clsact = kernel() < (6, 6);
    let places = [
        ("eth0", "ingress", "tc_uplink_in"),
        ("eth0", "egress", "tc_uplink_out"),
        ("pod-a", "ingress", "tc_pod"),
    ];
    let caller = stream(&scene, 4.0);
    for turn in 0..3 {
        let status = scene.agent.json(&["status"]).unwrap();
        let tc = if clsact { "clsact" } else { "tcx" };
        assert_eq!(status["tc"], tc, "{status}");
        for (interface, hook, program) in places {
            let filters = filters(&scene, interface, hook);
            // tc says a program's name twice.
            let ours = filters.lines().filter(|line| line.contains(program));
            assert_eq!(ours.count(), usize::from(clsact), "turn {turn}: {filters}");
        }
        if turn < 2 {
            scene.agent.kill().unwrap();
            scene.agent.run().unwrap();
            scene.agent.wait_ready().unwrap();
        }
    }
    nothing_was_lost(&scene, caller);
    let passes = &scene.agent.json(&["status"]).unwrap()["passes"];
    assert_eq!(passes, &serde_json::json!({}));

    scene.agent.stop().unwrap();
    let unloaded = scene.agent.cli(&["unload"]).unwrap();
    assert!(unloaded.status.success(), "{unloaded:?}");
    let link = scene.topology.node.shell("ip -details link show dev eth0");
    assert!(!link.unwrap().contains("xdp"));
    for (interface, hook, program) in places {
        let filters = filters(&scene, interface, hook);
        assert!(!filters.contains(program), "{filters}");
    }
}

/// * a service is added with source ranges, and another pod, under a running agent;
/// * callers of the ranges get in.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn tables_and_ranges_are_rewritten() {
    let scene = scene(2, Family::V4, Handshake::Client);
    let mut config = scene.config.clone().without("pod-a");
    config.services[0].source_ranges = vec!["10.1.0.0/16".to_owned(), "10.9.0.0/16".to_owned()];
    scene.reload(&config).unwrap();
    let backends = |count: usize| {
        let ask = |answer: &serde_json::Value| (answer.as_array()?.len() == count).then_some(());
        scene.agent.wait_json(&["backends"], LIMIT, ask).unwrap();
    };
    backends(1);
    let caller = stream(&scene, 0.5);
    nothing_was_lost(&scene, caller);
    assert_eq!(scene.seat("live/cam1").unwrap(), 1);
    scene.reload(&scene.config).unwrap();
    backends(2);
    let doctor = scene
        .agent
        .cli(&["-o", "json", "doctor", "--uplink", "eth0"]);
    let checks: serde_json::Value = serde_json::from_slice(&doctor.unwrap().stdout).unwrap();
    let mut checks = checks.as_array().unwrap().iter();
    let kernel = checks.find(|check| check["name"] == "kernel").unwrap();
    assert_ne!(kernel["grade"], "fail", "{kernel}");
}
