//! Recorded sessions of real libsrt on the host's dataplane.

use ingest_tests::fixtures::{capture, packet::Family, plane::Host};

#[test]
fn recorded_sessions_are_forwarded_and_counted() {
    for family in [Family::V4, Family::V6] {
        capture::check_all(&mut Host::new(), family, true);
    }
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
