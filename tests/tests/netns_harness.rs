//! The harness itself, with kube-proxy's nftables way instead of ours: a test that fails elsewhere fails for a reason.

use std::net::UdpSocket;
use std::time::Duration;

use ingest_tests::netns::{Family, Layout, NFT_VIP_V4, Topology, Wiring};
use ingest_tests::nft::Dnat;
use ingest_tests::peers::{
    Caller, CallerOptions, Ffmpeg, Listener, ListenerOptions, LiveTransmit, PORT, Target,
};
use ingest_tests::raw::flood_inductions;
use ingest_tests::raw::icmp::{IcmpEar, TooBig, send_too_big};
use ingest_tests::traffic::payload;

const LIMIT: Duration = Duration::from_secs(15);

/// * every byte of a 20 Mbit/s stream arrives through plain routing to the pod, IPv4 and IPv6, encrypted and clear;
/// * the same over a bridge;
/// * the count of what arrived is the count of what was sent.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_byte_is_accounted_for_without_us() {
    for wiring in [Wiring::Routed, Wiring::Bridge] {
        let topology = Topology::with(Layout {
            pods: 1,
            wiring,
            ..Layout::default()
        })
        .unwrap();
        let pod = &topology.pods[0];
        for (family, passphrase) in [
            (Family::V4, None),
            (Family::V6, Some("a long secret".to_owned())),
        ] {
            let options = ListenerOptions {
                family,
                passphrase,
                ..ListenerOptions::default()
            };
            let listener = Listener::start(&pod.netns, &pod.name, &options).unwrap();
            let mut target = Target::new(pod.address(family), "#!::r=live/cam1,m=publish");
            target.passphrase = options.passphrase.clone();
            let caller = Caller::start(
                &topology.client,
                &target,
                &CallerOptions::lasting(20e6, 1.5),
            )
            .unwrap();
            let sent = caller.finish(LIMIT).unwrap();
            let session = listener.wait_closed(&target.stream_id, LIMIT).unwrap();
            assert!(session.is_whole(), "{session:?}");
            assert_eq!(session.messages, sent);
        }
    }
}

/// * an unmodified encoder reaches a pod through nftables DNAT;
/// * its pod killed, taken out and its conntrack entry deleted: libsrt needs its own 5 s to come back, elsewhere;
/// * what it sends is verified at both pods.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn kube_proxys_way_takes_libsrts_own_timeout() {
    let topology = Topology::new().unwrap();
    let endpoints: Vec<_> = topology
        .pods
        .iter()
        .map(|pod| (pod.v4, PORT).into())
        .collect::<Vec<_>>();
    let dnat = Dnat::new(&topology.node, NFT_VIP_V4, PORT, &endpoints).unwrap();
    let mut listeners: Vec<_> = topology
        .pods
        .iter()
        .map(|pod| Listener::start(&pod.netns, &pod.name, &ListenerOptions::default()).unwrap())
        .collect();
    let target = Target::new(NFT_VIP_V4.into(), "live/cam1");
    let _encoder = LiveTransmit::start(&topology.client, &target, 1, 4e6).unwrap();
    let _camera = Ffmpeg::start(
        &topology.client,
        &Target::new(NFT_VIP_V4.into(), "live/cam2"),
    )
    .unwrap();
    std::thread::sleep(Duration::from_secs(3));

    let seat = |listeners: &[Listener], stream: &str| {
        listeners
            .iter()
            .position(|l| l.accepted().iter().any(|a| a.streamid == stream))
            .unwrap()
    };
    let victim = seat(&listeners, "live/cam1");
    let camera = seat(&listeners, "live/cam2");
    let killed = listeners[victim].kill().unwrap();
    let left: Vec<_> = endpoints
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != victim)
        .map(|(_, e)| *e)
        .collect();
    dnat.set(&left).unwrap();
    std::thread::sleep(Duration::from_secs(7));

    let back = listeners
        .iter()
        .flat_map(Listener::accepted)
        .filter(|a| a.streamid == "live/cam1" && a.t > killed)
        .map(|a| a.t)
        .min()
        .expect("the encoder came back");
    let took = Duration::from_nanos(back - killed);
    assert!(
        took > Duration::from_secs(3) && took < Duration::from_secs(7),
        "{took:?}"
    );
    for (index, listener) in listeners.iter().enumerate() {
        for session in listener.sessions() {
            assert!(session.is_whole(), "pod {index}: {session:?}");
            assert!(session.messages > 0);
        }
    }
    let kinds: Vec<_> = listeners[camera]
        .sessions()
        .into_iter()
        .map(|s| (s.streamid, s.kind))
        .collect();
    assert!(
        kinds.contains(&("live/cam2".to_owned(), "ts".to_owned())),
        "{kinds:?}"
    );
}

