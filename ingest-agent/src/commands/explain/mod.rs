//! `ingest-agent explain`: runs the loaded program dry on the first packet that a client would send.

mod packets;
mod words;

use std::{net::SocketAddr, path::Path};

use ingest_common::{
    abi::{self, words_from_address},
    srt,
};
use serde::Serialize;

use self::{
    packets::{SOCKET_ID, conclusion, induction},
    words::{Question, explain},
};
use super::{backends::seen, services::handshake};
use crate::{
    cli::{Client, Explain, Output},
    dataplane::{self, Reader, ServiceView},
    error::Error,
    output::{print, socket},
    reconcile::{from_abi, to_abi},
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
    /// Who answers callers' handshakes: `stream`, `client` or `none`.
    pub handshake: &'static str,
    /// `pass`, `drop`, `deliver`, `cut`, `reject`, `answer` or `none`.
    pub verdict: &'static str,
    /// The reason of a pass, a drop or a rejection.
    pub reason: Option<&'static str>,
    /// What the caller of a rejected session is told: the word, and the code of its handshake packet.
    pub rejection: Option<(&'static str, u16)>,
    /// `namespace/name` of the route that chose the pool; absent: it is the service's own.
    pub route: Option<String>,
    /// Index of the Maglev table that the backend is from.
    pub pool: Option<u16>,
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
    let decide = |payload: &[u8]| {
        let frame = dataplane::client_frame(client, vip, payload);
        dataplane::explain(pin_root, &frame).map(|(decision, _)| decision)
    };
    let decision = match handshake(service.service) {
        "none" => decide(b"explain")?,
        "stream" => {
            let first = decide(&induction(vip))?;
            if first.verdict == words::ANSWER && first.rejection == 0 {
                let words = words_from_address(to_abi(client.ip()));
                let (secrets, now_ns) = (reader.secrets()?, dataplane::now_ns());
                let cookie = srt::cookie(&secrets, words, client.port(), SOCKET_ID, now_ns);
                decide(&conclusion(vip, cookie, args.stream_id.as_deref()))?
            } else {
                first
            }
        }
        _ => decide(&induction(vip))?,
    };
    let own: Vec<_> = flows
        .iter()
        .filter(|(key, _)| key.service == service.service.id && is_from(key, &args.client))
        .collect();
    let (config, now_ns) = (reader.config()?, dataplane::now_ns());
    let chosen = backends.iter().find(|b| b.slot == decision.slot);
    let question = Question {
        client,
        port_given: args.client.port.is_some(),
        stream_id_given: args.stream_id.is_some(),
        service,
        backends: &backends,
        routes: &reader.routes()?,
        suspicion: chosen.and_then(|b| seen(&b.health, &config, now_ns)),
        flows: &own,
    };
    let explanation = explain(decision, &question);
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

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn service(name: &str, vip: &str) -> ServiceView {
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
            splices: abi::SpliceStats::default(),
            thresholds: abi::Thresholds::default(),
        }
    }

    fn args(client: &str, service: Option<&str>, vip: Option<&str>) -> Explain {
        Explain {
            client: client.parse().unwrap(),
            stream_id: None,
            service: service.map(str::to_owned),
            vip: vip.map(|v| v.parse().unwrap()),
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
}
