//! Pod ports found and followed on real links, in a network namespace of the test's own.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod lab;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use ingest_agent::{ports, reconcile::PodPort};
use ingest_common::abi::DeliveryMode;
use lab::{PATIENCE, Pod, in_namespace, run};
use tokio::sync::watch;

fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

/// Waits until `address` has a port that `right` likes; gives it and how long it took.
async fn wait_for(
    ports: &mut watch::Receiver<HashMap<IpAddr, PodPort>>,
    address: IpAddr,
    right: impl Fn(&PodPort) -> bool,
) -> (PodPort, Duration) {
    let start = Instant::now();
    let found = tokio::time::timeout(
        PATIENCE,
        ports.wait_for(|ports| ports.get(&address).is_some_and(&right)),
    )
    .await
    .map(|found| found.unwrap()[&address]);
    let Ok(port) = found else {
        panic!("{address} is {:?}", ports.borrow().get(&address))
    };
    (port, start.elapsed())
}

fn is_resolved(port: &PodPort) -> bool {
    port.mode == DeliveryMode::Peer && port.pod_mac != [0; 6]
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn pods_are_found_by_route_and_by_bridge_and_lost_with_their_link() {
    in_namespace(|| async {
        let direct: IpAddr = "10.0.1.2".parse().unwrap();
        let bridged: IpAddr = "10.0.2.2".parse().unwrap();
        let six: IpAddr = "fd00:1::2".parse().unwrap();
        let local: IpAddr = "10.9.9.9".parse().unwrap();
        let nowhere: IpAddr = "198.51.100.1".parse().unwrap();

        run("ip addr add 10.9.9.9/32 dev lo");
        run("ip link add br0 type bridge");
        run("ip link set br0 up");
        // A bridge without a port that is up would forget everybody when its pod goes.
        run("ip link add spare0 type veth peer name spare1");
        run("ip link set spare1 up");
        run("ip link set spare0 master br0 up");
        run("ip addr add 10.0.2.1/24 dev br0");
        let bridge_pod = Pod::with_port("vethb", "02:00:00:00:02:02");
        run("ip link set vethb master br0");
        bridge_pod.run("ip addr add 10.0.2.2/24 dev eth0");

        let wanted: BTreeSet<IpAddr> = [direct, bridged, six, local, nowhere].into();
        let (want, addresses) = watch::channel(wanted);
        let ports::PortWatcher { mut ports, task } =
            ports::PortWatcher::spawn(addresses, vec![], true).unwrap();

        let (port, _) = wait_for(&mut ports, local, |_| true).await;
        assert_eq!(port.mode, DeliveryMode::Stack);
        let (port, _) = wait_for(&mut ports, nowhere, |_| true).await;
        assert_eq!(port.mode, DeliveryMode::None);
        let (port, took) = wait_for(&mut ports, bridged, is_resolved).await;
        println!("bridged pod found after {took:?}");
        assert_eq!(port.ifindex, ifindex("vethb"));
        assert_eq!(port.pod_mac, [2, 0, 0, 0, 2, 2]);
        assert!(port.partial_checksums);

        // A pod that comes later, with both families.
        assert_eq!(ports.borrow()[&direct].mode, DeliveryMode::None);
        let pod = Pod::with_port("vetha", "02:00:00:00:01:02");
        pod.run("ip addr add 10.0.1.2/32 dev eth0");
        pod.run("ip addr add fd00:1::2/128 dev eth0 nodad");
        pod.run("ip route add default dev eth0");
        pod.run("ip -6 route add default dev eth0");
        run("ip route add 10.0.1.2/32 dev vetha");
        run("ip -6 route add fd00:1::2/128 dev vetha");
        for address in [direct, six] {
            let (port, took) = wait_for(&mut ports, address, is_resolved).await;
            println!("{address} found after {took:?}");
            assert_eq!(port.ifindex, ifindex("vetha"));
            assert_eq!(port.pod_mac, [2, 0, 0, 0, 1, 2]);
            assert_ne!(port.port_mac, [0; 6]);
        }

        // Gone with its link at once, and a default route elsewhere does not bring it back.
        run("ip route add default via 10.0.2.2");
        run("ip link del vetha");
        let (_, took) = wait_for(&mut ports, direct, |port| port.mode == DeliveryMode::None).await;
        println!("lost after {took:?}");
        assert!(took < Duration::from_millis(500), "{took:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(ports.borrow()[&direct].mode, DeliveryMode::None);

        // Its successor is found again.
        let successor = Pod::with_port("vethc", "02:00:00:00:01:03");
        successor.run("ip addr add 10.0.1.2/32 dev eth0");
        successor.run("ip route add default dev eth0");
        run("ip route add 10.0.1.2/32 dev vethc");
        let (port, _) = wait_for(&mut ports, direct, is_resolved).await;
        assert_eq!(port.pod_mac, [2, 0, 0, 0, 1, 3]);

        // A bridged pod whose namespace dies.
        drop(bridge_pod);
        let (_, took) = wait_for(&mut ports, bridged, |port| port.mode == DeliveryMode::None).await;
        println!("bridged pod lost after {took:?}");

        // Its successor has the address, and not the MAC that the kernel still believes in.
        let successor = Pod::with_port("vethd", "02:00:00:00:02:03");
        run("ip link set vethd master br0");
        successor.run("ip addr add 10.0.2.2/24 dev eth0");
        let (port, took) = wait_for(&mut ports, bridged, is_resolved).await;
        println!("its successor found after {took:?}");
        assert_eq!(port.ifindex, ifindex("vethd"));
        assert_eq!(port.pod_mac, [2, 0, 0, 0, 2, 3]);
        assert!(took < Duration::from_millis(2500), "{took:?}");

        drop(want);
        task.await.unwrap().unwrap();
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn interfaces_are_described_as_they_are() {
    in_namespace(|| async {
        run("ip link add v0 address 02:00:00:00:00:07 mtu 1400 type veth peer name v1");
        run("ip link set v0 up");
        let link = ports::link_by_name("v0").await.unwrap().unwrap();
        assert_eq!(link.ifindex, ifindex("v0"));
        assert_eq!(link.mac, Some([2, 0, 0, 0, 0, 7]));
        assert_eq!(link.mtu, 1400);
        assert!(link.is_veth() && link.up && link.xdp.is_none());
        for missing in ["nosuch0", "", "a-name-that-is-too-long"] {
            assert_eq!(
                ports::link_by_name(missing).await.unwrap(),
                None,
                "{missing:?}"
            );
        }
    });
}
