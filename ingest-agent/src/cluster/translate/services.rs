//! One Service by itself: what it would get if it were the only one.

use std::{collections::BTreeSet, net::IpAddr};

use ingest_common::abi::Thresholds;
use k8s_openapi::api::core::v1::Service;

use super::{
    Condition, LocalPods, ObjectName, claim,
    endpoints::{Endpoints, Rules, Slices},
    ports, sources, vips,
};
use crate::{
    cluster::{
        BALANCE_ANNOTATION, HANDSHAKE_ANNOTATION, Options, THRESHOLDS_ANNOTATION,
        UNROUTED_ANNOTATION,
    },
    reconcile::{self, Handshake, Protocol},
    source::thresholds,
};

/// What one Service asks for.
#[derive(Default)]
pub(super) struct Asked {
    /// One a steered port, and one a steered node port.
    pub(super) services: Vec<reconcile::Service>,
    pub(super) conditions: BTreeSet<Condition>,
    /// What its status should list, where it lists something else.
    pub(super) status: Option<Vec<IpAddr>>,
    pub(super) pod_uids: Vec<(ObjectName, String)>,
}

pub(super) fn read<'a>(
    service: &'a Service,
    slices: &Slices<'a>,
    pods: &'a LocalPods,
    options: &'a Options,
) -> Asked {
    let mut asked = Asked::default();
    let Some(spec) = service.spec.as_ref() else {
        return asked;
    };
    if is_external_name(service) {
        asked.conditions.insert(Condition::Invalid {
            field: "spec.type",
            value: "ExternalName".to_owned(),
            reason: "it has no endpoints; it is not steered",
        });
        return asked;
    }
    if spec.publish_not_ready_addresses == Some(true) {
        asked.conditions.insert(Condition::PublishesNotReady);
    }
    asked.status = vips::status(service, options, &mut asked.conditions);
    let ports = ports::steered(service, &mut asked.conditions);
    let vips = vips::read(service, options, &mut asked.conditions);
    let source_ranges = sources::ranges(service, &mut asked.conditions);
    let node_addresses: BTreeSet<IpAddr> = options.node_addresses.iter().copied().collect();
    let asked_of_all = Annotated::read(service, &mut asked.conditions);
    let thresholds = thresholds_of(service, &mut asked.conditions);
    let (namespace, name) = claim::name(service);
    let rules = rules(service, pods, options);
    let mut used = vips.addresses.clone();
    for port in ports {
        let node_port = port.node_port.filter(|_| options.node_ports);
        let node_port = node_port.filter(|_| !node_addresses.is_empty());
        if vips.addresses.is_empty() && node_port.is_none() {
            continue;
        }
        let endpoints = Endpoints::join(slices.get((namespace, name)), port.name, &rules);
        let full_name = full_name(service, port.name);
        let steered = |name: String, vips: &BTreeSet<IpAddr>, number: u16| {
            let family = |v6: bool| vips.iter().any(|v| v.is_ipv6() == v6);
            reconcile::Service {
                name,
                vips: vips.iter().copied().collect(),
                port: number,
                protocol: port.protocol,
                handshake: asked_of_all.handshake(port.protocol),
                routed_only: asked_of_all.routed_only,
                balance: asked_of_all.balance,
                source_ranges: source_ranges.clone(),
                affinity: spec.session_affinity.as_deref() == Some("ClientIP"),
                elsewhere: [false, true]
                    .into_iter()
                    .any(|v6| family(v6) && endpoints.takers(v6).elsewhere),
                thresholds,
                // Both families': those that no VIP has, in the end, are left out by `fit`.
                backends: endpoints.backends.clone(),
            }
        };
        let mut of_port = BTreeSet::new();
        if let Some(number) = node_port {
            of_port.extend(&node_addresses);
            let name = node_port_name(&full_name);
            asked.services.push(steered(name, &node_addresses, number));
        }
        if !vips.addresses.is_empty() {
            of_port.extend(&vips.addresses);
            let service = steered(full_name, &vips.addresses, port.number);
            asked.services.push(service);
        }
        tell_of_takers(
            &port.label(),
            &of_port,
            &endpoints,
            rules.only_local,
            &mut asked.conditions,
        );
        endpoints.tell(&mut asked.conditions);
        asked.pod_uids.extend(endpoints.pod_uids);
        used.extend(of_port);
    }
    sources::check_families(&source_ranges, &used, &mut asked.conditions);
    let node_ports_only = vips.addresses.is_empty() && !asked.services.is_empty();
    if let Some(reason) = vips.none_because.filter(|_| !node_ports_only) {
        asked.conditions.insert(Condition::NoVip { reason });
    }
    asked
}

fn rules<'a>(service: &'a Service, pods: &'a LocalPods, options: &'a Options) -> Rules<'a> {
    let spec = service.spec.as_ref();
    Rules {
        service: claim::name(service),
        node: &options.node,
        pods,
        only_local: spec.and_then(|s| s.external_traffic_policy.as_deref()) == Some("Local"),
        not_ready_too: spec.and_then(|s| s.publish_not_ready_addresses) == Some(true),
    }
}

/// What a port is called everywhere.
pub(super) fn full_name(service: &Service, port: &str) -> String {
    let (namespace, name) = claim::name(service);
    if port.is_empty() {
        format!("{namespace}/{name}")
    } else {
        format!("{namespace}/{name}:{port}")
    }
}

