//! Routes: which index, which pool, and in which order.

use std::collections::BTreeMap;

use ingest_common::abi::{RouteField, ServiceKey, StreamMode};

use super::{
    super::{
        super::{Handshake, Match, Mode, Quota, Route, Target, Text, What},
        *,
    },
    model::{OPTIONS, pods, run, service},
};

fn route(name: &str, matches: Vec<Match>, pool: Option<&str>) -> Route {
    Route {
        name: name.into(),
        service: "live/ingest".into(),
        matches,
        target: pool.map_or(Target::Reject, |pool| Target::Pool(pool.into())),
        quota: Quota::default(),
        thresholds: abi::Thresholds::default(),
    }
}

fn resource(text: Text) -> Match {
    Match {
        what: What::Resource(text),
        mode: None,
    }
}

/// A service at two VIPs, and a pool without one.
fn desired(routes: Vec<Route>) -> Desired {
    let mut ingest = service("live/ingest", &["203.0.113.10", "2001:db8::10"], pods(2));
    ingest.handshake = Handshake::Stream;
    let mut acme = service("live/acme", &[], pods(4).split_off(2));
    acme.port = 0;
    Desired {
        services: vec![ingest, acme],
        routes,
    }
}

fn acme() -> Route {
    route(
        "live/acme",
        vec![resource(Text::Prefix("acme/".into()))],
        Some("live/acme"),
    )
}

/// `b`: a backend, `t`: a table, `q`: a quota, `r`: a route, `s`: a service; capitals: removed.
fn letters(ops: &[Op]) -> String {
    let letter = |op: &Op| match op {
        Op::SetBackend { .. } => 'b',
        Op::FreeBackend { .. } => 'B',
        Op::SetTable { .. } => 't',
        Op::RemoveTable { .. } => 'T',
        Op::SetQuota { .. } => 'q',
        Op::RemoveQuota { .. } => 'Q',
        Op::SetRoute { .. } => 'r',
        Op::RemoveRoute { .. } => 'R',
        Op::SetService { .. } => 's',
        Op::MarkVip { .. } => 'm',
        _ => '.',
    };
    ops.iter().map(letter).collect()
}

#[test]
fn what_a_route_needs_is_there_before_it_and_goes_after_it() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    let ops = run(&mut maps, &desired(vec![acme()]), &ports);
    assert_eq!(letters(&ops), "bbbbttttqrrsmsm", "a pool a family");
    let ops = run(&mut maps, &desired(Vec::new()), &ports);
    assert_eq!(letters(&ops), "ssRRTT");
    assert_eq!(maps.route_names.len(), 1, "it may have sessions");
    maps.idle_routes = maps.quotas.keys().copied().collect();
    let ops = run(&mut maps, &desired(Vec::new()), &ports);
    assert_eq!(letters(&ops), "Q");
}

#[test]
fn a_route_that_comes_back_is_what_it_was() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &desired(vec![acme()]), &ports);
    let before = maps.quotas.clone();
    run(&mut maps, &desired(Vec::new()), &ports);
    let other = route("live/other", vec![resource(Text::Exact("x".into()))], None);
    run(&mut maps, &desired(vec![other.clone()]), &ports);
    assert_eq!(maps.quotas.len(), 2, "its index is not given away");
    run(&mut maps, &desired(vec![other, acme()]), &ports);
    let names: Vec<_> = maps.route_names.iter().collect();
    assert_eq!(
        names,
        [
            (&1, &"live/acme".to_owned()),
            (&2, &"live/other".to_owned())
        ]
    );
    assert_eq!(maps.quotas[&1], before[&1]);
}

#[test]
fn an_index_that_is_matched_again_is_not_idle() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &desired(vec![acme()]), &ports);
    run(&mut maps, &desired(Vec::new()), &ports);
    maps.idle_routes = vec![1];
    run(&mut maps, &desired(vec![acme()]), &ports);
    run(&mut maps, &desired(Vec::new()), &ports);
    assert!(maps.quotas.contains_key(&1), "a session may have begun");
}

#[test]
fn of_two_routes_that_match_the_same_the_first_has_it() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    let both = vec![
        route("live/b", vec![resource(Text::Prefix("x".into()))], None),
        route(
            "live/a",
            vec![
                resource(Text::Prefix("x".into())),
                resource(Text::Exact("x".into())),
            ],
            Some("live/acme"),
        ),
    ];
    run(&mut maps, &desired(both), &ports);
    for (key, entry) in &maps.routes {
        let exact = key.text.ends_with(&[0]);
        let name = &maps.route_names[&entry.route];
        assert_eq!(name, if exact { "live/a" } else { "live/b" });
        assert_eq!(entry.pool == abi::NO_POOL, !exact);
        assert_eq!(entry.length, if exact { 2 } else { 1 });
    }
    assert_eq!(maps.routes.len(), 4);
}

#[test]
fn the_service_says_what_to_look_at() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    let mut mixed = acme();
    mixed.matches.push(Match {
        what: What::Mode,
        mode: Some(Mode::Publish),
    });
    mixed.matches.push(Match {
        what: What::Source("10.0.0.0/8".parse().unwrap()),
        mode: None,
    });
    run(&mut maps, &desired(vec![mixed]), &ports);
    let flags = |vip: &str| {
        let key = ServiceKey::new(to_abi(vip.parse().unwrap()), 9000, abi::UDP);
        maps.services[&key].flags
    };
    let both = abi::SERVICE_SRT
        | abi::SERVICE_STREAM
        | abi::SERVICE_ROUTES_MODE
        | RouteField::Resource.flag()
        | RouteField::Mode.flag();
    assert_eq!(flags("203.0.113.10"), both | RouteField::Source.flag());
    assert_eq!(flags("2001:db8::10"), both, "its callers are IPv6");
    let modes = maps.routes.keys().filter(|k| k.mode == StreamMode::Publish);
    assert_eq!(modes.count(), 2);
}

