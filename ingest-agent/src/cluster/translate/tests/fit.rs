//! Conflicts over VIPs, and the limits of the maps.

use ingest_common::abi;

use super::*;

fn created(name: &str, day: u8, ingress: &Value) -> Arc<Service> {
    let created = json!({ "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z") });
    let status = json!({ "loadBalancer": { "ingress": ingress } });
    service(name, json!({ "metadata": created, "status": status }))
}

fn conditions_of(derived: &Derived, name: &str) -> Vec<Condition> {
    let name = ("live".to_owned(), name.to_owned());
    derived
        .conditions
        .get(&name)
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

fn left_out(derived: &Derived, name: &str) -> Option<(&'static str, usize)> {
    let mut conditions = conditions_of(derived, name).into_iter();
    conditions.find_map(|c| match c {
        Condition::LeftOut { what, limit } => Some((what, limit)),
        _ => None,
    })
}

fn of(services: Vec<Arc<Service>>) -> World {
    World {
        services,
        options: options(),
        ..World::default()
    }
}

#[test]
fn the_older_service_keeps_a_vip_and_the_loser_its_others() {
    let both = json!([{ "ip": "203.0.113.10" }, { "ip": "203.0.113.11" }]);
    let derived = of(vec![
        created("younger", 2, &both),
        created("older", 1, &json!([{ "ip": "203.0.113.10" }])),
    ])
    .derive();
    let vips = |i: usize| &derived.desired.services[i].vips[..];
    assert_eq!(derived.desired.services[0].name, "live/older:srt");
    assert_eq!(vips(0), [ip("203.0.113.10")]);
    assert_eq!(vips(1), [ip("203.0.113.11")]);
    let conflict = Condition::VipConflict {
        vip: ip("203.0.113.10"),
        port: 9000,
        winner: "live/older:srt".to_owned(),
    };
    assert!(conditions_of(&derived, "younger").contains(&conflict));
    assert_eq!(
        conditions_of(&derived, "older").len(),
        1,
        "no backend, no more"
    );
}

#[test]
fn of_the_same_age_the_name_decides() {
    let vip = json!([{ "ip": "203.0.113.10" }]);
    let derived = of(vec![created("b", 1, &vip), created("a", 1, &vip)]).derive();
    let names: Vec<_> = derived
        .desired
        .services
        .iter()
        .map(|s| &s.name[..])
        .collect();
    assert_eq!(names, ["live/a:srt"]);
}

#[test]
fn two_services_share_an_address_by_port() {
    let mut world = of(vec![service("srs", json!({}))]);
    let port = json!({ "spec": { "ports": [{ "name": "srt", "port": 9001, "protocol": "UDP" }] } });
    world.services.push(service("other", port));
    assert_eq!(world.derive().desired.services.len(), 2);
}

#[test]
fn a_vip_where_a_backend_listens_is_refused() {
    let entry =
        |address: &str| json!({ "status": { "loadBalancer": { "ingress": [{ "ip": address }] } } });
    let looped = world(entry("10.0.0.1"), &[endpoint(1, json!({}))]);
    assert!(looped.derive().desired.services.is_empty());
    let told = Condition::VipIsBackend {
        vip: ip("10.0.0.1"),
        port: 9000,
        backend: "live/srs-1".to_owned(),
    };
    assert_eq!(looped.conditions(), [told]);
}

#[test]
fn a_node_port_may_lead_to_another_port_of_the_node() {
    let at = |port: u16, node_port: u16| {
        let ports =
            json!([{ "name": "srt", "port": port, "nodePort": node_port, "protocol": "UDP" }]);
        let host = endpoint(1, json!({ "addresses": ["192.0.2.1"] }));
        let mut world = world(
            json!({ "spec": { "ports": ports }, "status": null }),
            &[host],
        );
        world.options.node_ports = true;
        world.options.node_addresses = vec![ip("192.0.2.1")];
        world.derive().desired.services.len()
    };
    assert_eq!(at(9000, 30900), 1);
    assert_eq!(at(9000, 9000), 0, "the host delivers it itself");
}

#[test]
fn the_youngest_services_that_do_not_fit_are_left_out() {
    // 16 VIPs each: 64 Services fill the map.
    let vips = |service: u8| {
        let entries = (0..16).map(|i| json!({ "ip": format!("203.0.{service}.{i}") }));
        Value::Array(entries.collect())
    };
    let mut services: Vec<_> = (0..65_u8)
        .map(|i| created(&format!("s{i:02}"), 1, &vips(i)))
        .collect();
    services.reverse();
    let derived = of(services).derive();
    assert_eq!(derived.desired.services.len(), 64);
    assert_eq!(
        left_out(&derived, "s64"),
        Some(("VIP:ports", abi::MAX_SERVICES))
    );
    assert_eq!(left_out(&derived, "s63"), None);
}

#[test]
fn a_greedy_service_leaves_room_for_a_younger_modest_one() {
    let ranges: Vec<_> = (0..=abi::MAX_SOURCES)
        .map(|i| format!("10.{}.{}.0/24", i >> 8, i & 255))
        .collect();
    let greedy = json!({
        "metadata": { "creationTimestamp": "2025-01-01T00:00:00Z" },
        "spec": { "loadBalancerSourceRanges": ranges },
        "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.99" }] } },
    });
    let derived = of(vec![service("greedy", greedy), service("srs", json!({}))]).derive();
    assert_eq!(derived.desired.services.len(), 1);
    assert_eq!(
        left_out(&derived, "greedy"),
        Some(("source ranges", abi::MAX_SOURCES))
    );
}

