//! Routes: their indices, what they look for, and what their streams may use.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::IpAddr,
};

use ingest_common::abi;

use super::{
    super::{Desired, MatchKey, Observed, Op, Quota, Route, Target},
    PlanError,
    ids::Ids,
    kept_name,
    services::{PoolKey, Served, is_stream},
};

const SECOND_NS: u64 = 1_000_000_000;
/// How far bytes may be ahead of their rate: encoders send a picture at once, and key frames are large.
const BITRATE_BURST_NS: u64 = 250_000_000;

/// The routes that can be, by the service whose callers they are for. One whose service or pool is not there is none.
pub(super) struct Routed<'a> {
    all: Vec<&'a Route>,
    by_service: HashMap<&'a str, Vec<&'a Route>>,
}

impl<'a> Routed<'a> {
    pub(super) fn new(desired: &'a Desired) -> Self {
        let services: HashSet<&str> = desired.services.iter().map(|s| s.name.as_str()).collect();
        let routed: HashSet<&str> = desired
            .services
            .iter()
            .filter(|s| is_stream(s) && !s.vips.is_empty())
            .map(|s| s.name.as_str())
            .collect();
        let all: Vec<&Route> = desired
            .routes
            .iter()
            .filter(|route| routed.contains(route.service.as_str()))
            .filter(|route| pool(route).is_none_or(|name| services.contains(name)))
            .collect();
        let mut by_service: HashMap<&str, Vec<&Route>> = HashMap::new();
        for route in &all {
            by_service.entry(&route.service).or_default().push(route);
        }
        Self { all, by_service }
    }

    /// Those for callers of `service`, in order of precedence.
    fn of(&self, service: &str) -> &[&'a Route] {
        self.by_service
            .get(service)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// Names of the pools that callers of `service` may be sent to.
    pub(super) fn pools(&self, service: &str) -> impl Iterator<Item = &'a str> {
        self.of(service).iter().filter_map(|route| pool(route))
    }

    /// What the kernel has to look at for callers of `service` at `vip`.
    pub(super) fn flags(&self, service: &str, vip: IpAddr) -> u32 {
        let matches = self.of(service).iter().flat_map(|route| &route.matches);
        matches.filter(|m| m.is_for(vip)).fold(0, |flags, m| {
            let mode = match m.mode {
                Some(_) => abi::SERVICE_ROUTES_MODE,
                None => 0,
            };
            flags | m.field().flag() | mode
        })
    }
}

fn pool(route: &Route) -> Option<&str> {
    match &route.target {
        Target::Pool(name) => Some(name),
        Target::Reject => None,
    }
}

pub(super) struct Routes {
    pub(super) set_quotas: Vec<Op>,
    /// Once their quotas and pools are there.
    pub(super) set: Vec<Op>,
    pub(super) remove: Vec<Op>,
    /// Of routes without matches and sessions.
    pub(super) remove_quotas: Vec<Op>,
    /// Of the routes that are wanted, by index.
    pub(super) thresholds: Vec<(u16, abi::Thresholds)>,
}

pub(super) fn plan(
    observed: &Observed,
    routed: &Routed<'_>,
    served: &[Served<'_>],
    pools: &BTreeMap<PoolKey<'_>, u16>,
) -> Result<Routes, PlanError> {
    let (indices, set_quotas) = quotas(observed, routed)?;
    let entries = entries(routed, served, pools, &indices);
    if entries.len() > abi::MAX_MATCHES {
        return Err(PlanError::TooManyMatches {
            count: entries.len(),
            limit: abi::MAX_MATCHES,
        });
    }
    let unwanted = observed
        .routes
        .keys()
        .filter(|key| !entries.contains_key(key));
    let remove = unwanted
        .map(|key| Op::RemoveRoute { key: key.clone() })
        .collect();
    let thresholds = routed
        .all
        .iter()
        .filter_map(|route| Some((*indices.get(route.name.as_str())?, route.thresholds)))
        .collect();
    let wanted: HashSet<u16> = indices.into_values().collect();
    let idle = observed.idle_routes.iter();
    let remove_quotas = idle
        .filter(|route| !wanted.contains(route))
        .map(|&route| Op::RemoveQuota { route })
        .collect();
    let set = entries
        .into_iter()
        .filter(|(key, route)| observed.routes.get(key) != Some(route))
        .map(|(key, route)| Op::SetRoute { key, route })
        .collect();
    Ok(Routes {
        set_quotas,
        set,
        remove,
        remove_quotas,
        thresholds,
    })
}

/// Indices by name: who had one keeps it, also while it has sessions and nothing else.
fn quotas<'a>(
    observed: &Observed,
    routed: &Routed<'a>,
) -> Result<(HashMap<&'a str, u16>, Vec<Op>), PlanError> {
    let mut old: HashMap<&str, VecDeque<u16>> = HashMap::new();
    for (index, name) in &observed.route_names {
        old.entry(name).or_default().push_back(*index);
    }
    let referred = observed.routes.values().map(|route| route.route);
    let taken = observed.quotas.keys().copied().chain(referred);
    // Index 0 says that no route matched.
    let mut ids = Ids::new(taken.chain([0]), abi::MAX_ROUTES);
    let mut indices = HashMap::new();
    let mut set = Vec::new();
    for route in &routed.all {
        let name = kept_name(&route.name);
        let known = old.get_mut(name.as_str()).and_then(VecDeque::pop_front);
        let index = match known {
            Some(index) => index,
            None => ids.take().ok_or(PlanError::TooManyRoutes {
                limit: abi::MAX_ROUTES - 1,
            })?,
        };
        indices.insert(route.name.as_str(), index);
        let quota = quota(&route.quota);
        if observed.quotas.get(&index) != Some(&quota) || known.is_none() {
            set.push(Op::SetQuota {
                route: index,
                quota,
                name,
                fresh: known.is_none(),
            });
        }
    }
    Ok((indices, set))
}

