//! Views made up for the page, and what serves them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ingest_agent::cli::PageShows;
use ingest_agent::commands::{BackendRow, Handshakes, Status, UplinkRow};
use ingest_agent::view::{
    BackendName, Failover, Identity, Moment, Rates, Reading, ServiceName, Stream, View,
};
use ingest_agent::web::{self, Node, Page};
use ingest_common::abi::{self, CutReason, FlowState, Reason, StreamState};
use ingest_common::reason::DropReason;
use tokio::runtime::Runtime;

/// A page of a made-up node. It ends with it.
pub(crate) struct Served {
    /// Its address.
    pub(crate) address: String,
    _runtime: Runtime,
}

/// Serves `view` on loopback.
pub(crate) fn serve(view: View, shows: PageShows) -> Served {
    let runtime = Runtime::new().unwrap();
    let bound = tokio::net::TcpListener::bind("127.0.0.1:0");
    let listener = runtime.block_on(bound).unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let flows = view.streams().count();
    let page = Page::with(Arc::new(Mutex::new(view)), shows, move |_| Ok(node(flows)));
    runtime.spawn(web::serve(listener, page, std::future::pending()));
    Served {
        address,
        _runtime: runtime,
    }
}

/// Between 0 and 1, the same for the same numbers.
fn noise(seed: u32, at: u32) -> f32 {
    let mut x = seed.wrapping_mul(0x9e37_79b9) ^ at.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 15;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^= x >> 13;
    f32::from((x % 10_000) as u16) / 10_000.0
}

/// An encoder of some Mbit/s, not well where `state` says so.
pub(crate) fn stream(number: u32, name: &str, state: StreamState) -> Stream {
    let mut asked = abi::StreamId {
        length: name.len() as u16,
        caller_id: number + 1,
        version: 0x0001_0504,
        receiver_latency: 120,
        sender_latency: 120,
        encrypted: (number % 2) as u8,
        encryption: 4,
        ..Default::default()
    };
    asked.text[..name.len()].copy_from_slice(name.as_bytes());
    let rate = 2.5e6 + 1.5e6 * f32::from((number % 5) as u8);
    let history = (0..60).map(|at| {
        let fall = if state == StreamState::Warning && at > 40 {
            0.3
        } else {
            1.0
        };
        let stop = if state == StreamState::Stalled && at > 50 {
            0.0
        } else {
            1.0
        };
        let burst = noise(number, at + 100) > 0.94;
        Moment {
            bitrate: rate * fall * stop * (0.94 + 0.12 * noise(number, at)),
            loss: if burst {
                0.012 * noise(number, at)
            } else {
                0.0004
            },
            rtt_ms: 18.0 + f32::from((number % 7) as u8) * 6.0 + 5.0 * noise(number, at + 300),
        }
    });
    let history: std::collections::VecDeque<Moment> = history.collect();
    let last = history.back().copied().unwrap_or_default();
    let reasons = match state {
        StreamState::Warning => Reason::LowBitrate.bit(),
        StreamState::Stalled => Reason::EncoderStopped.bit(),
        _ => 0,
    };
    let mut flow = abi::Flow {
        state: FlowState::Established as u8,
        slot: (number % 2) as u16,
        incarnation: 1,
        caller_id: number + 1,
        accepted_ns: NOW - 60_000_000_000 - u64::from(number % 900) * 7_300_000_000,
        ..Default::default()
    };
    flow.up.packets = 412_000;
    flow.up.bytes = 540_000_000;
    flow.up.seen_ns = NOW - 2_000_000;
    flow.down.acks = 40_000;
    flow.down.receive_buffer = 8_100;
    flow.down.receiver_latency = 120;
    Stream {
        key: abi::FlowKey {
            address: abi::v4_mapped([198, 51, 100, 10 + (number % 200) as u8]),
            port: 40_000 + (number % 20_000) as u16,
            service: 1,
        },
        flow,
        identity: Identity {
            service: 1,
            hash: 0x7f3a_91c2_0000_0000 + u64::from(number),
        },
        asked: Some(Box::new(asked)),
        state,
        reasons,
        since_ns: NOW - 42_000_000_000,
        rates: Rates {
            bitrate: last.bitrate.into(),
            packets: 480.0,
            loss: last.loss.into(),
            reported_loss: 0.001,
            retransmitted: 0.002,
            rtt_ms: Some(last.rtt_ms.into()),
            rtt_variance_ms: Some(2.1),
        },
        reconnects: u32::from(number == 5),
        failovers: 0,
        history,
    }
}

/// When the made-up views were read, until they are shifted.
pub(crate) const NOW: u64 = 7_200_000_000_000;

