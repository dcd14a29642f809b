//! The flow table at size: sweeping, reading, and when a slot is free again.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod lab;

use std::{net::Ipv4Addr, time::Instant};

use aya::maps::{HashMap, Map, MapData};
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
