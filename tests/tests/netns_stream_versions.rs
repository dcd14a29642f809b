//! Callers and listeners of every libsrt, each with each, through a handshake that the node answers.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ingest_tests::agent::Agent;
use ingest_tests::config::{Backend, Config, Service};
use ingest_tests::netns::{CLIENT_V4, Family, Layout, Topology};
use ingest_tests::peers::{
    Caller, CallerOptions, LIBSRT_VERSIONS, Listener, ListenerEvent, ListenerOptions, PORT,
    Session, Target,
};
use ingest_tests::raw::caller::RawCaller;
use ingest_tests::scene::LIMIT;

const PASSPHRASE: &str = "correct horse battery";
/// Many processes at once on few processors.
const LATENCY_MS: u32 = 1000;

/// Waits until `count` sessions of `stream` are closed at `listener`.
fn closed(listener: &Listener, stream: &str, count: usize) -> Vec<Session> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let sessions: Vec<_> = listener
            .events()
            .into_iter()
            .filter_map(|event| match event {
                ListenerEvent::Closed(session) if session.streamid == stream => Some(session),
                _ => None,
            })
            .collect();
        if sessions.len() >= count || Instant::now() >= deadline {
            return sessions;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The listeners' cookies for one and the same caller, asked without a node between.
fn cookies(topology: &Topology) -> BTreeSet<u32> {
    let from = SocketAddr::from((CLIENT_V4, 45_000));
    let ask = |address| {
        let mut caller = RawCaller::open(&topology.client, from, address, 77).unwrap();
        caller.induce(LIMIT).unwrap().cookie
    };
    let pods = topology.pods.iter();
    pods.map(|pod| ask(SocketAddr::from((pod.v4, PORT))))
        .collect()
}

/// Sends streams from each version to each: one that a route takes to its pod by its Stream ID, one without that goes
/// to the only pod of its service. Asserts that each arrives whole, at its pod.
fn each_with_each(passphrase: Option<&str>) {
    let topology = Topology::with(Layout {
        pods: LIBSRT_VERSIONS.len(),
        ..Layout::default()
    })
    .unwrap();
    // Of other ages, so of other cookies: those of one would be those of all.
    let listeners: Vec<_> = (0..)
        .zip(LIBSRT_VERSIONS)
        .zip(&topology.pods)
        .map(|((minutes, version), pod)| {
            let options = ListenerOptions {
                passphrase: passphrase.map(str::to_owned),
                libsrt: Some(version),
                latency_ms: LATENCY_MS,
                age: minutes * 60,
                ..ListenerOptions::default()
            };
            Listener::start(&pod.netns, &pod.name, &options).unwrap()
        })
        .collect();
    assert_eq!(cookies(&topology).len(), listeners.len(), "equal cookies");
    let mut config = Config::of_family(&topology.pods, Family::V4).stream();
    config.services[0].routed_only = true;
    config.services[0].backends.clear();
    let ports = PORT + 1..;
    for ((version, pod), port) in LIBSRT_VERSIONS
        .iter()
        .zip(&topology.pods)
        .zip(ports.clone())
    {
        let name = format!("live/{}", pod.name);
        let prefix = format!("resource: {{ prefix: {version}/ }}");
        config.services.push(Service {
            name: name.clone(),
            port,
            routed_only: false,
            backends: vec![Backend::of(pod, Family::V4)],
            ..config.services[0].clone()
        });
        config = config.with_route(&format!("{name}-route"), &[&prefix], Some(&name), "");
    }
    // All callers have one address; pauses of a busy machine are no hung pods.
    let bounds = ["--induction-rate", "0", "--conclusion-rate", "0"];
    let patient = ["--silence", "3s"];
    let mut agent = Agent::install(&topology.node, &config, "redirect").unwrap();
    agent.run_with(&[&bounds[..], &patient].concat()).unwrap();
    agent.wait_ready().unwrap();
    agent.wait_mode("redirect").unwrap();
    let named = |from: &str, to: &str| format!("#!::r={to}/{from},m=publish");
    let call = |from: &'static str, stream: &str, port: u16| {
        let target = Target {
            address: SocketAddr::new(Family::V4.vip(), port),
            passphrase: passphrase.map(str::to_owned),
            latency_ms: LATENCY_MS,
            ..Target::new(Family::V4.vip(), stream)
        };
        let options = CallerOptions {
            libsrt: Some(from),
            ..CallerOptions::lasting(5e5, 1.5)
        };
        Caller::start(&topology.client, &target, &options).unwrap()
    };
    let mut callers = Vec::new();
    for from in LIBSRT_VERSIONS {
        for (to, port) in LIBSRT_VERSIONS.iter().zip(ports.clone()) {
            callers.push((from, to, call(from, &named(from, to), PORT)));
            callers.push((from, to, call(from, "", port)));
        }
    }
    let mut sent = 0;
    for (from, to, caller) in callers {
        caller.wait("done", 1, Duration::from_secs(20)).unwrap();
        let once = caller.events().iter().all(|event| event.event != "broken");
        assert!(once, "{from} to {to}: {:?}", caller.events());
        sent = caller.finish(LIMIT).expect(from);
    }
    for (to, listener) in LIBSRT_VERSIONS.iter().zip(&listeners) {
        let mut sessions = closed(listener, "", LIBSRT_VERSIONS.len());
        assert_eq!(
            sessions.len(),
            LIBSRT_VERSIONS.len(),
            "without Stream ID to {to}"
        );
        for from in LIBSRT_VERSIONS {
            let one = closed(listener, &named(from, to), 1);
            assert_eq!(one.len(), 1, "{from} to {to}");
            sessions.extend(one);
        }
        for session in sessions {
            assert!(
                session.is_whole() && session.messages == sent,
                "to {to}: {session:?}"
            );
        }
        // Nothing else, and nothing twice.
        assert_eq!(listener.accepted().len(), 2 * LIBSRT_VERSIONS.len(), "{to}");
    }
    let metric = |result: &str| {
        let label = format!("result=\"{result}\"");
        agent.metric("ingest_handshakes_total", &label).unwrap()
    };
    println!(
        "spliced {}, lazy {}, rewritten {}, surplus {}",
        metric("spliced"),
        metric("lazy"),
        metric("rewritten"),
        metric("surplus")
    );
    assert!(metric("spliced") >= 32.0, "sessions without a splice");
    assert!(metric("forged") + metric("stale") < 1.0);
}

/// * each version calls each, 16 by Stream ID and route and 16 without, at once, in the clear;
/// * pods' cookies differ;
/// * every message arrives once, at the pod that the route names, in one session.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_libsrt_is_routed_to_every_libsrt() {
    each_with_each(None);
}

/// * the same with a passphrase.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_libsrt_is_routed_to_every_libsrt_encrypted() {
    each_with_each(Some(PASSPHRASE));
}
