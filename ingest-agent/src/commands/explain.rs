//! `ingest-agent explain`: runs the loaded program dry on the first packet that a client would send.

use std::{net::SocketAddr, path::Path};

use bytes::{BufMut as _, Bytes, BytesMut};
use ingest_common::{
    abi::{self, CutReason, DeliveryMode, FlowState},
    reason::{DropReason, PassReason},
};
use serde::Serialize;

use super::services::{address, is_of, protocol};
use crate::{
    cli::{Client, Explain, Output},
    dataplane::{self, BackendView, Reader, ServiceView},
    error::Error,
    output::{print, socket},
    reconcile::from_abi,
};

/// The port of a client that was given without one; from the dynamic range (RFC 6335).
const SOME_PORT: u16 = 50_000;

/// Where a client's packets go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `address:port` of the client.
    pub client: String,
    /// `namespace/name` of the service.
    pub service: String,
    /// `address:port` of the service.
    pub vip: String,
    /// `pass`, `drop`, `deliver`, `cut` or `none`.
    pub verdict: &'static str,
    /// The reason of a pass or a drop.
    pub reason: Option<&'static str>,
    /// Whether an established flow decided, rather than placement.
    pub by_flow: bool,
    /// `namespace/name` of the pod.
    pub backend: Option<String>,
    /// `address:port` of the pod.
    pub backend_address: Option<String>,
    /// How its packets get there.
    pub mode: Option<&'static str>,
    /// All of it in plain words.
    pub text: Vec<String>,
}

pub(super) fn run(pin_root: &Path, output: Output, args: &Explain) -> Result<(), Error> {
    let reader = Reader::open(pin_root)?;
    let (services, backends, flows) = (reader.services()?, reader.backends()?, reader.flows()?);
    let service = choose(&services, args)?;
    let client = SocketAddr::new(args.client.address, args.client.port.unwrap_or(SOME_PORT));
    let vip = SocketAddr::new(from_abi(&service.key.address), service.key.port);
    let payload = if protocol(service.service) == "srt" {
        induction(client, vip)
    } else {
        Bytes::from_static(b"explain")
    };
    let frame = dataplane::client_frame(client, vip, &payload);
    let (decision, _) = dataplane::explain(pin_root, &frame)?;
    let own: Vec<_> = flows
        .iter()
        .filter(|(key, _)| key.service == service.service.id && is_from(key, &args.client))
        .collect();
    let explanation = explain(
        decision,
        service,
        &backends,
        &own,
        client,
        args.client.port.is_some(),
    );
    print(output, &explanation, |e| e.text.join("\n"))
}

/// The service by name (of the client's family) or by VIP, or the only one there is.
fn choose<'a>(services: &'a [ServiceView], args: &Explain) -> Result<&'a ServiceView, Error> {
    let is_v4 = args.client.address.is_ipv4();
    let wanted = match (&args.service, args.vip) {
        (Some(name), _) => name.clone(),
        (None, Some(vip)) => vip.to_string(),
        (None, None) => format!("for {} clients", crate::output::family(args.client.address)),
    };
    let fitting: Vec<_> = services
        .iter()
        .filter(|s| from_abi(&s.key.address).is_ipv4() == is_v4)
        .filter(|s| args.service.as_ref().is_none_or(|name| *name == s.name))
        .filter(|s| {
            args.vip
                .is_none_or(|vip| (vip.ip(), vip.port()) == (from_abi(&s.key.address), s.key.port))
        })
        .collect();
    match fitting[..] {
        [] => Err(Error::NoSuchService { wanted }),
        [service] => Ok(service),
        _ => {
            let names = fitting
                .iter()
                .map(|s| format!("{} ({})", s.name, socket(&s.key.address, s.key.port)));
            Err(Error::WhichService {
                candidates: names.collect::<Vec<_>>().join(", "),
            })
        }
    }
}

