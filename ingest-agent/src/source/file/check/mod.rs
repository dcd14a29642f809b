//! What YAML cannot say: every rule that a file must keep, with the line that breaks it and the remedy.

mod backends;

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Display,
    net::IpAddr,
    str::FromStr,
};

use ingest_common::abi;
use ipnet::IpNet;
use serde_saphyr::Spanned;

use super::{
    error::Problem,
    schema::{File, OneOrMany, Service},
};
use crate::{
    reconcile::{self, Desired, Protocol},
    source::{Snapshot, not_unicast},
};

/// Most uplinks: what `NODE` has room for.
const MAX_UPLINKS: usize = 8;
/// Linux's IFNAMSIZ without the final zero.
const MAX_INTERFACE_NAME: usize = 15;
/// What [`abi::Name`] holds.
const MAX_NAME: usize = 128;

/// Checks the whole file and collects all that is wrong with it.
pub(super) fn check(file: File) -> Result<Snapshot, Vec<Problem>> {
    let mut checker = Checker::default();
    let uplinks = checker.uplinks(file.uplink);
    let services: Vec<_> = file
        .services
        .into_iter()
        .filter_map(|s| checker.service(&s))
        .collect();
    checker.vips_are_not_backends();
    let Checker {
        mut problems,
        warnings,
        ..
    } = checker;
    if problems.is_empty() {
        Ok(Snapshot {
            uplinks,
            desired: Desired {
                services,
                routes: Vec::new(),
            },
            warnings,
        })
    } else {
        problems.sort_by_key(|p| p.line);
        Err(problems)
    }
}

#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// Service name → line.
    services: HashMap<String, u64>,
    /// VIP:port → line and service.
    vips: HashMap<(IpAddr, u16), (u64, String)>,
    /// Backend address:port → line and name.
    backends: HashMap<(IpAddr, u16), (u64, String)>,
    pools: usize,
    sources: usize,
}

impl Checker {
    fn problem(&mut self, line: u64, reason: impl Into<String>) {
        self.problems.push(Problem {
            line,
            reason: reason.into(),
        });
    }

    /// Notes that a count has just gone over its limit; says so once.
    fn limit(&mut self, line: u64, count: usize, limit: usize, what: &str, remedy: &str) {
        if count == limit + 1 {
            self.problem(line, format!("more than {limit} {what}; {remedy}"));
        }
    }

    fn uplinks(&mut self, uplink: Spanned<OneOrMany>) -> Vec<String> {
        let line = uplink.referenced.line();
        let names = match uplink.value {
            OneOrMany::One(name) => vec![name],
            OneOrMany::Many(names) => names,
        };
        if names.is_empty() {
            self.problem(
                line,
                "no uplink; name the interface that clients' packets come in by",
            );
        }
        self.limit(
            line,
            names.len().min(MAX_UPLINKS + 1),
            MAX_UPLINKS,
            "uplinks",
            "list fewer",
        );
        let mut seen = BTreeSet::new();
        for name in &names {
            let usable = !name.is_empty()
                && name.len() <= MAX_INTERFACE_NAME
                && name
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
                && name != "."
                && name != "..";
            if !usable {
                self.problem(
                    line,
                    format!(
                        "uplink {name:?} cannot be an interface name; `ip link` lists those of this node"
                    ),
                );
            }
            if !seen.insert(name.as_str()) {
                self.problem(line, format!("uplink {name} is listed twice; list it once"));
            }
        }
        names
    }

    fn service(&mut self, service: &Spanned<Service>) -> Option<reconcile::Service> {
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
        let port = self.port(&s.port, "service", &name);
        let protocol = self.protocol(&s.protocol, &name);
        let vips = self.service_vips(&s.vips, port, &name);
        let families = (
            vips.iter().any(IpAddr::is_ipv4),
            vips.iter().any(IpAddr::is_ipv6),
        );
        self.pools += usize::from(families.0) + usize::from(families.1);
        if self.pools > abi::MAX_POOLS && self.pools - 2 < abi::MAX_POOLS {
            self.problem(
                line,
                format!(
                    "more than {} pools (one a service and address family); list fewer services",
                    abi::MAX_POOLS
                ),
            );
        }
        let source_ranges = self.source_ranges(&s.source_ranges, &vips, &name);
        let backends = self.service_backends(&s.backends, &vips, &name);
        if self.problems.len() > problems_before {
            return None;
        }
        self.warn_of_empty_families(&name, families, &source_ranges, &backends);
        Some(reconcile::Service {
            name,
            vips,
            port,
            protocol: protocol?,
            handshake: reconcile::Handshake::Client,
            routed_only: false,
            balance: false,
            source_ranges,
            affinity: false,
            elsewhere: false,
            backends,
        })
    }

    fn warn_of_empty_families(
        &mut self,
        name: &str,
        (v4, v6): (bool, bool),
        sources: &[IpNet],
        backends: &[reconcile::Backend],
    ) {
        for (present, is_v4, word) in [(v4, true, "IPv4"), (v6, false, "IPv6")] {
            if present && !backends.iter().any(|b| b.address.is_ipv4() == is_v4) {
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

    fn name(&mut self, name: &Spanned<String>, what: &str) -> String {
        let (line, text) = (name.referenced.line(), &name.value);
        let part = |p: &str| {
            !p.is_empty()
                && p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if text.len() > MAX_NAME {
            self.problem(
                line,
                format!(
                    "{what} name of {} bytes; at most {MAX_NAME} are kept",
                    text.len()
                ),
            );
        } else if !text
            .split_once('/')
            .is_some_and(|(ns, n)| part(ns) && part(n))
        {
            self.problem(
                line,
                format!(
                    "{what} name {text:?} is not `namespace/name` (letters, digits, '-', '_', '.'); \
                     write for example live/{what}-a"
                ),
            );
        }
        text.clone()
    }

    /// Gives 0 where there is a problem.
    fn port(&mut self, port: &Spanned<i64>, what: &str, name: &str) -> u16 {
        match u16::try_from(port.value) {
            Ok(port) if port != 0 => port,
            _ => {
                self.problem(
                    port.referenced.line(),
                    format!(
                        "port {} of {what} {name}; use one from 1 to 65535",
                        port.value
                    ),
                );
                0
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

    fn address<T: FromStr>(
        &mut self,
        text: &Spanned<String>,
        what: &str,
        example: &str,
    ) -> Option<T>
    where
        T::Err: Display,
    {
        let parsed = text.value.parse();
        if let Err(error) = &parsed {
            self.problem(
                text.referenced.line(),
                format!(
                    "{what} {:?}: {error}; write for example {example}",
                    text.value
                ),
            );
        }
        parsed.ok()
    }

    /// An address that a host can have and packets can be steered to.
    fn unicast(&mut self, text: &Spanned<String>, what: &str) -> Option<IpAddr> {
        let address = self.address(text, what, "203.0.113.10 or \"2001:db8::10\"")?;
        let Some(kind) = not_unicast(address) else {
            return Some(address);
        };
        self.problem(
            text.referenced.line(),
            format!("{what} {address} is {kind} address; use a unicast address of the network"),
        );
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

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
