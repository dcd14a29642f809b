//! The plan against a model of the maps: applied it gives the desired state, and every step in between is one that
//! packets may meet.

use std::collections::{BTreeMap, BTreeSet};

use ingest_common::abi::{BackendState, DeliveryMode, ServiceKey};
use proptest::prelude::*;

use super::{
    super::{Protocol, Service},
    *,
};

const OPTIONS: PlanOptions = PlanOptions {
    now_ns: 1_000,
    drain_deadline_ns: Some(500),
    drain_window_ns: 50,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn backend(name: &str, address: &str) -> Backend {
    Backend {
        name: name.into(),
        address: ip(address),
        port: 9000,
        draining: false,
    }
}

fn service(name: &str, vips: &[&str], backends: Vec<Backend>) -> Service {
    Service {
        name: name.into(),
        vips: vips.iter().map(|v| ip(v)).collect(),
        port: 9000,
        protocol: Protocol::Srt,
        source_ranges: Vec::new(),
        backends,
    }
}

fn one(backends: Vec<Backend>) -> Desired {
    Desired {
        services: vec![service("live/srt", &["203.0.113.10"], backends)],
    }
}

fn pods(count: usize) -> Vec<Backend> {
    (1..=count)
        .map(|i| {
            backend(
                &format!("live/pod-{i}"),
                &format!("10.0.{}.{}", i / 250, i % 250 + 1),
            )
        })
        .collect()
}

fn port(ifindex: u32) -> PodPort {
    PodPort {
        mode: DeliveryMode::Peer,
        ifindex,
        pod_mac: [2, 0, 0, 0, 0, 1],
        port_mac: [2, 0, 0, 0, 0, 2],
        partial_checksums: true,
    }
}

/// Does what the dataplane does.
fn apply(maps: &mut Observed, op: &Op) {
    match op.clone() {
        Op::SetBackend {
            slot,
            backend,
            name,
            ..
        } => {
            let key = EndpointKey::new(backend.address, backend.port, backend.protocol);
            maps.endpoints.insert(key, slot);
            maps.backends.insert(slot, backend);
            maps.backend_names.insert(slot, name);
            maps.idle_gone
                .retain(|s| *s != slot || backend.state == BackendState::Gone as u8);
        }
        Op::FreeBackend { slot } => {
            let incarnation = maps.backends[&slot].incarnation;
            maps.endpoints.retain(|_, s| *s != slot);
            maps.backend_names.remove(&slot);
            maps.backends.insert(
                slot,
                abi::Backend {
                    incarnation,
                    ..Default::default()
                },
            );
            maps.idle_gone.retain(|s| *s != slot);
        }
        Op::SetTable { pool, slots, table } => {
            let named: BTreeSet<u16> = table.slots[..16381].iter().copied().collect();
            let members: BTreeSet<u16> = slots.iter().copied().collect();
            let empty = BTreeSet::from([ingest_common::maglev::EMPTY]);
            assert_eq!(named, if slots.is_empty() { empty } else { members });
            maps.tables.insert(pool, slots);
        }
        Op::RemoveTable { pool } => drop(maps.tables.remove(&pool)),
        Op::SetService {
            key, service, name, ..
        } => {
            maps.vips.insert(
                service.id,
                abi::Vip {
                    address: key.address,
                    port: key.port,
                    protocol: key.protocol,
                    in_use: 1,
                    pool: service.pool,
                    flags: service.flags as u16,
                },
            );
            maps.service_names.insert(service.id, name);
            maps.services.insert(key, service);
        }
        Op::MarkVip { key } => {
            let flags = abi::SERVICE_VIP_MARK;
            maps.services.insert(
                key,
                abi::Service {
                    flags,
                    ..Default::default()
                },
            );
        }
        Op::RemoveService { key } => {
            let service = maps.services.remove(&key).unwrap();
            if key.port != 0 {
                maps.vips.remove(&service.id);
                maps.service_names.remove(&service.id);
            }
        }
        Op::AddSource { service, range } => maps.sources.push((service, range)),
        Op::RemoveSource { service, range } => maps.sources.retain(|s| *s != (service, range)),
    }
}

/// What must hold for a packet at any moment.
fn assert_consistent(maps: &Observed) {
    for (_, service) in services::known(maps) {
        let slots = maps
            .tables
            .get(&service.pool)
            .expect("a service's pool has a table");
        for slot in slots {
            assert_ne!(
                maps.backends[slot].state,
                BackendState::Free as u8,
                "slot {slot}"
            );
        }
        assert!(maps.vips.contains_key(&service.id));
    }
}

fn run(maps: &mut Observed, desired: &Desired, ports: &HashMap<IpAddr, PodPort>) -> Vec<Op> {
    let ops = plan(desired, ports, maps, &OPTIONS).unwrap();
    for op in &ops {
        apply(maps, op);
        assert_consistent(maps);
    }
    assert_eq!(
        plan(desired, ports, maps, &OPTIONS).unwrap(),
        [],
        "a second plan does nothing"
    );
    ops
}

/// Slot by backend address, live ones only.
fn slots(maps: &Observed) -> BTreeMap<IpAddr, u16> {
    maps.backends
        .iter()
        .filter(|(_, b)| {
            b.state == BackendState::Serving as u8 || b.state == BackendState::Draining as u8
        })
        .map(|(slot, b)| (from_abi(&b.address), *slot))
        .collect()
}

#[test]
fn a_first_plan_writes_everything_in_order() {
    let mut maps = Observed::default();
    let desired = one(pods(2));
    let ports = HashMap::from([(ip("10.0.0.2"), port(7))]);
    let ops = run(&mut maps, &desired, &ports);
    let order: Vec<&str> = ops
        .iter()
        .map(|op| match op {
            Op::SetBackend { fresh: true, .. } => "fresh backend",
            Op::SetTable { .. } => "table",
            Op::SetService { fresh: true, .. } => "fresh service",
            Op::MarkVip { .. } => "mark",
            _ => "other",
        })
        .collect();
    assert_eq!(
        order,
        [
            "fresh backend",
            "fresh backend",
            "table",
            "fresh service",
            "mark"
        ]
    );
    let with_port = maps.backends.values().find(|b| b.ifindex == 7).unwrap();
    assert_eq!(with_port.mode, DeliveryMode::Peer as u8);
    assert_eq!(with_port.flags, abi::BACKEND_PARTIAL_CHECKSUMS);
    assert_eq!(with_port.incarnation, 1);
    let without = maps.backends.values().find(|b| b.ifindex == 0).unwrap();
    assert_eq!(
        without.mode,
        DeliveryMode::None as u8,
        "no pod port: no delivery"
    );
}

#[test]
fn a_backend_that_leaves_is_gone_until_no_session_needs_it() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(3)), &ports);
    let slot = slots(&maps)[&ip("10.0.0.4")];
    let ops = run(&mut maps, &one(pods(2)), &ports);
    assert!(
        matches!(ops[0], Op::SetTable { .. }),
        "the table leaves it out first"
    );
    assert!(
        matches!(ops[1], Op::SetBackend { fresh: false, .. }),
        "then its sessions are told"
    );
    assert_eq!(maps.backends[&slot].state, BackendState::Gone as u8);
    assert_eq!(run(&mut maps, &one(pods(2)), &ports), []);

    maps.idle_gone = vec![slot];
    assert_eq!(
        run(&mut maps, &one(pods(2)), &ports),
        [Op::FreeBackend { slot }]
    );
    let other = backend("live/pod-x", "10.9.9.9");
    run(&mut maps, &one(vec![other]), &ports);
    let entry = &maps.backends[&slots(&maps)[&ip("10.9.9.9")]];
    assert_eq!(
        entry.incarnation,
        if slots(&maps)[&ip("10.9.9.9")] == slot {
            2
        } else {
            1
        }
    );
}