/// * spoofed INDUCTIONs are sent as fast as asked for, and libsrt takes them for real ones: it answers;
/// * an ICMP error to the VIP, built by hand, is one that conntrack takes for real: it reaches the pod.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn packets_built_by_hand_are_taken_for_real() {
    let topology = Topology::with(Layout {
        pods: 1,
        ..Layout::default()
    })
    .unwrap();
    let pod = &topology.pods[0];
    let listener = Listener::start(&pod.netns, &pod.name, &ListenerOptions::default()).unwrap();
    let _dnat = Dnat::new(&topology.node, NFT_VIP_V4, PORT, &[(pod.v4, PORT).into()]).unwrap();
    let target = Target::new(NFT_VIP_V4.into(), "live/cam1");
    let options = CallerOptions {
        idle: 3.0,
        ..CallerOptions::lasting(2e6, 0.2)
    };
    let _caller = Caller::start(&topology.client, &target, &options).unwrap();
    let accepted = listener.wait_accepted("live/cam1", 0, LIMIT).unwrap();
    let ear = IcmpEar::open(&pod.netns, true).unwrap();
    let client = accepted.peer.parse().unwrap();
    send_too_big(&topology.client, target.address, client).unwrap();
    let heard = ear.hear_too_big(Duration::from_secs(2)).unwrap();
    assert_eq!(
        heard,
        TooBig {
            source: (pod.v4, PORT).into(),
            target: client
        }
    );

    let answers = "grep pod-a /proc/net/dev | awk '{print $3}'";
    let before: u64 = topology
        .node
        .shell(answers)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let span = Duration::from_secs(1);
    let sent = flood_inductions(&topology.client, (pod.v4, PORT), 24_000, span)
        .unwrap()
        .join()
        .unwrap()
        .unwrap();
    let after: u64 = topology
        .node
        .shell(answers)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(sent > 20_000, "only {sent} in a second");
    assert!(
        after - before > sent / 2,
        "{sent} sent, {} answered",
        after - before
    );
}

/// * a message that is missing is counted as lost, one behind a later one as reordered;
/// * one with a single wrong bit is counted as bad;
/// * so a test that asks for none of these can fail.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_listener_notices_what_is_wrong() {
    let topology = Topology::with(Layout {
        pods: 1,
        ..Layout::default()
    })
    .unwrap();
    let pod = &topology.pods[0];
    let listener = Listener::start(&pod.netns, &pod.name, &ListenerOptions::default()).unwrap();
    let target = Target::new(pod.v4.into(), "live/cam1");
    // One message a minute and more: what follows is ours alone.
    let mut encoder = LiveTransmit::start(&topology.client, &target, 7, 100.0).unwrap();
    listener.wait_accepted("live/cam1", 0, LIMIT).unwrap();
    topology
        .client
        .enter(|| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            let mut flipped = payload(7, 6);
            flipped[100] ^= 1;
            let good = [1, 2, 4, 3, 5].map(|counter| payload(7, counter));
            for data in good.iter().chain([&flipped]) {
                socket.send_to(data, "127.0.0.1:20007")?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    encoder.process().kill().unwrap();
    let session = listener.sessions().pop().unwrap();
    assert_eq!(
        (session.bad, session.lost, session.reordered),
        (1, 1, 1),
        "{session:?}"
    );
}
