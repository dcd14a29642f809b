//! Slots: who gets which, and in what state.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

use ingest_common::abi::{self, BackendState, EndpointKey};

use super::{
    super::{Backend, Desired, Observed, Op, PodPort},
    PlanError, PlanOptions, endpoint, from_abi,
    ids::Ids,
    kept_name, limits, services,
};

pub(super) struct Backends {
    pub(super) free: Vec<Op>,
    /// New backends, and what makes others able: before tables name them.
    pub(super) better: Vec<Op>,
    /// What takes sessions from backends.
    pub(super) worse: Worse,
    pub(super) slots: HashMap<EndpointKey, u16>,
}

pub(super) fn plan(
    desired: &Desired,
    ports: &HashMap<IpAddr, PodPort>,
    observed: &Observed,
    options: &PlanOptions,
) -> Result<Backends, PlanError> {
    // Serving for one service is serving: each service's table decides about its new sessions, the slot's state
    // about the old ones.
    let mut wanted: BTreeMap<EndpointKey, Wanted<'_>> = BTreeMap::new();
    for backend in desired.services.iter().flat_map(|s| &s.backends) {
        let wanted = wanted.entry(endpoint(backend)).or_insert(Wanted {
            backend,
            draining: true,
            tenant: abi::Tenant::default(),
        });
        wanted.draining &= backend.draining;
        wanted.tenant = known_first(wanted.tenant, backend.tenant);
    }
    let live: BTreeMap<u16, &abi::Backend> = observed
        .backends
        .iter()
        .filter(|(_, b)| BackendState::from_u8(b.state) != BackendState::Free)
        .map(|(slot, backend)| (*slot, backend))
        .collect();
    let mut slots: HashMap<EndpointKey, u16> = live
        .iter()
        .map(|(slot, b)| (EndpointKey::new(b.address, b.port, b.protocol), *slot))
        .filter(|(key, _)| wanted.contains_key(key))
        .collect();
    let kept: HashSet<u16> = slots.values().copied().collect();
    let limits = limits::limits(desired, |key| {
        let load = slots.get(key).and_then(|slot| observed.loads.get(slot));
        load.copied().unwrap_or(0)
    });
    let mut freed = observed.idle_gone.clone();
    // After a write that failed, a table may still name a slot that is gone.
    let known = tables_are_known(observed);
    let named = |slot: &u16| observed.tables.values().any(|slots| slots.contains(slot));
    freed.retain(|slot| known && live.contains_key(slot) && !kept.contains(slot) && !named(slot));
    let taken = live.keys().copied().filter(|slot| !freed.contains(slot));
    let mut ids = Ids::new(taken, abi::MAX_BACKENDS);

    let mut better = Vec::new();
    let mut worse = Vec::new();
    for (key, wanted) in wanted {
        let Wanted {
            backend, draining, ..
        } = wanted;
        let known = slots.get(&key).copied();
        let slot = match known {
            Some(slot) => slot,
            None => ids.take().ok_or(PlanError::TooManyBackends {
                limit: abi::MAX_BACKENDS,
            })?,
        };
        if known.is_none() {
            slots.insert(key, slot);
        }
        let before = known.and_then(|slot| live.get(&slot).copied());
        let name = kept_name(&backend.name);
        let seen = observed.tenants.get(&slot).copied().unwrap_or_default();
        let tenant = before.filter(|_| {
            let renamed = observed.backend_names.get(&slot);
            renamed.is_none_or(|old| *old == name) && may_be_same(seen, wanted.tenant)
        });
        let fresh = tenant.is_none();
        let whose = if fresh {
            wanted.tenant
        } else {
            known_first(wanted.tenant, seen)
        };
        let entry = entry(
            &key,
            draining,
            tenant,
            observed.backends.get(&slot),
            options,
        );
        let limit = limits.get(&key);
        let entry = abi::Backend {
            limit: limit.map_or(0, |limit| limit.sessions),
            flags: soft(limit.is_some_and(|limit| limit.soft)),
            ..entry
        };
        let entry = reach(entry, ports.get(&backend.address), tenant);
        let complete = observed.endpoints.get(&key) == Some(&slot)
            && observed.backend_names.get(&slot) == Some(&name)
            && seen == whose;
        if fresh || before != Some(&entry) || !complete {
            let list = if draining && before.is_some_and(is_serving) {
                &mut worse
            } else {
                &mut better
            };
            list.push(Op::SetBackend {
                slot,
                backend: entry,
                name,
                tenant: whose,
                fresh,
            });
        }
    }
    for (slot, backend) in live
        .iter()
        .filter(|(s, _)| !freed.contains(s) && !kept.contains(s))
    {
        let gone = abi::Backend {
            state: BackendState::Gone as u8,
            drain_deadline_ns: 0,
            drain_window_ns: 0,
            ..reach(
                **backend,
                ports.get(&from_abi(&backend.address)),
                Some(backend),
            )
        };
        if **backend != gone {
            let name = observed
                .backend_names
                .get(slot)
                .cloned()
                .unwrap_or_default();
            worse.push(Op::SetBackend {
                slot: *slot,
                backend: gone,
                name,
                tenant: observed.tenants.get(slot).copied().unwrap_or_default(),
                fresh: false,
            });
        }
    }
    let free = freed
        .into_iter()
        .map(|slot| Op::FreeBackend { slot })
        .collect();
    Ok(Backends {
        free,
        better,
        worse: Worse::new(worse, observed),
        slots,
    })
}

