//! Handshakes that go wrong half-way: repeated, half dead, held up, without what was kept.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ingest_tests::command;
use ingest_tests::config::{Backend, Service};
use ingest_tests::fixtures::srt::induction;
use ingest_tests::netns::{CLIENT_V4, Family, Layout};
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions};
use ingest_tests::raw::caller::{Answer, CONCLUSION, RawCaller};
use ingest_tests::scene::{LIMIT, Scene};
use serde_json::Value;

const STREAM: &str = "#!::r=live/cam1,m=publish";
/// Time for what must not come.
const QUIET: Duration = Duration::from_millis(400);

/// `pods` pods of different ages behind one service, whose handshakes are answered.
fn scene(pods: usize) -> Scene {
    let layout = Layout {
        pods,
        ..Layout::default()
    };
    let options = ListenerOptions {
        age: 60,
        ..ListenerOptions::default()
    };
    let unbounded = ["--induction-rate", "0", "--conclusion-rate", "0"];
    Scene::changed(layout, "auto", &options, &unbounded, |config, _| {
        config.stream()
    })
    .unwrap()
}

fn caller(scene: &Scene, caller_id: u32) -> RawCaller {
    let from = SocketAddr::from((CLIENT_V4, 0));
    let mut caller = RawCaller::open(&scene.topology.client, from, scene.vip(), caller_id).unwrap();
    caller.induce(LIMIT).unwrap();
    caller
}

/// The pod of `stream`, found by a caller of its own.
fn pod_of(scene: &Scene, stream: &str) -> usize {
    caller(scene, 99).conclude(stream, LIMIT).unwrap();
    let (pod, _) = scene.wait_accepted(stream, 0, LIMIT).unwrap();
    pod
}

