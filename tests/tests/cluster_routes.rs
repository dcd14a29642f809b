//! StreamRoutes in a cluster: what the API server refuses, what the agents make of them, and what they say of it.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::time::{Duration, Instant};

use ingest_tests::built;
use ingest_tests::cleanup::{Guard, Resource, unique_name};
use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::objects::{self, Endpoint, NAMESPACE};
use ingest_tests::cluster::{Cluster, SERVICE, SLICE, rights};
use ingest_tests::netns::{Family, VIP_V4};
use ingest_tests::peers::{Caller, CallerOptions};
use ingest_tests::process::Process;
use ingest_tests::scene::LIMIT;
use serde_json::{Value, json};

/// A Service without an address, whose pods only a route leads to.
const POOL: &str = "acme";
const POOL_SLICE: &str = "acme-q9w8e";
/// The agent asks this often for a kind that the cluster lacks, and some.
const ASKED_AGAIN: Duration = Duration::from_secs(45);

fn route(name: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "ingest.steering.dev/v1alpha1",
        "kind": "StreamRoute",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"parentRefs": [{"name": SERVICE}], "rules": rules},
    })
}

fn resource(kind: &str, value: &str) -> Value {
    json!({"resource": {"type": kind, "value": value}})
}

fn acme() -> Value {
    let matches = [resource("Prefix", "acme/")];
    route(
        "acme",
        &json!([{"matches": matches, "backendRef": {"name": POOL}, "quota": {"streams": 20}}]),
    )
}

/// A pool of the last `count` of the cluster's pods; the others stay the Service's.
fn with_pool(cluster: &mut Cluster, count: usize) {
    let mut service = objects::service(POOL, &[]);
    service["metadata"]["labels"] = json!({});
    service["spec"]["type"] = json!("ClusterIP");
    let spec = service["spec"].as_object_mut().unwrap();
    spec.remove("allocateLoadBalancerNodePorts");
    service.as_object_mut().unwrap().remove("status");
    cluster.client.apply(&service).unwrap();
    let all = cluster.endpoints();
    let (own, pool) = all.split_at(all.len() - count);
    let publish = |service: &str, slice: &str, endpoints: &[Endpoint]| {
        let slice = objects::slice(service, slice, endpoints);
        cluster.client.apply(&slice).unwrap();
    };
    publish(POOL, POOL_SLICE, pool);
    publish(SERVICE, SLICE, own);
}

/// `Type=Status Reason` of the conditions, and whether they are of the route's generation.
fn conditions(cluster: &Cluster, route: &Value) -> (Vec<String>, bool) {
    let found = cluster.client.get(route).unwrap();
    let generation = &found["metadata"]["generation"];
    let all = found["status"]["conditions"].as_array();
    let all = all.into_iter().flatten();
    let current = all.clone().all(|c| c["observedGeneration"] == *generation);
    let words = all.map(|c| {
        let text = |field: &str| c[field].as_str().unwrap().to_owned();
        format!("{}={} {}", text("type"), text("status"), text("reason"))
    });
    (words.collect(), current)
}

