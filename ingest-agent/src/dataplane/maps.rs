//! The maps with their types, from a loaded object or from pins. Every failure names the map.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use aya::{
    Ebpf, Pod,
    maps::{
        Array, ArrayOfMaps, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues,
        lpm_trie::Key, xdp::DevMap,
    },
};
use ingest_common::abi;

use super::{Error, pins::Pins, raw};

/// A map by its name, with a descriptor for what aya has no call for.
pub(super) struct Handle<M> {
    name: &'static str,
    fd: OwnedFd,
    map: M,
}

pub(super) type ArrayMap<V> = Handle<Array<MapData, V>>;
pub(super) type HashTable<K, V> = Handle<HashMap<MapData, K, V>>;
pub(super) type Counters<V> = Handle<PerCpuArray<MapData, V>>;
pub(super) type Sources = Handle<LpmTrie<MapData, abi::SourceKey, u32>>;
pub(super) type Routes = Handle<LpmTrie<MapData, abi::RouteKey, abi::Route>>;
pub(super) type PodPorts = Handle<DevMap<MapData>>;
/// A Maglev table as the kernel holds it: one value.
pub(super) type Table = Array<MapData, abi::MaglevTable>;
pub(super) type Tables = Handle<ArrayOfMaps<MapData, Table>>;

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name)
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

impl<M> AsFd for Handle<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<M: TryFrom<Map, Error = MapError>> Handle<M> {
    fn new(name: &'static str, map: Map) -> Result<Self, Error> {
        let fd = match &map {
            Map::Array(data)
            | Map::ArrayOfMaps(data)
            | Map::DevMap(data)
            | Map::HashMap(data)
            | Map::LpmTrie(data)
            | Map::LruHashMap(data)
            | Map::PerCpuArray(data) => data.fd().as_fd().try_clone_to_owned(),
            _ => return Err(Error::NoMap { map: name }),
        };
        let fd = fd.map_err(|source| Error::Batch { map: name, source })?;
        let map = M::try_from(map).map_err(|source| failed("opening", name, source))?;
        Ok(Self { name, fd, map })
    }
}

impl<M: TryFrom<Map, Error = MapError>> Handle<M> {
    /// Takes one map out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, Error> {
        ebpf.take_map(name)
            .ok_or(Error::NoMap { map: name })
            .and_then(|map| Self::new(name, map))
    }
}

impl<M> Handle<M> {
    /// [`raw::for_each`], for a map whose key and value sizes its type has checked.
    fn visit<K: Pod, V: Pod>(&self, visit: impl FnMut(&K, &V)) -> Result<(), Error> {
        raw::for_each(self, visit).map_err(|source| Error::Batch {
            map: self.name,
            source,
        })
    }

    fn erase<K: Pod>(&self, key: &K) -> Result<bool, Error> {
        raw::delete(self, key).map_err(|source| Error::Delete {
            map: self.name,
            source,
        })
    }
}

impl<V: Pod> ArrayMap<V> {
    pub(super) fn get(&self, index: u32) -> Result<V, Error> {
        self.map
            .get(&index, 0)
            .map_err(|source| failed("reading", self.name, source))
    }

    pub(super) fn set(&mut self, index: u32, value: &V) -> Result<(), Error> {
        self.map
            .set(index, value, 0)
            .map_err(|source| failed("writing", self.name, source))
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(u32, &V)) -> Result<(), Error> {
        self.visit::<u32, V>(|index, value| visit(*index, value))
    }
}

impl<K: Pod, V: Pod> HashTable<K, V> {
    pub(super) fn get(&self, key: &K) -> Result<Option<V>, Error> {
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(failed("reading", self.name, source)),
        }
    }

    pub(super) fn insert(&mut self, key: &K, value: &V) -> Result<(), Error> {
        self.map
            .insert(key, value, 0)
            .map_err(|source| failed("writing", self.name, source))
    }

    /// `false` if there was none.
    pub(super) fn remove(&mut self, key: &K) -> Result<bool, Error> {
        self.erase(key)
    }

    pub(super) fn for_each(&self, visit: impl FnMut(&K, &V)) -> Result<(), Error> {
        self.visit(visit)
    }
}