/// A backend over all services that list it.
struct Wanted<'a> {
    backend: &'a Backend,
    draining: bool,
    tenant: abi::Tenant,
}

/// Writes that take sessions from backends, or their last ones.
pub(super) struct Worse {
    /// Before the tables, which take much longer: the kernel passes over who does not serve.
    pub(super) early: Vec<Op>,
    /// After the tables, which would name nobody that serves otherwise.
    pub(super) late: Vec<Op>,
}

impl Worse {
    fn new(ops: Vec<Op>, observed: &Observed) -> Self {
        if ops.is_empty() {
            return Self {
                early: ops,
                late: Vec::new(),
            };
        }
        let serves = |slot: &u16| observed.backends.get(slot).is_some_and(is_serving);
        let worse: HashSet<u16> = ops.iter().filter_map(slot_of).collect();
        let known = tables_are_known(observed);
        let would_be_empty: HashSet<u16> = observed
            .tables
            .values()
            .filter(|slots| !slots.iter().any(|s| serves(s) && !worse.contains(s)))
            .flatten()
            .copied()
            .collect();
        let (early, late) = ops.into_iter().partition(|op| {
            slot_of(op)
                .is_none_or(|slot| !serves(&slot) || known && !would_be_empty.contains(&slot))
        });
        Self { early, late }
    }
}

/// Whether no table may name a slot that we do not know of, as an adopted one may.
fn tables_are_known(observed: &Observed) -> bool {
    services::known(observed)
        .filter(|(_, service)| !services::is_closing(**service))
        .map(|(_, service)| service.pool)
        .chain(services::routed_pools(observed))
        .all(|pool| observed.tables.contains_key(&pool))
}

fn slot_of(op: &Op) -> Option<u16> {
    match op {
        Op::SetBackend { slot, .. } => Some(*slot),
        _ => None,
    }
}

fn is_serving(backend: &abi::Backend) -> bool {
    BackendState::from_u8(backend.state) == BackendState::Serving
}

const fn soft(soft: bool) -> u8 {
    if soft { abi::BACKEND_SOFT_LIMIT } else { 0 }
}

/// What `a` knows of a tenant, and what `b` knows besides.
fn known_first(a: abi::Tenant, b: abi::Tenant) -> abi::Tenant {
    let first = |a, b| if a == 0 { b } else { a };
    abi::Tenant {
        pod: first(a.pod, b.pod),
        process: first(a.process, b.process),
    }
}

