//! What the kernel tells the agent of a session, from a client's datagram to the event.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod lab;

use std::{
    fs::File,
    net::{SocketAddr, UdpSocket},
    thread::{self, JoinHandle},
    time::Duration,
};

use ingest_agent::{
    dataplane::{Dataplane, Lock, Reader},
    reconcile::Op,
};
use ingest_common::abi::{self, DeliveryMode, EventKind};
use lab::{PATIENCE, PinRoot, Pod, UPLINK, VIP, VIP_PORT, in_namespace, run, service};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns},
};

/// Runs `body` on a thread in the namespace of `pod`.
fn inside<T: Send + 'static>(
    pod: &Pod,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let namespace = File::open(format!("/proc/{}/ns/net", pod.pid())).unwrap();
    thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        body()
    })
}

fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_session_that_a_pod_accepts_is_told() {
    in_namespace(|| async {
        // The client's end of the uplink's cable, and a pod.
        let client = Pod::with_port(UPLINK, "02:00:00:00:00:11");
        run(&format!("ip addr add 192.0.2.1/24 dev {UPLINK}"));
        client.run("ip addr add 192.0.2.2/24 dev eth0");
        client.run("ip route add default via 192.0.2.1");
        client.run("ethtool -K eth0 tx off");
        let pod = Pod::with_port("pod0", "02:00:00:00:01:02");
        run("ip addr add 10.0.1.1/32 dev pod0");
        pod.run("ip addr add 10.0.1.2/32 dev eth0");
        pod.run("ip route add 10.0.1.1/32 dev eth0");
        pod.run("ip route add default via 10.0.1.1");

        let root = PinRoot::new("events");
        let lock = Lock::acquire(&root.0).unwrap();
        let options = root.options();
        let mut dataplane = Dataplane::load(&options, &lock).await.unwrap();
        let ifindex = if_nametoindex("pod0").unwrap();
        let mut ops = service(ifindex, DeliveryMode::Peer, 3, [2, 0, 0, 0, 1, 2]);
        for op in &mut ops {
            if let Op::SetService { service, .. } = op {
                service.flags = 0;
            }
        }
        dataplane.apply(&ops).unwrap();
        dataplane.set_config(&abi::Config::default()).unwrap();
        dataplane.set_pod_ports(&[ifindex].into()).unwrap();
        dataplane.attach().unwrap();
        let mut events = dataplane.events().unwrap().unwrap();
        assert!(
            dataplane.events().unwrap().is_none(),
            "a ring has one reader"
        );

        let echo = inside(&pod, || {
            let socket = socket("10.0.1.2:9000");
            let mut buffer = [0; 64];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..length], from).unwrap();
            from
        });
        let answer = inside(&client, || {
            thread::sleep(Duration::from_millis(100));
            let socket = socket("192.0.2.2:5555");
            socket
                .send_to(b"ping", SocketAddr::from((VIP, VIP_PORT)))
                .unwrap();
            let mut buffer = [0; 64];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            (buffer[..length].to_vec(), from)
        });
        let event = tokio::time::timeout(PATIENCE, events.next())
            .await
            .expect("no event")
            .unwrap();
        assert_eq!(
            EventKind::from_u8(event.kind),
            Some(EventKind::FlowAccepted)
        );
        assert_eq!(abi::as_v4(&event.address), Some([192, 0, 2, 2]));
        assert_eq!((event.port, event.service, event.slot), (5555, 0, 0));
        assert_eq!(echo.join().unwrap(), "192.0.2.2:5555".parse().unwrap());
        let (text, from) = answer.join().unwrap();
        assert_eq!(
            (text.as_slice(), from),
            (&b"ping"[..], SocketAddr::from((VIP, VIP_PORT)))
        );

        let flows = Reader::open(&root.0).unwrap().flows().unwrap();
        assert_eq!(flows.len(), 1);
        assert_eq!((flows[0].0.port, flows[0].1.incarnation), (5555, 3));
    });
}
