//! Streams whose handshake the node answers arrive whole: each delivery mode, both families, real encoders and players.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::net::SocketAddr;
use std::time::Duration;

use ingest_tests::agent::Agent;
use ingest_tests::config::{Backend, Config, Service};
use ingest_tests::netns::{CLIENT_V4, Family, Layout, Topology};
use ingest_tests::peers::{
    Caller, CallerOptions, Listener, ListenerOptions, PORT, Player, Target, TestPicture,
};
use ingest_tests::raw::caller::{CONCLUSION, RawCaller};
use ingest_tests::scene::{LIMIT, Scene};
use ingest_tests::xdp::PassAll;
use ingest_tests::{fixtures, median};

const MODES: [&str; 3] = ["redirect", "peer", "stack"];
const STREAM: &str = "#!::r=acme/cam1,m=publish";
/// Pauses of a busy machine are no hung pods.
const PATIENT: [&str; 2] = ["--silence", "3s"];

fn pods(pods: usize) -> Layout {
    Layout {
        pods,
        ..Layout::default()
    }
}

/// Streams of `acme/` to the second pod, all others to the first.
fn two_pools(topology: &Topology) -> Config {
    let mut config = Config::new(&topology.pods[..1]).stream();
    let backends = [Family::V4, Family::V6].map(|family| Backend::of(&topology.pods[1], family));
    let pool = Service::pool("live/acme", backends.to_vec());
    config.services.push(pool);
    config.with_route(
        "live/acme-route",
        &["resource: { prefix: acme/ }"],
        Some("live/acme"),
        "",
    )
}

/// Sends 8 Mbit/s in each delivery mode on both families at once, one stream that is routed and one that is not.
fn deliver(answer_by: &str) {
    let topology = Topology::with(pods(2)).unwrap();
    // What XDP sends back to a veth needs a program there; what tc sends does not.
    let _pass = (answer_by == "xdp").then(|| PassAll::attach(&topology.client, "eth0").unwrap());
    for mode in MODES {
        let mut agent = Agent::install(&topology.node, &two_pools(&topology), mode).unwrap();
        let answers = ["--answer-by", answer_by];
        agent.run_with(&[&answers[..], &PATIENT].concat()).unwrap();
        agent.wait_ready().unwrap();
        agent.wait_mode(mode).unwrap();
        let mut runs = Vec::new();
        for family in [Family::V4, Family::V6] {
            let options = ListenerOptions {
                family,
                ..ListenerOptions::default()
            };
            for (pod, stream) in topology.pods.iter().zip(["live/cam1", STREAM]) {
                let listener = Listener::start(&pod.netns, &pod.name, &options).unwrap();
                let target = Target::new(family.vip(), stream);
                let options = CallerOptions::lasting(8e6, 1.0);
                let caller = Caller::start(&topology.client, &target, &options).unwrap();
                runs.push((family, stream, listener, caller));
            }
        }
        for (family, stream, listener, caller) in runs {
            let what = format!("{answer_by} {mode} {family:?} {stream}");
            let sent = caller.finish(LIMIT).expect(&what);
            let session = listener.wait_closed(stream, LIMIT).expect(&what);
            assert!(
                session.is_whole() && session.messages == sent,
                "{what}: {session:?}"
            );
            assert_eq!(listener.accepted().len(), 1, "{what}");
        }
        let lazy = agent.metric("ingest_handshakes_total", "result=\"lazy\"");
        assert!(lazy.unwrap() < 1.0, "{answer_by} {mode}: not spliced");
    }
}

/// * the agent finds by itself that its uplink is a veth, whose far end gets nothing from XDP;
/// * streams arrive whole in each mode, IPv4 and IPv6, routed and not;
/// * each in one session, at its pod.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn answers_by_tc_connect_in_each_mode() {
    deliver("auto");
}

/// * the same, answered by XDP, as on a NIC.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn answers_by_xdp_connect_in_each_mode() {
    deliver("xdp");
}

