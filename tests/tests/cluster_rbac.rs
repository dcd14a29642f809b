//! The agent needs what its ClusterRole grants, all of it and no more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ingest_tests::cluster::apiserver::Audited;
use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::load::STREAMS;
use ingest_tests::cluster::{Cluster, SERVICE, objects, rights};
use ingest_tests::monotonic_ns;
use ingest_tests::netns::VIP_V4;
use ingest_tests::peers::LiveTransmit;
use ingest_tests::scene::LIMIT;
use serde_json::json;

/// Cuts are told together, after a while.
const TOLD: Duration = Duration::from_secs(15);

/// An agent does all it ever does: it follows Services, slices, routes and pods, tells of a Service, tells of a pod twice
/// the same, gives an address, and says what it thinks of a route:
/// * no request of it is refused for want of a right;
/// * every right of its role is used.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_request_is_forbidden_and_no_right_unused() {
    let mut cluster = Cluster::with_pods(Plugin::Ptp, 1).unwrap();
    cluster.agent.stop().unwrap();
    cluster
        .start_agent(&["--vip-range", "203.0.113.0/24"])
        .unwrap();

    let mut ours = objects::service("ours", &[]);
    ours["spec"]["loadBalancerClass"] = json!("ingest.steering.dev/xdp");
    ours["metadata"]["annotations"] = json!({"ingest.steering.dev/vips": "203.0.113.40"});
    ours.as_object_mut().unwrap().remove("status");
    cluster.client.apply(&ours).unwrap();
    cluster
        .client
        .wait_event("Service", "ours", "NoReadyBackend", LIMIT)
        .unwrap();

    let route = json!({
        "apiVersion": "ingest.steering.dev/v1alpha1",
        "kind": "StreamRoute",
        "metadata": {"name": "nobody", "namespace": objects::NAMESPACE},
        "spec": {
            "parentRefs": [{"name": SERVICE}],
            "rules": [{"matches": [{"user": {"value": "nobody"}}], "reject": true}],
        },
    });
    cluster.client.apply(&route).unwrap();

    let target = cluster.target(STREAMS[0]);
    let _encoder = LiveTransmit::start(&cluster.topology.client, &target, 1, 1e6).unwrap();
    cluster.wait_accepted(STREAMS[0], 0, LIMIT).unwrap();
    for run in 1..=2 {
        std::thread::sleep(Duration::from_millis(500));
        let restarted = monotonic_ns();
        cluster.pods[0].object["status"]["containerStatuses"][0]["containerID"] =
            json!(format!("containerd://run-{run}"));
        cluster.apply_pod(0).unwrap();
        cluster.wait_accepted(STREAMS[0], restarted, LIMIT).unwrap();
        let pod = cluster.pods[0].name.clone();
        cluster
            .client
            .wait_event("Pod", &pod, "SessionsCut", TOLD)
            .unwrap();
    }

    let agent = rights::user().unwrap();
    let granted = rights::granted().unwrap();
    let begun = Instant::now();
    let (audit, used) = loop {
        let audit = cluster.server.audit(&agent).unwrap();
        let used = rights::used(&audit);
        if used.is_superset(&granted) || begun.elapsed() > TOLD {
            break (audit, used);
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let forbidden: Vec<_> = audit.iter().filter(|entry| entry.code() == 403).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
    let missing: BTreeSet<_> = used.difference(&granted).collect();
    assert!(missing.is_empty(), "used, and not granted: {missing:?}");
    let unused: BTreeSet<_> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "granted, and not used: {unused:?}");
    let elsewhere: Vec<_> = audit
        .iter()
        .filter(|e| e.group().is_none())
        .map(Audited::code)
        .collect();
    assert!(elsewhere.iter().all(|code| *code < 400), "{elsewhere:?}");
}

/// * a role without one of its rights: the agent is told 403 for it, so the test above can fail.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_missing_right_is_seen() {
    let mut cluster = Cluster::new(Plugin::Ptp).unwrap();
    let mut role = rights::objects().unwrap();
    let role = role
        .iter_mut()
        .find(|object| object["kind"] == "ClusterRole")
        .unwrap();
    let rules = role["rules"].as_array_mut().unwrap();
    rules.retain(|rule| rule["resources"] != json!(["endpointslices"]));
    cluster.client.apply(role).unwrap();
    let service = objects::service(SERVICE, &[VIP_V4.into()]);
    cluster.client.apply(&service).unwrap();
    cluster.agent.run().unwrap();
    let agent = rights::user().unwrap();
    let begun = Instant::now();
    let is_refused = || {
        let audit = cluster.server.audit(&agent).unwrap();
        let mut refused = audit.iter().filter(|entry| entry.code() == 403);
        refused.any(|entry| entry.resource().as_deref() == Some("endpointslices"))
    };
    while !is_refused() {
        assert!(begun.elapsed() < LIMIT, "{}", cluster.agent.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(
        cluster.agent.get("/readyz").is_err(),
        "ready without slices"
    );
}
