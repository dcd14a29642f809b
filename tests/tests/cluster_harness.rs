//! The harness of the cluster tests itself: a server that dies and comes back, pods that CNI plugins make.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::time::Duration;

use ingest_tests::agent::Agent;
use ingest_tests::cluster::apiserver::ApiServer;
use ingest_tests::cluster::client::Client;
use ingest_tests::cluster::cni::{Network, Plugin};
use ingest_tests::cluster::objects::{self, Endpoint};
use ingest_tests::config::Config;
use ingest_tests::netns::{Family, Layout, Topology};
use ingest_tests::peers::{Caller, CallerOptions, Listener, ListenerOptions, Target};
use ingest_tests::scene::LIMIT;
use serde_json::json;

fn no_pods() -> Topology {
    Topology::with(Layout {
        pods: 0,
        ..Layout::default()
    })
    .unwrap()
}

/// * objects get the status that they are applied with;
/// * a server that was killed comes back on its port with what it knew, but for what was deleted in etcd;
/// * a hung one answers nobody, and everybody once it goes on.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_api_server_dies_and_comes_back() {
    let topology = no_pods();
    let mut server = ApiServer::start(&topology.node, "agent").unwrap();
    let client = Client::new(&topology.node, &server.kubeconfig("admin")).unwrap();
    for object in objects::surroundings() {
        client.apply(&object).unwrap();
    }
    let service = objects::service("ingest", &[Family::V4.vip(), Family::V6.vip()]);
    let applied = client.apply(&service).unwrap();
    assert_eq!(applied["status"], service["status"]);
    let pod = objects::pod("ingest-a", &["10.244.0.2".parse().unwrap()], 0);
    let applied = client.apply(&pod).unwrap();
    assert_eq!(applied["status"]["podIP"], "10.244.0.2");
    let endpoint = Endpoint::new("10.244.0.2".parse().unwrap());
    let slice = |name| objects::slice("ingest", name, std::slice::from_ref(&endpoint));
    client.apply(&slice("ingest-1")).unwrap();
    client.apply(&slice("ingest-2")).unwrap();

    server.kill().unwrap();
    assert!(client.get(&service).is_err());
    server.forget_slice("ingest-1").unwrap();
    server.compact().unwrap();
    server.run().unwrap();
    assert!(client.get(&slice("ingest-1")).is_err());
    let kept = client.get(&slice("ingest-2")).unwrap();
    assert_eq!(kept["endpoints"][0]["addresses"], json!(["10.244.0.2"]));

    server.hang().unwrap();
    let client_of_hung = Client::new(&topology.node, &server.kubeconfig("admin")).unwrap();
    let waiting = std::thread::spawn(move || client_of_hung.get(&service));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!waiting.is_finished());
    server.resume().unwrap();
    waiting.join().unwrap().unwrap();

    let agent = Client::new(&topology.node, &server.kubeconfig("agent")).unwrap();
    let refused = agent.get(&pod).unwrap_err();
    assert!(format!("{refused:#}").contains("forbidden"), "{refused:#}");
    let audit = server.audit("agent").unwrap();
    assert_eq!(audit.last().unwrap().code(), 403);
    assert_eq!(audit.last().unwrap().resource().unwrap(), "pods");
}

/// * callers stream through the VIP into pods that a CNI plugin made, over IPv4 and IPv6;
/// * everything arrives, and the pod's port on the node is found;
/// * after DEL it is not there any more.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn streams_reach_pods_of_cni_plugins() {
    for plugin in [Plugin::Ptp, Plugin::Bridge] {
        let topology = no_pods();
        let network = Network::new(&topology.node, plugin).unwrap();
        let (a, b) = (network.add("pod-a").unwrap(), network.add("pod-b").unwrap());
        assert_ne!(a.pod.v4, b.pod.v4);
        let listeners = [Family::V4, Family::V6].map(|family| {
            let options = ListenerOptions {
                family,
                ..ListenerOptions::default()
            };
            Listener::start(&a.pod.netns, "pod-a", &options).unwrap()
        });
        let port = a.port.clone();
        let pods = [a.pod];
        let agent = Agent::start(&topology.node, &Config::new(&pods), "auto").unwrap();
        agent.wait_mode("peer").unwrap();
        for (family, listener) in [Family::V4, Family::V6].into_iter().zip(&listeners) {
            let stream = format!("live/{family:?}");
            let target = Target::new(family.vip(), &stream);
            let options = CallerOptions::lasting(2e6, 0.5);
            let caller = Caller::start(&topology.client, &target, &options).unwrap();
            let sent = caller.finish(LIMIT).unwrap();
            let session = listener.wait_closed(&stream, LIMIT).unwrap();
            assert!(
                session.is_whole() && session.messages == sent,
                "{plugin:?} {family:?}: {session:?}"
            );
        }
        topology
            .node
            .shell(&format!("ip link show {}", b.port))
            .unwrap();
        network.delete(&b).unwrap();
        assert!(
            topology
                .node
                .shell(&format!("ip link show {}", b.port))
                .is_err()
        );
        topology
            .node
            .shell(&format!("ip link show {port}"))
            .unwrap();
    }
}
