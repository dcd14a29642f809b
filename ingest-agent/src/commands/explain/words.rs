//! The answer in plain words.

use std::net::SocketAddr;

use ingest_common::{
    abi::{self, CutReason, DeliveryMode, FlowState},
    reason::{DropReason, PassReason},
    srt::Rejection,
};

use super::{
    super::services::{address, handshake, is_of},
    Explanation, SOME_PORT,
};
use crate::{
    dataplane::{BackendView, RouteView, ServiceView},
    output::socket,
};

/// What was asked, and what is known besides the answer.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) client: SocketAddr,
    /// Otherwise the port is made up.
    pub(super) port_given: bool,
    /// Otherwise the made-up caller has none.
    pub(super) stream_id_given: bool,
    pub(super) service: &'a ServiceView,
    pub(super) backends: &'a [BackendView],
    pub(super) routes: &'a [RouteView],
    /// What the kernel or an operator holds against the chosen backend.
    pub(super) suspicion: Option<&'static str>,
    /// The client's flows on the service.
    pub(super) flows: &'a [&'a (abi::FlowKey, abi::Flow)],
}

/// [`abi::Explain::verdict`] of an answer of ours.
pub(super) const ANSWER: u8 = 5;

pub(super) fn explain(decision: abi::Explain, question: &Question<'_>) -> Explanation {
    let Question {
        client,
        service,
        backends,
        flows,
        ..
    } = *question;
    let handshake = handshake(service.service);
    let rejection = usize::from(decision.rejection)
        .checked_sub(1)
        .and_then(|place| Rejection::ALL.get(place).copied());
    let backend = backends.iter().find(|b| b.slot == decision.slot);
    let (verdict, backend) = match decision.verdict {
        1 => ("pass", None),
        2 => ("drop", None),
        3 => ("deliver", backend),
        4 => ("cut", backend),
        ANSWER if rejection.is_some() => ("reject", None),
        ANSWER => ("answer", None),
        _ => ("none", None),
    };
    let reason = match verdict {
        "drop" | "reject" => DropReason::from_u8(decision.reason).map(DropReason::as_str),
        "pass" => PassReason::from_u8(decision.reason).map(PassReason::as_str),
        _ => None,
    };
    let route = question.routes.iter().find(|r| r.route == decision.route);
    let pool = match (verdict, route) {
        ("deliver", None) => Some(service.service.pool),
        ("deliver", Some(route)) => route.pools.get(&service.service.id).copied(),
        _ => None,
    };
    let mut text = Vec::new();
    text.extend(port_words(question));
    text.extend(handshake_words(handshake, question.stream_id_given).map(str::to_owned));
    text.push(verdict_words(
        &Answer {
            decision,
            verdict,
            reason,
            rejection,
            backend,
            route,
            pool,
        },
        question,
    ));
    let mode = backend.map(|_| DeliveryMode::from_u8(decision.mode).as_str());
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
        vip: socket(&service.key.address, service.key.port),
        handshake,
        verdict,
        reason,
        rejection: rejection
            .filter(|_| verdict == "reject")
            .map(|rejection| (rejection.as_str(), rejection.code())),
        route: route.map(|route| route.name.clone()),
        pool,
        by_flow: decision.by_flow != 0,
        backend: backend.map(|b| b.name.clone()),
        backend_address: backend.map(|b| address(&b.backend)),
        mode,
        text,
    }
}

fn port_words(question: &Question<'_>) -> Option<String> {
    let service = question.service.service;
    let placed = if service.flags & abi::SERVICE_AFFINITY != 0 {
        "address alone, so any port meets the same backend"
    } else if handshake(service) == "stream" {
        "what they ask for, or by address alone where they ask for nothing, so any port meets the same backend"
    } else {
        "address and port"
    };
    (!question.port_given).then(|| {
        format!(
            "The port of {} was not given; {SOME_PORT} is assumed. New sessions are placed by {placed}.",
            question.client.ip()
        )
    })
}

/// What the way of the handshake has to do with the answer.
fn handshake_words(handshake: &str, stream_id_given: bool) -> Option<&'static str> {
    match handshake {
        "stream" => Some(
            "Handshakes of this service are answered here: the first (INDUCTION) by a cookie, and what follows is about the second (CONCLUSION), which names the stream.",
        ),
        "client" if stream_id_given => Some(
            "Handshakes of this service are answered by its pods (`handshake: client`), so a Stream ID has no say in where packets go.",
        ),
        "none" if stream_id_given => {
            Some("This service carries plain UDP, so a Stream ID has no say in where packets go.")
        }
        _ => None,
    }
}