#[test]
fn a_route_of_what_is_not_there_is_left_out() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    let mut nobody = acme();
    nobody.target = Target::Pool("live/nobody".into());
    let mut nowhere = acme();
    nowhere.name = "live/nowhere".into();
    nowhere.service = "live/acme".into();
    run(&mut maps, &desired(vec![nobody, nowhere]), &ports);
    assert!(maps.routes.is_empty() && maps.quotas.is_empty());
    let mut client = desired(vec![acme()]);
    client.services[0].handshake = Handshake::Client;
    run(&mut maps, &client, &ports);
    assert!(maps.routes.is_empty(), "nobody learns the Stream ID");
}

#[test]
fn a_closing_service_routes_nobody() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &desired(vec![acme()]), &ports);
    let mut gone = desired(vec![acme()]);
    gone.services.remove(0);
    let ops = run(&mut maps, &gone, &ports);
    assert_eq!(letters(&ops), "sstRRTTbb");
    assert!(services::known(&maps).all(|(_, s)| s.flags >> 16 == 0));
}

#[test]
fn a_pool_keeps_its_id_while_its_routes_change() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &desired(vec![acme()]), &ports);
    let pool = |maps: &Observed| maps.routes.values().next().unwrap().pool;
    let before = pool(&maps);
    let mut renamed = acme();
    renamed.name = "live/renamed".into();
    let ops = run(&mut maps, &desired(vec![renamed]), &ports);
    assert_eq!(letters(&ops), "qrr");
    assert_eq!(pool(&maps), before);
}

/// What it finds has no names: new tables first, then the routes, then the old tables go.
#[test]
fn an_agent_that_starts_gives_adopted_pools_new_ids() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &desired(vec![acme()]), &ports);
    let (old, indices) = (maps.routes.clone(), maps.route_names.clone());
    let adopted = maps.tables.clone();
    maps.tables.clear();
    maps.pools.clear();
    let ops = plan(&desired(vec![acme()]), &ports, &maps, &OPTIONS).unwrap();
    assert_eq!(letters(&ops), "ttttrrTT");
    for op in &ops {
        maps.apply(op);
        for route in maps.routes.values() {
            let adopted = adopted.contains_key(&route.pool);
            assert!(adopted || maps.tables.contains_key(&route.pool));
        }
    }
    assert_eq!(maps.route_names, indices);
    assert!(old.keys().eq(maps.routes.keys()) && old != maps.routes);
    assert_eq!(run(&mut maps, &desired(vec![acme()]), &ports), []);
}

#[test]
fn a_weight_changes_the_table_alone() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &desired(Vec::new()), &ports);
    let mut heavy = desired(Vec::new());
    heavy.services[0].backends[0].weight = 3;
    let ops = run(&mut maps, &heavy, &ports);
    let [Op::SetTable { slots, table, .. }] = &ops[..] else {
        panic!("{}", letters(&ops))
    };
    assert_eq!(slots.len(), 4);
    let mut shares = [0; 4];
    for slot in &table.slots[..16_381] {
        shares[usize::from(*slot)] += 1;
    }
    assert!(shares[0] * 10 > shares[1] * 29, "{shares:?}");
}

#[test]
fn a_limit_that_balancing_gives_follows_the_sessions() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    let mut balanced = desired(Vec::new());
    balanced.services[0].balance = true;
    balanced.services[1].backends[0].limit = Some(5);
    run(&mut maps, &balanced, &ports);
    let limits =
        |maps: &Observed| -> Vec<u32> { maps.backends.values().map(|b| b.limit).collect() };
    assert_eq!(limits(&maps), [16, 16, 5, 0]);
    maps.loads = BTreeMap::from([(0, 90), (1, 30), (2, 5)]);
    let ops = run(&mut maps, &balanced, &ports);
    assert_eq!(letters(&ops), "bb");
    assert_eq!(limits(&maps), [75, 75, 5, 0]);
    run(&mut maps, &desired(Vec::new()), &ports);
    assert_eq!(limits(&maps), [0; 4]);
}

#[test]
fn too_many_routes_and_matches_are_refused() {
    let (maps, ports) = (Observed::default(), HashMap::new());
    let text = |i: usize| resource(Text::Exact(i.to_string()));
    let many = |count: usize| (0..count).map(|i| route(&format!("live/{i}"), vec![text(i)], None));
    let refusal = |routes| plan(&desired(routes), &ports, &maps, &OPTIONS).err();
    assert_eq!(refusal(many(4095).collect()), None);
    let limit = 4095;
    assert_eq!(
        refusal(many(4096).collect()),
        Some(PlanError::TooManyRoutes { limit })
    );
    let long = route("live/long", (0..32_768).map(text).collect(), None);
    assert_eq!(refusal(vec![long.clone()]), None);
    let count = 65_538;
    assert_eq!(
        refusal(vec![
            long,
            route("live/one", vec![resource(Text::Prefix("x".into()))], None)
        ]),
        Some(PlanError::TooManyMatches {
            count,
            limit: 65_536
        })
    );
}
