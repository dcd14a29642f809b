//! `deploy/prometheus` and `deploy/grafana`: Prometheus' own tools take the alerts, every alert is tested and explained,
//! and all that is named there exists.

mod alerts;

use std::collections::BTreeSet;
use std::process::Command;

use ingest_common::reason::DropReason;
use ingest_tests::{command, prometheus};
use serde_json::Value;

use self::alerts::{alerts, dashboard, expressions, metrics, panels, read, section, yaml};

#[test]
fn promtool_takes_the_rules() {
    for arguments in [
        ["check", "rules", "deploy/prometheus/rules.yaml"],
        ["test", "rules", "deploy/prometheus/rules_test.yaml"],
    ] {
        let mut promtool = Command::new(prometheus::program("promtool").unwrap());
        promtool
            .args(arguments)
            .current_dir(ingest_tests::workspace());
        let output = command::output(promtool).unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

#[test]
fn every_alert_is_seen_to_fire_and_not_to_fire() {
    let tests = yaml("deploy/prometheus/rules_test.yaml");
    let mut fires = BTreeSet::new();
    let mut stays = BTreeSet::new();
    for test in tests["tests"].as_array().unwrap() {
        for check in test["alert_rule_test"].as_array().unwrap() {
            let name = check["alertname"].as_str().unwrap().to_owned();
            let expected = check["exp_alerts"].as_array().unwrap();
            if expected.is_empty() {
                stays.insert(name);
            } else {
                fires.insert(name);
            }
        }
    }
    let all: BTreeSet<_> = alerts().into_iter().map(|alert| alert.name).collect();
    assert_eq!(fires, all);
    assert_eq!(stays, all);
}

#[test]
fn every_alert_has_its_section_of_the_runbook() {
    let runbook = read("docs/runbook.md");
    for alert in alerts() {
        let name = &alert.name;
        let section =
            section(&runbook, name).unwrap_or_else(|| panic!("docs/runbook.md has no ## {name}"));
        for part in ["**What.**", "**Why.**", "**Look.**", "**Do.**", "```"] {
            assert!(section.contains(part), "## {name} has no {part}");
        }
        let anchor = name.to_lowercase();
        let annotations = &alert.rule["annotations"];
        assert_eq!(
            annotations["runbook_url"],
            format!("docs/runbook.md#{anchor}")
        );
        assert!(annotations["summary"].is_string() && annotations["description"].is_string());
        let severity = alert.rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}");
        assert!(
            runbook.contains(&format!("| [{name}](#{anchor}) | {severity} |")),
            "docs/runbook.md's table lacks {name}, {severity}"
        );
    }
}

#[test]
fn every_reason_of_a_drop_is_alerted_or_said_to_be_harmless() {
    let drops = alerts().into_iter().find(|a| a.name == "IngestDrops");
    let expression = drops.unwrap().expression;
    let matcher = |operator: &str| -> Vec<String> {
        let rest = expression.split_once(operator).unwrap().1;
        let words = rest.split('"').next().unwrap().split('|');
        words.map(str::to_owned).collect()
    };
    let (wanted, unwanted) = (matcher("reason=~\""), matcher("reason!=\""));
    let is_match = |pattern: &String, word: &str| {
        pattern
            .strip_suffix(".+")
            .map_or(pattern == word, |prefix| word.starts_with(prefix))
    };
    let is_alerted = |word: &str| {
        wanted.iter().any(|p| is_match(p, word)) && !unwanted.iter().any(|p| is_match(p, word))
    };
    for pattern in wanted.iter().chain(&unwanted) {
        let mut all = DropReason::ALL.iter();
        assert!(all.any(|r| is_match(pattern, r.as_str())), "{pattern}");
    }
    let runbook = read("docs/runbook.md");
    let section = section(&runbook, "IngestDrops").unwrap();
    let (alerted, harmless) = section.split_once("Not alerted").unwrap();
    for reason in DropReason::ALL {
        let word = reason.as_str();
        let (place, other) = if is_alerted(word) {
            (alerted, harmless)
        } else {
            (harmless, alerted)
        };
        let row = format!("`{word}`");
        assert!(place.contains(&row), "{word} is not where it belongs");
        assert!(!other.contains(&row), "{word} is in both lists");
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    assert_eq!(dashboard["uid"], "ingest");
    // Without an id Grafana makes a new one.
    assert_eq!(dashboard["id"], Value::Null);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables[0]["name"], "datasource");
    assert_eq!(variables[0]["type"], "datasource");
    assert_eq!(variables[0]["query"], "prometheus");

    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        for x in at("x")..at("x") + at("w") {
            assert!(x < 24, "{title} is too wide");
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} covers another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["description"].is_string(), "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        let letters: BTreeSet<_> = targets.iter().map(|t| t["refId"].to_string()).collect();
        assert_eq!(letters.len(), targets.len(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn whatever_is_named_is_documented() {
    let documented = metrics(&read("docs/metrics.md"));
    let mut named = metrics(&read("docs/runbook.md"));
    for expression in expressions() {
        named.extend(metrics(&expression));
    }
    let missing: Vec<_> = named.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
}