fn wait_conditions(cluster: &Cluster, route: &Value, expected: [&str; 3]) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let (found, current) = conditions(cluster, route);
        if found == expected && current {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{found:?} (current: {current}), not {expected:?}; the agent said:\n{}",
            cluster.agent.said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

const GOOD: [&str; 3] = [
    "Accepted=True Accepted",
    "ResolvedRefs=True ResolvedRefs",
    "Programmed=True Programmed",
];

/// Waits until the maps have matches of routes of these names, and of no others. A route's counters stay a while.
fn wait_routes(cluster: &Cluster, names: &[&str], limit: Duration) {
    let found = cluster.agent.wait_json(&["routes"], limit, |rows| {
        let rows = rows.as_array()?.iter();
        let rows = rows.filter(|row| row["matches"] != 0);
        let found: Vec<_> = rows.filter_map(|row| row["name"].as_str()).collect();
        (found == names).then_some(())
    });
    found.unwrap();
}

/// * what the schema calls wrong, the API server refuses, and says why;
/// * what is right, it takes, shows in columns, and finds by the short name and the category.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_api_server_refuses_what_makes_no_sense() {
    let cluster = Cluster::new(Plugin::Ptp).unwrap();
    let to = json!({"name": POOL});
    let of = |wanted: Value| json!([{"matches": [wanted], "backendRef": to}]);
    let good = resource("Prefix", "acme/");
    for (rules, word) in [
        (of(json!({})), "or a mode"),
        (
            of(json!({"user": {"value": "u"}, "host": {"value": "h"}})),
            "at most one of",
        ),
        (
            of(json!({"source": "10.0.0.0/8", "user": {"value": "u"}})),
            "at most one of",
        ),
        (
            of(json!({"source": "10.0.0.0/8", "mode": "publish"})),
            "whatever the mode",
        ),
        (of(json!({"mode": "bidirectional"})), "Unsupported value"),
        (of(resource("Exact", "")), "1 to 123 bytes"),
        (of(resource("Exact", &"x".repeat(124))), "1 to 123 bytes"),
        (of(resource("Prefix", &"x".repeat(125))), "Too long"),
        (of(resource("Prefix", "a\0b")), "zero byte"),
        (of(resource("Regex", "a")), "Unsupported value"),
        (json!([{"matches": [good]}]), "exactly one of backendRef"),
        (
            json!([{"matches": [good], "reject": false}]),
            "exactly one of backendRef",
        ),
        (
            json!([{"matches": [good], "reject": true, "backendRef": to}]),
            "exactly one of backendRef",
        ),
        (
            json!([{"matches": [good], "reject": true, "quota": {"streams": 1}}]),
            "has no quota",
        ),
        (
            json!([{"matches": [good], "backendRef": to, "quota": {"streams": 0}}]),
            "greater than or equal to 1",
        ),
        (
            json!([{"matches": [], "backendRef": to}]),
            "at least 1 item",
        ),
        (json!([]), "at least 1 item"),
    ] {
        let refused = cluster.client.apply(&route("wrong", &rules));
        let error = format!("{:#}", refused.expect_err(&rules.to_string()));
        assert!(error.contains(word), "{word}: {error}");
    }
    let all = json!([
        {
            "matches": [
                resource("Exact", &"x".repeat(123)),
                resource("Prefix", &"x".repeat(124)),
                {"streamId": {"value": "x"}, "mode": "request"},
                {"mode": "publish"},
                {"source": "2001:db8::/32"},
            ],
            "backendRef": {"name": POOL, "port": 9000},
            "quota": {"streams": 1, "sessionsPerSecond": 1, "streamBitrate": 1, "bitrate": 100_000_000_000_i64},
        },
        {"matches": [good], "reject": true},
    ]);
    let applied = cluster.client.apply(&route("right", &all)).unwrap();
    let default = &applied["spec"]["rules"][0]["matches"][2]["streamId"]["type"];
    assert_eq!(*default, "Exact");
    for kind in ["sroute", "ingest"] {
        let shown = cluster.server.kubectl(&["get", kind, "-n", NAMESPACE]);
        let shown = shown.unwrap();
        let columns: Vec<_> = shown.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(
            columns,
            ["NAME", "SERVICE", "ACCEPTED", "PROGRAMMED", "AGE"]
        );
        assert!(shown.contains(SERVICE), "{shown}");
    }
}

/// * a route to a pool is in the maps, and its status says so;
/// * one that is younger and wants the same is told of it; it takes over once the other is gone;
/// * where the pool's Service is gone, the route is out of the maps, and told why.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_route_is_in_the_maps_and_its_status_follows() {
    let mut cluster = Cluster::with_pods(Plugin::Ptp, 3).unwrap();
    with_pool(&mut cluster, 1);
    let first = acme();
    let applied = Instant::now();
    cluster.client.apply(&first).unwrap();
    wait_routes(&cluster, &["live/acme"], LIMIT);
    println!("route applied to in the maps: {:?}", applied.elapsed());
    wait_conditions(&cluster, &first, GOOD);
    println!("route applied to Programmed: {:?}", applied.elapsed());
    // Its creation is of a later second.
    std::thread::sleep(Duration::from_millis(1100));
    let second = route(
        "banned",
        &json!([{"matches": [resource("Prefix", "acme/")], "reject": true}]),
    );
    cluster.client.apply(&second).unwrap();
    let conflict = [
        "Accepted=False Conflict",
        "ResolvedRefs=True ResolvedRefs",
        "Programmed=False NotAccepted",
    ];
    wait_conditions(&cluster, &second, conflict);
    wait_routes(&cluster, &["live/acme"], LIMIT);
    cluster.client.delete(&first).unwrap();
    wait_routes(&cluster, &["live/banned"], LIMIT);
    wait_conditions(&cluster, &second, GOOD);
    cluster.client.delete(&second).unwrap();
    wait_routes(&cluster, &[], LIMIT);

    cluster.client.apply(&first).unwrap();
    wait_conditions(&cluster, &first, GOOD);
    let since =
        cluster.client.get(&first).unwrap()["status"]["conditions"][0]["lastTransitionTime"]
            .clone();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": POOL, "namespace": NAMESPACE}});
    cluster.client.delete(&service).unwrap();
    let nowhere = [
        "Accepted=True Accepted",
        "ResolvedRefs=False BackendNotFound",
        "Programmed=False Pending",
    ];
    wait_conditions(&cluster, &first, nowhere);
    wait_routes(&cluster, &[], LIMIT);
    let found = cluster.client.get(&first).unwrap();
    assert_eq!(
        found["status"]["conditions"][0]["lastTransitionTime"],
        since
    );
}

fn pod_of(cluster: &Cluster, stream: &str) -> usize {
    let options = CallerOptions::lasting(1e6, 0.2);
    let target = cluster.target(stream);
    let caller = Caller::start(&cluster.topology.client, &target, &options).unwrap();
    caller.finish(LIMIT).unwrap();
    cluster.seat(stream).unwrap()
}