/// * pods on a bridge are spliced as well as routed ones;
/// * frames of an MTU of 9000 are answered.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_bridge_and_jumbo_frames_make_no_difference() {
    let layout = Layout {
        wiring: ingest_tests::netns::Wiring::Bridge,
        mtu: 9000,
        ..pods(1)
    };
    for mode in ["redirect", "peer"] {
        let options = ListenerOptions::default();
        let scene = Scene::changed(layout, mode, &options, &PATIENT, |config, _| {
            config.stream()
        });
        let scene = scene.unwrap();
        scene.agent.wait_mode(mode).unwrap();
        let options = CallerOptions::lasting(4e6, 0.5);
        let target = scene.target(STREAM);
        let caller = Caller::start(&scene.topology.client, &target, &options).unwrap();
        let sent = caller.finish(LIMIT).unwrap();
        let session = scene.listeners[0].wait_closed(STREAM, LIMIT).unwrap();
        assert!(
            session.is_whole() && session.messages == sent,
            "{mode}: {session:?}"
        );
    }
}

/// * the node forwards nothing, drops all that is forwarded, masquerades, and checks reverse paths;
/// * `redirect` and `peer` pass it by, handshakes included;
/// * netfilter counts no packet of the stream.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_hosts_netfilter_sees_no_handshake() {
    for mode in ["redirect", "peer"] {
        let options = ListenerOptions::default();
        let scene = Scene::changed(pods(1), mode, &options, &PATIENT, |config, _| {
            config.stream()
        });
        let scene = scene.unwrap();
        scene.agent.wait_mode(mode).unwrap();
        let node = &scene.topology.node;
        node.shell(
            "sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.rp_filter=1
             nft 'table ip hostile {
               chain raw { type filter hook prerouting priority raw; udp dport 9000 counter; udp sport 9000 counter; }
               chain forward { type filter hook forward priority 0; policy drop; }
               chain nat { type nat hook postrouting priority srcnat; masquerade; }
             }'",
        )
        .unwrap();
        let target = scene.target(STREAM);
        let options = CallerOptions::lasting(4e6, 0.5);
        let caller = Caller::start(&scene.topology.client, &target, &options).unwrap();
        let sent = caller.finish(LIMIT).unwrap();
        let session = scene.listeners[0].wait_closed(STREAM, LIMIT).unwrap();
        assert!(
            session.is_whole() && session.messages == sent,
            "{mode}: {session:?}"
        );
        let rules = node.shell("nft list chain ip hostile raw").unwrap();
        assert_eq!(rules.matches("packets 0 ").count(), 2, "{mode}: {rules}");
        let lazy = scene
            .agent
            .metric("ingest_handshakes_total", "result=\"lazy\"");
        assert!(lazy.unwrap() < 1.0, "{mode}: not spliced");
    }
}

/// * ffmpeg publishes to an ffmpeg that listens in a pod;
/// * an ffmpeg that listens in another pod plays to an ffmpeg that asks for it;
/// * one route for each, by the mode that the Stream ID asks for.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn ffmpeg_publishes_and_plays_through_routes() {
    const SECONDS: u32 = 3;
    let topology = Topology::with(pods(2)).unwrap();
    let mut config = Config::of_family(&[], Family::V4).stream();
    config.services[0].routed_only = true;
    for (pod, mode) in topology.pods.iter().zip(["publish", "request"]) {
        let pool = format!("live/{mode}");
        let backends = vec![Backend::of(pod, Family::V4)];
        config.services.push(Service::pool(&pool, backends));
        let matched = format!("resource: {{ prefix: acme/ }}, mode: {mode}");
        config = config.with_route(&format!("live/by-{mode}"), &[&matched], Some(&pool), "");
    }
    let sink = Player::start(&topology.pods[0].netns, None).unwrap();
    let source = TestPicture::start(&topology.pods[1].netns, None, SECONDS).unwrap();
    let agent = Agent::start(&topology.node, &config, "auto").unwrap();
    // ffmpeg says nothing when it listens, and gives up after 3 s of calling.
    std::thread::sleep(Duration::from_secs(1));
    let target = |mode| Target::new(Family::V4.vip(), &format!("#!::r=acme/cam1,m={mode}"));
    let publisher =
        TestPicture::start(&topology.client, Some(&target("publish")), SECONDS).unwrap();
    let player = Player::start(&topology.client, Some(&target("request"))).unwrap();
    let limit = Duration::from_secs(15);
    for (picture, viewer, what) in [(publisher, sink, "published"), (source, player, "played")] {
        let sent = picture.finish(SECONDS, limit).unwrap();
        let received = viewer.finish(limit).unwrap();
        println!("{what}: {received} of {sent} frames");
        // ffmpeg closes with what its peer still holds back for the latency.
        assert!(received + 25 > sent, "{what}: {received} of {sent} frames");
    }
    let accepted = ["publish", "request"].map(|mode| {
        let route = format!("live/by-{mode}");
        let accepted = agent.metric("ingest_route_accepted_total", &route);
        accepted.unwrap()
    });
    assert!(accepted.iter().all(|&n| n > 0.5), "{accepted:?}");
}

