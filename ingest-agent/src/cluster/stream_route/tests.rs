//! What the definition says.

use serde_json::{Value, json};

use super::*;

#[test]
fn the_definition_has_names_columns_and_a_status() {
    let definition = serde_json::to_value(definition()).unwrap();
    assert_eq!(
        definition["metadata"]["name"],
        "streamroutes.ingest.steering.dev"
    );
    assert_eq!(definition["spec"]["scope"], "Namespaced");
    let names = &definition["spec"]["names"];
    assert_eq!(names["shortNames"], json!(["sroute"]));
    assert_eq!(names["categories"], json!(["ingest"]));
    let version = &definition["spec"]["versions"][0];
    assert_eq!(version["name"], "v1alpha1");
    assert!(version["subresources"]["status"].is_object());
    let columns = version["additionalPrinterColumns"].as_array().unwrap();
    let columns: Vec<_> = columns.iter().map(|column| &column["name"]).collect();
    assert_eq!(columns, ["Service", "Accepted", "Programmed", "Age"]);
}

#[test]
fn the_schema_has_the_rules() {
    let definition = serde_json::to_value(definition()).unwrap();
    let at = |path: &str| -> Value {
        let schema = definition
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties");
        let found = schema.and_then(|schema| schema.pointer(path));
        found.cloned().unwrap_or_else(|| panic!("no {path}"))
    };
    let rule = "/rules/items";
    let text = format!("{rule}/properties/matches/items/properties/streamId");
    for (path, count) in [
        (rule.to_owned(), 3),
        (format!("{rule}/properties/matches/items"), 3),
        (text.clone(), 2),
        (format!("{rule}/properties/thresholds"), 2),
    ] {
        let rules = at(&format!("{path}/x-kubernetes-validations"));
        assert_eq!(rules.as_array().unwrap().len(), count, "{path}");
    }
    assert_eq!(at(&format!("{text}/properties/type/default")), "Exact");
    assert_eq!(at(&format!("{text}/properties/value/maxLength")), 124);
}

#[test]
fn a_route_is_read_as_it_is_written() {
    let written = json!({
        "parentRefs": [{"name": "ingest", "port": 8890}],
        "rules": [
            {
                "matches": [{"resource": {"type": "Prefix", "value": "acme/"}, "mode": "publish"}, {"source": "203.0.113.0/24"}],
                "backendRef": {"name": "acme"},
                "quota": {"streams": 10, "bitrate": 100_000_000_i64},
                "thresholds": {"minBitrate": 2_000_000, "minBitrateFor": "5s", "maxLoss": "0.5%", "maxRtt": "off", "stalledAfter": "1m"},
            },
            {"matches": [{"streamId": {"value": "x"}}], "reject": true},
        ],
    });
    let spec: StreamRouteSpec = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(
        spec.rules[1].matches[0].stream_id.as_ref().unwrap().kind,
        TextKind::Exact
    );
    let mut back = serde_json::to_value(&spec).unwrap();
    back["rules"][1]["matches"][0]["streamId"]
        .as_object_mut()
        .unwrap()
        .remove("type");
    assert_eq!(back, written);
}
