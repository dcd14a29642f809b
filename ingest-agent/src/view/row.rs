//! Streams as people and programs see them: the rows of `streams`, of `top` and of the API, redacted.
//!
//! Field names are stable: they are the JSON of `-o json` and of the API.

use std::{net::IpAddr, time::Duration};

use ingest_common::abi::{self, CutReason, FlowState, OFF, Reason, Thresholds};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Failover, Stream, View};
use crate::{
    cli::StreamIds,
    output::{bitrate, dash, socket},
    reconcile::from_abi,
    redact,
};

/// How much is shown of what strangers sent and of who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Stream IDs.
    pub stream_ids: StreamIds,
    /// Clients' addresses in full; otherwise their network (IPv4 /24, IPv6 /48).
    pub clients: bool,
}

/// A stream: a session that a pod has accepted. Shares are 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct StreamRow {
    /// Its id: the same for all sessions of one Stream ID on one service.
    pub id: String,
    /// How it is: `active`, `warning`, `draining`, `stalled` or `ending`.
    pub state: &'static str,
    /// What is not well: `low_bitrate`, `loss`, `rtt`, `pod_buffer`, `pod_silent`, `encoder_stopped`,
    /// `encoder_unreachable`.
    pub reasons: Vec<&'static str>,
    /// Seconds that it has been in this state.
    pub since_seconds: f64,
    /// The session: `established`, `ended` or `cut`.
    pub session: &'static str,
    /// Why it was cut.
    pub cut_reason: Option<&'static str>,
    /// `address:port` of the encoder, or the network it is in.
    pub client: String,
    /// `namespace/name` of the service.
    pub service: String,
    /// `address:port` that the encoder dialled.
    pub vip: String,
    /// `namespace/name` of the pod; absent: its slot has another backend by now.
    pub backend: Option<String>,
    /// What the caller asks for, redacted as was asked for; absent: it has not said, or not to us.
    pub stream_id: Option<String>,
    /// Bytes of the whole of it; more than 128 are not kept.
    pub stream_id_length: Option<u16>,
    /// `namespace/name` of the route that chose its pool; absent: it is the service's own.
    pub route: Option<String>,
    /// Milliseconds that the caller wants to receive with.
    pub receiver_latency_ms: Option<u16>,
    /// Milliseconds that the caller wants the pod to receive with.
    pub sender_latency_ms: Option<u16>,
    /// Milliseconds that the two have agreed on, for data to the pod; absent: not known.
    pub latency_ms: Option<u16>,
    /// The same for data to the caller.
    pub latency_down_ms: Option<u16>,
    /// `AES-128`, `AES-192`, `AES-256`, or `none`; absent: not known.
    pub encryption: Option<&'static str>,
    /// The caller's SRT version, as `1.5.1`; absent: not known.
    pub peer_version: Option<String>,
    /// The group that the link is bonded in.
    pub group: Option<u32>,
    /// Bits a second of SRT payload (of a `udp` service, of UDP), over the last second; absent: not measured.
    pub bitrate: Option<f64>,
    /// Packets a second from the client; absent: not measured.
    pub packets_per_second: Option<f64>,
    /// Share of first transmissions lost before the node, over about ten seconds; absent: not measured.
    pub loss: Option<f64>,
    /// What the pod reported lost against data packets; repeats count again.
    pub reported_loss: Option<f64>,
    /// Share of data packets that are retransmissions.
    pub retransmitted_share: Option<f64>,
    /// Packets from the client.
    pub up_packets: u64,
    /// UDP payload bytes of them.
    pub up_bytes: u64,
    /// SRT data packets of them.
    pub data_packets: u64,
    /// Packets from the pod.
    pub down_packets: u64,
    /// UDP payload bytes of them.
    pub down_bytes: u64,
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
    /// Its variance.
    pub rtt_variance_ms: Option<f64>,
    /// Free receive buffer of the pod, packets; absent: it has not said.
    pub receive_buffer: Option<u32>,
    /// How often its caller has come back.
    pub reconnects: u32,
    /// How often of these because its pod could not go on.
    pub failovers: u32,
    /// Seconds since the pod accepted.
    pub age_seconds: f64,
    /// Milliseconds since the client's last packet.
    pub idle_ms: u64,
    /// SRT socket id of the encoder; 0: no SRT.
    pub caller_id: u32,
    /// More of it, where one stream is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// What is too much for a list of streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Detail {
    /// Its reasons as sentences, in the order of `reasons`.
    pub explained: Vec<String>,
    /// From when on it is not well.
    pub thresholds: ThresholdsRow,
    /// The last minute.
    pub history: History,
}