fn is_from(key: &abi::FlowKey, client: &Client) -> bool {
    from_abi(&key.address) == client.address && client.port.is_none_or(|port| port == key.port)
}

/// An SRT INDUCTION as libsrt sends it (draft §4.3.1.1).
fn induction(client: SocketAddr, vip: SocketAddr) -> Bytes {
    const HANDSHAKE: u32 = 0x8000_0000;
    const UDT_DGRAM: u32 = 2;
    const MTU: u32 = 1500;
    const FLOW_WINDOW: u32 = 8192;
    const INDUCTION: u32 = 1;
    // Any but 0 will do; it is in nobody's flow.
    let socket_id = u32::from(client.port()) | 0x2000_0000;
    let mut packet = BytesMut::with_capacity(64);
    packet.put_u32(HANDSHAKE);
    packet.put_u32(0);
    packet.put_u32(0);
    packet.put_u32(0);
    packet.put_u32(4);
    packet.put_u32(UDT_DGRAM);
    packet.put_u32(1);
    packet.put_u32(MTU);
    packet.put_u32(FLOW_WINDOW);
    packet.put_u32(INDUCTION);
    packet.put_u32(socket_id);
    packet.put_u32(0);
    // The address that the caller dialled, each word byte-reversed.
    match vip {
        SocketAddr::V4(v4) => {
            packet.put_u32(u32::from_le_bytes(v4.ip().octets()));
            packet.put_slice(&[0; 12]);
        }
        SocketAddr::V6(v6) => {
            for word in v6.ip().octets().as_chunks::<4>().0 {
                packet.put_u32(u32::from_le_bytes(*word));
            }
        }
    }
    packet.freeze()
}

fn explain(
    decision: abi::Explain,
    service: &ServiceView,
    backends: &[BackendView],
    flows: &[&(abi::FlowKey, abi::Flow)],
    client: SocketAddr,
    port_given: bool,
) -> Explanation {
    let vip = socket(&service.key.address, service.key.port);
    let backend = backends.iter().find(|b| b.slot == decision.slot);
    let (verdict, backend) = match decision.verdict {
        1 => ("pass", None),
        2 => ("drop", None),
        3 => ("deliver", backend),
        4 => ("cut", backend),
        _ => ("none", None),
    };
    let reason = match verdict {
        "drop" => DropReason::from_u8(decision.reason).map(DropReason::as_str),
        "pass" => PassReason::from_u8(decision.reason).map(PassReason::as_str),
        _ => None,
    };
    let mode = backend.map(|_| DeliveryMode::from_u8(decision.mode).as_str());
    let by_flow = decision.by_flow != 0;
    let what = if protocol(service.service) == "srt" {
        "an SRT handshake"
    } else {
        "a datagram"
    };
    let mut text = Vec::new();
    if !port_given {
        text.push(format!(
            "The port of {} was not given; {SOME_PORT} is assumed. New sessions are placed by address and port.",
            client.ip()
        ));
    }
    let name = backend.map_or_else(
        || format!("slot {}", decision.slot),
        |b| format!("{} ({})", b.name, address(&b.backend)),
    );
    let why = reason.unwrap_or("not for a VIP");
    let start = format!("{what} from {client} to {vip} ({})", service.name);
    text.push(match verdict {
        "deliver" if by_flow => format!("{start} goes to {name}, because it belongs to a flow there."),
        "deliver" => format!(
            "{start} goes to {name}: the service's Maglev table gives this client to it, and it takes new sessions."
        ),
        "cut" => format!(
            "{start} meets a flow whose backend {name} cannot go on: the caller is told to reconnect (SHUTDOWN)."
        ),
        "drop" => format!("{start} is dropped: {why}. {}", drop_remedy(decision.reason)),
        "pass" => format!("{start} is left to this host's own network stack: {why}."),
        _ => format!("{start} is not steered at all: the program knows no such service."),
    });
    if let Some(mode) = mode {
        text.push(format!(
            "It gets there by {mode}: {}.",
            mode_words(decision.mode)
        ));
    }
    text.extend(
        flows
            .iter()
            .map(|(key, flow)| flow_words(key, flow, backends)),
    );
    if flows.is_empty() {
        text.push("This client has no flow on the service now.".to_owned());
    }
    Explanation {
        client: client.to_string(),
        service: service.name.clone(),
        vip,
        verdict,
        reason,
        by_flow,
        backend: backend.map(|b| b.name.clone()),
        backend_address: backend.map(|b| address(&b.backend)),
        mode,
        text,
    }
}

