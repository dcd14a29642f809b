//! The endpoints of a Service's port: joined from all its slices, judged by kube-proxy's rules, those of this node as
//! backends.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ingest_common::abi::Tenant;
use k8s_openapi::api::{
    core::v1::ObjectReference,
    discovery::v1::{Endpoint, EndpointSlice},
};

use super::{Condition, LocalPods, ObjectName, View, hash, ports};
use crate::{reconcile::Backend, source::not_unicast};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MIRRORING: &str = "endpointslicemirroring-controller.k8s.io";

/// Slices by namespace and name of their Service.
pub(super) struct Slices<'a>(HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>);

impl<'a> Slices<'a> {
    pub(super) fn of(view: &View<'a>) -> Self {
        let mut slices: HashMap<_, Vec<&'a EndpointSlice>> = HashMap::new();
        for slice in view.slices {
            let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
            if let Some(service) = label(slice, SERVICE_NAME_LABEL) {
                slices.entry((namespace, service)).or_default().push(slice);
            }
        }
        // Mirrors of Endpoints repeat what real slices say, late.
        for slices in slices.values_mut() {
            if !slices.iter().all(|s| is_mirror(s)) {
                slices.retain(|s| !is_mirror(s));
            }
        }
        Self(slices)
    }

    pub(super) fn get(&self, service: (&'a str, &'a str)) -> &[&'a EndpointSlice] {
        self.0.get(&service).map_or(&[], Vec::as_slice)
    }
}

fn label<'a>(slice: &'a EndpointSlice, key: &str) -> Option<&'a str> {
    let labels = slice.metadata.labels.as_ref()?;
    labels.get(key).map(String::as_str)
}

fn is_mirror(slice: &EndpointSlice) -> bool {
    label(slice, MANAGED_BY_LABEL) == Some(MIRRORING)
}

/// What decides about the endpoints of a Service besides the slices.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) service: (&'a str, &'a str),
    pub(super) node: &'a str,
    pub(super) pods: &'a LocalPods,
    /// `externalTrafficPolicy: Local`.
    pub(super) only_local: bool,
    /// `publishNotReadyAddresses`.
    pub(super) not_ready_too: bool,
}

/// The endpoints of one port.
#[derive(Default)]
pub(super) struct Endpoints {
    /// Those of this node, sorted by address and port.
    pub(super) backends: Vec<Backend>,
    /// UIDs of the pods behind them.
    pub(super) pod_uids: Vec<(ObjectName, String)>,
    /// Annotations of pods that cannot be used.
    unusable: Vec<Condition>,
    /// IPv4's, IPv6's.
    takers: [Takers; 2],
}

/// Where new sessions find an endpoint.
#[derive(Clone, Copy, Default)]
pub(super) struct Takers {
    pub(super) here: bool,
    pub(super) elsewhere: bool,
}

impl Endpoints {
    /// What pods say of themselves that cannot be used.
    pub(super) fn tell(&self, conditions: &mut BTreeSet<Condition>) {
        conditions.extend(self.unusable.iter().cloned());
    }

    pub(super) fn takers(&self, is_ipv6: bool) -> Takers {
        self.takers[usize::from(is_ipv6)]
    }

    /// Joins the port called `name`.
    pub(super) fn join(slices: &[&EndpointSlice], name: &str, rules: &Rules<'_>) -> Self {
        let mut joined: BTreeMap<(IpAddr, u16), Judged<'_>> = BTreeMap::new();
        for slice in slices {
            let Some(port) = slice_port(slice, name) else {
                continue;
            };
            for endpoint in &slice.endpoints {
                let Some(address) = address(slice, endpoint) else {
                    continue;
                };
                if let Some(judged) = Judged::new(slice, endpoint, port, rules) {
                    // Two copies while an endpoint moves between slices: the better one counts.
                    let best = joined.entry((address, port)).or_insert(judged);
                    *best = (*best).max(judged);
                }
            }
        }
        Self::decide(&joined, rules)
    }

