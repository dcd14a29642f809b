//! What must hold of bitrate quotas, whatever comes.

use std::collections::BTreeMap;

use ingest_common::{
    abi::{Flow, FlowKey, Quota},
    reason::DropReason,
    steer::{Node, police},
};
use ingest_tests::fixtures::model::World;
use proptest::prelude::*;

/// Two streams on the first route, one on the second.
const STREAMS: [u16; 3] = [1, 1, 2];
/// Longest packet.
const MTU: u64 = 1456;

/// A packet: ns since the one before, its stream, its bytes.
type Arrival = (u64, usize, u16);

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let gap = prop_oneof![
        Just(0),
        0..100_000_u64,
        0..3_000_000_u64,
        Just(5_000_000_000)
    ];
    prop::collection::vec((gap, 0..STREAMS.len(), 16..=MTU as u16), 1..80)
}

/// Bits a second for a stream and for all of a route, 0: no bound; and the burst in ms.
fn bounds() -> impl Strategy<Value = (u64, u64, u64)> {
    // Evenly over the magnitudes: what comes is now far below the rate, now far above.
    let rate = prop_oneof![1 => Just(0), 4 => (10..27).prop_map(|bits| 1_u64 << bits)];
    (rate.clone(), rate, 0..500_u64)
}

/// Nanoseconds a byte, times 65536.
fn byte_cost(bits_per_second: u64) -> u64 {
    (8_000_000_000_u64 << 16)
        .checked_div(bits_per_second)
        .unwrap_or(0)
}

fn key(stream: usize) -> FlowKey {
    FlowKey {
        port: stream as u16,
        ..FlowKey::default()
    }
}

/// What became of a packet, and when.
struct Done {
    at: u64,
    stream: usize,
    bytes: u16,
    verdict: Result<(), DropReason>,
}

fn run(
    quota: &Quota,
    arrivals: &[Arrival],
    mut wanted: impl FnMut(usize) -> bool,
) -> (Vec<Done>, World) {
    let mut world = World::default();
    for route in [1, 2] {
        world.quotas.get_mut().insert(route, *quota);
    }
    for (stream, route) in STREAMS.iter().enumerate() {
        let flow = Flow {
            route: *route,
            ..Flow::default()
        };
        world.flows.get_mut().insert(key(stream), flow);
    }
    let mut at = 3_600_000_000_000;
    let mut done = Vec::new();
    for &(gap, stream, bytes) in arrivals {
        at += gap;
        if wanted(stream) {
            let mut flow = world.flow(&key(stream)).expect("it was made");
            done.push(Done {
                at,
                stream,
                bytes,
                verdict: police(&world, &mut flow, bytes, at),
            });
        }
    }
    (done, world)
}

fn quota((stream, route, burst_ms): (u64, u64, u64)) -> Quota {
    Quota {
        stream_byte_cost: byte_cost(stream),
        route_byte_cost: byte_cost(route),
        bitrate_burst_ns: burst_ms * 1_000_000,
        in_use: 1,
        ..Quota::default()
    }
}

/// From any packet that went on to any other: no more than the rate allows for the time between, a burst and the packet
/// that may begin right at the bound.
fn rate_is_kept(passed: &[&Done], byte_cost: u64, burst_ns: u64) {
    for (first, start) in passed.iter().enumerate() {
        let mut taken = 0;
        for end in &passed[first..] {
            let cost = (u64::from(end.bytes) * byte_cost) >> 16;
            taken += cost;
            let allowed = end.at - start.at + burst_ns + cost;
            assert!(taken <= allowed, "{taken} ns, not {allowed}");
        }
    }
}

