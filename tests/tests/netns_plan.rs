//! Plans written to real maps.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod lab;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ingest_agent::{
    dataplane::{Reader, now_ns},
    reconcile::{
        Backend, Desired, Handshake, Match, Mode, Observed, Op, PlanOptions, PodPort, Protocol,
        Quota, Route, Service, Target, Text, What, plan,
    },
};
use ingest_common::abi::{self, DeliveryMode};
use lab::{PinRoot, load_and_attach, run, with_uplink};
use nix::net::if_::if_nametoindex;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any},
    prop_oneof,
    strategy::ValueTree,
    test_runner::TestRunner,
};

const PLANS: usize = 60;

fn backend() -> impl Strategy<Value = Backend> {
    (0_u8..12, 0_u8..4, any::<bool>(), 0_u32..3, 0_u32..3).prop_map(
        |(i, renamed, draining, pod, process)| Backend {
            name: format!("live/pod-{i}{}", if renamed == 0 { "-new" } else { "" }),
            address: if i < 9 {
                IpAddr::from([10, 0, 0, i])
            } else {
                format!("2001:db8:1::{i}").parse().unwrap()
            },
            port: 9000,
            draining,
            weight: u16::from(i % 2) + 1,
            limit: (i == 3).then_some(40),
            tenant: abi::Tenant { pod, process },
        },
    )
}

/// Routes of the first service, whatever it is called, to another one.
fn route() -> impl Strategy<Value = Route> {
    let text = prop_oneof![
        (0_u8..3).prop_map(|i| Text::Exact(format!("cam{i}"))),
        (0_u8..3).prop_map(|i| Text::Prefix(format!("cam{i}"))),
        Just(Text::Prefix("x".repeat(abi::ROUTE_TEXT))),
        Just(Text::Prefix(String::new())),
    ];
    let what = prop_oneof![
        text.clone().prop_map(What::StreamId),
        text.clone().prop_map(What::Resource),
        text.clone().prop_map(What::User),
        text.prop_map(What::Host),
        Just(What::Mode),
        prop_oneof![Just("10.1.2.3/9"), Just("2001:db8::/32"), Just("0.0.0.0/0")]
            .prop_map(|range| What::Source(range.parse().unwrap())),
    ];
    let mode = prop_oneof![Just(None), Just(Some(Mode::Publish))];
    let matches = vec(
        (what, mode).prop_map(|(what, mode)| Match { what, mode }),
        1..4,
    );
    (matches, any::<bool>(), 0_u32..3).prop_map(|(matches, rejects, rate)| Route {
        name: String::new(),
        service: String::new(),
        matches,
        target: if rejects {
            Target::Reject
        } else {
            Target::Pool(String::new())
        },
        quota: Quota {
            streams: (rate > 0).then_some(rate),
            sessions_per_second: (rate > 1).then_some(rate),
            stream_bitrate: None,
            bitrate: Some(1_000_000),
        },
        thresholds: thresholds(rate),
    })
}

/// 0: none.
fn thresholds(max_rtt: u32) -> abi::Thresholds {
    abi::Thresholds {
        max_rtt,
        ..Default::default()
    }
}

fn service() -> impl Strategy<Value = Service> {
    let parts = (
        any::<[bool; 3]>(),
        any::<[bool; 7]>(),
        vec(backend(), 0..8),
        vec(0_u8..4, 0..3),
    );
    parts.prop_map(
        |(
            vips,
            [
                srt,
                affinity,
                elsewhere,
                renamed,
                stream,
                routed_only,
                balance,
            ],
            backends,
            ranges,
        )| {
            let all = ["203.0.113.1", "203.0.113.2", "2001:db8::1"];
            let backends: BTreeMap<_, _> = backends.into_iter().map(|b| (b.address, b)).collect();
            Service {
                name: format!("live/{}", if renamed { "other" } else { "service" }),
                vips: all
                    .iter()
                    .zip(vips)
                    .filter(|(_, chosen)| *chosen)
                    .map(|(vip, _)| vip.parse().unwrap())
                    .collect(),
                port: 0,
                protocol: if srt { Protocol::Srt } else { Protocol::Udp },
                handshake: if stream {
                    Handshake::Stream
                } else {
                    Handshake::Client
                },
                routed_only,
                balance,
                source_ranges: ranges
                    .iter()
                    // With bits behind the prefix, as people write them.
                    .map(|r| format!("198.51.{r}.7/24").parse().unwrap())
                    .collect(),
                affinity,
                elsewhere,
                thresholds: thresholds(u32::from(renamed)),
                backends: backends.into_values().collect(),
            }
        },
    )
}

