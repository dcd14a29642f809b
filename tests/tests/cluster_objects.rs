//! What Services and EndpointSlices say is what is steered, whatever shape they come in.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::load::STREAMS;
use ingest_tests::cluster::objects::{self, Endpoint};
use ingest_tests::cluster::{Cluster, SERVICE};
use ingest_tests::monotonic_ns;
use ingest_tests::netns::{Family, VIP_V4};
use ingest_tests::peers::{Caller, CallerOptions, Listener, ListenerOptions, LiveTransmit, Target};
use ingest_tests::scene::LIMIT;
use serde_json::{Value, json};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Waits until the rows of `list` that `is_counted` likes say `expected` in `field`.
fn wait_rows(
    cluster: &Cluster,
    list: &str,
    is_counted: impl Fn(&Value) -> bool,
    field: &str,
    expected: &[&str],
) {
    let expected: BTreeSet<_> = expected.iter().map(|text| (*text).to_owned()).collect();
    let mut last = BTreeSet::new();
    let found = cluster.agent.wait_json(&[list], LIMIT, |rows| {
        let rows = rows.as_array()?.iter().filter(|row| is_counted(row));
        last = rows
            .filter_map(|row| row[field].as_str().map(str::to_owned))
            .collect();
        (last == expected).then_some(())
    });
    assert!(found.is_ok(), "{list}: {last:?} is not {expected:?}");
}

/// Waits until the addresses of the backends that take new sessions are `expected`.
fn wait_backends(cluster: &Cluster, expected: &[&str]) {
    wait_rows(
        cluster,
        "backends",
        |row| row["state"] == "serving",
        "address",
        expected,
    );
}

/// Waits until the VIP:ports that are steered are `expected`.
fn wait_vips(cluster: &Cluster, expected: &[&str]) {
    wait_rows(
        cluster,
        "services",
        |row| row["closing"] != true,
        "vip",
        expected,
    );
}

/// Makes the host itself answer at `vip`: for what is left to it.
fn host_at(cluster: &Cluster, vip: IpAddr) -> Listener {
    let node = &cluster.topology.node;
    node.shell(&format!("ip address add {vip}/32 dev lo"))
        .unwrap();
    let options = ListenerOptions {
        address: Some(vip),
        ..ListenerOptions::default()
    };
    Listener::start(node, "host", &options).unwrap()
}

/// A cluster with a running agent, and nothing to steer.
fn empty(arguments: &[&str]) -> Cluster {
    let mut cluster = Cluster::new(Plugin::Ptp).unwrap();
    cluster.start_agent(arguments).unwrap();
    cluster
}

/// * an endpoint is in two slices that disagree: it is one backend, and the better word counts;
/// * slices with different numbers of one named port are joined;
/// * an endpoint moves to another slice, written there first: its session does not notice;
/// * it moves back, and is nowhere in between: its session does not notice that either;
/// * a family comes with its own slice, and callers of that VIP reach it.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn slices_are_joined() {
    let mut cluster = empty(&[]);
    let vips = [Family::V4.vip(), Family::V6.vip()];
    let apply = |object: &Value| cluster.client.apply(object).unwrap();
    apply(&objects::service(SERVICE, &vips));
    let a = Endpoint::new(ip("10.9.0.1"));
    let mut worse = a.clone();
    worse.ready = Some(false);
    apply(&objects::slice(SERVICE, "one", std::slice::from_ref(&a)));
    apply(&objects::slice(
        SERVICE,
        "two",
        &[worse, Endpoint::new(ip("10.9.0.2"))],
    ));
    wait_backends(&cluster, &["10.9.0.1:9000", "10.9.0.2:9000"]);

    let mut slice = objects::slice(SERVICE, "two", &[Endpoint::new(ip("10.9.0.3"))]);
    slice["ports"][0]["port"] = json!(9001);
    apply(&slice);
    wait_backends(&cluster, &["10.9.0.1:9000", "10.9.0.3:9001"]);
    cluster.client.delete(&slice).unwrap();
    cluster
        .client
        .delete(&objects::slice(SERVICE, "one", &[]))
        .unwrap();
    wait_backends(&cluster, &[]);

    for _ in 0..2 {
        cluster.add_pod().unwrap();
    }
    let [a, b] = [0, 1].map(|pod| cluster.pods[pod].endpoint.clone().unwrap());
    let write = |name: &str, endpoints: &[Endpoint]| {
        let slice = objects::slice(SERVICE, name, endpoints);
        cluster.client.apply(&slice).unwrap();
    };
    write("one", &[a.clone(), b.clone()]);
    cluster.wait_backends(2).unwrap();
    let options = CallerOptions::lasting(2e6, 3.0);
    let client = &cluster.topology.client;
    let caller = Caller::start(client, &cluster.target("live/cam1"), &options).unwrap();
    let (seat, _) = cluster.wait_accepted("live/cam1", 0, LIMIT).unwrap();
    let (moving, staying) = if seat == 0 { (&a, &b) } else { (&b, &a) };
    write("two", std::slice::from_ref(moving));
    std::thread::sleep(Duration::from_millis(300));
    write("one", std::slice::from_ref(staying));
    std::thread::sleep(Duration::from_millis(300));
    write("two", &[]);
    // Two writes of one controller are much closer than that.
    std::thread::sleep(Duration::from_millis(200));
    write("one", &[staying.clone(), moving.clone()]);
    let sent = caller.finish(LIMIT).unwrap();
    let session = cluster.pods[seat]
        .listener
        .wait_closed("live/cam1", LIMIT)
        .unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{session:?}"
    );
    assert_eq!(cluster.accepted("live/cam1", 0).len(), 1);
    write("one", &[]);
    write("two", &[a, b]);
    cluster.wait_backends(2).unwrap();

    let v6 = cluster.pods[0].place.pod.v6;
    write("six", &[Endpoint::new(v6.into())]);
    cluster.wait_backends(3).unwrap();
    let options = ListenerOptions {
        family: Family::V6,
        ..ListenerOptions::default()
    };
    let listener = Listener::start(&cluster.pods[0].place.pod.netns, "six", &options).unwrap();
    let target = Target::new(Family::V6.vip(), "live/six");
    let caller = Caller::start(client, &target, &CallerOptions::lasting(1e6, 0.2)).unwrap();
    caller.finish(LIMIT).unwrap();
    listener.wait_closed("live/six", LIMIT).unwrap();
}

