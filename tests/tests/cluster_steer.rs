//! Readiness steers: real encoders stream into pods of CNI plugins while slices and pods say who may take them.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::time::Duration;

use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::load::{self, Load, STREAMS};
use ingest_tests::cluster::objects::{self, Endpoint};
use ingest_tests::cluster::{Cluster, SERVICE, SLICE, Served};
use ingest_tests::peers::{Caller, CallerOptions, Listener, ListenerOptions, LiveTransmit};
use ingest_tests::scene::LIMIT;
use ingest_tests::{milliseconds, monotonic_ns};
use serde_json::{Value, json};

/// From the API's write to the encoder's next session.
const A_SECOND: Duration = Duration::from_secs(1);
/// An encoder that ends with its connection must be started again.
const RESTARTED: Duration = Duration::from_secs(4);

/// Asserts that six new callers all reach a pod, and none reaches `pod`.
fn new_ones_avoid(cluster: &Cluster, pod: usize, what: &str) {
    for seat in new_ones(cluster, what) {
        assert_ne!(seat, pod, "{what}");
    }
}

/// Where six new callers go.
fn new_ones(cluster: &Cluster, what: &str) -> Vec<usize> {
    let callers: Vec<_> = (0..6)
        .map(|number| {
            let stream = format!("live/{what}-{number}");
            let options = CallerOptions::lasting(1e6, 0.1);
            let client = &cluster.topology.client;
            let caller = Caller::start(client, &cluster.target(&stream), &options).unwrap();
            (caller, stream)
        })
        .collect();
    let seats = callers.into_iter().map(|(caller, stream)| {
        caller.finish(LIMIT).unwrap();
        cluster.seat(&stream).unwrap()
    });
    seats.collect()
}

/// Waits until every stream that was at `pod` is at another one, and prints how long that took since `since`.
fn all_leave(cluster: &Cluster, before: &[(usize, u64)], pod: usize, since: u64, what: &str) {
    for (stream, (seat, _)) in STREAMS.iter().zip(before) {
        if *seat != pod {
            continue;
        }
        let limit = if *stream == STREAMS[3] {
            RESTARTED
        } else {
            A_SECOND
        };
        let (to, accepted) = cluster.wait_accepted(stream, since, limit).unwrap();
        assert_ne!(to, pod, "{stream}: {what}");
        println!(
            "{what} to {stream} elsewhere: {:.1} ms",
            milliseconds(since, accepted.t)
        );
    }
}

fn seats(cluster: &Cluster) -> Vec<(usize, u64)> {
    let sessions = load::sessions(cluster).unwrap();
    sessions.into_iter().map(|(pod, a)| (pod, a.t)).collect()
}

fn set(endpoint: &mut Option<Endpoint>, ready: bool, serving: Option<bool>) {
    let endpoint = endpoint.as_mut().unwrap();
    endpoint.ready = Some(ready);
    endpoint.serving = serving;
}

/// Four encoders; a pod becomes not ready, then not serving, then ready again, then another one is deleted:
/// * not ready: its sessions stay and lose nothing, new ones go elsewhere;
/// * not serving: its sessions are at another pod within a second;
/// * deleted: its sessions are at another pod within a second of the API's write.
fn four_encoders_follow_readiness(mut cluster: Cluster) {
    cluster.agent.wait_mode("peer").unwrap();
    let _load = Load::start(&cluster).unwrap();
    let before = load::sessions(&cluster).unwrap();
    let pod = before[0].0;

    set(&mut cluster.pods[pod].endpoint, false, None);
    cluster.publish().unwrap();
    cluster
        .wait_backend(pod, "state", &json!("draining"))
        .unwrap();
    new_ones_avoid(&cluster, pod, "not-ready");
    load::untouched(&cluster, &before, Duration::from_secs(3)).unwrap();

    let before = seats(&cluster);
    set(&mut cluster.pods[pod].endpoint, false, Some(false));
    let written = monotonic_ns();
    cluster.publish().unwrap();
    all_leave(&cluster, &before, pod, written, "not serving");

    set(&mut cluster.pods[pod].endpoint, true, Some(true));
    cluster.publish().unwrap();
    cluster.wait_backends(4).unwrap();
    std::thread::sleep(A_SECOND);
    let before = seats(&cluster);
    let gone = before[0].0;
    let written = monotonic_ns();
    cluster.client.delete(&cluster.pods[gone].object).unwrap();
    cluster.pods[gone].endpoint = None;
    cluster.publish().unwrap();
    all_leave(&cluster, &before, gone, written, "deleted");
    cluster.wait_backends(3).unwrap();
    new_ones_avoid(&cluster, gone, "deleted");
}