#[test]
fn a_slot_used_again_has_another_incarnation() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    let all: Vec<Backend> = (0..4).flat_map(|_| pods(1)).take(1).collect();
    run(&mut maps, &one(all), &ports);
    for slot in 1..4096 {
        maps.backends.insert(
            slot,
            abi::Backend {
                state: 1,
                port: slot,
                ..Default::default()
            },
        );
    }
    let error = plan(
        &one(vec![backend("live/b", "10.0.0.9")]),
        &ports,
        &maps,
        &OPTIONS,
    )
    .unwrap_err();
    assert_eq!(error, PlanError::TooManyBackends { limit: 4096 });
    maps.idle_gone = vec![0];
    let ops = plan(
        &one(vec![backend("live/b", "10.0.0.9")]),
        &ports,
        &maps,
        &OPTIONS,
    )
    .unwrap();
    assert_eq!(ops[0], Op::FreeBackend { slot: 0 });
    let Op::SetBackend {
        slot: 0,
        backend,
        fresh: true,
        ..
    } = &ops[1]
    else {
        panic!("{:?}", ops[1]);
    };
    assert_eq!(backend.incarnation, 2);
    assert!(
        matches!(ops[2], Op::SetTable { .. }),
        "same slots, another backend: a new table"
    );
}

#[test]
fn a_backend_that_comes_back_is_the_same_if_its_name_is() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(2)), &ports);
    let before = maps.backends.clone();
    run(&mut maps, &one(pods(1)), &ports);
    run(&mut maps, &one(pods(2)), &ports);
    assert_eq!(maps.backends, before);

    let mut replaced = pods(2);
    replaced[1].name = "live/pod-2-again".into();
    let slot = slots(&maps)[&replaced[1].address];
    let ops = run(&mut maps, &one(replaced), &ports);
    assert!(
        matches!(&ops[..], [Op::SetBackend { fresh: true, .. }]),
        "{ops:?}"
    );
    assert_eq!(
        maps.backends[&slot].incarnation,
        before[&slot].incarnation + 1
    );
}

