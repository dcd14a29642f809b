//! `ingest-agent services`

use std::{collections::BTreeMap, path::Path};

use ingest_common::{abi, srt::Rejection};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    cli::Output,
    dataplane::{BackendView, Reader, ServiceView},
    error::Error,
    output::{self, bytes, print, socket},
    reconcile::from_abi,
    source::thresholds::shown,
};

/// A VIP:port:protocol of a service.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServiceRow {
    /// `namespace/name`
    pub name: String,
    /// `address:port`
    pub vip: String,
    /// `srt` or `udp`
    pub protocol: &'static str,
    /// Index of its counters.
    pub id: u16,
    /// Index of its Maglev table.
    pub pool: u16,
    /// Whether only some sources may reach it.
    pub source_ranges: bool,
    /// Whether all sessions of a client address go to one backend.
    pub affinity: bool,
    /// Whether other nodes have ready backends: what none here takes is left to the host.
    pub elsewhere: bool,
    /// Who answers callers' handshakes: `stream` (the kernel, which learns the Stream ID) or `client` (the pod); `none` with
    /// plain UDP.
    pub handshake: &'static str,
    /// Whether what no route matches is rejected.
    pub routed_only: bool,
    /// Whether it was removed, and is kept until its last sessions are told.
    pub closing: bool,
    /// Its thresholds, as its annotation has them; absent: those by default.
    pub thresholds: Option<String>,
    /// Established flows.
    pub flows: u64,
    /// Handshakes that were answered here.
    pub handshakes: Handshakes,
    /// Sessions accepted by pods.
    pub accepted: u64,
    /// Sessions rejected by pods. (Those refused here: `handshakes`.)
    pub rejected: u64,
    /// Sessions ended by one of their ends.
    pub ended: u64,
    /// Sessions cut because their backend could not go on.
    pub cut: u64,
    /// Packets from clients.
    pub up_packets: u64,
    /// UDP payload bytes of them.
    pub up_bytes: u64,
    /// Packets from pods.
    pub down_packets: u64,
    /// UDP payload bytes of them.
    pub down_bytes: u64,
    /// First transmissions that did not arrive at the node.
    pub lost: u64,
    /// Retransmitted packets.
    pub retransmitted: u64,
}

/// What became of the handshakes of services that are answered here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Handshakes {
    /// First ones answered, each with a cookie.
    pub cookies_sent: u64,
    /// Second ones with a valid cookie.
    pub cookies_valid: u64,
    /// With one of ours that is too old.
    pub cookies_stale: u64,
    /// With one that we never issued.
    pub cookies_forged: u64,
    /// Kept, and given to the pod with its own cookie.
    pub splices: u64,
    /// Those that wait for the caller's next try instead.
    pub lazies: u64,
    /// Sent on with the pod's cookie in place of ours: repetitions.
    pub rewritten: u64,
    /// Pods' answers that nobody waited for.
    pub surplus: u64,
    /// Rejections sent, by reason, where there were any.
    pub rejections: BTreeMap<&'static str, u64>,
    /// Rejections not sent, since their source was told so lately.
    pub rejections_unsaid: u64,
}

impl From<&abi::SpliceStats> for Handshakes {
    fn from(stats: &abi::SpliceStats) -> Self {
        Self {
            cookies_sent: stats.cookies_sent,
            cookies_valid: stats.cookies_valid,
            cookies_stale: stats.cookies_stale,
            cookies_forged: stats.cookies_forged,
            splices: stats.splices,
            lazies: stats.lazies,
            rewritten: stats.rewritten,
            surplus: stats.surplus,
            rejections: Rejection::ALL
                .iter()
                .zip(stats.rejected)
                .filter(|(_, count)| *count > 0)
                .map(|(rejection, count)| (rejection.as_str(), count))
                .collect(),
            rejections_unsaid: stats.unsaid,
        }
    }
}

pub(super) fn run(pin_root: &Path, output: Output) -> Result<(), Error> {
    let reader = Reader::open(pin_root)?;
    let rows = rows(&reader.services()?, &reader.flows()?);
    print(output, &rows, |rows| table(rows))
}

pub(crate) fn rows(
    services: &[ServiceView],
    flows: &[(abi::FlowKey, abi::Flow)],
) -> Vec<ServiceRow> {
    services
        .iter()
        .map(|view| {
            let ServiceView {
                key,
                service,
                name,
                traffic,
                splices,
                thresholds,
            } = view;
            let established = flows
                .iter()
                .filter(|(k, f)| k.service == service.id && is_live(f));
            ServiceRow {
                name: name.clone(),
                vip: socket(&key.address, key.port),
                protocol: protocol(*service),
                id: service.id,
                pool: service.pool,
                source_ranges: service.flags & abi::SERVICE_SOURCE_RANGES != 0,
                affinity: service.flags & abi::SERVICE_AFFINITY != 0,
                elsewhere: service.flags & abi::SERVICE_ELSEWHERE != 0,
                handshake: handshake(*service),
                routed_only: service.flags & abi::SERVICE_ROUTED_ONLY != 0,
                closing: service.flags & abi::SERVICE_CLOSING != 0,
                thresholds: shown(thresholds),
                flows: established.count() as u64,
                handshakes: splices.into(),
                accepted: traffic.accepted,
                rejected: traffic.rejected,
                ended: traffic.ended,
                cut: traffic.cut,
                up_packets: traffic.up_packets,
                up_bytes: traffic.up_bytes,
                down_packets: traffic.down_packets,
                down_bytes: traffic.down_bytes,
                lost: traffic.gaps.saturating_sub(traffic.out_of_order),
                retransmitted: traffic.retransmitted,
            }
        })
        .collect()
}

