//! Handshakes that nobody should believe: forged, damaged, too many.

#![expect(clippy::unwrap_used, reason = "tests panic")]
#![expect(clippy::cast_precision_loss, reason = "counts of packets")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use ingest_tests::command;
use ingest_tests::fixtures::srt;
use ingest_tests::netns::{CLIENT_V4, Layout, VIP_V4};
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions, PORT};
use ingest_tests::raw::caller::{CONCLUSION, RawCaller};
use ingest_tests::raw::{RawSender, flood, stranger};
use ingest_tests::scene::{LIMIT, Scene};

const STREAM: &str = "#!::r=live/cam1,m=publish";
const TARGET: SocketAddrV4 = SocketAddrV4::new(VIP_V4, PORT);
/// A second address of the client.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);
/// Without a bound for single sources.
const UNBOUNDED: [&str; 4] = ["--induction-rate", "0", "--conclusion-rate", "0"];
/// Pauses of a busy machine are no hung pods.
const PATIENT: [&str; 2] = ["--silence", "3s"];

fn scene(pods: usize, arguments: &[&str]) -> Scene {
    let layout = Layout {
        pods,
        ..Layout::default()
    };
    let options = ListenerOptions {
        latency_ms: 1000,
        ..ListenerOptions::default()
    };
    let arguments = [arguments, &PATIENT].concat();
    let scene = Scene::changed(layout, "auto", &options, &arguments, |config, _| {
        config.stream()
    });
    let scene = scene.unwrap();
    let address = format!("ip address add {NEIGHBOUR}/24 dev eth0");
    scene.topology.client.shell(&address).unwrap();
    scene
}

fn caller(scene: &Scene, from: Ipv4Addr, caller_id: u32) -> RawCaller {
    let from = SocketAddr::new(IpAddr::V4(from), 0);
    RawCaller::open(&scene.topology.client, from, TARGET.into(), caller_id).unwrap()
}

fn metric(scene: &Scene, name: &str, labels: &str) -> f64 {
    scene.agent.metric(name, labels).unwrap()
}

/// How many entries map `name` has.
fn entries(scene: &Scene, name: &str) -> usize {
    let pins = scene.agent.pins(name).unwrap();
    let [pin] = &pins[..] else {
        panic!("{name} is pinned at {pins:?}")
    };
    let pin = pin.to_str().unwrap();
    let dump = command::run("bpftool", &["-j", "map", "dump", "pinned", pin]).unwrap();
    let entries: serde_json::Value = serde_json::from_str(&dump).unwrap();
    entries.as_array().unwrap().len()
}

/// Counts in every pod what comes from sources that are no live stream's.
fn watch_pods(scene: &Scene) {
    for pod in &scene.topology.pods {
        let rules = format!(
            "table ip watch {{
               chain raw {{
                 type filter hook prerouting priority raw;
                 ip saddr {{ 198.18.0.0/15, {NEIGHBOUR} }} udp dport {PORT} counter
               }}
             }}"
        );
        pod.netns.shell(&format!("nft '{rules}'")).unwrap();
    }
}

fn reached_pods(scene: &Scene) -> Vec<String> {
    let pods = scene.topology.pods.iter();
    pods.map(|pod| pod.netns.shell("nft list chain ip watch raw").unwrap())
        .filter(|rules| !rules.contains("packets 0 "))
        .collect()
}

/// * for 4 s 10,000 CONCLUSIONs a second come, with random cookies, from random sources and from a real one;
/// * two live streams beside them lose nothing, and a new one connects meanwhile;
/// * no packet of them reaches a pod, and no handshake, splice or flow is made of them: they are counted as forged.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn forged_conclusions_reach_no_pod_and_harm_no_stream() {
    let scene = scene(2, &[]);
    watch_pods(&scene);
    let options = CallerOptions::lasting(4e6, 6.0);
    let streams = ["#!::r=live/cam1", "#!::r=live/cam2"];
    let encoders = streams.map(|stream| {
        Caller::start(&scene.topology.client, &scene.target(stream), &options).unwrap()
    });
    for stream in streams {
        scene.wait_accepted(stream, 0, LIMIT).unwrap();
    }
    std::thread::sleep(Duration::from_millis(500));
    let span = Duration::from_secs(4);
    let attack = flood(&scene.topology.client, TARGET, 10_500, span, |number| {
        let mixed = number.wrapping_mul(0x9e37_79b1);
        let source = if number % 3 == 0 {
            (NEIGHBOUR, 1024 + (mixed >> 17) as u16)
        } else {
            stranger(number)
        };
        let forged = srt::conclusion()
            .of(mixed | 1)
            .with(|handshake| handshake.cookie = mixed ^ 0x5bd1_e995);
        (source, forged.bytes())
    })
    .unwrap();
    std::thread::sleep(span / 2);
    let late = Caller::start(
        &scene.topology.client,
        &scene.target("#!::r=live/late"),
        &CallerOptions::lasting(1e6, 1.0),
    )
    .unwrap();
    let connected = late.wait("connected", 1, LIMIT).unwrap();
    let sent = attack.join().unwrap().unwrap();
    let rate = sent / span.as_secs();
    assert!(rate >= 10_000, "only {rate}/s");
    assert_eq!(entries(&scene, "HANDSHAKES"), 3);
    assert_eq!(entries(&scene, "SPLICES"), 3);
    assert_eq!(entries(&scene, "FLOWS"), 3);
    assert_eq!(reached_pods(&scene), Vec::<String>::new());
    let forged = metric(&scene, "ingest_handshakes_total", "result=\"forged\"");
    println!(
        "{rate} forged CONCLUSIONs/s: {forged} of {sent} counted; a new stream connects in {}",
        connected.detail
    );
    // A third is the most that a slow interface may have lost before XDP.
    assert!(forged > sent as f64 * 0.66 && forged <= sent as f64);
    let dropped = metric(&scene, "ingest_drops_total", "cookie_forged");
    assert!((dropped - forged).abs() < 1.0, "{dropped}");
    late.finish(LIMIT).unwrap();
    for (stream, encoder) in streams.iter().zip(encoders) {
        let messages = encoder.finish(Duration::from_secs(20)).unwrap();
        let session = scene.listeners[scene.seat(stream).unwrap()]
            .wait_closed(stream, LIMIT)
            .unwrap();
        assert!(
            session.is_whole() && session.messages == messages,
            "{session:?}"
        );
        assert_eq!(scene.accepted(stream, 0).len(), 1);
    }
}

