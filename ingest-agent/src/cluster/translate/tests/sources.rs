//! Who may send.

use super::{super::sources::SOURCE_RANGES_ANNOTATION, *};

fn ranges(world: &World) -> Vec<String> {
    let service = world.derive().desired.services.remove(0);
    service
        .source_ranges
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn invalid(world: &World) -> Vec<String> {
    let conditions = world.conditions().into_iter();
    let invalid = conditions.filter_map(|c| match c {
        Condition::Invalid { value, .. } => Some(value),
        _ => None,
    });
    invalid.collect()
}

#[test]
fn ranges_are_networks_each_once() {
    let listed = ["198.51.100.9/24", " 198.51.100.0/24 ", "2001:db8::/32"];
    let world = world(
        json!({ "spec": { "loadBalancerSourceRanges": listed } }),
        &[],
    );
    assert_eq!(ranges(&world), ["198.51.100.0/24", "2001:db8::/32"]);
    assert_eq!(invalid(&world), [""; 0]);
}

#[test]
fn the_annotation_counts_where_the_field_is_empty() {
    let annotations = json!({ SOURCE_RANGES_ANNOTATION: "198.51.100.0/24, 192.0.2.0/24" });
    let annotated = json!({ "metadata": { "annotations": annotations } });
    let both = json!({
        "metadata": { "annotations": annotations },
        "spec": { "loadBalancerSourceRanges": ["203.0.113.0/24"] },
    });
    assert_eq!(
        ranges(&world(annotated, &[])),
        ["192.0.2.0/24", "198.51.100.0/24"]
    );
    assert_eq!(ranges(&world(both, &[])), ["203.0.113.0/24"]);
}

#[test]
fn an_unreadable_range_lets_nobody_in_and_is_told() {
    let listed = json!({ "spec": { "loadBalancerSourceRanges": ["10.0.0.0/33", "192.0.2.0/24"] } });
    let some = world(listed, &[]);
    assert_eq!(ranges(&some), ["192.0.2.0/24"]);
    assert_eq!(invalid(&some), ["10.0.0.0/33"]);

    let none = world(
        json!({ "spec": { "loadBalancerSourceRanges": ["all"] } }),
        &[],
    );
    assert_eq!(ranges(&none), ["::/128"], "not everyone");
    assert_eq!(invalid(&none), ["all"]);
}

#[test]
fn a_vip_whose_family_no_range_has_is_told() {
    let world = world(
        json!({ "spec": { "loadBalancerSourceRanges": ["2001:db8::/32"] } }),
        &[],
    );
    assert_eq!(invalid(&world), ["2001:db8::/32"]);
}
