//! The addresses of a Service.

use super::*;
use crate::cluster::{LOAD_BALANCER_CLASS, VIPS_ANNOTATION};

const NONE: [IpAddr; 0] = [];

fn vips(world: &World) -> Vec<IpAddr> {
    let derived = world.derive();
    let services = derived.desired.services.into_iter();
    services.flat_map(|s| s.vips).collect()
}

fn ingress(entries: &Value) -> Value {
    json!({ "status": { "loadBalancer": { "ingress": entries } } })
}

fn none_because(world: &World) -> &'static str {
    match world.conditions()[..] {
        [Condition::NoVip { reason }] => reason,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn the_status_gives_the_vips_of_both_families_once() {
    let entries = json!([
        { "ip": "203.0.113.10", "ipMode": "VIP" }, { "ip": "203.0.113.10" },
        { "ip": "2001:db8::10" }, { "ip": "203.0.113.11", "ipMode": "Proxy" }, { "hostname": "lb.example.com" },
    ]);
    let vips = vips(&world(ingress(&entries), &[]));
    assert_eq!(vips, [ip("203.0.113.10"), ip("2001:db8::10")]);
}

#[test]
fn without_a_usable_address_the_reason_is_told() {
    for (entries, expected) in [
        (
            json!([{ "ip": "203.0.113.10", "ipMode": "Proxy" }]),
            "proxy",
        ),
        (json!([{ "hostname": "lb.example.com" }]), "host name"),
        (json!([]), "no load balancer"),
    ] {
        let world = world(ingress(&entries), &[]);
        assert_eq!(vips(&world), NONE);
        let reason = none_because(&world);
        assert!(reason.contains(expected), "{reason}");
    }
    let plain = world(
        json!({ "spec": { "type": "ClusterIP" }, "status": null }),
        &[],
    );
    assert!(none_because(&plain).contains("type LoadBalancer"));
}

#[test]
fn external_ips_are_vips_only_where_allowed() {
    let differs = json!({ "spec": { "externalIPs": ["198.51.100.7"] }, "status": null });
    let mut world = world(differs, &[]);
    assert_eq!(vips(&world), NONE);
    assert!(none_because(&world).contains("--allow-external-ips"));
    world.options.external_ips = true;
    assert_eq!(vips(&world), [ip("198.51.100.7")]);
}

#[test]
fn addresses_that_no_host_has_are_refused() {
    for text in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "::ffff:203.0.113.10",
    ] {
        let world = world(ingress(&json!([{ "ip": text }])), &[]);
        assert_eq!(vips(&world), NONE, "{text}");
        let told = world.conditions().into_iter().any(|c| {
            matches!(c, Condition::Invalid { field: "status.loadBalancer.ingress", value, .. } if value == text)
        });
        assert!(told, "{text}");
    }
}

#[test]
fn node_ports_are_services_of_their_own_where_asked() {
    let port = json!([{ "name": "srt", "port": 9000, "nodePort": 30900, "protocol": "UDP" }]);
    let mut world = world(
        json!({ "spec": { "type": "NodePort", "ports": port }, "status": null }),
        &[endpoint(1, json!({}))],
    );
    world.options.node_addresses = vec![ip("192.0.2.1")];
    assert!(world.derive().desired.services.is_empty());
    world.options.node_ports = true;
    let derived = world.derive();
    let [service] = &derived.desired.services[..] else {
        panic!("{:?}", derived.desired.services);
    };
    assert_eq!(service.name, "live/srs:srt@node");
    assert_eq!(
        (&service.vips[..], service.port),
        (&[ip("192.0.2.1")][..], 30900)
    );
    assert_eq!(service.backends.len(), 1);
    assert_eq!(derived.conditions, BTreeMap::new());
}

/// A Service of our class that asks for addresses.
fn of_our_class(asks: &str, has: &Value) -> World {
    let mut world = world(
        json!({
            "metadata": { "annotations": { VIPS_ANNOTATION: asks } },
            "spec": { "loadBalancerClass": LOAD_BALANCER_CLASS },
            "status": { "loadBalancer": { "ingress": has } },
        }),
        &[],
    );
    world.options.vip_ranges = vec![
        "203.0.113.0/24".parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    ];
    world
}

fn status(world: &World) -> Option<Vec<IpAddr>> {
    world.derive().statuses.into_values().next()
}

#[test]
fn our_class_is_given_what_it_asks_for_through_its_status() {
    let asks = "203.0.113.20, 2001:db8::20,203.0.113.20";
    let given = vec![ip("203.0.113.20"), ip("2001:db8::20")];
    let asking = of_our_class(asks, &json!([]));
    assert_eq!(status(&asking), Some(given.clone()));
    assert_eq!(vips(&asking), NONE, "only the status makes a VIP");
    assert_eq!(asking.conditions(), []);

    let has = json!([{ "ip": "203.0.113.20" }, { "ip": "2001:db8::20", "ipMode": "VIP" }]);
    let given_already = of_our_class(asks, &has);
    assert_eq!(status(&given_already), None);
    assert_eq!(vips(&given_already), given);
}

#[test]
fn our_class_loses_what_it_asks_for_no_more() {
    let asking = of_our_class("", &json!([{ "ip": "203.0.113.20" }]));
    assert_eq!(status(&asking), Some(vec![]));
    let world = of_our_class("", &json!([]));
    assert_eq!(status(&world), None);
    assert!(none_because(&world).contains(VIPS_ANNOTATION));
}

#[test]
fn our_class_gets_no_address_outside_the_ranges() {
    let asking = of_our_class("198.51.100.1,203.0.113.20,srs.example.com", &json!([]));
    assert_eq!(status(&asking), Some(vec![ip("203.0.113.20")]));
    let conditions = asking.conditions();
    let address = "198.51.100.1".to_owned();
    assert!(conditions.contains(&Condition::VipNotAllowed { address }));
    assert!(
        matches!(&conditions[1], Condition::Invalid { field: VIPS_ANNOTATION, value, .. } if value == "srs.example.com"),
        "{conditions:?}"
    );
    let mut closed = of_our_class("203.0.113.20", &json!([]));
    closed.options.vip_ranges.clear();
    assert_eq!(status(&closed), None);
    assert!(matches!(
        closed.conditions()[..],
        [Condition::VipNotAllowed { .. }]
    ));
}

#[test]
fn load_balancer_ip_is_the_older_way_to_ask() {
    let mut asking = of_our_class("", &json!([]));
    let mut service = Service::clone(&asking.services[0]);
    service.spec.as_mut().unwrap().load_balancer_ip = Some("203.0.113.30".to_owned());
    asking.services = vec![Arc::new(service)];
    assert_eq!(status(&asking), Some(vec![ip("203.0.113.30")]));
}

#[test]
fn the_status_of_others_is_left_alone() {
    let mut world = of_our_class("203.0.113.20", &json!([]));
    let mut service = Service::clone(&world.services[0]);
    service.spec.as_mut().unwrap().load_balancer_class = Some("metallb.io/x".to_owned());
    world.services = vec![Arc::new(service)];
    assert_eq!(status(&world), None);
}
