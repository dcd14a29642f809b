use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
/// When the tests begin: a while after boot.
const T0: u64 = 60_000 * MS;

#[test]
fn a_burst_may_come_and_then_one_per_interval() {
    // Ten a second, and 300 ms of them at once: what comes first, and three ahead of it.
    let mut stamp = 0;
    let passed = (0..10)
        .filter(|_| allow(&mut stamp, T0, 100 * MS, 300 * MS))
        .count();
    assert_eq!(passed, 4);
    assert!(!allow(&mut stamp, T0 + 99 * MS, 100 * MS, 300 * MS));
    assert!(allow(&mut stamp, T0 + 100 * MS, 100 * MS, 300 * MS));
    assert!(!allow(&mut stamp, T0 + 100 * MS, 100 * MS, 300 * MS));
}

#[test]
fn what_was_not_used_is_lost() {
    let mut stamp = 0;
    for start in [T0, T0 + 3_600_000 * MS] {
        let passed = (0..100)
            .filter(|_| allow(&mut stamp, start, 100 * MS, 300 * MS))
            .count();
        assert_eq!(passed, 4, "an hour of quiet pays for no more");
    }
}

#[test]
fn refusals_cost_nothing() {
    let mut stamp = 0;
    while allow(&mut stamp, T0, 100 * MS, 300 * MS) {}
    let full = stamp;
    for _ in 0..1000 {
        assert!(!allow(&mut stamp, T0, 100 * MS, 300 * MS));
    }
    assert_eq!(stamp, full);
}

#[test]
fn no_cost_is_no_bound() {
    let mut stamp = u64::MAX;
    assert!(allow(&mut stamp, T0, 0, 0));
    assert_eq!(stamp, u64::MAX);
}

#[test]
fn without_a_burst_one_passes_at_a_time() {
    let mut stamp = 0;
    assert!(allow(&mut stamp, T0, 100 * MS, 0));
    assert!(!allow(&mut stamp, T0 + 100 * MS - 1, 100 * MS, 0));
    assert!(allow(&mut stamp, T0 + 100 * MS, 100 * MS, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_window_holds_more_than_its_time_and_a_burst(
        steps in prop::collection::vec(0..200 * MS, 1..200),
        cost in 1..50 * MS,
        burst in 0..1000 * MS,
    ) {
        let (mut stamp, mut now) = (0, T0);
        let mut came = std::vec::Vec::new();
        for step in steps {
            now += step;
            if allow(&mut stamp, now, cost, burst) {
                came.push(now);
            }
        }
        for (first, from) in came.iter().enumerate() {
            for (last, to) in came.iter().enumerate().skip(first) {
                let count = (last - first) as u64;
                prop_assert!(count * cost <= to - from + burst + cost);
            }
        }
    }

    #[test]
    fn any_numbers_hold(mut stamp in any::<u64>(), now in any::<u64>(), cost in any::<u64>(), burst in any::<u64>()) {
        let before = stamp;
        let allowed = allow(&mut stamp, now, cost, burst);
        prop_assert!(stamp >= before);
        prop_assert!(allowed || stamp == before);
        prop_assert!(allowed || before > now);
    }
}
