//! `ingest-agent streams`

use std::{
    collections::HashMap,
    io::{IsTerminal as _, stdout},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ingest_common::abi::{self, CutReason, FlowState};
use serde::Serialize;

use super::services::{is_live, is_of};
use crate::{
    cli::{Output, Streams},
    dataplane::{self, BackendView, Reader, RouteView, ServiceView},
    error::Error,
    output::{self, age, bitrate, dash, print, print_text, socket},
    redact,
};

/// A stream: a session that a pod has accepted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamRow {
    /// `address:port` of the encoder.
    pub client: String,
    /// `namespace/name` of the service.
    pub service: String,
    /// `address:port` that the encoder dialled.
    pub vip: String,
    /// `namespace/name` of the pod; absent: its slot has another backend by now.
    pub backend: Option<String>,
    /// What the caller asks for, as `--stream-ids` says; absent: it has not said, or not to us.
    pub stream_id: Option<String>,
    /// Bytes of the whole of it; more than 128 are not kept.
    pub stream_id_length: Option<u16>,
    /// `namespace/name` of the route that chose its pool; absent: it is the service's own.
    pub route: Option<String>,
    /// Milliseconds that the caller wants to receive with.
    pub receiver_latency_ms: Option<u16>,
    /// Milliseconds that the caller wants the pod to receive with.
    pub sender_latency_ms: Option<u16>,
    /// `AES-128`, `AES-192`, `AES-256`, or `none`; absent: not known.
    pub encryption: Option<&'static str>,
    /// The caller's SRT version, as `1.5.1`; absent: not known.
    pub peer_version: Option<String>,
    /// The group that the link is bonded in.
    pub group: Option<u32>,
    /// `established`, `ended` or `cut`.
    pub state: &'static str,
    /// Why it was cut.
    pub cut_reason: Option<&'static str>,
    /// UDP payload bits a second from the client, over the sample; absent: not measured.
    pub up_bits_per_second: Option<f64>,
    /// Packets from the client.
    pub up_packets: u64,
    /// UDP payload bytes of them.
    pub up_bytes: u64,
    /// SRT data packets of them.
    pub data_packets: u64,
    /// Packets from the pod.
    pub down_packets: u64,
    /// First transmissions that did not arrive at the node (the pod may have got their repetition).
    pub lost: u64,
    /// SRT data packets sent again.
    pub retransmitted: u64,
    /// Loss reports of the pod.
    pub naks: u64,
    /// Sequence numbers in them; repeats count again.
    pub reported_lost: u64,
    /// Round trip pod–encoder in milliseconds, by the pod's last full ACK.
    pub rtt_ms: Option<f64>,
    /// Seconds since the pod accepted.
    pub age_seconds: f64,
    /// Milliseconds since the client's last packet.
    pub idle_ms: u64,
    /// SRT socket id of the encoder; 0: no SRT.
    pub caller_id: u32,
}

pub(super) fn run(pin_root: &Path, output: Output, args: &Streams) -> Result<(), Error> {
    let reader = Reader::open(pin_root)?;
    let mut before = Sample::take(&reader)?;
    loop {
        thread::sleep(args.sample);
        let now = if args.sample.is_zero() {
            before.clone()
        } else {
            Sample::take(&reader)?
        };
        let known = Known {
            services: reader.services()?,
            backends: reader.backends()?,
            routes: reader.routes()?,
            stream_ids: reader.stream_ids()?,
        };
        let rows = rows(&now, &before, &known, args);
        match output {
            Output::Table if args.watch => {
                // From the top of an empty screen, where there is a screen.
                let clear = if stdout().is_terminal() {
                    "\x1b[H\x1b[2J"
                } else {
                    ""
                };
                print_text(&format!("{clear}{}\n", table(&rows)))?;
            }
            // One line a sample can be read line by line.
            Output::Json if args.watch => {
                print_text(&serde_json::to_string(&rows).map_err(|e| Error::Output(e.into()))?)?;
            }
            _ => print(output, &rows, |rows| table(rows))?,
        }
        if !args.watch {
            return Ok(());
        }
        if args.sample.is_zero() {
            thread::sleep(Duration::from_secs(1));
        }
        before = Sample::take(&reader)?;
    }
}

/// The flows at one moment.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    now_ns: u64,
    flows: Vec<(abi::FlowKey, abi::Flow)>,
}

impl Sample {
    fn take(reader: &Reader) -> Result<Self, Error> {
        Ok(Self {
            at: Instant::now(),
            now_ns: dataplane::now_ns(),
            flows: reader.flows()?,
        })
    }
}

/// What the maps say about flows besides the flows.
#[derive(Clone, Debug, Default)]
struct Known {
    services: Vec<ServiceView>,
    backends: Vec<BackendView>,
    routes: Vec<RouteView>,
    stream_ids: HashMap<abi::FlowKey, abi::StreamId>,
}

