//! A flood of handshakes beside a live stream.

use std::time::Duration;

use ingest_tests::netns::VIP_V4;
use ingest_tests::peers::{Caller, CallerOptions, PORT};
use ingest_tests::raw::flood_inductions;
use ingest_tests::scene::{LIMIT, Scene};

/// * for 4 s more than 20,000 INDUCTIONs a second come, each from another address and port;
/// * a stream beside them loses nothing and stays in its session;
/// * none of them becomes a flow.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flood_of_handshakes_harms_no_live_stream() {
    let mut scene = Scene::new(2, "auto").unwrap();
    scene.options.latency_ms = 1000;
    let options = CallerOptions::lasting(8e6, 6.0);
    let caller =
        Caller::start(&scene.topology.client, &scene.target("live/cam1"), &options).unwrap();
    let (pod, _) = scene.wait_accepted("live/cam1", 0, LIMIT).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let span = Duration::from_secs(4);
    let sent = flood_inductions(&scene.topology.client, (VIP_V4, PORT), 24_000, span)
        .unwrap()
        .join()
        .unwrap()
        .unwrap();
    let rate = sent / span.as_secs();
    assert!(rate > 20_000, "the flood was only {rate}/s");
    let streams = scene.agent.streams().unwrap();
    assert_eq!(streams.len(), 1, "{streams:?}");
    let messages = caller.finish(Duration::from_secs(20)).unwrap();
    let session = scene.listeners[pod]
        .wait_closed("live/cam1", LIMIT)
        .unwrap();
    println!("{rate} INDUCTIONs/s beside it: {session:?}");
    assert!(
        session.is_whole() && session.messages == messages,
        "{session:?}"
    );
    assert_eq!(scene.accepted("live/cam1", 0).len(), 1);
}
