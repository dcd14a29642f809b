//! A model of the maps, and plans run on it.

use std::collections::{BTreeMap, BTreeSet};

use ingest_common::abi::{BackendState, DeliveryMode, RouteField};

use super::super::{
    super::{MatchKey, Protocol, Service},
    *,
};

pub(super) const OPTIONS: PlanOptions = PlanOptions {
    now_ns: 1_000,
    drain_deadline_ns: Some(500),
    drain_window_ns: 50,
};

pub(in super::super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(in super::super) fn backend(name: &str, address: &str) -> Backend {
    Backend {
        name: name.into(),
        address: ip(address),
        port: 9000,
        draining: false,
        weight: 1,
        limit: None,
        tenant: abi::Tenant::default(),
    }
}

pub(in super::super) fn service(name: &str, vips: &[&str], backends: Vec<Backend>) -> Service {
    Service {
        name: name.into(),
        vips: vips.iter().map(|v| ip(v)).collect(),
        port: 9000,
        protocol: Protocol::Srt,
        handshake: crate::reconcile::Handshake::Client,
        routed_only: false,
        balance: false,
        source_ranges: Vec::new(),
        affinity: false,
        elsewhere: false,
        thresholds: abi::Thresholds::default(),
        backends,
    }
}

pub(in super::super) fn one(backends: Vec<Backend>) -> Desired {
    Desired {
        services: vec![service("live/srt", &["203.0.113.10"], backends)],
        ..Desired::default()
    }
}

pub(in super::super) fn pods(count: usize) -> Vec<Backend> {
    (1..=count)
        .map(|i| {
            backend(
                &format!("live/pod-{i}"),
                &format!("10.0.{}.{}", i / 250, i % 250 + 1),
            )
        })
        .collect()
}

pub(super) fn port(ifindex: u32) -> PodPort {
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
    if let Op::SetTable { slots, table, .. } = op {
        let named: BTreeSet<u16> = table.slots[..16381].iter().copied().collect();
        let members: BTreeSet<u16> = slots.iter().copied().collect();
        let empty = BTreeSet::from([ingest_common::maglev::EMPTY]);
        assert_eq!(named, if slots.is_empty() { empty } else { members });
    }
    maps.apply(op);
}

/// What must hold for a packet at any moment.
pub(super) fn assert_consistent(maps: &Observed) {
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
        let flagged = RouteField::ALL
            .into_iter()
            .filter(|field| service.flags & field.flag() != 0);
        for field in flagged {
            let asked = |key: &&MatchKey| (key.service, key.field) == (service.id, field);
            assert!(
                maps.routes.keys().any(|key| asked(&key)),
                "service {} looks for {field:?}",
                service.id
            );
        }
    }
    for (key, route) in &maps.routes {
        let quota = maps.quotas.get(&route.route);
        assert!(quota.is_some_and(|q| q.in_use == 1), "{key:?}: {route:?}");
        assert!(maps.route_names.contains_key(&route.route));
        assert_ne!(route.route, 0, "0 says that no route matched");
        let there = route.pool == abi::NO_POOL || maps.tables.contains_key(&route.pool);
        assert!(there, "{key:?}: {route:?} leads to a pool without a table");
    }
    assert!(
        maps.pools
            .keys()
            .eq(maps.tables.keys().copied().collect::<BTreeSet<_>>().iter())
    );
}

/// Pools whose table names somebody that serves.
fn able(maps: &Observed) -> BTreeSet<u16> {
    let serves = |slot: &u16| maps.backends[slot].state == BackendState::Serving as u8;
    let able = maps
        .tables
        .iter()
        .filter(|(_, slots)| slots.iter().any(serves));
    able.map(|(pool, _)| *pool).collect()
}

pub(super) fn run(
    maps: &mut Observed,
    desired: &Desired,
    ports: &HashMap<IpAddr, PodPort>,
) -> Vec<Op> {
    let ops = plan(desired, ports, maps, &OPTIONS).unwrap();
    let states: Vec<Observed> = std::iter::once(maps.clone())
        .chain(ops.iter().map(|op| {
            apply(maps, op);
            assert_consistent(maps);
            maps.clone()
        }))
        .collect();
    let throughout = &able(&states[0]) & &able(maps);
    for (step, state) in states.iter().enumerate() {
        let unable = &throughout - &able(state);
        assert!(
            unable.is_empty(),
            "pools {unable:?} serve nobody after {:?}",
            ops[..step].last()
        );
    }
    assert_eq!(
        plan(desired, ports, maps, &OPTIONS).unwrap(),
        [],
        "a second plan does nothing"
    );
    ops
}

/// Slot by backend address, live ones only.
pub(super) fn slots(maps: &Observed) -> BTreeMap<IpAddr, u16> {
    maps.backends
        .iter()
        .filter(|(_, b)| {
            b.state == BackendState::Serving as u8 || b.state == BackendState::Draining as u8
        })
        .map(|(slot, b)| (from_abi(&b.address), *slot))
        .collect()
}
