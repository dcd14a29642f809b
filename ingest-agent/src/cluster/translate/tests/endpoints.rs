//! Which endpoints, joined from which slices.

use super::*;

#[test]
fn endpoints_of_this_node_are_backends() {
    let away = json!({ "nodeName": "node-b" });
    let nowhere = json!({ "nodeName": null });
    let endpoints = [
        endpoint(2, json!({})),
        endpoint(1, json!({})),
        endpoint(3, away),
        endpoint(4, nowhere),
    ];
    let world = world(json!({}), &endpoints);
    assert_eq!(
        world.backends(),
        ["srs-1 10.0.0.1:9000", "srs-2 10.0.0.2:9000"]
    );
}

#[test]
fn absent_conditions_mean_ready_serving_and_not_terminating() {
    for (conditions, expected) in [
        (Value::Null, "srs-1 10.0.0.1:9000"),
        (
            json!({ "ready": null, "serving": null, "terminating": null }),
            "srs-1 10.0.0.1:9000",
        ),
        (
            json!({ "ready": false, "serving": null, "terminating": null }),
            "(srs-1 10.0.0.1:9000)",
        ),
    ] {
        let world = world(
            json!({}),
            &[endpoint(1, json!({ "conditions": conditions }))],
        );
        assert_eq!(world.backends(), [expected], "{conditions}");
    }
}

#[test]
fn ready_takes_serving_keeps_and_the_rest_is_not_listed() {
    let world = world(
        json!({}),
        &[
            judged(1, true, true, false),
            judged(2, false, true, true),
            judged(3, false, false, false),
        ],
    );
    assert_eq!(
        world.backends(),
        ["srs-1 10.0.0.1:9000", "(srs-2 10.0.0.2:9000)"]
    );
}

#[test]
fn several_slices_are_joined_by_label() {
    let mut world = world(json!({}), &[endpoint(1, json!({}))]);
    let custom = json!({
        "metadata": { "name": "by-hand", "labels": { "endpointslice.kubernetes.io/managed-by": "me" } },
        "endpoints": [endpoint(2, json!({}))],
    });
    let elsewhere =
        json!({ "metadata": { "namespace": "other" }, "endpoints": [endpoint(3, json!({}))] });
    world.slices.extend([
        slice("srs", custom),
        slice("srs", elsewhere),
        slice("other", json!({ "endpoints": [endpoint(4, json!({}))] })),
    ]);
    assert_eq!(
        world.backends(),
        ["srs-1 10.0.0.1:9000", "srs-2 10.0.0.2:9000"]
    );
}

#[test]
fn mirrors_count_only_where_there_is_nothing_else() {
    let labels = json!({ "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io" });
    let mirror = json!({ "metadata": { "labels": labels }, "endpoints": [endpoint(2, json!({}))] });
    let mut world = world(json!({}), &[endpoint(1, json!({}))]);
    world.slices.push(slice("srs", mirror));
    assert_eq!(world.backends(), ["srs-1 10.0.0.1:9000"]);
    world.slices.remove(0);
    assert_eq!(world.backends(), ["srs-2 10.0.0.2:9000"]);
}

#[test]
fn of_two_copies_the_better_one_counts() {
    for (a, b, expected) in [
        (
            judged(1, true, true, false),
            judged(1, false, false, false),
            "srs-1 10.0.0.1:9000",
        ),
        (
            judged(1, true, true, false),
            judged(1, false, true, true),
            "srs-1 10.0.0.1:9000",
        ),
        (
            judged(1, false, true, false),
            judged(1, false, false, false),
            "(srs-1 10.0.0.1:9000)",
        ),
    ] {
        for endpoints in [[a.clone(), b.clone()], [b, a]] {
            // Another one is ready, so that nothing falls back.
            let mut world = world(json!({}), &[endpoint(9, json!({ "nodeName": "node-b" }))]);
            let slices = endpoints.map(|e| slice("srs", json!({ "endpoints": [e] })));
            world.slices.extend(slices);
            assert_eq!(world.backends(), [expected]);
        }
    }
}

