//! Maps are read in batches: what stays is found, once and whole, however much comes and goes meanwhile; and where nothing
//! does, a batch says what one-by-one reading says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aya::maps::{HashMap, Map, MapData};
use ingest_agent::dataplane::{Reader, now_ns};
use ingest_common::abi::{Flow, FlowKey, FlowState, v4_mapped};
use ingest_tests::netns::Layout;
use ingest_tests::peers::ListenerOptions;
use ingest_tests::scene::Scene;

/// More than one batch holds.
const STAYING: u16 = 12_000;
/// Rounds of reading while others come and go.
const ROUNDS: usize = 20;

fn key(client: [u8; 4], port: u16) -> FlowKey {
    FlowKey {
        address: v4_mapped(client),
        port,
        service: 0,
    }
}

fn flow(number: u16) -> Flow {
    let mut flow = Flow {
        accepted_ns: now_ns(),
        caller_id: u32::from(number) + 1,
        state: FlowState::Established as u8,
        ..Flow::default()
    };
    (flow.up.seen_ns, flow.down.seen_ns) = (flow.accepted_ns, flow.accepted_ns);
    flow.up.packets = u64::from(number) * 3;
    flow
}

fn stays(key: &FlowKey) -> bool {
    key.address == v4_mapped([198, 51, 100, 1])
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_stays_is_found_once_and_whole() {
    let layout = Layout {
        pods: 1,
        ..Layout::default()
    };
    let mut scene = Scene::with(layout, "auto", &ListenerOptions::default()).unwrap();
    // Nobody else sweeps or judges what is made up here.
    scene.agent.stop().unwrap();
    let [pin] = &scene.agent.pins("FLOWS").unwrap()[..] else {
        panic!("FLOWS is not pinned once")
    };
    let open = || -> HashMap<MapData, FlowKey, Flow> {
        let map = Map::from_map_data(MapData::from_pin(pin).unwrap()).unwrap();
        map.try_into().unwrap()
    };
    let mut flows = open();
    for number in 0..STAYING {
        let key = key([198, 51, 100, 1], number);
        flows.insert(key, flow(number), 0).unwrap();
    }
    let reader = Reader::open(scene.agent.pin_root()).unwrap();

    let one_by_one: BTreeMap<FlowKey, u32> = flows
        .iter()
        .map(Result::unwrap)
        .map(|(key, flow)| (key, flow.caller_id))
        .collect();
    let mut batches = BTreeMap::new();
    reader
        .for_each_flow(|key, flow| {
            assert_eq!(batches.insert(*key, flow.caller_id), None, "{key:?} twice");
        })
        .unwrap();
    assert_eq!(batches.len(), usize::from(STAYING));
    assert_eq!(batches, one_by_one);

    let done = AtomicBool::new(false);
    let churned = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut flows = open();
            for port in (1..u16::MAX).cycle() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let guest = key([203, 0, 113, 7], port);
                flows.insert(guest, flow(port), 0).unwrap();
                if port % 2 == 0 {
                    flows.remove(&key([203, 0, 113, 7], port / 2)).unwrap();
                }
                churned.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 0..ROUNDS {
            let mut found = BTreeMap::new();
            reader
                .for_each_flow(|key, flow| {
                    assert_eq!(
                        flow.up.packets,
                        u64::from(flow.caller_id - 1) * 3,
                        "{key:?}"
                    );
                    if stays(key) {
                        assert_eq!(flow.caller_id, u32::from(key.port) + 1, "{key:?}");
                        *found.entry(*key).or_insert(0) += 1;
                    }
                })
                .unwrap();
            assert_eq!(found.len(), usize::from(STAYING), "round {round}");
            assert!(found.values().all(|times| *times == 1), "round {round}");
        }
        done.store(true, Ordering::Relaxed);
    });
    let churned = churned.load(Ordering::Relaxed);
    println!("{ROUNDS} readings of {STAYING} flows, {churned} others came meanwhile");
    assert!(churned > 1000, "{churned}");
}
