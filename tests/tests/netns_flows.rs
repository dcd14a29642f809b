//! The flow table at size: sweeping, reading, and when a slot is free again.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod lab;

use std::{net::Ipv4Addr, time::Instant};

use aya::maps::{Array, HashMap, Map, MapData};
use ingest_agent::{
    dataplane::{Dataplane, Lock, Options, Reader, now_ns},
    reconcile::Op,
};
use ingest_common::abi::{self, BackendState, DeliveryMode, FlowState};
use lab::{PinRoot, service, with_uplink};

/// Puts flows into the pinned map as the kernel would.
fn insert_flows(root: &PinRoot, flows: impl Iterator<Item = (abi::FlowKey, abi::Flow)>) {
    let map = Map::from_map_data(MapData::from_pin(root.map("FLOWS")).unwrap()).unwrap();
    let mut map = HashMap::<_, abi::FlowKey, abi::Flow>::try_from(map).unwrap();
    for (key, flow) in flows {
        map.insert(key, flow, 0).unwrap();
    }
}

fn flow(n: u32, state: FlowState, age_s: u64) -> (abi::FlowKey, abi::Flow) {
    let key = abi::FlowKey {
        address: abi::v4_mapped(Ipv4Addr::from(0x0a00_0000 + n).octets()),
        port: 1000,
        service: 0,
    };
    let then = now_ns().saturating_sub(age_s * 1_000_000_000).max(1);
    let mut flow = abi::Flow {
        accepted_ns: then,
        ended_ns: then,
        state: state as u8,
        incarnation: 1,
        ..Default::default()
    };
    flow.up.seen_ns = then;
    (key, flow)
}

/// A pinned array, read and written as the kernel does.
fn array<V: aya::Pod>(root: &PinRoot, name: &str) -> Array<MapData, V> {
    let map = MapData::from_pin(root.map(name)).unwrap();
    Map::from_map_data(map).unwrap().try_into().unwrap()
}

