//! Fields of a Service that change where its sessions go.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::net::SocketAddr;

use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::objects::{self, Endpoint};
use ingest_tests::cluster::{Cluster, SERVICE, SLICE};
use ingest_tests::netns::Family;
use ingest_tests::peers::{Caller, CallerOptions, Target};
use ingest_tests::scene::LIMIT;
use serde_json::json;

/// Short sessions of a client, each from a port of its own; gives the pods they came to.
fn seats(cluster: &Cluster, prefix: &str, count: usize) -> Vec<usize> {
    let names: Vec<String> = (0..count).map(|i| format!("live/{prefix}{i}")).collect();
    let callers = names.iter().map(|name| {
        let options = CallerOptions::lasting(1e6, 0.5);
        Caller::start(&cluster.topology.client, &cluster.target(name), &options).unwrap()
    });
    let callers: Vec<Caller> = callers.collect();
    let seats = names
        .iter()
        .map(|name| cluster.wait_accepted(name, 0, LIMIT).unwrap().0);
    let seats = seats.collect();
    for caller in callers {
        caller.finish(LIMIT).unwrap();
    }
    seats
}

/// * `sessionAffinity: ClientIP`: all sessions of one client meet at one pod;
/// * without it, they do not.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn sessions_of_one_client_meet_where_affinity_is_asked_for() {
    let cluster = Cluster::with_pods(Plugin::Ptp, 3).unwrap();
    let spread = seats(&cluster, "spread", 12);
    assert!(spread.iter().any(|seat| *seat != spread[0]), "{spread:?}");

    let mut service = objects::service(SERVICE, &[Family::V4.vip()]);
    service["spec"]["sessionAffinity"] = json!("ClientIP");
    cluster.client.apply(&service).unwrap();
    cluster
        .agent
        .wait_json(&["services"], LIMIT, |rows| {
            (rows[0]["affinity"] == true).then_some(())
        })
        .unwrap();
    let together = seats(&cluster, "together", 8);
    assert!(
        together.iter().all(|seat| *seat == together[0]),
        "{together:?}"
    );
}

/// Node ports are steered at the node's own address where that is asked for, and only there.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn node_ports_are_steered_where_asked_for() {
    const NODE_PORT: u16 = 30900;
    let mut cluster = Cluster::new(Plugin::Ptp).unwrap();
    let node_ip = "10.1.0.1";
    let mut service = objects::service(SERVICE, &[]);
    service["spec"]["type"] = json!("NodePort");
    service["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
    let spec = service["spec"].as_object_mut().unwrap();
    spec.remove("allocateLoadBalancerNodePorts");
    service.as_object_mut().unwrap().remove("status");
    cluster.client.apply(&service).unwrap();
    cluster.add_pod().unwrap();
    cluster.publish().unwrap();
    cluster
        .start_agent(&["--node-ports", "--node-ip", node_ip])
        .unwrap();
    let vip = format!("{node_ip}:{NODE_PORT}");
    cluster
        .agent
        .wait_json(&["services"], LIMIT, |rows| {
            (rows[0]["vip"] == *vip).then_some(())
        })
        .unwrap();
    let address: SocketAddr = vip.parse().unwrap();
    let mut target = Target::new(address.ip(), "live/node-port");
    target.address = address;
    let options = CallerOptions::lasting(1e6, 1.0);
    let caller = Caller::start(&cluster.topology.client, &target, &options).unwrap();
    cluster.wait_accepted("live/node-port", 0, LIMIT).unwrap();
    let sent = caller.finish(LIMIT).unwrap();
    let session = cluster.pods[0]
        .listener
        .wait_closed("live/node-port", LIMIT)
        .unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{session:?}"
    );

    cluster.agent.stop().unwrap();
    cluster.start_agent(&[]).unwrap();
    cluster
        .agent
        .wait_json(&["services"], LIMIT, |rows| {
            rows.as_array()?
                .iter()
                .all(|row| row["closing"] == true)
                .then_some(())
        })
        .unwrap();
}

/// A pod that terminates and still serves, while another node has a ready one:
/// * `externalTrafficPolicy: Cluster`: no new sessions here;
/// * `Local`: only this node counts, so they come here, as with kube-proxy.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_traffic_policy_says_whose_readiness_counts() {
    let mut cluster = Cluster::with_pods(Plugin::Ptp, 1).unwrap();
    let mut here = cluster.pods[0].endpoint.clone().unwrap();
    (here.ready, here.serving, here.terminating) = (Some(false), Some(true), Some(true));
    let there = Endpoint::new("10.99.0.1".parse().unwrap()).elsewhere();
    let slice = objects::slice(SERVICE, SLICE, &[here, there]);
    cluster.client.apply(&slice).unwrap();
    cluster
        .wait_backend(0, "state", &json!("draining"))
        .unwrap();

    let mut service = objects::service(SERVICE, &[Family::V4.vip()]);
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    cluster.client.apply(&service).unwrap();
    cluster.wait_backend(0, "state", &json!("serving")).unwrap();
    assert_eq!(seats(&cluster, "local", 1), [0]);
    cluster.agent.stop().unwrap();
}
