use std::{collections::VecDeque, time::Instant};

use ingest_common::abi::{Flow, StreamId, v4_mapped};
use proptest::prelude::*;

use super::*;
use crate::{
    metrics::{AgentMetrics, KernelState, StreamsState, render},
    view::{Rates, Reading, ServiceName},
};

fn view(streams: Vec<Stream>) -> View {
    let mut reading = Reading::default();
    for (id, is_srt) in [(1, true), (2, false)] {
        let service = ServiceName {
            name: format!("live/{id}"),
            vip: ([203, 0, 113, 10], 9000 + id).into(),
            is_srt,
        };
        reading.names.services.insert(id, service);
    }
    View::made_up(reading, streams, [])
}

fn stream(hash: u64, state: StreamState, bitrate: f64) -> Stream {
    let [.., b, c] = hash.to_be_bytes();
    Stream {
        key: FlowKey {
            address: v4_mapped([198, 51, b, c]),
            port: 4000,
            service: 1,
        },
        flow: Flow {
            state: FlowState::Established as u8,
            accepted_ns: 5,
            caller_id: 7,
            ..Flow::default()
        },
        identity: Identity { service: 1, hash },
        asked: None,
        state,
        reasons: 0,
        since_ns: 0,
        rates: Rates {
            bitrate,
            ..Rates::default()
        },
        reconnects: 0,
        failovers: 0,
        history: VecDeque::new(),
    }
}

fn ids(series: &[Series]) -> HashSet<String> {
    series.iter().map(|series| series.id.clone()).collect()
}

fn id(hash: u64) -> String {
    Identity { service: 1, hash }.id()
}

#[test]
fn payload_of_a_reader_is_what_it_gets() {
    let mut reader = stream(1, StreamState::Active, 1e6);
    (reader.flow.up.packets, reader.flow.up.bytes) = (10, 200);
    (reader.flow.down.packets, reader.flow.down.bytes) = (100, 100 * 1332);
    assert_eq!(totals(&reader)[0], 100 * 1316);
    reader.flow.up.data_packets = 5;
    reader.flow.up.bytes = 5 * 1332 + 5 * 20;
    assert_eq!(totals(&reader)[0], 5 * 1316);
}

#[test]
fn those_that_are_not_well_come_first_and_a_little_more_bitrate_moves_nobody() {
    let mut series = StreamSeries::new(2, StreamIds::Redacted);
    let well = |hash, bitrate| stream(hash, StreamState::Active, bitrate);
    let (all, omitted) = series.choose(&view(vec![well(1, 5e6), well(2, 4e6), well(3, 3e6)]));
    assert_eq!((ids(&all), omitted), ([id(1), id(2)].into(), 1));
    let (all, _) = series.choose(&view(vec![well(1, 5e6), well(2, 4e6), well(3, 7e6)]));
    assert_eq!(ids(&all), [id(1), id(2)].into());
    let (all, _) = series.choose(&view(vec![well(1, 5e6), well(2, 4e6), well(3, 9e6)]));
    assert_eq!(ids(&all), [id(1), id(3)].into());
    let stalled = stream(4, StreamState::Stalled, 0.0);
    let (all, _) = series.choose(&view(vec![well(1, 5e6), well(3, 9e6), stalled.clone()]));
    assert_eq!(ids(&all), [id(3), id(4)].into());
    // Gone is gone, and there is room again.
    let (all, omitted) = series.choose(&view(vec![well(1, 5e6)]));
    assert_eq!((ids(&all), omitted), ([id(1)].into(), 0));
    assert_eq!(series.held.len(), 1);
    assert_eq!(
        StreamSeries::default().choose(&view(vec![stalled])).0.len(),
        0
    );
}

#[test]
fn counters_go_on_over_sessions_and_never_back() {
    let mut series = StreamSeries::new(10, StreamIds::Redacted);
    let mut first = stream(7, StreamState::Active, 1.0);
    first.flow.up.packets = 12;
    first.flow.up.data_packets = 10;
    first.flow.up.bytes = 10 * 1332 + 2 * 20;
    first.flow.up.gaps = 3;
    let mut choose = |streams: Vec<Stream>| series.choose(&view(streams)).0[0].totals;
    assert_eq!(choose(vec![first.clone()]), [13_160, 12, 3, 0, 0]);
    // Two late packets have filled gaps, then more are lost.
    first.flow.up.out_of_order = 2;
    assert_eq!(choose(vec![first.clone()])[2], 3);
    first.flow.up.gaps = 9;
    assert_eq!(choose(vec![first.clone()])[2], 7);
    // It comes back while the old session is still known, and the old one is forgotten.
    first.flow.state = FlowState::Cut as u8;
    first.state = StreamState::Ending;
    let mut second = stream(7, StreamState::Active, 1.0);
    second.key.port += 1;
    second.flow.accepted_ns = 9;
    second.flow.up.packets = 1;
    assert_eq!(choose(vec![first, second.clone()])[1], 13);
    second.flow.up.packets = 5;
    assert_eq!(choose(vec![second])[1], 17);
}