/// What the program said, with the names of what it said.
struct Answer<'a> {
    decision: abi::Explain,
    verdict: &'static str,
    reason: Option<&'static str>,
    rejection: Option<Rejection>,
    backend: Option<&'a BackendView>,
    route: Option<&'a RouteView>,
    pool: Option<u16>,
}

fn verdict_words(answer: &Answer<'_>, question: &Question<'_>) -> String {
    let (decision, service) = (answer.decision, question.service);
    let what = match (handshake(service.service), question.stream_id_given) {
        ("none", _) => "a datagram",
        ("stream", true) => "an SRT session with this Stream ID",
        ("stream", false) => "an SRT session without a Stream ID",
        _ => "an SRT handshake",
    };
    let name = answer.backend.map_or_else(
        || format!("slot {}", decision.slot),
        |b| format!("{} ({})", b.name, address(&b.backend)),
    );
    let why = answer.reason.unwrap_or("not for a VIP");
    let vip = socket(&service.key.address, service.key.port);
    let start = format!(
        "{what} from {} to {vip} ({})",
        question.client, service.name
    );
    match (answer.verdict, answer.rejection) {
        ("deliver", _) if decision.by_flow != 0 => {
            format!("{start} goes to {name}, because it belongs to a flow there.")
        }
        ("deliver", _) => {
            let chosen = pool_words(answer, service.service);
            match question.suspicion {
                None => format!(
                    "{start} goes to {name}: {chosen} Maglev table gives this {} to it, and it takes new sessions.",
                    if handshake(service.service) == "stream" {
                        "stream"
                    } else {
                        "client"
                    }
                ),
                Some(word) => format!(
                    "{start} goes to {name}, which was {word} lately: no better backend was found for it."
                ),
            }
        }
        ("cut", _) => format!(
            "{start} meets a flow whose backend {name} cannot go on: the caller is told to reconnect (SHUTDOWN)."
        ),
        ("drop", _) => format!(
            "{start} is dropped: {why}. {}",
            drop_words(decision.reason, answer.route)
        ),
        ("reject", Some(rejection)) => format!(
            "{start} is refused: {why}. {} The caller is told {} ({}), at most once a second; otherwise it hears nothing.",
            drop_words(decision.reason, answer.route),
            rejection.code(),
            rejection.as_str(),
        ),
        ("answer", _) => format!("{start} is answered here, and goes to no backend yet."),
        ("pass", _) => format!(
            "{start} is left to this host's own network stack: {why}. {}",
            pass_words(decision.reason, service.service)
        ),
        _ => format!("{start} is not steered at all: the program knows no such service."),
    }
}

/// Whose Maglev table it is, and why.
fn pool_words(answer: &Answer<'_>, service: abi::Service) -> String {
    match (answer.route, answer.pool) {
        (Some(route), Some(pool)) => {
            format!("route {} matches, and its pool's ({pool})", route.name)
        }
        (Some(route), None) => format!("route {} matches, and its pool's", route.name),
        _ if handshake(service) == "stream" => "no route matches, and the service's own".to_owned(),
        _ => "the service's".to_owned(),
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

fn drop_words(reason: u8, route: Option<&RouteView>) -> String {
    let named = route.map_or_else(
        || "The route that matches".to_owned(),
        |r| format!("Route {}", r.name),
    );
    let words = match DropReason::from_u8(reason) {
        Some(DropReason::NoBackend) => {
            "No backend takes new sessions, or all have as many as they may; `ingest-agent backends` says why."
        }
        Some(DropReason::SourceDenied) => {
            "Add the client to the service's sourceRanges to let it in."
        }
        Some(DropReason::Undeliverable) => {
            "The backend has no pod port (`ingest-agent backends` says why), or there is no secret for cookies yet, which the agent makes when it starts."
        }
        Some(DropReason::SourceRate) => {
            "Handshakes of this client's address (IPv6: its /64) come faster than --induction-rate or --conclusion-rate allows."
        }
        Some(DropReason::CookieStale | DropReason::CookieForged) => {
            "The secret has just changed: ask again."
        }
        Some(DropReason::SrtStreamId) => {
            "The Stream ID names r, u, h or m twice, or holds control characters."
        }
        Some(DropReason::NoRoute) => {
            "No route matches, and the service takes only routed streams; `ingest-agent routes` lists them."
        }
        Some(DropReason::Forbidden) => return format!("{named} rejects what it matches."),
        Some(DropReason::QuotaStreams) => {
            let count = route.map_or_else(String::new, |r| {
                format!(" ({} of {})", r.active, r.quota.streams)
            });
            return format!("{named} has as many sessions as it may{count}.");
        }
        Some(DropReason::QuotaSessions) => {
            return format!(
                "New sessions of the route come too fast. {named} bounds them; try again."
            );
        }
        _ => "`ingest-agent status` counts such packets.",
    };
    words.to_owned()
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
mod tests;