/// Sessions of `stream` so far; at least `count`, since listeners tell of one a moment after they answered.
fn sessions(scene: &Scene, stream: &str, count: usize) -> usize {
    let deadline = Instant::now() + QUIET;
    loop {
        let sessions = scene.accepted(stream, 0).len();
        if sessions >= count || Instant::now() >= deadline {
            return sessions;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn handshakes(scene: &Scene, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    let value = scene.agent.metric("ingest_handshakes_total", &label);
    value.unwrap()
}

/// Deletes every entry of map `name`. How many there were.
fn empty(scene: &Scene, name: &str) -> usize {
    let pins = scene.agent.pins(name).unwrap();
    let [pin] = &pins[..] else {
        panic!("{name} is pinned at {pins:?}")
    };
    let pin = pin.to_str().unwrap();
    let dump = command::run("bpftool", &["-j", "map", "dump", "pinned", pin]).unwrap();
    let entries: Vec<Value> = serde_json::from_str(&dump).unwrap();
    for entry in &entries {
        let key = entry["key"].as_array().unwrap();
        let mut delete = vec!["map", "delete", "pinned", pin, "key"];
        delete.extend(key.iter().map(|byte| byte.as_str().unwrap()));
        command::run("bpftool", &delete).unwrap();
    }
    entries.len()
}

/// * a CONCLUSION comes five times at once, and again later, as over a bad network;
/// * each is answered by one and the same session;
/// * no INDUCTION response comes beside the first, not even to an INDUCTION that was late: it would break libsrt 1.5.7.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_repeated_conclusion_is_one_session() {
    let scene = scene(4);
    let caller = caller(&scene, 4711);
    let packet = caller.conclusion(STREAM).bytes();
    let mut answers = Vec::new();
    for _ in 0..3 {
        for _ in 0..5 {
            caller.send(&packet).unwrap();
        }
        answers.extend(caller.hear_all(QUIET).unwrap());
    }
    caller.send(&induction().of(4711).bytes()).unwrap();
    answers.extend(caller.hear_all(QUIET).unwrap());
    assert!(answers.len() >= 3, "{answers:x?}");
    let ids: std::collections::BTreeSet<_> = answers.iter().map(|a| a.socket_id).collect();
    assert_eq!(ids.len(), 1, "{answers:x?}");
    assert!(answers.iter().all(|a| a.kind == CONCLUSION), "{answers:x?}");
    assert_eq!(sessions(&scene, STREAM, 1), 1);
    println!(
        "15 CONCLUSIONs: {} answers, {} spliced, {} rewritten, {} surplus",
        answers.len(),
        handshakes(&scene, "spliced"),
        handshakes(&scene, "rewritten"),
        handshakes(&scene, "surplus")
    );
}

/// * a caller comes again from the same address and port with another socket id, before anybody noticed its end;
/// * and once more with another Stream ID, that belongs to another pod;
/// * each is a session, at the pod of its name.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_same_port_connects_again_with_another_socket() {
    let scene = scene(4);
    let here = pod_of(&scene, STREAM);
    let elsewhere = (0..50)
        .map(|number| format!("#!::r=live/other{number}"))
        .find(|stream| pod_of(&scene, stream) != here)
        .unwrap();
    let mut caller = caller(&scene, 4711);
    let before = [STREAM, &elsewhere].map(|stream| sessions(&scene, stream, 1));
    for (caller_id, stream) in [(4711, STREAM), (4710, STREAM), (4709, &elsewhere)] {
        caller.caller_id = caller_id;
        caller.induce(LIMIT).unwrap();
        let (_, answer) = caller.conclude(stream, LIMIT).unwrap();
        assert_eq!((answer.kind, answer.destination), (CONCLUSION, caller_id));
    }
    std::thread::sleep(QUIET);
    assert_eq!(sessions(&scene, STREAM, 0), before[0] + 2);
    assert_eq!(sessions(&scene, &elsewhere, 0), before[1] + 1);
    assert_eq!(scene.seat(STREAM).unwrap(), here);
    assert_ne!(scene.seat(&elsewhere).unwrap(), here);
}

/// * the pod of a Stream ID is killed after the INDUCTION was answered, or hangs with the CONCLUSION under way;
/// * the caller's next retries open the session at another pod, soon;
/// * exactly one, also when the pod that hung goes on.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_pod_that_fails_between_the_handshakes_is_replaced() {
    for hangs in [false, true] {
        let mut scene = scene(4);
        let pod = pod_of(&scene, STREAM);
        let before = sessions(&scene, STREAM, 1);
        let caller = caller(&scene, 4711);
        if hangs {
            scene.listeners[pod].hang().unwrap();
        } else {
            scene.listeners[pod].kill().unwrap();
        }
        let (tries, answer) = caller.conclude(STREAM, Duration::from_secs(2)).unwrap();
        println!("hangs {hangs}: connected by CONCLUSION number {tries}");
        assert_eq!(answer.kind, CONCLUSION, "hangs {hangs}: {answer:x?}");
        assert_eq!(sessions(&scene, STREAM, before + 1), before + 1);
        let other = scene.seat(STREAM).unwrap();
        if hangs {
            scene.listeners[pod].resume().unwrap();
        }
        let late = caller.hear_all(QUIET).unwrap();
        assert!(late.iter().all(|a| a.kind == CONCLUSION), "{late:x?}");
        assert_ne!(other, pod, "hangs {hangs}");
        assert_eq!(sessions(&scene, STREAM, 0), before + 1, "hangs {hangs}");
    }
}

