//! Handshakes over a bad network: delayed, overtaken, lost, doubled.

use std::time::Duration;

use ingest_tests::netns::Layout;
use ingest_tests::peers::{Caller, CallerOptions, ListenerOptions, Target};
use ingest_tests::scene::{LIMIT, Scene};
use ingest_tests::wan::{Wan, Weather};

/// A round trip is below libsrt's 250 ms between retries, and the longest one below two of the shortest. So no network
/// alone could bring an INDUCTION response behind the CONCLUSION response, which breaks a caller of 1.5.7.
const WEATHER: Weather = Weather {
    delay: Duration::from_millis(55),
    jitter: Duration::from_millis(50),
    handshake_loss: 0.15,
    // libsrt repeats a last message only when a later one shows that it is missing.
    loss: 0.0,
    loss_down: 0.0,
    duplication: 0.3,
    seed: 0,
};
const CALLERS: usize = 12;
/// Pauses of a busy machine are no hung pods.
const PATIENT: [&str; 2] = ["--silence", "3s"];

/// * callers of 1.5.7 and 1.5.1 connect over links that delay, reorder, lose and double packets;
/// * none of their sessions is broken by a late INDUCTION response;
/// * all that they send arrives, each stream in one session.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn handshakes_over_a_bad_network_open_one_session_each() {
    let options = ListenerOptions {
        latency_ms: 2000,
        age: 60,
        ..ListenerOptions::default()
    };
    let layout = Layout {
        pods: 3,
        ..Layout::default()
    };
    let scene = Scene::changed(layout, "auto", &options, &PATIENT, |config, _| {
        config.stream()
    });
    let scene = scene.unwrap();
    let runs: Vec<_> = (0..CALLERS)
        .map(|number| {
            let weather = Weather {
                seed: number as u64,
                ..WEATHER
            };
            let wan = Wan::start(&scene.topology.client, scene.vip(), weather).unwrap();
            let libsrt = ["1.5.7", "1.5.1", "1.5.7"][number % 3];
            let stream = format!("#!::r=live/cam{number},m=publish");
            let target = Target {
                address: wan.address(),
                latency_ms: options.latency_ms,
                ..Target::new(wan.address().ip(), &stream)
            };
            let options = CallerOptions {
                libsrt: Some(libsrt),
                ..CallerOptions::lasting(5e5, 2.0)
            };
            let caller = Caller::start(&scene.topology.client, &target, &options).unwrap();
            (libsrt, stream, wan, caller)
        })
        .collect();
    let mut weather = [0; 3];
    for (libsrt, stream, wan, caller) in runs {
        caller.wait("done", 1, Duration::from_secs(20)).unwrap();
        let events = caller.events();
        let connected = events.iter().find(|e| e.event == "connected").unwrap();
        println!("{libsrt} {stream}: connected in {}", connected.detail);
        assert!(events.iter().all(|e| e.event != "broken"), "{events:?}");
        let sent = caller.finish(LIMIT).unwrap();
        let sessions = scene.accepted(&stream, 0);
        // A caller that gave up after 3 s and came again may leave an accepted one behind.
        let refused = events.iter().filter(|e| e.event == "refused").count();
        assert!(sessions.len() <= 1 + refused, "{stream}: {sessions:?}");
        let pod = scene.seat(&stream).unwrap();
        scene.wait_messages(pod, &stream, sent).unwrap();
        let session = scene.listeners[pod]
            .sessions()
            .into_iter()
            .find(|s| s.streamid == stream && s.messages > 0)
            .unwrap();
        assert!(
            session.is_whole() && session.messages == sent,
            "{libsrt}: {session:?}"
        );
        for (sum, count) in weather.iter_mut().zip(wan.tally()) {
            *sum += count;
        }
    }
    let metric = |result: &str| {
        let label = format!("result=\"{result}\"");
        scene
            .agent
            .metric("ingest_handshakes_total", &label)
            .unwrap()
    };
    println!(
        "lost, doubled, overtaken: {weather:?}; spliced {}, rewritten {}, surplus {}",
        metric("spliced"),
        metric("rewritten"),
        metric("surplus")
    );
    let [lost, doubled, overtaken] = weather;
    assert!(lost > 3 && doubled > 100 && overtaken > 100, "{weather:?}");
}
