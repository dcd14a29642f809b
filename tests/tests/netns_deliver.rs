//! Every byte arrives: each delivery mode, IPv4 and IPv6, clear and encrypted.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use ingest_tests::agent::Agent;
use ingest_tests::config::Config;
use ingest_tests::netns::{Family, Layout, Topology, Wiring};
use ingest_tests::peers::{Caller, CallerOptions, Listener, ListenerOptions, PORT, Target};
use ingest_tests::scene::{LIMIT, Scene};

const MODES: [&str; 3] = ["redirect", "peer", "stack"];

/// Sends 20 Mbit/s on both families at once through one agent and asserts that every byte arrives.
fn deliver(layout: Layout, mode: &str, passphrase: Option<&str>) {
    let topology = Topology::with(layout).unwrap();
    let pod = &topology.pods[0];
    let agent = Agent::start(&topology.node, &Config::new(&topology.pods), mode).unwrap();
    agent.wait_mode(mode).unwrap();
    let runs = [Family::V4, Family::V6].map(|family| {
        let options = ListenerOptions {
            family,
            passphrase: passphrase.map(str::to_owned),
            latency_ms: 500,
            ..ListenerOptions::default()
        };
        let listener = Listener::start(&pod.netns, &pod.name, &options).unwrap();
        let mut target = Target::new(family.vip(), "#!::r=live/cam1,m=publish");
        target.passphrase.clone_from(&options.passphrase);
        target.latency_ms = 500;
        let caller = Caller::start(
            &topology.client,
            &target,
            &CallerOptions::lasting(20e6, 1.5),
        )
        .unwrap();
        (family, listener, caller)
    });
    for (family, listener, caller) in runs {
        let sent = caller.finish(LIMIT).unwrap();
        let session = listener
            .wait_closed("#!::r=live/cam1,m=publish", LIMIT)
            .unwrap();
        assert!(session.is_whole(), "{mode} {family:?}: {session:?}");
        assert_eq!(session.messages, sent, "{mode} {family:?}");
        assert_eq!(
            listener.accepted().len(),
            1,
            "{mode} {family:?}: connected more than once"
        );
    }
}

/// * the agent uses the mode it is told to;
/// * 20 Mbit/s in the clear arrive byte for byte, IPv4 and IPv6;
/// * in one session.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_byte_arrives_in_each_mode() {
    for mode in MODES {
        deliver(
            Layout {
                pods: 1,
                ..Layout::default()
            },
            mode,
            None,
        );
    }
}

/// * the handshake's key exchange passes unharmed;
/// * 20 Mbit/s encrypted arrive byte for byte, IPv4 and IPv6;
/// * in one session.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_encrypted_byte_arrives_in_each_mode() {
    for mode in MODES {
        deliver(
            Layout {
                pods: 1,
                ..Layout::default()
            },
            mode,
            Some("a long secret"),
        );
    }
}

/// * pods on a bridge are found by neighbour and FDB;
/// * each mode works there too;
/// * every byte arrives.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_byte_arrives_over_a_bridge() {
    for mode in MODES {
        deliver(
            Layout {
                pods: 1,
                wiring: Wiring::Bridge,
                ..Layout::default()
            },
            mode,
            None,
        );
    }
}

/// * the programs attach to an uplink of MTU 9000;
/// * each mode works there;
/// * every byte arrives.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_byte_arrives_at_jumbo_mtu() {
    for mode in MODES {
        deliver(
            Layout {
                pods: 1,
                mtu: 9000,
                ..Layout::default()
            },
            mode,
            None,
        );
    }
}

/// * a pod without NAPI would lose every redirected packet in silence: the agent proves the mode and finds out;
/// * it takes another mode by itself;
/// * every byte arrives.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_pod_that_cannot_be_redirected_to_is_found_out() {
    let layout = Layout {
        pods: 1,
        pod_gro: false,
        ..Layout::default()
    };
    let scene = Scene::with(layout, "auto", &ListenerOptions::default()).unwrap();
    // Time for the probes that must fail.
    std::thread::sleep(Duration::from_millis(1500));
    scene.agent.wait_mode("peer").unwrap();
    let target = scene.target("live/cam1");
    let caller = Caller::start(
        &scene.topology.client,
        &target,
        &CallerOptions::lasting(4e6, 1.0),
    )
    .unwrap();
    let sent = caller.finish(LIMIT).unwrap();
    let session = scene.listeners[0].wait_closed("live/cam1", LIMIT).unwrap();
    assert!(
        session.is_whole() && session.messages == sent,
        "{session:?}"
    );
}