fn table(rows: &[ServiceRow]) -> String {
    if rows.is_empty() {
        return "no services".to_owned();
    }
    output::table(
        [
            "SERVICE",
            "VIP",
            "PROTOCOL",
            "HANDSHAKE",
            "SOURCES",
            "NOTES",
            ">FLOWS",
            ">ACCEPTED",
            ">REJECTED",
            ">REFUSED",
            ">ENDED",
            ">CUT",
            ">UP",
            ">DOWN",
            ">LOST",
            ">RETRANSMITTED",
        ],
        rows.iter().map(|r| {
            [
                r.name.clone(),
                r.vip.clone(),
                r.protocol.to_owned(),
                r.handshake.to_owned(),
                if r.source_ranges { "some" } else { "all" }.to_owned(),
                notes(r),
                r.flows.to_string(),
                r.accepted.to_string(),
                r.rejected.to_string(),
                refused(&r.handshakes).to_string(),
                r.ended.to_string(),
                r.cut.to_string(),
                bytes(r.up_bytes),
                bytes(r.down_bytes),
                r.lost.to_string(),
                r.retransmitted.to_string(),
            ]
        }),
    )
}

/// Handshakes that ended in a rejection of ours, sent or not.
fn refused(handshakes: &Handshakes) -> u64 {
    handshakes.rejections.values().sum::<u64>() + handshakes.rejections_unsaid
}

/// What is not as with every other service.
fn notes(row: &ServiceRow) -> String {
    let notes = [
        (row.affinity, "affinity"),
        (row.elsewhere, "elsewhere"),
        (row.routed_only, "routed-only"),
        (row.closing, "closing"),
    ];
    let notes: Vec<&str> = notes
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, note)| *note)
        .chain(row.thresholds.as_deref())
        .collect();
    notes.join(" ")
}

/// What the service carries.
pub(super) fn protocol(service: abi::Service) -> &'static str {
    if service.flags & abi::SERVICE_SRT != 0 {
        "srt"
    } else {
        "udp"
    }
}

/// Who answers its callers' handshakes.
pub(super) fn handshake(service: abi::Service) -> &'static str {
    if service.flags & abi::SERVICE_SRT == 0 {
        "none"
    } else if service.flags & abi::SERVICE_STREAM == 0 {
        "client"
    } else {
        "stream"
    }
}

/// Whether the flow is established.
pub(super) fn is_live(flow: &abi::Flow) -> bool {
    abi::FlowState::from_u8(flow.state) == abi::FlowState::Established
}

/// Whether the flow belongs to the slot's present backend rather than an earlier one.
pub(super) fn is_of(flow: &abi::Flow, backend: &BackendView) -> bool {
    flow.slot == backend.slot && flow.incarnation == backend.backend.incarnation
}

/// `address:port` of a backend.
pub(super) fn address(backend: &abi::Backend) -> String {
    std::net::SocketAddr::new(from_abi(&backend.address), backend.port).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn service(id: u16) -> ServiceView {
        ServiceView {
            key: abi::ServiceKey::new(abi::v4_mapped([203, 0, 113, 10]), 9000, abi::UDP),
            service: abi::Service {
                id,
                pool: 1,
                flags: abi::SERVICE_SRT | abi::SERVICE_STREAM,
            },
            name: "live/srt".into(),
            traffic: abi::Traffic::default(),
            splices: abi::SpliceStats::default(),
            thresholds: abi::Thresholds::default(),
        }
    }

    #[test]
    fn rows_count_the_live_flows_of_each_service() {
        let view = ServiceView {
            traffic: abi::Traffic {
                accepted: 2,
                up_bytes: 1_500_000,
                gaps: 7,
                out_of_order: 2,
                ..Default::default()
            },
            splices: abi::SpliceStats {
                splices: 9,
                rejected: [0, 2, 0, 3, 0, 0],
                unsaid: 4,
                ..Default::default()
            },
            thresholds: abi::Thresholds {
                max_rtt: 40,
                ..Default::default()
            },
            ..service(3)
        };
        let flow = |service, state: abi::FlowState| {
            let key = abi::FlowKey {
                service,
                port: 1,
                ..Default::default()
            };
            (
                key,
                abi::Flow {
                    state: state as u8,
                    ..Default::default()
                },
            )
        };
        let flows = [
            flow(3, abi::FlowState::Established),
            flow(3, abi::FlowState::Cut),
            flow(4, abi::FlowState::Established),
        ];
        let rows = rows(&[view], &flows);
        assert_eq!((rows[0].flows, rows[0].lost), (1, 5));
        assert_eq!(refused(&rows[0].handshakes), 9);
        let text = table(&rows);
        assert!(text.contains("203.0.113.10:9000"), "{text}");
        assert!(
            text.contains("1.5 MB") && text.contains(" stream "),
            "{text}"
        );
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(json[0]["vip"], "203.0.113.10:9000");
        assert_eq!(json[0]["protocol"], "srt");
        assert_eq!(json[0]["handshakes"]["splices"], 9);
        assert_eq!(json[0]["thresholds"], "maxRtt=40%");
        assert!(text.contains("maxRtt=40%"), "{text}");
        assert_eq!(
            json[0]["handshakes"]["rejections"],
            serde_json::json!({"not_found": 3, "overload": 2})
        );
    }

    #[test]
    fn who_answers_is_said() {
        let of = |flags| {
            handshake(abi::Service {
                flags,
                ..Default::default()
            })
        };
        assert_eq!(of(0), "none");
        assert_eq!(of(abi::SERVICE_SRT), "client");
        assert_eq!(of(abi::SERVICE_SRT | abi::SERVICE_STREAM), "stream");
    }
}
