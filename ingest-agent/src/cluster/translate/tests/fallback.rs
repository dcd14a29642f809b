//! Who takes new sessions where nobody is ready, and who is told.

use super::*;

/// An endpoint of another node.
fn away(mut endpoint: Value) -> Value {
    merge(&mut endpoint, json!({ "nodeName": "node-b" }));
    endpoint
}

fn elsewhere(world: &World) -> bool {
    world.derive().desired.services[0].elsewhere
}

fn local() -> Value {
    json!({ "spec": { "externalTrafficPolicy": "Local" } })
}

fn nobody(port: &str) -> Condition {
    let port = port.to_owned();
    Condition::NoReadyBackend { port }
}

fn only_away(port: &str) -> Condition {
    let port = port.to_owned();
    Condition::ReadyElsewhere { port }
}

#[test]
fn those_that_end_but_serve_take_new_sessions_where_nobody_is_ready() {
    let world = world(
        json!({}),
        &[
            judged(1, false, true, true),
            judged(2, false, true, false),
            judged(3, false, false, true),
        ],
    );
    assert_eq!(
        world.backends(),
        ["srs-1 10.0.0.1:9000", "(srs-2 10.0.0.2:9000)"]
    );
    assert_eq!(world.conditions(), []);
}

#[test]
fn one_ready_anywhere_stops_the_fallback() {
    let ending = judged(1, false, true, true);
    let world = world(json!({}), &[ending, away(endpoint(2, json!({})))]);
    assert_eq!(world.backends(), ["(srs-1 10.0.0.1:9000)"]);
    assert!(elsewhere(&world));
    assert_eq!(world.conditions(), [only_away("srt")]);
}

#[test]
fn with_traffic_policy_local_only_this_node_counts() {
    let ending = judged(1, false, true, true);
    let away = away(endpoint(2, json!({})));
    let with = world(local(), &[ending.clone(), away.clone()]);
    assert_eq!(with.backends(), ["srs-1 10.0.0.1:9000"]);
    let ready_here = world(local(), &[ending, endpoint(3, json!({})), away]);
    assert_eq!(
        ready_here.backends(),
        ["(srs-1 10.0.0.1:9000)", "srs-3 10.0.0.3:9000"]
    );
}

#[test]
fn the_fallback_is_each_familys_own() {
    let mut world = world(
        json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.10" }, { "ip": "2001:db8::10" }] } } }),
        &[endpoint(1, json!({}))],
    );
    let mut ending = judged(2, false, true, true);
    merge(&mut ending, json!({ "addresses": ["fd00::2"] }));
    world.slices.push(slice(
        "srs",
        json!({ "addressType": "IPv6", "endpoints": [ending] }),
    ));
    assert_eq!(
        world.backends(),
        ["srs-1 10.0.0.1:9000", "srs-2 fd00::2:9000"]
    );
}

#[test]
fn ready_ones_elsewhere_are_said_and_told_of() {
    for (endpoint_, expected) in [
        (away(endpoint(2, json!({}))), true),
        (endpoint(2, json!({ "nodeName": null })), true),
        // By the fallback it takes sessions there.
        (away(judged(2, false, true, true)), true),
        (away(judged(2, false, true, false)), false),
        (away(judged(2, false, false, false)), false),
    ] {
        let world = world(json!({}), &[endpoint_]);
        assert_eq!(elsewhere(&world), expected);
        let told = if expected {
            only_away("srt")
        } else {
            nobody("srt")
        };
        assert_eq!(world.conditions(), [told]);
    }
    let both = world(
        json!({}),
        &[endpoint(1, json!({})), away(endpoint(2, json!({})))],
    );
    assert!(elsewhere(&both));
    assert_eq!(both.conditions(), []);
    // No client is sent here.
    let local = world(local(), &[away(endpoint(2, json!({})))]);
    assert!(elsewhere(&local));
    assert_eq!(local.conditions(), []);
}

#[test]
fn a_service_without_endpoints_is_known_and_told_of() {
    let world = world(json!({}), &[]);
    let derived = world.derive();
    assert_eq!(derived.desired.services[0].vips, [ip("203.0.113.10")]);
    assert_eq!(derived.desired.services[0].backends, []);
    assert_eq!(world.conditions(), [nobody("srt")]);
}

#[test]
fn the_family_that_lacks_backends_is_named() {
    let differs = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.10" }, { "ip": "2001:db8::10" }] } } });
    let only_v4 = world(differs.clone(), &[endpoint(1, json!({}))]);
    assert_eq!(only_v4.conditions(), [nobody("srt over IPv6")]);
    assert_eq!(world(differs, &[]).conditions(), [nobody("srt")]);
}

#[test]
fn publishing_not_ready_addresses_is_told() {
    let differs = json!({ "spec": { "publishNotReadyAddresses": true } });
    let world = world(differs, &[judged(1, true, false, false)]);
    assert_eq!(world.backends(), ["srs-1 10.0.0.1:9000"]);
    assert_eq!(world.conditions(), [Condition::PublishesNotReady]);
}