/// * the node forwards nothing, drops all that is forwarded, and masquerades: Kubernetes nodes do such things;
/// * `redirect` and `peer` pass it by in both directions;
/// * netfilter counts no packet of the stream.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_hosts_netfilter_is_passed_by() {
    for mode in ["redirect", "peer"] {
        let scene = Scene::new(1, mode).unwrap();
        scene.agent.wait_mode(mode).unwrap();
        scene
            .topology
            .node
            .shell(
                "sysctl -qw net.ipv4.ip_forward=0
                 nft 'table ip hostile {
                   chain raw { type filter hook prerouting priority raw; udp dport 9000 counter; udp sport 9000 counter; }
                   chain forward { type filter hook forward priority 0; policy drop; }
                   chain nat { type nat hook postrouting priority srcnat; masquerade; }
                 }'",
            )
            .unwrap();
        let target = scene.target("live/cam1");
        let caller = Caller::start(
            &scene.topology.client,
            &target,
            &CallerOptions::lasting(4e6, 0.7),
        )
        .unwrap();
        let sent = caller.finish(LIMIT).unwrap();
        let session = scene.listeners[0].wait_closed("live/cam1", LIMIT).unwrap();
        assert!(
            session.is_whole() && session.messages == sent,
            "{mode}: {session:?}"
        );
        let rules = scene
            .topology
            .node
            .shell("nft list chain ip hostile raw")
            .unwrap();
        assert_eq!(rules.matches("packets 0 ").count(), 2, "{mode}: {rules}");
    }
}

/// * two VIPs, IPv4 and IPv6, and eight callers at once over three pods;
/// * every one is accepted once and delivers everything;
/// * more than one pod is used.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn callers_are_spread_over_pods() {
    let scene = Scene::new(3, "auto").unwrap();
    let callers: Vec<_> = (0..8)
        .map(|number| {
            let target = scene.target(&format!("live/cam{number}"));
            let options = CallerOptions::lasting(1e6, 1.0);
            Caller::start(&scene.topology.client, &target, &options).unwrap()
        })
        .collect();
    for caller in callers {
        caller.finish(LIMIT).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    let mut pods = BTreeSet::new();
    for number in 0..8 {
        let stream = format!("live/cam{number}");
        let accepted = scene.accepted(&stream, 0);
        assert_eq!(accepted.len(), 1, "{stream}: {accepted:?}");
        pods.insert(accepted[0].0);
        let session = scene.listeners[accepted[0].0]
            .wait_closed(&stream, LIMIT)
            .unwrap();
        assert!(session.is_whole() && session.messages == 94, "{session:?}");
    }
    assert!(pods.len() > 1, "all eight went to pod {pods:?}");
}

/// * a service of plain UDP is steered too: an echo in a pod answers a client that knows only the VIP;
/// * the answers come from the VIP's address and port;
/// * each client stays with its pod.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn plain_udp_is_steered_and_answered() {
    for mode in MODES {
        let topology = Topology::with(Layout {
            pods: 2,
            ..Layout::default()
        })
        .unwrap();
        let mut config = Config::of_family(&topology.pods, Family::V4);
        config.services[0].protocol = "udp".to_owned();
        let agent = Agent::start(&topology.node, &config, mode).unwrap();
        agent.wait_mode(mode).unwrap();
        for pod in &topology.pods {
            let socket = pod
                .netns
                .enter(|| Ok(UdpSocket::bind(("0.0.0.0", PORT))?))
                .unwrap();
            let name = pod.name.clone();
            std::thread::spawn(move || {
                // A socket stays in its namespace, whoever uses it.
                socket
                    .set_read_timeout(Some(Duration::from_secs(3)))
                    .unwrap();
                let mut buffer = [0; 64];
                while let Ok((_, client)) = socket.recv_from(&mut buffer) {
                    socket.send_to(name.as_bytes(), client).unwrap();
                }
            });
        }
        let pods = topology
            .client
            .enter(|| {
                let mut pods = BTreeSet::new();
                for _ in 0..8 {
                    let socket = UdpSocket::bind("0.0.0.0:0")?;
                    // A connected socket takes nothing from elsewhere.
                    socket.connect((Family::V4.vip(), PORT))?;
                    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
                    let mut own = BTreeSet::new();
                    for _ in 0..3 {
                        let mut buffer = [0; 64];
                        socket.send(b"who are you")?;
                        let size = socket.recv(&mut buffer)?;
                        own.insert(String::from_utf8_lossy(&buffer[..size]).into_owned());
                    }
                    anyhow::ensure!(own.len() == 1, "one client was at {own:?}");
                    pods.extend(own);
                }
                Ok(pods)
            })
            .unwrap_or_else(|error| panic!("{mode}: {error:#}"));
        assert_eq!(pods.len(), 2, "{mode}: all eight went to {pods:?}");
    }
}
