//! Who may send: source ranges.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;

use super::{Condition, claim::annotation};

/// The older way of `spec.loadBalancerSourceRanges`.
pub(super) const SOURCE_RANGES_ANNOTATION: &str =
    "service.beta.kubernetes.io/load-balancer-source-ranges";

const FIELD: &str = "spec.loadBalancerSourceRanges";

/// The ranges of the Service; none: everyone. They hold for all its VIPs, node ports included.
pub(super) fn ranges(service: &Service, conditions: &mut BTreeSet<Condition>) -> Vec<IpNet> {
    let spec = service.spec.as_ref();
    let listed = spec.and_then(|s| s.load_balancer_source_ranges.as_deref());
    let mut given: Vec<(&'static str, &str)> = listed
        .unwrap_or_default()
        .iter()
        .map(|text| (FIELD, text.trim()))
        .collect();
    if given.is_empty() {
        let text = annotation(service, SOURCE_RANGES_ANNOTATION).unwrap_or_default();
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        given.extend(parts.map(|text| (SOURCE_RANGES_ANNOTATION, text)));
    }
    let mut ranges = BTreeSet::new();
    for (field, text) in &given {
        match text.parse::<IpNet>() {
            Ok(range) => {
                ranges.insert(range.trunc());
            }
            Err(_) => {
                conditions.insert(Condition::Invalid {
                    field,
                    value: (*text).to_owned(),
                    reason: "not a range such as 198.51.100.0/24; it lets nobody in",
                });
            }
        }
    }
    // Some ranges, none of them readable, must not become everyone.
    if ranges.is_empty() && !given.is_empty() {
        ranges.insert(nobody());
    }
    ranges.into_iter().collect()
}

/// Tells of VIPs whose family no range has: nobody may send to them.
pub(super) fn check_families(
    ranges: &[IpNet],
    vips: &BTreeSet<IpAddr>,
    conditions: &mut BTreeSet<Condition>,
) {
    if ranges.is_empty() || ranges == [nobody()] {
        return;
    }
    let of = |v6: bool| ranges.iter().any(|r| r.addr().is_ipv6() == v6);
    for (v6, reason) in [
        (false, "none is IPv4: nobody may send to the IPv4 VIPs"),
        (true, "none is IPv6: nobody may send to the IPv6 VIPs"),
    ] {
        if vips.iter().any(|v| v.is_ipv6() == v6) && !of(v6) {
            let listed: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            conditions.insert(Condition::Invalid {
                field: FIELD,
                value: listed.join(","),
                reason,
            });
        }
    }
}

/// The range of the unspecified address: no packet comes from it (RFC 4291 §2.5.2).
fn nobody() -> IpNet {
    IpAddr::from([0_u16; 8]).into()
}
