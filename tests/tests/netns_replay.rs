//! What tc at the pod's side makes of a pod's INDUCTION response, on real interfaces: the kept CONCLUSION comes back to the
//! pod's socket, and the client hears nothing.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use aya::Pod as Plain;
use aya::maps::{Array, HashMap, Map, MapData};
use ingest_common::abi::{
    Address, Endpoint, EndpointKey, FlowKey, Handshake, ReturnKey, SERVICE_STREAM, Splice,
    StreamId, UDP, Vip, v4_mapped,
};
use ingest_tests::agent::Agent;
use ingest_tests::config::Config;
use ingest_tests::fixtures::srt::{self, CALLER_ID, COOKIE};
use ingest_tests::netns::{CLIENT_V4, CLIENT_V6, Family, Layout, Namespace, Pod, Topology, Wiring};
use ingest_tests::peers::PORT;

/// The client's port.
const CLIENT_PORT: u16 = 40_000;

fn mapped(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => v4_mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

fn array<V: Plain>(pins: &Path, name: &str) -> Array<MapData, V> {
    let map = MapData::from_pin(pins.join(name)).unwrap();
    Map::from_map_data(map).unwrap().try_into().unwrap()
}

fn table<K: Plain, V: Plain>(pins: &Path, name: &str) -> HashMap<MapData, K, V> {
    let map = MapData::from_pin(pins.join(name)).unwrap();
    Map::from_map_data(map).unwrap().try_into().unwrap()
}

/// The client has asked the pod, and `payload` waits for its cookie.
fn keep(pins: &Path, pod: &Pod, family: Family, client: Address, payload: &[u8]) {
    let endpoints: HashMap<_, EndpointKey, Endpoint> = table(pins, "ENDPOINTS");
    let key = EndpointKey::new(mapped(pod.address(family)), PORT, UDP);
    let slot = endpoints.get(&key, 0).unwrap().slot as u16;
    let mut vips: Array<_, Vip> = array(pins, "VIPS");
    let is_vip = |id: &u32| vips.get(id, 0).unwrap().address == mapped(family.vip());
    let id = (0..64).find(is_vip).unwrap();
    let mut vip = vips.get(&id, 0).unwrap();
    vip.flags |= SERVICE_STREAM as u16;
    vips.set(id, vip, 0).unwrap();
    let backends: Array<_, ingest_common::abi::Backend> = array(pins, "BACKENDS");
    let incarnation = backends.get(&u32::from(slot), 0).unwrap().incarnation;
    let handshake = Handshake {
        first_ns: 1,
        caller_id: CALLER_ID,
        service: id as u16,
        flow_window: 8192,
        ..Handshake::default()
    };
    let key = ReturnKey {
        address: client,
        port: CLIENT_PORT,
        slot,
    };
    let mut handshakes: HashMap<_, ReturnKey, Handshake> = table(pins, "HANDSHAKES");
    handshakes.insert(key, handshake, 0).unwrap();
    let mut splice = Splice {
        slot,
        length: payload.len() as u16,
        incarnation,
        stream: StreamId {
            caller_id: CALLER_ID,
            ..StreamId::default()
        },
        ..Splice::default()
    };
    splice.bytes[..payload.len()].copy_from_slice(payload);
    let key = FlowKey {
        address: client,
        port: CLIENT_PORT,
        service: id as u16,
    };
    let mut splices: HashMap<_, FlowKey, Splice> = table(pins, "SPLICES");
    splices.insert(key, splice, 0).unwrap();
}

fn socket(netns: &Namespace, address: SocketAddr) -> UdpSocket {
    let socket = netns.enter(move || Ok(UdpSocket::bind(address)?)).unwrap();
    let limit = Some(Duration::from_millis(500));
    socket.set_read_timeout(limit).unwrap();
    socket
}

/// One replay of `length` bytes.
fn replay(topology: &Topology, agent: &Agent, family: Family, length: usize, what: &str) {
    let pod = &topology.pods[0];
    let client: IpAddr = match family {
        Family::V4 => CLIENT_V4.into(),
        Family::V6 => CLIENT_V6.into(),
    };
    let mut payload = srt::conclusion().with(|h| h.cookie = 0x0bad_cafe).bytes();
    payload.resize(length, 0x5a);
    let pins = agent.pins("SPLICES").unwrap();
    let pins = pins.first().unwrap().parent().unwrap();
    keep(pins, pod, family, mapped(client), &payload);

    let listener = socket(&pod.netns, (pod.address(family), PORT).into());
    let caller = socket(&topology.client, (client, CLIENT_PORT).into());
    let response = srt::induction_answer().bytes();
    listener.send_to(&response, (client, CLIENT_PORT)).unwrap();
    let mut buffer = [0; 2048];
    let (size, from) = listener.recv_from(&mut buffer).expect(what);
    payload[44..48].copy_from_slice(&COOKIE.to_be_bytes());
    assert_eq!(buffer[..size], payload, "{what}");
    assert_eq!(from, (client, CLIENT_PORT).into(), "{what}");
    // Its second response is for nobody.
    listener.send_to(&response, (client, CLIENT_PORT)).unwrap();
    caller
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert!(
        caller.recv_from(&mut buffer).is_err(),
        "{what}: the client heard it"
    );
}

/// * in each delivery mode, both families, on a bridge and routed: the pod's socket gets the whole CONCLUSION with its own cookie;
/// * with the pod's checksums complete as well as left to a device, which the pod's port is where the host routes: a wrong sum
///   would not pass the socket;
/// * the client hears neither the response nor a second one.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_pod_gets_the_kept_conclusion() {
    for wiring in [Wiring::Routed, Wiring::Bridge] {
        let layout = Layout {
            pods: 1,
            wiring,
            ..Layout::default()
        };
        let topology = Topology::with(layout).unwrap();
        for mode in ["peer", "redirect", "stack"] {
            let config = Config::new(&topology.pods);
            let agent = Agent::start(&topology.node, &config, mode).unwrap();
            agent.wait_mode(mode).unwrap();
            for (pod, port) in [("on", "on"), ("off", "on"), ("on", "off")] {
                let command = format!("ethtool -K eth0 tx {pod}");
                topology.pods[0].netns.shell(&command).unwrap();
                let command = format!("ethtool -K {} tx {port}", topology.pods[0].name);
                topology.node.shell(&command).unwrap();
                for (family, length) in [
                    (Family::V4, 80),
                    (Family::V6, 80),
                    (Family::V4, 64),
                    (Family::V4, 1024),
                    (Family::V6, 1024),
                ] {
                    let what = format!("{wiring:?} {mode} tx {pod} {port} {family:?} {length}");
                    replay(&topology, &agent, family, length, &what);
                }
            }
        }
    }
}
