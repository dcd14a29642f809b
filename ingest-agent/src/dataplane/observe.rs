//! Reads what the maps hold, for the planner.

use std::collections::BTreeSet;

use ingest_common::abi;

use super::{
    Dataplane, Error,
    keys::{match_key, source_range},
};
use crate::reconcile::Observed;

impl Dataplane {
    /// Reads what the maps hold (about 2 ms: batched). Which slots and services are idle is as of the last [`Self::sweep`].
    pub fn observe(&mut self) -> Result<Observed, Error> {
        let maps = &self.maps;
        let mut seen = Observed {
            loads: self.idle.loads.clone(),
            ..Observed::default()
        };
        for (pool, (name, slots)) in &self.tables {
            seen.tables.insert(*pool, slots.clone());
            seen.pools.insert(*pool, name.clone());
        }
        maps.services.for_each(|key, service| {
            seen.services.insert(*key, *service);
        })?;
        maps.vips.for_each(|id, vip| {
            if vip.in_use != 0 {
                seen.vips.insert(id as u16, *vip);
            }
        })?;
        maps.service_names.for_each(|id, name| {
            if seen.vips.contains_key(&(id as u16)) {
                seen.service_names
                    .insert(id as u16, name.as_str().to_owned());
            }
        })?;
        let mut gone = BTreeSet::new();
        maps.backends.for_each(|slot, backend| {
            let slot = slot as u16;
            let state = abi::BackendState::from_u8(backend.state);
            if state != abi::BackendState::Free || backend.incarnation > 0 {
                seen.backends.insert(slot, *backend);
            }
            if state == abi::BackendState::Gone {
                gone.insert(slot);
            }
        })?;
        maps.backend_names.for_each(|slot, name| {
            let slot = slot as u16;
            let taken = seen.backends.get(&slot).is_some_and(|backend| {
                abi::BackendState::from_u8(backend.state) != abi::BackendState::Free
            });
            if taken {
                seen.backend_names.insert(slot, name.as_str().to_owned());
            }
        })?;
        maps.tenants.for_each(|slot, tenant| {
            if seen.backend_names.contains_key(&(slot as u16)) {
                seen.tenants.insert(slot as u16, *tenant);
            }
        })?;
        maps.endpoints.for_each(|key, endpoint| {
            seen.endpoints.insert(*key, endpoint.slot as u16);
        })?;
        maps.sources
            .for_each(|prefix, key| seen.sources.extend(source_range(prefix, &key)))?;
        self.observe_routes(&mut seen)?;
        seen.idle_gone = self
            .idle
            .gone
            .iter()
            .copied()
            .filter(|slot| gone.contains(slot))
            .collect();
        let closing: BTreeSet<u16> = seen
            .services
            .values()
            .filter(|service| service.flags & abi::SERVICE_CLOSING != 0)
            .map(|service| service.id)
            .collect();
        seen.idle_closing = self
            .idle
            .closing
            .iter()
            .copied()
            .filter(|id| closing.contains(id))
            .collect();
        Ok(seen)
    }

    fn observe_routes(&self, seen: &mut Observed) -> Result<(), Error> {
        self.maps.routes.for_each(|prefix, key, route| {
            if let Some(key) = match_key(prefix, &key) {
                seen.routes.insert(key, *route);
            }
        })?;
        self.maps.quotas.for_each(|route, quota| {
            if quota.in_use != 0 {
                seen.quotas.insert(route as u16, *quota);
            }
        })?;
        self.maps.route_names.for_each(|route, name| {
            if seen.quotas.contains_key(&(route as u16)) {
                seen.route_names
                    .insert(route as u16, name.as_str().to_owned());
            }
        })?;
        self.maps.thresholds.for_each(|index, thresholds| {
            if *thresholds != abi::Thresholds::default() {
                seen.thresholds.insert(index, *thresholds);
            }
        })?;
        seen.idle_routes = self
            .idle
            .routes
            .iter()
            .copied()
            .filter(|route| seen.quotas.contains_key(route))
            .collect();
        Ok(())
    }
}
