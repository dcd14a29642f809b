//! Whose Services.

use super::*;

#[test]
fn a_label_or_our_class_claims() {
    let labels = |labels: Value, class: Value| {
        service(
            "srs",
            json!({ "metadata": { "labels": labels }, "spec": { "loadBalancerClass": class } }),
        )
    };
    let none = json!({ "ingest.steering.dev/steer": null });
    let ours = json!("ingest.steering.dev/xdp");
    assert!(is_claimed(&labels(json!({}), Value::Null)));
    assert!(is_claimed(&labels(none.clone(), ours)));
    assert!(is_claimed(&labels(json!({}), json!("metallb.io/x"))));
    assert!(!is_claimed(&labels(none.clone(), json!("metallb.io/x"))));
    assert!(!is_claimed(&labels(none, Value::Null)));
    let no = json!({ "ingest.steering.dev/steer": "false" });
    assert!(!is_claimed(&labels(no, Value::Null)));
}

#[test]
fn what_is_not_claimed_says_nothing() {
    let labels = json!({ "labels": { "ingest.steering.dev/steer": null } });
    let world = world(json!({ "metadata": labels }), &[endpoint(1, json!({}))]);
    assert_eq!(world.derive(), Derived::default());
}

#[test]
fn a_service_that_is_being_deleted_serves_until_it_is_gone() {
    let deleting = json!({ "deletionTimestamp": "2026-02-01T00:00:00Z", "finalizers": ["a/b"] });
    let world = world(json!({ "metadata": deleting }), &[endpoint(1, json!({}))]);
    assert_eq!(world.backends(), ["srs-1 10.0.0.1:9000"]);
}

#[test]
fn external_names_are_told_and_not_steered() {
    let world = world(json!({ "spec": { "type": "ExternalName" } }), &[]);
    assert!(world.derive().desired.services.is_empty());
    assert!(matches!(
        world.conditions()[..],
        [Condition::Invalid {
            field: "spec.type",
            ..
        }]
    ));
}

#[test]
fn a_headless_service_is_steered_where_it_has_a_vip() {
    let world = world(
        json!({ "spec": { "clusterIP": "None" } }),
        &[endpoint(1, json!({}))],
    );
    assert_eq!(world.backends(), ["srs-1 10.0.0.1:9000"]);
}

#[test]
fn uids_are_given_for_references() {
    let derived = world(json!({}), &[endpoint(1, json!({}))]).derive();
    let name = |name: &str| ("live".to_owned(), name.to_owned());
    assert_eq!(derived.service_uids[&name("srs")], "uid-of-srs");
    assert_eq!(derived.pod_uids[&name("srs-1")], "uid-1");
}

#[test]
fn client_ip_affinity_is_passed_on() {
    for (text, expected) in [("ClientIP", true), ("None", false)] {
        let world = world(json!({ "spec": { "sessionAffinity": text } }), &[]);
        assert_eq!(world.derive().desired.services[0].affinity, expected);
    }
}