fn rows(now: &Sample, before: &Sample, known: &Known, args: &Streams) -> Vec<StreamRow> {
    let services: HashMap<u16, &ServiceView> =
        known.services.iter().map(|s| (s.service.id, s)).collect();
    let backends: HashMap<u16, &BackendView> = known.backends.iter().map(|b| (b.slot, b)).collect();
    let routes: HashMap<u16, &RouteView> = known.routes.iter().map(|r| (r.route, r)).collect();
    let earlier: HashMap<abi::FlowKey, &abi::Flow> = before
        .flows
        .iter()
        .map(|(key, flow)| (*key, flow))
        .collect();
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    // A walk under traffic may meet a flow twice.
    let flows: HashMap<abi::FlowKey, &abi::Flow> =
        now.flows.iter().map(|(key, flow)| (*key, flow)).collect();
    let mut rows: Vec<StreamRow> = flows
        .iter()
        .filter(|(_, flow)| args.all || is_live(flow))
        .map(|(key, flow)| {
            let service = services.get(&key.service);
            let since = earlier
                .get(key)
                .filter(|old| old.accepted_ns == flow.accepted_ns);
            let bytes = flow
                .up
                .bytes
                .saturating_sub(since.map_or(0, |old| old.up.bytes));
            #[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
            let rate = (seconds > 0.0).then(|| bytes as f64 * 8.0 / seconds);
            let state = FlowState::from_u8(flow.state);
            let asked = known
                .stream_ids
                .get(key)
                .filter(|stream| stream.caller_id == flow.caller_id);
            // Latencies and a version are in HSREQ, which HSv4 sends later.
            let in_hsreq = asked.filter(|stream| stream.version != 0);
            StreamRow {
                client: socket(&key.address, key.port),
                service: service.map_or_else(dash, |s| s.name.clone()),
                vip: service.map_or_else(dash, |s| socket(&s.key.address, s.key.port)),
                backend: backends
                    .get(&flow.slot)
                    .filter(|b| is_of(flow, b))
                    .map(|b| b.name.clone()),
                stream_id: asked.and_then(|stream| redact::stream_id(stream, args.stream_ids)),
                stream_id_length: asked.map(|stream| stream.length).filter(|l| *l > 0),
                route: routes.get(&flow.route).map(|route| route.name.clone()),
                receiver_latency_ms: in_hsreq.map(|stream| stream.receiver_latency),
                sender_latency_ms: in_hsreq.map(|stream| stream.sender_latency),
                encryption: asked.map(encryption),
                peer_version: in_hsreq.map(|stream| version(stream.version)),
                group: asked.map(|stream| stream.group).filter(|group| *group != 0),
                state: state.as_str(),
                cut_reason: CutReason::from_u8(flow.cut_reason)
                    .filter(|_| state == FlowState::Cut)
                    .map(CutReason::as_str),
                up_bits_per_second: rate,
                up_packets: flow.up.packets,
                up_bytes: flow.up.bytes,
                data_packets: flow.up.data_packets,
                down_packets: flow.down.packets,
                lost: flow.up.gaps.saturating_sub(flow.up.out_of_order),
                retransmitted: flow.up.retransmitted,
                naks: flow.down.naks,
                reported_lost: flow.down.reported_lost,
                rtt_ms: (flow.down.rtt_us != 0).then(|| f64::from(flow.down.rtt_us) / 1000.0),
                age_seconds: Duration::from_nanos(now.now_ns.saturating_sub(flow.accepted_ns))
                    .as_secs_f64(),
                idle_ms: now.now_ns.saturating_sub(flow.up.seen_ns) / 1_000_000,
                caller_id: flow.caller_id,
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.service, &a.client, &a.vip).cmp(&(&b.service, &b.client, &b.vip)));
    rows
}

fn table(rows: &[StreamRow]) -> String {
    if rows.is_empty() {
        return "no streams".to_owned();
    }
    output::table(
        [
            "CLIENT",
            "SERVICE",
            "STREAM-ID",
            "ROUTE",
            "POD",
            "STATE",
            ">LATENCY",
            "ENC",
            "PEER",
            ">BITRATE",
            ">PACKETS",
            ">LOST",
            ">RETRANSMITTED",
            ">NAKS",
            ">RTT",
            ">AGE",
        ],
        rows.iter().map(|r| {
            [
                r.client.clone(),
                r.service.clone(),
                r.stream_id.clone().unwrap_or_else(dash),
                r.route.clone().unwrap_or_else(dash),
                r.backend.clone().unwrap_or_else(dash),
                r.cut_reason
                    .map_or_else(|| r.state.to_owned(), |why| format!("{}: {why}", r.state)),
                latency(r),
                r.encryption.unwrap_or("-").to_owned(),
                r.peer_version.clone().unwrap_or_else(dash),
                r.up_bits_per_second.map_or_else(dash, bitrate),
                r.up_packets.to_string(),
                r.lost.to_string(),
                r.retransmitted.to_string(),
                r.naks.to_string(),
                r.rtt_ms.map_or_else(dash, |ms| format!("{ms:.1} ms")),
                age(Duration::from_secs_f64(r.age_seconds)),
            ]
        }),
    )
}

/// What the caller asked for; two numbers where it wants to receive with another one than the pod is to.
fn latency(row: &StreamRow) -> String {
    match (row.receiver_latency_ms, row.sender_latency_ms) {
        (Some(receiver), Some(sender)) if receiver != sender => format!("{receiver}/{sender} ms"),
        (Some(latency), _) => format!("{latency} ms"),
        _ => dash(),
    }
}

fn encryption(stream: &abi::StreamId) -> &'static str {
    match (stream.encrypted, stream.encryption) {
        (0, _) => "none",
        (_, 3) => "AES-192",
        (_, 4) => "AES-256",
        // libsrt's default length, where none was advertised.
        _ => "AES-128",
    }
}

/// `1.5.1` of `0x00010501`.
fn version(version: u32) -> String {
    let [_, major, minor, patch] = version.to_be_bytes();
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests;
