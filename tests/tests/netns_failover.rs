//! A pod that dies or hangs: its callers are told, and are at another pod within a blink.

use std::time::Duration;

use ingest_tests::monotonic_ns;
use ingest_tests::netns::{Family, Layout};
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions, LiveTransmit, PORT};
use ingest_tests::raw::icmp::{IcmpEar, TooBig, send_too_big};
use ingest_tests::scene::{LIMIT, Scene};
use ingest_tests::{median, milliseconds};

/// libsrt by itself needs 5 s: what comes back sooner was told.
const SOONER_THAN_LIBSRT: Duration = Duration::from_secs(3);

/// * ten times: the listener under an unmodified srt-live-transmit is killed;
/// * each time the encoder is connected to another pod, in the median sooner than 100 ms after the kill;
/// * all that arrives anywhere is what was sent.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn killed_listeners_streams_continue_elsewhere_within_100_ms() {
    // A pod that died is not trusted for 5 s. Were all distrusted, a caller could be sent to the one that died last.
    let mut scene = Scene::new(12, "auto").unwrap();
    let target = scene.target("live/cam1");
    let _encoder = LiveTransmit::start(&scene.topology.client, &target, 1, 4e6).unwrap();
    scene.wait_accepted("live/cam1", 0, LIMIT).unwrap();
    let mut times = Vec::new();
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(600));
        let pod = scene.seat("live/cam1").unwrap();
        let killed = scene.listeners[pod].kill().unwrap();
        let (to, accepted) = scene.wait_accepted("live/cam1", killed, LIMIT).unwrap();
        assert_ne!(to, pod);
        times.push(milliseconds(killed, accepted.t));
        scene.refresh(pod).unwrap();
    }
    println!("SIGKILL to connected elsewhere, ms: {times:.1?}");
    assert!(median(&mut times) < 100.0, "median of {times:?}");
    let all = scene
        .listeners
        .iter()
        .chain(scene.retired.iter().map(|(_, listener)| listener));
    for session in all.flat_map(ingest_tests::peers::Listener::sessions) {
        assert!(session.is_whole(), "{session:?}");
    }
}

/// * three times: the listener under an unmodified srt-live-transmit hangs (SIGSTOP);
/// * each time the encoder is connected to another pod, in the median sooner than 600 ms;
/// * all that arrives anywhere is what was sent.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn hung_listeners_streams_continue_elsewhere_within_600_ms() {
    let mut scene = Scene::new(5, "auto").unwrap();
    let target = scene.target("live/cam1");
    let _encoder = LiveTransmit::start(&scene.topology.client, &target, 1, 4e6).unwrap();
    scene.wait_accepted("live/cam1", 0, LIMIT).unwrap();
    let mut times = Vec::new();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        let pod = scene.seat("live/cam1").unwrap();
        let hung = scene.listeners[pod].hang().unwrap();
        let (to, accepted) = scene.wait_accepted("live/cam1", hung, LIMIT).unwrap();
        assert_ne!(to, pod);
        times.push(milliseconds(hung, accepted.t));
        scene.refresh(pod).unwrap();
    }
    println!("SIGSTOP to connected elsewhere, ms: {times:.1?}");
    assert!(median(&mut times) < 600.0, "median of {times:?}");
}

/// * a caller sends for a second, then nothing for six: only a keepalive a second goes;
/// * its session is never cut;
/// * what it sent has arrived.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_idle_session_is_never_cut() {
    let scene = Scene::new(2, "auto").unwrap();
    let options = CallerOptions {
        idle: 6.0,
        ..CallerOptions::lasting(2e6, 1.0)
    };
    let caller =
        Caller::start(&scene.topology.client, &scene.target("live/cam1"), &options).unwrap();
    caller.wait("done", 1, Duration::from_secs(15)).unwrap();
    assert!(
        caller.events().iter().all(|e| e.event != "broken"),
        "{:?}",
        caller.events()
    );
    let sent = caller.finish(LIMIT).unwrap();
    assert_eq!(scene.accepted("live/cam1", 0).len(), 1);
    let pod = scene.seat("live/cam1").unwrap();
    let session = scene.listeners[pod]
        .wait_closed("live/cam1", LIMIT)
        .unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{session:?}"
    );
}

/// * the host-side interface of a pod vanishes under its stream;
/// * the encoder is told, and is at another pod before libsrt would have noticed;
/// * new callers go elsewhere too.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_vanished_pod_port_ends_its_sessions() {
    for mode in ["redirect", "peer"] {
        let scene = Scene::new(3, mode).unwrap();
        scene.agent.wait_mode(mode).unwrap();
        let target = scene.target("live/cam1");
        let _encoder = LiveTransmit::start(&scene.topology.client, &target, 1, 4e6).unwrap();
        scene.wait_accepted("live/cam1", 0, LIMIT).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let pod = scene.seat("live/cam1").unwrap();
        let name = &scene.topology.pods[pod].name;
        let gone = monotonic_ns();
        scene
            .topology
            .node
            .shell(&format!("ip link delete {name}"))
            .unwrap();
        let (to, accepted) = scene
            .wait_accepted("live/cam1", gone, SOONER_THAN_LIBSRT)
            .unwrap();
        println!(
            "{mode}: pod port deleted to connected elsewhere: {:.1} ms",
            milliseconds(gone, accepted.t)
        );
        assert_ne!(to, pod);
        for number in 0..4 {
            let stream = format!("live/new{number}");
            let options = CallerOptions::lasting(1e6, 0.1);
            let caller =
                Caller::start(&scene.topology.client, &scene.target(&stream), &options).unwrap();
            caller.finish(LIMIT).unwrap();
            assert_ne!(scene.seat(&stream).unwrap(), pod);
        }
    }
}

/// * a router on the way to the client says "packet too big" to the VIP;
/// * the pod of that flow hears it, about its own address;
/// * IPv4 and IPv6.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn icmp_errors_reach_the_flows_pod() {
    for family in [Family::V4, Family::V6] {
        let options = ListenerOptions {
            family,
            ..ListenerOptions::default()
        };
        let scene = Scene::with(
            Layout {
                pods: 2,
                ..Layout::default()
            },
            "auto",
            &options,
        )
        .unwrap();
        let options = CallerOptions {
            idle: 5.0,
            ..CallerOptions::lasting(2e6, 0.3)
        };
        let _caller =
            Caller::start(&scene.topology.client, &scene.target("live/cam1"), &options).unwrap();
        let (seat, accepted) = scene.wait_accepted("live/cam1", 0, LIMIT).unwrap();
        let pod = &scene.topology.pods[seat];
        let ear = IcmpEar::open(&pod.netns, family == Family::V4).unwrap();
        let client = accepted.peer.parse().unwrap();
        send_too_big(&scene.topology.client, scene.vip(), client).unwrap();
        let heard = ear.hear_too_big(Duration::from_secs(2)).unwrap();
        let expected = TooBig {
            source: (pod.address(family), PORT).into(),
            target: client,
        };
        assert_eq!(heard, expected);
    }
}
