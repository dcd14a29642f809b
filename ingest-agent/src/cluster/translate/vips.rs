//! The addresses of a Service: those it has, and for our own class those it should be given.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};

use super::{
    Condition,
    claim::{annotation, is_of_our_class},
};
use crate::{
    cluster::{Options, VIPS_ANNOTATION},
    source::not_unicast,
};

/// The VIPs of a Service, and why there are none where there are none. Node ports are not among them.
#[derive(Debug, Default)]
pub(super) struct Vips {
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) none_because: Option<&'static str>,
}

/// Reads VIPs from the status, and where allowed from `spec.externalIPs`.
pub(super) fn read(
    service: &Service,
    options: &Options,
    conditions: &mut BTreeSet<Condition>,
) -> Vips {
    let spec = service.spec.as_ref();
    let external = spec.and_then(|s| s.external_ips.as_deref());
    let external = external.unwrap_or_default();
    let kind = spec.and_then(|s| s.type_.as_deref());
    let ingress = ingress(service);

    let mut vips = Vips::default();
    for entry in ingress.iter().filter(|i| !is_proxy(i)) {
        if let Some(text) = entry.ip.as_deref() {
            let address = usable(text, "status.loadBalancer.ingress", conditions);
            vips.addresses.extend(address);
        }
    }
    if options.external_ips {
        for text in external {
            let address = usable(text, "spec.externalIPs", conditions);
            vips.addresses.extend(address);
        }
    }
    let balanced = kind == Some("LoadBalancer");
    vips.none_because = if !vips.addresses.is_empty() {
        None
    } else if ingress.iter().any(is_proxy) {
        Some("its load balancer is a proxy (ipMode Proxy): packets do not carry its address")
    } else if ingress.iter().any(|i| i.ip.is_none()) {
        Some("its load balancer gives a host name and no address")
    } else if !external.is_empty() && !options.external_ips {
        Some("spec.externalIPs count only where the agent runs with --allow-external-ips")
    } else if balanced && is_of_our_class(service) {
        // One that asks is about to get its address, or is told why not.
        asked(service)
            .next()
            .is_none()
            .then_some("it asks for none: list them in annotation ingest.steering.dev/vips")
    } else if balanced {
        Some("no load balancer has given it an address yet")
    } else {
        Some("it is not of type LoadBalancer")
    };
    vips
}

/// What the status of a Service of our class should list, where it lists something else.
pub(super) fn status(
    service: &Service,
    options: &Options,
    conditions: &mut BTreeSet<Condition>,
) -> Option<Vec<IpAddr>> {
    if !is_of_our_class(service) {
        return None;
    }
    let mut given = Vec::new();
    for (field, text) in asked(service) {
        let Some(address) = usable(text, field, conditions) else {
            continue;
        };
        if !options.vip_ranges.iter().any(|r| r.contains(&address)) {
            conditions.insert(Condition::VipNotAllowed {
                address: address.to_string(),
            });
        } else if !given.contains(&address) {
            given.push(address);
        }
    }
    let has = ingress(service).iter().map(|i| {
        let plain = i.hostname.is_none() && !is_proxy(i);
        i.ip.as_deref().filter(|_| plain)?.parse().ok()
    });
    (!has.eq(given.iter().copied().map(Some))).then_some(given)
}

/// The addresses that a Service of our class asks for, with the field that does.
fn asked(service: &Service) -> impl Iterator<Item = (&'static str, &str)> {
    let spec = service.spec.as_ref();
    let one = spec.and_then(|s| s.load_balancer_ip.as_deref());
    let (field, text) = match annotation(service, VIPS_ANNOTATION) {
        Some(text) => (VIPS_ANNOTATION, text),
        None => ("spec.loadBalancerIP", one.unwrap_or_default()),
    };
    let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    parts.map(move |part| (field, part))
}

fn ingress(service: &Service) -> &[LoadBalancerIngress] {
    let balancer = service
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.as_ref());
    balancer
        .and_then(|b| b.ingress.as_deref())
        .unwrap_or_default()
}

fn is_proxy(ingress: &LoadBalancerIngress) -> bool {
    ingress.ip_mode.as_deref().is_some_and(|mode| mode != "VIP")
}

fn usable(text: &str, field: &'static str, conditions: &mut BTreeSet<Condition>) -> Option<IpAddr> {
    let address = text.parse().ok();
    let usable = address.filter(|a| not_unicast(*a).is_none());
    if usable.is_none() {
        conditions.insert(Condition::Invalid {
            field,
            value: text.to_owned(),
            reason: "not a unicast address of a network; it is ignored",
        });
    }
    usable
}