/// * a Service's VIP changes: callers of the new one get through, and the old one is nobody's;
/// * the Service is deleted: its sessions end at both ends, and what comes later is the host's.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn vips_and_services_go() {
    let cluster = Cluster::with_pods(Plugin::Ptp, 1).unwrap();
    let vip = ip("203.0.113.11");
    cluster
        .client
        .apply(&objects::service(SERVICE, &[vip]))
        .unwrap();
    wait_vips(&cluster, &["203.0.113.11:9000"]);
    let client = &cluster.topology.client;
    let target = Target::new(vip, STREAMS[0]);
    let _encoder = LiveTransmit::start(client, &target, 1, 2e6).unwrap();
    cluster.wait_accepted(STREAMS[0], 0, LIMIT).unwrap();
    std::thread::sleep(Duration::from_millis(500));

    let host = host_at(&cluster, vip);
    let deleted = monotonic_ns();
    cluster
        .client
        .delete(&objects::service(SERVICE, &[]))
        .unwrap();
    let soon = Duration::from_secs(2);
    host.wait_accepted(STREAMS[0], deleted, soon).unwrap();
    let session = cluster.pods[0]
        .listener
        .wait_closed(STREAMS[0], soon)
        .unwrap();
    assert!(session.is_whole(), "{session:?}");
    wait_vips(&cluster, &[]);
}

/// * two Services share an address, on different ports;
/// * a younger one that wants what an older one has does not get it, and is told;
/// * the older one goes: the younger one has it;
/// * without its label a Service is not ours.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn services_share_addresses_and_the_older_one_wins() {
    let cluster = empty(&[]);
    let on_port = |name: &str, port: u16| {
        let mut service = objects::service(name, &[VIP_V4.into()]);
        service["spec"]["ports"][0]["port"] = json!(port);
        service
    };
    let apply = |object: &Value| cluster.client.apply(object).unwrap();
    apply(&on_port("m", 9000));
    apply(&on_port("n", 9001));
    wait_vips(&cluster, &["203.0.113.10:9000", "203.0.113.10:9001"]);
    // Ages are in seconds.
    std::thread::sleep(Duration::from_millis(1100));
    apply(&on_port("a", 9000));
    let event = cluster
        .client
        .wait_event("Service", "a", "VipConflict", LIMIT)
        .unwrap();
    assert!(
        event.contains("203.0.113.10") && event.contains("live/m"),
        "{event}"
    );
    let rows = cluster.agent.json(&["services"]).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");

    cluster.client.delete(&on_port("m", 9000)).unwrap();
    wait_rows(
        &cluster,
        "services",
        |row| row["closing"] != true,
        "name",
        &["live/a:srt", "live/n:srt"],
    );
    let mut unlabelled = on_port("n", 9001);
    unlabelled["metadata"]["labels"] = json!({});
    apply(&unlabelled);
    wait_vips(&cluster, &["203.0.113.10:9000"]);
}

/// * a TCP port beside an SRT one is told to be none of ours, and the SRT one is steered.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn tcp_ports_are_told_and_left() {
    let cluster = empty(&[]);
    let mut service = objects::service(SERVICE, &[VIP_V4.into()]);
    let tcp = json!({"name": "rtmp", "protocol": "TCP", "port": 1935, "targetPort": 1935});
    service["spec"]["ports"].as_array_mut().unwrap().push(tcp);
    cluster.client.apply(&service).unwrap();
    let client = &cluster.client;
    let event = client
        .wait_event("Service", SERVICE, "UnsupportedPort", LIMIT)
        .unwrap();
    assert!(event.contains("rtmp"), "{event}");
    wait_vips(&cluster, &["203.0.113.10:9000"]);
}

