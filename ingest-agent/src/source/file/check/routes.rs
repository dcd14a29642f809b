//! Routes: what they look for, where they lead, and what their streams may use.

use std::{collections::HashSet, net::IpAddr, ops::RangeInclusive};

use ingest_common::abi;
use ipnet::IpNet;
use serde_saphyr::Spanned;

use super::{Checker, family};
use crate::{
    reconcile::{self, Handshake, Match, Mode, Protocol, Service, Target, What},
    source::file::schema,
};

/// Bits a second. Less is not even a packet a second; more is no limit of any network.
const BITRATES: RangeInclusive<i64> = 16_000..=1_000_000_000_000;
/// New sessions a second.
const RATES: RangeInclusive<i64> = 1..=1_000_000;

impl Checker {
    pub(super) fn route(
        &mut self,
        route: &Spanned<schema::Route>,
        services: &[Service],
    ) -> Option<reconcile::Route> {
        let problems_before = self.problems.len();
        let r = &route.value;
        let line = r.name.referenced.line();
        let name = self.name(&r.name, "route");
        if let Some(first) = self.routes.insert(name.clone(), line) {
            self.problem(
                line,
                format!("route {name} is listed twice (first at line {first}); merge the two"),
            );
        }
        let count = self.routes.len();
        // Index 0 says that no route matched.
        self.limit(line, count, abi::MAX_ROUTES - 1, "routes", "merge some");
        let service = self.routed_service(&r.service, &name, services);
        let target = self.target(r, line, &name, service, services);
        if r.matches.value.is_empty() {
            self.problem(
                r.matches.referenced.line(),
                format!(
                    "route {name} matches nothing; list at least one of `streamId`, `resource`, `user`, `host`, \
                     `mode`, `source`"
                ),
            );
        }
        let vips = service.map(|s| s.vips.as_slice()).unwrap_or_default();
        let mut matches = Vec::new();
        for listed in &r.matches.value {
            let line = listed.referenced.line();
            let Some(found) = self.one_match(&listed.value, line, &name, vips) else {
                continue;
            };
            let key = (r.service.value.clone(), found.clone());
            if let Some((first, other)) = self.matches.get(&key) {
                let reason = format!(
                    "this match of route {name} is also one of route {other} (line {first}); remove one of them"
                );
                self.problem(line, reason);
            } else {
                self.matches.insert(key, (line, name.clone()));
                self.count_entries(line, vips.iter().filter(|vip| found.is_for(**vip)).count());
            }
            matches.push(found);
        }
        let quota = self.quota(&r.quota, &name);
        let thresholds = self.thresholds(r.thresholds.as_ref(), &format!("route {name}"));
        if let (Some(Target::Reject), Some(given)) = (&target, &r.thresholds) {
            self.problem(
                given.referenced.line(),
                format!("route {name} rejects, so no stream of it has `thresholds`: remove them"),
            );
        }
        if self.problems.len() > problems_before {
            return None;
        }
        Some(reconcile::Route {
            name,
            service: service?.name.clone(),
            matches,
            target: target?,
            quota,
            thresholds,
        })
    }

    fn count_entries(&mut self, line: u64, entries: usize) {
        let before = self.match_entries;
        self.match_entries += entries;
        if before <= abi::MAX_MATCHES && self.match_entries > abi::MAX_MATCHES {
            self.problem(
                line,
                format!(
                    "more than {} matches (each counts once a VIP); merge some",
                    abi::MAX_MATCHES
                ),
            );
        }
    }

