//! Made-up readings, a second apart unless a test says otherwise.

mod property;
mod returns;
mod states;

use ingest_common::abi::{FlowState, v4_mapped};

use super::*;

const SECOND: u64 = 1_000_000_000;
/// When most flows begin.
const START: u64 = 1000 * SECOND;
/// UDP payload of a full data packet, and the SRT payload of it.
const PACKET: u64 = 1332;
const PAYLOAD: u64 = 1316;

fn key(port: u16) -> FlowKey {
    FlowKey {
        address: v4_mapped([198, 51, 100, 7]),
        port,
        service: 1,
    }
}

/// A flow of an SRT service that was accepted at `at_ns`.
fn accepted(at_ns: u64, caller_id: u32) -> Flow {
    let mut flow = Flow {
        accepted_ns: at_ns,
        caller_id,
        listener_id: 9,
        slot: 3,
        incarnation: 1,
        state: FlowState::Established as u8,
        flow_window: 8192,
        ..Default::default()
    };
    flow.up.seen_ns = at_ns;
    flow.down.seen_ns = at_ns;
    flow.down.receive_buffer = 8000;
    flow.down.receiver_latency = 120;
    flow
}

fn asked(caller_id: u32, text: &str) -> StreamId {
    let mut asked = StreamId {
        caller_id,
        version: 0x0001_0501,
        length: text.len() as u16,
        ..Default::default()
    };
    asked.text[..text.len()].copy_from_slice(text.as_bytes());
    asked
}

/// Flows, and a view that looks at them.
struct World {
    view: View,
    now_ns: u64,
    flows: Vec<(FlowKey, Flow)>,
    names: Names,
    thresholds: HashMap<u32, Thresholds>,
    asked: HashMap<FlowKey, StreamId>,
}

impl World {
    fn new() -> Self {
        let backend = |slot: u8| BackendName {
            name: format!("live/pod-{slot}"),
            address: SocketAddr::from(([10, 0, 0, slot], 9000)),
            incarnation: 1,
            draining: false,
        };
        Self {
            view: View::default(),
            now_ns: START,
            flows: Vec::new(),
            names: Names {
                services: HashMap::new(),
                backends: [(3, backend(3)), (4, backend(4))].into(),
                routes: HashMap::new(),
            },
            thresholds: HashMap::new(),
            asked: HashMap::new(),
        }
    }

    /// One flow on port 5000 since [`START`], with these thresholds.
    fn with_one(thresholds: Thresholds) -> Self {
        let mut world = Self::new();
        world.thresholds.insert(1, thresholds);
        world.flows.push((key(5000), accepted(START, 77)));
        world
    }

    fn flow(&mut self) -> &mut Flow {
        &mut self.flows[0].1
    }

    fn stream(&self) -> &Stream {
        self.view.stream(&key(5000)).unwrap()
    }

    fn state(&self) -> (StreamState, Vec<Reason>) {
        let stream = self.stream();
        let reasons = Reason::ALL.into_iter().filter(|r| stream.has(*r));
        (stream.state, reasons.collect())
    }

    fn look(&mut self) -> Vec<Change> {
        let reading = Reading {
            now_ns: self.now_ns,
            flows: self.flows.clone(),
            names: self.names.clone(),
            thresholds: self.thresholds.clone(),
        };
        self.view
            .observe(reading, |key| self.asked.get(key).copied())
    }

    /// Lets `seconds` pass with `packets` data packets a second up and a pod that answers.
    fn run(&mut self, seconds: u64, packets: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for _ in 0..seconds {
            self.now_ns += SECOND;
            let now_ns = self.now_ns;
            let flow = self.flow();
            send(flow, now_ns, packets);
            answer(flow, now_ns);
            changes.extend(self.look());
        }
        changes
    }
}

fn send(flow: &mut Flow, now_ns: u64, packets: u64) {
    let up = &mut flow.up;
    up.packets += packets;
    up.data_packets += packets;
    up.bytes += packets * PACKET;
    // A keepalive, where there is no data.
    if packets == 0 {
        up.packets += 1;
        up.bytes += 20;
    }
    up.seen_ns = now_ns - SECOND / 100;
}

fn answer(flow: &mut Flow, now_ns: u64) {
    let down = &mut flow.down;
    down.packets += 10;
    down.bytes += 440;
    down.acks += 10;
    down.seen_ns = now_ns - SECOND / 100;
}
