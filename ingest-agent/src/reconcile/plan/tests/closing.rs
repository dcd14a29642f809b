//! Services that were removed: their sessions are cut before they go.

use ingest_common::abi::ServiceKey;

use super::{
    super::{super::Service, *},
    model::{ip, one, pods, run, service},
};

fn key() -> ServiceKey {
    ServiceKey::new(to_abi(ip("203.0.113.10")), 9000, abi::UDP)
}

fn desired(services: Vec<Service>) -> Desired {
    Desired {
        services,
        ..Desired::default()
    }
}

#[test]
fn a_removed_service_closes_until_no_session_needs_it() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(2)), &ports);
    let before = maps.services[&key()];
    run(&mut maps, &Desired::default(), &ports);
    let closing = maps.services[&key()];
    assert_eq!(
        closing,
        abi::Service {
            flags: before.flags | abi::SERVICE_CLOSING,
            ..before
        }
    );
    assert_eq!(maps.tables[&before.pool], [0_u16; 0], "it places nobody");
    assert!(maps.services.contains_key(&ServiceKey::vip(key().address)));

    maps.idle_closing = vec![closing.id];
    let ops = run(&mut maps, &Desired::default(), &ports);
    assert!(
        matches!(
            ops[..],
            [
                Op::RemoveService { .. },
                Op::RemoveService { .. },
                Op::RemoveTable { .. }
            ]
        ),
        "{ops:?}"
    );
    assert!(maps.services.is_empty() && maps.vips.is_empty() && maps.tables.is_empty());
}

#[test]
fn sessions_are_cut_before_their_backends_are_gone() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(1)), &ports);
    let ops = run(&mut maps, &Desired::default(), &ports);
    assert!(
        matches!(
            ops[..],
            [
                Op::SetService { .. },
                Op::SetTable { .. },
                Op::SetBackend { .. }
            ]
        ),
        "{ops:?}"
    );
}

#[test]
fn wanted_again_it_is_what_it_was() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(2)), &ports);
    let before = maps.clone();
    run(&mut maps, &Desired::default(), &ports);
    let ops = run(&mut maps, &one(pods(2)), &ports);
    let fresh = |op: &Op| {
        matches!(
            op,
            Op::SetService { fresh: true, .. } | Op::SetBackend { fresh: true, .. }
        )
    };
    assert!(!ops.iter().any(fresh), "{ops:?}");
    assert_eq!(maps, before);
}

#[test]
fn an_id_is_not_given_away_while_it_closes() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(1)), &ports);
    let id = maps.services[&key()].id;
    let mut other = service("live/other", &["203.0.113.11"], pods(1));
    other.port = 9001;
    run(&mut maps, &desired(vec![other.clone()]), &ports);
    let given = ServiceKey::new(to_abi(ip("203.0.113.11")), 9001, abi::UDP);
    assert_ne!(maps.services[&given].id, id);
    assert_ne!(maps.services[&given].pool, maps.services[&key()].pool);
}

#[test]
fn nobody_is_refused_by_a_service_that_closes() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    let mut closed = one(pods(1));
    closed.services[0].source_ranges = vec!["198.51.100.0/24".parse().unwrap()];
    run(&mut maps, &closed, &ports);
    let ops = run(&mut maps, &Desired::default(), &ports);
    assert_eq!(
        maps.services[&key()].flags,
        abi::SERVICE_SRT | abi::SERVICE_CLOSING
    );
    assert!(maps.sources.is_empty());
    let at = |wanted: fn(&Op) -> bool| ops.iter().position(wanted).unwrap();
    assert!(
        at(|op| matches!(op, Op::SetService { .. }))
            < at(|op| matches!(op, Op::RemoveSource { .. }))
    );
    run(&mut maps, &closed, &ports);
    assert_eq!(maps.sources.len(), 1);
}

#[test]
fn a_vip_that_goes_takes_no_other_one_with_it() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    let both = service("live/srt", &["203.0.113.10", "203.0.113.11"], pods(2));
    run(&mut maps, &desired(vec![both]), &ports);
    let pool = maps.services[&key()].pool;
    let ops = run(
        &mut maps,
        &desired(vec![service("live/srt", &["203.0.113.11"], pods(2))]),
        &ports,
    );
    assert!(
        matches!(ops[..], [Op::SetService { key: k, .. }] if k == key()),
        "{ops:?}"
    );
    maps.idle_closing = vec![maps.services[&key()].id];
    let ops = run(
        &mut maps,
        &desired(vec![service("live/srt", &["203.0.113.11"], pods(2))]),
        &ports,
    );
    assert!(
        matches!(
            ops[..],
            [Op::RemoveService { .. }, Op::RemoveService { .. }]
        ),
        "the key and its mark: {ops:?}"
    );
    assert_eq!(maps.tables[&pool].len(), 2);
}

#[test]
fn a_closing_service_of_an_earlier_agent_has_its_table_emptied() {
    let (mut maps, ports) = (Observed::default(), HashMap::new());
    run(&mut maps, &one(pods(2)), &ports);
    run(&mut maps, &Desired::default(), &ports);
    maps.tables.clear();
    let ops = run(&mut maps, &Desired::default(), &ports);
    assert!(
        matches!(&ops[..], [Op::SetTable { slots, .. }] if slots.is_empty()),
        "{ops:?}"
    );
}
