//! Service ids, pools, VIP marks and source ranges.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ingest_common::abi::{self, ServiceKey};
use ipnet::IpNet;

use super::{
    super::{Desired, Observed, Op, Protocol, Service, vip},
    PlanError,
    ids::Ids,
    kept_name, to_abi,
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
    pub(super) pools: BTreeMap<PoolKey<'a>, u16>,
    /// Pools of services that are closing, and of no other one.
    pub(super) closing: BTreeSet<u16>,
}

pub(super) fn plan<'a>(
    desired: &'a Desired,
    observed: &Observed,
) -> Result<Services<'a>, PlanError> {
    let mut pools = Pools::new(observed);
    let mut ids = Ids::new(
        known(observed)
            .map(|(_, s)| s.id)
            .chain(observed.vips.keys().copied())
            .chain(observed.sources.iter().map(|(id, _)| *id)),
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
    for service in &desired.services {
        let name = kept_name(&service.name);
        for address in &service.vips {
            let pool = pools.give((&service.name, address.is_ipv4()))?;
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
                flags: flags(service),
            };
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
    let mut closing = BTreeSet::new();
    for (&key, service) in known(observed).filter(|(key, _)| !wanted.contains(key)) {
        if is_closing(*service) && observed.idle_closing.contains(&service.id) {
            remove.push(Op::RemoveService { key });
            continue;
        }
        closing.insert((key, service.pool));
        if !is_closing(*service) {
            // Nobody is refused any more: what has no session is the host's.
            let flags = service.flags & !abi::SERVICE_SOURCE_RANGES | abi::SERVICE_CLOSING;
            let name = observed.service_names.get(&service.id);
            set.push(Op::SetService {
                key,
                service: abi::Service { flags, ..*service },
                name: name.cloned().unwrap_or_default(),
                fresh: false,
            });
        }
    }
    wanted.extend(closing.iter().map(|(key, _)| ServiceKey::vip(key.address)));
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
            .map(|(_, pool)| pool)
            .filter(|pool| !used.contains(pool))
            .collect(),
    })
}

fn flags(service: &Service) -> u32 {
    let when = |yes, flag| if yes { flag } else { 0 };
    when(service.protocol == Protocol::Srt, abi::SERVICE_SRT)
        | when(
            !service.source_ranges.is_empty(),
            abi::SERVICE_SOURCE_RANGES,
        )
        | when(service.affinity, abi::SERVICE_AFFINITY)
        | when(service.elsewhere, abi::SERVICE_ELSEWHERE)
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
        let taken = known(observed)
            .map(|(_, s)| s.pool)
            .chain(observed.tables.keys().copied());
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
