//! The latencies of a pod's answer, whatever the answer holds.

use ingest_tests::fixtures::{
    given::{MACS_A, PORT_A},
    model::World,
    packet::{CLIENT, Family, POD_A, udp},
    plane::{At, Dataplane, Host},
    srt::{CALLER_ID, LISTENER_ID, control},
};
use proptest::prelude::*;

/// A response's payload: these words behind the fixed part, cut to `length` bytes.
fn response(version: u32, words: &[u32], length: usize) -> Vec<u8> {
    let fixed = [
        version,
        1,
        7,
        1500,
        8192,
        0xffff_ffff,
        LISTENER_ID,
        9,
        0,
        0,
        0,
        0,
    ];
    let mut payload = control(0, 0, CALLER_ID, &[&fixed, words].concat());
    payload.truncate(length);
    payload
}

fn block() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => Just(0x0002_0003),
        1 => (0..5_u32, 0..6_u32).prop_map(|(kind, length)| kind << 16 | length),
        1 => any::<u32>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_a_whole_hsrsp_tells_latencies(
        v6 in any::<bool>(),
        version in prop_oneof![4 => Just(5), 1 => 0..8_u32],
        first in block(),
        rest in prop::collection::vec(any::<u32>(), 0..8),
        length in 64..112_usize,
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let words = [vec![first], rest].concat();
        let payload = response(version, &words, length);
        let mut host = Host::new();
        let mut world = World::node(family, host.now());
        world.asked(family, CLIENT, 5);
        host.load(&world);
        let frame = udp(family, POD_A, CLIENT, &payload).macs(MACS_A[1], MACS_A[0]);
        host.run(At::PodPort(PORT_A), &frame.bytes());

        let told = match words.as_slice() {
            [block, _, _, latencies, ..]
                if version == 5 && payload.len() >= 80 && block >> 16 == 2 && block & 0xffff >= 3 =>
            {
                *latencies
            }
            _ => 0,
        };
        let down = host.world().flow_of(family, CLIENT).down;
        let kept = u32::from(down.receiver_latency) << 16 | u32::from(down.sender_latency);
        prop_assert_eq!(kept, told);
    }
}
