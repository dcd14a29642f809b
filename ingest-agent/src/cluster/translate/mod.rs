//! From objects to the desired state: [`translate`] is a pure function of copies of objects.

mod pods;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

pub(super) use self::pods::LocalPods;
use super::Options;
use crate::reconcile::Desired;

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
    let (_, _) = (view, options);
    Derived::default()
}

/// Whether the Service is ours to steer.
pub(super) fn is_claimed(service: &Service) -> bool {
    let _ = service;
    false
}

/// When the change that a slice tells of happened, as its controller stamped it.
pub(super) fn trigger_time(slice: &EndpointSlice) -> Option<SystemTime> {
    let _ = slice;
    None
}
