use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use ingest_common::{
    abi,
    reason::{DropReason, PassReason},
};

use super::{
    Error,
    maps::{Counters, Maps},
    pins::{Hook, Pins},
};

/// Read access by pins, and the few writes of the CLI. Needs no agent and loads no program.
#[derive(Debug)]
pub struct Reader {
    pub(super) maps: Maps,
    pins: Pins,
    max_flows: u32,
}

/// A row of `SERVICES`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// VIP, port, protocol.
    pub key: abi::ServiceKey,
    /// Id, pool, flags.
    pub service: abi::Service,
    /// `namespace/name`.
    pub name: String,
    /// Its counters, summed over CPUs.
    pub traffic: abi::Traffic,
    /// Its handshakes that are answered here, summed over CPUs.
    pub splices: abi::SpliceStats,
    /// Its own thresholds.
    pub thresholds: abi::Thresholds,
}

/// A slot that is not free.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendView {
    /// Index in `BACKENDS`.
    pub slot: u16,
    /// The entry.
    pub backend: abi::Backend,
    /// What the kernel saw of it, and an operator's drain.
    pub health: abi::Health,
    /// `namespace/name` of the pod.
    pub name: String,
    /// Its counters, summed over CPUs.
    pub traffic: abi::Traffic,
    /// Its last answer to a probe.
    pub probe: abi::Probe,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteView {
    /// Index in `QUOTAS`.
    pub route: u16,
    /// `namespace/name`.
    pub name: String,
    /// By id of the service whose callers it is for, where they go; [`abi::NO_POOL`]: nowhere.
    pub pools: BTreeMap<u16, u16>,
    /// Entries of `ROUTES`: its matches, counted once a VIP.
    pub matches: usize,
    /// What its streams may use.
    pub quota: abi::Quota,
    /// Sessions now.
    pub active: u64,
    /// Its counters, summed over CPUs.
    pub stats: abi::RouteStats,
    /// Its own thresholds.
    pub thresholds: abi::Thresholds,
}

/// A pinned link, or a filter where the kernel has no tcx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// The uplink's name when it was attached; for pod ports the interface index.
    pub interface: String,
    /// `xdp`, `tc_in`, `tc_out` or `tc_pod`.
    pub hook: &'static str,
    /// Index of the interface; 0: it is gone, and the link dead.
    pub ifindex: u32,
    /// The kernel's id of the link; 0: it is a filter of a clsact qdisc.
    pub link_id: u32,
    /// The kernel's id of the program in it.
    pub program_id: u32,
}

impl Reader {
    /// Opens the pins. [`Error::NotLoaded`] where there are none.
    pub fn open(pin_root: &Path) -> Result<Self, Error> {
        let pins = Pins::new(pin_root);
        pins.refuse_other_schemas()?;
        if !pins.verify()?.is_empty() {
            return Err(Error::NotLoaded {
                pin_root: PathBuf::from(pin_root),
            });
        }
        let max_flows = Maps::max_flows(&pins)?;
        Ok(Self {
            maps: Maps::open(&pins)?,
            pins,
            max_flows,
        })
    }

    /// What the last agent said of itself.
    pub fn node(&self) -> Result<abi::Node, Error> {
        self.maps.node.get(0)
    }

    /// The packet path's settings.
    pub fn config(&self) -> Result<abi::Config, Error> {
        self.maps.config.get(0)
    }

