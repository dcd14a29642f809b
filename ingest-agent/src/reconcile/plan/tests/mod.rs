//! The plan against a model of the maps: applied it gives the desired state, and every step in between is one that
//! packets may meet.

mod closing;
pub(super) mod model;
mod order;
mod property;
mod routes;
mod tenants;
mod thresholds;
mod worlds;

use std::collections::BTreeSet;

use ingest_common::abi::{BackendState, DeliveryMode, ServiceKey};
use ipnet::IpNet;

use self::model::{OPTIONS, backend, ip, one, pods, port, run, service, slots};
use super::{super::Protocol, *};

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
        matches!(
            ops[..],
            [Op::SetBackend { fresh: false, .. }, Op::SetTable { .. }]
        ),
        "{ops:?}"
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
    run(&mut maps, &one(pods(1)), &ports);
    run(&mut maps, &one(Vec::new()), &ports);
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
    let again = ops.iter().find_map(|op| match op {
        Op::SetBackend {
            slot: 0,
            backend,
            fresh: true,
            ..
        } => Some(backend.incarnation),
        _ => None,
    });
    assert_eq!(again, Some(2));
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
    assert!(matches!(&ops[1], Op::SetTable { slots, .. } if !slots.contains(&slot)));
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
fn a_pod_that_is_not_looked_up_yet_keeps_its_way() {
    let mut maps = Observed::default();
    let ports = HashMap::from([(ip("10.0.0.2"), port(7))]);
    run(&mut maps, &one(pods(1)), &ports);
    let unknown = HashMap::new();
    assert_eq!(run(&mut maps, &one(pods(1)), &unknown), []);
    assert_eq!(repoint(&unknown, &maps), []);
    // Nor does one that is taken away meanwhile: its sessions are still to be told.
    run(&mut maps, &one(Vec::new()), &unknown);
    assert_eq!(maps.backends[&0].ifindex, 7);

    // One that was looked up and not found has none.
    let gone = PodPort {
        mode: abi::DeliveryMode::None,
        ifindex: 0,
        ..port(0)
    };
    let ports = HashMap::from([(ip("10.0.0.2"), gone)]);
    assert_eq!(repoint(&ports, &maps).len(), 1);
    run(&mut maps, &one(pods(1)), &ports);
    assert_eq!(maps.backends[&0].mode, abi::DeliveryMode::None as u8);
    // Another pod at the address begins without one.
    run(
        &mut maps,
        &one(pods(1)),
        &HashMap::from([(ip("10.0.0.2"), port(8))]),
    );
    let mut other = pods(1);
    other[0].name = "live/other".into();
    run(&mut maps, &one(other), &unknown);
    assert_eq!(maps.backends[&0].ifindex, 0);
}

#[test]
fn families_have_their_own_pools() {
    let mut mixed = pods(1);
    mixed.push(backend("live/pod-6", "2001:db8:1::6"));
    let vips = ["203.0.113.10", "203.0.113.11", "2001:db8::10"];
    let desired = Desired {
        services: vec![service("live/srt", &vips, mixed)],
        ..Desired::default()
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
    assert!(maps.sources.is_empty());
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
            ..Desired::default()
        },
        &ports,
        &maps,
        &OPTIONS,
    )
    .unwrap_err();
    assert_eq!(error, PlanError::TooManyServices { limit: 1024 });
}