#[test]
fn labels_hold_no_client_no_secret_and_no_series_twice() {
    let secret = "#!::u=alice,r=hunter2-secret,s=\"quoted\"\nline";
    let mut asked = StreamId {
        length: secret.len() as u16,
        ..StreamId::default()
    };
    asked.text[..secret.len()].copy_from_slice(secret.as_bytes());
    let mut streams = vec![
        stream(1, StreamState::Warning, 2e6),
        stream(1, StreamState::Active, 2e6),
        stream(2, StreamState::Active, 2e6),
    ];
    streams[1].key.port += 1;
    for stream in &mut streams {
        stream.asked = Some(Box::new(asked));
        stream.rates.rtt_ms = Some(20.0);
    }
    for how in [StreamIds::Full, StreamIds::Redacted, StreamIds::Hash] {
        let mut series = StreamSeries::new(10, how);
        let state = StreamsState::read(&view(streams.clone()), &mut series);
        let text = render(&AgentMetrics::default(), KernelState::default(), state).unwrap();
        for planted in ["198.51", "hunter2", "alice", "quoted"] {
            assert!(!text.contains(planted), "{planted} in {text}");
        }
        let mut lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(series, _)| series)
            .collect();
        let all = lines.len();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), all, "{text}");
        for line in [
            r#"ingest_streams{service="live/1",vip="203.0.113.10:9001",state="active"} 2"#,
            r#"ingest_streams{service="live/1",vip="203.0.113.10:9001",state="warning"} 1"#,
            r#"ingest_streams{service="live/2",vip="203.0.113.10:9002",state="active"} 0"#,
            "ingest_stream_series_omitted 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let rtts = text
            .lines()
            .filter(|l| l.starts_with("ingest_stream_rtt_seconds{"));
        assert!(rtts.clone().count() == 2 && rtts.clone().all(|l| l.ends_with(" 0.02")));
    }
}

#[test]
fn ten_thousand_streams_are_scraped_at_once() {
    let streams: Vec<_> = (0..10_000_u32)
        .map(|n| stream(n.into(), StreamState::Active, n.into()))
        .collect();
    let view = view(streams);
    let mut series = StreamSeries::new(100, StreamIds::Redacted);
    let agent = AgentMetrics::default();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let state = StreamsState::read(&view, &mut series);
        let text = render(&agent, KernelState::default(), state).unwrap();
        best = best.min(begun.elapsed().as_secs_f64());
        assert!(text.contains("ingest_stream_series_omitted 9900"));
    }
    // Without optimisation, and with others at work: some milliseconds otherwise.
    assert!(best < 0.5, "{best} s");
}

proptest! {
    #[test]
    fn as_many_as_are_allowed_and_who_has_series_keeps_them(
        limit in 0_usize..6,
        rounds in proptest::collection::vec(
            proptest::collection::btree_map(0_u64..12, (0_u8..5, 1_u32..1000), 0..12),
            1..8,
        ),
    ) {
        let mut series = StreamSeries::new(limit, StreamIds::Redacted);
        let mut before: HashSet<String> = HashSet::new();
        for round in rounds {
            let streams: Vec<_> = round
                .iter()
                .map(|(hash, (state, bitrate))| {
                    stream(*hash, StreamState::from_u8(*state), (*bitrate).into())
                })
                .collect();
            let (all, omitted) = series.choose(&view(streams.clone()));
            let now = ids(&all);
            prop_assert_eq!(now.len(), limit.min(streams.len()));
            prop_assert_eq!(now.len() + omitted, streams.len());
            let unwell = |stream: &&Stream| {
                matches!(stream.state, StreamState::Warning | StreamState::Stalled)
            };
            // Nobody who is not well goes without while someone well has series.
            if streams.iter().filter(unwell).any(|s| !now.contains(&s.identity.id())) {
                prop_assert!(streams.iter().filter(|s| now.contains(&s.identity.id())).all(|s| unwell(&s)));
            }
            // Who lost them while the stream goes on and is well made way for one that is not, or that is bigger by far.
            for lost in streams.iter().filter(|s| {
                let id = s.identity.id();
                s.state == StreamState::Active && before.contains(&id) && !now.contains(&id)
            }) {
                let for_whom = streams.iter().filter(|s| {
                    let id = s.identity.id();
                    now.contains(&id) && !before.contains(&id)
                });
                for new in for_whom {
                    prop_assert!(
                        unwell(&new) || new.rates.bitrate >= STICKY * lost.rates.bitrate,
                        "{new:?} for {lost:?}"
                    );
                }
            }
            before = now;
        }
    }
}
