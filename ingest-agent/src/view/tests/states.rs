//! Every state and every reason, and how long they take to come and go.

use ingest_common::abi::OFF;

use super::*;

const ACTIVE: (StreamState, Vec<Reason>) = (StreamState::Active, Vec::new());

fn warning(reason: Reason) -> (StreamState, Vec<Reason>) {
    (StreamState::Warning, vec![reason])
}

fn stalled(reason: Reason) -> (StreamState, Vec<Reason>) {
    (StreamState::Stalled, vec![reason])
}

/// 100 packets a second are 1,052,800 bit/s.
fn at_least_a_megabit() -> Thresholds {
    Thresholds {
        min_bitrate: 1_000_000,
        ..Default::default()
    }
}

/// A rate to the nearest number.
#[expect(clippy::cast_sign_loss, reason = "no rate is negative")]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

#[test]
fn rates_are_of_the_time_that_has_passed() {
    let mut world = World::with_one(Thresholds::default());
    world.run(3, 100);
    assert_eq!(world.state(), ACTIVE);
    let bitrate = |world: &World| whole(world.stream().rates.bitrate);
    assert_eq!(bitrate(&world), 100 * PAYLOAD * 8);
    // Two seconds between readings, with what two seconds bring.
    world.now_ns += SECOND;
    let now_ns = world.now_ns;
    send(world.flow(), now_ns, 100);
    world.run(1, 100);
    assert_eq!(bitrate(&world), 100 * PAYLOAD * 8);
    // No time at all: what was measured stands.
    world.look();
    assert_eq!(bitrate(&world), 100 * PAYLOAD * 8);
    // A clock that goes back is no time either.
    world.now_ns -= 10 * SECOND;
    world.look();
    assert_eq!(bitrate(&world), 100 * PAYLOAD * 8);
    assert_eq!(world.state(), ACTIVE);
}

#[test]
fn control_packets_are_no_payload() {
    let mut world = World::with_one(Thresholds::default());
    world.run(2, 100);
    world.flow().up.packets += 50;
    world.flow().up.bytes += 50 * 20;
    world.run(1, 100);
    assert_eq!(whole(world.stream().rates.bitrate), 100 * PAYLOAD * 8);
    assert_eq!(whole(world.stream().rates.packets), 150);
    assert_eq!(world.stream().payload_bytes(), 300 * PAYLOAD);
}

#[test]
fn a_low_bitrate_is_told_in_time_and_clears() {
    let mut world = World::with_one(at_least_a_megabit());
    assert!(world.run(20, 100).is_empty());
    world.run(4, 20);
    assert_eq!(world.state(), ACTIVE);
    world.run(1, 20);
    assert_eq!(world.state(), warning(Reason::LowBitrate));
    assert_eq!(world.stream().since_ns, world.now_ns);
    world.run(2, 100);
    assert_eq!(world.state(), warning(Reason::LowBitrate));
    let changes = world.run(1, 100);
    assert_eq!(world.state(), ACTIVE);
    assert!(matches!(
        changes[..],
        [Change::State {
            before: StreamState::Warning,
            now: StreamState::Active,
            reasons: 0,
            ..
        }]
    ));
}

#[test]
fn a_bitrate_that_wavers_does_not_flap() {
    let mut world = World::with_one(at_least_a_megabit());
    world.run(10, 100);
    let mut changes = Vec::new();
    for second in 0..60 {
        changes.extend(world.run(1, if second % 3 == 0 { 100 } else { 80 }));
    }
    assert_eq!(changes, []);
    world.run(6, 80);
    for second in 0..60 {
        changes.extend(world.run(1, if second % 3 == 0 { 80 } else { 100 }));
    }
    assert_eq!(changes, []);
    assert_eq!(world.state(), warning(Reason::LowBitrate));
}

#[test]
fn an_encoder_may_take_a_while_to_begin() {
    let mut world = World::with_one(at_least_a_megabit());
    world.run(4, 20);
    assert_eq!(world.state(), ACTIVE);
    world.run(1, 20);
    assert_eq!(world.state(), warning(Reason::LowBitrate));
}

#[test]
fn a_route_has_its_own_threshold() {
    let mut world = World::with_one(at_least_a_megabit());
    let own = Thresholds {
        min_bitrate: 100_000,
        ..Default::default()
    };
    world.thresholds.insert(Thresholds::of_route(7), own);
    world.flow().route = 7;
    world.run(10, 20);
    assert_eq!(world.state(), ACTIVE);
}

