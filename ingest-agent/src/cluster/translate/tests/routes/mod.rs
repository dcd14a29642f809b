//! StreamRoutes: whose callers, which matches, where to, and what is said of it.

mod property;

use ingest_common::abi;

use super::*;
use crate::reconcile::{Match, Mode, Quota, Route, Target, Text, What};

/// `live/<name>` for `live/srs`, made on the day of January that `age` says.
fn route(name: &str, age: u8, rules: Value) -> Arc<StreamRoute> {
    let mut object = json!({
        "apiVersion": "ingest.steering.dev/v1alpha1",
        "kind": "StreamRoute",
        "metadata": {
            "namespace": "live", "name": name, "generation": 4, "resourceVersion": "77",
            "creationTimestamp": format!("2026-01-{age:02}T00:00:00Z"),
        },
        "spec": { "parentRefs": [{ "name": "srs" }] },
    });
    object["spec"]["rules"] = rules;
    Arc::new(serde_json::from_value(object).unwrap())
}

fn changed(route: &Arc<StreamRoute>, differs: Value) -> Arc<StreamRoute> {
    let mut object = serde_json::to_value(&**route).unwrap();
    merge(&mut object, differs);
    Arc::new(serde_json::from_value(object).unwrap())
}

fn to(pool: &str, matches: Value) -> Value {
    let mut rule = json!({ "backendRef": { "name": pool } });
    rule["matches"] = matches;
    rule
}

fn resource(prefix: &str) -> Value {
    json!({ "resource": { "type": "Prefix", "value": prefix } })
}

fn prefix(text: &str) -> Match {
    Match {
        what: What::Resource(Text::Prefix(text.to_owned())),
        mode: None,
    }
}

/// An unclaimed Service without an address: only good for a pool.
fn pool(name: &str) -> Arc<Service> {
    service(
        name,
        json!({ "metadata": { "labels": null }, "spec": { "type": "ClusterIP" }, "status": null }),
    )
}

/// `live/srs` with pod 1, `live/acme` with pods 2 and 3.
fn with_routes(routes: Vec<Arc<StreamRoute>>) -> World {
    let mut world = world(json!({}), &[endpoint(1, json!({}))]);
    world.services.push(pool("acme"));
    let endpoints = [endpoint(2, json!({})), endpoint(3, json!({}))];
    world
        .slices
        .push(slice("acme", json!({ "endpoints": endpoints })));
    world.routes = routes;
    world
}

impl World {
    fn state(&self, route: &str) -> RouteState {
        let name = ("live".to_owned(), route.to_owned());
        self.derive().routes.remove(&name).unwrap()
    }

    /// `Accepted`\'s reason, `ResolvedRefs`\' reason, and why it has become nothing.
    fn reasons(&self, route: &str) -> [&'static str; 3] {
        let state = self.state(route);
        let becomes = state.becomes.map_or_else(|why| why.reason, |_| "");
        [state.accepted.reason, state.resolved.reason, becomes]
    }
}

fn names(routes: &[Route]) -> Vec<&str> {
    routes.iter().map(|route| route.name.as_str()).collect()
}

#[test]
fn a_route_leads_to_a_pool_without_an_address() {
    let world = with_routes(vec![route(
        "acme",
        1,
        json!([{
            "matches": [resource("acme/"), { "streamId": { "type": "Exact", "value": "x" }, "mode": "publish" },
                { "user": { "type": "Exact", "value": "u" } }, { "host": { "type": "Prefix", "value": "" } },
                { "mode": "request" }, { "source": "203.0.113.7/24" }],
            "backendRef": { "name": "acme" },
            "quota": { "streams": 10, "sessionsPerSecond": 5, "streamBitrate": 20, "bitrate": 100 },
            "thresholds": { "minBitrate": 9, "minBitrateFor": "2s", "maxLoss": "0.25%", "maxRtt": "off", "stalledAfter": "1h" },
        }]),
    )]);
    let derived = world.derive();
    let [acme, own] = &derived.desired.services[..] else {
        panic!("{:?}", derived.desired.services);
    };
    assert_eq!(own.name, "live/srs:srt");
    assert_eq!(own.backends.len(), 1);
    assert_eq!((acme.name.as_str(), acme.port), ("live/acme:srt", 0));
    assert!(acme.vips.is_empty());
    assert_eq!(
        acme.backends.iter().map(in_words).collect::<Vec<_>>(),
        ["srs-2 10.0.0.2:9000", "srs-3 10.0.0.3:9000"]
    );
    let any = |what| Match { what, mode: None };
    assert_eq!(
        derived.desired.routes,
        [Route {
            name: "live/acme".to_owned(),
            service: "live/srs:srt".to_owned(),
            matches: vec![
                prefix("acme/"),
                Match {
                    what: What::StreamId(Text::Exact("x".to_owned())),
                    mode: Some(Mode::Publish)
                },
                any(What::User(Text::Exact("u".to_owned()))),
                any(What::Host(Text::Prefix(String::new()))),
                Match {
                    what: What::Mode,
                    mode: Some(Mode::Request)
                },
                any(What::Source("203.0.113.0/24".parse().unwrap())),
            ],
            target: Target::Pool("live/acme:srt".to_owned()),
            quota: Quota {
                streams: Some(10),
                sessions_per_second: Some(5),
                stream_bitrate: Some(20),
                bitrate: Some(100),
            },
            thresholds: abi::Thresholds {
                min_bitrate: 9,
                min_bitrate_for_ms: 2000,
                stalled_after_ms: 3_600_000,
                max_loss: 25,
                max_rtt: abi::OFF,
            },
        }]
    );
    let state = world.state("acme");
    assert_eq!((state.generation, state.version.as_str()), (4, "77"));
    assert!(state.accepted.holds && state.resolved.holds);
    assert_eq!(state.becomes, Ok(["live/acme".to_owned()].into()));
    assert!(
        derived
            .service_uids
            .contains_key(&("live".to_owned(), "acme".to_owned()))
    );
}