    fn decide(joined: &BTreeMap<(IpAddr, u16), Judged<'_>>, rules: &Rules<'_>) -> Self {
        // kube-proxy's fallback: where nobody is ready, those that end but serve take new sessions.
        let mut any_ready = [false; 2];
        for ((address, _), endpoint) in joined {
            if endpoint.is_local || !rules.only_local {
                any_ready[usize::from(address.is_ipv6())] |= endpoint.is_ready;
            }
        }
        let mut endpoints = Self::default();
        for ((address, port), endpoint) in joined {
            let family = usize::from(address.is_ipv6());
            let falls_back = !any_ready[family] && (endpoint.is_local || !rules.only_local);
            let takes = endpoint.is_ready || (falls_back && endpoint.is_reserve);
            let takers = &mut endpoints.takers[family];
            takers.here |= takes && endpoint.is_local;
            takers.elsewhere |= takes && !endpoint.is_local;
            if endpoint.is_local {
                let wish = endpoint.uid.map(|uid| rules.pods.wish(uid));
                let wish = wish.unwrap_or_default();
                let name = endpoint.name(*address, rules.service);
                let unusable = wish
                    .unusable
                    .iter()
                    .map(|(field, value)| Condition::Invalid {
                        field,
                        value: value.clone(),
                        reason: "no number that can be used, on a pod behind it; it is ignored",
                    });
                endpoints.unusable.extend(unusable);
                endpoints.backends.push(Backend {
                    name,
                    address: *address,
                    port: *port,
                    draining: !takes,
                    weight: wish.weight.unwrap_or(1),
                    limit: wish.limit,
                    tenant: Tenant {
                        pod: endpoint.uid.map_or(0, hash::stable),
                        process: endpoint.process,
                    },
                });
                endpoints.pod_uids.extend(endpoint.pod_uid());
            }
        }
        endpoints
    }
}

/// One copy of an endpoint that has sessions or may get some. The greater one is the better one; what follows the
/// judgement only makes the order whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Judged<'a> {
    is_ready: bool,
    /// Takes new sessions where nobody is ready.
    is_reserve: bool,
    is_local: bool,
    uid: Option<&'a str>,
    process: u32,
    pod: Option<(&'a str, &'a str)>,
}

impl<'a> Judged<'a> {
    /// `None`: nobody is there.
    fn new(
        slice: &'a EndpointSlice,
        endpoint: &'a Endpoint,
        port: u16,
        rules: &Rules<'_>,
    ) -> Option<Self> {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let serving = conditions.and_then(|c| c.serving).unwrap_or(true);
        let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
        if !ready && !serving {
            return None;
        }
        let target = endpoint.target_ref.as_ref().filter(|t| is_pod(t));
        let uid = target.and_then(|t| t.uid.as_deref());
        let is_local = endpoint.node_name.as_deref() == Some(rules.node);
        let word = uid
            .filter(|_| is_local)
            .map(|uid| rules.pods.word(uid, port))
            .unwrap_or_default();
        if word.dead {
            return None;
        }
        let unready = word.unready && !rules.not_ready_too;
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        Some(Self {
            is_ready: ready && !word.deleting && !unready,
            is_reserve: serving && (terminating || word.deleting) && !unready,
            is_local,
            uid,
            process: word.process,
            pod: target.and_then(|t| {
                Some((
                    t.namespace.as_deref().unwrap_or(namespace),
                    t.name.as_deref()?,
                ))
            }),
        })
    }

    fn name(&self, address: IpAddr, (namespace, service): (&str, &str)) -> String {
        match self.pod {
            Some((namespace, pod)) => format!("{namespace}/{pod}"),
            None => format!("{namespace}/{service}-{address}"),
        }
    }

    fn pod_uid(&self) -> Option<(ObjectName, String)> {
        let (namespace, name) = self.pod?;
        Some((
            (namespace.to_owned(), name.to_owned()),
            self.uid?.to_owned(),
        ))
    }
}

fn is_pod(target: &ObjectReference) -> bool {
    target.kind.as_deref() == Some("Pod")
}

/// The number that the slice has for the port: pods may differ in it.
fn slice_port(slice: &EndpointSlice, name: &str) -> Option<u16> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let port = ports.iter().find(|p| {
        p.name.as_deref().unwrap_or_default() == name && p.protocol.as_deref() == Some("UDP")
    });
    ports::number(port?.port?)
}

/// The first address, as kube-proxy takes it, if it is of the slice's family.
fn address(slice: &EndpointSlice, endpoint: &Endpoint) -> Option<IpAddr> {
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    (slice.address_type == family && not_unicast(address).is_none()).then_some(address)
}
