//! What the view of the streams is made of, read whole, and where its judgement is kept.
//!
//! Runs every second on a node with thousands of streams: every map is read in batches, a handful of system calls each.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use ingest_common::abi;

use super::{Error, Reader, maps::ArrayMap, now_ns};
use crate::{
    reconcile::from_abi,
    view::{BackendName, Names, Reading, ServiceName},
};

/// `NODE` is one value with two writers in the agent, each of which writes it whole.
static NODE_WRITES: Mutex<()> = Mutex::new(());

/// Changes `NODE` and leaves what `change` does not touch. The agent is the only process that writes it.
pub(super) fn change_node(
    node: &mut ArrayMap<abi::Node>,
    change: impl FnOnce(&mut abi::Node),
) -> Result<(), Error> {
    let _one_at_a_time = NODE_WRITES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut value = node.get(0)?;
    change(&mut value);
    node.set(0, &value)
}

impl Reader {
    /// Everything that the view looks at.
    pub fn reading(&self) -> Result<Reading, Error> {
        let names = self.names()?;
        let mut thresholds = HashMap::new();
        self.maps.thresholds.for_each(|index, value| {
            if *value != abi::Thresholds::default() {
                thresholds.insert(index, *value);
            }
        })?;
        let now_ns = now_ns();
        Ok(Reading {
            now_ns,
            flows: self.flows()?,
            names,
            thresholds,
        })
    }

    /// Who is behind the ids of services, slots and routes.
    pub fn names(&self) -> Result<Names, Error> {
        let maps = &self.maps;
        let mut names = Names::default();
        maps.services.for_each(|key, service| {
            if service.flags & abi::SERVICE_VIP_MARK == 0 {
                let name = ServiceName {
                    name: String::new(),
                    vip: SocketAddr::new(from_abi(&key.address), key.port),
                    is_srt: service.flags & abi::SERVICE_SRT != 0,
                };
                names.services.insert(service.id, name);
            }
        })?;
        maps.service_names.for_each(|id, name| {
            if let Some(service) = names.services.get_mut(&(id as u16)) {
                name.as_str().clone_into(&mut service.name);
            }
        })?;
        maps.backends.for_each(|slot, backend| {
            let state = abi::BackendState::from_u8(backend.state);
            if state != abi::BackendState::Free {
                let name = BackendName {
                    name: String::new(),
                    address: SocketAddr::new(from_abi(&backend.address), backend.port),
                    incarnation: backend.incarnation,
                    draining: state == abi::BackendState::Draining,
                };
                names.backends.insert(slot as u16, name);
            }
        })?;
        maps.backend_names.for_each(|slot, name| {
            if let Some(backend) = names.backends.get_mut(&(slot as u16)) {
                name.as_str().clone_into(&mut backend.name);
            }
        })?;
        maps.health.for_each(|slot, health| {
            if health.drain != 0
                && let Some(backend) = names.backends.get_mut(&(slot as u16))
            {
                backend.draining = true;
            }
        })?;
        maps.quotas.for_each(|route, quota| {
            if quota.in_use != 0 {
                names.routes.insert(route as u16, String::new());
            }
        })?;
        maps.route_names.for_each(|route, name| {
            if let Some(route) = names.routes.get_mut(&(route as u16)) {
                name.as_str().clone_into(route);
            }
        })?;
        Ok(names)
    }

    /// What the caller of a flow asked for. Of an earlier caller on that port, unless its socket id is the flow's.
    pub fn stream_id(&self, key: &abi::FlowKey) -> Result<Option<abi::StreamId>, Error> {
        self.maps.stream_ids.get(key)
    }

    /// The agent's judgement of every stream. As old as [`abi::Node::viewed_ns`].
    pub fn stream_health(&self) -> Result<HashMap<abi::FlowKey, abi::StreamHealth>, Error> {
        let mut health = HashMap::new();
        self.maps.stream_health.for_each(|key, value| {
            health.insert(*key, *value);
        })?;
        Ok(health)
    }

    /// Keeps the judgement of a stream. The agent's alone.
    pub fn set_stream_health(
        &mut self,
        key: &abi::FlowKey,
        health: &abi::StreamHealth,
    ) -> Result<(), Error> {
        self.maps.stream_health.insert(key, health)
    }

    /// Forgets the judgement of a stream; `false` if there was none. The agent's alone.
    pub fn remove_stream_health(&mut self, key: &abi::FlowKey) -> Result<bool, Error> {
        self.maps.stream_health.remove(key)
    }

    /// Says in `NODE` that the streams were looked at. The agent's alone.
    pub fn set_viewed(&mut self, viewed_ns: u64) -> Result<(), Error> {
        change_node(&mut self.maps.node, |node| node.viewed_ns = viewed_ns)
    }
}