proptest! {
    #[test]
    fn no_pattern_gets_more_than_its_rate(bounds in bounds(), arrivals in arrivals()) {
        let quota = quota(bounds);
        let (done, world) = run(&quota, &arrivals, |_| true);
        let passed: Vec<&Done> = done.iter().filter(|done| done.verdict.is_ok()).collect();
        for (stream, _) in STREAMS.iter().enumerate() {
            let own: Vec<&Done> = passed.iter().copied().filter(|d| d.stream == stream).collect();
            rate_is_kept(&own, quota.stream_byte_cost, quota.bitrate_burst_ns);
        }
        for route in [1, 2] {
            let own: Vec<&Done> =
                passed.iter().copied().filter(|d| STREAMS[d.stream] == route).collect();
            rate_is_kept(&own, quota.route_byte_cost, quota.bitrate_burst_ns);
        }
        // What was dropped is counted, by route and bound.
        let mut dropped: BTreeMap<u16, [u64; 4]> = BTreeMap::new();
        for done in &done {
            let bytes = u64::from(done.bytes);
            let [stream, stream_bytes, route, route_bytes] =
                dropped.entry(STREAMS[done.stream]).or_default();
            match done.verdict {
                Ok(()) => {}
                Err(DropReason::QuotaStreamBitrate) => { *stream += 1; *stream_bytes += bytes; }
                Err(DropReason::QuotaRouteBitrate) => { *route += 1; *route_bytes += bytes; }
                Err(other) => panic!("dropped for {other:?}"),
            }
        }
        for (route, expected) in dropped {
            let stats = world.route_stats.borrow().get(&route).copied().unwrap_or_default();
            let found = [
                stats.over_stream_packets, stats.over_stream_bytes,
                stats.over_route_packets, stats.over_route_bytes,
            ];
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_route_never_pays_for_another(bounds in bounds(), arrivals in arrivals()) {
        let quota = quota(bounds);
        let verdicts = |done: &[Done], stream| -> Vec<_> {
            done.iter().filter(|d| d.stream == stream).map(|d| d.verdict).collect()
        };
        let (together, _) = run(&quota, &arrivals, |_| true);
        let (alone, _) = run(&quota, &arrivals, |stream| stream == 2);
        prop_assert_eq!(verdicts(&together, 2), verdicts(&alone, 2));
    }

    /// Nor does a stream pay for another one of its route, where only streams are bounded.
    #[test]
    fn a_stream_pays_for_itself(bounds in bounds(), arrivals in arrivals()) {
        let quota = Quota { route_byte_cost: 0, ..quota(bounds) };
        let (together, _) = run(&quota, &arrivals, |_| true);
        let (alone, _) = run(&quota, &arrivals, |stream| stream == 0);
        let of_first: Vec<_> = together.iter().filter(|d| d.stream == 0).map(|d| d.verdict).collect();
        let alone: Vec<_> = alone.iter().map(|d| d.verdict).collect();
        prop_assert_eq!(of_first, alone);
    }

    #[test]
    fn who_keeps_the_rate_loses_nothing(
        rate in 1_000..100_000_000_u64,
        burst_ms in 0..500_u64,
        sizes in prop::collection::vec(16..=MTU as u16, 1..80),
    ) {
        let quota = quota((rate, rate, burst_ms));
        // Each packet as late as the one before it was long.
        let arrivals: Vec<Arrival> = std::iter::once(0)
            .chain(sizes.iter().map(|bytes| (u64::from(*bytes) * quota.stream_byte_cost) >> 16))
            .zip(&sizes)
            .map(|(gap, bytes)| (gap, 0, *bytes))
            .collect();
        let (done, _) = run(&quota, &arrivals, |_| true);
        prop_assert!(done.iter().all(|done| done.verdict.is_ok()));
    }

    /// Nothing that was refused was used: without those packets, all stamps are the same.
    #[test]
    fn a_refused_packet_costs_nothing(bounds in bounds(), arrivals in arrivals()) {
        let quota = quota(bounds);
        let (done, world) = run(&quota, &arrivals, |_| true);
        let mut verdicts = done.iter().map(|done| done.verdict.is_ok());
        let (again, same) = run(&quota, &arrivals, |_| verdicts.next() == Some(true));
        prop_assert!(again.iter().all(|done| done.verdict.is_ok()));
        prop_assert_eq!(world.flows, same.flows);
        prop_assert_eq!(world.route_states, same.route_states);
    }
}