#[test]
fn ports_are_matched_by_name_and_numbered_by_the_slice() {
    let mut world = world(json!({}), &[]);
    let with = |n: u8, ports: Value| {
        slice(
            "srs",
            json!({ "ports": ports, "endpoints": [endpoint(n, json!({}))] }),
        )
    };
    world.slices = vec![
        with(
            1,
            json!([{ "name": "srt", "port": 10080, "protocol": "UDP" }]),
        ),
        with(
            2,
            json!([{ "name": "srt", "port": 10081, "protocol": "UDP" }, { "name": "x", "port": 1, "protocol": "UDP" }]),
        ),
        with(
            3,
            json!([{ "name": "srt", "port": 9000, "protocol": "TCP" }]),
        ),
        with(4, json!([{ "name": "srt", "port": 9000 }])),
        with(5, json!([{ "name": "srt", "protocol": "UDP" }])),
        with(
            6,
            json!([{ "name": "other", "port": 9000, "protocol": "UDP" }]),
        ),
        with(7, json!([])),
        with(8, Value::Null),
    ];
    assert_eq!(
        world.backends(),
        ["srs-1 10.0.0.1:10080", "srs-2 10.0.0.2:10081"]
    );
}

#[test]
fn no_name_and_an_empty_name_are_the_same() {
    let port = json!([{ "port": 9000, "protocol": "UDP", "appProtocol": "srt" }]);
    for name in [json!(null), json!("")] {
        let mut world = world(json!({ "spec": { "ports": port } }), &[]);
        let ports = json!([{ "name": name, "port": 9000, "protocol": "UDP" }]);
        world.slices = vec![slice(
            "srs",
            json!({ "ports": ports, "endpoints": [endpoint(1, json!({}))] }),
        )];
        assert_eq!(world.backends(), ["srs-1 10.0.0.1:9000"]);
    }
}

#[test]
fn only_the_first_address_of_the_slices_family_counts() {
    let at = |addresses: Value| endpoint(1, json!({ "addresses": addresses }));
    for (kind, addresses, expected) in [
        (
            "IPv4",
            json!(["10.0.0.1", "10.0.0.2"]),
            &["srs-1 10.0.0.1:9000"][..],
        ),
        ("IPv4", json!(["fd00::1"]), &[]),
        ("IPv4", json!(["127.0.0.1"]), &[]),
        ("IPv4", json!([]), &[]),
        ("FQDN", json!(["10.0.0.1"]), &[]),
    ] {
        let mut world = world(json!({}), &[]);
        let differs = json!({ "addressType": kind, "endpoints": [at(addresses)] });
        world.slices = vec![slice("srs", differs)];
        assert_eq!(world.backends(), expected);
    }
}

#[test]
fn dual_stack_joins_both_families_and_leaves_out_one_without_vip() {
    let v6 = endpoint(1, json!({ "addresses": ["fd00::1"] }));
    let dual = json!([{ "ip": "203.0.113.10" }, { "ip": "2001:db8::10" }]);
    for (ingress, expected) in [
        (dual, &["srs-1 10.0.0.1:9000", "srs-1 fd00::1:9000"][..]),
        (json!([{ "ip": "203.0.113.10" }]), &["srs-1 10.0.0.1:9000"]),
        (json!([{ "ip": "2001:db8::10" }]), &["srs-1 fd00::1:9000"]),
    ] {
        let mut world = world(
            json!({ "status": { "loadBalancer": { "ingress": ingress } } }),
            &[endpoint(1, json!({}))],
        );
        let slice = slice("srs", json!({ "addressType": "IPv6", "endpoints": [v6] }));
        world.slices.push(slice);
        assert_eq!(world.backends(), expected);
    }
}

#[test]
fn an_endpoint_without_a_pod_is_called_by_its_service_and_address() {
    for target in [Value::Null, json!({ "kind": "VirtualMachine" })] {
        let world = world(json!({}), &[endpoint(1, json!({ "targetRef": target }))]);
        let derived = world.derive();
        let backend = &derived.desired.services[0].backends[0];
        assert_eq!(backend.name, "live/srs-10.0.0.1");
        assert_eq!(backend.tenant, ingest_common::abi::Tenant::default());
        assert_eq!(derived.pod_uids, BTreeMap::new());
    }
}

#[test]
fn another_pod_is_another_tenant() {
    let tenant = |uid: &str| {
        let world = world(
            json!({}),
            &[endpoint(1, json!({ "targetRef": { "uid": uid } }))],
        );
        world.derive().desired.services[0].backends[0].tenant
    };
    assert_ne!(tenant("a").pod, 0);
    assert_ne!(tenant("a"), tenant("b"));
    assert_eq!(tenant("a").process, 0, "no Pod has said");
}

#[test]
fn hints_change_nothing() {
    let hint = json!({ "hints": { "forZones": [{ "name": "other" }], "forNodes": [{ "name": "node-b" }] } });
    let world = world(
        json!({ "spec": { "trafficDistribution": "PreferSameNode" } }),
        &[endpoint(1, hint)],
    );
    assert_eq!(world.backends(), ["srs-1 10.0.0.1:9000"]);
}
