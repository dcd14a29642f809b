//! Does the planner's [`Op`]s. Within one, what refers comes after what it refers to; on removal the other way.

use ingest_common::abi;

use super::{
    Dataplane, Error,
    keys::{route_key, source_key},
};
use crate::reconcile::{Op, PoolName, vip};

impl Dataplane {
    /// Does `ops` in order; stops at the first that fails. What it returns from is in force, but for programs that
    /// run at that moment: those may still see a table that was replaced.
    pub fn apply(&mut self, ops: &[Op]) -> Result<(), Error> {
        let mut rest = ops;
        while let Some((op, others)) = rest.split_first() {
            let tables: Vec<NewTable<'_>> = rest.iter().map_while(new_table).collect();
            if tables.is_empty() {
                self.apply_one(op)?;
                rest = others;
            } else {
                self.set_tables(&tables)?;
                rest = rest.get(tables.len()..).unwrap_or_default();
            }
        }
        Ok(())
    }

    fn apply_one(&mut self, op: &Op) -> Result<(), Error> {
        match op {
            Op::SetBackend {
                slot,
                backend,
                name,
                tenant,
                fresh,
            } => self.set_backend(*slot, backend, name, *tenant, *fresh),
            Op::FreeBackend { slot } => self.free_backend(*slot),
            Op::SetTable { .. } => {
                let tables: Vec<_> = new_table(op).into_iter().collect();
                self.set_tables(&tables)
            }
            Op::RemoveTable { pool } => {
                self.tables.remove(pool);
                let result = self.table_writer.remove(*pool);
                self.tables_written(result)
            }
            Op::SetService {
                key,
                service,
                name,
                fresh,
            } => self.set_service(key, *service, name, *fresh),
            Op::MarkVip { key } => {
                let mark = abi::Service {
                    flags: abi::SERVICE_VIP_MARK,
                    ..Default::default()
                };
                self.maps.services.insert(key, &mark)
            }
            Op::RemoveService { key } => self.remove_service(key),
            Op::AddSource { service, range } => {
                let (prefix, key) = source_key(*service, range);
                self.maps.sources.insert(prefix, key)
            }
            Op::RemoveSource { service, range } => {
                let (prefix, key) = source_key(*service, range);
                self.maps.sources.remove(prefix, key).map(drop)
            }
            Op::SetQuota {
                route,
                quota,
                name,
                fresh,
            } => self.set_quota(*route, quota, name, *fresh),
            Op::RemoveQuota { route } => self.remove_quota(*route),
            Op::SetThresholds { index, thresholds } => self.maps.thresholds.set(*index, thresholds),
            Op::SetRoute { key, route } => {
                let (bits, key) = route_key(key);
                self.maps.routes.insert(bits, key, *route)?;
                self.idle.routes.retain(|idle| *idle != route.route);
                Ok(())
            }
            Op::RemoveRoute { key } => {
                let (bits, key) = route_key(key);
                self.maps.routes.remove(bits, key).map(drop)
            }
        }
    }

    fn set_tables(&mut self, tables: &[NewTable<'_>]) -> Result<(), Error> {
        let written: Vec<_> = tables.iter().map(|new| (new.pool, new.table)).collect();
        let result = self.table_writer.set(&written);
        let known = tables
            .iter()
            .map(|new| (new.pool, (new.name.clone(), new.slots.to_vec())));
        self.tables.extend(known);
        self.tables_written(result)
    }

    /// After a failed write nobody knows which tables are in force: all are written anew.
    fn tables_written(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.tables.clear();
        }
        result
    }

    fn set_backend(
        &mut self,
        slot: u16,
        backend: &abi::Backend,
        name: &str,
        tenant: abi::Tenant,
        fresh: bool,
    ) -> Result<(), Error> {
        let index = u32::from(slot);
        let before = self.maps.backends.get(index)?;
        let endpoint = endpoint_key(backend);
        if endpoint_key(&before) != endpoint {
            self.remove_endpoint(slot, &before)?;
        }
        if fresh {
            self.maps.health.set(index, &abi::Health::default())?;
            self.maps.probes.set(index, &abi::Probe::default())?;
            self.maps
                .backend_stats
                .fill(index, abi::Traffic::default())?;
            self.maps.loads.set(index, &abi::Load::default())?;
        }
        self.maps.backend_names.set(index, &abi::Name::new(name))?;
        // Before the backend: whoever dies in between leaves a tenant that is taken for known, not for new.
        self.maps.tenants.set(index, &tenant)?;
        // A port that vanished since the plan was made leaves no entry: the watcher reports it next.
        if backend.ifindex == 0 || !self.maps.pod_ports.set(index, backend.ifindex)? {
            self.maps.pod_ports.remove(index)?;
        }
        self.maps.backends.set(index, backend)?;
        // A backend that is gone may have a successor at the same address, whose endpoint this is then.
        if abi::BackendState::from_u8(backend.state) != abi::BackendState::Gone {
            self.maps
                .endpoints
                .insert(&endpoint, &abi::Endpoint { slot: index })?;
            self.idle.gone.retain(|idle| *idle != slot);
        }
        Ok(())
    }