fn desired() -> impl Strategy<Value = Desired> {
    (vec(service(), 0..4), vec(route(), 0..4)).prop_map(|(mut services, mut routes)| {
        for (i, service) in services.iter_mut().enumerate() {
            service.name.push_str(&i.to_string());
            service.port = 9000 + i as u16;
        }
        let name = |i: usize| services.get(i).map(|s: &Service| s.name.clone());
        for (i, route) in routes.iter_mut().enumerate() {
            route.name = format!("live/route-{i}");
            route.service = name(0).unwrap_or_default();
            if let Target::Pool(pool) = &mut route.target {
                *pool = name(i).unwrap_or_default();
            }
        }
        Desired { services, routes }
    })
}

/// What an agent takes the maps to hold, after its own writes, is what they hold.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_known_of_the_maps_is_what_they_hold() {
    with_uplink(|| async {
        let root = PinRoot::new("plan");
        let (mut dataplane, _lock) = load_and_attach(&root).await.unwrap();
        run("ip link add pod0 type veth peer name pod1");
        let port = PodPort {
            mode: DeliveryMode::Peer,
            ifindex: if_nametoindex("pod0").unwrap(),
            pod_mac: [2; 6],
            port_mac: [4; 6],
            partial_checksums: true,
        };
        let mut runner = TestRunner::deterministic();
        let edits = (desired(), any::<[bool; 9]>(), 0_u8..3);
        let mut known = Observed::default();
        let (mut writes, mut freed, mut removed, mut unmatched) = (0, 0, 0, 0);
        let mut routed = 0;
        for step in 0..PLANS {
            let (desired, with_port, sweep) = edits.new_tree(&mut runner).unwrap().current();
            let ports: HashMap<IpAddr, PodPort> = (0_u8..9)
                .filter(|i| with_port[usize::from(*i)])
                .map(|i| (IpAddr::from([10, 0, 0, i]), port))
                .collect();
            let options = PlanOptions {
                now_ns: now_ns(),
                drain_deadline_ns: Some(1_000_000_000),
                drain_window_ns: 0,
            };
            let ops = plan(&desired, &ports, &known, &options).unwrap();
            for op in &ops {
                dataplane.apply(std::slice::from_ref(op)).unwrap();
                known.apply(op);
                assert_eq!(known, dataplane.observe().unwrap(), "step {step}: {op:?}");
            }
            assert_eq!(plan(&desired, &ports, &known, &options).unwrap(), []);
            writes += ops.len();
            routed += ops
                .iter()
                .filter(|op| matches!(op, Op::SetRoute { .. }))
                .count();
            if sweep == 0 {
                dataplane.sweep(now_ns()).unwrap();
                let observed = dataplane.observe().unwrap();
                freed += observed.idle_gone.len();
                removed += observed.idle_closing.len();
                known.idle_gone = observed.idle_gone;
                known.idle_closing = observed.idle_closing;
                unmatched += observed.idle_routes.len();
                known.idle_routes = observed.idle_routes;
                known.loads = observed.loads;
            }
        }
        println!(
            "{writes} writes, {routed} matches; {freed} backends, {removed} services and {unmatched} routes idle"
        );
        assert!(freed > 0 && removed > 0 && unmatched > 0 && routed > 30);
    });
}

