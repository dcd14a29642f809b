//! Each customer has its pods, and what one does is nothing to another.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ingest_tests::config::{Backend, Config, Service};
use ingest_tests::fixtures::srt;
use ingest_tests::netns::{CLIENT_V4, Family, Layout, Pod};
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions, PORT, Target};
use ingest_tests::raw::caller::{CONCLUSION, INDUCTION, RawCaller};
use ingest_tests::raw::pod::RawPod;
use ingest_tests::scene::{LIMIT, Scene};

/// A second address of the client.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);
/// Without a bound for single sources; and pauses of a busy machine are no hung pods.
const ARGUMENTS: [&str; 6] = [
    "--induction-rate",
    "0",
    "--conclusion-rate",
    "0",
    "--silence",
    "3s",
];
/// The port of a service that takes only what routes match.
const STRICT: u16 = PORT + 1;

fn scene(pods: usize, change: impl FnOnce(Config, &[Pod]) -> Config) -> Scene {
    let layout = Layout {
        pods,
        ..Layout::default()
    };
    let options = ListenerOptions::default();
    let scene = Scene::changed(layout, "auto", &options, &ARGUMENTS, |config, pods| {
        change(config.stream(), pods)
    });
    let scene = scene.unwrap();
    let address = format!("ip address add {NEIGHBOUR}/24 dev eth0");
    scene.topology.client.shell(&address).unwrap();
    scene
}

/// With a pool of one pod, that only routes name.
fn with_pool(mut config: Config, name: &str, pod: &Pod) -> Config {
    let backends = vec![Backend::of(pod, Family::V4)];
    config.services.push(Service::pool(name, backends));
    config
}

fn call(scene: &Scene, stream: &str, options: &CallerOptions) -> Caller {
    Caller::start(&scene.topology.client, &scene.target(stream), options).unwrap()
}

/// Why the first attempt of `caller` was refused: a wire code, less 1000.
fn refusal(caller: &Caller) -> i32 {
    caller.wait("refused", 1, LIMIT).unwrap().reason
}

/// * by resource, mode, user, whole Stream ID and source: each stream is at the pod that the most special route names;
/// * the mode decides between pools of one customer, the longer prefix between customers;
/// * a route that rejects, and none where one is needed, are told to a real caller by libsrt's own reasons.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_most_special_route_names_the_pod() {
    let scene = scene(6, |mut config, pods| {
        let (acme, none) = ("resource: { prefix: acme/ }", "");
        config.services[0].backends.truncate(1);
        let strict = Service {
            name: "live/strict".to_owned(),
            port: STRICT,
            routed_only: true,
            ..config.services[0].clone()
        };
        let names = ["publish", "request", "vip", "user", "near"];
        for (name, pod) in names.iter().zip(&pods[1..]) {
            config = with_pool(config, &format!("live/{name}"), pod);
        }
        config.services.push(strict);
        let publish = format!("{acme}, mode: publish");
        let request = format!("{acme}, mode: request");
        config
            .with_route("live/r1", &[&publish], Some("live/publish"), none)
            .with_route("live/r2", &[&request], Some("live/request"), none)
            .with_route(
                "live/r3",
                &[
                    "resource: { prefix: acme/vip/ }",
                    "streamId: { exact: plain }",
                ],
                Some("live/vip"),
                none,
            )
            .with_route(
                "live/r4",
                &["user: { exact: bob }"],
                Some("live/user"),
                none,
            )
            .with_route("live/r5", &["source: 10.1.0.3/32"], Some("live/near"), none)
            .with_route("live/r6", &["resource: { prefix: banned/ }"], None, none)
    });
    let far = CLIENT_V4;
    let cases = [
        (far, "#!::r=acme/1,m=publish", 1),
        (far, "#!::m=request,r=acme/1", 2),
        (far, "#!::r=acme/2", 0),
        (far, "#!::r=acme/vip/1,m=publish", 3),
        (far, "plain", 3),
        (far, "plainer", 0),
        (far, "#!::u=bob,r=elsewhere/1", 4),
        (far, "#!::u=bobby,r=elsewhere/2", 0),
        (far, "", 0),
        (NEIGHBOUR, "#!::r=elsewhere/3", 5),
        (NEIGHBOUR, "#!::r=acme/3,m=publish", 1),
    ];
    let callers = cases.map(|(from, stream, _)| {
        let options = CallerOptions {
            from: Some(from.into()),
            ..CallerOptions::lasting(5e5, 0.3)
        };
        call(&scene, stream, &options)
    });
    for ((from, stream, pod), caller) in cases.into_iter().zip(callers) {
        caller.finish(LIMIT).unwrap();
        let accepted = scene.accepted(stream, 0);
        assert_eq!(accepted.len(), 1, "{from} {stream}: {accepted:?}");
        assert_eq!(accepted[0].0, pod, "{from} {stream}");
    }
    let banned = call(&scene, "#!::r=banned/1", &CallerOptions::lasting(1e6, 0.1));
    assert_eq!(refusal(&banned), 1403);
    let strict = Target {
        address: SocketAddr::new(Family::V4.vip(), STRICT),
        ..scene.target("#!::r=elsewhere/4")
    };
    let brief = CallerOptions::lasting(1e6, 0.1);
    let unrouted = Caller::start(&scene.topology.client, &strict, &brief).unwrap();
    assert_eq!(refusal(&unrouted), 1404);
    let codes = ["2403", "2404"].map(|code| {
        let label = format!("code=\"{code}\"");
        scene
            .agent
            .metric("ingest_rejections_total", &label)
            .unwrap()
    });
    assert!(codes.iter().all(|&count| count >= 1.0), "{codes:?}");
}

