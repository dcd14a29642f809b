//! Handshakes that the kernel answers, and routes.

use std::fmt;

use ingest_common::{
    abi::{RouteStats, SpliceStats},
    srt::Rejection,
};
use prometheus_client::encoding::DescriptorEncoder;

use super::{count, counter, gauge, set};
use crate::dataplane::{RouteView, ServiceView};

/// Value of the one more label, and what it reads: a number, or packets and bytes.
type Series<S, V> = (&'static str, fn(&S) -> V);

/// Of handshakes, by `result`.
const RESULTS: [Series<SpliceStats, u64>; 8] = [
    ("answered", |s| s.cookies_sent),
    ("valid", |s| s.cookies_valid),
    ("stale", |s| s.cookies_stale),
    ("forged", |s| s.cookies_forged),
    ("spliced", |s| s.splices),
    ("lazy", |s| s.lazies),
    ("rewritten", |s| s.rewritten),
    ("surplus", |s| s.surplus),
];

/// Of what a route did not let in, by `reason`.
const REFUSED: [Series<RouteStats, u64>; 3] = [
    ("quota_streams", |s| s.refused_streams),
    ("quota_sessions", |s| s.refused_sessions),
    ("forbidden", |s| s.forbidden),
];

/// Of what was over a bitrate, by `reason`.
const DROPPED: [Series<RouteStats, [u64; 2]>; 2] = [
    ("quota_stream_bitrate", |s| {
        [s.over_stream_packets, s.over_stream_bytes]
    }),
    ("quota_route_bitrate", |s| {
        [s.over_route_packets, s.over_route_bytes]
    }),
];

/// By service; `services` have their names and VIPs.
pub(super) fn handshakes(
    encoder: &mut DescriptorEncoder<'_>,
    services: &[(&str, String, &ServiceView)],
) -> fmt::Result {
    let help = "Handshakes that are answered here, by what became of them";
    let mut handshakes = counter(encoder, "handshakes", help)?;
    for (name, vip, view) in services {
        for (result, read) in RESULTS {
            let labels = [("service", *name), ("vip", vip), ("result", result)];
            count(&mut handshakes, &labels, read(&view.splices))?;
        }
    }
    let help = "Sessions that were refused here, by the code that their callers were told";
    let mut rejections = counter(encoder, "rejections", help)?;
    for (name, vip, view) in services {
        for (rejection, sent) in Rejection::ALL.iter().zip(view.splices.rejected) {
            let code = rejection.code().to_string();
            let labels = [("service", *name), ("vip", vip), ("code", &code)];
            count(&mut rejections, &labels, sent)?;
        }
    }
    let help =
        "Sessions that were refused here without a word, since their source was told so lately";
    let mut unsaid = counter(encoder, "rejections_unsaid", help)?;
    for (name, vip, view) in services {
        let labels = [("service", *name), ("vip", vip)];
        count(&mut unsaid, &labels, view.splices.unsaid)?;
    }
    Ok(())
}

/// By name: a route's series go with it.
pub(super) fn routes(encoder: &mut DescriptorEncoder<'_>, routes: &[RouteView]) -> fmt::Result {
    let routes: Vec<_> = labels(routes).zip(routes).collect();
    let mut sessions = gauge(encoder, "route_sessions", "Sessions of the route")?;
    for (name, view) in &routes {
        let active = view.active.try_into().unwrap_or(i64::MAX);
        set(&mut sessions, &[("route", name)], active)?;
    }
    let help = "Most sessions of the route at once, where that is bounded";
    let mut limit = gauge(encoder, "route_sessions_limit", help)?;
    for (name, view) in routes.iter().filter(|(_, view)| view.quota.streams != 0) {
        set(&mut limit, &[("route", name)], view.quota.streams.into())?;
    }
    let help = "Sessions of the route that a pod accepted";
    let mut accepted = counter(encoder, "route_accepted", help)?;
    for (name, view) in &routes {
        count(&mut accepted, &[("route", name)], view.stats.accepted)?;
    }
    let help = "Sessions of the route that were refused, by reason";
    let mut refused = counter(encoder, "route_refused", help)?;
    for (name, view) in &routes {
        for (reason, read) in REFUSED {
            let labels = [("route", name.as_str()), ("reason", reason)];
            count(&mut refused, &labels, read(&view.stats))?;
        }
    }
    let helps = [
        (
            "route_dropped_packets",
            "Packets of the route dropped since they were over a bitrate, by whose",
        ),
        ("route_dropped_bytes", "UDP payload bytes of these packets"),
    ];
    for (unit, (family, help)) in helps.into_iter().enumerate() {
        let mut dropped = counter(encoder, family, help)?;
        for (name, view) in &routes {
            for (reason, read) in DROPPED {
                let labels = [("route", name.as_str()), ("reason", reason)];
                let value = read(&view.stats).get(unit).copied().unwrap_or_default();
                count(&mut dropped, &labels, value)?;
            }
        }
    }
    Ok(())
}

/// When the agent stops to rotate, this grows.
pub(super) fn secret(
    encoder: &mut DescriptorEncoder<'_>,
    since_ns: Option<u64>,
    now_ns: u64,
) -> fmt::Result {
    let help = "Age of the secret that makes cookies; absent: there is none yet";
    let mut age = gauge(encoder, "cookie_secret_age_seconds", help)?;
    if let Some(since_ns) = since_ns {
        let seconds = now_ns.saturating_sub(since_ns) / 1_000_000_000;
        set(&mut age, &[], seconds.cast_signed())?;
    }
    Ok(())
}

/// The routes' names, which are kept in 128 bytes: longer ones may end up the same, and a series must not come twice.
fn labels(routes: &[RouteView]) -> impl Iterator<Item = String> {
    routes.iter().map(|view| {
        let is_first = routes
            .iter()
            .find(|other| other.name == view.name)
            .is_none_or(|first| first.route == view.route);
        if is_first {
            view.name.clone()
        } else {
            format!("{}~{}", view.name, view.route)
        }
    })
}