/// Behind the name of a port, that of its node port.
pub(super) const NODE_PORT: &str = "@node";

/// What the node port of the port of this name is called.
pub(super) fn node_port_name(full_name: &str) -> String {
    format!("{full_name}{NODE_PORT}")
}

pub(super) fn is_external_name(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName")
}

/// Whether callers' handshakes are answered in the kernel, so that routes can be chosen.
pub(super) fn answers_handshakes(service: &Service) -> bool {
    Annotated::read(service, &mut BTreeSet::new()).handshake == Handshake::Stream
}

/// A port of a Service that routes lead to: its endpoints, and no VIP.
pub(super) fn pool<'a>(
    service: &'a Service,
    port: &str,
    slices: &Slices<'a>,
    pods: &'a LocalPods,
    options: &'a Options,
) -> Pool {
    let mut conditions = BTreeSet::new();
    let annotated = Annotated::read(service, &mut conditions);
    let rules = rules(service, pods, options);
    let endpoints = Endpoints::join(slices.get(rules.service), port, &rules);
    endpoints.tell(&mut conditions);
    Pool {
        service: reconcile::Service {
            name: full_name(service, port),
            vips: Vec::new(),
            port: 0,
            protocol: Protocol::Srt,
            handshake: Handshake::default(),
            routed_only: false,
            balance: annotated.balance,
            source_ranges: Vec::new(),
            affinity: false,
            elsewhere: false,
            thresholds: Thresholds::default(),
            backends: endpoints.backends,
        },
        conditions,
        pod_uids: endpoints.pod_uids,
    }
}

/// What a port of a Service gives that is only a pool.
pub(super) struct Pool {
    pub(super) service: reconcile::Service,
    pub(super) conditions: BTreeSet<Condition>,
    pub(super) pod_uids: Vec<(ObjectName, String)>,
}

/// What annotations say of all ports.
struct Annotated {
    handshake: Handshake,
    routed_only: bool,
    balance: bool,
}

impl Annotated {
    fn read(service: &Service, conditions: &mut BTreeSet<Condition>) -> Self {
        let mut choose = |field, [usual, other]: [&str; 2], reason| {
            let chosen = claim::annotation(service, field).unwrap_or(usual);
            if ![usual, other].contains(&chosen) {
                conditions.insert(Condition::Invalid {
                    field,
                    value: chosen.to_owned(),
                    reason,
                });
            }
            chosen == other
        };
        let client = choose(
            HANDSHAKE_ANNOTATION,
            ["stream", "client"],
            "neither stream nor client; it is taken for stream",
        );
        Self {
            handshake: if client {
                Handshake::Client
            } else {
                Handshake::Stream
            },
            routed_only: choose(
                UNROUTED_ANNOTATION,
                ["default", "reject"],
                "neither default nor reject; it is taken for default",
            ),
            balance: choose(
                BALANCE_ANNOTATION,
                ["false", "true"],
                "neither true nor false; it is taken for false",
            ),
        }
    }

    /// Only SRT has handshakes.
    fn handshake(&self, protocol: Protocol) -> Handshake {
        match protocol {
            Protocol::Srt => self.handshake,
            Protocol::Udp => Handshake::Client,
        }
    }
}

/// From when on its streams are not well. What is wrong of it is told, and the rest counts.
fn thresholds_of(service: &Service, conditions: &mut BTreeSet<Condition>) -> Thresholds {
    let text = claim::annotation(service, THRESHOLDS_ANNOTATION).unwrap_or_default();
    let (thresholds, errors) = thresholds::listed(text);
    conditions.extend(errors.iter().map(|error| Condition::Invalid {
        field: THRESHOLDS_ANNOTATION,
        value: error.written(),
        reason: error.remedy(),
    }));
    thresholds
}

/// Tells where nobody here takes new sessions, of each address family that the VIPs have.
fn tell_of_takers(
    port: &str,
    vips: &BTreeSet<IpAddr>,
    endpoints: &Endpoints,
    only_local: bool,
    conditions: &mut BTreeSet<Condition>,
) {
    let mut families: Vec<bool> = vips.iter().map(IpAddr::is_ipv6).collect();
    families.dedup();
    let several = families.len() > 1;
    let all_lack = |lack: &dyn Fn(bool) -> bool| families.iter().all(|v6| lack(*v6));
    let nobody = |v6: bool| {
        let takers = endpoints.takers(v6);
        !takers.here && !takers.elsewhere
    };
    // With `externalTrafficPolicy: Local` no client is sent to a node without endpoints: nothing to tell.
    let elsewhere = |v6: bool| {
        let takers = endpoints.takers(v6);
        !takers.here && takers.elsewhere && !only_local
    };
    for v6 in &families {
        let port = |all: bool| match (several && !all, *v6) {
            (false, _) => port.to_owned(),
            (true, false) => format!("{port} over IPv4"),
            (true, true) => format!("{port} over IPv6"),
        };
        if nobody(*v6) {
            let port = port(all_lack(&nobody));
            conditions.insert(Condition::NoReadyBackend { port });
        } else if elsewhere(*v6) {
            let port = port(all_lack(&elsewhere));
            conditions.insert(Condition::ReadyElsewhere { port });
        }
    }
}