#[test]
fn rules_have_numbers_and_further_services_their_names() {
    let rules = json!([to("acme", json!([resource("a/")])), { "matches": [resource("b/")], "reject": true }]);
    let mut world = with_routes(vec![route("two", 1, rules)]);
    let derived = world.derive();
    assert_eq!(names(&derived.desired.routes), ["live/two/0", "live/two/1"]);
    assert_eq!(derived.desired.routes[1].target, Target::Reject);
    world.options.node_ports = true;
    world.options.node_addresses = vec![ip("192.0.2.1")];
    world.services[0] = service(
        "srs",
        json!({ "spec": { "ports": [{ "name": "srt", "port": 9000, "nodePort": 30000, "protocol": "UDP" }] } }),
    );
    let derived = world.derive();
    assert_eq!(
        names(&derived.desired.routes),
        [
            "live/two/0",
            "live/two/0@srs:srt@node",
            "live/two/1",
            "live/two/1@srs:srt@node"
        ]
    );
    assert_eq!(derived.desired.routes[1].service, "live/srs:srt@node");
}

#[test]
fn a_steered_service_can_be_a_pool_and_keeps_the_backends_of_who_leads_there() {
    let mut world = with_routes(vec![route(
        "acme",
        1,
        json!([to("acme", json!([resource("acme/")]))]),
    )]);
    world.services[1] = service(
        "acme",
        json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "2001:db8::7" }] } } }),
    );
    let derived = world.derive();
    let acme = &derived
        .desired
        .services
        .iter()
        .find(|s| s.name == "live/acme:srt")
        .unwrap();
    assert_eq!(
        (acme.vips.len(), acme.port, acme.backends.len()),
        (1, 9000, 2)
    );
    // Without the route, no IPv4 caller gets there.
    world.routes.clear();
    let derived = world.derive();
    let acme = &derived
        .desired
        .services
        .iter()
        .find(|s| s.name == "live/acme:srt")
        .unwrap();
    assert_eq!(acme.backends.len(), 0);
}

#[test]
fn what_is_alike_belongs_to_the_older_then_to_the_first_name() {
    let rules = |text: &str| json!([to("acme", json!([resource(text), resource("all/")]))]);
    let mut world = with_routes(vec![
        route("young", 9, rules("young/")),
        route("old", 1, rules("old/")),
        route("b", 5, rules("b/")),
        route("a", 5, rules("b/")),
    ]);
    let derived = world.derive();
    let matches: Vec<_> = derived
        .desired
        .routes
        .iter()
        .map(|route| (route.name.as_str(), route.matches.clone()))
        .collect();
    assert_eq!(
        matches,
        [
            ("live/old", vec![prefix("old/"), prefix("all/")]),
            ("live/a", vec![prefix("b/")]),
            ("live/young", vec![prefix("young/")]),
        ]
    );
    assert_eq!(
        world.reasons("b"),
        ["Conflict", "ResolvedRefs", "NotAccepted"]
    );
    assert_eq!(world.reasons("a")[0], "Accepted");
    let message = world.state("young").accepted.message;
    assert!(message.contains("1 of live/old"), "{message}");
    // A mode makes another match of it.
    let mut other = resource("all/");
    other["mode"] = json!("publish");
    world
        .routes
        .push(route("mode", 10, json!([to("acme", json!([other]))])));
    assert_eq!(world.reasons("mode")[0], "Accepted");
}