/// * a caller that is rejected and comes again as fast as it can is told once a second, and else hears nothing;
/// * no pod hears of it.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn rejections_are_said_once_a_second() {
    let scene = scene(1, |mut config, _| {
        config.services[0].routed_only = true;
        config
    });
    let from = SocketAddr::from((CLIENT_V4, 0));
    let mut caller = RawCaller::open(&scene.topology.client, from, scene.vip(), 4711).unwrap();
    caller.induce(LIMIT).unwrap();
    let packet = caller.conclusion("#!::r=nobody/1").bytes();
    let began = Instant::now();
    let mut answers = Vec::new();
    while began.elapsed() < Duration::from_millis(2500) {
        caller.send(&packet).unwrap();
        answers.extend(caller.hear(Duration::from_millis(20)).unwrap());
    }
    println!("rejections in 2.5 s: {}", answers.len());
    assert!((2..=3).contains(&answers.len()), "{answers:x?}");
    for answer in &answers {
        let got = (
            answer.kind,
            answer.destination,
            answer.length,
            answer.version,
        );
        assert_eq!(got, (2404, 4711, 64, 5), "{answer:x?}");
    }
    assert!(
        scene
            .agent
            .metric("ingest_rejections_unsaid_total", "")
            .unwrap()
            > 50.0
    );
    assert!(scene.listeners[0].accepted().is_empty());
}

/// * two callers of one Stream ID at once, and one more after them, from other ports: all at one pod;
/// * different names use more than one pod.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn callers_of_one_name_meet_at_one_pod() {
    let scene = scene(4, |config, _| config);
    let brief = CallerOptions::lasting(5e5, 0.2);
    let names: Vec<_> = (0..5).map(|n| format!("#!::r=live/cam{n}")).collect();
    let mut pods = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let callers: Vec<_> = names
            .iter()
            .chain(&names)
            .map(|stream| call(&scene, stream, &brief))
            .collect();
        for caller in callers {
            caller.finish(LIMIT).unwrap();
        }
    }
    for stream in &names {
        let accepted = scene.accepted(stream, 0);
        assert_eq!(accepted.len(), 4, "{stream}: {accepted:?}");
        assert!(accepted.iter().all(|a| a.0 == accepted[0].0), "{stream}");
        pods.insert(accepted[0].0);
    }
    assert!(pods.len() > 1, "all at {pods:?}");
}

/// * a customer may have one stream: a second is told "overload", and the first goes on whole;
/// * when the first has ended, the next may come;
/// * another customer may have any number.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_customer_has_no_more_streams_than_it_may() {
    let scene = scene(1, |config, _| {
        config.with_route(
            "live/acme",
            &["resource: { prefix: acme/ }"],
            Some("live/srt"),
            "streams: 1",
        )
    });
    let long = CallerOptions::lasting(2e6, 2.0);
    let first = call(&scene, "#!::r=acme/1", &long);
    scene.wait_accepted("#!::r=acme/1", 0, LIMIT).unwrap();
    let second = call(&scene, "#!::r=acme/2", &long);
    assert_eq!(refusal(&second), 1402);
    for number in 1..3 {
        let stream = format!("#!::r=other/{number}");
        let other = call(&scene, &stream, &CallerOptions::lasting(1e6, 0.1));
        other.finish(LIMIT).unwrap();
    }
    let sent = first.finish(LIMIT).unwrap();
    let session = scene.listeners[0]
        .wait_closed("#!::r=acme/1", LIMIT)
        .unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{session:?}"
    );
    second.wait("connected", 1, LIMIT).unwrap();
    second.finish(LIMIT).unwrap();
    let refused = scene
        .agent
        .metric("ingest_route_refused_total", "live/acme");
    assert!(refused.unwrap() >= 1.0);
}