impl<V: Pod> Counters<V> {
    /// One value per possible CPU.
    pub(super) fn get(&self, index: u32) -> Result<PerCpuValues<V>, Error> {
        self.map
            .get(&index, 0)
            .map_err(|source| failed("reading", self.name, source))
    }

    /// Sets every CPU's value to `value`.
    pub(super) fn fill(&mut self, index: u32, value: V) -> Result<(), Error> {
        let system = |source| Error::System {
            operation: "counting the CPUs",
            source,
        };
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| system(source))?;
        let values = PerCpuValues::try_from(vec![value; cpus]).map_err(system)?;
        self.map
            .set(index, values, 0)
            .map_err(|source| failed("writing", self.name, source))
    }
}

/// Statistics that each CPU keeps its own of.
pub(super) trait Sum: Pod + Default {
    fn add(&mut self, other: &Self);
}

macro_rules! sum {
    ($($stats:ty),+ $(,)?) => {$(
        impl Sum for $stats {
            fn add(&mut self, other: &Self) {
                Self::add(self, other);
            }
        }
    )+};
}
sum! { abi::Traffic, abi::SpliceStats, abi::RouteStats }

impl<V: Sum> Counters<V> {
    /// Summed over CPUs.
    pub(super) fn sum(&self, index: u32) -> Result<V, Error> {
        let mut sum = V::default();
        self.get(index)?.iter().for_each(|cpu| sum.add(cpu));
        Ok(sum)
    }
}

impl Sources {
    pub(super) fn insert(&mut self, prefix: u32, key: abi::SourceKey) -> Result<(), Error> {
        self.map
            .insert(&Key::new(prefix, key), 1, 0)
            .map_err(|source| failed("writing", self.name, source))
    }

    /// `false` if there was none.
    pub(super) fn remove(&mut self, prefix: u32, key: abi::SourceKey) -> Result<bool, Error> {
        self.erase(&Key::new(prefix, key))
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(u32, abi::SourceKey)) -> Result<(), Error> {
        self.visit::<Key<abi::SourceKey>, u32>(|key, _| visit(key.prefix_len(), key.data()))
    }
}

impl Routes {
    pub(super) fn insert(
        &mut self,
        bits: u32,
        key: abi::RouteKey,
        route: abi::Route,
    ) -> Result<(), Error> {
        self.map
            .insert(&Key::new(bits, key), route, 0)
            .map_err(|source| failed("writing", self.name, source))
    }

    /// `false` if there was none.
    pub(super) fn remove(&mut self, bits: u32, key: abi::RouteKey) -> Result<bool, Error> {
        self.erase(&Key::new(bits, key))
    }

    /// With how many bits of the key count.
    pub(super) fn for_each(
        &self,
        mut visit: impl FnMut(u32, abi::RouteKey, &abi::Route),
    ) -> Result<(), Error> {
        self.visit::<Key<abi::RouteKey>, abi::Route>(|key, route| {
            visit(key.prefix_len(), key.data(), route);
        })
    }
}

impl PodPorts {
    /// Points `slot` at an interface; `false` if there is no such interface any more.
    pub(super) fn set(&mut self, slot: u32, ifindex: u32) -> Result<bool, Error> {
        match self.map.set(slot, ifindex, None, 0) {
            Ok(()) => Ok(true),
            // The kernel looks the index up and says EINVAL where there is nothing.
            Err(error) if raw::interface_name(ifindex).is_none() => {
                tracing::debug!(slot, ifindex, %error, "pod port is gone");
                Ok(false)
            }
            Err(source) => Err(Error::PodPort {
                slot,
                ifindex,
                source: Box::new(source),
            }),
        }
    }

    /// `false` if there was none.
    pub(super) fn remove(&mut self, slot: u32) -> Result<bool, Error> {
        self.erase(&slot)
    }
}

fn failed(operation: &'static str, map: &'static str, source: MapError) -> Error {
    Error::Map {
        operation,
        map,
        source: Box::new(source),
    }
}

