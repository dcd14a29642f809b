//! The object under test, its maps filled as the agent would fill them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, ensure};
use aya::maps::{
    Array, ArrayOfMaps, HashMap, LpmTrie, Map, MapData, RingBuf, lpm_trie, xdp::DevMap,
};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use ingest_common::abi::{
    self, Address, Backend, BackendState, Config, DeliveryMode, Endpoint, EndpointKey, Flow,
    FlowKey, FlowState, Handshake, Health, MaglevTable, Path, Quota, Return, ReturnKey, Route,
    RouteField, RouteKey, Service, ServiceKey, SourceKey, Splice, StreamId, Up, Vip,
};

use crate::frames;
use crate::reference::SECRETS;

/// A built kernel object: where the environment says, else where `cargo xtask build-ebpf` leaves it.
pub(crate) fn object(variable: &str, name: &str) -> Result<Vec<u8>> {
    let path = ingest_tests::built(variable, &format!("ebpf/{name}"))?;
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The XDP program of this name, loaded.
pub(crate) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    let program: &mut Xdp = program.try_into()?;
    if program.fd().is_err() {
        program
            .load()
            .with_context(|| format!("cannot load {name}"))?;
    }
    Ok(program)
}

/// The tc program of this name, loaded.
pub(crate) fn tc<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    let program: &mut SchedClassifier = program.try_into()?;
    if program.fd().is_err() {
        program
            .load()
            .with_context(|| format!("cannot load {name}"))?;
    }
    Ok(program)
}

/// An address as the maps hold it.
pub(crate) fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => abi::v4_mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The loaded object.
pub(crate) struct Real {
    ebpf: Ebpf,
}

impl Real {
    /// Loads it with room for `flows`.
    pub(crate) fn load(flows: u32) -> Result<Self> {
        let bytes = object("INGEST_EBPF", "ingest")?;
        let ebpf = EbpfLoader::new()
            .map_max_entries("FLOWS", flows)
            .map_max_entries("RETURNS", flows)
            // As the agent loads it by default: no logging.
            .override_global("AYA_LOG_LEVEL", &0_u8, false)
            .load(&bytes)
            .context("cannot load the kernel object")?;
        let mut real = Self { ebpf };
        let config = Config {
            // Sessions of the benchmarks never end for silence.
            silence_ns: u64::MAX / 2,
            // Looked at for every handshake, and never too fast.
            induction_interval_ns: 1,
            conclusion_interval_ns: 1,
            ..Config::default()
        };
        real.set("CONFIG", 0, config)?;
        real.set("SECRETS", 0, SECRETS)?;
        Ok(real)
    }

