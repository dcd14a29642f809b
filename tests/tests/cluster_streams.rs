//! A stream that is not well is told at its pod and at its Service, and that it is well again.

use std::time::Duration;

use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::{Cluster, SERVICE, objects};
use ingest_tests::netns::{CLIENT_V4, VIP_V4};
use ingest_tests::peers::{Caller, CallerOptions};
use ingest_tests::scene::LIMIT;
use serde_json::json;

/// Two seconds below the threshold, and changes are told together.
const TOLD: Duration = Duration::from_secs(30);
const STREAM: &str = "#!::r=live/hunter2-camera,u=alice-planted";

/// An encoder is throttled under the threshold of its Service's annotation, and released:
/// * pod and Service have an Event of the warning with its reason, and one of the recovery;
/// * none has the Stream ID in full, or the client's address.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_throttled_stream_is_told_at_its_pod_and_its_service() {
    let cluster = Cluster::with_pods(Plugin::Ptp, 1).unwrap();
    let mut service = objects::service(SERVICE, &[VIP_V4.into()]);
    service["metadata"]["annotations"] =
        json!({"ingest.steering.dev/thresholds": "minBitrate=1000000,minBitrateFor=2s"});
    cluster.client.apply(&service).unwrap();

    let options = CallerOptions {
        low: 2e5,
        ..CallerOptions::lasting(3e6, 120.0)
    };
    let client = &cluster.topology.client;
    let caller = Caller::start(client, &cluster.target(STREAM), &options).unwrap();
    cluster.wait_accepted(STREAM, 0, LIMIT).unwrap();
    // So long nobody knows what it is meant to send.
    std::thread::sleep(Duration::from_secs(4));
    let pod = cluster.pods[0].name.clone();
    let places = [("Pod", pod.as_str()), ("Service", SERVICE)];
    for (kind, name) in places {
        let events = cluster.client.events(kind, name).unwrap();
        assert!(
            !events.iter().any(|e| e.starts_with("Stream")),
            "{events:?}"
        );
    }

    caller.throttle().unwrap();
    let tell = |kind, name, reason| cluster.client.wait_event(kind, name, reason, TOLD).unwrap();
    for (kind, name) in places {
        let told = tell(kind, name, "StreamWarning");
        assert!(
            told.contains("the encoder sends less than the threshold (1)"),
            "{told}"
        );
    }
    caller.release().unwrap();
    for (kind, name) in places {
        tell(kind, name, "StreamRecovered");
        for event in cluster.client.events(kind, name).unwrap() {
            for planted in ["hunter2-camera", "alice-planted", &CLIENT_V4.to_string()] {
                assert!(!event.contains(planted), "{event}");
            }
        }
    }
}
