//! Service ids, pools, VIP marks and source ranges.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ingest_common::abi::{self, ServiceKey};
use ipnet::IpNet;

use super::{
    super::{Desired, Observed, Op, Protocol, Service},
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
        for vip in &service.vips {
            let pool = pools.give((&service.name, vip.is_ipv4()))?;
            let key = ServiceKey::new(to_abi(*vip), service.port, abi::UDP);
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
            let vip_entry = abi::Vip {
                address: key.address,
                port: key.port,
                protocol: key.protocol,
                in_use: 1,
                pool,
                flags: flags(service) as u16,
            };
            let same = before == Some(&entry)
                && observed.vips.get(&id) == Some(&vip_entry)
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
                .filter(|r| r.addr().is_ipv4() == vip.is_ipv4());
            sources.extend(family.map(|range| (id, *range)));
        }
    }
    if sources.len() > abi::MAX_SOURCES {
        return Err(PlanError::TooManySources {
            count: sources.len(),
            limit: abi::MAX_SOURCES,
        });
    }
    let unwanted = observed.services.keys().filter(|key| !wanted.contains(key));
    let present: BTreeSet<(u16, IpNet)> = observed.sources.iter().copied().collect();
    Ok(Services {
        set,
        remove: unwanted.map(|&key| Op::RemoveService { key }).collect(),
        add_sources: sources
            .difference(&present)
            .map(|&(service, range)| Op::AddSource { service, range })
            .collect(),
        remove_sources: present
            .difference(&sources)
            .map(|&(service, range)| Op::RemoveSource { service, range })
            .collect(),
        pools: pools.given,
    })
}

fn flags(service: &Service) -> u32 {
    let srt = match service.protocol {
        Protocol::Srt => abi::SERVICE_SRT,
        Protocol::Udp => 0,
    };
    let sources = if service.source_ranges.is_empty() {
        0
    } else {
        abi::SERVICE_SOURCE_RANGES
    };
    srt | sources
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