/// * a customer's streams are at the pod that the route names, and nobody else's are;
/// * once the route is gone, they are at the Service's own pods.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_customers_streams_are_at_its_own_pod_while_there_is_a_route() {
    let mut cluster = Cluster::with_pods(Plugin::Ptp, 3).unwrap();
    with_pool(&mut cluster, 1);
    cluster.client.apply(&acme()).unwrap();
    wait_routes(&cluster, &["live/acme"], LIMIT);
    for camera in 0..4 {
        let acmes = pod_of(&cluster, &format!("#!::r=acme/{camera},m=publish"));
        assert_eq!(acmes, 2, "a stream of acme's");
        let others = pod_of(&cluster, &format!("#!::r=other/{camera},m=publish"));
        assert_ne!(others, 2, "a stream of somebody else's");
    }
    cluster.client.delete(&acme()).unwrap();
    wait_routes(&cluster, &[], LIMIT);
    for camera in 4..8 {
        let acmes = pod_of(&cluster, &format!("#!::r=acme/{camera},m=publish"));
        assert_ne!(acmes, 2, "a stream that no route matches");
    }
}

/// Another node's agent: on an interface of its own, without pods.
fn other_agent(cluster: &Cluster) -> (Process, Guard) {
    let node = &cluster.topology.node;
    let uplink = "ip link add uplink-b up type veth peer name wire-b";
    node.shell(uplink).unwrap();
    let pins = std::path::Path::new("/sys/fs/bpf").join(unique_name("pins-b"));
    let guard = Guard::new(Resource::Directory(pins.clone()));
    let mut command = node.command(built("INGEST_AGENT", "release/ingest-agent").unwrap());
    command
        .arg("--pin-root")
        .arg(&pins)
        .args(["run", "--source", "kubernetes", "--uplink", "uplink-b"])
        .args(["--node-name", "node-b", "--metrics-addr", "127.0.0.1:9466"])
        .args(["--page-addr", "none"])
        .arg("--kubeconfig")
        .arg(cluster.server.kubeconfig("agent"));
    (Process::spawn("the other agent", command).unwrap(), guard)
}

/// Two agents, which see the same, write each change of a route's status once, or hardly more, and then come to rest.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_agents_do_not_fight_over_a_status() {
    const CHANGES: usize = 6;
    let mut cluster = Cluster::with_pods(Plugin::Ptp, 2).unwrap();
    with_pool(&mut cluster, 1);
    let (mut other, _guard) = other_agent(&cluster);
    let acme = acme();
    cluster.client.apply(&acme).unwrap();
    wait_conditions(&cluster, &acme, GOOD);
    for change in 1..CHANGES {
        let mut changed = acme.clone();
        changed["spec"]["rules"][0]["quota"]["streams"] = json!(change);
        cluster.client.apply(&changed).unwrap();
        wait_conditions(&cluster, &acme, GOOD);
    }
    let ready = node_get(&cluster, "http://127.0.0.1:9466/readyz");
    assert!(ready, "the other agent: {}", other.said());
    let version = || cluster.client.get(&acme).unwrap()["metadata"]["resourceVersion"].clone();
    std::thread::sleep(Duration::from_secs(2));
    let rested = version();
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(version(), rested, "it is still written");
    let audit = cluster.server.audit(&rights::user().unwrap()).unwrap();
    let writes = audit
        .iter()
        .filter(|e| e.resource().as_deref() == Some("streamroutes/status"));
    let count = |code: u16| writes.clone().filter(|e| e.code() == code).count();
    println!(
        "{CHANGES} changes: {} writes, {} outrun",
        count(200),
        count(409)
    );
    // Accepted and Programmed may come one after the other.
    assert!(
        (CHANGES..=2 * CHANGES).contains(&count(200)),
        "{}",
        count(200)
    );
    assert_eq!(count(200) + count(409), writes.count());
    assert!(other.try_wait().unwrap().is_none(), "{}", other.said());
}

fn node_get(cluster: &Cluster, url: &str) -> bool {
    let get = format!("curl --silent --fail --max-time 2 {url}");
    cluster.topology.node.shell(&get).is_ok()
}

/// * without the definition the agent becomes ready and says once that it goes on without;
/// * routes count once it is there.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_cluster_that_knows_no_routes_is_steered_without() {
    let mut cluster = Cluster::new(Plugin::Ptp).unwrap();
    cluster.server.remove_routes().unwrap();
    let service = objects::service(SERVICE, &[VIP_V4.into()]);
    cluster.client.apply(&service).unwrap();
    for _ in 0..2 {
        cluster.add_pod().unwrap();
    }
    with_pool(&mut cluster, 1);
    cluster.start_agent(&[]).unwrap();
    cluster.wait_backends(1).unwrap();
    let said = cluster.agent.said();
    assert_eq!(said.matches("going on without").count(), 1, "{said}");
    cluster.server.install_routes().unwrap();
    cluster.client.apply(&acme()).unwrap();
    wait_routes(&cluster, &["live/acme"], ASKED_AGAIN);
    wait_conditions(&cluster, &acme(), GOOD);
    let explained = cluster.agent.json(&["services"]).unwrap();
    let vip = Family::V4.vip().to_string();
    assert!(explained.to_string().contains(&vip), "{explained}");
}
