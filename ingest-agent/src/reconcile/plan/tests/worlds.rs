//! Desired states at random.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    super::{
        super::{Handshake, Match, Mode, Protocol, Quota, Route, Service, Target, Text, What},
        *,
    },
    model::ip,
};

/// A small world, so that edits meet each other.
pub(super) fn desired() -> impl Strategy<Value = Desired> {
    let backend = (0_u8..12, any::<bool>(), 0_u8..8, 0_u32..3, 0_u32..3);
    let backend = backend.prop_map(|(i, draining, renamed, pod, process)| Backend {
        name: format!("live/pod-{i}{}", if renamed == 0 { "-new" } else { "" }),
        address: if i < 9 {
            ip(&format!("10.0.0.{}", i + 1))
        } else {
            ip(&format!("2001:db8:1::{i}"))
        },
        port: 9000 + u16::from(i % 2),
        draining,
        weight: u16::from(i % 3) + 1,
        limit: None,
        tenant: abi::Tenant { pod, process },
    });
    let service = (
        any::<[bool; 4]>(),
        prop::collection::vec(backend, 0..10),
        prop::collection::vec(0_u8..5, 0..3),
        any::<[bool; 5]>(),
        thresholds(),
    );
    let services = prop::collection::vec(service, 0..4);
    (services, prop::collection::vec(route(), 0..6)).prop_map(|(services, routes)| {
        let mut names = HashMap::new();
        let services = services.into_iter().enumerate().map(
            |(
                i,
                (
                    vips,
                    backends,
                    ranges,
                    [srt, affinity, elsewhere, stream, routed_only],
                    thresholds,
                ),
            )| {
                let all = ["203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2"];
                let chosen = all
                    .into_iter()
                    .zip(vips)
                    .filter(|(_, chosen)| *chosen)
                    .map(|(v, _)| v);
                let backends: BTreeMap<_, _> = backends
                    .into_iter()
                    .map(|b| ((b.address, b.port), b))
                    .collect();
                Service {
                    name: format!("live/{i}"),
                    vips: chosen.map(ip).collect(),
                    port: 9000 + i as u16,
                    protocol: if srt { Protocol::Srt } else { Protocol::Udp },
                    handshake: if stream {
                        Handshake::Stream
                    } else {
                        Handshake::Client
                    },
                    routed_only,
                    balance: false,
                    source_ranges: ranges
                        .into_iter()
                        .collect::<BTreeSet<_>>()
                        .into_iter()
                        .map(|r| format!("198.51.{r}.0/24").parse().unwrap())
                        .collect(),
                    affinity,
                    elsewhere,
                    thresholds,
                    // One pod has one name and one tenant, over all services.
                    backends: backends
                        .into_values()
                        .map(|b| {
                            let (name, tenant) = names
                                .entry((b.address, b.port))
                                .or_insert((b.name.clone(), b.tenant))
                                .clone();
                            Backend { name, tenant, ..b }
                        })
                        .collect(),
                }
            },
        );
        Desired {
            services: services.collect(),
            routes: routes
                .into_iter()
                .enumerate()
                .map(|(i, route)| Route {
                    name: format!("live/route-{i}{}", route.name),
                    ..route
                })
                .collect(),
        }
    })
}

/// A route that is often for a service, and to a pool, that are not there.
fn route() -> impl Strategy<Value = Route> {
    let text = prop_oneof![
        (0_u8..3).prop_map(|i| Text::Exact(format!("cam{i}"))),
        (0_u8..3).prop_map(|i| Text::Prefix(format!("cam{i}"))),
        Just(Text::Prefix(String::new())),
    ];
    let what = prop_oneof![
        text.clone().prop_map(What::StreamId),
        text.clone().prop_map(What::Resource),
        text.prop_map(What::User),
        Just(What::Mode),
        prop_oneof![Just("10.0.0.0/8"), Just("2001:db8::/32"), Just("0.0.0.0/0")]
            .prop_map(|range| What::Source(range.parse().unwrap())),
    ];
    let mode = prop_oneof![
        Just(None),
        Just(Some(Mode::Publish)),
        Just(Some(Mode::Request))
    ];
    let one = (what, mode).prop_map(|(what, mode)| Match {
        mode: if matches!(what, What::Source(_)) {
            None
        } else {
            mode
        },
        what,
    });
    let target = prop_oneof![
        (0_u8..4).prop_map(|i| Target::Pool(format!("live/{i}"))),
        Just(Target::Reject)
    ];
    (
        any::<bool>(),
        0_u8..4,
        prop::collection::vec(one, 1..4),
        target,
        0_u32..3,
        thresholds(),
    )
        .prop_map(
            |(renamed, service, matches, target, streams, thresholds)| Route {
                name: if renamed { "-new" } else { "" }.to_owned(),
                service: format!("live/{service}"),
                matches,
                target,
                quota: Quota {
                    streams: (streams > 0).then_some(streams),
                    ..Quota::default()
                },
                thresholds,
            },
        )
}

/// Often none.
fn thresholds() -> impl Strategy<Value = abi::Thresholds> {
    (0_u32..3).prop_map(|max_rtt| abi::Thresholds {
        max_rtt,
        ..Default::default()
    })
}
