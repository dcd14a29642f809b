//! Service ids, pools, VIP marks and source ranges.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use ingest_common::abi::{self, RouteField, ServiceKey};
use ipnet::IpNet;

use super::{
    super::{Desired, Handshake, Observed, Op, PoolName, Protocol, Service, vip},
    PlanError,
    ids::Ids,
    kept_name,
    routes::Routed,
    to_abi,
};

/// A service's backends of one address family: name, and whether it is IPv4.
pub(super) type PoolKey<'a> = (&'a str, bool);

pub(super) struct Services<'a> {
    pub(super) set: Vec<Op>,
    pub(super) remove: Vec<Op>,
    /// Before the service asks for them.
    pub(super) add_sources: Vec<Op>,
    /// Once no service asks for them.
    pub(super) remove_sources: Vec<Op>,
    /// Of services with VIPs, and those that routes lead to.
    pub(super) pools: BTreeMap<PoolKey<'a>, u16>,
    /// Pools of services that are closing, and of no other one.
    pub(super) closing: BTreeMap<u16, PoolName>,
    /// Every VIP of every service.
    pub(super) served: Vec<Served<'a>>,
}

/// A VIP of a service.
pub(super) struct Served<'a> {
    /// Name of the service.
    pub(super) service: &'a str,
    pub(super) vip: IpAddr,
    pub(super) id: u16,
    pub(super) thresholds: abi::Thresholds,
}

pub(super) fn plan<'a>(
    desired: &'a Desired,
    observed: &Observed,
    routed: &Routed<'a>,
) -> Result<Services<'a>, PlanError> {
    let mut pools = Pools::new(observed);
    let mut ids = Ids::new(
        known(observed)
            .map(|(_, s)| s.id)
            .chain(observed.vips.keys().copied())
            .chain(observed.sources.iter().map(|(id, _)| *id))
            .chain(observed.routes.keys().map(|key| key.service)),
        abi::MAX_SERVICES,
    );
    // Ids that a write cut short has left without their service.
    let served: HashSet<u16> = known(observed).map(|(_, s)| s.id).collect();
    let orphans = observed.vips.iter().filter(|(id, _)| !served.contains(id));
    let mut orphans: BTreeMap<ServiceKey, u16> = orphans
        .map(|(id, v)| (ServiceKey::new(v.address, v.port, v.protocol), *id))
        .collect();
    let mut set = Vec::new();
    let mut wanted: BTreeSet<ServiceKey> = BTreeSet::new();
    let mut sources: BTreeSet<(u16, IpNet)> = BTreeSet::new();
    let mut served = Vec::new();
    for service in &desired.services {
        let name = kept_name(&service.name);
        for address in &service.vips {
            let pool = pools.give((&service.name, address.is_ipv4()))?;
            for name in routed.pools(&service.name) {
                pools.give((name, address.is_ipv4()))?;
            }
            let key = ServiceKey::new(to_abi(*address), service.port, abi::UDP);
            let before = observed.services.get(&key).filter(|s| !is_mark(**s));
            let id = match before {
                Some(before) => before.id,
                None => orphans.remove(&key).or_else(|| ids.take()).ok_or(
                    PlanError::TooManyServices {
                        limit: abi::MAX_SERVICES,
                    },
                )?,
            };
            let entry = abi::Service {
                id,
                pool,
                flags: flags(service) | routed.flags(&service.name, *address),
            };
            served.push(Served {
                service: &service.name,
                vip: *address,
                id,
                thresholds: service.thresholds,
            });
            let same = before == Some(&entry)
                && observed.vips.get(&id) == Some(&vip(&key, entry))
                && observed.service_names.get(&id) == Some(&name);
            if !same {
                let (name, fresh) = (name.clone(), before.is_none());
                set.push(Op::SetService {
                    key,
                    service: entry,
                    name,
                    fresh,
                });
            }
            let mark = ServiceKey::vip(key.address);
            if wanted.insert(mark) && !observed.services.get(&mark).is_some_and(|s| is_mark(*s)) {
                set.push(Op::MarkVip { key: mark });
            }
            wanted.insert(key);
            let family = service
                .source_ranges
                .iter()
                .filter(|r| r.addr().is_ipv4() == address.is_ipv4());
            // As the map holds it, whatever the bits behind the prefix.
            sources.extend(family.map(|range| (id, range.trunc())));
        }
    }
    if sources.len() > abi::MAX_SOURCES {
        return Err(PlanError::TooManySources {
            count: sources.len(),
            limit: abi::MAX_SOURCES,
        });
    }
    let mut remove = Vec::new();
    let mut closing = BTreeMap::new();
    let mut closing_vips = BTreeSet::new();
    for (&key, service) in known(observed).filter(|(key, _)| !wanted.contains(key)) {
        if is_closing(*service) && observed.idle_closing.contains(&service.id) {
            remove.push(Op::RemoveService { key });
            continue;
        }
        let name = observed.service_names.get(&service.id).cloned();
        let name = name.unwrap_or_default();
        closing_vips.insert(ServiceKey::vip(key.address));
        closing.entry(service.pool).or_insert_with(|| PoolName {
            service: name.clone(),
            is_v4: abi::as_v4(&key.address).is_some(),
        });
        if !is_closing(*service) {
            // Nobody is refused or routed any more: what has no session is the host's.
            let flags = service.flags & !BY_LISTS | abi::SERVICE_CLOSING;
            set.push(Op::SetService {
                key,
                service: abi::Service { flags, ..*service },
                name,
                fresh: false,
            });
        }
    }
    wanted.extend(closing_vips);
    let marks = observed.services.iter().filter(|(_, s)| is_mark(**s));
    let unwanted = marks.filter(|(key, _)| !wanted.contains(key));
    remove.extend(unwanted.map(|(&key, _)| Op::RemoveService { key }));
    let used: HashSet<u16> = pools.given.values().copied().collect();
    Ok(Services {
        set,
        remove,
        add_sources: sources
            .difference(&observed.sources)
            .map(|&(service, range)| Op::AddSource { service, range })
            .collect(),
        remove_sources: observed
            .sources
            .difference(&sources)
            .map(|&(service, range)| Op::RemoveSource { service, range })
            .collect(),
        pools: pools.given,
        closing: closing
            .into_iter()
            .filter(|(pool, _)| !used.contains(pool))
            .collect(),
        served,
    })
}

