//! What must hold of placement and of rewriting, whatever the maps and the packets hold.

use ingest_common::{
    abi::{BackendState, DeliveryMode, MaglevTable},
    maglev::{self, Cursor, Member},
    steer,
};
use ingest_tests::fixtures::{
    given::{SLOT_A, SRT},
    model::World,
    packet::{CLIENT, Family, POD_A, VIP, assert_checksums, udp},
    plane::{At, Dataplane, Host, Verdict},
    srt::{self, CALLER_ID, ISN, LISTENER_ID},
};
use proptest::prelude::*;

/// State, delivery mode, operator's drain, and when it was heard, silent and unreachable last (ms ago; 0: never).
type Condition = (u8, u8, bool, [u16; 3]);

fn condition() -> impl Strategy<Value = Condition> {
    let stamp = prop_oneof![Just(0), 1..10_000_u16];
    (
        0..5_u8,
        0..5_u8,
        prop::bool::weighted(0.2),
        [stamp.clone(), stamp.clone(), stamp],
    )
}

#[expect(clippy::large_stack_arrays, reason = "moved to the heap at once")]
fn table() -> Box<MaglevTable> {
    Box::new(MaglevTable { slots: [0; 16_384] })
}

/// A pool of backends at slots from 0 on, in these conditions.
fn pool(conditions: &[Condition]) -> World {
    let mut world = World::node(Family::V4, 3_600_000_000_000);
    let now = world.now.get();
    let mut members = Vec::new();
    for (slot, (state, mode, drain, stamps)) in conditions.iter().enumerate() {
        let slot = slot as u16;
        let backend = world.backend_mut(slot);
        (backend.state, backend.mode) = (*state, *mode);
        let [heard, silent, unreachable] = stamps.map(|ago| match ago {
            0 => 0,
            ago => now - u64::from(ago) * 1_000_000,
        });
        let health = world.health_mut(slot);
        health.drain = u32::from(*drain);
        (health.heard_ns, health.silent_ns, health.unreachable_ns) = (heard, silent, unreachable);
        let identity = maglev::identity(&slot.to_be_bytes());
        members.push(Member {
            slot,
            identity,
            weight: 1,
        });
    }
    let mut table = table();
    let mut scratch = vec![Cursor::default(); members.len()];
    maglev::build(&mut members, &mut scratch, &mut table);
    world
        .tables
        .insert(0, table.slots[..maglev::TABLE_SIZE as usize].to_vec());
    world
}

fn serves((state, mode, drain, _): &Condition) -> bool {
    *state == BackendState::Serving as u8
        && DeliveryMode::from_u8(*mode) as u8 == *mode
        && *mode != DeliveryMode::None as u8
        && !drain
}

fn trusted((_, _, _, [heard, silent, unreachable]): &Condition) -> bool {
    // "ago": smaller is later, 0 is never. Five seconds are the default.
    let doubted = |mark: u16| mark != 0 && mark < 5000 && (*heard == 0 || mark <= *heard);
    !doubted(*silent) && !doubted(*unreachable)
}