/// A stream's thresholds. What is absent is off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ThresholdsRow {
    /// Bits a second.
    pub min_bitrate: Option<u64>,
    /// How long it must be below that, milliseconds.
    pub min_bitrate_for_ms: u32,
    /// Milliseconds without data.
    pub stalled_after_ms: Option<u32>,
    /// Share of first transmissions lost before the node.
    pub max_loss: Option<f64>,
    /// Round trip as a share of the latency agreed on.
    pub max_rtt: Option<f64>,
}

impl From<Thresholds> for ThresholdsRow {
    fn from(thresholds: Thresholds) -> Self {
        let on = |value: u32| (value != OFF && value != 0).then_some(value);
        Self {
            min_bitrate: Some(thresholds.min_bitrate).filter(|rate| *rate != 0),
            min_bitrate_for_ms: thresholds.min_bitrate_for_ms,
            stalled_after_ms: on(thresholds.stalled_after_ms),
            max_loss: on(thresholds.max_loss).map(|loss| f64::from(loss) / 10_000.0),
            max_rtt: on(thresholds.max_rtt).map(|rtt| f64::from(rtt) / 100.0),
        }
    }
}

/// The last minute of a stream, a value a second; the newest last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct History {
    /// Bits a second of payload.
    pub bitrate: Vec<f32>,
    /// Share lost before the node.
    pub loss: Vec<f32>,
    /// Milliseconds; 0: not known.
    pub rtt_ms: Vec<f32>,
}

impl History {
    /// Of a stream.
    pub fn new(stream: &Stream) -> Self {
        Self {
            bitrate: stream.history.iter().map(|m| m.bitrate).collect(),
            loss: stream.history.iter().map(|m| m.loss).collect(),
            rtt_ms: stream.history.iter().map(|m| m.rtt_ms).collect(),
        }
    }
}

impl StreamRow {
    /// The row of a stream of `view`, as it stands in a list.
    pub fn new(stream: &Stream, view: &View, shown: Shown) -> Self {
        let Stream {
            key,
            flow,
            rates,
            state,
            ..
        } = stream;
        let names = view.names();
        let service = names.services.get(&key.service);
        let asked = stream
            .asked
            .as_deref()
            .filter(|asked| asked.caller_id == flow.caller_id);
        // Latencies and a version are in HSREQ, which HSv4 sends later.
        let in_hsreq = asked.filter(|asked| asked.version != 0);
        let session = FlowState::from_u8(flow.state);
        // Of a flow that was met once, nothing can be said a second.
        let measured = !stream.history.is_empty() || rates.packets > 0.0;
        let is_srt = service.is_none_or(|service| service.is_srt);
        let share = |value: f64| Some(value).filter(|_| measured && is_srt);
        let known = |value: u16| Some(value).filter(|value| *value != 0);
        Self {
            id: stream.identity.id(),
            state: state.as_str(),
            reasons: reasons(stream).map(Reason::as_str).collect(),
            since_seconds: seconds(view.now_ns().saturating_sub(stream.since_ns)),
            session: session.as_str(),
            cut_reason: CutReason::from_u8(flow.cut_reason)
                .filter(|_| session == FlowState::Cut)
                .map(CutReason::as_str),
            client: client(key, shown),
            service: service.map_or_else(dash, |service| service.name.clone()),
            vip: service.map_or_else(dash, |service| service.vip.to_string()),
            backend: names
                .backends
                .get(&flow.slot)
                .filter(|backend| backend.incarnation == flow.incarnation)
                .map(|backend| backend.name.clone()),
            stream_id: asked.and_then(|asked| redact::stream_id(asked, shown.stream_ids)),
            stream_id_length: asked.and_then(|asked| known(asked.length)),
            route: names.routes.get(&flow.route).cloned(),
            receiver_latency_ms: in_hsreq.map(|asked| asked.receiver_latency),
            sender_latency_ms: in_hsreq.map(|asked| asked.sender_latency),
            latency_ms: known(flow.down.receiver_latency),
            latency_down_ms: known(flow.down.sender_latency),
            encryption: asked.map(encryption),
            peer_version: in_hsreq.map(|asked| version(asked.version)),
            group: asked.map(|asked| asked.group).filter(|group| *group != 0),
            bitrate: Some(rates.bitrate).filter(|_| measured),
            packets_per_second: Some(rates.packets).filter(|_| measured),
            loss: share(rates.loss),
            reported_loss: share(rates.reported_loss),
            retransmitted_share: share(rates.retransmitted),
            up_packets: flow.up.packets,
            up_bytes: flow.up.bytes,
            data_packets: flow.up.data_packets,
            down_packets: flow.down.packets,
            down_bytes: flow.down.bytes,
            lost: flow.up.gaps.saturating_sub(flow.up.out_of_order),
            retransmitted: flow.up.retransmitted,
            naks: flow.down.naks,
            reported_lost: flow.down.reported_lost,
            rtt_ms: rates.rtt_ms,
            rtt_variance_ms: rates.rtt_variance_ms,
            receive_buffer: (flow.down.acks != 0 && is_srt).then_some(flow.down.receive_buffer),
            reconnects: stream.reconnects,
            failovers: stream.failovers,
            age_seconds: seconds(view.now_ns().saturating_sub(flow.accepted_ns)),
            idle_ms: view.now_ns().saturating_sub(flow.up.seen_ns) / 1_000_000,
            caller_id: flow.caller_id,
            detail: None,
        }
    }