    /// The service by that name. `None` without a problem where the service has one of its own.
    fn named<'a>(
        &mut self,
        text: &Spanned<String>,
        what: &str,
        services: &'a [Service],
    ) -> Option<&'a Service> {
        let found = services.iter().find(|s| s.name == text.value);
        if found.is_none() && !self.services.contains_key(&text.value) {
            self.problem(
                text.referenced.line(),
                format!(
                    "{what} names service {:?}, which is not in the file; add it, or write the name of another one",
                    text.value
                ),
            );
        }
        found
    }

    fn routed_service<'a>(
        &mut self,
        text: &Spanned<String>,
        route: &str,
        services: &'a [Service],
    ) -> Option<&'a Service> {
        let service = self.named(text, &format!("route {route}"), services)?;
        let name = &service.name;
        let reason = if service.vips.is_empty() {
            format!(
                "route {route} is for callers of service {name}, which has no VIP; give it `vips` and `port`"
            )
        } else if service.protocol != Protocol::Srt {
            format!(
                "route {route} is for callers of service {name}, which is udp; routes need `protocol: srt`"
            )
        } else if service.handshake != Handshake::Stream {
            format!(
                "route {route} is for callers of service {name}, whose pods answer handshakes; \
                 set `handshake: stream` there"
            )
        } else {
            return Some(service);
        };
        self.problem(text.referenced.line(), reason);
        None
    }

    fn target(
        &mut self,
        r: &schema::Route,
        line: u64,
        route: &str,
        service: Option<&Service>,
        services: &[Service],
    ) -> Option<Target> {
        let rejects = r.reject.as_ref().is_some_and(|reject| reject.value);
        match (&r.pool, rejects) {
            (None, true) => Some(Target::Reject),
            (Some(pool), false) => {
                let what = format!("`pool` of route {route}");
                let found = self.named(pool, &what, services)?;
                if found.protocol != Protocol::Srt {
                    self.problem(
                        pool.referenced.line(),
                        format!(
                            "{what} names service {}, which is udp; srt callers need srt pods",
                            found.name
                        ),
                    );
                    return None;
                }
                for is_v4 in families(service) {
                    self.pool(pool.referenced.line(), &found.name, is_v4);
                }
                self.warn_of_missing_family(route, found, service);
                Some(Target::Pool(found.name.clone()))
            }
            (None, false) => {
                self.problem(
                    line,
                    format!("route {route} leads nowhere; write `pool:` and the name of a service, or `reject: true`"),
                );
                None
            }
            (Some(pool), true) => {
                self.problem(
                    pool.referenced.line(),
                    format!("route {route} has a pool and rejects; write either `pool` or `reject: true`"),
                );
                None
            }
        }
    }

    fn warn_of_missing_family(&mut self, route: &str, pool: &Service, service: Option<&Service>) {
        for is_v4 in families(service) {
            if !pool.backends.iter().any(|b| b.address.is_ipv4() == is_v4) {
                let word = if is_v4 { "IPv4" } else { "IPv6" };
                self.warnings.push(format!(
                    "route {route}: pool {} has no {word} backend: callers of the {word} VIP are refused (no_backend)",
                    pool.name
                ));
            }
        }
    }

    /// Services that nobody reaches.
    pub(super) fn warn_of_unused_pools(
        &mut self,
        services: &[Service],
        routes: &[reconcile::Route],
    ) {
        let named: HashSet<&str> = routes
            .iter()
            .filter_map(|route| match &route.target {
                Target::Pool(name) => Some(name.as_str()),
                Target::Reject => None,
            })
            .collect();
        let unused = services
            .iter()
            .filter(|s| s.vips.is_empty() && !named.contains(s.name.as_str()));
        self.warnings.extend(unused.map(|s| {
            format!(
                "service {} has no VIP, and no route leads to it: its backends get nobody",
                s.name
            )
        }));
    }

    fn one_match(
        &mut self,
        m: &schema::Match,
        line: u64,
        route: &str,
        vips: &[IpAddr],
    ) -> Option<Match> {
        let problems_before = self.problems.len();
        let texts: [(_, fn(_) -> What, _); 4] = [
            ("streamId", What::StreamId, &m.stream_id),
            ("resource", What::Resource, &m.resource),
            ("user", What::User, &m.user),
            ("host", What::Host, &m.host),
        ];
        let mut found = Vec::new();
        for (field, what, text) in texts {
            if let Some(text) = text {
                found.push(what(self.text(text, field, line, route)));
            }
        }
        if let Some(source) = &m.source {
            let what = format!("source of route {route}");
            let range: IpNet = self.address(source, &what, "198.51.100.0/24")?;
            if !vips.is_empty() && !vips.iter().any(|v| v.is_ipv4() == range.addr().is_ipv4()) {
                self.problem(
                    source.referenced.line(),
                    format!(
                        "{what} is {}, and no VIP of its service is; remove it or add such a VIP",
                        family(range.addr())
                    ),
                );
            }
            if let Some(mode) = &m.mode {
                self.problem(
                    mode.referenced.line(),
                    format!(
                        "a match of route {route} asks for a source and a mode; sources count only where no Stream ID \
                         matches: remove one of the two"
                    ),
                );
            }
            found.push(What::Source(range.trunc()));
        }
        let mode = m.mode.as_ref().and_then(|text| {
            let words = [("publish", Mode::Publish), ("request", Mode::Request)];
            self.word(text, &words, &format!("mode of route {route}"))
        });
        if found.len() > 1 {
            self.problem(
                line,
                format!(
                    "a match of route {route} asks for {} things; one match looks at one of them (and the mode): \
                     the first of the list that fits best decides",
                    found.len()
                ),
            );
        }
        if found.is_empty() && m.mode.is_none() {
            self.problem(
                line,
                format!(
                    "a match of route {route} asks for nothing; to match any Stream ID write \
                     `streamId: {{prefix: \"\"}}`"
                ),
            );
        }
        (self.problems.len() == problems_before).then(|| Match {
            what: found.pop().unwrap_or(What::Mode),
            mode,
        })
    }

    fn text(
        &mut self,
        text: &schema::Text,
        field: &str,
        line: u64,
        route: &str,
    ) -> reconcile::Text {
        let (value, most, text) = match text {
            schema::Text::Exact(value) => (
                value,
                // And the zero behind it.
                abi::ROUTE_TEXT - 1,
                reconcile::Text::Exact(value.clone()),
            ),
            schema::Text::Prefix(value) => (
                value,
                abi::ROUTE_TEXT,
                reconcile::Text::Prefix(value.clone()),
            ),
        };
        let remedy = if value.len() > most {
            format!(
                "has {} bytes; at most {most} are looked at: match a shorter prefix",
                value.len()
            )
        } else if value.bytes().any(|b| b < 0x20 || b == 0x7f) {
            "has control characters, and Stream IDs with such are refused: remove them".to_owned()
        } else if value.is_empty() && matches!(text, reconcile::Text::Exact(_)) {
            "is empty, and that no caller sends; for any text write `prefix: \"\"`".to_owned()
        } else {
            return text;
        };
        self.problem(line, format!("{field} of route {route} {remedy}"));
        text
    }

    fn quota(&mut self, quota: &schema::Quota, route: &str) -> reconcile::Quota {
        let what = |which| format!("{which} of route {route}");
        reconcile::Quota {
            streams: self.number(
                quota.streams.as_ref(),
                1..=u32::MAX.into(),
                &what("quota.streams"),
                "; to let nobody in write `reject: true`",
            ),
            sessions_per_second: self.number(
                quota.sessions_per_second.as_ref(),
                RATES,
                &what("quota.sessionsPerSecond"),
                "",
            ),
            stream_bitrate: self.number(
                quota.stream_bitrate.as_ref(),
                BITRATES,
                &what("quota.streamBitrate"),
                " bits a second",
            ),
            bitrate: self.number(
                quota.bitrate.as_ref(),
                BITRATES,
                &what("quota.bitrate"),
                " bits a second",
            ),
        }
    }
}

/// The families of a service's VIPs, IPv4 first.
fn families(service: Option<&Service>) -> impl Iterator<Item = bool> {
    let vips = service.map(|s| s.vips.as_slice()).unwrap_or_default();
    [true, false]
        .into_iter()
        .filter(|is_v4| vips.iter().any(|vip| vip.is_ipv4() == *is_v4))
}