/// Flows that were evicted took no leave: sessions by slot and by route are what the sweep has counted. Nor has what
/// a caller asked for outlived its flow.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_sweep_sets_counts_of_sessions_right() {
    with_uplink(|| async {
        const ROUTE: u16 = 3;
        let root = PinRoot::new("counts");
        let (mut dataplane, _lock) = lab::load(&root).await.unwrap();
        dataplane
            .apply(&service(0, DeliveryMode::Stack, 1, [0; 6]))
            .unwrap();
        let quota = Op::SetQuota {
            route: ROUTE,
            quota: abi::Quota {
                streams: 9,
                in_use: 1,
                ..Default::default()
            },
            name: "live/acme".into(),
            fresh: true,
        };
        dataplane.apply(&[quota]).unwrap();
        let routed = |n, state, age_s| {
            let (key, flow) = flow(n, state, age_s);
            let route = if n % 2 == 0 { ROUTE } else { 0 };
            (key, abi::Flow { route, ..flow })
        };
        insert_flows(&root, (0..7).map(|n| routed(n, FlowState::Established, 1)));
        insert_flows(&root, (7..9).map(|n| routed(n, FlowState::Cut, 1)));
        // Both its ends died unheard: it takes nobody's place.
        let dead = routed(12, FlowState::Established, 10);
        insert_flows(&root, [dead].into_iter());
        let old = routed(9, FlowState::Cut, 61);
        insert_flows(&root, [old].into_iter());
        let other = abi::Flow {
            incarnation: 0,
            ..flow(10, FlowState::Established, 1).1
        };
        insert_flows(&root, [(flow(10, FlowState::Cut, 0).0, other)].into_iter());
        let ids = Map::from_map_data(MapData::from_pin(root.map("STREAM_IDS")).unwrap()).unwrap();
        let mut ids = HashMap::<_, abi::FlowKey, abi::StreamId>::try_from(ids).unwrap();
        for key in [flow(0, FlowState::Cut, 0).0, old.0] {
            ids.insert(key, abi::StreamId::default(), 0).unwrap();
        }
        let mut loads = array::<abi::Load>(&root, "LOADS");
        let mut states = array::<abi::RouteState>(&root, "ROUTE_STATES");
        loads.set(0, abi::Load { active: 50 }, 0).unwrap();
        let state = abi::RouteState {
            sessions_ns: 11,
            bytes_ns: 12,
            active: 0,
        };
        states.set(u32::from(ROUTE), state, 0).unwrap();

        let report = dataplane.sweep(now_ns()).unwrap();
        assert_eq!(report.by_slot[&0], 8, "of the present tenant");
        assert_eq!(report.by_route[&ROUTE], 4);
        assert_eq!(loads.get(&0, 0).unwrap().active, 7);
        let corrected = abi::RouteState { active: 4, ..state };
        assert_eq!(states.get(&u32::from(ROUTE), 0).unwrap(), corrected);
        let observed = dataplane.observe().unwrap();
        assert_eq!(observed.loads[&0], 7);
        assert_eq!(observed.idle_routes, [0_u16; 0], "it has sessions");
        assert!(ids.get(&flow(0, FlowState::Cut, 0).0, 0).is_ok());
        assert!(ids.get(&old.0, 0).is_err());

        dataplane.sweep(now_ns() + 120_000_000_000).unwrap();
        assert_eq!(loads.get(&0, 0).unwrap().active, 0);
        assert_eq!(dataplane.observe().unwrap().idle_routes, [ROUTE]);

        // A slot's new tenant, and an index's new route, begin at nothing.
        loads.set(0, abi::Load { active: 5 }, 0).unwrap();
        dataplane
            .apply(&service(0, DeliveryMode::Stack, 2, [0; 6]))
            .unwrap();
        assert_eq!(loads.get(&0, 0).unwrap().active, 0);
        let again = Op::SetQuota {
            route: ROUTE,
            quota: abi::Quota::default(),
            name: "live/other".into(),
            fresh: true,
        };
        dataplane.apply(&[again]).unwrap();
        let fresh = states.get(&u32::from(ROUTE), 0).unwrap();
        assert_eq!(fresh, abi::RouteState::default());
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_sweep_forgets_what_is_over_and_counts_the_rest() {
    with_uplink(|| async {
        const MANY: u32 = 100_000;
        let root = PinRoot::new("sweep");
        let lock = Lock::acquire(&root.0).unwrap();
        let options = Options {
            max_flows: 131_072,
            ..root.options()
        };
        let mut dataplane = Dataplane::load(&options, &lock).await.unwrap();
        dataplane
            .apply(&service(0, DeliveryMode::Stack, 1, [0; 6]))
            .unwrap();
        insert_flows(&root, (0..MANY).map(|n| flow(n, FlowState::Established, 1)));
        insert_flows(
            &root,
            (MANY..MANY + 10).map(|n| flow(n, FlowState::Established, 61)),
        );
        insert_flows(
            &root,
            (MANY + 10..MANY + 20).map(|n| flow(n, FlowState::Cut, 11)),
        );
        insert_flows(
            &root,
            (MANY + 20..MANY + 30).map(|n| flow(n, FlowState::Cut, 9)),
        );

        let start = Instant::now();
        let report = dataplane.sweep(now_ns()).unwrap();
        println!(
            "swept {} flows in {:?}",
            report.kept + report.removed,
            start.elapsed()
        );
        assert_eq!((report.removed, report.kept), (20, MANY as usize + 10));
        assert_eq!(report.by_service[&0], MANY);
        assert_eq!(report.by_slot[&0], MANY);

        let reader = Reader::open(&root.0).unwrap();
        let start = Instant::now();
        assert_eq!(reader.flows().unwrap().len(), MANY as usize + 10);
        println!("read in {:?}", start.elapsed());
        assert_eq!(reader.max_flows(), 131_072);

        // So is a service that closes, and a slot that is gone: idle only when the last flow is.
        let set = |flags| Op::SetService {
            key: abi::ServiceKey::new(abi::v4_mapped(lab::VIP), lab::VIP_PORT, abi::UDP),
            service: abi::Service {
                id: 0,
                pool: 0,
                flags: abi::SERVICE_SRT | flags,
            },
            name: "live/srt".into(),
            fresh: false,
        };
        let closing = [set(abi::SERVICE_CLOSING)];
        let gone = |incarnation| {
            let Op::SetBackend {
                slot,
                mut backend,
                name,
                tenant,
                ..
            } = service(0, DeliveryMode::Stack, incarnation, [0; 6]).swap_remove(0)
            else {
                unreachable!()
            };
            backend.state = BackendState::Gone as u8;
            [Op::SetBackend {
                slot,
                backend,
                name,
                tenant,
                fresh: false,
            }]
        };
        let none = [0_u16; 0];
        dataplane.apply(&gone(1)).unwrap();
        dataplane.apply(&closing).unwrap();
        dataplane.sweep(now_ns()).unwrap();
        assert_eq!(dataplane.observe().unwrap().idle_gone, none);
        assert_eq!(dataplane.observe().unwrap().idle_closing, none);
        dataplane.sweep(now_ns() + 120_000_000_000).unwrap();
        assert_eq!(dataplane.observe().unwrap().idle_gone, [0]);
        assert_eq!(dataplane.observe().unwrap().idle_closing, [0]);

        // Who came back may have sessions again.
        dataplane.apply(&[set(0)]).unwrap();
        dataplane.apply(&closing).unwrap();
        assert_eq!(dataplane.observe().unwrap().idle_closing, none);
        dataplane.apply(&[Op::FreeBackend { slot: 0 }]).unwrap();
        assert_eq!(dataplane.observe().unwrap().idle_gone, [0_u16; 0]);
        assert_eq!(dataplane.observe().unwrap().backends[&0].incarnation, 1);
    });
}
