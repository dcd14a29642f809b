//! What `deploy/prometheus`, `deploy/grafana` and the runbook say.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics; clippy looks for #[test] only"
)]

use std::collections::BTreeSet;

use serde_json::Value;

/// One rule.
pub struct Alert {
    pub name: String,
    pub expression: String,
    pub rule: Value,
}

pub fn read(path: &str) -> String {
    let path = ingest_tests::workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap()
}

pub fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/ingest.json")).unwrap()
}

/// All alerts, of all groups.
pub fn alerts() -> Vec<Alert> {
    let rules = yaml("deploy/prometheus/rules.yaml");
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap().clone());
    let alert = |rule: Value| Alert {
        name: rule["alert"].as_str().unwrap().to_owned(),
        expression: rule["expr"].as_str().unwrap().to_owned(),
        rule,
    };
    rules.map(alert).collect()
}

/// Rows and what they hold when they are folded.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels
        .flat_map(|panel| {
            let held = panel["panels"].as_array().into_iter().flatten();
            std::iter::once(panel).chain(held)
        })
        .collect()
}

/// The queries of the dashboard as Grafana sends them, everything selected: the panel's title, and the query.
pub fn queries(dashboard: &Value, rate_interval: &str) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let mut query = target["expr"].as_str().unwrap().to_owned();
            for (variable, value) in [
                ("$__rate_interval", rate_interval),
                ("$__range", "5m"),
                ("$instance", ".*"),
                ("$service", ".*"),
            ] {
                query = query.replace(variable, value);
            }
            assert!(!query.contains('$'), "{title}: {query}");
            queries.push((title.to_owned(), query));
        }
    }
    queries
}

/// All of rules and dashboard.
pub fn expressions() -> Vec<String> {
    let dashboard = dashboard();
    let of_panels = queries(&dashboard, "1m")
        .into_iter()
        .map(|(_, query)| query);
    let of_alerts = alerts().into_iter().map(|alert| alert.expression);
    of_panels.chain(of_alerts).collect()
}

/// The metrics that a text names.
pub fn metrics(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_word(c));
    words
        .filter(|word| word.starts_with("ingest_"))
        .map(|word| {
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts.iter().find_map(|part| word.strip_suffix(part));
            family.unwrap_or(word).to_owned()
        })
        .collect()
}

/// What follows `## heading`, up to the next one.
pub fn section<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("\n## {heading}\n"))?;
    Some(rest.split("\n## ").next().unwrap_or(rest))
}
