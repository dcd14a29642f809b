//! Thresholds in a cluster: by StreamRoute and by annotation.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use ingest_common::abi::{OFF, Thresholds};
use ingest_tests::cluster::cni::Plugin;
use ingest_tests::cluster::objects::{self, NAMESPACE};
use ingest_tests::cluster::{Cluster, SERVICE};
use ingest_tests::netns::Family;
use ingest_tests::scene::LIMIT;
use serde_json::{Value, json};

fn route(name: &str, rule: &Value) -> Value {
    let mut rule = rule.clone();
    rule["matches"] = json!([{"resource": {"type": "Prefix", "value": "acme/"}}]);
    json!({
        "apiVersion": "ingest.steering.dev/v1alpha1",
        "kind": "StreamRoute",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"parentRefs": [{"name": SERVICE}], "rules": [rule]},
    })
}

fn with_thresholds(name: &str, thresholds: &Value) -> Value {
    let to = json!({"name": SERVICE});
    route(name, &json!({"backendRef": to, "thresholds": thresholds}))
}

/// What the API server calls wrong is what the agent calls wrong, but for what only the agent could say.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_api_server_refuses_what_is_no_threshold() {
    let cluster = Cluster::new(Plugin::Ptp).unwrap();
    for (thresholds, word) in [
        (json!({"minBitrate": 0}), "greater than or equal to 1"),
        (
            json!({"minBitrate": 1_000_000_000_001_i64}),
            "less than or equal to",
        ),
        (json!({"minBitrateFor": "5"}), "should match"),
        (json!({"minBitrateFor": "1d"}), "should match"),
        (json!({"minBitrateFor": "off"}), "should match"),
        (
            json!({"minBitrateFor": "99ms"}),
            "minBitrateFor is 100ms to 1h",
        ),
        (
            json!({"minBitrateFor": "1h1ms"}),
            "minBitrateFor is 100ms to 1h",
        ),
        (
            json!({"stalledAfter": "61m"}),
            "stalledAfter is 100ms to 1h, or off",
        ),
        (json!({"stalledAfter": "never"}), "should match"),
        (json!({"maxLoss": "0%"}), "should match"),
        (json!({"maxLoss": "0.00%"}), "should match"),
        (json!({"maxLoss": "100.01%"}), "should match"),
        (json!({"maxLoss": "2.001%"}), "should match"),
        (json!({"maxLoss": "2"}), "should match"),
        // YAML's bare word `off`.
        (json!({"maxLoss": false}), "string"),
        (json!({"maxRtt": "0%"}), "should match"),
        (json!({"maxRtt": "1001%"}), "should match"),
        (json!({"maxRtt": "4.5%"}), "should match"),
    ] {
        let refused = cluster.client.apply(&with_thresholds("wrong", &thresholds));
        let error = format!("{:#}", refused.expect_err(&thresholds.to_string()));
        assert!(error.contains(word), "{word}: {error}");
    }
    let rejects = json!({"reject": true, "thresholds": {"maxLoss": "2%"}});
    let refused = cluster.client.apply(&route("wrong", &rejects));
    let error = format!("{:#}", refused.unwrap_err());
    assert!(error.contains("has no thresholds"), "{error}");
    for thresholds in [
        json!({}),
        json!({"minBitrate": 1, "minBitrateFor": "100ms", "maxLoss": "0.01%", "maxRtt": "1%", "stalledAfter": "1h"}),
        json!({"minBitrate": 1_000_000_000_000_i64, "minBitrateFor": "59m59s999ms", "maxLoss": "99.9%", "maxRtt": "1000%"}),
        json!({"maxLoss": "100%", "maxRtt": "off", "stalledAfter": "off"}),
        json!({"maxLoss": "off"}),
    ] {
        let taken = cluster.client.apply(&with_thresholds("right", &thresholds));
        taken.unwrap_or_else(|error| panic!("{thresholds}: {error:#}"));
    }
}

/// What of the map is not zero, by index: minimal bitrate, stalled after, loss, round trip.
fn map(cluster: &Cluster) -> Vec<(u64, [u64; 4])> {
    let entries = cluster.agent.dump("THRESHOLDS").unwrap();
    let entry = |entry: &Value| {
        let fields = ["min_bitrate", "stalled_after_ms", "max_loss", "max_rtt"];
        let value = fields.map(|field| entry["value"][field].as_u64().unwrap());
        (entry["key"].as_u64().unwrap(), value)
    };
    let entries = entries.iter().map(entry);
    entries.filter(|(_, value)| *value != [0; 4]).collect()
}

/// Waits until the first row of `command` shows these thresholds; gives its id.
fn wait_shown(cluster: &Cluster, command: &str, thresholds: &Value) -> u16 {
    let id = cluster.agent.wait_json(&[command], LIMIT, |rows| {
        let row = rows.get(0).filter(|row| row["thresholds"] == *thresholds)?;
        u16::try_from(row["id"].as_u64()?).ok()
    });
    id.unwrap()
}

/// * an annotation's thresholds are the Service's, and a rule's the route's: in the map and in what the commands show;
/// * what is wrong in an annotation is told by an Event, and what is right in it counts;
/// * without the annotation, the entry is gone.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn thresholds_of_a_service_and_of_a_route_are_in_the_map() {
    let cluster = Cluster::with_pods(Plugin::Ptp, 1).unwrap();
    let given = json!({"minBitrate": 3_000_000, "maxLoss": "off", "stalledAfter": "1m"});
    let acme = with_thresholds("acme", &given);
    cluster.client.apply(&acme).unwrap();
    let shown = json!("minBitrate=3000000,maxLoss=off,stalledAfter=1m");
    let of_route = Thresholds::of_route(wait_shown(&cluster, "routes", &shown));
    let of_route = (of_route.into(), [3_000_000, 60_000, OFF.into(), 0]);
    assert_eq!(map(&cluster), [of_route]);

    let mut service = objects::service(SERVICE, &[Family::V4.vip()]);
    let mut annotate = |text: &str| {
        service["metadata"]["annotations"] = json!({"ingest.steering.dev/thresholds": text});
        cluster.client.apply(&service).unwrap();
    };
    annotate("minBitrate=2000000,maxLoss=0.25%");
    let shown = json!("minBitrate=2000000,maxLoss=0.25%");
    let of_service = Thresholds::of_service(wait_shown(&cluster, "services", &shown));
    let expected = |value| [(u64::from(of_service), value), of_route];
    assert_eq!(map(&cluster), expected([2_000_000, 0, 25, 0]));

    annotate("maxRtt=40%,maxLoss=25");
    wait_shown(&cluster, "services", &json!("maxRtt=40%"));
    assert_eq!(map(&cluster), expected([0, 0, 0, 40]));
    let event = cluster
        .client
        .wait_event("Service", SERVICE, "InvalidField", 3 * LIMIT)
        .unwrap();
    for word in [
        "ingest.steering.dev/thresholds",
        "maxLoss=25",
        "use 0.01% to 100%",
    ] {
        assert!(event.contains(word), "{event}");
    }

    cluster
        .client
        .apply(&objects::service(SERVICE, &[Family::V4.vip()]))
        .unwrap();
    wait_shown(&cluster, "services", &Value::Null);
    assert_eq!(map(&cluster), [of_route]);
    cluster.client.delete(&acme).unwrap();
    let gone = cluster.agent.wait_json(&["routes"], 3 * LIMIT, |rows| {
        rows.as_array()?.is_empty().then_some(())
    });
    gone.unwrap();
    assert_eq!(map(&cluster), []);
}
