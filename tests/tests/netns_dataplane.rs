//! Loading and attaching on a real kernel: what is refused, which modes are used, what probes tell.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod lab;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, MapData};
use ingest_agent::dataplane::{
    Dataplane, Error, Lock, LogLevel, Options, ProbeTicket, Reader, XdpChoice, XdpHook, now_ns,
};
use ingest_common::abi::{self, DeliveryMode};
use lab::{PinRoot, Pod, UPLINK, ids, load_and_attach, refusal, run, service, with_uplink};
use nix::net::if_::if_nametoindex;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_pinned_map_of_another_shape_is_refused_and_left_alone() {
    with_uplink(|| async {
        let root = PinRoot::new("shape");
        let lock = Lock::acquire(&root.0).unwrap();
        let path = root.map("SERVICES");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let other = HashMap::<MapData, abi::ServiceKey, u64>::create(7, 0).unwrap();
        other.pin(&path).unwrap();
        drop(lock);
        let error = refusal(&root).await;
        assert!(error.is_incompatible());
        let Error::PinIncompatible {
            map: "SERVICES",
            field: "max entries",
            found: 7,
            ..
        } = error
        else {
            panic!("{error:?}")
        };
        assert!(path.exists() && !root.map("FLOWS").exists());
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn uplinks_that_cannot_be_are_refused() {
    with_uplink(|| async {
        let root = PinRoot::new("uplinks");
        let lock = Lock::acquire(&root.0).unwrap();
        for uplinks in [vec![], vec!["nosuch0"], vec![UPLINK, UPLINK]] {
            let uplinks = uplinks.into_iter().map(str::to_owned).collect();
            let error = Dataplane::load(
                &Options {
                    uplinks,
                    ..root.options()
                },
                &lock,
            )
            .await;
            println!("refused: {}", error.expect_err("refused"));
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_modes_are_as_chosen_and_can_change() {
    with_uplink(|| async {
        let root = PinRoot::new("modes");
        let lock = Lock::acquire(&root.0).unwrap();
        for (choice, hook) in [
            (XdpChoice::Generic, XdpHook::Generic),
            (XdpChoice::Auto, XdpHook::Generic),
            (XdpChoice::Native, XdpHook::Native),
        ] {
            let options = Options {
                xdp_mode: choice,
                ..root.options()
            };
            let mut dataplane = Dataplane::load(&options, &lock).await.unwrap();
            dataplane.attach().unwrap();
            assert_eq!(dataplane.uplinks()[0].xdp, Some(hook), "{choice:?}");
            dataplane.set_node(0).unwrap();
            let node = Reader::open(&root.0).unwrap().node().unwrap();
            assert_eq!(XdpHook::from_u8(node.uplinks[0].xdp_mode), Some(hook));
        }
    });
}

/// With its log statements in, the kernel side is another program to the verifier.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn it_loads_at_every_log_level() {
    with_uplink(|| async {
        let root = PinRoot::new("log");
        let lock = Lock::acquire(&root.0).unwrap();
        for level in [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ] {
            let options = Options {
                kernel_log: Some(level),
                ..root.options()
            };
            Dataplane::load(&options, &lock)
                .await
                .unwrap()
                .attach()
                .unwrap();
        }
    });
}

/// A pod with a default route: its namespace, its port's index and its MAC.
fn pod(gro: bool) -> (Pod, u32, [u8; 6]) {
    let pod = Pod::with_port("pod0", "02:00:00:00:01:02");
    run("ip addr add 10.0.1.1/32 dev pod0");
    pod.run("ip addr add 10.0.1.2/32 dev eth0");
    pod.run("ip route add 10.0.1.1/32 dev eth0");
    pod.run("ip route add default via 10.0.1.1");
    if gro {
        pod.run("ethtool -K eth0 gro on");
    }
    (pod, if_nametoindex("pod0").unwrap(), [2, 0, 0, 0, 1, 2])
}

/// Three tries of 200 ms, as the run loop does.
async fn answers(dataplane: &mut Dataplane, mode: DeliveryMode) -> bool {
    for _ in 0..3 {
        let ticket: ProbeTicket = dataplane.send_probe(0, mode).unwrap();
        let deadline = Instant::now() + Duration::from_millis(200);
        while Instant::now() < deadline {
            if dataplane.probe_answered(&ticket).unwrap() {
                println!(
                    "{mode:?} answered after {} us",
                    (now_ns() - ticket.sent_ns) / 1000
                );
                return true;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    false
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn probes_tell_which_modes_reach_a_pod() {
    for xdp_mode in [XdpChoice::Native, XdpChoice::Generic] {
        for gro in [false, true] {
            with_uplink(move || async move {
                let root = PinRoot::new("probe");
                let (_pod, ifindex, mac) = pod(gro);
                let lock = Lock::acquire(&root.0).unwrap();
                let options = Options {
                    xdp_mode,
                    ..root.options()
                };
                let mut dataplane = Dataplane::load(&options, &lock).await.unwrap();
                dataplane
                    .apply(&service(ifindex, DeliveryMode::Peer, 1, mac))
                    .unwrap();
                dataplane.set_pod_ports(&[ifindex].into()).unwrap();
                dataplane.attach().unwrap();
                println!("{xdp_mode:?}, GRO in the pod: {gro}");
                assert!(
                    answers(&mut dataplane, DeliveryMode::Peer).await,
                    "peer always works"
                );
                assert_eq!(answers(&mut dataplane, DeliveryMode::Redirect).await, gro);
                // The answers were ours: nothing was steered.
                let reader = Reader::open(&root.0).unwrap();
                assert_eq!(
                    reader.backends().unwrap()[0].traffic,
                    abi::Traffic::default()
                );
            });
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn pod_port_links_come_stay_and_go() {
    with_uplink(|| async {
        let root = PinRoot::new("ports");
        for name in ["pa", "pb", "pc"] {
            run(&format!("ip link add {name} type veth peer name {name}1"));
            run(&format!("ip link set {name} up"));
        }
        let [a, b, c] = ["pa", "pb", "pc"].map(|name| if_nametoindex(name).unwrap());
        let attached = || -> BTreeSet<u32> {
            let links = Reader::open(&root.0).unwrap().links().unwrap();
            let ports = links
                .iter()
                .filter(|link| link.hook == "tc_pod" && link.ifindex != 0);
            ports.map(|link| link.ifindex).collect()
        };
        let (mut dataplane, lock) = load_and_attach(&root).await.unwrap();
        dataplane.set_pod_ports(&[a, b, 4_000_000].into()).unwrap();
        assert_eq!(attached(), [a, b].into());
        let first = ids(&root);
        dataplane.set_pod_ports(&[a, b, c].into()).unwrap();
        assert_eq!(attached(), [a, b, c].into());
        drop(dataplane);

        // One goes while no agent runs; the others' programs are swapped.
        run("ip link del pb");
        let mut dataplane = Dataplane::load(&root.options(), &lock).await.unwrap();
        dataplane.attach().unwrap();
        assert_eq!(attached(), [a, c].into());
        let port = |ids: &[(String, u32, u32)]| {
            ids.iter()
                .find(|(hook, ..)| hook == "tc_pod")
                .cloned()
                .unwrap()
        };
        let (before, after) = (port(&first), port(&ids(&root)));
        assert_eq!(before.1, after.1, "the link is the same");
        assert_ne!(before.2, after.2, "the program is new");
        dataplane.set_pod_ports(&[c].into()).unwrap();
        assert_eq!(attached(), [c].into());
    });
}