/// More tables than one write takes, all there when the call returns; and gone when it says so.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn many_tables_at_once_are_in_force_when_the_plan_is_applied() {
    with_uplink(|| async {
        let root = PinRoot::new("tables");
        let (mut dataplane, _lock) = load_and_attach(&root).await.unwrap();
        let services = (0..150_u16).map(|i| Service {
            name: format!("live/{i}"),
            vips: vec![IpAddr::from([203, 0, 113, 1])],
            port: 9000 + i,
            protocol: Protocol::Srt,
            handshake: Handshake::Client,
            routed_only: false,
            balance: false,
            source_ranges: Vec::new(),
            affinity: false,
            elsewhere: false,
            thresholds: abi::Thresholds::default(),
            backends: vec![Backend {
                name: format!("live/pod-{i}"),
                address: IpAddr::from([10, 0, 0, i as u8]),
                port: 9000,
                draining: false,
                weight: 1,
                limit: None,
                tenant: abi::Tenant::default(),
            }],
        });
        let desired = Desired {
            services: services.collect(),
            ..Desired::default()
        };
        let ports = HashMap::new();
        let options = PlanOptions::default();
        let ops = plan(&desired, &ports, &Observed::default(), &options).unwrap();
        let start = std::time::Instant::now();
        dataplane.apply(&ops).unwrap();
        println!("150 tables and services in {:?}", start.elapsed());
        let tables = aya::maps::MapData::from_pin(root.map("TABLES")).unwrap();
        let tables = aya::maps::Map::from_map_data(tables).unwrap();
        let tables =
            aya::maps::ArrayOfMaps::<_, aya::maps::Array<_, abi::MaglevTable>>::try_from(tables)
                .unwrap();
        let member = |pool: u32| {
            let table = tables.get(&pool, 0).ok()?;
            Some(table.get(&0, 0).unwrap().slots[7])
        };
        let observed = dataplane.observe().unwrap();
        assert_eq!(observed.tables.len(), 150);
        for (pool, slots) in &observed.tables {
            assert_eq!(member((*pool).into()), slots.first().copied());
        }
        for gone in [Desired::default(), Desired::default()] {
            let observed = dataplane.observe().unwrap();
            dataplane
                .apply(&plan(&gone, &ports, &observed, &options).unwrap())
                .unwrap();
            dataplane.sweep(now_ns()).unwrap();
        }
        assert!((0..150).all(|pool| member(pool).is_none()));
        assert!(dataplane.observe().unwrap().services.is_empty());
    });
}

/// As many matches as fit: written, read, and removed again.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn all_the_matches_that_fit_are_written_and_read() {
    with_uplink(|| async {
        const ROUTES: usize = 4095;
        let root = PinRoot::new("matches");
        let (mut dataplane, _lock) = load_and_attach(&root).await.unwrap();
        let matches = |route: usize| {
            (0..16).map(move |i| Match {
                what: What::Resource(Text::Prefix(format!("customer-{route}/camera-{i}/"))),
                mode: None,
            })
        };
        let routes = (0..ROUTES).map(|i| Route {
            name: format!("live/{i}"),
            service: "live/ingest".into(),
            matches: matches(i).collect(),
            target: Target::Reject,
            quota: Quota::default(),
            thresholds: abi::Thresholds::default(),
        });
        let mut desired = Desired {
            services: vec![Service {
                name: "live/ingest".into(),
                vips: vec![IpAddr::from([203, 0, 113, 1])],
                port: 9000,
                protocol: Protocol::Srt,
                handshake: Handshake::Stream,
                routed_only: false,
                balance: false,
                source_ranges: Vec::new(),
                affinity: false,
                elsewhere: false,
                thresholds: abi::Thresholds::default(),
                backends: Vec::new(),
            }],
            routes: routes.collect(),
        };
        let timed =
            |what: &str, start: std::time::Instant| println!("{what}: {:?}", start.elapsed());
        let now = std::time::Instant::now;
        let ports = HashMap::new();
        let options = PlanOptions::default();
        let start = now();
        let ops = plan(&desired, &ports, &Observed::default(), &options).unwrap();
        timed("planned", start);
        let start = now();
        dataplane.apply(&ops).unwrap();
        timed("written", start);
        let start = now();
        let observed = dataplane.observe().unwrap();
        timed("read", start);
        assert_eq!(observed.routes.len(), ROUTES * 16);
        let start = now();
        assert_eq!(plan(&desired, &ports, &observed, &options).unwrap(), []);
        timed("compared", start);
        let start = now();
        dataplane.sweep(now_ns()).unwrap();
        timed("swept", start);
        let start = now();
        assert_eq!(
            Reader::open(&root.0).unwrap().routes().unwrap().len(),
            ROUTES
        );
        timed("shown", start);
        desired.routes.clear();
        let ops = plan(&desired, &ports, &observed, &options).unwrap();
        let start = now();
        dataplane.apply(&ops).unwrap();
        timed("removed", start);
        dataplane.sweep(now_ns()).unwrap();
        let observed = dataplane.observe().unwrap();
        assert_eq!(observed.idle_routes.len(), ROUTES);
        dataplane
            .apply(&plan(&desired, &ports, &observed, &options).unwrap())
            .unwrap();
        let observed = dataplane.observe().unwrap();
        assert!(observed.quotas.is_empty() && observed.route_names.is_empty());
    });
}