/// Flags that send the kernel to entries of `SOURCES` and `ROUTES`.
const BY_LISTS: u32 = {
    let mut flags = abi::SERVICE_SOURCE_RANGES | abi::SERVICE_ROUTES_MODE;
    let mut i = 0;
    while i < RouteField::ALL.len() {
        flags |= RouteField::ALL[i].flag();
        i += 1;
    }
    flags
};

fn flags(service: &Service) -> u32 {
    let when = |yes, flag| if yes { flag } else { 0 };
    when(service.protocol == Protocol::Srt, abi::SERVICE_SRT)
        | when(
            !service.source_ranges.is_empty(),
            abi::SERVICE_SOURCE_RANGES,
        )
        | when(is_stream(service), abi::SERVICE_STREAM)
        | when(
            is_stream(service) && service.routed_only,
            abi::SERVICE_ROUTED_ONLY,
        )
        | when(service.affinity, abi::SERVICE_AFFINITY)
        | when(service.elsewhere, abi::SERVICE_ELSEWHERE)
}

/// Whether the kernel answers its callers' handshakes.
pub(super) fn is_stream(service: &Service) -> bool {
    service.protocol == Protocol::Srt && service.handshake == Handshake::Stream
}

/// Pools that routes in the maps lead to.
pub(super) fn routed_pools(observed: &Observed) -> impl Iterator<Item = u16> {
    let pools = observed.routes.values().map(|route| route.pool);
    pools.filter(|pool| *pool != abi::NO_POOL)
}

/// Whether it was removed, and is there for its sessions alone.
pub(super) fn is_closing(service: abi::Service) -> bool {
    service.flags & abi::SERVICE_CLOSING != 0
}

fn is_mark(service: abi::Service) -> bool {
    service.flags & abi::SERVICE_VIP_MARK != 0
}

/// Services in the maps, without the marks of VIP addresses.
pub(super) fn known(observed: &Observed) -> impl Iterator<Item = (&ServiceKey, &abi::Service)> {
    observed.services.iter().filter(|(_, s)| !is_mark(**s))
}

/// Pool ids. The maps do not name pools; they name the services that use them.
struct Pools<'a> {
    old: BTreeMap<(String, bool), u16>,
    ids: Ids,
    given: BTreeMap<PoolKey<'a>, u16>,
    /// Two names never share a pool, whatever the maps say.
    used: HashSet<u16>,
}

impl<'a> Pools<'a> {
    fn new(observed: &Observed) -> Self {
        let mut old = BTreeMap::new();
        for (key, service) in known(observed) {
            if let Some(name) = observed.service_names.get(&service.id) {
                let is_v4 = abi::as_v4(&key.address).is_some();
                old.entry((name.clone(), is_v4)).or_insert(service.pool);
            }
        }
        // Those that only routes lead to are known of this agent's own tables; an adopted one gets another id.
        for (pool, name) in &observed.pools {
            old.entry((kept_name(&name.service), name.is_v4))
                .or_insert(*pool);
        }
        let taken = known(observed)
            .map(|(_, s)| s.pool)
            .chain(observed.tables.keys().copied())
            .chain(routed_pools(observed));
        let ids = Ids::new(taken, abi::MAX_POOLS);
        Self {
            old,
            ids,
            given: BTreeMap::new(),
            used: HashSet::new(),
        }
    }

    fn give(&mut self, key: PoolKey<'a>) -> Result<u16, PlanError> {
        if let Some(pool) = self.given.get(&key) {
            return Ok(*pool);
        }
        let old = self.old.get(&(kept_name(key.0), key.1)).copied();
        let pool = old
            .filter(|pool| self.used.insert(*pool))
            .or_else(|| self.ids.take())
            .ok_or(PlanError::TooManyPools {
                limit: abi::MAX_POOLS,
            })?;
        self.given.insert(key, pool);
        Ok(pool)
    }
}
