//! Whose sessions a slot has: a pod, and the process in it.

use super::{
    super::*,
    model::{ip, one, pods, run, slots},
};

fn with(pod: u32, process: u32) -> Desired {
    let mut backends = pods(1);
    backends[0].tenant = abi::Tenant { pod, process };
    one(backends)
}

/// Incarnation, pod and process after each of the tenants in turn.
fn history(tenants: &[(u32, u32)]) -> Vec<(u32, u32, u32)> {
    let mut maps = Observed::default();
    tenants
        .iter()
        .map(|&(pod, process)| {
            run(&mut maps, &with(pod, process), &HashMap::new());
            let slot = slots(&maps)[&ip("10.0.0.2")];
            let tenant = maps.tenants[&slot];
            (maps.backends[&slot].incarnation, tenant.pod, tenant.process)
        })
        .collect()
}

#[test]
fn a_container_that_was_started_again_is_another_tenant() {
    assert_eq!(history(&[(7, 1), (7, 2)]), [(1, 7, 1), (2, 7, 2)]);
}

#[test]
fn another_pod_of_the_same_name_is_another_tenant() {
    assert_eq!(history(&[(7, 1), (8, 1)]), [(1, 7, 1), (2, 8, 1)]);
}

#[test]
fn what_is_not_known_changes_nothing_and_is_not_forgotten() {
    assert_eq!(
        history(&[(0, 0), (7, 0), (7, 1), (0, 0), (0, 1), (7, 2)]),
        [
            (1, 0, 0),
            (1, 7, 0),
            (1, 7, 1),
            (1, 7, 1),
            (1, 7, 1),
            (2, 7, 2)
        ]
    );
}

#[test]
fn a_new_tenant_has_nothing_of_the_old_one() {
    assert_eq!(
        history(&[(7, 1), (8, 0), (8, 1)]),
        [(1, 7, 1), (2, 8, 0), (2, 8, 1)]
    );
}

#[test]
fn learning_a_tenant_is_one_write_and_no_new_one() {
    let mut maps = Observed::default();
    run(&mut maps, &with(0, 0), &HashMap::new());
    let ops = run(&mut maps, &with(7, 1), &HashMap::new());
    let [Op::SetBackend { fresh: false, .. }] = ops[..] else {
        panic!("{ops:?}");
    };
}

#[test]
fn one_service_may_know_more_of_a_pod_than_another() {
    let mut desired = with(0, 0);
    let mut second = with(7, 1).services.remove(0);
    second.name = "live/second".into();
    second.vips = vec![ip("203.0.113.11")];
    desired.services.push(second);
    let mut maps = Observed::default();
    run(&mut maps, &desired, &HashMap::new());
    let slot = slots(&maps)[&ip("10.0.0.2")];
    assert_eq!(maps.tenants[&slot], abi::Tenant { pod: 7, process: 1 });
}

#[test]
fn a_pod_replaced_while_it_was_gone_is_another_tenant() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &with(7, 1), &ports);
    run(&mut maps, &one(Vec::new()), &ports);
    run(&mut maps, &with(7, 1), &ports);
    let slot = slots(&maps)[&ip("10.0.0.2")];
    assert_eq!(maps.backends[&slot].incarnation, 1, "the same one again");
    run(&mut maps, &one(Vec::new()), &ports);
    run(&mut maps, &with(8, 1), &ports);
    assert_eq!(maps.backends[&slot].incarnation, 2);
}
