//! Services: what callers reach, and what is only a pool.

use std::{collections::BTreeSet, net::IpAddr};

use ingest_common::abi;
use ipnet::IpNet;
use serde_saphyr::Spanned;

use super::{Checker, family};
use crate::{
    reconcile::{self, Handshake, Protocol},
    source::file::schema::Service,
};

impl Checker {
    pub(super) fn service(&mut self, service: &Spanned<Service>) -> Option<reconcile::Service> {
        let problems_before = self.problems.len();
        let s = &service.value;
        let line = s.name.referenced.line();
        let name = self.name(&s.name, "service");
        if let Some(first) = self.services.insert(name.clone(), line) {
            self.problem(
                line,
                format!("service {name} is listed twice (first at line {first}); merge the two"),
            );
        }
        let (vips, port) = self.service_address(s, line, &name);
        let is_pool = s.vips.is_none() && s.port.is_none();
        let protocol = match &s.protocol {
            Some(protocol) => self.protocol(protocol, &name),
            None if is_pool => Some(Protocol::Srt),
            None => {
                self.problem(
                    line,
                    format!(
                        "service {name} has no protocol; write `protocol: srt` or `protocol: udp`"
                    ),
                );
                None
            }
        };
        let families = (
            vips.iter().any(IpAddr::is_ipv4),
            vips.iter().any(IpAddr::is_ipv6),
        );
        for is_v4 in vips.iter().map(IpAddr::is_ipv4) {
            self.pool(line, &name, is_v4);
        }
        if is_pool {
            self.nothing_of_callers(s, &name);
        }
        let (handshake, routed_only) = self.ways(s, protocol, &name);
        let counts = protocol != Some(Protocol::Udp);
        let balance = s.balance.as_ref().filter(|balance| balance.value);
        if let Some(balance) = balance.filter(|_| !counts) {
            self.problem(
                balance.referenced.line(),
                format!(
                    "`balance` of service {name}, which is udp; sessions are counted with srt: remove it"
                ),
            );
        }
        let source_ranges = self.source_ranges(&s.source_ranges, &vips, &name);
        let thresholds = self.thresholds(s.thresholds.as_ref(), &format!("service {name}"));
        let backends = self.service_backends(&s.backends, &vips, counts, &name);
        if self.problems.len() > problems_before {
            return None;
        }
        self.warn_of_empty_families(&name, families, &source_ranges, &backends, routed_only);
        Some(reconcile::Service {
            name,
            vips,
            port,
            protocol: protocol?,
            handshake,
            routed_only,
            balance: balance.is_some(),
            source_ranges,
            affinity: false,
            elsewhere: false,
            thresholds,
            backends,
        })
    }

    /// VIPs and port: both, or neither.
    fn service_address(&mut self, s: &Service, line: u64, name: &str) -> (Vec<IpAddr>, u16) {
        match (&s.vips, &s.port) {
            (None, None) => (Vec::new(), 0),
            (Some(vips), Some(port)) => {
                let port = self.port(port, "service", name);
                (self.service_vips(vips, port, name), port)
            }
            (None, Some(_)) => {
                self.problem(
                    line,
                    format!(
                        "service {name} has a port and no VIP; list `vips`, or remove the port too: \
                         then it is only a pool, for routes"
                    ),
                );
                (Vec::new(), 0)
            }
            (Some(_), None) => {
                self.problem(
                    line,
                    format!("service {name} has VIPs and no port; write for example `port: 9000`"),
                );
                (Vec::new(), 0)
            }
        }
    }

    /// A pool has no callers of its own.
    fn nothing_of_callers(&mut self, s: &Service, name: &str) {
        let fields = [
            ("handshake", s.handshake.as_ref().map(|f| &f.referenced)),
            ("unrouted", s.unrouted.as_ref().map(|f| &f.referenced)),
            ("thresholds", s.thresholds.as_ref().map(|f| &f.referenced)),
            (
                "sourceRanges",
                s.source_ranges.first().map(|f| &f.referenced),
            ),
        ];
        for (field, place) in fields {
            if let Some(place) = place {
                self.problem(
                    place.line(),
                    format!(
                        "service {name} has no VIP, so `{field}` is of no use: write it at the service whose routes \
                         lead here, or give this one `vips` and `port`"
                    ),
                );
            }
        }
    }

