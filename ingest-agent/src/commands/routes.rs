//! `ingest-agent routes`

use std::{collections::BTreeSet, path::Path};

use ingest_common::abi;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    cli::Output,
    dataplane::{Reader, RouteView, ServiceView},
    error::Error,
    output::{self, bitrate, bytes, dash, print},
    source::thresholds::shown,
};

/// A route: which streams of a service go where, and what they may use.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RouteRow {
    /// `namespace/name`
    pub name: String,
    /// Index of its counters.
    pub id: u16,
    /// `namespace/name` of the services whose callers it is for.
    pub services: Vec<String>,
    /// Indexes of the Maglev tables that it leads to: one an address family.
    pub pools: Vec<u16>,
    /// Whether it rejects.
    pub rejects: bool,
    /// Matches, counted once a VIP.
    pub matches: usize,
    /// Sessions now.
    pub sessions: u64,
    /// Most sessions at once; absent: no bound.
    pub sessions_limit: Option<u32>,
    /// New sessions a second; absent: no bound.
    pub sessions_per_second_limit: Option<f64>,
    /// UDP payload bits a second of each stream; absent: no bound.
    pub stream_bits_per_second_limit: Option<f64>,
    /// UDP payload bits a second of all its streams; absent: no bound.
    pub bits_per_second_limit: Option<f64>,
    /// Its thresholds, as the services' annotation has them; absent: those of its services.
    pub thresholds: Option<String>,
    /// Sessions accepted by pods.
    pub accepted: u64,
    /// Sessions refused since there were as many as there may be.
    pub refused_streams: u64,
    /// Sessions refused since new ones came too fast.
    pub refused_sessions: u64,
    /// Sessions refused since the route rejects.
    pub forbidden: u64,
    /// Packets dropped since their stream was over its bitrate.
    pub over_stream_packets: u64,
    /// UDP payload bytes of them.
    pub over_stream_bytes: u64,
    /// Packets dropped since all streams together were over the bitrate.
    pub over_route_packets: u64,
    /// UDP payload bytes of them.
    pub over_route_bytes: u64,
}

pub(super) fn run(pin_root: &Path, output: Output) -> Result<(), Error> {
    let reader = Reader::open(pin_root)?;
    let rows = rows(&reader.routes()?, &reader.services()?);
    print(output, &rows, |rows| table(rows))
}

pub(crate) fn rows(routes: &[RouteView], services: &[ServiceView]) -> Vec<RouteRow> {
    routes
        .iter()
        .map(|view| {
            let RouteView {
                route,
                name,
                pools,
                matches,
                quota,
                active,
                stats,
                thresholds,
            } = view;
            let mut names: Vec<String> = services
                .iter()
                .filter(|s| pools.contains_key(&s.service.id))
                .map(|s| s.name.clone())
                .collect();
            names.dedup();
            let own: BTreeSet<u16> = pools.values().copied().collect();
            RouteRow {
                name: name.clone(),
                id: *route,
                services: names,
                pools: own.iter().copied().filter(|p| *p != abi::NO_POOL).collect(),
                rejects: own.contains(&abi::NO_POOL),
                matches: *matches,
                sessions: *active,
                sessions_limit: (quota.streams > 0).then_some(quota.streams),
                sessions_per_second_limit: a_second(quota.session_interval_ns),
                stream_bits_per_second_limit: bits_a_second(quota.stream_byte_cost),
                bits_per_second_limit: bits_a_second(quota.route_byte_cost),
                thresholds: shown(thresholds),
                accepted: stats.accepted,
                refused_streams: stats.refused_streams,
                refused_sessions: stats.refused_sessions,
                forbidden: stats.forbidden,
                over_stream_packets: stats.over_stream_packets,
                over_stream_bytes: stats.over_stream_bytes,
                over_route_packets: stats.over_route_packets,
                over_route_bytes: stats.over_route_bytes,
            }
        })
        .collect()
}

/// How often something may happen that may happen every so many ns.
#[expect(clippy::cast_precision_loss, reason = "intervals are far below 2^53")]
fn a_second(interval_ns: u64) -> Option<f64> {
    (interval_ns > 0).then(|| rounded(1e9 / interval_ns as f64))
}