    /// Services without the marks of VIP addresses, sorted by name, then key.
    pub fn services(&self) -> Result<Vec<ServiceView>, Error> {
        let mut rows = Vec::new();
        self.maps.services.for_each(|key, service| {
            if service.flags & abi::SERVICE_VIP_MARK == 0 {
                rows.push((*key, *service));
            }
        })?;
        let mut views = rows
            .into_iter()
            .map(|(key, service)| {
                let id = u32::from(service.id);
                let name = self.maps.service_names.get(id)?.as_str().to_owned();
                Ok(ServiceView {
                    key,
                    service,
                    name,
                    traffic: self.maps.service_stats.sum(id)?,
                    splices: self.maps.splice_stats.sum(id)?,
                    thresholds: self
                        .maps
                        .thresholds
                        .get(abi::Thresholds::of_service(service.id))?,
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        views.sort_by(|a, b| (&a.name, a.key).cmp(&(&b.name, b.key)));
        Ok(views)
    }

    /// Slots that are not free, by slot.
    pub fn backends(&self) -> Result<Vec<BackendView>, Error> {
        let mut taken = Vec::new();
        self.maps.backends.for_each(|slot, backend| {
            if abi::BackendState::from_u8(backend.state) != abi::BackendState::Free {
                taken.push((slot, *backend));
            }
        })?;
        taken
            .into_iter()
            .map(|(slot, backend)| {
                Ok(BackendView {
                    slot: slot as u16,
                    backend,
                    health: self.maps.health.get(slot)?,
                    name: self.maps.backend_names.get(slot)?.as_str().to_owned(),
                    traffic: self.maps.backend_stats.sum(slot)?,
                    probe: self.maps.probes.get(slot)?,
                })
            })
            .collect()
    }

    /// Routes, by name.
    pub fn routes(&self) -> Result<Vec<RouteView>, Error> {
        let mut views = BTreeMap::new();
        self.maps.quotas.for_each(|index, quota| {
            if quota.in_use != 0 {
                let route = index as u16;
                let view = RouteView {
                    route,
                    quota: *quota,
                    ..Default::default()
                };
                views.insert(route, view);
            }
        })?;
        self.maps.routes.for_each(|_, key, route| {
            if let Some(view) = views.get_mut(&route.route) {
                view.pools.insert(key.service, route.pool);
                view.matches += 1;
            }
        })?;
        let mut views: Vec<RouteView> = views.into_values().collect();
        for view in &mut views {
            let index = u32::from(view.route);
            self.maps
                .route_names
                .get(index)?
                .as_str()
                .clone_into(&mut view.name);
            view.active = self.maps.route_states.get(index)?.active;
            view.stats = self.maps.route_stats.sum(index)?;
            let index = abi::Thresholds::of_route(view.route);
            view.thresholds = self.maps.thresholds.get(index)?;
        }
        views.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(views)
    }

    /// What the callers of flows asked for. Of an earlier caller on that port, unless its socket id is the flow's.
    pub fn stream_ids(&self) -> Result<HashMap<abi::FlowKey, abi::StreamId>, Error> {
        let mut stream_ids = HashMap::new();
        self.maps.stream_ids.for_each(|key, stream| {
            stream_ids.insert(*key, *stream);
        })?;
        Ok(stream_ids)
    }

    /// The keys of our cookies. Whoever has them opens sessions under any address.
    pub fn secrets(&self) -> Result<abi::Secrets, Error> {
        self.maps.secrets.get(0)
    }

    /// Calls `visit` on every flow, in no order. Under traffic one that comes or goes meanwhile may be missed.
    pub fn for_each_flow(&self, visit: impl FnMut(&abi::FlowKey, &abi::Flow)) -> Result<(), Error> {
        self.maps.flows.for_each(visit)
    }

    /// All flows, as [`Self::for_each_flow`] finds them: 244 bytes each.
    pub fn flows(&self) -> Result<Vec<(abi::FlowKey, abi::Flow)>, Error> {
        let mut flows = Vec::new();
        self.for_each_flow(|key, flow| flows.push((*key, *flow)))?;
        Ok(flows)
    }

    /// Entries that `FLOWS` can hold.
    pub fn max_flows(&self) -> u32 {
        self.max_flows
    }

    /// Handshakes under way: entries of `HANDSHAKES`, stale ones included.
    pub fn handshakes(&self) -> Result<usize, Error> {
        let mut count = 0;
        self.maps.handshakes.for_each(|_, _| count += 1)?;
        Ok(count)
    }

    /// Dropped packets by reason, every reason.
    pub fn drops(&self) -> Result<Vec<(DropReason, u64)>, Error> {
        count(&self.maps.drops, DropReason::ALL, |reason| reason as u32)
    }

    /// Passed packets to VIPs by reason, every reason.
    pub fn passes(&self) -> Result<Vec<(PassReason, u64)>, Error> {
        count(&self.maps.passes, PassReason::ALL, |reason| reason as u32)
    }

    /// The pinned links.
    pub fn links(&self) -> Result<Vec<LinkView>, Error> {
        let mut views = self.uplink_links()?;
        for ifindex in self.pins.pod_port_indexes()? {
            let pin = self.pins.pod_port(ifindex);
            views.extend(link(&ifindex.to_string(), "tc_pod", &pin)?);
        }
        Ok(views)
    }

    /// Those on uplinks.
    pub fn uplink_links(&self) -> Result<Vec<LinkView>, Error> {
        let mut views = Vec::new();
        for uplink in self.pins.uplinks()? {
            for hook in Hook::ALL {
                let pin = self.pins.link(&uplink, hook);
                views.extend(link(&uplink, hook.as_str(), &pin)?);
            }
        }
        Ok(views)
    }

    /// How many source ranges there are.
    pub fn sources(&self) -> Result<usize, Error> {
        let mut count = 0;
        self.maps.sources.for_each(|_, _| count += 1)?;
        Ok(count)
    }

    /// No new sessions for the backend of `slot`; its sessions end between `deadline_ns` ([`super::now_ns`]; 0: never)
    /// and `window_ns` later.
    pub fn drain(&mut self, slot: u16, deadline_ns: u64, window_ns: u64) -> Result<(), Error> {
        self.set_drain(slot, deadline_ns, window_ns, 1)
    }

    /// Takes back [`Self::drain`].
    pub fn undrain(&mut self, slot: u16) -> Result<(), Error> {
        self.set_drain(slot, 0, 0, 0)
    }

    /// Array values are written whole, so a stamp that the kernel sets in these microseconds is set back by them. It
    /// comes again with the pod's next packet.
    fn set_drain(
        &mut self,
        slot: u16,
        deadline_ns: u64,
        window_ns: u64,
        drain: u32,
    ) -> Result<(), Error> {
        let index = u32::from(slot);
        let before = self.maps.health.get(index)?;
        let after = abi::Health {
            drain_deadline_ns: deadline_ns,
            drain_window_ns: window_ns,
            drain,
            ..before
        };
        self.maps.health.set(index, &after)
    }
}

/// What is pinned there, if anything is.
fn link(interface: &str, hook: &'static str, pin: &Path) -> Result<Option<LinkView>, Error> {
    let found = Pins::attachment(pin)?;
    Ok(found.map(|found| LinkView {
        interface: interface.to_owned(),
        hook,
        ifindex: found.ifindex,
        link_id: found.link_id,
        program_id: found.program_id,
    }))
}

fn count<R: Copy>(
    map: &Counters<u64>,
    reasons: &[R],
    index: impl Fn(R) -> u32,
) -> Result<Vec<(R, u64)>, Error> {
    reasons
        .iter()
        .map(|reason| Ok((*reason, map.get(index(*reason))?.iter().sum())))
        .collect()
}