#[test]
fn draining_leaves_the_table_and_keeps_its_first_deadline() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(2)), &ports);
    let mut draining = pods(2);
    draining[1].draining = true;
    let slot = slots(&maps)[&draining[1].address];
    let ops = run(&mut maps, &one(draining.clone()), &ports);
    assert!(matches!(&ops[0], Op::SetTable { slots, .. } if !slots.contains(&slot)));
    assert_eq!(maps.backends[&slot].state, BackendState::Draining as u8);
    assert_eq!(maps.backends[&slot].drain_deadline_ns, 1_500);
    assert_eq!(maps.backends[&slot].drain_window_ns, 50);

    let later = PlanOptions {
        now_ns: 9_000,
        drain_deadline_ns: Some(1),
        drain_window_ns: 1,
    };
    assert_eq!(
        plan(&one(draining.clone()), &ports, &maps, &later).unwrap(),
        []
    );

    draining[0].draining = true;
    run(&mut maps, &one(draining), &ports);
    assert_eq!(
        maps.tables.values().next(),
        Some(&vec![]),
        "no serving backend: no new sessions"
    );
    run(&mut maps, &one(pods(2)), &ports);
    assert_eq!(maps.backends[&slot].drain_deadline_ns, 0, "serving again");
}

#[test]
fn serving_for_one_service_is_serving() {
    let mut desired = one(pods(2));
    let mut second = service("live/udp", &["203.0.113.11"], pods(2));
    second.protocol = Protocol::Udp;
    second.backends[0].draining = true;
    desired.services.push(second);
    let mut maps = Observed::default();
    run(&mut maps, &desired, &HashMap::new());
    let slot = slots(&maps)[&ip("10.0.0.2")];
    assert_eq!(maps.backends.len(), 2, "one slot a backend");
    assert_eq!(maps.backends[&slot].state, BackendState::Serving as u8);
    let key = |vip: &str| ServiceKey::new(to_abi(ip(vip)), 9000, abi::UDP);
    let srt = maps.services[&key("203.0.113.10")];
    let udp = maps.services[&key("203.0.113.11")];
    assert_eq!((srt.flags, udp.flags), (abi::SERVICE_SRT, 0));
    assert!(maps.tables[&srt.pool].contains(&slot));
    assert!(!maps.tables[&udp.pool].contains(&slot));
}

#[test]
fn families_have_their_own_pools() {
    let mut mixed = pods(1);
    mixed.push(backend("live/pod-6", "2001:db8:1::6"));
    let vips = ["203.0.113.10", "203.0.113.11", "2001:db8::10"];
    let desired = Desired {
        services: vec![service("live/srt", &vips, mixed)],
    };
    let mut maps = Observed::default();
    run(&mut maps, &desired, &HashMap::new());
    let pools: BTreeSet<u16> = services::known(&maps).map(|(_, s)| s.pool).collect();
    assert_eq!((pools.len(), maps.tables.len()), (2, 2));
    assert!(maps.tables.values().all(|slots| slots.len() == 1));
}

#[test]
fn sources_are_there_before_the_service_asks_and_until_it_no_longer_does() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(1)), &ports);
    let mut closed = one(pods(1));
    closed.services[0].source_ranges = vec!["198.51.100.0/24".parse().unwrap()];
    let ops = run(&mut maps, &closed, &ports);
    assert!(
        matches!(
            ops[..],
            [Op::AddSource { .. }, Op::SetService { fresh: false, .. }]
        ),
        "{ops:?}"
    );
    let ops = run(&mut maps, &one(pods(1)), &ports);
    assert!(
        matches!(ops[..], [Op::SetService { .. }, Op::RemoveSource { .. }]),
        "{ops:?}"
    );
    assert_eq!(maps.sources, []);
}