/// * every bit of a CONCLUSION is flipped on the way, one at a time, with the cookie that was issued;
/// * none opens a session, whatever the bit; those of the name fail by the checksum;
/// * the whole one opens one, under its name; flipped repeats of it change nothing.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flipped_bit_opens_no_session() {
    let scene = scene(2, &UNBOUNDED);
    let mut caller = caller(&scene, NEIGHBOUR, 4711);
    caller.induce(LIMIT).unwrap();
    let packet = caller.conclusion(STREAM).bytes();
    let SocketAddr::V4(source) = caller.local().unwrap() else {
        panic!("not IPv4")
    };
    let sender = RawSender::open(&scene.topology.client).unwrap();
    let flip_all = || {
        for bit in 0..packet.len() * 8 {
            sender
                .send_flipped(source, TARGET, &packet, Some(bit))
                .unwrap();
            // No more than a receive ring holds.
            if bit % 64 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    };
    flip_all();
    let answers = caller.hear_all(Duration::from_millis(500)).unwrap();
    let wrong: Vec<_> = answers.iter().filter(|a| a.kind < 1000).collect();
    assert!(wrong.is_empty(), "{wrong:x?}");
    let accepted = || -> Vec<_> {
        let all = scene.listeners.iter();
        all.flat_map(ingest_tests::peers::Listener::accepted)
            .map(|accepted| accepted.streamid)
            .collect()
    };
    assert_eq!(accepted(), Vec::<String>::new());
    let checksum = metric(&scene, "ingest_drops_total", "\"checksum\"");
    println!(
        "{checksum} of {} flips fail by the checksum",
        packet.len() * 8
    );
    assert!(checksum >= (STREAM.len() * 8) as f64, "{checksum}");
    sender.send_flipped(source, TARGET, &packet, None).unwrap();
    let answer = caller.hear(LIMIT).unwrap().unwrap();
    assert_eq!(answer.kind, CONCLUSION);
    flip_all();
    let answers = caller.hear_all(Duration::from_millis(500)).unwrap();
    let ids: BTreeSet<_> = answers.iter().map(|a| a.socket_id).collect();
    assert!(ids.iter().all(|&id| id == answer.socket_id), "{answers:x?}");
    assert_eq!(accepted(), [STREAM]);
}

/// * a source that asks faster than it may is answered at its rate, and dropped beyond it;
/// * another source is not concerned.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_source_is_bounded_and_another_is_free() {
    let scene = scene(1, &["--induction-rate", "10", "--conclusion-rate", "10"]);
    let eager = caller(&scene, NEIGHBOUR, 4711);
    for _ in 0..200 {
        eager.send(&srt::induction().of(4711).bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let answers = eager.hear_all(Duration::from_millis(200)).unwrap().len();
    println!("200 INDUCTIONs in 0.4 s: {answers} answers");
    // A burst of three seconds' worth, and what the time gives.
    assert!((30..=40).contains(&answers), "{answers}");
    assert!(metric(&scene, "ingest_drops_total", "source_rate") >= 160.0);
    let mut other = caller(&scene, CLIENT_V4, 4712);
    other.induce(LIMIT).unwrap();
    let (tries, answer) = other.conclude(STREAM, LIMIT).unwrap();
    assert_eq!((tries, answer.kind), (1, CONCLUSION));
    // Retries of a CONCLUSION are few as well.
    let before = metric(&scene, "ingest_drops_total", "source_rate");
    let packet = other.conclusion(STREAM).bytes();
    for _ in 0..200 {
        other.send(&packet).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let answers = other.hear_all(Duration::from_millis(200)).unwrap().len();
    println!("200 CONCLUSIONs in 0.4 s: {answers} answers");
    assert!((20..=40).contains(&answers), "{answers}");
    assert!(metric(&scene, "ingest_drops_total", "source_rate") >= before + 150.0);
    assert_eq!(scene.accepted(STREAM, 0).len(), 1);
}

/// * the agent is killed: the kernel answers alone;
/// * it starts again: a cookie that was issued before opens a session.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn cookies_outlive_the_agent() {
    let mut scene = scene(1, &[]);
    let mut caller = caller(&scene, CLIENT_V4, 4711);
    caller.induce(LIMIT).unwrap();
    scene.agent.kill().unwrap();
    // The kernel answers alone.
    let mut orphan = self::caller(&scene, NEIGHBOUR, 4712);
    orphan.induce(LIMIT).unwrap();
    orphan.conclude("#!::r=live/orphan", LIMIT).unwrap();
    scene.agent.run().unwrap();
    scene.agent.wait_ready().unwrap();
    let (_, answer) = caller.conclude(STREAM, LIMIT).unwrap();
    assert_eq!(answer.kind, CONCLUSION);
    scene.wait_accepted(STREAM, 0, LIMIT).unwrap();
    let forged = metric(&scene, "ingest_handshakes_total", "result=\"forged\"");
    assert!(forged < 1.0, "{forged}");
}