/// What `ROUTES` should hold. Of two matches alike, the first has it.
fn entries(
    routed: &Routed<'_>,
    served: &[Served<'_>],
    pools: &BTreeMap<PoolKey<'_>, u16>,
    indices: &HashMap<&str, u16>,
) -> BTreeMap<MatchKey, abi::Route> {
    let mut entries = BTreeMap::new();
    for at in served {
        for route in routed.of(at.service) {
            let to = match pool(route) {
                Some(name) => pools.get(&(name, at.vip.is_ipv4())).copied(),
                None => Some(abi::NO_POOL),
            };
            let (Some(pool), Some(&index)) = (to, indices.get(route.name.as_str())) else {
                continue;
            };
            for key in route
                .matches
                .iter()
                .filter(|m| m.is_for(at.vip))
                .map(|m| m.key(at.id))
            {
                let entry = abi::Route {
                    route: index,
                    pool,
                    length: key.text.len() as u16,
                    ..Default::default()
                };
                entries.entry(key).or_insert(entry);
            }
        }
    }
    entries
}

/// The bounds in the kernel's units.
fn quota(quota: &Quota) -> abi::Quota {
    let session_interval_ns = quota
        .sessions_per_second
        .map_or(0, |rate| SECOND_NS / u64::from(rate.max(1)));
    let byte_cost =
        |bits: Option<u64>| bits.map_or(0, |bits| ((8 * SECOND_NS) << 16) / bits.max(1));
    let mut quota = abi::Quota {
        session_interval_ns,
        // A second's worth at once: the first comes at its time, the others ahead of theirs.
        session_burst_ns: match session_interval_ns {
            0 => 0,
            interval => SECOND_NS.saturating_sub(interval),
        },
        stream_byte_cost: byte_cost(quota.stream_bitrate),
        route_byte_cost: byte_cost(quota.bitrate),
        bitrate_burst_ns: 0,
        streams: quota.streams.unwrap_or(0),
        in_use: 1,
    };
    if quota.polices() {
        quota.bitrate_burst_ns = BITRATE_BURST_NS;
    }
    quota
}

#[cfg(test)]
mod tests {
    use ingest_common::rate;

    use super::*;

    #[test]
    fn no_bounds_are_zeros() {
        let none = abi::Quota {
            in_use: 1,
            ..Default::default()
        };
        assert_eq!(quota(&Quota::default()), none);
    }

    /// A second's worth at once, and then one an interval.
    #[test]
    fn sessions_come_at_their_rate() {
        for rate in [1, 3, 5, 1000] {
            let quota = quota(&Quota {
                sessions_per_second: Some(rate),
                ..Default::default()
            });
            let (mut stamp, mut now) = (0, 5 * SECOND_NS);
            let mut burst = 0;
            while rate::allow(
                &mut stamp,
                now,
                quota.session_interval_ns,
                quota.session_burst_ns,
            ) {
                burst += 1;
            }
            assert_eq!(burst, rate);
            now += quota.session_interval_ns;
            let mut allow = || {
                rate::allow(
                    &mut stamp,
                    now,
                    quota.session_interval_ns,
                    quota.session_burst_ns,
                )
            };
            assert!(allow() && !allow());
        }
    }

    /// Within a thousandth of the rate, over ten seconds of packets.
    #[test]
    fn bytes_come_at_their_rate() {
        for bits in [16_000, 20_000_000, 1_000_000_000_000_u64] {
            let quota = quota(&Quota {
                bitrate: Some(bits),
                ..Default::default()
            });
            assert_eq!(quota.stream_byte_cost, 0);
            let bytes = bits / 8 * 10;
            let took = (u128::from(bytes) * u128::from(quota.route_byte_cost)) >> 16;
            let wanted = 10 * u128::from(SECOND_NS);
            assert!(took.abs_diff(wanted) * 1000 <= wanted * 2, "{bits}: {took}");
            // The kernel multiplies in 64 bits.
            assert!(quota.route_byte_cost.checked_mul(65_535).is_some());
        }
    }
}