    /// Who answers handshakes, and whether only routes lead on.
    fn ways(&mut self, s: &Service, protocol: Option<Protocol>, name: &str) -> (Handshake, bool) {
        let is_udp = protocol == Some(Protocol::Udp);
        let asked = s.handshake.as_ref().and_then(|text| {
            let words = [("stream", Handshake::Stream), ("client", Handshake::Client)];
            let way = self.word(text, &words, &format!("handshake of service {name}"))?;
            if is_udp {
                self.problem(
                    text.referenced.line(),
                    format!("service {name} is udp, which has no handshake; remove `handshake`"),
                );
            }
            Some(way)
        });
        let handshake = asked.unwrap_or(if is_udp {
            Handshake::Client
        } else {
            Handshake::Stream
        });
        let routed_only = s.unrouted.as_ref().and_then(|text| {
            let words = [("default", false), ("reject", true)];
            let reject = self.word(text, &words, &format!("`unrouted` of service {name}"))?;
            if handshake == Handshake::Client {
                self.problem(
                    text.referenced.line(),
                    format!(
                        "`unrouted` of service {name}, which has no routes; they need `protocol: srt` and \
                         `handshake: stream`"
                    ),
                );
            }
            Some(reject)
        });
        (handshake, routed_only.unwrap_or(false))
    }

    fn warn_of_empty_families(
        &mut self,
        name: &str,
        (v4, v6): (bool, bool),
        sources: &[IpNet],
        backends: &[reconcile::Backend],
        routed_only: bool,
    ) {
        for (present, is_v4, word) in [(v4, true, "IPv4"), (v6, false, "IPv6")] {
            if present && !routed_only && !backends.iter().any(|b| b.address.is_ipv4() == is_v4) {
                self.warnings.push(format!(
                    "service {name} has an {word} VIP but no {word} backend: its packets are dropped (no_backend)"
                ));
            }
            let denied =
                !sources.is_empty() && !sources.iter().any(|r| r.addr().is_ipv4() == is_v4);
            if present && denied {
                self.warnings.push(format!(
                    "service {name} has an {word} VIP but no {word} source range: its packets are dropped (source_denied)"
                ));
            }
        }
    }

    fn protocol(&mut self, protocol: &Spanned<String>, name: &str) -> Option<Protocol> {
        let reason = match protocol.value.as_str() {
            "srt" => return Some(Protocol::Srt),
            "udp" => return Some(Protocol::Udp),
            later @ ("rtmp" | "tcp") => {
                format!("protocol {later} of service {name} is not yet supported; use srt or udp")
            }
            other => format!("unknown protocol {other:?} of service {name}; use srt or udp"),
        };
        self.problem(protocol.referenced.line(), reason);
        None
    }

    fn service_vips(
        &mut self,
        vips: &Spanned<Vec<Spanned<String>>>,
        port: u16,
        name: &str,
    ) -> Vec<IpAddr> {
        if vips.value.is_empty() {
            self.problem(
                vips.referenced.line(),
                format!("service {name} has no VIP; list at least one address"),
            );
        }
        let mut addresses = Vec::new();
        for text in &vips.value {
            let Some(address) = self.unicast(text, "VIP") else {
                continue;
            };
            addresses.push(address);
            let line = text.referenced.line();
            if port == 0 {
                continue;
            }
            match self.vips.get(&(address, port)) {
                Some((first, other)) => {
                    let reason = format!(
                        "VIP {address} port {port} of service {name} is already taken by {other} (line {first}); \
                         give one of them another port or VIP"
                    );
                    self.problem(line, reason);
                }
                None => {
                    self.vips.insert((address, port), (line, name.to_owned()));
                }
            }
            let count = self.vips.len();
            self.limit(
                line,
                count,
                abi::MAX_SERVICES,
                "VIP:ports on the node",
                "list fewer",
            );
        }
        addresses
    }

    fn source_ranges(
        &mut self,
        ranges: &[Spanned<String>],
        vips: &[IpAddr],
        name: &str,
    ) -> Vec<IpNet> {
        let mut networks = BTreeSet::new();
        for text in ranges {
            let Some(range) = self.address::<IpNet>(text, "source range", "198.51.100.0/24") else {
                continue;
            };
            let range = range.trunc();
            let users = vips
                .iter()
                .filter(|v| v.is_ipv4() == range.addr().is_ipv4())
                .count();
            if users == 0 && !vips.is_empty() {
                self.problem(
                    text.referenced.line(),
                    format!(
                        "source range {range} of service {name} is {}, and none of its VIPs is; \
                         remove it or add such a VIP",
                        family(range.addr())
                    ),
                );
            }
            if networks.insert(range) {
                let before = self.sources;
                self.sources += users;
                if before <= abi::MAX_SOURCES && self.sources > abi::MAX_SOURCES {
                    self.problem(
                        text.referenced.line(),
                        format!(
                            "more than {} source ranges on the node (each counts once a VIP); merge some",
                            abi::MAX_SOURCES
                        ),
                    );
                }
            }
        }
        networks.into_iter().collect()
    }
}