/// How long ago it failed last, ms.
fn failed((_, _, _, [_, silent, unreachable]): &Condition) -> u16 {
    let ago = |mark: u16| if mark == 0 { u16::MAX } else { mark };
    ago(*silent).min(ago(*unreachable))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn new_sessions_meet_backends_that_serve(
        conditions in prop::collection::vec(condition(), 0..12),
        hashes in prop::collection::vec(any::<u32>(), 20),
    ) {
        // A mode that no kernel knows is the agent's mistake, not a condition.
        let conditions: Vec<Condition> = conditions
            .into_iter()
            .map(|(state, mode, drain, stamps)| (state, mode % 4, drain, stamps))
            .collect();
        let world = pool(&conditions);
        for hash in hashes {
            let probed: Vec<u16> = (0..16)
                .map(|probe| world.tables[&0][maglev::position(hash, probe) as usize])
                .filter(|slot| *slot != maglev::EMPTY)
                .collect();
            let of = |slot: u16| &conditions[usize::from(slot)];
            let accepting = probed.iter().find(|slot| serves(of(**slot)) && trusted(of(**slot)));
            let slot = steer::place(&world, 0, hash);
            prop_assert_eq!(slot, accepting.copied().unwrap_or(maglev::EMPTY));

            let serving: Vec<u16> = probed.iter().copied().filter(|slot| serves(of(*slot))).collect();
            let slot = steer::place_in_doubt(&world, 0, hash);
            let oldest = serving.iter().map(|slot| failed(of(*slot))).max();
            prop_assert_eq!(oldest, (slot != maglev::EMPTY).then(|| failed(of(slot))));
            prop_assert!(slot == maglev::EMPTY || serving.contains(&slot));
        }
    }

    #[test]
    fn placement_is_the_tables_choice_where_all_serve(
        count in 1..12_usize,
        hash in any::<u32>(),
    ) {
        let world = pool(&vec![(1, 2, false, [0; 3]); count]);
        let position = maglev::position(hash, 0) as usize;
        prop_assert_eq!(steer::place(&world, 0, hash), world.tables[&0][position]);
    }

    #[test]
    fn any_payload_arrives_unchanged_with_right_checksums(
        v6 in any::<bool>(),
        payload in prop::collection::vec(any::<u8>(), 1..1456),
        sequence in 0..60_000_u32,
        port in 1..=u16::MAX,
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let client = CLIENT.at(port);
        let mut host = Host::new();
        let mut world = World::node(family, host.now());
        world.session(family, client, |_, _| {});
        host.load(&world);

        let mut datagram = srt::data_with(LISTENER_ID, ISN + sequence, 0xe000_0001, 0);
        datagram.extend(&payload);
        let up = host.run(At::Uplink, &udp(family, client, VIP, &datagram).bytes());
        prop_assert_eq!(up.verdict, Verdict::XdpPass);
        assert_checksums(&up.frame);
        prop_assert_eq!(up.frame, udp(family, client, POD_A, &datagram).bytes());

        let mut datagram = srt::data_with(CALLER_ID, sequence, 0xe000_0001, 0);
        datagram.extend(&payload);
        let frame = udp(family, POD_A, client, &datagram).bytes();
        let port = At::PodPort(host.0.backend_mut(SLOT_A).ifindex);
        let down = host.run(port, &frame);
        prop_assert_eq!(down.verdict, Verdict::TcRedirect);
        assert_checksums(&down.frame);
        prop_assert_eq!(down.frame, udp(family, VIP, client, &datagram).outbound().bytes());
        prop_assert_eq!(host.0.service_stats.borrow()[&SRT].down_packets, 1);
    }

    #[test]
    fn lost_and_late_packets_are_counted_as_they_were(
        order in Just((0..60_u32).collect::<Vec<_>>()).prop_shuffle(),
        lost in prop::collection::btree_set(0..59_u32, 0..20),
        begin in any::<u32>(),
    ) {
        let begin = begin & 0x7fff_ffff;
        let mut host = Host::new();
        let mut world = World::node(Family::V4, host.now());
        world.session(Family::V4, CLIENT, |flow, _| flow.up.next_sequence = begin);
        host.load(&world);
        let arriving: Vec<u32> = order.into_iter().filter(|n| !lost.contains(n)).collect();
        for number in &arriving {
            let sequence = begin.wrapping_add(*number) & 0x7fff_ffff;
            let datagram = srt::data_with(LISTENER_ID, sequence, 0xe000_0001, 10);
            let frame = udp(Family::V4, CLIENT, VIP, &datagram).bytes();
            prop_assert_eq!(host.run(At::Uplink, &frame).verdict, Verdict::XdpPass);
        }
        let up = host.0.flow_of(Family::V4, CLIENT).up;
        // Every number up to the last is a gap or has come; what came late filled its gap.
        let reached = u64::from(*arriving.iter().max().unwrap()) + 1;
        prop_assert_eq!(up.data_packets, arriving.len() as u64);
        prop_assert_eq!(up.gaps - up.out_of_order, reached - arriving.len() as u64);
    }
}