/// The objects are those that are deployed: applied as a person does, with a load balancer that gives the sample its
/// address.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn four_encoders_follow_readiness_of_a_samples_ptp_pods() {
    let mut cluster = Cluster::new(Plugin::Ptp).unwrap();
    for folder in ["base", "samples"] {
        let folder = format!("deploy/kustomize/{folder}");
        cluster.server.kubectl(&["apply", "-k", &folder]).unwrap();
    }
    cluster.served = Served {
        service: "srs".to_owned(),
        port_name: "srt".to_owned(),
        vip: "203.0.113.20:10080".parse().unwrap(),
    };
    let balanced = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "srs", "namespace": objects::NAMESPACE},
        "status": objects::ingress(&[cluster.served.vip.ip()]),
    });
    cluster.client.apply(&balanced).unwrap();
    for _ in 0..4 {
        cluster.add_pod().unwrap();
    }
    cluster.publish().unwrap();
    cluster
        .start_agent(&["--vip-range", "203.0.113.0/24"])
        .unwrap();
    cluster.wait_backends(4).unwrap();
    four_encoders_follow_readiness(cluster);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn four_encoders_follow_readiness_of_bridge_pods() {
    four_encoders_follow_readiness(Cluster::with_pods(Plugin::Bridge, 4).unwrap());
}

/// A cluster with one encoder, and the pod where it is.
fn with_encoder(pods: usize) -> (Cluster, LiveTransmit, usize) {
    let cluster = Cluster::with_pods(Plugin::Ptp, pods).unwrap();
    let target = cluster.target(STREAMS[0]);
    let encoder = LiveTransmit::start(&cluster.topology.client, &target, 1, 2e6).unwrap();
    let (pod, _) = cluster.wait_accepted(STREAMS[0], 0, LIMIT).unwrap();
    // Data flows.
    std::thread::sleep(Duration::from_millis(500));
    (cluster, encoder, pod)
}

/// * a pod's object is deleted while its slice still says ready: its encoder is elsewhere within a second;
/// * the slice is written again as it was, with the deleted pod: it gets no sessions;
/// * another pod at the same address, with another UID, gets some.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_deleted_pod_is_out_before_its_slice_tells() {
    let (mut cluster, _encoder, pod) = with_encoder(2);
    let written = monotonic_ns();
    cluster.client.delete(&cluster.pods[pod].object).unwrap();
    let (to, accepted) = cluster
        .wait_accepted(STREAMS[0], written, A_SECOND)
        .unwrap();
    assert_ne!(to, pod);
    println!(
        "pod deleted to connected elsewhere: {:.1} ms",
        milliseconds(written, accepted.t)
    );
    cluster.publish().unwrap();
    new_ones_avoid(&cluster, pod, "deleted");

    cluster.pods[pod].object["status"]["containerStatuses"][0]["containerID"] =
        json!("containerd://another");
    let made = cluster.client.apply(&cluster.pods[pod].object).unwrap();
    let uid = made["metadata"]["uid"].as_str().unwrap().to_owned();
    let name = cluster.pods[pod].name.clone();
    cluster.pods[pod].endpoint.as_mut().unwrap().pod = Some((name, uid));
    cluster.publish().unwrap();
    cluster.wait_backends(2).unwrap();
}

/// * a pod says that it is not ready while its slice still says ready: it gets no new sessions, and keeps the old;
/// * once the slice has agreed, the pod's word alone does not bring it back;
/// * the slice does.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_unready_pod_is_out_before_its_slice_tells_and_back_only_by_it() {
    let (mut cluster, _encoder, pod) = with_encoder(2);
    let ready = cluster.pods[pod].object.clone();
    objects::not_ready(&mut cluster.pods[pod].object);
    cluster.apply_pod(pod).unwrap();
    cluster
        .wait_backend(pod, "state", &json!("draining"))
        .unwrap();
    new_ones_avoid(&cluster, pod, "pod-not-ready");

    set(&mut cluster.pods[pod].endpoint, false, None);
    cluster.publish().unwrap();
    cluster.pods[pod].object = ready;
    cluster.apply_pod(pod).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    new_ones_avoid(&cluster, pod, "slice-not-ready");
    assert_eq!(
        cluster.accepted(STREAMS[0], 0).len(),
        1,
        "the session did not stay"
    );

    set(&mut cluster.pods[pod].endpoint, true, Some(true));
    cluster.publish().unwrap();
    cluster.wait_backends(2).unwrap();
    let session = load::session(&cluster, pod, STREAMS[0]).unwrap();
    assert!(session.is_whole(), "{session:?}");
}

