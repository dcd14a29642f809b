//! What YAML cannot say: every rule that a file must keep, with the line that breaks it and the remedy.

mod backends;
mod routes;
mod services;
mod thresholds;

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Display,
    net::IpAddr,
    ops::RangeInclusive,
    str::FromStr,
};

use ingest_common::abi;
use serde_saphyr::Spanned;

use super::{
    error::Problem,
    schema::{File, OneOrMany},
};
use crate::{
    reconcile::{self, Desired},
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
    let routes: Vec<_> = file
        .routes
        .iter()
        .filter_map(|r| checker.route(r, &services))
        .collect();
    checker.warn_of_unused_pools(&services, &routes);
    let Checker {
        mut problems,
        warnings,
        ..
    } = checker;
    if problems.is_empty() {
        Ok(Snapshot {
            uplinks,
            desired: Desired { services, routes },
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
    /// Route name → line.
    routes: HashMap<String, u64>,
    /// Service, and what a route of it looks for → line and route.
    matches: HashMap<(String, reconcile::Match), (u64, String)>,
    /// VIP:port → line and service.
    vips: HashMap<(IpAddr, u16), (u64, String)>,
    /// Backend address:port → its first line.
    backends: HashMap<(IpAddr, u16), Listed>,
    /// Service name, and whether the pool is of IPv4.
    pools: BTreeSet<(String, bool)>,
    sources: usize,
    /// Of all routes, counted once a VIP.
    match_entries: usize,
}

/// Where a backend is listed first.
struct Listed {
    line: u64,
    name: String,
    limit: Option<u32>,
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

    /// A whole number within a range; `None` also where it is not given.
    fn number<T: TryFrom<i64>>(
        &mut self,
        number: Option<&Spanned<i64>>,
        range: RangeInclusive<i64>,
        what: &str,
        unit: &str,
    ) -> Option<T> {
        let number = number?;
        if range.contains(&number.value) {
            return T::try_from(number.value).ok();
        }
        self.problem(
            number.referenced.line(),
            format!(
                "{what} {}; use {} to {}{unit}",
                number.value,
                range.start(),
                range.end()
            ),
        );
        None
    }

    /// One of `words`; says so where it is another.
    fn word<T: Copy>(
        &mut self,
        text: &Spanned<String>,
        words: &[(&str, T)],
        what: &str,
    ) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.problem(
                text.referenced.line(),
                format!(
                    "unknown {what} {:?}; use {}",
                    text.value,
                    words.join(" or ")
                ),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// Counts a pool: a service's backends of one address family.
    fn pool(&mut self, line: u64, service: &str, is_v4: bool) {
        if self.pools.insert((service.to_owned(), is_v4)) {
            let count = self.pools.len();
            self.limit(
                line,
                count,
                abi::MAX_POOLS,
                "pools (one a service and address family)",
                "list fewer services",
            );
        }
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
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
