//! From objects to the desired state: [`translate`] is a pure function of copies of objects.
//!
//! * `claim`: which Services are ours, and their order of age.
//! * `services`: one Service by itself, from its `ports`, `vips`, `sources` and `endpoints`.
//! * `fit`: all together: conflicts over VIPs, limits of the maps.
//! * `pods`: what own-node Pods say ahead of their slices.
//!
//! No I/O and no clock. What the order of objects is, or in which slice an endpoint lies, changes nothing.

mod claim;
mod endpoints;
mod fit;
mod hash;
mod pods;
mod ports;
mod services;
mod sources;
mod vips;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    jiff::Timestamp,
};

pub(super) use self::{claim::is_claimed, pods::LocalPods};
use self::{endpoints::Slices, fit::Candidate};
use super::Options;
use crate::reconcile::Desired;

/// When the change that a slice tells of happened.
const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// `namespace`, `name`.
pub(super) type ObjectName = (String, String);

/// Copies of the objects at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// All Services; those not ours are passed over.
    pub(super) services: &'a [Arc<Service>],
    /// Slices, at least those of our Services.
    pub(super) slices: &'a [Arc<EndpointSlice>],
    /// What is said of pods of this node.
    pub(super) pods: &'a LocalPods,
}

/// What follows from a [`View`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Derived {
    /// What the maps are to say.
    pub(super) desired: Desired,
    /// What is to be told of Services, by Service.
    pub(super) conditions: BTreeMap<ObjectName, BTreeSet<Condition>>,
    /// What the status of Services of our class should be, where it is not.
    pub(super) statuses: BTreeMap<ObjectName, Vec<IpAddr>>,
    /// UIDs, to refer to: of claimed Services, and of the pods behind them.
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
    let services = view.services.iter().map(Arc::as_ref);
    let mut claimed: Vec<&Service> = services.filter(|s| is_claimed(s)).collect();
    claimed.sort_by(|a, b| claim::age(a).cmp(&claim::age(b)));
    let slices = Slices::of(view);

    let mut derived = Derived::default();
    let mut candidates = Vec::new();
    for service in claimed {
        let (namespace, name) = claim::name(service);
        let owner: ObjectName = (namespace.to_owned(), name.to_owned());
        let asked = services::read(service, &slices, view.pods, options);
        candidates.extend(asked.services.into_iter().map(|service| Candidate {
            owner: owner.clone(),
            service,
        }));
        if !asked.conditions.is_empty() {
            derived.conditions.insert(owner.clone(), asked.conditions);
        }
        if let Some(status) = asked.status {
            derived.statuses.insert(owner.clone(), status);
        }
        derived.pod_uids.extend(asked.pod_uids);
        if let Some(uid) = &service.metadata.uid {
            derived.service_uids.insert(owner, uid.clone());
        }
    }
    derived.desired.services = fit::fit(candidates, &mut derived.conditions);
    derived
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
