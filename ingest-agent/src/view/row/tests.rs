use std::collections::VecDeque;

use ingest_common::abi::{Flow, FlowKey, StreamId, StreamState};

use super::*;
use crate::view::{BackendName, Identity, Moment, Names, Rates, Reading, ServiceName};

const OPEN: Shown = Shown {
    stream_ids: StreamIds::Full,
    clients: true,
};
const CLOSED: Shown = Shown {
    stream_ids: StreamIds::Redacted,
    clients: false,
};

fn key() -> FlowKey {
    FlowKey {
        address: abi::v4_mapped([198, 51, 100, 7]),
        port: 40000,
        service: 3,
    }
}

fn asked(text: &[u8]) -> StreamId {
    let mut asked = StreamId {
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
    asked.text[..text.len()].copy_from_slice(text);
    asked
}

fn stream() -> Stream {
    Stream {
        key: key(),
        flow: Flow {
            accepted_ns: 1_000_000_000,
            slot: 4,
            incarnation: 1,
            caller_id: 5,
            route: 7,
            state: FlowState::Established as u8,
            up: abi::Up {
                gaps: 9,
                out_of_order: 2,
                seen_ns: 10_000_000_000,
                ..Default::default()
            },
            down: abi::Down {
                acks: 3,
                receive_buffer: 20,
                receiver_latency: 120,
                ..Default::default()
            },
            ..Default::default()
        },
        identity: Identity {
            service: 3,
            hash: 0x1234,
        },
        asked: Some(Box::new(asked(b"#!::r=acme/one,s=hunter2,m=publish"))),
        state: StreamState::Warning,
        reasons: Reason::LowBitrate.bit() | Reason::Loss.bit() | Reason::PodBuffer.bit(),
        since_ns: 9_000_000_000,
        rates: Rates {
            bitrate: 1_200_000.0,
            packets: 150.0,
            loss: 0.071,
            rtt_ms: Some(21.4),
            ..Default::default()
        },
        reconnects: 1,
        failovers: 2,
        history: VecDeque::from([Moment {
            bitrate: 1_200_000.0,
            loss: 0.071,
            rtt_ms: 21.4,
        }]),
    }
}

fn view() -> View {
    let names = Names {
        services: [(
            3,
            ServiceName {
                name: "live/srt".into(),
                vip: "203.0.113.10:9000".parse().unwrap(),
                is_srt: true,
            },
        )]
        .into(),
        backends: [(
            4,
            BackendName {
                name: "live/pod-a".into(),
                address: "10.2.1.2:9000".parse().unwrap(),
                incarnation: 1,
                draining: false,
            },
        )]
        .into(),
        routes: [(7, "live/acme".to_owned())].into(),
    };
    let thresholds = Thresholds {
        min_bitrate: 2_000_000,
        max_rtt: OFF,
        ..Default::default()
    };
    let reading = Reading {
        now_ns: 11_000_000_000,
        names,
        thresholds: [(Thresholds::of_service(3), thresholds)].into(),
        ..Default::default()
    };
    View::made_up(reading, [], [])
}

#[test]
fn a_row_says_who_where_and_how() {
    let row = StreamRow::new(&stream(), &view(), OPEN);
    assert_eq!(row.client, "198.51.100.7:40000");
    assert_eq!(
        (row.service.as_str(), row.vip.as_str()),
        ("live/srt", "203.0.113.10:9000")
    );
    assert_eq!(row.backend.as_deref(), Some("live/pod-a"));
    assert_eq!(row.route.as_deref(), Some("live/acme"));
    assert_eq!(row.state, "warning");
    assert_eq!(row.session, "established");
    assert_eq!(row.reasons, ["low_bitrate", "loss", "pod_buffer"]);
    assert_eq!((row.since_seconds, row.age_seconds), (2.0, 10.0));
    assert_eq!((row.lost, row.idle_ms), (7, 1000));
    assert_eq!(row.encryption, Some("AES-256"));
    assert_eq!(row.peer_version.as_deref(), Some("1.5.1"));
    assert_eq!((row.latency_ms, row.latency_down_ms), (Some(120), None));
    assert_eq!(row.bitrate, Some(1_200_000.0));
}

#[test]
fn an_earlier_tenant_of_the_slot_and_an_earlier_caller_of_the_port_are_not_this_streams() {
    let mut other = stream();
    other.flow.incarnation = 2;
    other.flow.caller_id = 6;
    let row = StreamRow::new(&other, &view(), OPEN);
    assert_eq!((row.backend, row.stream_id), (None, None));
    assert_eq!((row.encryption, row.peer_version), (None, None));
}

#[test]
fn what_was_met_once_was_not_measured() {
    let mut fresh = stream();
    fresh.history.clear();
    fresh.rates = Rates::default();
    let row = StreamRow::new(&fresh, &view(), OPEN);
    assert_eq!((row.bitrate, row.loss), (None, None));
}

#[test]
fn strangers_see_networks_and_no_secret() {
    let row = StreamRow::new(&stream(), &view(), CLOSED);
    assert_eq!(row.client, "198.51.100.0/24");
    let json = serde_json::to_string(&row).unwrap();
    assert!(
        !json.contains("hunter2") && !json.contains("40000"),
        "{json}"
    );
    let mut six = stream();
    six.key.address = "2001:db8:1:2::7"
        .parse::<std::net::Ipv6Addr>()
        .unwrap()
        .octets();
    let row = StreamRow::new(&six, &view(), CLOSED);
    assert_eq!(row.client, "2001:db8:1::/48");
}

#[test]
fn the_detail_explains_with_numbers() {
    let row = StreamRow::detailed(&stream(), &view(), OPEN);
    let detail = row.detail.unwrap();
    assert_eq!(
        detail.explained,
        [
            "the encoder sends less than the threshold: 1.2 Mbit/s of 2.0 Mbit/s",
            "the network before this node loses more than the threshold: 7.1 %, at most 5.0 %",
            "the pod's receive buffer fills: its application does not read: 20 packets are left",
        ]
    );
    assert_eq!(detail.thresholds.min_bitrate, Some(2_000_000));
    assert_eq!(detail.thresholds.max_rtt, None, "off");
    assert_eq!(detail.thresholds.stalled_after_ms, Some(3000));
    assert_eq!(detail.history.bitrate, [1_200_000.0]);
}

#[test]
fn a_cut_session_says_why() {
    let mut cut = stream();
    cut.flow.state = FlowState::Cut as u8;
    cut.flow.cut_reason = CutReason::Silent as u8;
    cut.state = StreamState::Ending;
    let row = StreamRow::new(&cut, &view(), OPEN);
    assert_eq!(
        (row.state, row.session, row.cut_reason),
        ("ending", "cut", Some("silent"))
    );
}

#[test]
fn a_failover_tells_from_where_to_where_and_how_long() {
    let failover = Failover {
        identity: stream().identity,
        asked: Some(Box::new(asked(b"#!::r=acme/one,s=hunter2"))),
        at_ns: 8_000_000_000,
        took_ns: 340_000_000,
        reason: Some(CutReason::Unreachable),
        service: "live/srt".into(),
        from: Some("live/pod-a".into()),
        to: Some("live/pod-b".into()),
    };
    let row = FailoverRow::new(&failover, &view(), CLOSED);
    assert_eq!(
        (row.id, row.took_ms, row.ago_seconds),
        (StreamRow::new(&stream(), &view(), OPEN).id, 340.0, 3.0)
    );
    assert_eq!(row.reason, Some("unreachable"));
    assert!(!row.stream_id.unwrap().contains("hunter2"));
}
