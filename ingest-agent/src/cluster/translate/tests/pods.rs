//! What own-node Pods take down ahead of their slices.

use std::time::{Duration, Instant};

use super::*;

const READY: &str = "srs-1 10.0.0.1:9000";
const KEEPS: &str = "(srs-1 10.0.0.1:9000)";
const NOBODY: &[&str] = &[];

/// Pod 1 is here; another one is ready elsewhere, so that nothing falls back.
fn world() -> World {
    let away = endpoint(9, json!({ "nodeName": "node-b" }));
    super::world(json!({}), &[endpoint(1, json!({})), away])
}

fn not_ready() -> Pod {
    pod(
        1,
        json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }),
    )
}

fn with_container(id: &str, running: bool) -> Pod {
    let statuses = json!([container("srs", id, running)]);
    pod(1, json!({ "status": { "containerStatuses": statuses } }))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_healthy_pod_changes_nothing_but_the_process() {
    let mut world = world();
    world.pods.applied(&pod(1, json!({})), Instant::now());
    assert_eq!(world.backends(), [READY]);
    assert_ne!(
        world.derive().desired.services[0].backends[0]
            .tenant
            .process,
        0
    );
    assert_eq!(world.pods.next_expiry(), None);
}

#[test]
fn not_ready_keeps_only_for_thirty_seconds_or_until_ready_again() {
    let mut world = world();
    let now = Instant::now();
    world.pods.applied(&not_ready(), now);
    assert_eq!(world.backends(), [KEEPS]);
    assert_eq!(world.pods.next_expiry(), Some(now + seconds(30)));

    // The same news again does not begin anew.
    world.pods.applied(&not_ready(), now + seconds(20));
    world.pods.expire(now + seconds(29));
    assert_eq!(world.backends(), [KEEPS]);
    world.pods.expire(now + seconds(30));
    assert_eq!(world.backends(), [READY]);
    assert_eq!(world.pods.next_expiry(), None);
    world.pods.applied(&not_ready(), now + seconds(31));
    assert_eq!(world.backends(), [READY]);

    // Ready in between: news again.
    world.pods.applied(&pod(1, json!({})), now + seconds(32));
    world.pods.applied(&not_ready(), now + seconds(33));
    assert_eq!(world.backends(), [KEEPS]);
    world.pods.applied(&pod(1, json!({})), now + seconds(34));
    assert_eq!(world.backends(), [READY]);
}

#[test]
fn a_pod_never_brings_its_backend_up() {
    let mut world = super::world(
        json!({}),
        &[
            judged(1, false, false, false),
            judged(2, false, true, false),
        ],
    );
    world.pods.applied(&pod(1, json!({})), Instant::now());
    world.pods.applied(&pod(2, json!({})), Instant::now());
    world.pods.applied(&pod(3, json!({})), Instant::now());
    assert_eq!(world.backends(), ["(srs-2 10.0.0.2:9000)"]);
}

#[test]
fn a_pod_that_is_deleted_keeps_and_does_not_expire() {
    let mut world = world();
    let now = Instant::now();
    let deleting = pod(
        1,
        json!({ "metadata": { "deletionTimestamp": "2026-02-01T00:00:00Z" } }),
    );
    world.pods.applied(&deleting, now);
    assert_eq!(world.backends(), [KEEPS]);
    world.pods.expire(now + seconds(3600));
    assert_eq!(world.backends(), [KEEPS]);
    assert_eq!(world.pods.next_expiry(), None);
}

#[test]
fn the_only_pod_goes_on_taking_sessions_while_it_is_deleted() {
    let mut world = super::world(json!({}), &[endpoint(1, json!({}))]);
    let deleting = json!({ "metadata": { "deletionTimestamp": "2026-02-01T00:00:00Z" } });
    world
        .pods
        .applied(&pod(1, deleting.clone()), Instant::now());
    assert_eq!(world.backends(), [READY], "as kube-proxy has it");
    let mut unready = not_ready();
    unready.metadata = pod(1, deleting).metadata;
    world.pods.applied(&unready, Instant::now());
    assert_eq!(world.backends(), [KEEPS], "unless it is not ready itself");
}

#[test]
fn a_pod_that_is_gone_stays_gone() {
    let mut world = world();
    let now = Instant::now();
    world.pods.applied(&pod(1, json!({})), now);
    world.pods.deleted(&pod(1, json!({})));
    assert_eq!(world.backends(), NOBODY);
    world.pods.applied(&pod(1, json!({})), now);
    world.pods.expire(now + seconds(3600));
    world.pods.forget_unreferenced(&world.slices);
    assert_eq!(world.backends(), NOBODY, "an old slice still lists it");

    // Another pod gets its name and address.
    let next = endpoint(1, json!({ "targetRef": { "uid": "uid-next" } }));
    world.slices = vec![slice("srs", json!({ "endpoints": [next] }))];
    assert_eq!(world.backends(), [READY]);
}

#[test]
fn gone_pods_are_forgotten_a_while_after_the_last_slice_refers_to_them() {
    let mut world = world();
    let now = Instant::now();
    world.pods.applied(&pod(1, json!({})), now);
    world.pods.deleted(&pod(1, json!({})));
    let forget_at = |world: &mut World, after: u64, slices: &[Arc<EndpointSlice>]| {
        world.pods.expire(now + seconds(after));
        world.pods.forget_unreferenced(slices);
    };
    // A slice on its way may still list it.
    forget_at(&mut world, 29, &[]);
    assert_eq!(world.backends(), NOBODY);
    let slices = world.slices.clone();
    forget_at(&mut world, 3600, &slices);
    assert_eq!(world.backends(), NOBODY);
    forget_at(&mut world, 3601, &[]);
    assert_eq!(world.backends(), [READY]);
}

#[test]
fn a_pod_that_has_ended_is_gone() {
    for phase in ["Succeeded", "Failed"] {
        let mut world = world();
        world.pods.applied(
            &pod(1, json!({ "status": { "phase": phase } })),
            Instant::now(),
        );
        assert_eq!(world.backends(), NOBODY, "{phase}");
    }
}

#[test]
fn a_relist_tells_of_pods_that_vanished_meanwhile() {
    let mut world = super::world(
        json!({}),
        &[
            endpoint(1, json!({})),
            endpoint(2, json!({})),
            endpoint(3, json!({})),
        ],
    );
    let now = Instant::now();
    world.pods.applied(&pod(1, json!({})), now);
    world.pods.applied(&pod(2, json!({})), now);
    // Of pod 3 nothing is known yet: its slice is right.
    world.pods.relisted(&[Arc::new(pod(2, json!({})))], now);
    assert_eq!(
        world.backends(),
        ["srs-2 10.0.0.2:9000", "srs-3 10.0.0.3:9000"]
    );
}

#[test]
fn a_container_that_does_not_run_serves_nobody_for_thirty_seconds() {
    let waiting = json!([{ "name": "srs", "state": { "waiting": {} }, "ready": false, "restartCount": 0, "image": "", "imageID": "" }]);
    let waiting = pod(1, json!({ "status": { "containerStatuses": waiting } }));
    for pod in [with_container("containerd://1", false), waiting] {
        let mut world = world();
        let now = Instant::now();
        world.pods.applied(&pod, now);
        assert_eq!(world.backends(), NOBODY);
        world.pods.expire(now + seconds(30));
        assert_eq!(world.backends(), [READY]);
    }
}

#[test]
fn a_restart_is_another_process_and_news_again() {
    let mut world = world();
    let now = Instant::now();
    let mut process = |pod: &Pod| {
        world.pods.applied(pod, now);
        world.derive().desired.services[0]
            .backends
            .first()
            .map(|b| b.tenant)
    };
    let first = process(&with_container("containerd://1", true)).unwrap();
    let second = process(&with_container("containerd://2", true)).unwrap();
    assert_eq!(first.pod, second.pod);
    assert_ne!(first.process, second.process);

    assert_eq!(process(&with_container("containerd://2", false)), None);
    world.pods.expire(now + seconds(30));
    assert_eq!(world.backends(), [READY]);
    world
        .pods
        .applied(&with_container("containerd://3", false), now + seconds(31));
    assert_eq!(world.backends(), NOBODY, "it ran and died unseen");
}

#[test]
fn no_status_yet_says_nothing() {
    let mut world = world();
    world
        .pods
        .applied(&pod(1, json!({ "status": null })), Instant::now());
    assert_eq!(world.backends(), [READY]);
    assert_eq!(
        world.derive().desired.services[0].backends[0]
            .tenant
            .process,
        0
    );
}

#[test]
fn the_container_that_lists_the_port_serves_it() {
    let spec = |ports: Value| json!({ "containers": [{ "name": "logs" }, { "name": "srs", "ports": ports }] });
    let udp = json!([{ "containerPort": 9000, "protocol": "UDP" }]);
    let tcp = json!([{ "containerPort": 9000, "protocol": "TCP" }]);
    let cases = [
        (udp.clone(), "srs", NOBODY),
        (udp, "logs", &[READY]),
        // Nobody knows whose port it is.
        (tcp, "srs", &[READY]),
    ];
    for (ports, stopped, expected) in cases {
        let mut world = world();
        let statuses = json!([
            container("logs", "c://logs", stopped != "logs"),
            container("srs", "c://srs", stopped != "srs")
        ]);
        let differs = json!({ "spec": spec(ports), "status": { "containerStatuses": statuses } });
        world.pods.applied(&pod(1, differs), Instant::now());
        assert_eq!(world.backends(), expected, "{stopped}");
    }
}

#[test]
fn sidecars_do_not_count() {
    let mut world = world();
    let sidecar = json!([container("proxy", "c://proxy", false)]);
    let differs = json!({
        "spec": { "initContainers": [{ "name": "proxy", "restartPolicy": "Always" }] },
        "status": { "initContainerStatuses": sidecar },
    });
    world.pods.applied(&pod(1, differs), Instant::now());
    assert_eq!(world.backends(), [READY]);
}

#[test]
fn not_ready_is_ignored_where_not_ready_addresses_are_published() {
    let differs = json!({ "spec": { "publishNotReadyAddresses": true } });
    let mut world = super::world(differs, &[endpoint(1, json!({}))]);
    world.pods.applied(&not_ready(), Instant::now());
    assert_eq!(world.backends(), [READY]);
    world.pods.deleted(&not_ready());
    assert_eq!(world.backends(), NOBODY);
}
