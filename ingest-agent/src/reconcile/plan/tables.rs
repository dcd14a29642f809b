//! Maglev tables: one a pool, rebuilt only when its members change.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    iter,
};

use ingest_common::{
    abi::{self, EndpointKey},
    maglev,
};

use super::{
    super::{Desired, Observed, Op, PoolName},
    PlanError,
    backends::Backends,
    endpoint,
    services::{PoolKey, known, routed_pools},
};

pub(super) struct Tables {
    pub(super) set: Vec<Op>,
    /// Of closing services, which place nobody: their members may go.
    pub(super) clear: Vec<Op>,
    pub(super) remove: Vec<Op>,
}

pub(super) fn plan(
    desired: &Desired,
    observed: &Observed,
    backends: &Backends,
    pools: &BTreeMap<PoolKey<'_>, u16>,
    closing: &BTreeMap<u16, PoolName>,
) -> Result<Tables, PlanError> {
    let mut set = Vec::new();
    for service in &desired.services {
        for is_v4 in [true, false] {
            let Some(&pool) = pools.get(&(service.name.as_str(), is_v4)) else {
                continue;
            };
            let mut members: Vec<maglev::Member> = service
                .backends
                .iter()
                .filter(|b| !b.draining && b.address.is_ipv4() == is_v4)
                .filter_map(|backend| {
                    let key = endpoint(backend);
                    let slot = *backends.slots.get(&key)?;
                    Some(member(&key, slot, backend.weight))
                })
                .collect();
            if members.len() > abi::MAX_POOL_BACKENDS {
                return Err(PlanError::PoolTooLarge {
                    service: service.name.clone(),
                    count: members.len(),
                    limit: abi::MAX_POOL_BACKENDS,
                });
            }
            let mut slots: Vec<u16> = members
                .iter()
                .flat_map(|m| iter::repeat_n(m.slot, m.weight.into()))
                .collect();
            slots.sort_unstable();
            if observed.tables.get(&pool) == Some(&slots) {
                continue;
            }
            set.push(table(pool, &service.name, is_v4, slots, &mut members));
        }
    }
    let used: HashSet<u16> = pools.values().copied().collect();
    let unused: BTreeSet<u16> = known(observed)
        .map(|(_, s)| s.pool)
        .chain(observed.tables.keys().copied())
        .chain(routed_pools(observed))
        .filter(|pool| !used.contains(pool) && !closing.contains_key(pool))
        .collect();
    let full = closing
        .iter()
        .filter(|(pool, _)| observed.tables.get(pool).is_none_or(|s| !s.is_empty()));
    Ok(Tables {
        set,
        clear: full
            .map(|(pool, name)| table(*pool, &name.service, name.is_v4, Vec::new(), &mut []))
            .collect(),
        remove: unused
            .into_iter()
            .map(|pool| Op::RemoveTable { pool })
            .collect(),
    })
}

fn table(
    pool: u16,
    service: &str,
    is_v4: bool,
    slots: Vec<u16>,
    members: &mut [maglev::Member],
) -> Op {
    #[expect(clippy::large_stack_arrays, reason = "32 KiB on their way to the heap")]
    let mut table = Box::new(abi::MaglevTable {
        slots: [maglev::EMPTY; 16384],
    });
    let mut scratch = vec![maglev::Cursor::default(); members.len()];
    maglev::build(members, &mut scratch, &mut table);
    Op::SetTable {
        pool,
        name: PoolName {
            service: service.to_owned(),
            is_v4,
        },
        slots,
        table,
    }
}

/// What names a backend alike on every node: its address and port.
fn member(key: &EndpointKey, slot: u16, weight: u16) -> maglev::Member {
    let mut bytes = [0; 18];
    let (address, port) = bytes.split_at_mut(16);
    address.copy_from_slice(&key.address);
    port.copy_from_slice(&key.port.to_be_bytes());
    maglev::Member {
        slot,
        identity: maglev::identity(&bytes),
        weight,
    }
}