/// * a pod's container is another one, and the pod never was anything but ready: its session is cut at once;
/// * its container has ended: the pod is out, and its running again does not bring it back before the slice has
///   spoken.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_restarted_container_loses_its_sessions_at_once() {
    let (mut cluster, _encoder, pod) = with_encoder(2);
    let container = |pod: &mut Value, run: u32| {
        let status = &mut pod["status"]["containerStatuses"][0];
        status["containerID"] = json!(format!("containerd://run-{run}"));
        status["restartCount"] = json!(run);
    };
    container(&mut cluster.pods[pod].object, 1);
    let written = monotonic_ns();
    cluster.apply_pod(pod).unwrap();
    let (_, accepted) = cluster
        .wait_accepted(STREAMS[0], written, A_SECOND)
        .unwrap();
    println!(
        "container restarted to connected again: {:.1} ms",
        milliseconds(written, accepted.t)
    );
    cluster.pods[pod]
        .listener
        .wait_closed(STREAMS[0], LIMIT)
        .unwrap();

    let running = cluster.pods[pod].object.clone();
    let object = &mut cluster.pods[pod].object;
    objects::not_ready(object);
    object["status"]["containerStatuses"][0]["state"] = json!({"terminated": {"exitCode": 1}});
    cluster.apply_pod(pod).unwrap();
    cluster.wait_backend(pod, "state", &Value::Null).unwrap();
    set(&mut cluster.pods[pod].endpoint, false, Some(false));
    cluster.publish().unwrap();
    cluster.pods[pod].object = running;
    container(&mut cluster.pods[pod].object, 2);
    cluster.apply_pod(pod).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    new_ones_avoid(&cluster, pod, "before-the-slice");
    set(&mut cluster.pods[pod].endpoint, true, Some(true));
    cluster.publish().unwrap();
    cluster.wait_backends(2).unwrap();
}

/// * a pod that shares the node's namespace is steered, through the host's stack;
/// * what is sent arrives whole.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_host_network_pod_is_steered_through_the_stack() {
    let mut cluster = Cluster::new(Plugin::Ptp).unwrap();
    let address = "10.1.0.1".parse().unwrap();
    let mut pod = objects::pod("host", &[address], 0);
    pod["spec"]["hostNetwork"] = json!(true);
    let made = cluster.client.apply(&pod).unwrap();
    let mut endpoint = Endpoint::new(address);
    let uid = made["metadata"]["uid"].as_str().unwrap();
    endpoint.pod = Some(("host".to_owned(), uid.to_owned()));
    let service = objects::service(SERVICE, &[cluster.target("").address.ip()]);
    cluster.client.apply(&service).unwrap();
    cluster
        .client
        .apply(&objects::slice(SERVICE, SLICE, &[endpoint]))
        .unwrap();
    let node = &cluster.topology.node;
    let listener = Listener::start(node, "host", &ListenerOptions::default()).unwrap();
    cluster.start_agent(&[]).unwrap();
    cluster.agent.wait_mode("stack").unwrap();
    let target = cluster.target("live/host");
    let options = CallerOptions::lasting(2e6, 1.0);
    let caller = Caller::start(&cluster.topology.client, &target, &options).unwrap();
    let sent = caller.finish(LIMIT).unwrap();
    let session = listener.wait_closed("live/host", LIMIT).unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{session:?}"
    );
    let backends = cluster.agent.json(&["backends"]).unwrap();
    assert_eq!(backends[0]["accepted"], 1, "{backends}");
}

/// * pods come one after the other, each with its port on the node, and get sessions;
/// * one goes by its CNI plugin's DEL alone: its encoder is elsewhere within a second, and nothing of it is left once
///   its slice and its object are gone.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn pods_come_and_go_by_their_plugin() {
    let (mut cluster, _encoder, pod) = with_encoder(1);
    let other = cluster.add_pod().unwrap();
    cluster.publish().unwrap();
    cluster.wait_backends(2).unwrap();
    cluster.agent.wait_mode("peer").unwrap();
    let removed = monotonic_ns();
    cluster.network.delete(&cluster.pods[pod].place).unwrap();
    let (to, accepted) = cluster
        .wait_accepted(STREAMS[0], removed, Duration::from_secs(2))
        .unwrap();
    assert_eq!(to, other);
    println!(
        "CNI DEL to connected elsewhere: {:.1} ms",
        milliseconds(removed, accepted.t)
    );
    cluster.client.delete(&cluster.pods[pod].object).unwrap();
    cluster.pods[pod].endpoint = None;
    cluster.publish().unwrap();
    let limit = Duration::from_secs(15);
    let left = cluster.agent.wait_json(&["backends"], limit, |rows| {
        (rows.as_array()?.len() == 1).then(|| rows[0]["name"].clone())
    });
    assert_eq!(left.unwrap(), format!("live/{}", cluster.pods[other].name));
}
