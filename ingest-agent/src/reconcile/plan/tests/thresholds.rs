//! Thresholds: whose they are, and how long.

use ingest_common::abi::Thresholds;

use super::{
    super::{
        super::{Handshake, Match, Quota, Route, Target, Text, What},
        *,
    },
    model::{one, pods, run},
};

fn of(max_rtt: u32) -> Thresholds {
    Thresholds {
        max_rtt,
        ..Default::default()
    }
}

/// A service with thresholds, at two VIPs, and a route with others.
fn desired() -> Desired {
    let mut desired = one(pods(1));
    let service = &mut desired.services[0];
    service.handshake = Handshake::Stream;
    service.vips.push("2001:db8::10".parse().unwrap());
    service.thresholds = of(40);
    desired.routes = vec![Route {
        name: "live/acme".into(),
        service: service.name.clone(),
        matches: vec![Match {
            what: What::Resource(Text::Prefix("acme/".into())),
            mode: None,
        }],
        target: Target::Pool(service.name.clone()),
        quota: Quota::default(),
        thresholds: of(70),
    }];
    desired
}

fn values(maps: &Observed) -> Vec<u32> {
    maps.thresholds.values().map(|own| own.max_rtt).collect()
}

#[test]
fn every_vip_and_route_has_its_own_and_a_change_is_written_alone() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    let mut desired = desired();
    run(&mut maps, &desired, &ports);
    assert_eq!(values(&maps), [40, 40, 70]);
    let route = *maps.quotas.keys().next().unwrap();
    assert_eq!(maps.thresholds[&Thresholds::of_route(route)], of(70));

    desired.routes[0].thresholds = Thresholds::default();
    let ops = run(&mut maps, &desired, &ports);
    let index = Thresholds::of_route(route);
    let thresholds = Thresholds::default();
    assert_eq!(ops, [Op::SetThresholds { index, thresholds }]);
    assert_eq!(values(&maps), [40, 40]);
}

#[test]
fn who_leaves_keeps_them_until_its_last_stream_has_ended() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &desired(), &ports);
    let nothing = Desired::default();
    run(&mut maps, &nothing, &ports);
    assert_eq!(values(&maps), [40, 40, 70]);
    maps.idle_routes = maps.quotas.keys().copied().collect();
    run(&mut maps, &nothing, &ports);
    assert_eq!(values(&maps), [40, 40]);
    maps.idle_closing = services::known(&maps).map(|(_, s)| s.id).collect();
    run(&mut maps, &nothing, &ports);
    assert!(maps.thresholds.is_empty());
}

/// As an agent leaves them that dies between two writes.
#[test]
fn those_of_nobody_are_cleared() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    maps.thresholds = [Thresholds::of_service(3), Thresholds::of_route(9)]
        .map(|index| (index, of(1)))
        .into();
    run(&mut maps, &desired(), &ports);
    assert_eq!(values(&maps), [40, 40, 70]);
}