/// * a caller of HSv4, which has no Stream ID, is answered and spliced too;
/// * it goes to the default pool, though routes exist;
/// * where everything must be routed, it hears nothing.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn hsv4_callers_go_to_the_default_pool() {
    let topology = Topology::with(pods(2)).unwrap();
    let mut config = two_pools(&topology);
    let strict = Service {
        name: "live/strict".to_owned(),
        port: PORT + 1,
        routed_only: true,
        ..config.services[0].clone()
    };
    config.services.push(strict);
    let listeners = [0, 1].map(|pod| {
        let pod = &topology.pods[pod];
        Listener::start(&pod.netns, &pod.name, &ListenerOptions::default()).unwrap()
    });
    let _agent = Agent::start(&topology.node, &config, "auto").unwrap();
    for (port, connects) in [(PORT, true), (PORT + 1, false)] {
        let target = SocketAddr::new(Family::V4.vip(), port);
        let from = SocketAddr::from((CLIENT_V4, 0));
        let mut caller = RawCaller::open(&topology.client, from, target, 4711).unwrap();
        caller.induce(LIMIT).unwrap();
        let conclusion = fixtures::srt::conclusion_v4()
            .of(caller.caller_id)
            .with(|handshake| handshake.cookie = caller.cookie);
        caller.send(&conclusion.bytes()).unwrap();
        let answer = caller.hear(Duration::from_secs(1)).unwrap();
        let accepted = answer.is_some_and(|a| (a.version, a.kind) == (4, CONCLUSION));
        assert_eq!(accepted, connects, "port {port}: {answer:x?}");
        assert_eq!(answer.is_some(), connects, "port {port}: {answer:x?}");
    }
    let accepted = listeners.map(|listener| listener.accepted());
    assert_eq!(accepted.each_ref().map(Vec::len), [1, 0], "{accepted:?}");
}

/// * real callers connect to a pod directly, and through the node, in turns;
/// * the median through the node is at most 10 ms more.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn connecting_takes_no_longer_than_directly() {
    const ROUNDS: usize = 25;
    let unbounded = ["--induction-rate", "0", "--conclusion-rate", "0"];
    let options = ListenerOptions::default();
    let scene = Scene::changed(pods(1), "auto", &options, &unbounded, |config, _| {
        config.stream()
    })
    .unwrap();
    let pod = &scene.topology.pods[0];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (times, address) in times.iter_mut().zip([pod.v4.into(), Family::V4.vip()]) {
            let target = Target::new(address, STREAM);
            let options = CallerOptions {
                idle: 5.0,
                ..CallerOptions::lasting(1e6, 0.0)
            };
            let caller = Caller::start(&scene.topology.client, &target, &options).unwrap();
            let connected = caller.wait("connected", 1, LIMIT).unwrap();
            let took = connected.detail.trim_end_matches(" ms");
            times.push(took.parse::<f64>().unwrap());
        }
    }
    let [direct, through] = times.each_mut().map(|times| median(times));
    println!(
        "connect time, median of {ROUNDS}: direct {direct:.2} ms, through the node {through:.2} ms; all: {times:.1?}"
    );
    assert!(through < direct + 10.0, "{direct} ms, {through} ms");
    let lazy = scene
        .agent
        .metric("ingest_handshakes_total", "result=\"lazy\"");
    assert!(lazy.unwrap() < 1.0, "not spliced");
}