#[test]
fn a_route_needs_a_parent_that_answers_handshakes() {
    let wanted = || route("acme", 1, json!([to("acme", json!([resource("acme/")]))]));
    let of = |differs: Value, parents: Value| {
        let mut world = with_routes(vec![changed(
            &wanted(),
            json!({ "spec": { "parentRefs": parents } }),
        )]);
        world.services[0] = service("srs", differs);
        (world.reasons("acme"), world.state("acme").accepted.message)
    };
    let plain = json!([{ "name": "srs" }]);
    let (reasons, _) = of(
        json!({}),
        json!([{ "name": "srs", "port": 9000 }, { "name": "gone" }]),
    );
    assert_eq!(reasons[0], "Accepted");
    for (differs, parents, word) in [
        (json!({}), json!([{ "name": "gone" }]), "no Service gone"),
        (
            json!({}),
            json!([{ "name": "srs", "port": 9001 }]),
            "no SRT port 9001",
        ),
        (
            json!({ "metadata": { "labels": null } }),
            plain.clone(),
            "does not ask to be steered",
        ),
        (
            json!({ "metadata": { "annotations": { "ingest.steering.dev/handshake": "client" } } }),
            plain.clone(),
            "leaves handshakes",
        ),
        (
            json!({ "spec": { "ports": [{ "name": "udp", "port": 9000, "protocol": "UDP" }] } }),
            plain.clone(),
            "no SRT port",
        ),
    ] {
        let (reasons, message) = of(differs, parents);
        assert_eq!(
            reasons,
            ["NoMatchingParent", "ResolvedRefs", "NotAccepted"],
            "{word}"
        );
        assert!(message.contains(word), "{message}");
    }
    // It has no address yet: accepted, and not in force.
    let (reasons, _) = of(
        json!({ "status": { "loadBalancer": { "ingress": null } } }),
        plain,
    );
    assert_eq!(reasons, ["Accepted", "ResolvedRefs", "Pending"]);
}

#[test]
fn what_leads_nowhere_is_left_out_and_told() {
    let rules = json!([
        to("acme", json!([resource("a/")])),
        to("gone", json!([resource("b/")]))
    ]);
    let mut world = with_routes(vec![route("acme", 1, rules)]);
    assert_eq!(world.reasons("acme"), ["Accepted", "BackendNotFound", ""]);
    assert_eq!(names(&world.derive().desired.routes), ["live/acme/0"]);
    let one = |reference: Value| {
        let rule = json!([{ "matches": [resource("a/")], "backendRef": reference }]);
        with_routes(vec![route("acme", 1, rule)])
    };
    assert_eq!(
        one(json!({ "name": "acme", "port": 9000 })).reasons("acme")[2],
        ""
    );
    assert_eq!(
        one(json!({ "name": "acme", "port": 1 })).reasons("acme"),
        ["Accepted", "NoSuchPort", "Pending"]
    );
    world = one(json!({ "name": "acme" }));
    world.services[1] = service(
        "acme",
        json!({ "metadata": { "labels": null }, "spec": { "type": "ExternalName" } }),
    );
    assert_eq!(world.reasons("acme")[1], "BackendNotFound");
    // One UDP port of no name that says anything is meant; of two, none is.
    let ports = |ports: Value| {
        let mut world = one(json!({ "name": "acme" }));
        world.services[1] = service(
            "acme",
            json!({ "metadata": { "labels": null }, "spec": { "ports": ports } }),
        );
        world.reasons("acme")[1]
    };
    let port = |name: &str, port: u16| json!({ "name": name, "port": port, "protocol": "UDP" });
    assert_eq!(ports(json!([port("x", 1)])), "ResolvedRefs");
    assert_eq!(ports(json!([port("x", 1), port("y", 2)])), "NoSuchPort");
    assert_eq!(ports(json!([port("x", 1), port("srt", 2)])), "ResolvedRefs");
}

#[test]
fn what_the_schema_cannot_say_is_told() {
    let long = "é".repeat(62);
    for (wanted, word) in [
        (json!({ "source": "somewhere" }), "not a range"),
        (
            json!({ "resource": { "type": "Exact", "value": long } }),
            "longer than 123 bytes",
        ),
        (
            json!({ "resource": { "type": "Exact", "value": "" } }),
            "empty exact",
        ),
        (
            json!({ "resource": { "type": "Prefix", "value": "a\u{0}" } }),
            "zero byte",
        ),
        (json!({}), "exactly one of streamId"),
        (
            json!({ "source": "::/0", "mode": "publish" }),
            "cannot ask for a mode",
        ),
    ] {
        let world = with_routes(vec![route("acme", 1, json!([to("acme", json!([wanted]))]))]);
        assert_eq!(
            world.reasons("acme"),
            ["Invalid", "ResolvedRefs", "NotAccepted"],
            "{word}"
        );
        let message = world.state("acme").accepted.message;
        assert!(message.contains(word), "{message}");
        assert!(world.derive().desired.routes.is_empty());
    }
    let none = json!([{ "matches": [resource("a/")], "reject": false }]);
    let world = with_routes(vec![route("acme", 1, none)]);
    assert!(
        world
            .state("acme")
            .accepted
            .message
            .contains("exactly one of backendRef")
    );
}

#[test]
fn long_names_stay_apart() {
    let long = "r".repeat(200);
    let rules = json!([
        to("acme", json!([resource("a/")])),
        to("acme", json!([resource("b/")]))
    ]);
    let derived = with_routes(vec![route(&long, 1, rules)]).derive();
    let [one, other] = &derived.desired.routes[..] else {
        panic!("not two");
    };
    assert!(one.name.len() <= 128 && other.name.len() <= 128);
    assert_ne!(one.name, other.name);
    assert_eq!(
        derived.routes[&("live".to_owned(), long)]
            .becomes
            .as_ref()
            .unwrap()
            .len(),
        2
    );
}