    /// The row with all that is known.
    pub fn detailed(stream: &Stream, view: &View, shown: Shown) -> Self {
        let thresholds = view.thresholds(stream);
        let row = Self::new(stream, view, shown);
        let detail = Detail {
            explained: reasons(stream)
                .map(|reason| explained(reason, &row, thresholds))
                .collect(),
            thresholds: thresholds.into(),
            history: History::new(stream),
        };
        Self {
            detail: Some(detail),
            ..row
        }
    }
}

/// A failover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct FailoverRow {
    /// Id of the stream, as in [`StreamRow::id`].
    pub id: String,
    /// What its caller asks for, redacted as was asked for.
    pub stream_id: Option<String>,
    /// `namespace/name` of the service.
    pub service: String,
    /// `namespace/name` of the pod that could not go on; absent: forgotten.
    pub from: Option<String>,
    /// `namespace/name` of the pod that it came to.
    pub to: Option<String>,
    /// Why it was cut.
    pub reason: Option<&'static str>,
    /// Milliseconds from the cut to the next acceptance.
    pub took_ms: f64,
    /// Seconds since then.
    pub ago_seconds: f64,
}

impl FailoverRow {
    /// The row of a failover of `view`.
    pub fn new(failover: &Failover, view: &View, shown: Shown) -> Self {
        Self {
            id: failover.identity.id(),
            stream_id: failover
                .asked
                .as_deref()
                .and_then(|asked| redact::stream_id(asked, shown.stream_ids)),
            service: failover.service.clone(),
            from: failover.from.clone(),
            to: failover.to.clone(),
            reason: failover.reason.map(CutReason::as_str),
            took_ms: seconds(failover.took_ns) * 1000.0,
            ago_seconds: seconds(view.now_ns().saturating_sub(failover.at_ns)),
        }
    }
}

fn reasons(stream: &Stream) -> impl Iterator<Item = Reason> {
    Reason::ALL.into_iter().filter(|reason| stream.has(*reason))
}

/// The reason's sentence, with the numbers where they can be told.
fn explained(reason: Reason, row: &StreamRow, thresholds: Thresholds) -> String {
    let limits = ThresholdsRow::from(thresholds);
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let numbers = match reason {
        Reason::LowBitrate => row
            .bitrate
            .zip(limits.min_bitrate)
            .map(|(is, least)| format!("{} of {}", bitrate(is), threshold_bitrate(least))),
        Reason::Loss => row
            .loss
            .zip(limits.max_loss)
            .map(|(is, most)| format!("{}, at most {}", percent(is), percent(most))),
        Reason::Rtt => row
            .rtt_ms
            .zip(row.latency_ms)
            .map(|(is, latency)| format!("{is:.1} ms of {latency} ms")),
        Reason::PodBuffer => row
            .receive_buffer
            .map(|left| format!("{left} packets are left")),
        Reason::PodSilent | Reason::EncoderStopped | Reason::EncoderUnreachable => None,
    };
    let sentence = reason.explained();
    numbers.map_or_else(
        || sentence.to_owned(),
        |numbers| format!("{sentence}: {numbers}"),
    )
}

/// A threshold as people read it.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn threshold_bitrate(bits_per_second: u64) -> String {
    bitrate(bits_per_second as f64)
}

fn client(key: &abi::FlowKey, shown: Shown) -> String {
    if shown.clients {
        return socket(&key.address, key.port);
    }
    let address = from_abi(&key.address);
    let length = match address {
        IpAddr::V4(_) => 24,
        IpAddr::V6(_) => 48,
    };
    IpNet::new(address, length).map_or_else(|_| dash(), |net| net.trunc().to_string())
}

fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

fn encryption(asked: &abi::StreamId) -> &'static str {
    match (asked.encrypted, asked.encryption) {
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
