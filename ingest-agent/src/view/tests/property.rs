//! Whatever the maps say.

use proptest::{array::uniform, collection::vec, prelude::*};

use super::*;

/// A number as the kernel would have it, or any.
fn count() -> impl Strategy<Value = u64> {
    prop_oneof![0..5000_u64, any::<u64>()]
}

fn stamp() -> impl Strategy<Value = u64> {
    prop_oneof![START - 20 * SECOND..START + 60 * SECOND, any::<u64>()]
}

prop_compose! {
    fn any_flow()(
        counts in uniform::<_, 9>(count()),
        stamps in uniform::<_, 5>(stamp()),
        small in uniform::<_, 6>(any::<u32>()),
        caller_id in 0..3_u32,
        slot in 3..5_u16,
        state in 0..5_u8,
    ) -> Flow {
        let mut flow = Flow {
            accepted_ns: stamps[0],
            ended_ns: stamps[1],
            caller_id,
            slot,
            state,
            incarnation: small[0] % 2,
            cut_reason: small[1] as u8,
            flow_window: small[2],
            ..Default::default()
        };
        let [packets, bytes, data_packets, retransmitted, gaps, out_of_order, ..] = counts;
        flow.up = ingest_common::abi::Up {
            packets,
            bytes,
            data_packets,
            retransmitted,
            gaps,
            out_of_order,
            seen_ns: stamps[2],
            unanswered_since_ns: stamps[3],
            unanswered: small[3],
            ..Default::default()
        };
        flow.down = ingest_common::abi::Down {
            packets: counts[6],
            bytes: counts[7],
            reported_lost: counts[8],
            acks: counts[8],
            seen_ns: stamps[4],
            rtt_us: small[4],
            receive_buffer: small[5],
            ..Default::default()
        };
        flow
    }
}

type Round = (u64, Vec<(u16, Flow)>);

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    vec((stamp(), vec((0..4_u16, any_flow()), 0..8)), 1..20)
}

proptest! {
    #[test]
    fn any_numbers_are_taken(rounds in rounds()) {
        let mut world = World::new();
        let mut known: HashMap<FlowKey, (StreamState, u16)> = HashMap::new();
        for (now_ns, flows) in rounds {
            world.now_ns = now_ns;
            world.flows = flows.into_iter().map(|(port, flow)| (key(port), flow)).collect();
            let names: std::collections::HashSet<FlowKey> =
                world.flows.iter().map(|(key, _)| *key).collect();
            for change in world.look() {
                match change {
                    Change::State { key, before, now, reasons, reasons_before } => {
                        let was = known.insert(key, (now, reasons)).unwrap_or_default();
                        prop_assert_eq!(was, (before, reasons_before));
                        prop_assert_ne!(was, (now, reasons));
                    }
                    Change::Gone { key } => {
                        known.remove(&key);
                        prop_assert!(world.view.stream(&key).is_none());
                    }
                    Change::Failover(_) | Change::Reconnected { .. } => {}
                }
            }
            prop_assert_eq!(world.view.streams().count(), names.len());
            for stream in world.view.streams() {
                let rates = stream.rates;
                for share in [rates.loss, rates.reported_loss, rates.retransmitted] {
                    prop_assert!((0.0..=1.0).contains(&share));
                }
                prop_assert!(rates.bitrate >= 0.0 && rates.bitrate.is_finite());
                prop_assert!(rates.packets >= 0.0 && rates.packets.is_finite());
                prop_assert!(stream.failovers <= stream.reconnects);
                prop_assert!(stream.history.len() <= 60);
                // No state changes unless that is told.
                let told = known.get(&stream.key).copied().unwrap_or_default();
                prop_assert_eq!(told, (stream.state, stream.reasons));
            }
        }
    }

    #[test]
    fn a_steady_stream_is_well(
        packets in 100..3000_u64,
        lost in 0..4_u64,
        rtt_us in 1..40_000_u32,
        steps in vec(700_000_000..2_500_000_000_u64, 1..60),
    ) {
        let mut world = World::with_one(Thresholds {
            min_bitrate: packets * PAYLOAD * 8 * 9 / 10,
            ..Default::default()
        });
        world.flow().down.rtt_us = rtt_us;
        world.look();
        for step in steps {
            world.now_ns += step;
            let now_ns = world.now_ns;
            let flow = world.flow();
            let sent = (now_ns - START) / 1000 * packets / 1_000_000 - flow.up.data_packets;
            flow.up.gaps += lost;
            send(flow, now_ns, sent);
            answer(flow, now_ns);
            let changes = world.look();
            prop_assert_eq!(changes, []);
        }
    }
}