/// The reading behind streams of [`stream`].
pub(crate) fn reading() -> Reading {
    let mut reading = Reading {
        // A day ahead: it is never old.
        now_ns: ingest_tests::monotonic_ns() + 86_400_000_000_000,
        ..Reading::default()
    };
    let service = ServiceName {
        name: "live/srt-ingest".into(),
        vip: SocketAddr::from(([203, 0, 113, 10], 9000)),
        is_srt: true,
    };
    reading.names.services = [(1, service)].into();
    let pod = |slot: u16| BackendName {
        name: format!("live/mediamtx-{slot}"),
        address: SocketAddr::from(([10, 0, 1, 2 + slot as u8], 9000)),
        incarnation: 1,
        draining: false,
    };
    reading.names.backends = [(0, pod(0)), (1, pod(1))].into();
    let thresholds = abi::Thresholds {
        min_bitrate: 2_000_000,
        ..Default::default()
    };
    reading.thresholds = [(abi::Thresholds::of_service(1), thresholds)].into();
    reading
}

/// Moves what happened at times before [`NOW`] to times before the reading.
pub(crate) fn shifted(streams: &mut [Stream], reading: &Reading) {
    for stream in streams {
        let of = |at: u64| reading.now_ns.saturating_sub(NOW.saturating_sub(at));
        stream.since_ns = of(stream.since_ns);
        stream.flow.accepted_ns = of(stream.flow.accepted_ns);
        stream.flow.up.seen_ns = of(stream.flow.up.seen_ns);
    }
}

/// Ten streams: the third in warning, the sixth stalled, the eighth failed over, the ninth draining.
pub(crate) fn ten() -> View {
    let reading = reading();
    let mut streams: Vec<Stream> = (0..10)
        .map(|number| {
            let state = match number {
                2 => StreamState::Warning,
                5 => StreamState::Stalled,
                8 => StreamState::Draining,
                _ => StreamState::Active,
            };
            stream(
                number,
                &format!("#!::r=studio/camera-{number},m=publish"),
                state,
            )
        })
        .collect();
    streams[7].failovers = 1;
    shifted(&mut streams, &reading);
    let failover = Failover {
        identity: streams[7].identity,
        asked: streams[7].asked.clone(),
        at_ns: reading.now_ns - 300_000_000_000,
        took_ns: 312_000_000,
        reason: Some(CutReason::Unreachable),
        service: "live/srt-ingest".into(),
        from: Some("live/mediamtx-0".into()),
        to: Some("live/mediamtx-1".into()),
    };
    View::made_up(reading, streams, [failover])
}

fn node(flows: usize) -> Node {
    let backend = |slot: u16, health: Option<&'static str>| BackendRow {
        name: format!("live/mediamtx-{slot}"),
        address: format!("10.0.1.{}:9000", 2 + slot),
        slot,
        state: "serving",
        health,
        up: health.is_none(),
        mode: "redirect",
        mode_reason: "veth; the pod answered a probe by redirect",
        probed_ms: Some(2_000),
        ifindex: 7,
        flows: flows as u64 / 2,
        accepted: 1_204,
        cut: 3,
        deaths: 1,
        up_bytes: 48_000_000_000,
        down_bytes: 310_000_000,
        heard_ms: Some(4),
        drain_ends_ms: None,
    };
    Node {
        status: Status {
            agent_running: true,
            agent_version: "0.1.0".into(),
            agent_pid: 7,
            ready_seconds: Some(86_000),
            schema: 1,
            uplinks: vec![UplinkRow {
                name: "eth0".into(),
                ifindex: 2,
                xdp_mode: "native",
                veth: false,
            }],
            links: BTreeMap::from([("xdp", 1)]),
            tc: "tcx",
            services: 1,
            handshake_ways: BTreeMap::from([("stream", 1)]),
            splices: Handshakes::default(),
            answer_by: "xdp",
            secrets: 1,
            secret_age_seconds: Some(100),
            routes: 2,
            backends: BTreeMap::from([("serving", 3)]),
            modes: BTreeMap::from([("redirect", 3)]),
            backends_down: 1,
            flows,
            flow_capacity: 131_072,
            handshakes: 0,
            silence_ms: 300,
            drops: BTreeMap::new(),
            passes: BTreeMap::new(),
        },
        services: Vec::new(),
        backends: vec![
            backend(0, Some("unreachable")),
            backend(1, None),
            backend(2, None),
        ],
        routes: Vec::new(),
        drops: vec![
            (DropReason::NoBackend, 4),
            (DropReason::CookieForged, 18_212),
            (DropReason::SrtSocketId, 311),
            (DropReason::FlowCut, 96),
        ],
        passes: Vec::new(),
    }
}