    /// An XDP program, loaded.
    pub(crate) fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        xdp(&mut self.ebpf, name)
    }

    /// A tc program, loaded.
    pub(crate) fn tc(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        tc(&mut self.ebpf, name)
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name}"))
    }

    fn set<V: Pod>(&mut self, name: &str, index: u32, value: V) -> Result<()> {
        let mut map: Array<&mut MapData, V> = self.map(name)?.try_into()?;
        map.set(index, value, 0)
            .with_context(|| format!("cannot write {name}"))
    }

    fn insert<K: Pod, V: Pod>(&mut self, name: &str, key: K, value: V) -> Result<()> {
        let mut map: HashMap<&mut MapData, K, V> = self.map(name)?.try_into()?;
        map.insert(key, value, 0)
            .with_context(|| format!("cannot write {name}"))
    }

    /// Adds a service.
    pub(crate) fn service(&mut self, vip: SocketAddr, service: Service) -> Result<()> {
        let key = ServiceKey::new(address(vip.ip()), vip.port(), abi::UDP);
        self.insert("SERVICES", key, service)?;
        let mark = Service {
            flags: abi::SERVICE_VIP_MARK,
            ..Service::default()
        };
        self.insert("SERVICES", ServiceKey::vip(key.address), mark)?;
        let vip = Vip {
            address: key.address,
            port: key.port,
            protocol: key.protocol,
            in_use: 1,
            pool: service.pool,
            flags: service.flags as u16,
        };
        self.set("VIPS", service.id.into(), vip)
    }

    /// Adds routes by resource that no caller of ours matches but for the last, which leads to `pool`.
    pub(crate) fn routes(&mut self, service: u16, pool: u16) -> Result<()> {
        let mut map: LpmTrie<&mut MapData, RouteKey, Route> = self.map("ROUTES")?.try_into()?;
        for route in 1..=256_u16 {
            let text = if route == 256 {
                "live/".to_owned()
            } else {
                format!("customer-{route}/")
            };
            let mut key = RouteKey {
                service,
                field: RouteField::Resource as u8,
                ..RouteKey::default()
            };
            for (to, from) in key.text.iter_mut().zip(text.bytes()) {
                *to = from;
            }
            let length = text.len() as u16;
            let value = Route {
                route,
                pool,
                length,
                _pad: 0,
            };
            let bits = 8 * (4 + u32::from(length));
            map.insert(&lpm_trie::Key::new(bits, key), value, 0)
                .context("cannot write ROUTES")?;
        }
        Ok(())
    }

    /// Allows one source range that no client of ours is in, and sixteen more.
    pub(crate) fn sources(&mut self, service: u16) -> Result<()> {
        let mut map: LpmTrie<&mut MapData, SourceKey, u32> = self.map("SOURCES")?.try_into()?;
        for third in 0..17 {
            let key = SourceKey {
                service: service.into(),
                address: abi::v4_mapped([192, 0, third, 0]),
            };
            map.insert(&lpm_trie::Key::new(32 + 96 + 24, key), 1, 0)
                .context("cannot write SOURCES")?;
        }
        Ok(())
    }

    /// Sets a backend whose packets keep their MACs.
    pub(crate) fn backend(
        &mut self,
        slot: u16,
        pod: SocketAddr,
        mode: DeliveryMode,
        macs: ([u8; 6], [u8; 6]),
        ifindex: u32,
    ) -> Result<()> {
        let backend = Backend {
            address: address(pod.ip()),
            port: pod.port(),
            protocol: abi::UDP,
            state: BackendState::Serving as u8,
            mode: mode as u8,
            pod_mac: macs.0,
            port_mac: macs.1,
            ifindex,
            incarnation: 1,
            ..Backend::default()
        };
        self.set("BACKENDS", slot.into(), backend)?;
        // Heard at all times: neither its silence nor its voice is news.
        let health = Health {
            heard_ns: u64::MAX,
            ..Health::default()
        };
        self.set("HEALTH", slot.into(), health)?;
        let key = EndpointKey::new(backend.address, backend.port, abi::UDP);
        self.insert("ENDPOINTS", key, Endpoint { slot: slot.into() })?;
        let mut ports: DevMap<&mut MapData> = self.map("POD_PORTS")?.try_into()?;
        ports
            .set(slot.into(), ifindex, None, 0)
            .context("cannot write POD_PORTS")
    }

    /// Places every new session of `pool` on `slot`.
    #[expect(
        clippy::large_stack_arrays,
        reason = "a map value, 32 KiB on a main thread's stack"
    )]
    pub(crate) fn table(&mut self, pool: u16, slot: u16) -> Result<()> {
        let table = MaglevTable {
            slots: [slot; 16384],
        };
        let mut inner: Array<MapData, MaglevTable> = Array::create(1, 0)?;
        inner.set(0, table, 0)?;
        let mut map: ArrayOfMaps<&mut MapData, Array<MapData, MaglevTable>> =
            self.map("TABLES")?.try_into()?;
        map.set(pool.into(), &inner, 0)
            .context("cannot write TABLES")
    }

    /// Adds an accepted session that expects sequence number 0, for both directions.
    pub(crate) fn flow(
        &mut self,
        client: SocketAddr,
        service: u16,
        slot: u16,
        path: Path,
    ) -> Result<()> {
        self.flow_up(client, service, slot, path)?;
        let key = ReturnKey {
            address: address(client.ip()),
            port: client.port(),
            slot,
        };
        self.insert("RETURNS", key, Return { service, _pad: 0 })
    }

    /// Adds an accepted session for packets from its client only.
    pub(crate) fn flow_up(
        &mut self,
        client: SocketAddr,
        service: u16,
        slot: u16,
        path: Path,
    ) -> Result<()> {
        let flow = Flow {
            accepted_ns: 1,
            incarnation: 1,
            caller_id: frames::CALLER_ID,
            listener_id: frames::LISTENER_ID,
            slot,
            state: FlowState::Established as u8,
            path,
            flow_window: 8192,
            up: Up {
                // A living pod answers every 10 ms: the count of unanswered packets never gets old.
                unanswered: 1,
                unanswered_since_ns: u64::MAX,
                ..Up::default()
            },
            ..Flow::default()
        };
        let key = FlowKey {
            address: address(client.ip()),
            port: client.port(),
            service,
        };
        self.insert("FLOWS", key, flow)
    }

    /// Makes packets of a flow be measured against a bitrate that they never reach.
    pub(crate) fn police(&mut self, client: SocketAddr, service: u16, route: u16) -> Result<()> {
        let mut flow = self.read_flow(client, service)?;
        flow.route = route;
        flow.marks = abi::FLOW_POLICED;
        let key = FlowKey {
            address: address(client.ip()),
            port: client.port(),
            service,
        };
        self.insert("FLOWS", key, flow)?;
        let quota = Quota {
            stream_byte_cost: 1,
            route_byte_cost: 1,
            bitrate_burst_ns: 1_000_000_000,
            in_use: 1,
            ..Quota::default()
        };
        self.set("QUOTAS", route.into(), quota)
    }

    /// Notes that the pod has issued its cookie to a caller, of whose CONCLUSION `payload` is kept.
    pub(crate) fn spliced(
        &mut self,
        client: SocketAddr,
        service: u16,
        slot: u16,
        payload: &[u8],
    ) -> Result<()> {
        let (address, port) = (address(client.ip()), client.port());
        let mut splice = Splice {
            slot,
            length: payload.len() as u16,
            incarnation: 1,
            stream: StreamId {
                caller_id: frames::CALLER_ID,
                ..StreamId::default()
            },
            ..Splice::default()
        };
        for (to, from) in splice.bytes.iter_mut().zip(payload) {
            *to = *from;
        }
        let key = FlowKey {
            address,
            port,
            service,
        };
        self.insert("SPLICES", key, splice)?;
        let now_ns = ingest_agent::dataplane::now_ns();
        let handshake = Handshake {
            first_ns: now_ns,
            cookie_ns: now_ns,
            caller_id: frames::CALLER_ID,
            pod_cookie: 0x1357_9bdf,
            service,
            ..Handshake::default()
        };
        let key = ReturnKey {
            address,
            port,
            slot,
        };
        self.insert("HANDSHAKES", key, handshake)
    }

    /// Reads a flow.
    pub(crate) fn read_flow(&mut self, client: SocketAddr, service: u16) -> Result<Flow> {
        let map: HashMap<&mut MapData, FlowKey, Flow> = self.map("FLOWS")?.try_into()?;
        let key = FlowKey {
            address: address(client.ip()),
            port: client.port(),
            service,
        };
        map.get(&key, 0)
            .with_context(|| format!("the flow of {client} is gone"))
    }

    /// Bytes of kernel memory per entry of a map, as the kernel counts them.
    pub(crate) fn bytes_per_entry(&mut self, name: &str) -> Result<f64> {
        let (Map::LruHashMap(data) | Map::Array(data) | Map::PerCpuArray(data)) = self.map(name)?
        else {
            anyhow::bail!("{name} is of another type than it was");
        };
        let path = format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let field = |name: &str| -> Result<f64> {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
                .with_context(|| format!("no {name} in {path}"))
        };
        Ok(field("memlock:")? / field("max_entries:")?)
    }

    /// Empties the event ring, as the agent does; says how many there were.
    pub(crate) fn drain_events(&mut self) -> Result<usize> {
        let mut ring: RingBuf<&mut MapData> = self.map("EVENTS")?.try_into()?;
        let mut count = 0;
        while ring.next().is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// Fails where the flow's packets were not seen in order, one by one.
    pub(crate) fn expect_in_order(&mut self, client: SocketAddr, service: u16) -> Result<()> {
        let up = self.read_flow(client, service)?.up;
        ensure!(
            up.packets == up.data_packets
                && up.gaps == 0
                && up.out_of_order == 0
                && up.retransmitted == 0,
            "the data packets of {client} were not measured in order: {up:?}"
        );
        Ok(())
    }
}
