use super::*;
use crate::cli::StreamIds;

fn key(port: u16) -> abi::FlowKey {
    abi::FlowKey {
        address: abi::v4_mapped([198, 51, 100, 7]),
        port,
        service: 3,
    }
}

fn flow(bytes: u64) -> abi::Flow {
    abi::Flow {
        accepted_ns: 1_000_000_000,
        slot: 4,
        incarnation: 1,
        state: FlowState::Established as u8,
        up: abi::Up {
            bytes,
            gaps: 9,
            out_of_order: 2,
            seen_ns: 10_000_000_000,
            ..Default::default()
        },
        down: abi::Down {
            rtt_us: 21_400,
            ..Default::default()
        },
        ..Default::default()
    }
}

fn sample(at: Instant, flows: Vec<(abi::FlowKey, abi::Flow)>) -> Sample {
    Sample {
        at,
        now_ns: 11_000_000_000,
        flows,
    }
}

fn args(all: bool, stream_ids: StreamIds) -> Streams {
    Streams {
        watch: false,
        all,
        sample: Duration::ZERO,
        stream_ids,
    }
}

fn known() -> Known {
    let service = ServiceView {
        key: abi::ServiceKey::new(abi::v4_mapped([203, 0, 113, 10]), 9000, abi::UDP),
        service: abi::Service {
            id: 3,
            ..Default::default()
        },
        name: "live/srt".into(),
        traffic: abi::Traffic::default(),
        splices: abi::SpliceStats::default(),
        thresholds: abi::Thresholds::default(),
    };
    let backend = BackendView {
        slot: 4,
        backend: abi::Backend {
            incarnation: 1,
            ..Default::default()
        },
        health: abi::Health::default(),
        name: "live/pod-a".into(),
        traffic: abi::Traffic::default(),
        probe: abi::Probe::default(),
    };
    let route = RouteView {
        route: 7,
        name: "live/acme".into(),
        ..Default::default()
    };
    Known {
        services: vec![service],
        backends: vec![backend],
        routes: vec![route],
        stream_ids: HashMap::new(),
    }
}

#[test]
fn the_bitrate_is_that_of_the_sample() {
    let known = known();
    let start = Instant::now();
    let before = sample(start, vec![(key(40000), flow(1_000_000))]);
    let now = sample(
        start + Duration::from_secs(2),
        vec![
            (key(40000), flow(2_000_000)),
            (key(40001), flow(500)),
            (key(40001), flow(500)),
        ],
    );
    let rows = rows(&now, &before, &known, &args(false, StreamIds::Full));
    assert_eq!(rows.len(), 2, "a flow met twice is one");
    assert_eq!(rows[0].up_bits_per_second, Some(4_000_000.0));
    assert_eq!(
        rows[1].up_bits_per_second,
        Some(2_000.0),
        "new since the sample began"
    );
    assert_eq!(
        (rows[0].lost, rows[0].rtt_ms, rows[0].idle_ms),
        (7, Some(21.4), 1000)
    );
    assert_eq!(rows[0].backend.as_deref(), Some("live/pod-a"));
    let text = table(&rows);
    assert!(
        text.contains("4.0 Mbit/s") && text.contains("21.4 ms") && text.contains("10s"),
        "{text}"
    );
}

#[test]
fn what_has_ended_is_shown_only_when_asked_for() {
    let known = known();
    let cut = abi::Flow {
        state: FlowState::Cut as u8,
        cut_reason: CutReason::Silent as u8,
        incarnation: 9,
        ..flow(0)
    };
    let now = sample(Instant::now(), vec![(key(1), cut)]);
    assert_eq!(rows(&now, &now, &known, &args(false, StreamIds::Full)), []);
    let rows = rows(&now, &now, &known, &args(true, StreamIds::Full));
    assert_eq!(
        (rows[0].cut_reason, &rows[0].backend),
        (Some("silent"), &None)
    );
    assert_eq!(rows[0].up_bits_per_second, None);
    assert!(table(&rows).contains("cut: silent"));
}
#[test]
fn what_a_caller_asked_for_is_shown_redacted_unless_told_otherwise() {
    let text = b"#!::r=acme/one,s=hunter2,m=publish";
    let mut stream = abi::StreamId {
        caller_id: 5,
        version: 0x0001_0501,
        receiver_latency: 120,
        sender_latency: 200,
        length: text.len() as u16,
        encryption: 4,
        encrypted: 1,
        handshake: 5,
        ..Default::default()
    };
    stream.text[..text.len()].copy_from_slice(text);
    let steered = abi::Flow {
        caller_id: 5,
        route: 7,
        ..flow(0)
    };
    let now = sample(
        Instant::now(),
        vec![
            (key(1), steered),
            // An earlier caller's Stream ID, and one without any.
            (
                key(2),
                abi::Flow {
                    caller_id: 6,
                    ..steered
                },
            ),
            (key(3), flow(0)),
        ],
    );
    let known = Known {
        stream_ids: [(key(1), stream), (key(2), stream)].into(),
        ..known()
    };
    let shown = |how| rows(&now, &now, &known, &args(false, how));
    let text = table(&shown(StreamIds::Redacted));
    for part in [
        "#!::r=",
        "m=publish",
        "live/acme",
        "120/200 ms",
        "AES-256",
        "1.5.1",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    let full = shown(StreamIds::Full);
    let ids: Vec<_> = full.iter().map(|row| row.stream_id.as_deref()).collect();
    assert_eq!(
        ids,
        [Some("#!::r=acme/one,s=hunter2,m=publish"), None, None]
    );
    let json = serde_json::to_value(&shown(StreamIds::Redacted)[0]).unwrap();
    assert_eq!(
        (&json["route"], &json["encryption"], &json["peer_version"]),
        (&"live/acme".into(), &"AES-256".into(), &"1.5.1".into())
    );
    assert_eq!(json["sender_latency_ms"], 200);
}