#[test]
fn a_renamed_service_keeps_its_id_and_its_backends() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(2)), &ports);
    let before = (
        maps.backends.clone(),
        maps.vips.keys().copied().collect::<Vec<_>>(),
    );
    let mut renamed = one(pods(2));
    renamed.services[0].name = "live/other".into();
    let ops = run(&mut maps, &renamed, &ports);
    assert!(matches!(
        ops[..],
        [
            Op::SetTable { .. },
            Op::SetService { fresh: false, .. },
            Op::RemoveTable { .. }
        ]
    ));
    assert_eq!(
        (maps.backends, maps.vips.keys().copied().collect::<Vec<_>>()),
        before
    );
}

#[test]
fn adopted_maps_need_only_their_tables() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(3)), &ports);
    maps.tables.clear();
    let ops = run(&mut maps, &one(pods(3)), &ports);
    assert!(matches!(ops[..], [Op::SetTable { .. }]), "{ops:?}");
}

#[test]
fn a_leaving_backend_disturbs_few_others() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    let table = |ops: &[Op]| {
        ops.iter()
            .find_map(|op| match op {
                Op::SetTable { table, .. } => Some(table.clone()),
                _ => None,
            })
            .unwrap()
    };
    let before = table(&run(&mut maps, &one(pods(20)), &ports));
    let mut fewer = pods(20);
    let left = slots(&maps)[&fewer.remove(7).address];
    let after = table(&run(&mut maps, &one(fewer), &ports));
    let positions = || before.slots.iter().zip(&after.slots).take(16381);
    let own = positions().filter(|(b, _)| **b == left).count();
    let moved = positions().filter(|(b, a)| b != a).count();
    assert!((700..=940).contains(&own), "{own}: a twentieth");
    assert!(moved - own < 16381 * 3 / 100, "{moved} moved, {own} had to");
}

#[test]
fn too_large_pools_and_too_many_sources_are_refused() {
    let (maps, ports) = (Observed::default(), HashMap::new());
    let error = plan(&one(pods(1025)), &ports, &maps, &OPTIONS).unwrap_err();
    assert!(matches!(
        error,
        PlanError::PoolTooLarge {
            count: 1025,
            limit: 1024,
            ..
        }
    ));
    let mut open = one(pods(1));
    open.services[0].source_ranges = (0..16385_u32)
        .map(|i| IpNet::new(IpAddr::from((0x0a00_0000 + (i << 8)).to_be_bytes()), 24).unwrap())
        .collect();
    let error = plan(&open, &ports, &maps, &OPTIONS).unwrap_err();
    assert!(matches!(
        error,
        PlanError::TooManySources { count: 16385, .. }
    ));
    let many = (0..1025).map(|i| {
        let mut s = service("live/srt", &["203.0.113.10"], Vec::new());
        s.port = i + 1;
        s
    });
    let error = plan(
        &Desired {
            services: many.collect(),
        },
        &ports,
        &maps,
        &OPTIONS,
    )
    .unwrap_err();
    assert_eq!(error, PlanError::TooManyServices { limit: 1024 });
}

use ipnet::IpNet;

/// A small world, so that edits meet each other.
fn desired() -> impl Strategy<Value = Desired> {
    let backend = (0_u8..12, any::<bool>(), 0_u8..8).prop_map(|(i, draining, renamed)| Backend {
        name: format!("live/pod-{i}{}", if renamed == 0 { "-new" } else { "" }),
        address: if i < 9 {
            ip(&format!("10.0.0.{}", i + 1))
        } else {
            ip(&format!("2001:db8:1::{i}"))
        },
        port: 9000 + u16::from(i % 2),
        draining,
    });
    let service = (
        any::<[bool; 4]>(),
        prop::collection::vec(backend, 0..10),
        prop::collection::vec(0_u8..5, 0..3),
        any::<bool>(),
    );
    prop::collection::vec(service, 0..4).prop_map(|services| {
        let mut names = HashMap::new();
        let services =
            services
                .into_iter()
                .enumerate()
                .map(|(i, (vips, backends, ranges, srt))| {
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
                        source_ranges: ranges
                            .into_iter()
                            .collect::<BTreeSet<_>>()
                            .into_iter()
                            .map(|r| format!("198.51.{r}.0/24").parse().unwrap())
                            .collect(),
                        // One pod has one name, over all services.
                        backends: backends
                            .into_values()
                            .map(|b| {
                                let name = names
                                    .entry((b.address, b.port))
                                    .or_insert(b.name.clone())
                                    .clone();
                                Backend { name, ..b }
                            })
                            .collect(),
                    }
                });
        Desired {
            services: services.collect(),
        }
    })
}