/// The bitrate of a cost: ns a byte, times 65536.
#[expect(clippy::cast_precision_loss, reason = "costs are far below 2^53")]
fn bits_a_second(byte_cost: u64) -> Option<f64> {
    (byte_cost > 0).then(|| rounded(8e9 * 65_536.0 / byte_cost as f64))
}

/// To what was configured: the maps hold the reciprocal, a whole number.
fn rounded(value: f64) -> f64 {
    let digits = 10_f64.powi(5 - value.log10().floor() as i32);
    (value * digits).round() / digits
}

fn table(rows: &[RouteRow]) -> String {
    if rows.is_empty() {
        return "no routes".to_owned();
    }
    output::table(
        [
            "ROUTE",
            "SERVICE",
            "POOL",
            ">MATCHES",
            ">SESSIONS",
            ">NEW",
            ">STREAM",
            ">ALL",
            ">ACCEPTED",
            ">REFUSED",
            ">DROPPED",
            "THRESHOLDS",
        ],
        rows.iter().map(|r| {
            [
                r.name.clone(),
                or_dash(r.services.join(" ")),
                pool(r),
                r.matches.to_string(),
                match r.sessions_limit {
                    Some(limit) => format!("{} of {limit}", r.sessions),
                    None => r.sessions.to_string(),
                },
                r.sessions_per_second_limit
                    .map_or_else(dash, |rate| format!("{rate}/s")),
                r.stream_bits_per_second_limit.map_or_else(dash, bitrate),
                r.bits_per_second_limit.map_or_else(dash, bitrate),
                r.accepted.to_string(),
                (r.refused_streams + r.refused_sessions + r.forbidden).to_string(),
                bytes(r.over_stream_bytes + r.over_route_bytes),
                r.thresholds.clone().unwrap_or_else(dash),
            ]
        }),
    )
}

fn pool(row: &RouteRow) -> String {
    if row.rejects {
        return "reject".to_owned();
    }
    let pools: Vec<_> = row.pools.iter().map(u16::to_string).collect();
    or_dash(pools.join(" "))
}

fn or_dash(text: String) -> String {
    if text.is_empty() { dash() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::services::tests::service;

    #[test]
    fn rows_say_what_was_configured_and_what_came_of_it() {
        let acme = RouteView {
            route: 7,
            name: "live/acme".into(),
            pools: [(3, 5), (4, 5)].into(),
            matches: 6,
            quota: abi::Quota {
                // 5 a second, 20 and 99.9 Mbit/s.
                session_interval_ns: 200_000_000,
                stream_byte_cost: 8_000_000_000 * 65_536 / 20_000_000,
                route_byte_cost: 8_000_000_000 * 65_536 / 99_900_000,
                streams: 10,
                in_use: 1,
                ..Default::default()
            },
            active: 9,
            thresholds: abi::Thresholds {
                min_bitrate: 2_000_000,
                ..Default::default()
            },
            stats: abi::RouteStats {
                accepted: 12,
                refused_streams: 2,
                refused_sessions: 3,
                over_stream_bytes: 1_000,
                over_route_bytes: 500,
                ..Default::default()
            },
        };
        let banned = RouteView {
            route: 8,
            name: "live/banned".into(),
            pools: [(3, abi::NO_POOL)].into(),
            ..Default::default()
        };
        // One service with two VIPs.
        let services = [service(3), service(4)];
        let rows = rows(&[acme, banned], &services);
        assert_eq!(rows[0].services, ["live/srt"]);
        assert_eq!(rows[0].sessions_per_second_limit, Some(5.0));
        assert_eq!(rows[0].stream_bits_per_second_limit, Some(20e6));
        assert_eq!(rows[0].bits_per_second_limit, Some(99.9e6));
        assert!(rows[1].rejects && rows[1].pools.is_empty());
        let text = table(&rows);
        for part in [
            "9 of 10",
            "5/s",
            "20.0 Mbit/s",
            "99.9 Mbit/s",
            "1.5 kB",
            "reject",
            "minBitrate=2000000",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(json[0]["sessions_limit"], 10);
        assert_eq!(json[1]["sessions_limit"], serde_json::Value::Null);
    }
}
