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
    dataplane::{self, BackendView, Reader, ServiceView},
    error::Error,
    output::{self, age, bitrate, dash, print, print_text, socket},
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
        let rows = rows(
            &now,
            &before,
            &reader.services()?,
            &reader.backends()?,
            args.all,
        );
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

fn rows(
    now: &Sample,
    before: &Sample,
    services: &[ServiceView],
    backends: &[BackendView],
    all: bool,
) -> Vec<StreamRow> {
    let services: HashMap<u16, &ServiceView> = services.iter().map(|s| (s.service.id, s)).collect();
    let backends: HashMap<u16, &BackendView> = backends.iter().map(|b| (b.slot, b)).collect();
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
        .filter(|(_, flow)| all || is_live(flow))
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
            StreamRow {
                client: socket(&key.address, key.port),
                service: service.map_or_else(dash, |s| s.name.clone()),
                vip: service.map_or_else(dash, |s| socket(&s.key.address, s.key.port)),
                backend: backends
                    .get(&flow.slot)
                    .filter(|b| is_of(flow, b))
                    .map(|b| b.name.clone()),
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
            "POD",
            "STATE",
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
                r.backend.clone().unwrap_or_else(dash),
                r.cut_reason
                    .map_or_else(|| r.state.to_owned(), |why| format!("{}: {why}", r.state)),
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

#[cfg(test)]
mod tests {
    use super::*;

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

    fn views() -> ([ServiceView; 1], [BackendView; 1]) {
        let service = ServiceView {
            key: abi::ServiceKey::new(abi::v4_mapped([203, 0, 113, 10]), 9000, abi::UDP),
            service: abi::Service {
                id: 3,
                ..Default::default()
            },
            name: "live/srt".into(),
            traffic: abi::Traffic::default(),
            splices: abi::SpliceStats::default(),
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
        ([service], [backend])
    }

    #[test]
    fn the_bitrate_is_that_of_the_sample() {
        let (services, backends) = views();
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
        let rows = rows(&now, &before, &services, &backends, false);
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
        let (services, backends) = views();
        let cut = abi::Flow {
            state: FlowState::Cut as u8,
            cut_reason: CutReason::Silent as u8,
            incarnation: 9,
            ..flow(0)
        };
        let now = sample(Instant::now(), vec![(key(1), cut)]);
        assert_eq!(rows(&now, &now, &services, &backends, false), []);
        let rows = rows(&now, &now, &services, &backends, true);
        assert_eq!(
            (rows[0].cut_reason, &rows[0].backend),
            (Some("silent"), &None)
        );
        assert_eq!(rows[0].up_bits_per_second, None);
        assert!(table(&rows).contains("cut: silent"));
    }
}