#[test]
fn loss_is_measured_and_told() {
    let mut world = World::with_one(Thresholds::default());
    world.run(5, 200);
    for second in 0..10 {
        world.flow().up.gaps += 20;
        world.run(1, 180);
        // Two seconds until the share of the last ten is over the threshold, and three more.
        if second < 3 {
            assert_eq!(world.state(), ACTIVE, "{second}");
        }
    }
    assert_eq!(world.state(), warning(Reason::Loss));
    let loss = world.stream().rates.loss;
    assert!((0.09..0.1001).contains(&loss), "{loss}");
    // It fades, and then takes five seconds more to clear.
    let changes = world.run(20, 200);
    assert_eq!(changes.len(), 1);
    assert_eq!(world.state(), ACTIVE);
}

#[test]
fn what_comes_out_of_order_is_not_lost() {
    let mut world = World::with_one(Thresholds::default());
    for _ in 0..20 {
        world.flow().up.gaps += 20;
        world.flow().up.out_of_order += 20;
        world.run(1, 200);
    }
    assert_eq!(world.stream().rates.loss.to_bits(), 0);
    assert_eq!(world.state(), ACTIVE);
}

#[test]
fn retransmissions_and_reports_have_shares_of_their_own() {
    let mut world = World::with_one(Thresholds::default());
    for _ in 0..30 {
        world.flow().up.retransmitted += 10;
        world.flow().down.reported_lost += 20;
        world.run(1, 100);
    }
    let rates = world.stream().rates;
    assert!((rates.retransmitted - 0.1).abs() < 1e-6);
    assert!((rates.reported_loss - 0.2).abs() < 1e-6);
    assert_eq!(rates.loss.to_bits(), 0);
}

#[test]
fn a_long_round_trip_is_told_once_measured() {
    let mut world = World::with_one(Thresholds::default());
    world.flow().down.rtt_us = 100_000;
    world.flow().down.rtt_variance_us = 50_000;
    world.run(10, 100);
    assert_eq!(world.state(), ACTIVE);
    assert_eq!(world.stream().rates.rtt_ms, None);
    // 50 % of 120 ms.
    world.flow().down.rtt_us = 61_000;
    world.run(2, 100);
    assert_eq!(world.state(), ACTIVE);
    world.run(1, 100);
    assert_eq!(world.state(), warning(Reason::Rtt));
    // Under the threshold, but not by much.
    world.flow().down.rtt_us = 55_000;
    world.run(10, 100);
    assert_eq!(world.state(), warning(Reason::Rtt));
    world.flow().down.rtt_us = 40_000;
    world.run(4, 100);
    assert_eq!(world.state(), warning(Reason::Rtt));
    world.run(1, 100);
    assert_eq!(world.state(), ACTIVE);
}

#[test]
fn a_pod_that_does_not_read_is_told() {
    let mut world = World::with_one(Thresholds::default());
    world.run(5, 100);
    world.flow().down.receive_buffer = 700;
    world.run(3, 100);
    assert_eq!(world.state(), warning(Reason::PodBuffer));
    world.flow().down.receive_buffer = 8000;
    world.run(5, 100);
    assert_eq!(world.state(), ACTIVE);
}

#[test]
fn a_pod_with_a_small_buffer_is_well() {
    let mut world = World::with_one(Thresholds::default());
    world.flow().flow_window = 25_600;
    world.flow().down.receive_buffer = 900;
    assert!(world.run(20, 100).is_empty());
}

#[test]
fn an_encoder_that_stops_is_not_one_that_is_gone() {
    let mut world = World::with_one(at_least_a_megabit());
    world.run(10, 100);
    world.run(2, 0);
    assert_eq!(world.state(), ACTIVE);
    world.run(1, 0);
    assert_eq!(world.state(), stalled(Reason::EncoderStopped));
    // Not a low bitrate as well.
    world.run(10, 0);
    assert_eq!(world.state(), stalled(Reason::EncoderStopped));
    for _ in 0..3 {
        world.now_ns += SECOND;
        world.look();
    }
    assert_eq!(world.state(), stalled(Reason::EncoderUnreachable));
    world.run(1, 100);
    assert_eq!(world.state(), ACTIVE);
}

#[test]
fn nothing_stalls_where_that_is_off() {
    let mut world = World::with_one(Thresholds {
        stalled_after_ms: OFF,
        max_loss: OFF,
        max_rtt: OFF,
        ..Default::default()
    });
    world.flow().down.rtt_us = 900_000;
    world.flow().up.gaps = 5000;
    world.run(5, 10);
    assert!(world.run(30, 0).is_empty());
}

