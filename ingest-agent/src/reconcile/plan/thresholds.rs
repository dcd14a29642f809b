//! From when on streams are not well: of each service and route its own.

use std::collections::{BTreeMap, BTreeSet};

use ingest_common::abi::Thresholds;

use super::{
    super::{Observed, Op},
    routes::Routes,
    services::{Services, known},
};

pub(super) struct Changes {
    pub(super) set: Vec<Op>,
    /// Once nobody has the index.
    pub(super) clear: Vec<Op>,
}

pub(super) fn plan(observed: &Observed, services: &Services<'_>, routes: &Routes) -> Changes {
    let of_services = services
        .served
        .iter()
        .map(|at| (Thresholds::of_service(at.id), at.thresholds));
    let of_routes = routes
        .thresholds
        .iter()
        .map(|(route, own)| (Thresholds::of_route(*route), *own));
    let wanted: BTreeMap<u32, Thresholds> = of_services.chain(of_routes).collect();
    let set = wanted
        .iter()
        .filter(|(index, own)| observed.thresholds.get(index).copied().unwrap_or_default() != **own)
        .map(|(&index, &thresholds)| Op::SetThresholds { index, thresholds })
        .collect();

    let kept = kept(observed, services, routes);
    let clear = observed
        .thresholds
        .keys()
        .filter(|index| !wanted.contains_key(index) && !kept.contains(index))
        .map(|&index| Op::SetThresholds {
            index,
            thresholds: Thresholds::default(),
        })
        .collect();
    Changes { set, clear }
}

/// The indices of who is there, wanted or not: streams of a service that is closing, and of a route that left, are
/// judged as before.
fn kept(observed: &Observed, services: &Services<'_>, routes: &Routes) -> BTreeSet<u32> {
    let closed: BTreeSet<_> = services
        .remove
        .iter()
        .filter_map(|op| match op {
            Op::RemoveService { key } => Some(*key),
            _ => None,
        })
        .collect();
    let left: BTreeSet<u16> = routes
        .remove_quotas
        .iter()
        .filter_map(|op| match op {
            Op::RemoveQuota { route } => Some(*route),
            _ => None,
        })
        .collect();
    let services = known(observed).filter(|(key, _)| !closed.contains(key));
    let routes = observed.quotas.keys().filter(|route| !left.contains(route));
    services
        .map(|(_, service)| Thresholds::of_service(service.id))
        .chain(routes.map(|route| Thresholds::of_route(*route)))
        .collect()
}