    fn free_backend(&mut self, slot: u16) -> Result<(), Error> {
        let index = u32::from(slot);
        let before = self.maps.backends.get(index)?;
        let free = abi::Backend {
            incarnation: before.incarnation,
            ..Default::default()
        };
        self.maps.backends.set(index, &free)?;
        self.maps.pod_ports.remove(index)?;
        self.remove_endpoint(slot, &before)?;
        self.idle.gone.retain(|idle| *idle != slot);
        self.maps.tenants.set(index, &abi::Tenant::default())?;
        self.maps.backend_names.set(index, &abi::Name::default())
    }

    /// Removes the endpoint of `backend`, unless another slot has it by now.
    fn remove_endpoint(&mut self, slot: u16, backend: &abi::Backend) -> Result<(), Error> {
        let key = endpoint_key(backend);
        match self.maps.endpoints.get(&key)? {
            Some(found) if found.slot == u32::from(slot) => {
                self.maps.endpoints.remove(&key).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn set_service(
        &mut self,
        key: &abi::ServiceKey,
        service: abi::Service,
        name: &str,
        fresh: bool,
    ) -> Result<(), Error> {
        let id = u32::from(service.id);
        if fresh {
            self.maps.service_stats.fill(id, abi::Traffic::default())?;
            self.maps
                .splice_stats
                .fill(id, abi::SpliceStats::default())?;
        }
        self.maps.vips.set(id, &vip(key, service))?;
        self.maps.service_names.set(id, &abi::Name::new(name))?;
        self.maps.services.insert(key, &service)?;
        if service.flags & abi::SERVICE_CLOSING == 0 {
            self.idle.closing.retain(|idle| *idle != service.id);
        }
        Ok(())
    }

    fn remove_service(&mut self, key: &abi::ServiceKey) -> Result<(), Error> {
        let Some(service) = self.maps.services.get(key)? else {
            return Ok(());
        };
        self.maps.services.remove(key)?;
        let id = u32::from(service.id);
        let vip = self.maps.vips.get(id)?;
        // A mark has no id of its own, and an id may have gone to another key already.
        let owned = (vip.address, vip.port, vip.protocol) == (key.address, key.port, key.protocol);
        if service.flags & abi::SERVICE_VIP_MARK == 0 && owned {
            self.maps.vips.set(id, &abi::Vip::default())?;
            self.maps.service_names.set(id, &abi::Name::default())?;
            self.idle.closing.retain(|idle| *idle != service.id);
        }
        Ok(())
    }

    fn set_quota(
        &mut self,
        route: u16,
        quota: &abi::Quota,
        name: &str,
        fresh: bool,
    ) -> Result<(), Error> {
        let index = u32::from(route);
        if fresh {
            self.maps
                .route_states
                .set(index, &abi::RouteState::default())?;
            self.maps
                .route_stats
                .fill(index, abi::RouteStats::default())?;
        }
        // Before the quota, which says that the index is in use: else another agent could take it for a nameless one.
        self.maps.route_names.set(index, &abi::Name::new(name))?;
        self.maps.quotas.set(index, quota)
    }

    fn remove_quota(&mut self, route: u16) -> Result<(), Error> {
        let index = u32::from(route);
        self.maps.quotas.set(index, &abi::Quota::default())?;
        self.idle.routes.retain(|idle| *idle != route);
        self.maps.route_names.set(index, &abi::Name::default())
    }
}

/// A pool, whose it is, whom its table names, and the table.
struct NewTable<'a> {
    pool: u16,
    name: &'a PoolName,
    slots: &'a [u16],
    table: &'a abi::MaglevTable,
}

fn new_table(op: &Op) -> Option<NewTable<'_>> {
    match op {
        Op::SetTable {
            pool,
            name,
            slots,
            table,
        } => Some(NewTable {
            pool: *pool,
            name,
            slots,
            table,
        }),
        _ => None,
    }
}

fn endpoint_key(backend: &abi::Backend) -> abi::EndpointKey {
    abi::EndpointKey::new(backend.address, backend.port, backend.protocol)
}