#[test]
fn a_pod_that_says_nothing_is_told() {
    let mut world = World::with_one(Thresholds::default());
    world.run(3, 4);
    let now_ns = world.now_ns;
    let flow = world.flow();
    flow.up.unanswered = 4;
    flow.up.unanswered_since_ns = now_ns;
    flow.up.answered_mark = flow.down.packets as u32;
    world.now_ns += 2 * SECOND;
    let now_ns = world.now_ns;
    send(world.flow(), now_ns, 4);
    world.look();
    assert_eq!(world.state(), warning(Reason::PodSilent));
    // Its next packet answers, though nothing resets the count.
    world.run(1, 4);
    assert_eq!(world.state(), ACTIVE);
}

#[test]
fn a_draining_pod_drains_its_streams() {
    let mut world = World::with_one(Thresholds::default());
    world.run(3, 100);
    world.names.backends.get_mut(&3).unwrap().draining = true;
    world.run(1, 100);
    assert_eq!(world.state(), (StreamState::Draining, vec![]));
    world.run(4, 0);
    assert_eq!(world.state(), stalled(Reason::EncoderStopped));
    // Another tenant of the slot is not its pod.
    world.names.backends.get_mut(&3).unwrap().incarnation = 2;
    world.run(1, 100);
    assert_eq!(world.state(), ACTIVE);
}

#[test]
fn a_stream_that_was_cut_is_ending_and_then_gone() {
    let mut world = World::with_one(Thresholds::default());
    world.run(3, 100);
    world.flow().state = FlowState::Cut as u8;
    assert_eq!(world.run(1, 0).len(), 1);
    assert_eq!(world.state(), (StreamState::Ending, vec![]));
    world.flows.clear();
    assert_eq!(world.look(), [Change::Gone { key: key(5000) }]);
    assert_eq!(world.view.streams().count(), 0);
}

#[test]
fn a_reader_is_measured_by_what_it_gets() {
    let mut world = World::with_one(at_least_a_megabit());
    let mut changes = Vec::new();
    for _ in 0..20 {
        world.flow().down.packets += 100;
        world.flow().down.bytes += 100 * PACKET;
        changes.extend(world.run(1, 0));
    }
    assert_eq!(changes, []);
    assert!(rates::is_reader(&world.stream().flow));
    assert!(world.stream().rates.bitrate > 1_000_000.0);
    world.now_ns += 4 * SECOND;
    world.look();
    assert_eq!(world.state(), stalled(Reason::EncoderUnreachable));
}

#[test]
fn udp_counts_every_byte() {
    let mut world = World::with_one(Thresholds::default());
    world.flow().caller_id = 0;
    for _ in 0..5 {
        world.flow().up.packets += 10;
        world.flow().up.bytes += 1000;
        world.now_ns += SECOND;
        let now_ns = world.now_ns;
        world.flow().up.seen_ns = now_ns;
        world.look();
    }
    assert_eq!(whole(world.stream().rates.bitrate), 8000);
    assert_eq!(world.state(), ACTIVE);
    world.now_ns += 3 * SECOND;
    world.look();
    assert_eq!(world.state(), stalled(Reason::EncoderUnreachable));
}

#[test]
fn counters_that_go_back_are_no_rate() {
    let mut world = World::with_one(Thresholds::default());
    world.run(3, 100);
    world.flow().up = ingest_common::abi::Up::default();
    world.run(1, 0);
    let rates = world.stream().rates;
    assert!(
        rates.bitrate.abs() < 200.0 && rates.loss.abs() < 1e-9,
        "{rates:?}"
    );
}

#[test]
fn history_is_a_minute() {
    let mut world = World::with_one(Thresholds::default());
    world.run(100, 100);
    let history = &world.stream().history;
    assert_eq!(history.len(), 60);
    assert_eq!(whole(history[59].bitrate.into()), 100 * PAYLOAD * 8);
}

#[test]
fn what_another_judge_said_stands() {
    let mut world = World::with_one(at_least_a_megabit());
    world.run(10, 20);
    assert_eq!(world.state(), warning(Reason::LowBitrate));
    let mut health = world.stream().health();
    health.reconnects = 3;
    health.failovers = 2;
    let mut next = World::with_one(at_least_a_megabit());
    next.flows.clone_from(&world.flows);
    next.now_ns = world.now_ns;
    next.view.adopt(&[(key(5000), health)].into());
    assert!(next.run(3, 20).is_empty());
    assert_eq!(next.state(), warning(Reason::LowBitrate));
    let stream = next.stream();
    assert_eq!((stream.reconnects, stream.failovers), (3, 2));
    assert_eq!(stream.since_ns, health.since_ns);
    // Of an earlier caller on that port.
    let mut other = World::with_one(Thresholds::default());
    other.flows.clone_from(&world.flows);
    other.flow().caller_id = 78;
    other.view.adopt(&[(key(5000), health)].into());
    other.look();
    assert_eq!(other.state(), ACTIVE);
    assert_eq!(other.stream().reconnects, 0);
}
