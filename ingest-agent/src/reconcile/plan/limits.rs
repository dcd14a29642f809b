//! Most sessions of a backend: its own limit, or the one that balancing gives it.

use std::collections::HashMap;

use ingest_common::abi::EndpointKey;

use super::{
    super::{Desired, Protocol},
    endpoint,
};

/// No backend is passed over for fewer sessions than this: below it, a quarter above the mean is one session or none.
const LEAST: u64 = 16;

/// Most sessions of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) sessions: u32,
    /// It is balancing's: where all are at theirs, they take more.
    pub(super) soft: bool,
}

/// Limits by backend; who is not in it has none. `load`: sessions as last counted.
///
/// A limit counts the sessions of all services, so of several the smallest holds. One that balancing gives is for
/// backends without their own; of several the largest, since a session refused is worse than one too many.
pub(super) fn limits(
    desired: &Desired,
    load: impl Fn(&EndpointKey) -> u32,
) -> HashMap<EndpointKey, Limit> {
    let mut given: HashMap<EndpointKey, u32> = HashMap::new();
    let balanced = desired
        .services
        .iter()
        .filter(|s| s.balance && s.protocol == Protocol::Srt);
    for service in balanced {
        for is_v4 in [true, false] {
            let members: Vec<EndpointKey> = service
                .backends
                .iter()
                .filter(|b| !b.draining && b.address.is_ipv4() == is_v4)
                .map(endpoint)
                .collect();
            let most = a_quarter_above_the_mean(members.iter().map(|key| load(key).into()));
            for key in members {
                let limit = given.entry(key).or_default();
                *limit = most.max(*limit);
            }
        }
    }
    let mut own: HashMap<EndpointKey, u32> = HashMap::new();
    for backend in desired.services.iter().flat_map(|s| &s.backends) {
        if let Some(limit) = backend.limit {
            let least = own.entry(endpoint(backend)).or_insert(limit);
            *least = limit.min(*least).max(1);
        }
    }
    let limit = |soft| move |(key, sessions)| (key, Limit { sessions, soft });
    let mut all: HashMap<EndpointKey, Limit> = given.into_iter().map(limit(true)).collect();
    all.extend(own.into_iter().map(limit(false)));
    all
}

fn a_quarter_above_the_mean(loads: impl ExactSizeIterator<Item = u64>) -> u32 {
    let count = loads.len() as u64;
    let limit = (5 * loads.sum::<u64>()).div_ceil(4 * count.max(1));
    u32::try_from(limit.max(LEAST)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::model::{one, pods},
        *,
    };

    fn by_order(desired: &Desired, loads: &[u32]) -> Vec<Option<u32>> {
        let keys: Vec<_> = desired.services[0].backends.iter().map(endpoint).collect();
        let load = |key: &EndpointKey| {
            let place = keys.iter().position(|k| k == key).unwrap();
            loads[place]
        };
        let limits = limits(desired, load);
        keys.iter()
            .map(|key| limits.get(key).map(|limit| limit.sessions))
            .collect()
    }

    #[test]
    fn without_balance_only_own_limits_count() {
        let mut desired = one(pods(2));
        desired.services[0].backends[1].limit = Some(7);
        assert_eq!(by_order(&desired, &[100, 100]), [None, Some(7)]);
    }

    #[test]
    fn balance_gives_a_quarter_above_the_mean() {
        let mut desired = one(pods(3));
        desired.services[0].balance = true;
        assert_eq!(by_order(&desired, &[100, 10, 40]), [Some(63); 3]);
        desired.services[0].backends[0].limit = Some(200);
        assert_eq!(
            by_order(&desired, &[100, 10, 40]),
            [Some(200), Some(63), Some(63)]
        );
        // Who drains takes nobody, and counts no more.
        desired.services[0].backends[0].draining = true;
        assert_eq!(
            by_order(&desired, &[100, 10, 40]),
            [Some(200), Some(32), Some(32)]
        );
    }

    #[test]
    fn a_limit_of_balancing_only_spreads() {
        let mut desired = one(pods(2));
        desired.services[0].balance = true;
        desired.services[0].backends[0].limit = Some(7);
        let limits = limits(&desired, |_| 0);
        let of = |place: usize| limits[&endpoint(&desired.services[0].backends[place])];
        let expected = [(7, false), (16, true)];
        assert_eq!([of(0), of(1)].map(|l| (l.sessions, l.soft)), expected);
    }

    #[test]
    fn few_sessions_are_no_imbalance() {
        let mut desired = one(pods(2));
        desired.services[0].balance = true;
        assert_eq!(by_order(&desired, &[12, 0]), [Some(16); 2]);
    }

    #[test]
    fn of_several_limits_the_smallest_holds() {
        let mut desired = one(pods(1));
        desired.services.push(desired.services[0].clone());
        desired.services[0].backends[0].limit = Some(9);
        desired.services[1].backends[0].limit = Some(5);
        assert_eq!(by_order(&desired, &[0]), [Some(5)]);
    }
}