/// * the only pod is stopped, and three CONCLUSIONs of a caller queue there;
/// * it goes on: one session, one answer, and no INDUCTION response to the caller.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn three_conclusions_at_a_stopped_pod_are_one_session() {
    let scene = scene(1);
    pod_of(&scene, "#!::r=live/warm-up");
    let caller = caller(&scene, 4711);
    scene.listeners[0].hang().unwrap();
    for _ in 0..3 {
        caller.send(&caller.conclusion(STREAM).bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    scene.listeners[0].resume().unwrap();
    let answers = caller.hear_all(QUIET).unwrap();
    println!(
        "{} answers, {} spliced, {} surplus",
        answers.len(),
        handshakes(&scene, "spliced"),
        handshakes(&scene, "surplus")
    );
    assert_eq!(answers.len(), 1, "{answers:x?}");
    assert_eq!(answers[0].kind, CONCLUSION, "{answers:x?}");
    assert_eq!(sessions(&scene, STREAM, 1), 1);
    assert!(handshakes(&scene, "surplus") >= 1.0);
}

/// * what was kept of the CONCLUSION is gone when the pod's cookie comes;
/// * nothing is sent then, and the caller's retry opens the session;
/// * so with a real caller too, in the second that libsrt takes for a retry.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_the_kept_conclusion_the_retry_connects() {
    let scene = scene(1);
    pod_of(&scene, "#!::r=live/warm-up");
    let raw = caller(&scene, 4711);
    scene.listeners[0].hang().unwrap();
    raw.send(&raw.conclusion(STREAM).bytes()).unwrap();
    assert!(empty(&scene, "SPLICES") >= 1);
    scene.listeners[0].resume().unwrap();
    let early = raw.hear(QUIET).unwrap();
    assert_eq!(early, None::<Answer>);
    assert_eq!(sessions(&scene, STREAM, 0), 0);
    assert!(handshakes(&scene, "lazy") >= 1.0);
    let (tries, answer) = raw.conclude(STREAM, LIMIT).unwrap();
    assert_eq!((tries, answer.kind), (1, CONCLUSION), "{answer:x?}");
    assert_eq!(sessions(&scene, STREAM, 1), 1);

    let real = "#!::r=live/cam2";
    scene.listeners[0].hang().unwrap();
    let options = CallerOptions::lasting(1e6, 0.5);
    let encoder = Caller::start(&scene.topology.client, &scene.target(real), &options).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(empty(&scene, "SPLICES") >= 1);
    scene.listeners[0].resume().unwrap();
    let connected = encoder.wait("connected", 1, LIMIT).unwrap();
    println!("lazy, libsrt's blocking caller: {}", connected.detail);
    let sent = encoder.finish(LIMIT).unwrap();
    let session = scene.listeners[0].wait_closed(real, LIMIT).unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{session:?}"
    );
}

/// * pods come and go while a caller that was routed is connected: its session stays;
/// * nor does it end when its route goes: that is for new sessions.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_change_of_the_pool_moves_no_session() {
    let layout = Layout {
        pods: 4,
        ..Layout::default()
    };
    let options = ListenerOptions::default();
    let scene = Scene::changed(layout, "auto", &options, &[], |config, pods| {
        let mut config = config.stream();
        config.services[0].backends.truncate(1);
        let backends = pods[1..3].iter().map(|pod| Backend::of(pod, Family::V4));
        config
            .services
            .push(Service::pool("live/acme", backends.collect()));
        config.with_route(
            "live/acme-route",
            &["resource: { prefix: acme/ }"],
            Some("live/acme"),
            "",
        )
    })
    .unwrap();
    let stream = "#!::r=acme/cam1,m=publish";
    let options = CallerOptions {
        idle: 1.5,
        ..CallerOptions::lasting(2e6, 1.0)
    };
    let encoder = Caller::start(&scene.topology.client, &scene.target(stream), &options).unwrap();
    let (pod, _) = scene.wait_accepted(stream, 0, LIMIT).unwrap();
    assert!((1..3).contains(&pod), "{pod}");
    let mut config = scene.config.clone();
    let newcomer = Backend::of(&scene.topology.pods[3], Family::V4);
    config.services[1].backends.push(newcomer);
    scene.reload(&config).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    // The route goes too: only new sessions are asked for it.
    config.routes.clear();
    scene.reload(&config).unwrap();
    let other = "#!::r=acme/cam2,m=publish";
    std::thread::sleep(Duration::from_millis(500));
    let brief = CallerOptions::lasting(1e6, 0.1);
    let second = Caller::start(&scene.topology.client, &scene.target(other), &brief).unwrap();
    second.finish(LIMIT).unwrap();
    assert_eq!(scene.seat(other).unwrap(), 0, "no route: the default pool");
    let sent = encoder.finish(LIMIT).unwrap();
    let session = scene.listeners[pod].wait_closed(stream, LIMIT).unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{session:?}"
    );
    assert_eq!(sessions(&scene, stream, 0), 1);
}