/// Another pod at the same address has none of the old one's sessions, nor has a container that was started again.
fn may_be_same(a: abi::Tenant, b: abi::Tenant) -> bool {
    let agree = |a, b| a == 0 || b == 0 || a == b;
    agree(a.pod, b.pod) && agree(a.process, b.process)
}

/// The writes that follow pods which moved, and change nothing else: for an agent whose source has not spoken yet.
#[expect(clippy::implicit_hasher, reason = "the callers have the default one")]
pub fn repoint(ports: &HashMap<IpAddr, PodPort>, observed: &Observed) -> Vec<Op> {
    let mut ops = Vec::new();
    for (slot, backend) in &observed.backends {
        if BackendState::from_u8(backend.state) == BackendState::Free {
            continue;
        }
        let port = ports.get(&from_abi(&backend.address));
        let now = reach(*backend, port, Some(backend));
        if now != *backend {
            ops.push(Op::SetBackend {
                slot: *slot,
                backend: now,
                name: observed
                    .backend_names
                    .get(slot)
                    .cloned()
                    .unwrap_or_default(),
                tenant: observed.tenants.get(slot).copied().unwrap_or_default(),
                fresh: false,
            });
        }
    }
    ops
}

/// The entry of a wanted backend, but for how packets get there.
///
/// `tenant`: the entry that it has already; `slot`: what the slot holds, of whomever.
fn entry(
    key: &EndpointKey,
    draining: bool,
    tenant: Option<&abi::Backend>,
    slot: Option<&abi::Backend>,
    options: &PlanOptions,
) -> abi::Backend {
    let used = slot.map_or(0, |b| b.incarnation);
    let (drain_deadline_ns, drain_window_ns) = if draining {
        drain_deadline(tenant, options)
    } else {
        (0, 0)
    };
    let state = if draining {
        BackendState::Draining
    } else {
        BackendState::Serving
    };
    abi::Backend {
        address: key.address,
        port: key.port,
        protocol: key.protocol,
        state: state as u8,
        incarnation: if tenant.is_some() {
            used
        } else {
            used.wrapping_add(1)
        },
        drain_deadline_ns,
        drain_window_ns,
        ..abi::Backend::default()
    }
}

/// Set once, when draining begins: an agent that restarts must not grant another term.
fn drain_deadline(tenant: Option<&abi::Backend>, options: &PlanOptions) -> (u64, u64) {
    match tenant {
        Some(b) if BackendState::from_u8(b.state) == BackendState::Draining => {
            (b.drain_deadline_ns, b.drain_window_ns)
        }
        _ => options.drain_deadline_ns.map_or((0, 0), |term| {
            (options.now_ns.saturating_add(term), options.drain_window_ns)
        }),
    }
}

/// `backend` with the way packets get there. One that was not looked up yet keeps the way that it had `before`: a slow
/// answer about a pod must not end its sessions.
fn reach(
    backend: abi::Backend,
    port: Option<&PodPort>,
    before: Option<&abi::Backend>,
) -> abi::Backend {
    let soft = backend.flags & abi::BACKEND_SOFT_LIMIT;
    let Some(port) = port else {
        let before = before.copied().unwrap_or_default();
        return abi::Backend {
            mode: before.mode,
            flags: before.flags & !abi::BACKEND_SOFT_LIMIT | soft,
            pod_mac: before.pod_mac,
            port_mac: before.port_mac,
            ifindex: before.ifindex,
            ..backend
        };
    };
    let flags = if port.partial_checksums {
        abi::BACKEND_PARTIAL_CHECKSUMS
    } else {
        0
    };
    abi::Backend {
        mode: port.mode as u8,
        flags: flags | soft,
        pod_mac: port.pod_mac,
        port_mac: port.port_mac,
        ifindex: port.ifindex,
        ..backend
    }
}