/// * all ready endpoints are on another node: callers are left to the host, which is counted and told;
/// * one comes here: it gets them.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_ready_elsewhere_is_left_to_the_host() {
    let mut cluster = empty(&[]);
    cluster
        .client
        .apply(&objects::service(SERVICE, &[VIP_V4.into()]))
        .unwrap();
    let remote = Endpoint::new(ip("10.8.0.1")).elsewhere();
    let slice = objects::slice(SERVICE, "one", std::slice::from_ref(&remote));
    cluster.client.apply(&slice).unwrap();
    let client = &cluster.client;
    client
        .wait_event("Service", SERVICE, "ReadyElsewhere", LIMIT)
        .unwrap();
    let host = host_at(&cluster, VIP_V4.into());
    let call = |cluster: &Cluster, stream: &str| {
        let options = CallerOptions::lasting(1e6, 0.2);
        let target = cluster.target(stream);
        let caller = Caller::start(&cluster.topology.client, &target, &options).unwrap();
        caller.finish(LIMIT).unwrap();
    };
    call(&cluster, "live/elsewhere");
    host.wait_closed("live/elsewhere", LIMIT).unwrap();
    let passed = cluster
        .agent
        .metric("ingest_passes_total", "elsewhere")
        .unwrap();
    assert!(passed > 0.0);

    let pod = cluster.add_pod().unwrap();
    let here = cluster.pods[pod].endpoint.clone().unwrap();
    cluster
        .client
        .apply(&objects::slice(SERVICE, "one", &[remote, here]))
        .unwrap();
    cluster.wait_backends(1).unwrap();
    call(&cluster, "live/here");
    assert_eq!(cluster.seat("live/here").unwrap(), pod);
}

/// * external IPs are no VIPs, unless the administrator says so.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn external_ips_need_the_administrators_word() {
    let mut cluster = empty(&[]);
    let mut service = objects::service(SERVICE, &[VIP_V4.into()]);
    service["spec"]["externalIPs"] = json!(["203.0.113.30"]);
    cluster.client.apply(&service).unwrap();
    wait_vips(&cluster, &["203.0.113.10:9000"]);
    cluster.agent.stop().unwrap();
    cluster.start_agent(&["--allow-external-ips"]).unwrap();
    wait_vips(&cluster, &["203.0.113.10:9000", "203.0.113.30:9000"]);
}

/// * a Service of our class gets the addresses it asks for, in its status, as far as the administrator allows them;
/// * for others it is told;
/// * a Service of another class keeps its status.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn our_class_gets_its_addresses_within_the_range() {
    let cluster = empty(&["--vip-range", "203.0.113.0/24"]);
    let ours = |name: &str, vips: &str| {
        let mut service = objects::service(name, &[]);
        service["spec"]["loadBalancerClass"] = json!("ingest.steering.dev/xdp");
        service["metadata"]["annotations"] = json!({"ingest.steering.dev/vips": vips});
        service["metadata"]["labels"] = json!({});
        service.as_object_mut().unwrap().remove("status");
        service
    };
    let mut others = objects::service("others", &[ip("203.0.113.50")]);
    others["spec"]["loadBalancerClass"] = json!("example.com/other");
    cluster.client.apply(&others).unwrap();
    cluster
        .client
        .apply(&ours("inside", "203.0.113.40"))
        .unwrap();
    cluster
        .client
        .apply(&ours("outside", "198.51.100.1"))
        .unwrap();
    wait_vips(&cluster, &["203.0.113.40:9000", "203.0.113.50:9000"]);
    let client = &cluster.client;
    let event = client
        .wait_event("Service", "outside", "VipNotAllowed", LIMIT)
        .unwrap();
    assert!(event.contains("198.51.100.1"), "{event}");
    let ingress = |name: &str| {
        let service = client.get(&objects::service(name, &[])).unwrap();
        service["status"]["loadBalancer"]["ingress"][0]["ip"].clone()
    };
    assert_eq!(ingress("inside"), "203.0.113.40");
    assert_eq!(ingress("outside"), Value::Null);
    assert_eq!(ingress("others"), "203.0.113.50");
}

/// * who is in no source range of the Service does not get in;
/// * once its range is added it does.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn source_ranges_keep_others_out() {
    let cluster = Cluster::with_pods(Plugin::Ptp, 1).unwrap();
    let mut service = objects::service(SERVICE, &[VIP_V4.into()]);
    service["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.0/24"]);
    cluster.client.apply(&service).unwrap();
    let limited = cluster.agent.wait_json(&["services"], LIMIT, |rows| {
        (rows[0]["source_ranges"] == true).then_some(())
    });
    limited.unwrap();
    let target = cluster.target(STREAMS[0]);
    let client = &cluster.topology.client;
    let _encoder = LiveTransmit::start(client, &target, 1, 1e6).unwrap();
    let early = cluster.wait_accepted(STREAMS[0], 0, Duration::from_millis(1500));
    assert!(early.is_err(), "{early:?}");
    service["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.0/24", "10.1.0.0/24"]);
    cluster.client.apply(&service).unwrap();
    cluster.wait_accepted(STREAMS[0], 0, LIMIT).unwrap();
}
