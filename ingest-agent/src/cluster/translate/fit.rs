//! All Services together: who gets a VIP:port that several want, and who is left out where the maps are full.
//!
//! One Service must not take from another what that one has, nor make the plan refuse them all: the older one comes
//! first, on every node alike.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ingest_common::abi;

use super::{Condition, ObjectName};
use crate::reconcile::Service;

/// A Service's wish.
pub(super) struct Candidate {
    pub(super) owner: ObjectName,
    pub(super) service: Service,
    /// Whether routes lead to its IPv4 backends, and to its IPv6 ones.
    pub(super) is_pool: [bool; 2],
}

type Conditions = BTreeMap<ObjectName, BTreeSet<Condition>>;

/// Takes of `candidates`, oldest first, what goes together.
pub(super) fn fit(mut candidates: Vec<Candidate>, conditions: &mut Conditions) -> Vec<Service> {
    let mut tell = |owner: &ObjectName, condition| {
        conditions
            .entry(owner.clone())
            .or_default()
            .insert(condition);
    };
    resolve_conflicts(&mut candidates, &mut tell);
    avoid_loops(&mut candidates, &mut tell);
    let mut room = Room::default();
    let mut services = Vec::new();
    for candidate in candidates {
        let Candidate {
            owner,
            mut service,
            is_pool,
        } = candidate;
        let has_vip = |v6: bool| service.vips.iter().any(|v| v.is_ipv6() == v6);
        let families = [false, true].map(|v6| is_pool[usize::from(v6)] || has_vip(v6));
        if families == [false; 2] {
            continue;
        }
        if service.vips.is_empty() {
            service.port = 0;
        }
        service
            .backends
            .retain(|b| families[usize::from(b.address.is_ipv6())]);
        if cap_pools(&mut service) {
            let limit = abi::MAX_POOL_BACKENDS;
            let what = "backends of one Service port on this node";
            tell(&owner, Condition::LeftOut { what, limit });
        }
        match room.take(&service, families) {
            Ok(()) => services.push(service),
            Err((what, limit)) => tell(&owner, Condition::LeftOut { what, limit }),
        }
    }
    services
}

/// A VIP:port is the first one's that asks.
fn resolve_conflicts(candidates: &mut [Candidate], tell: &mut impl FnMut(&ObjectName, Condition)) {
    let mut taken: HashMap<(IpAddr, u16), usize> = HashMap::new();
    let mut lost = Vec::new();
    for (index, Candidate { service, .. }) in candidates.iter().enumerate() {
        for vip in &service.vips {
            let first = *taken.entry((*vip, service.port)).or_insert(index);
            if first != index {
                lost.push((index, *vip, first));
            }
        }
    }
    for (index, vip, first) in lost {
        let winner = candidates[first].service.name.clone();
        let Candidate { owner, service, .. } = &mut candidates[index];
        service.vips.retain(|v| *v != vip);
        let port = service.port;
        tell(owner, Condition::VipConflict { vip, port, winner });
    }
}

/// A VIP:port where a backend listens would be steered to itself. The host delivers it anyway.
fn avoid_loops(candidates: &mut [Candidate], tell: &mut impl FnMut(&ObjectName, Condition)) {
    let vips: HashSet<(IpAddr, u16)> = candidates
        .iter()
        .flat_map(|c| c.service.vips.iter().map(|v| (*v, c.service.port)))
        .collect();
    let backends = candidates.iter().flat_map(|c| &c.service.backends);
    let loops: HashMap<(IpAddr, u16), String> = backends
        .filter(|b| vips.contains(&(b.address, b.port)))
        .map(|b| ((b.address, b.port), b.name.clone()))
        .collect();
    if loops.is_empty() {
        return;
    }
    for Candidate { owner, service, .. } in candidates {
        let port = service.port;
        service.vips.retain(|vip| {
            let Some(backend) = loops.get(&(*vip, port)) else {
                return true;
            };
            let (vip, backend) = (*vip, backend.clone());
            tell(owner, Condition::VipIsBackend { vip, port, backend });
            false
        });
    }
}

/// Leaves at most a pool's worth of backends that take sessions, by family. Whether some were too many.
fn cap_pools(service: &mut Service) -> bool {
    let mut counts = [0_usize; 2];
    let before = service.backends.len();
    service.backends.retain(|b| {
        let count = &mut counts[usize::from(b.address.is_ipv6())];
        *count += usize::from(!b.draining);
        b.draining || *count <= abi::MAX_POOL_BACKENDS
    });
    service.backends.len() < before
}

/// What the maps have taken so far.
#[derive(Default)]
struct Room {
    vips: usize,
    pools: usize,
    sources: usize,
    backends: HashSet<(IpAddr, u16)>,
}

impl Room {
    /// Takes all that `service` needs, or nothing.
    fn take(
        &mut self,
        service: &Service,
        families: [bool; 2],
    ) -> Result<(), (&'static str, usize)> {
        let count = |v6: bool| service.vips.iter().filter(|v| v.is_ipv6() == v6).count();
        let ranges = |v6: bool| {
            let ranges = service.source_ranges.iter();
            ranges.filter(|r| r.addr().is_ipv6() == v6).count()
        };
        let vips = self.vips + service.vips.len();
        let pools = self.pools + families.into_iter().filter(|used| *used).count();
        let sources = self.sources + count(false) * ranges(false) + count(true) * ranges(true);
        let new = service.backends.iter().map(|b| (b.address, b.port));
        let new: Vec<_> = new.filter(|b| !self.backends.contains(b)).collect();
        let backends = self.backends.len() + new.len();
        for (what, count, limit) in [
            ("VIP:ports", vips, abi::MAX_SERVICES),
            ("pools", pools, abi::MAX_POOLS),
            ("source ranges", sources, abi::MAX_SOURCES),
            ("backends on this node", backends, abi::MAX_BACKENDS),
        ] {
            if count > limit {
                return Err((what, limit));
            }
        }
        (self.vips, self.pools, self.sources) = (vips, pools, sources);
        self.backends.extend(new);
        Ok(())
    }
}