/// Every map that user space reads or writes, but for the event ring.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) services: HashTable<abi::ServiceKey, abi::Service>,
    pub(super) vips: ArrayMap<abi::Vip>,
    pub(super) service_names: ArrayMap<abi::Name>,
    pub(super) backends: ArrayMap<abi::Backend>,
    pub(super) backend_names: ArrayMap<abi::Name>,
    pub(super) tenants: ArrayMap<abi::Tenant>,
    pub(super) health: ArrayMap<abi::Health>,
    pub(super) endpoints: HashTable<abi::EndpointKey, abi::Endpoint>,
    pub(super) probes: ArrayMap<abi::Probe>,
    pub(super) tables: Tables,
    pub(super) sources: Sources,
    pub(super) flows: HashTable<abi::FlowKey, abi::Flow>,
    pub(super) returns: HashTable<abi::ReturnKey, abi::Return>,
    pub(super) handshakes: HashTable<abi::ReturnKey, abi::Handshake>,
    pub(super) service_stats: Counters<abi::Traffic>,
    pub(super) backend_stats: Counters<abi::Traffic>,
    pub(super) drops: Counters<u64>,
    pub(super) passes: Counters<u64>,
    pub(super) pod_ports: PodPorts,
    pub(super) config: ArrayMap<abi::Config>,
    pub(super) node: ArrayMap<abi::Node>,
    pub(super) secrets: ArrayMap<abi::Secrets>,
    pub(super) stream_ids: HashTable<abi::FlowKey, abi::StreamId>,
    pub(super) splice_stats: Counters<abi::SpliceStats>,
    pub(super) loads: ArrayMap<abi::Load>,
    pub(super) routes: Routes,
    pub(super) route_names: ArrayMap<abi::Name>,
    pub(super) quotas: ArrayMap<abi::Quota>,
    pub(super) route_states: ArrayMap<abi::RouteState>,
    pub(super) route_stats: Counters<abi::RouteStats>,
    pub(super) thresholds: ArrayMap<abi::Thresholds>,
    pub(super) stream_health: HashTable<abi::FlowKey, abi::StreamHealth>,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Self::from(|name| ebpf.take_map(name).ok_or(Error::NoMap { map: name }))
    }

    /// Opens the pins, which [`Pins::verify`] has found to be there and right.
    pub(super) fn open(pins: &Pins) -> Result<Self, Error> {
        Self::from(|name| {
            MapData::from_pin(pins.map(name))
                .and_then(Map::from_map_data)
                .map_err(|source| failed("opening pinned", name, source))
        })
    }

    fn from(mut map: impl FnMut(&'static str) -> Result<Map, Error>) -> Result<Self, Error> {
        macro_rules! maps {
            ($($field:ident = $name:literal),+ $(,)?) => {
                Ok(Self { $($field: Handle::new($name, map($name)?)?),+ })
            };
        }
        maps! {
            services = "SERVICES",
            vips = "VIPS",
            service_names = "SERVICE_NAMES",
            backends = "BACKENDS",
            backend_names = "BACKEND_NAMES",
            tenants = "TENANTS",
            health = "HEALTH",
            endpoints = "ENDPOINTS",
            probes = "PROBES",
            tables = "TABLES",
            sources = "SOURCES",
            flows = "FLOWS",
            returns = "RETURNS",
            handshakes = "HANDSHAKES",
            service_stats = "SERVICE_STATS",
            backend_stats = "BACKEND_STATS",
            drops = "DROPS",
            passes = "PASSES",
            pod_ports = "POD_PORTS",
            config = "CONFIG",
            node = "NODE",
            secrets = "SECRETS",
            stream_ids = "STREAM_IDS",
            splice_stats = "SPLICE_STATS",
            loads = "LOADS",
            routes = "ROUTES",
            route_names = "ROUTE_NAMES",
            quotas = "QUOTAS",
            route_states = "ROUTE_STATES",
            route_stats = "ROUTE_STATS",
            thresholds = "THRESHOLDS",
            stream_health = "STREAM_HEALTH",
        }
    }

    /// Entries that `FLOWS` can hold, which is the pin's size where it was adopted.
    pub(super) fn max_flows(pins: &Pins) -> Result<u32, Error> {
        let name = "FLOWS";
        aya::maps::MapInfo::from_pin(pins.map(name))
            .map(|info| info.max_entries())
            .map_err(|source| failed("opening pinned", name, source))
    }
}