/// What the maps say, in the words of the desired state.
fn assert_is_desired(maps: &Observed, desired: &Desired, ports: &HashMap<IpAddr, PodPort>) {
    let mut wanted_keys = BTreeSet::new();
    for service in &desired.services {
        for vip in &service.vips {
            let key = ServiceKey::new(to_abi(*vip), service.port, abi::UDP);
            let entry = maps.services[&key];
            wanted_keys.extend([key, ServiceKey::vip(key.address)]);
            assert_eq!(maps.service_names[&entry.id], service.name);
            assert_eq!(maps.vips[&entry.id].address, key.address);
            assert_eq!(
                entry.flags & abi::SERVICE_SRT != 0,
                service.protocol == Protocol::Srt
            );
            let sources: BTreeSet<IpNet> = maps
                .sources
                .iter()
                .filter(|(id, _)| *id == entry.id)
                .map(|(_, r)| *r)
                .collect();
            let ranges = service
                .source_ranges
                .iter()
                .copied()
                .filter(|_| vip.is_ipv4())
                .collect();
            assert_eq!(sources, ranges);
            let members: BTreeSet<IpAddr> = maps.tables[&entry.pool]
                .iter()
                .map(|slot| from_abi(&maps.backends[slot].address))
                .collect();
            let serving = service.backends.iter().filter(|b| !b.draining);
            let serving = serving
                .map(|b| b.address)
                .filter(|a| a.is_ipv4() == vip.is_ipv4());
            assert_eq!(members, serving.collect());
        }
    }
    assert_eq!(
        maps.services.keys().copied().collect::<BTreeSet<_>>(),
        wanted_keys
    );
    let backends: BTreeMap<_, _> = desired
        .services
        .iter()
        .flat_map(|s| &s.backends)
        .map(|b| (endpoint(b), b))
        .collect();
    for (key, wanted) in &backends {
        let slot = maps.endpoints[key];
        let entry = maps.backends[&slot];
        let serving = desired
            .services
            .iter()
            .flat_map(|s| &s.backends)
            .any(|b| endpoint(b) == *key && !b.draining);
        let state = if serving {
            BackendState::Serving
        } else {
            BackendState::Draining
        };
        assert_eq!(
            (entry.address, entry.port, entry.state),
            (key.address, key.port, state as u8)
        );
        assert_eq!(
            entry.ifindex,
            ports.get(&wanted.address).map_or(0, |p| p.ifindex)
        );
        assert_eq!(maps.backend_names[&slot], wanted.name);
    }
    for (slot, entry) in &maps.backends {
        let key = EndpointKey::new(entry.address, entry.port, entry.protocol);
        let left =
            entry.state == BackendState::Gone as u8 || entry.state == BackendState::Free as u8;
        assert_eq!(
            left,
            !backends.contains_key(&key) || maps.endpoints.get(&key) != Some(slot)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Random edits, one after the other:
    /// * every plan gives the desired state, and a second one nothing;
    /// * every step in between is consistent;
    /// * who stays keeps slot, incarnation and service id; a slot's new tenant gets another incarnation.
    #[test]
    fn applied_plans_give_the_desired_state(
        edits in prop::collection::vec((desired(), any::<[bool; 12]>(), any::<u16>()), 1..6),
    ) {
        let mut maps = Observed::default();
        for (desired, with_port, idle) in edits {
            let ports = (0..9_u32)
                .filter(|i| with_port[*i as usize])
                .map(|i| (ip(&format!("10.0.0.{}", i + 1)), port(i + 100)))
                .collect();
            let gone = maps.backends.iter().filter(|(_, b)| b.state == BackendState::Gone as u8);
            maps.idle_gone = gone.map(|(s, _)| *s).filter(|s| idle >> (s % 16) & 1 == 1).collect();
            let before = maps.clone();
            run(&mut maps, &desired, &ports);
            assert_is_desired(&maps, &desired, &ports);
            for (slot, entry) in &maps.backends {
                let Some(old) = before.backends.get(slot) else { continue };
                let moved = (old.address, old.port) != (entry.address, entry.port);
                let renamed = before.backend_names.get(slot) != maps.backend_names.get(slot);
                let live = entry.state != BackendState::Free as u8;
                let new_tenant = live && (moved || renamed);
                prop_assert_eq!(entry.incarnation != old.incarnation, new_tenant);
                prop_assert!(entry.incarnation >= old.incarnation);
            }
            for (key, service) in services::known(&maps) {
                if let Some(old) = before.services.get(key) {
                    prop_assert_eq!(service.id, old.id);
                }
            }
        }
    }
}