/// * a customer may open one session a second, with a burst: of 20 callers at once some are told "overload";
/// * another customer's are all let in.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn new_sessions_of_a_customer_are_bounded() {
    let scene = scene(1, |config, _| {
        config.with_route(
            "live/acme",
            &["resource: { prefix: acme/ }"],
            Some("live/srt"),
            "sessionsPerSecond: 1",
        )
    });
    let mut connected = [0; 2];
    for (customer, connected) in ["acme", "other"].iter().zip(&mut connected) {
        for number in 0..20 {
            let from = SocketAddr::from((CLIENT_V4, 0));
            let target = scene.vip();
            let mut caller =
                RawCaller::open(&scene.topology.client, from, target, 1000 + number).unwrap();
            caller.induce(LIMIT).unwrap();
            let stream = format!("#!::r={customer}/{number}");
            caller.send(&caller.conclusion(&stream).bytes()).unwrap();
            let answer = caller.hear(Duration::from_millis(60)).unwrap();
            *connected += u32::from(answer.is_some_and(|a| a.kind == CONCLUSION));
        }
    }
    println!("connected of 20: {connected:?}");
    assert_eq!(connected[1], 20);
    assert!((1..=8).contains(&connected[0]), "{connected:?}");
    let refused = scene.agent.metric("ingest_drops_total", "quota_sessions");
    assert!(refused.unwrap() >= 10.0);
}

/// * a customer whose streams may use 2 Mbit/s sends 8: what is over is dropped, and counted on its route only;
/// * a customer beside it, on the same pod, loses nothing.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_overload_of_one_customer_is_nothing_to_another() {
    let scene = scene(1, |config, _| {
        config
            .with_route(
                "live/acme",
                &["resource: { prefix: acme/ }"],
                Some("live/srt"),
                "streamBitrate: 2000000",
            )
            .with_route(
                "live/globex",
                &["resource: { prefix: globex/ }"],
                Some("live/srt"),
                "streamBitrate: 20000000, bitrate: 100000000",
            )
    });
    let good = call(&scene, "#!::r=globex/1", &CallerOptions::lasting(8e6, 3.0));
    let bad = call(&scene, "#!::r=acme/1", &CallerOptions::lasting(8e6, 3.0));
    let sent = good.finish(LIMIT).unwrap();
    let session = scene.listeners[0]
        .wait_closed("#!::r=globex/1", LIMIT)
        .unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{session:?}"
    );
    let dropped = |route: &str| {
        let name = "ingest_route_dropped_packets_total";
        scene.agent.metric(name, route).unwrap()
    };
    let counts = [dropped("live/acme"), dropped("live/globex")];
    println!("dropped of the one that sends too much, of the other: {counts:?}");
    assert!(counts[0] > 100.0 && counts[1] < 1.0, "{counts:?}");
    let overloaded = scene.listeners[0].sessions();
    let overloaded = overloaded.iter().find(|s| s.streamid == "#!::r=acme/1");
    // It is a stream still, of about the rate that it may have.
    let messages = overloaded.unwrap().messages;
    println!("{messages} of its {sent} messages arrived");
    assert!(messages > sent / 10 && messages < sent / 2, "{messages}");
    drop(bad);
}

/// * the links of a bonded connection, from two addresses, are at one pod, though it may have no more sessions;
/// * a link of another group with the same Stream ID is at another.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn bonded_links_are_at_one_pod() {
    let mut scene = scene(2, |mut config, _| {
        for backend in &mut config.services[0].backends {
            backend.limit = Some(1);
        }
        config
    });
    // Debian's libsrt refuses groups.
    for listener in &mut scene.listeners {
        listener.kill().unwrap();
    }
    let pods: Vec<_> = scene
        .topology
        .pods
        .iter()
        .map(|pod| RawPod::start(pod).unwrap())
        .collect();
    // Pods that died are trusted again after 5 s.
    let stream = "#!::r=live/bond1";
    let links = [
        (CLIENT_V4, 11, 0x4000_0001),
        (NEIGHBOUR, 12, 0x4000_0001),
        (NEIGHBOUR, 13, 0x4000_0002),
    ];
    let seats = links.map(|(from, caller_id, group)| {
        let from = SocketAddr::new(IpAddr::V4(from), 0);
        let mut caller =
            RawCaller::open(&scene.topology.client, from, scene.vip(), caller_id).unwrap();
        caller.induce(LIMIT).unwrap();
        let conclusion = caller
            .conclusion(stream)
            .with(|handshake| handshake.blocks.push((8, vec![group, 0x0100_000a])));
        caller.send(&conclusion.bytes()).unwrap();
        let answer = caller.hear(LIMIT).unwrap().unwrap();
        assert_eq!(answer.kind, CONCLUSION, "{answer:x?}");
        assert_ne!(answer.kind, INDUCTION);
        let local = caller.local().unwrap();
        pods.iter()
            .position(|pod| pod.concluded().iter().any(|c| c.from == local))
            .unwrap()
    });
    assert_eq!(seats[0], seats[1], "links of one group");
    assert_ne!(seats[0], seats[2], "another group, and the pod is full");
    // The pod gets the very CONCLUSION, but for the cookie.
    let all: Vec<_> = pods.iter().flat_map(RawPod::concluded).collect();
    assert_eq!(all.len(), 3);
    let name: Vec<u8> = srt::stream_id(stream)
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect();
    for concluded in all {
        let found = concluded
            .packet
            .windows(name.len())
            .any(|part| part == name);
        assert!(found, "{concluded:?}");
    }
}