/// Ready endpoints `<net>.x.y` on this node.
fn endpoints(net: u8, count: usize) -> Value {
    let endpoint = |i: usize| {
        let address = format!("10.{net}.{}.{}", i >> 8, i & 255);
        json!({ "addresses": [address], "nodeName": HERE, "conditions": { "ready": true } })
    };
    Value::Array((0..count).map(endpoint).collect())
}

#[test]
fn a_pool_takes_so_many_backends_and_no_more() {
    let all = endpoints(0, abi::MAX_POOL_BACKENDS + 1);
    let mut world = world(json!({}), &[]);
    world.slices = vec![slice("srs", json!({ "endpoints": all }))];
    let derived = world.derive();
    assert_eq!(
        derived.desired.services[0].backends.len(),
        abi::MAX_POOL_BACKENDS
    );
    assert_eq!(left_out(&derived, "srs").unwrap().1, abi::MAX_POOL_BACKENDS);
}

#[test]
fn backends_of_the_node_are_counted_once() {
    let service_of = |i: u8| {
        created(
            &format!("s{i}"),
            i + 1,
            &json!([{ "ip": format!("203.0.113.{i}") }]),
        )
    };
    let slice_of = |i: u8, net: u8| {
        slice(
            &format!("s{i}"),
            json!({ "endpoints": endpoints(net, 1000) }),
        )
    };
    let mut world = of((0..6).map(service_of).collect());
    // Four Services fill the node, the fifth shares the first's backends, the sixth has a thousand of its own.
    world.slices = (0..4)
        .map(|i| slice_of(i, i))
        .chain([slice_of(4, 0), slice_of(5, 5)])
        .collect();
    let derived = world.derive();
    assert_eq!(derived.desired.services.len(), 5);
    assert_eq!(
        left_out(&derived, "s5"),
        Some(("backends on this node", abi::MAX_BACKENDS))
    );
}

#[test]
fn pools_are_counted_by_family() {
    let dual = |i: usize| json!([{ "ip": format!("203.0.{}.{}", i >> 8, i & 255) }, { "ip": format!("2001:db8::{:x}", i + 1) }]);
    let services = (0..=abi::MAX_POOLS / 2).map(|i| created(&format!("s{i:03}"), 1, &dual(i)));
    let derived = of(services.collect()).derive();
    assert_eq!(derived.desired.services.len(), abi::MAX_POOLS / 2);
    assert_eq!(left_out(&derived, "s256"), Some(("pools", abi::MAX_POOLS)));
}
