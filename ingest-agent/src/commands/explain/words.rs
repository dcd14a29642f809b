//! The answer in plain words.

use std::net::SocketAddr;

use ingest_common::{
    abi::{self, CutReason, DeliveryMode, FlowState},
    reason::{DropReason, PassReason},
};

use super::{
    super::services::{address, is_of, protocol},
    Explanation, SOME_PORT,
};
use crate::{
    dataplane::{BackendView, ServiceView},
    output::socket,
};

/// What was asked, and what is known besides the answer.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) client: SocketAddr,
    /// Otherwise the port is made up.
    pub(super) port_given: bool,
    pub(super) service: &'a ServiceView,
    pub(super) backends: &'a [BackendView],
    /// What the kernel or an operator holds against the chosen backend.
    pub(super) suspicion: Option<&'static str>,
    /// The client's flows on the service.
    pub(super) flows: &'a [&'a (abi::FlowKey, abi::Flow)],
}

pub(super) fn explain(decision: abi::Explain, question: &Question<'_>) -> Explanation {
    let Question {
        client,
        port_given,
        service,
        backends,
        suspicion,
        flows,
    } = *question;
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
            "The port of {} was not given; {SOME_PORT} is assumed. New sessions are placed by {}.",
            client.ip(),
            if service.service.flags & abi::SERVICE_AFFINITY == 0 {
                "address and port"
            } else {
                "address alone, so any port meets the same backend"
            }
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
        "deliver" => match suspicion {
            None => format!(
                "{start} goes to {name}: the service's Maglev table gives this client to it, and it takes new sessions."
            ),
            Some(word) => format!(
                "{start} goes to {name}, which was {word} lately: no better backend was found for this client."
            ),
        },
        "cut" => format!(
            "{start} meets a flow whose backend {name} cannot go on: the caller is told to reconnect (SHUTDOWN)."
        ),
        "drop" => format!("{start} is dropped: {why}. {}", drop_remedy(decision.reason)),
        "pass" => format!(
            "{start} is left to this host's own network stack: {why}. {}",
            pass_words(decision.reason, service.service)
        ),
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

fn pass_words(reason: u8, service: abi::Service) -> &'static str {
    let closing = service.flags & abi::SERVICE_CLOSING != 0;
    match PassReason::from_u8(reason) {
        Some(PassReason::Elsewhere) => {
            "No backend here takes new sessions, but other nodes have ready ones: the host's own balancing, such as kube-proxy, finds them. `ingest-agent backends` says why none here does."
        }
        Some(PassReason::NoFlow) if closing => {
            "The service was removed: its sessions are being cut, and it takes no new ones."
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
    use crate::commands::explain::tests::service;

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
            probe: abi::Probe::default(),
        }
    }

    #[test]
    fn every_verdict_is_put_in_words() {
        let client = "198.51.100.7:40000".parse().unwrap();
        let srt = service("live/srt", "203.0.113.10:9000");
        let of = |decision: abi::Explain, flows: &[&(abi::FlowKey, abi::Flow)]| {
            let backends = &[pod()];
            let suspicion = (decision.reason == 99).then_some("silent");
            let question = Question {
                client,
                port_given: true,
                service: &srt,
                backends,
                suspicion,
                flows,
            };
            explain(decision, &question)
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

        let suspected = abi::Explain {
            reason: 99,
            ..deliver
        };
        assert!(of(suspected, &[]).text[0].contains("was silent lately"));

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
        let passed = abi::Explain {
            verdict: 1,
            reason: PassReason::Elsewhere as u8,
            ..Default::default()
        };
        let e = of(passed, &[]);
        assert_eq!((e.verdict, e.reason), ("pass", Some("elsewhere")));
        assert!(
            e.text[0].contains("left to this host's own network stack: elsewhere.")
                && e.text[0].contains("other nodes have ready ones"),
            "{:?}",
            e.text
        );
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

    #[test]
    fn the_services_flags_are_put_in_words() {
        let of = |flags, port_given| {
            let mut srt = service("live/srt", "203.0.113.10:9000");
            srt.service.flags |= flags;
            let question = Question {
                client: "198.51.100.7:40000".parse().unwrap(),
                port_given,
                service: &srt,
                backends: &[],
                suspicion: None,
                flows: &[],
            };
            let passed = abi::Explain {
                verdict: 1,
                reason: PassReason::NoFlow as u8,
                ..Default::default()
            };
            explain(passed, &question).text[0].clone()
        };
        assert!(of(abi::SERVICE_CLOSING, true).contains("The service was removed"));
        assert!(!of(0, true).contains("The service was removed"));
        assert!(of(abi::SERVICE_AFFINITY, false).contains("address alone"));
        assert!(of(0, false).contains("address and port"));
    }
}
