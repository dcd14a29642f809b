//! Which ports of a Service are steered, and as what.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::{Condition, claim::annotation};
use crate::{cluster::PROTOCOL_ANNOTATION, reconcile::Protocol};

const TCP: &str = "it is TCP (RTMP is not steered yet) and stays with kube-proxy";
const SCTP: &str = "it is SCTP and stays with kube-proxy";
const RTMP_OVER_UDP: &str =
    "its appProtocol is rtmp, which is TCP, and the port is UDP: say srt or udp";
const UNKNOWN: &str = "it is UDP of unknown protocol and stays with kube-proxy; name the port srt, or set its \
     appProtocol to srt, or to udp for any other stream";

/// A port that is steered.
pub(super) struct Steered<'a> {
    /// Empty where it has none.
    pub(super) name: &'a str,
    pub(super) number: u16,
    pub(super) node_port: Option<u16>,
    pub(super) protocol: Protocol,
}

impl Steered<'_> {
    /// What people know it by.
    pub(super) fn label(&self) -> String {
        label(self.name, self.number.into())
    }
}

fn label(name: &str, number: i32) -> String {
    if name.is_empty() {
        number.to_string()
    } else {
        name.to_owned()
    }
}

/// The steered ports of a Service, in its order.
pub(super) fn steered<'a>(
    service: &'a Service,
    conditions: &mut BTreeSet<Condition>,
) -> Vec<Steered<'a>> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref());
    let ports = ports.unwrap_or_default();
    let annotated = Annotated::read(service, ports, conditions);
    let mut steered = Vec::new();
    for port in ports {
        let name = port.name.as_deref().unwrap_or_default();
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => annotated.of(port).map_or_else(|| guess(port), Ok),
            Some("SCTP") => Err(SCTP),
            _ => Err(TCP),
        };
        match (protocol, number(port.port)) {
            (Ok(protocol), Some(number)) => steered.push(Steered {
                name,
                number,
                node_port: port.node_port.and_then(self::number),
                protocol,
            }),
            (Err(reason), _) => {
                conditions.insert(Condition::UnsupportedPort {
                    port: label(name, port.port),
                    reason,
                });
            }
            // The API server lets no such number in.
            (Ok(_), None) => {}
        }
    }
    steered
}

/// The names of all UDP ports.
pub(super) fn udp(service: &Service) -> impl Iterator<Item = &str> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref());
    let ports = ports.unwrap_or_default().iter().filter(|port| is_udp(port));
    ports.map(|port| port.name.as_deref().unwrap_or_default())
}

/// The name of the port of a pool: the UDP port of this number; without one the only SRT port, or the only UDP port.
pub(super) fn of_pool(service: &Service, number: Option<i32>) -> Option<&str> {
    if let Some(number) = number {
        let ports = service.spec.as_ref()?.ports.as_deref()?;
        let port = ports.iter().find(|p| is_udp(p) && p.port == number)?;
        return Some(port.name.as_deref().unwrap_or_default());
    }
    let srt = steered(service, &mut BTreeSet::new());
    let mut srt = srt.iter().filter(|port| port.protocol == Protocol::Srt);
    match (srt.next(), srt.next()) {
        (Some(only), None) => Some(only.name),
        (Some(_), Some(_)) => None,
        (None, _) => {
            let mut udp = udp(service);
            udp.next().filter(|_| udp.next().is_none())
        }
    }
}

/// A usable port number.
pub(super) fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|p| *p != 0)
}

/// What `appProtocol` says, else the name.
fn guess(port: &ServicePort) -> Result<Protocol, &'static str> {
    if let Some(text) = port.app_protocol.as_deref() {
        // `example.com/srt` is somebody's own name of it.
        let bare = text.rsplit('/').next().unwrap_or(text);
        if bare.eq_ignore_ascii_case("rtmp") {
            return Err(RTMP_OVER_UDP);
        }
        if let Some(protocol) = protocol(bare) {
            return Ok(protocol);
        }
    }
    let name = port.name.as_deref().unwrap_or_default();
    let named = |word: &str| {
        let prefix = name.strip_prefix(word);
        let suffix = name.strip_suffix(word);
        prefix.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            || suffix.is_some_and(|rest| rest.ends_with('-'))
    };
    // `srt-udp` is SRT.
    if named("srt") {
        Ok(Protocol::Srt)
    } else if named("udp") {
        Ok(Protocol::Udp)
    } else {
        Err(UNKNOWN)
    }
}

fn protocol(word: &str) -> Option<Protocol> {
    if word.eq_ignore_ascii_case("srt") {
        Some(Protocol::Srt)
    } else if word.eq_ignore_ascii_case("udp") {
        Some(Protocol::Udp)
    } else {
        None
    }
}

/// What the annotation says.
#[derive(Default)]
struct Annotated<'a> {
    all: Option<Protocol>,
    /// By name or number.
    by_port: Vec<(&'a str, Protocol)>,
}

impl<'a> Annotated<'a> {
    fn read(
        service: &'a Service,
        ports: &[ServicePort],
        conditions: &mut BTreeSet<Condition>,
    ) -> Self {
        let mut annotated = Self::default();
        let Some(text) = annotation(service, PROTOCOL_ANNOTATION) else {
            return annotated;
        };
        let mut invalid = |value: &str, reason| {
            conditions.insert(Condition::Invalid {
                field: PROTOCOL_ANNOTATION,
                value: value.to_owned(),
                reason,
            });
        };
        if !text.contains('=') {
            annotated.all = protocol(text);
            if annotated.all.is_none() {
                invalid(
                    text,
                    "neither srt, nor udp, nor a list such as ingest=srt,8890=udp; it is ignored",
                );
            }
            return annotated;
        }
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let known = part
                .split_once('=')
                .and_then(|(port, word)| Some((port.trim(), protocol(word.trim())?)));
            match known {
                None => invalid(part, "not <port>=srt or <port>=udp; it is ignored"),
                Some((key, _)) if !ports.iter().any(|p| is_udp(p) && is_called(p, key)) => {
                    invalid(part, "the Service has no such UDP port; it is ignored");
                }
                Some(known) => annotated.by_port.push(known),
            }
        }
        annotated
    }

    fn of(&self, port: &ServicePort) -> Option<Protocol> {
        let own = self.by_port.iter().find(|(key, _)| is_called(port, key));
        own.map(|(_, protocol)| *protocol).or(self.all)
    }
}

fn is_udp(port: &ServicePort) -> bool {
    port.protocol.as_deref() == Some("UDP")
}

fn is_called(port: &ServicePort, key: &str) -> bool {
    port.name.as_deref() == Some(key) || key.parse() == Ok(port.port)
}
