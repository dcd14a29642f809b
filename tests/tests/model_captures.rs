//! Recorded sessions of real libsrt on the host's dataplane.

use ingest_common::abi::{SERVICE_STREAM, Secrets};
use ingest_tests::fixtures::{
    capture,
    model::World,
    packet::{CLIENT, Family, VIP, udp},
    plane::{At, Dataplane, Host, Verdict},
};

#[test]
fn recorded_sessions_are_forwarded_and_counted() {
    for family in [Family::V4, Family::V6] {
        capture::check_all(&mut Host::new(), family, true);
    }
}

/// What a caller is answered differs from what its real listener answered in cookie and timestamp alone, and in the key
/// length that a listener with a passphrase of its own advertises.
#[test]
fn inductions_are_answered_as_by_their_listeners() {
    let mut answers = 0;
    for (name, _) in capture::all() {
        let packets = capture::read(name).unwrap();
        let is_induction = |payload: &[u8]| {
            payload.len() >= 64
                && payload[..4] == [0x80, 0, 0, 0]
                && payload[36..40] == [0, 0, 0, 1]
        };
        for asked in packets
            .iter()
            .filter(|packet| packet.is_up && is_induction(&packet.payload))
        {
            let real = packets.iter().find(|packet| {
                !packet.is_up && packet.caller == asked.caller && is_induction(&packet.payload)
            });
            let Some(real) = real else { continue };
            for family in [Family::V4, Family::V6] {
                let mut host = Host::new();
                let mut world = World::node(family, host.now());
                world.flag(SERVICE_STREAM);
                *world.secrets.get_mut() = Secrets {
                    keys: [[1, 2], [3, 4]],
                    serial: 1,
                    ..Secrets::default()
                };
                host.load(&world);
                let client = CLIENT.at(asked.caller);
                let frame = udp(family, client, VIP, &asked.payload).bytes();
                let outcome = host.run(At::Uplink, &frame);
                assert_eq!(outcome.verdict, Verdict::XdpTx, "{name}");
                let answer = &outcome.frame[frame.len() - asked.payload.len()..];
                let mut expected = real.payload.clone();
                expected[8..12].copy_from_slice(&asked.payload[8..12]);
                expected[20..22].fill(0);
                expected[44..48].copy_from_slice(&answer[44..48]);
                assert_ne!(answer[44..48], [0; 4]);
                assert_eq!(answer, expected, "{name}");
                answers += 1;
            }
        }
    }
    assert!(answers >= 12, "{answers} answers");
}

#[test]
fn the_captures_hold_what_their_readme_says() {
    let count = |name: &str| {
        let packets = capture::read(name).unwrap();
        let counts: Vec<_> = capture::count(&packets).into_values().collect();
        (packets.len(), counts)
    };
    let (packets, plain) = count("01-plain-streamid.pcap");
    assert_eq!((packets, plain.len(), plain[0].data), (303, 1, 100));
    assert_eq!(plain[0].ids, (0x206c_866b, 0x1855_d8c8));
    let (packets, lossy) = count("04a-losses5pct-caller-leg.pcap");
    assert_eq!(
        (packets, lossy[0].data, lossy[0].retransmitted),
        (320, 130, 11)
    );
    assert_eq!(lossy[0].naks, 10);
    let (packets, rejected) = count("05-rejected-1403.pcap");
    assert_eq!((packets, rejected[0].data, rejected[0].ids), (4, 0, (0, 0)));
    let (packets, bonded) = count("11-group-broadcast.pcap");
    assert_eq!((packets, bonded.len()), (260, 2));
}