fn mode_words(mode: u8) -> &'static str {
    match DeliveryMode::from_u8(mode) {
        DeliveryMode::None => "no pod port is known, so it is lost",
        DeliveryMode::Redirect => "XDP puts it straight into the pod's interface",
        DeliveryMode::Peer => "XDP rewrites it, and tc at the uplink puts it into the pod",
        DeliveryMode::Stack => "XDP rewrites it, and the host routes it",
    }
}

fn drop_remedy(reason: u8) -> &'static str {
    match DropReason::from_u8(reason) {
        Some(DropReason::NoBackend) => {
            "No backend takes new sessions; `ingest-agent backends` says why."
        }
        Some(DropReason::SourceDenied) => {
            "Add the client to the service's sourceRanges to let it in."
        }
        Some(DropReason::Undeliverable) => {
            "The backend has no pod port; `ingest-agent backends` says why."
        }
        _ => "`ingest-agent status` counts such packets.",
    }
}

fn flow_words(key: &abi::FlowKey, flow: &abi::Flow, backends: &[BackendView]) -> String {
    let backend = backends.iter().find(|b| is_of(flow, b));
    let pod = backend.map_or_else(|| "a backend that has left".to_owned(), |b| b.name.clone());
    let client = socket(&key.address, key.port);
    match FlowState::from_u8(flow.state) {
        FlowState::Established => format!(
            "{client} has an established flow with {pod}: {} packets up, {} down; it stays there while the pod lives.",
            flow.up.packets, flow.down.packets
        ),
        FlowState::Cut => {
            let why = CutReason::from_u8(flow.cut_reason).map_or("unknown", CutReason::as_str);
            format!("{client} had a flow with {pod} that was cut: {why}.")
        }
        FlowState::Ended | FlowState::None => {
            format!("{client} had a flow with {pod} that has ended.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, vip: &str) -> ServiceView {
        let vip: SocketAddr = vip.parse().unwrap();
        ServiceView {
            key: abi::ServiceKey::new(crate::reconcile::to_abi(vip.ip()), vip.port(), abi::UDP),
            service: abi::Service {
                id: 3,
                pool: 0,
                flags: abi::SERVICE_SRT,
            },
            name: name.into(),
            traffic: abi::Traffic::default(),
        }
    }

    fn args(client: &str, service: Option<&str>, vip: Option<&str>) -> Explain {
        Explain {
            client: client.parse().unwrap(),
            service: service.map(str::to_owned),
            vip: vip.map(|v| v.parse().unwrap()),
        }
    }

    fn pod() -> BackendView {
        BackendView {
            slot: 4,
            backend: abi::Backend {
                address: abi::v4_mapped([10, 0, 1, 2]),
                port: 9000,
                incarnation: 1,
                ..Default::default()
            },
            health: abi::Health::default(),
            name: "live/pod-a".into(),
            traffic: abi::Traffic::default(),
        }
    }

    #[test]
    fn a_service_is_chosen_by_name_vip_or_because_it_is_the_only_one() {
        let services = [
            service("live/srt", "203.0.113.10:9000"),
            service("live/srt", "[2001:db8::10]:9000"),
            service("live/udp", "203.0.113.11:9000"),
        ];
        let chosen = |args| choose(&services, &args).map(|s| socket(&s.key.address, s.key.port));
        assert_eq!(
            chosen(args("198.51.100.7", Some("live/srt"), None)).unwrap(),
            "203.0.113.10:9000"
        );
        assert_eq!(
            chosen(args("2001:db8::7", None, None)).unwrap(),
            "[2001:db8::10]:9000"
        );
        assert_eq!(
            chosen(args("198.51.100.7", None, Some("203.0.113.11:9000"))).unwrap(),
            "203.0.113.11:9000"
        );
        let error = chosen(args("198.51.100.7", None, None))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("live/srt (203.0.113.10:9000), live/udp"),
            "{error}"
        );
        let error = chosen(args("198.51.100.7", Some("live/x"), None)).unwrap_err();
        assert_eq!(
            (error.exit_code(), error.to_string().contains("live/x")),
            (2, true)
        );
    }

    #[test]
    fn the_induction_is_libsrts() {
        let vip = "127.0.0.1:9000".parse().unwrap();
        let packet = induction("198.51.100.7:50000".parse().unwrap(), vip);
        assert_eq!(packet.len(), 64);
        assert_eq!(packet[..4], [0x80, 0, 0, 0]);
        assert_eq!(packet[16..24], [0, 0, 0, 4, 0, 0, 0, 2]);
        assert_eq!(packet[36..40], [0, 0, 0, 1]);
        assert_eq!(packet[48..52], [1, 0, 0, 127]);
        let vip = "[2001:db8::10]:9000".parse().unwrap();
        let packet = induction("[2001:db8::7]:50000".parse().unwrap(), vip);
        assert_eq!(packet[48..52], [0xb8, 0x0d, 0x01, 0x20]);
        assert_eq!(packet[60..64], [0x10, 0, 0, 0]);
    }

    #[test]
    fn every_verdict_is_put_in_words() {
        let client = "198.51.100.7:40000".parse().unwrap();
        let srt = service("live/srt", "203.0.113.10:9000");
        let of = |decision: abi::Explain, flows: &[&(abi::FlowKey, abi::Flow)]| {
            explain(decision, &srt, &[pod()], flows, client, true)
        };
        let deliver = abi::Explain {
            verdict: 3,
            slot: 4,
            mode: DeliveryMode::Peer as u8,
            ..Default::default()
        };
        let e = of(deliver, &[]);
        assert_eq!(
            (e.verdict, e.backend.as_deref(), e.mode),
            ("deliver", Some("live/pod-a"), Some("peer"))
        );
        assert!(
            e.text[0].contains("goes to live/pod-a (10.0.1.2:9000): the service's Maglev table")
        );
        assert!(e.text.last().unwrap().contains("no flow"));

        let flow = (
            abi::FlowKey {
                address: abi::v4_mapped([198, 51, 100, 7]),
                port: 40000,
                service: 3,
            },
            abi::Flow {
                slot: 4,
                incarnation: 1,
                state: FlowState::Established as u8,
                ..Default::default()
            },
        );
        let e = of(
            abi::Explain {
                by_flow: 1,
                ..deliver
            },
            &[&flow],
        );
        assert!(e.text[0].contains("belongs to a flow there"));
        assert!(
            e.text[2].contains("established flow with live/pod-a"),
            "{:?}",
            e.text
        );

        let dropped = abi::Explain {
            verdict: 2,
            reason: DropReason::NoBackend as u8,
            ..Default::default()
        };
        let e = of(dropped, &[]);
        assert_eq!((e.reason, e.backend), (Some("no_backend"), None));
        assert!(e.text[0].contains("ingest-agent backends"));

        let passed = abi::Explain {
            verdict: 1,
            reason: PassReason::NoFlow as u8,
            ..Default::default()
        };
        assert_eq!(of(passed, &[]).reason, Some("no_flow"));
        assert!(
            of(
                abi::Explain {
                    verdict: 4,
                    slot: 4,
                    ..Default::default()
                },
                &[]
            )
            .text[0]
                .contains("SHUTDOWN")
        );
        assert_eq!(of(abi::Explain::default(), &[]).verdict, "none");
    }
}
