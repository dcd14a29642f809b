//! What the maps hold, and what a write makes of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ingest_common::abi::{self, BackendState, EndpointKey};
use ipnet::IpNet;

use super::{MatchKey, Op, PoolName};

/// What the maps hold now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// `SERVICES`, marks of VIP addresses included.
    pub services: BTreeMap<abi::ServiceKey, abi::Service>,
    /// `VIPS` in use, by service id.
    pub vips: BTreeMap<u16, abi::Vip>,
    /// `SERVICE_NAMES` of ids in use.
    pub service_names: BTreeMap<u16, String>,
    /// `BACKENDS`, slots that are not free and slots that were used before (incarnation > 0).
    pub backends: BTreeMap<u16, abi::Backend>,
    /// `BACKEND_NAMES` of slots that are not free.
    pub backend_names: BTreeMap<u16, String>,
    /// `TENANTS` of slots that are not free.
    pub tenants: BTreeMap<u16, abi::Tenant>,
    /// `ENDPOINTS`.
    pub endpoints: BTreeMap<EndpointKey, u16>,
    /// Keys of `SOURCES`: service id, network.
    pub sources: BTreeSet<(u16, IpNet)>,
    /// `ROUTES`.
    pub routes: BTreeMap<MatchKey, abi::Route>,
    /// `QUOTAS` in use, by route.
    pub quotas: BTreeMap<u16, abi::Quota>,
    /// `ROUTE_NAMES` of routes in use.
    pub route_names: BTreeMap<u16, String>,
    /// `THRESHOLDS` that say something, by index.
    pub thresholds: BTreeMap<u32, abi::Thresholds>,
    /// Tables that this agent wrote, by pool: the slots each was built from, each as often as it weighs (an adopted
    /// table is unknown, and written anew).
    pub tables: HashMap<u16, Vec<u16>>,
    /// Whose pools those are.
    pub pools: BTreeMap<u16, PoolName>,
    /// Slots in state `Gone` that no live flow uses any more: free to reuse.
    pub idle_gone: Vec<u16>,
    /// Ids of closing services that no live flow uses any more: free to remove.
    pub idle_closing: Vec<u16>,
    /// Routes without an entry in `ROUTES` that no live flow uses any more: free to remove.
    pub idle_routes: Vec<u16>,
    /// Sessions by slot, as last counted.
    pub loads: BTreeMap<u16, u32>,
}

impl Observed {
    /// What the maps hold after `op`: who keeps this up to date need not read them anew. A failed write leaves it
    /// wrong.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::SetBackend {
                slot,
                backend,
                name,
                tenant,
                ..
            } => self.set_backend(*slot, backend, name, *tenant),
            Op::FreeBackend { slot } => self.free_backend(*slot),
            Op::SetTable {
                pool, name, slots, ..
            } => {
                self.tables.insert(*pool, slots.clone());
                self.pools.insert(*pool, name.clone());
            }
            Op::RemoveTable { pool } => {
                self.tables.remove(pool);
                self.pools.remove(pool);
            }
            Op::SetService {
                key, service, name, ..
            } => self.set_service(key, *service, name),
            Op::MarkVip { key } => {
                let mark = abi::Service {
                    flags: abi::SERVICE_VIP_MARK,
                    ..Default::default()
                };
                self.services.insert(*key, mark);
            }
            Op::RemoveService { key } => self.remove_service(key),
            Op::AddSource { service, range } => {
                self.sources.insert((*service, range.trunc()));
            }
            Op::RemoveSource { service, range } => {
                self.sources.remove(&(*service, range.trunc()));
            }
            Op::SetQuota {
                route, quota, name, ..
            } => {
                self.quotas.insert(*route, *quota);
                self.route_names.insert(*route, kept_name(name));
            }
            Op::RemoveQuota { route } => {
                self.quotas.remove(route);
                self.route_names.remove(route);
                self.idle_routes.retain(|idle| idle != route);
            }
            Op::SetThresholds { index, thresholds } => {
                if *thresholds == abi::Thresholds::default() {
                    self.thresholds.remove(index);
                } else {
                    self.thresholds.insert(*index, *thresholds);
                }
            }
            Op::SetRoute { key, route } => {
                self.idle_routes.retain(|idle| *idle != route.route);
                self.routes.insert(key.clone(), *route);
            }
            Op::RemoveRoute { key } => {
                self.routes.remove(key);
            }
        }
    }

    fn set_backend(&mut self, slot: u16, backend: &abi::Backend, name: &str, tenant: abi::Tenant) {
        let endpoint = endpoint_key(backend);
        let before = self.backends.insert(slot, *backend);
        if let Some(before) = before.filter(|before| endpoint_key(before) != endpoint) {
            self.remove_endpoint(slot, &before);
        }
        self.backend_names.insert(slot, kept_name(name));
        self.tenants.insert(slot, tenant);
        if BackendState::from_u8(backend.state) != BackendState::Gone {
            self.endpoints.insert(endpoint, slot);
            self.idle_gone.retain(|idle| *idle != slot);
        }
    }

    fn free_backend(&mut self, slot: u16) {
        if let Some(before) = self.backends.remove(&slot) {
            self.remove_endpoint(slot, &before);
            if before.incarnation > 0 {
                let free = abi::Backend {
                    incarnation: before.incarnation,
                    ..Default::default()
                };
                self.backends.insert(slot, free);
            }
        }
        self.backend_names.remove(&slot);
        self.tenants.remove(&slot);
        self.idle_gone.retain(|idle| *idle != slot);
    }

    fn remove_endpoint(&mut self, slot: u16, backend: &abi::Backend) {
        let key = endpoint_key(backend);
        if self.endpoints.get(&key) == Some(&slot) {
            self.endpoints.remove(&key);
        }
    }

    fn set_service(&mut self, key: &abi::ServiceKey, service: abi::Service, name: &str) {
        self.vips.insert(service.id, vip(key, service));
        self.service_names.insert(service.id, kept_name(name));
        self.services.insert(*key, service);
        if service.flags & abi::SERVICE_CLOSING == 0 {
            self.idle_closing.retain(|idle| *idle != service.id);
        }
    }

    fn remove_service(&mut self, key: &abi::ServiceKey) {
        let Some(service) = self.services.remove(key) else {
            return;
        };
        let owned = self.vips.get(&service.id).is_some_and(|vip| {
            (vip.address, vip.port, vip.protocol) == (key.address, key.port, key.protocol)
        });
        if service.flags & abi::SERVICE_VIP_MARK == 0 && owned {
            self.vips.remove(&service.id);
            self.service_names.remove(&service.id);
            self.idle_closing.retain(|idle| *idle != service.id);
        }
    }
}

fn endpoint_key(backend: &abi::Backend) -> EndpointKey {
    EndpointKey::new(backend.address, backend.port, backend.protocol)
}

/// What `VIPS` holds of a service.
pub(crate) fn vip(key: &abi::ServiceKey, service: abi::Service) -> abi::Vip {
    abi::Vip {
        address: key.address,
        port: key.port,
        protocol: key.protocol,
        in_use: 1,
        pool: service.pool,
        flags: service.flags as u16,
    }
}

/// The name as a map holds it.
pub(super) fn kept_name(name: &str) -> String {
    abi::Name::new(name).as_str().to_owned()
}
