//! From objects to the desired state: [`translate`] is a pure function of copies of objects.
//!
//! * `claim`: which Services are ours, and their order of age.
//! * `services`: one Service by itself, from its `ports`, `vips`, `sources` and `endpoints`.
//! * `routes`: StreamRoutes: which count, and what they become.
//! * `fit`: all Services together: conflicts over VIPs, limits of the maps.
//! * `pods`: what own-node Pods say ahead of their slices.
//!
//! No I/O and no clock. What the order of objects is, or in which slice an endpoint lies, changes nothing.

mod claim;
mod endpoints;
mod fit;
mod hash;
mod pods;
mod ports;
mod routes;
mod services;
mod sources;
mod vips;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    jiff::Timestamp,
};

pub(super) use self::{
    claim::is_claimed,
    pods::LocalPods,
    routes::{RouteState, Verdict, backends},
};
use self::{endpoints::Slices, fit::Candidate};
use super::{Options, stream_route::StreamRoute};
use crate::reconcile::Desired;

/// When the change that a slice tells of happened.
const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// `namespace`, `name`.
pub(super) type ObjectName = (String, String);

/// Copies of the objects at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// All Services; those not ours are passed over, unless routes lead to them.
    pub(super) services: &'a [Arc<Service>],
    /// All StreamRoutes.
    pub(super) routes: &'a [Arc<StreamRoute>],
    /// Slices, at least those of our Services and of those that routes lead to.
    pub(super) slices: &'a [Arc<EndpointSlice>],
    /// What is said of pods of this node.
    pub(super) pods: &'a LocalPods,
}

/// What follows from a [`View`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Derived {
    /// What the maps are to say.
    pub(super) desired: Desired,
    /// What is to be told of Services, by Service.
    pub(super) conditions: BTreeMap<ObjectName, BTreeSet<Condition>>,
    /// What the status of Services of our class should be, where it is not.
    pub(super) statuses: BTreeMap<ObjectName, Vec<IpAddr>>,
    /// What is to be said of StreamRoutes.
    pub(super) routes: BTreeMap<ObjectName, RouteState>,
    /// UIDs, to refer to: of claimed Services, of those that routes lead to, and of the pods behind them.
    pub(super) service_uids: BTreeMap<ObjectName, String>,
    pub(super) pod_uids: BTreeMap<ObjectName, String>,
}

/// Something about a Service that its owner should know. Ends when it is no longer derived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    /// No endpoint anywhere takes new sessions.
    NoReadyBackend { port: String },
    /// Ready endpoints are on other nodes only: new sessions are left to the host.
    ReadyElsewhere { port: String },
    /// An older Service has the VIP:port.
    VipConflict {
        vip: IpAddr,
        port: u16,
        winner: String,
    },
    /// A port that is not steered: TCP, or UDP of no known protocol.
    UnsupportedPort { port: String, reason: &'static str },
    /// Claimed, and has no usable VIP (yet).
    NoVip { reason: &'static str },
    /// Asks for an address that the administrator does not allow.
    VipNotAllowed { address: String },
    /// VIP:port is also where a backend is: packets would go round.
    VipIsBackend {
        vip: IpAddr,
        port: u16,
        backend: String,
    },
    /// A field or annotation that cannot be used, and what is done instead.
    Invalid {
        field: &'static str,
        value: String,
        reason: &'static str,
    },
    /// More than the maps hold: something of the Service is left out.
    LeftOut { what: &'static str, limit: usize },
    /// `publishNotReadyAddresses`: pods get sessions before they are ready.
    PublishesNotReady,
}

/// Derives what `view` means for the node of `options`.
pub(super) fn translate(view: &View<'_>, options: &Options) -> Derived {
    let mut services: Vec<&Service> = view.services.iter().map(Arc::as_ref).collect();
    services.sort_by(|a, b| claim::age(a).cmp(&claim::age(b)));
    let slices = Slices::of(view);
    let by_name = services
        .iter()
        .map(|service| (claim::name(service), *service));
    let judged = routes::judge(view.routes, &by_name.collect());
    let pools = judged.pools();

    let mut derived = Derived::default();
    let mut candidates = Vec::new();
    for service in services {
        let (namespace, name) = claim::name(service);
        let owner: ObjectName = (namespace.to_owned(), name.to_owned());
        let before = candidates.len();
        let mut conditions = BTreeSet::new();
        let claimed = is_claimed(service);
        if claimed {
            let asked = services::read(service, &slices, view.pods, options);
            candidates.extend(asked.services.into_iter().map(|service| Candidate {
                owner: owner.clone(),
                is_pool: [false; 2],
                service,
            }));
            conditions = asked.conditions;
            if let Some(status) = asked.status {
                derived.statuses.insert(owner.clone(), status);
            }
            derived.pod_uids.extend(asked.pod_uids);
        }
        for port in ports::udp(service) {
            let full_name = services::full_name(service, port);
            let own = &candidates[before..];
            if !pools.contains_key(&full_name) || own.iter().any(|c| c.service.name == full_name) {
                continue;
            }
            let pool = services::pool(service, port, &slices, view.pods, options);
            conditions.extend(pool.conditions);
            derived.pod_uids.extend(pool.pod_uids);
            candidates.push(Candidate {
                owner: owner.clone(),
                is_pool: [false; 2],
                service: pool.service,
            });
        }
        let is_used = claimed || candidates.len() > before;
        if !conditions.is_empty() {
            derived.conditions.insert(owner.clone(), conditions);
        }
        if let Some(uid) = service.metadata.uid.as_ref().filter(|_| is_used) {
            derived.service_uids.insert(owner, uid.clone());
        }
    }
    mark_pools(&mut candidates, &pools);
    derived.desired.services = fit::fit(candidates, &mut derived.conditions);
    (derived.desired.routes, derived.routes) = judged.program(&derived.desired.services);
    derived
}

/// Says which candidates are pools, and of which families: those of the addresses that lead there.
fn mark_pools(candidates: &mut [Candidate], pools: &BTreeMap<String, BTreeSet<String>>) {
    let mut families: HashMap<String, [bool; 2]> = HashMap::new();
    for Candidate { service, .. } in &*candidates {
        let port = service
            .name
            .strip_suffix(services::NODE_PORT)
            .unwrap_or(&service.name);
        let has = families.entry(port.to_owned()).or_default();
        for vip in &service.vips {
            has[usize::from(vip.is_ipv6())] = true;
        }
    }
    for candidate in candidates {
        for parent in pools.get(&candidate.service.name).into_iter().flatten() {
            let has = families.get(parent).copied().unwrap_or_default();
            for (is_pool, has) in candidate.is_pool.iter_mut().zip(has) {
                *is_pool |= has;
            }
        }
    }
}

/// When the change that a slice tells of happened, as its controller stamped it.
pub(super) fn trigger_time(slice: &EndpointSlice) -> Option<SystemTime> {
    let annotations = slice.metadata.annotations.as_ref()?;
    let text = annotations.get(TRIGGER_TIME_ANNOTATION)?;
    let stamp: Timestamp = text.parse().ok()?;
    Some(stamp.into())
}

#[cfg(test)]
mod tests;
