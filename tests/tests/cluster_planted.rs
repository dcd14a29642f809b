//! Events say what a Service's owner should know, and nothing that callers say of themselves.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::time::Duration;

use ingest_agent::dataplane::Reader;
use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::objects::{self, NAMESPACE};
use ingest_tests::cluster::{Cluster, SERVICE};
use ingest_tests::netns::Family;
use ingest_tests::peers::{Caller, CallerOptions, Target};
use ingest_tests::planted::{BANNED_STREAM_ID, CALLER, Planted, STREAM_ID};
use ingest_tests::scene::LIMIT;
use nix::sys::signal::Signal;
use serde_json::json;

/// From the threshold's time to the Event: two seconds to be seen, five that collect, and the way to the API server.
const TOLD: Duration = Duration::from_secs(10);

/// libsrt gives a session up that it hears nothing of.
const GIVEN_UP: Duration = Duration::from_secs(5);

fn call(cluster: &Cluster, target: &Target) -> Caller {
    let options = CallerOptions {
        low: 3e5,
        from: Some(CALLER.into()),
        ..CallerOptions::lasting(3e6, 300.0)
    };
    Caller::start(&cluster.topology.client, target, &options).unwrap()
}

/// A caller with planted names, passwords and keys, from a planted address:
/// * it is throttled under the threshold that its Service's annotation sets: a Warning about the Service, within the threshold
///   and some seconds; unthrottled, a Normal one;
/// * it stops to send: another Warning; its pod is killed, another caller is refused: the Events there were before;
/// * in none of the Events, the log and the metrics is anything planted.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn events_tell_of_streams_and_nothing_of_callers() {
    let mut cluster = Cluster::new(Plugin::Ptp).unwrap();
    let mut service = objects::service(SERVICE, &[Family::V4.vip()]);
    service["metadata"]["annotations"] = json!({
        "ingest.steering.dev/thresholds": "minBitrate=1000000,minBitrateFor=1s,stalledAfter=2s",
    });
    cluster.client.apply(&service).unwrap();
    for _ in 0..2 {
        cluster.add_pod().unwrap();
    }
    cluster.publish().unwrap();
    let route = json!({
        "apiVersion": "ingest.steering.dev/v1alpha1",
        "kind": "StreamRoute",
        "metadata": {"name": "banned", "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"name": SERVICE}],
            "rules": [{"matches": [{"resource": {"type": "Prefix", "value": "banned/"}}], "reject": true}],
        },
    });
    cluster.client.apply(&route).unwrap();
    cluster.start_agent(&["--silence", "3s"]).unwrap();
    cluster.wait_backends(2).unwrap();
    let reader = Reader::open(cluster.agent.pin_root()).unwrap();
    let secrets = reader.secrets().unwrap();
    let planted = Planted::new(&cluster.topology, secrets.keys.as_flattened()).unwrap();

    let mut caller = call(&cluster, &cluster.target(STREAM_ID));
    cluster.wait_accepted(STREAM_ID, 0, LIMIT).unwrap();
    let banned = call(&cluster, &cluster.target(BANNED_STREAM_ID));
    assert_eq!(banned.wait("refused", 1, LIMIT).unwrap().reason, 1403);
    drop(banned);
    std::thread::sleep(Duration::from_secs(2));

    let wait = |reason: &str| {
        let told = cluster.client.wait_event("Service", SERVICE, reason, TOLD);
        println!("{}", told.unwrap());
    };
    caller.throttle().unwrap();
    wait("StreamWarning");
    caller.release().unwrap();
    wait("StreamRecovered");
    caller.process().signal(Signal::SIGSTOP).unwrap();
    wait("StreamStalled");

    // By then it was given up, whenever that was told.
    std::thread::sleep(GIVEN_UP);
    let resumed = caller.process().signal(Signal::SIGCONT).unwrap();
    let (at, _) = cluster.wait_accepted(STREAM_ID, resumed, LIMIT).unwrap();
    let pod = cluster.pods[at].name.clone();
    let killed = cluster.pods[at].listener.kill().unwrap();
    cluster.wait_accepted(STREAM_ID, killed, LIMIT).unwrap();
    cluster
        .client
        .wait_event("Pod", &pod, "SessionsCut", TOLD)
        .unwrap();

    let events = cluster.client.all_events().unwrap();
    let texts = [
        ("the Events", serde_json::to_string_pretty(&events).unwrap()),
        ("the log", cluster.agent.log()),
        ("the metrics", cluster.agent.get("/metrics").unwrap()),
    ];
    planted.expect_in_none(&texts).unwrap();
}
