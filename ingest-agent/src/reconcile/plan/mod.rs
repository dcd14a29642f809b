//! [`plan`]: the difference between what should be and what is, as writes in the order that keeps every packet
//! in between right.

mod backends;
mod ids;
mod limits;
mod routes;
mod services;
mod tables;
mod thresholds;

pub use backends::repoint;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use ingest_common::abi::{self, EndpointKey};

use super::{Backend, Desired, Observed, Op, PodPort, observed::kept_name};

/// What a plan depends on besides the two states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// How long a draining backend keeps its sessions; `None`: until they end by themselves.
    pub drain_deadline_ns: Option<u64>,
    /// The ends are spread over this long after the deadline.
    pub drain_window_ns: u64,
}

/// The desired state does not fit into the maps. Nothing of it is applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No free service id.
    #[error(
        "more than {limit} VIP:ports, counting removed ones whose sessions have not ended; \
         try again in a few seconds or remove some services"
    )]
    TooManyServices {
        /// [`abi::MAX_SERVICES`]
        limit: usize,
    },
    /// No free pool id.
    #[error(
        "more than {limit} pools, counting those of removed services whose sessions have not ended; \
         try again in a few seconds or remove some services"
    )]
    TooManyPools {
        /// [`abi::MAX_POOLS`]
        limit: usize,
    },
    /// No free slot.
    #[error(
        "more than {limit} backends, counting removed ones whose sessions have not ended; \
         try again in a few seconds or remove some backends"
    )]
    TooManyBackends {
        /// [`abi::MAX_BACKENDS`]
        limit: usize,
    },
    /// A Maglev table would starve members.
    #[error(
        "service {service} has {count} serving backends of one address family; at most {limit} fit: split it"
    )]
    PoolTooLarge {
        /// The service.
        service: String,
        /// Its backends.
        count: usize,
        /// [`abi::MAX_POOL_BACKENDS`]
        limit: usize,
    },
    /// `SOURCES` is full.
    #[error("{count} source ranges, each counted once a VIP; at most {limit} fit: merge some")]
    TooManySources {
        /// All together.
        count: usize,
        /// [`abi::MAX_SOURCES`]
        limit: usize,
    },
    /// No free route index.
    #[error(
        "more than {limit} routes, counting removed ones whose sessions have not ended; \
         try again in a few seconds or remove some routes"
    )]
    TooManyRoutes {
        /// [`abi::MAX_ROUTES`], less the one that is none
        limit: usize,
    },
    /// `ROUTES` is full.
    #[error("{count} matches of routes, each counted once a VIP; at most {limit} fit: merge some")]
    TooManyMatches {
        /// All together.
        count: usize,
        /// [`abi::MAX_MATCHES`]
        limit: usize,
    },
}

/// The writes that turn `observed` into `desired`. Empty where nothing is to be done.
///
/// A backend that left the desired state becomes `Gone` and keeps its slot until no session needs it
/// ([`Observed::idle_gone`]); the same tenant at the same address comes back as what it was. A service that left
/// is closing, and keeps its id and its pool, until no session needs it ([`Observed::idle_closing`]). A route that left
/// matches nobody at once, and keeps its index and its quota as long ([`Observed::idle_routes`]).
#[expect(clippy::implicit_hasher, reason = "the callers have the default one")]
pub fn plan(
    desired: &Desired,
    ports: &HashMap<IpAddr, PodPort>,
    observed: &Observed,
    options: &PlanOptions,
) -> Result<Vec<Op>, PlanError> {
    let backends = backends::plan(desired, ports, observed, options)?;
    let routed = routes::Routed::new(desired);
    let services = services::plan(desired, observed, &routed)?;
    let routes = routes::plan(observed, &routed, &services.served, &services.pools)?;
    let tables = tables::plan(
        desired,
        observed,
        &backends,
        &services.pools,
        &services.closing,
    )?;

    let thresholds = thresholds::plan(observed, &services, &routes);

    let mut ops = backends.free;
    ops.extend(backends.worse.early);
    ops.extend(backends.better);
    ops.extend(services.add_sources);
    ops.extend(tables.set);
    ops.extend(routes.set_quotas);
    ops.extend(routes.set);
    ops.extend(thresholds.set);
    ops.extend(services.set);
    ops.extend(tables.clear);
    ops.extend(services.remove);
    ops.extend(routes.remove);
    ops.extend(routes.remove_quotas);
    ops.extend(thresholds.clear);
    ops.extend(tables.remove);
    ops.extend(services.remove_sources);
    ops.extend(backends.worse.late);
    Ok(ops)
}

/// The address as maps hold it.
pub fn to_abi(address: IpAddr) -> abi::Address {
    match address {
        IpAddr::V4(v4) => abi::v4_mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that a map holds.
pub fn from_abi(address: &abi::Address) -> IpAddr {
    match abi::as_v4(address) {
        Some(v4) => IpAddr::from(v4),
        None => IpAddr::V6(Ipv6Addr::from(*address)),
    }
}

/// SRT and UDP services share the pod's UDP port.
fn endpoint(backend: &Backend) -> EndpointKey {
    EndpointKey::new(to_abi(backend.address), backend.port, abi::UDP)
}

#[cfg(test)]
mod tests;
