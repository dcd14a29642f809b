//! All metrics in words, made of a scrape that has one of everything: docs/metrics.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use super::{AgentMetrics, KernelState, StreamsState, render};

const HEAD: &str = "\
<!-- Made of ingest-agent/src/metrics: cargo run -p ingest-agent --example metrics > docs/metrics.md -->

# Metrics

`ingest-agent run` serves OpenMetrics on `/metrics` (`--metrics-addr`, by default `127.0.0.1:9464`); a client that does not ask for
OpenMetrics gets the older Prometheus text. What the kernel counts is read out of its maps at each scrape, so these counters survive
restarts of the agent; the others begin at 0 with it. Bytes are UDP payload, unless they are said to be of SRT.

No label ever holds a client's address or a whole Stream ID. Labels are bounded by what is configured (services, VIPs, routes, backends)
and by `--stream-series` (100 by default): so many streams have series of their own, those in `warning` or `stalled` first, then the
biggest. A stream keeps its series until it is gone, or until one that is not well, or twice as big, needs the place. Its label `stream` is
its redacted Stream ID, and `id` is the same for all sessions of that Stream ID on that service: the id of `streams`, of `top`, and of
the API.
";

/// Sections: heading, and how the names of its metrics begin behind `ingest_`. The first that fits.
const SECTIONS: [(&str, &[&str]); 7] = [
    ("Streams", &["stream", "reconnects", "failover", "view_"]),
    (
        "Kubernetes",
        &[
            "apiserver_",
            "watch_",
            "cluster_",
            "service_conditions",
            "kube_",
            "service_status_",
            "route_status_",
            "programming_",
        ],
    ),
    (
        "Services",
        &["service_", "flows", "handshakes", "rejections"],
    ),
    ("Routes", &["route_"]),
    ("Backends", &["backend_", "redirect_"]),
    ("Packets to VIPs", &["drops", "passes"]),
    ("The node and its agent", &[""]),
];

/// Labels with a fixed set of values, all of which a sample shows.
const WORDS: [&str; 11] = [
    "code",
    "condition",
    "direction",
    "event",
    "hook",
    "kind",
    "map",
    "mode",
    "reason",
    "resource",
    "result",
];

/// What all names begin with.
const PREFIX: &str = concat!("ingest", "_");

/// A metric, as a scrape describes it.
#[derive(Debug, Default)]
struct Metric {
    /// With the suffix of its samples.
    name: String,
    /// Without the prefix of all.
    short: String,
    kind: String,
    help: String,
    /// In the order of the samples, with the values that were seen.
    labels: Vec<(String, BTreeSet<String>)>,
}

/// The text of docs/metrics.md.
pub fn reference() -> Result<String, fmt::Error> {
    let agent = AgentMetrics::sample();
    let text = render(&agent, KernelState::sample(), StreamsState::sample())?;
    let mut sections: BTreeMap<usize, Vec<Metric>> = BTreeMap::new();
    for metric in metrics(&text) {
        let section = SECTIONS
            .iter()
            .position(|(_, starts)| starts.iter().any(|start| metric.short.starts_with(start)));
        sections
            .entry(section.unwrap_or_default())
            .or_default()
            .push(metric);
    }
    let mut all = HEAD.to_owned();
    for ((heading, _), (_, mut metrics)) in SECTIONS.iter().zip(sections) {
        metrics.sort_by(|a, b| a.name.cmp(&b.name));
        write!(
            all,
            "\n## {heading}\n\n| metric | type | labels | what |\n|---|---|---|---|\n"
        )?;
        for metric in &metrics {
            let Metric {
                name, kind, help, ..
            } = metric;
            let labels: Vec<_> = metric.labels.iter().map(label).collect();
            writeln!(
                all,
                "| `{name}` | {kind} | {} | {help} |",
                labels.join(", ")
            )?;
        }
    }
    Ok(all)
}

/// Its name, and its values where they are words.
fn label((name, values): &(String, BTreeSet<String>)) -> String {
    if values.len() < 2 || !(WORDS.contains(&name.as_str()) || name == "state") {
        return format!("`{name}`");
    }
    let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
    format!("`{name}`: {}", values.join(" "))
}

/// The metrics of a scrape.
fn metrics(text: &str) -> Vec<Metric> {
    let mut all: Vec<Metric> = Vec::new();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            all.push(Metric {
                short: name.trim_start_matches(PREFIX).to_owned(),
                name: format!("{name}{suffix}"),
                kind: kind.to_owned(),
                help: help.trim_end_matches('.').to_owned(),
                labels: Vec::new(),
            });
        } else if let Some(metric) = all.last_mut() {
            for (name, value) in labels(line) {
                match metric.labels.iter_mut().find(|(known, _)| known == name) {
                    Some((_, values)) => drop(values.insert(value.to_owned())),
                    None => metric
                        .labels
                        .push((name.to_owned(), [value.to_owned()].into())),
                }
            }
        }
    }
    all
}

/// Of a sample; `le` of histograms is none of ours.
fn labels(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let inside = line
        .split_once('{')
        .and_then(|(_, rest)| rest.rsplit_once('}'))
        .map_or("", |(inside, _)| inside);
    inside
        .split("\",")
        .filter_map(|label| label.split_once("=\""))
        .map(|(name, value)| (name, value.trim_end_matches('"')))
        .filter(|(name, _)| *name != "le")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_are_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let docs = std::fs::read_to_string(path).unwrap();
        assert!(
            docs == reference().unwrap(),
            "docs/metrics.md is old: cargo run -p ingest-agent --example metrics > docs/metrics.md"
        );
    }

    /// What `promtool check metrics` asks for, and the rules of OpenMetrics for names.
    #[test]
    fn names_types_and_help_are_as_they_should_be() {
        let text = render(
            &AgentMetrics::sample(),
            KernelState::sample(),
            StreamsState::sample(),
        )
        .unwrap();
        let all = metrics(&text);
        assert!(all.len() > 60, "{}", all.len());
        for metric in all {
            let Metric {
                name,
                short,
                kind,
                help,
                labels,
            } = &metric;
            assert!(
                ["counter", "gauge", "histogram"].contains(&kind.as_str()),
                "{metric:?}"
            );
            assert_eq!(kind == "counter", name.ends_with("_total"), "{metric:?}");
            assert!(name.starts_with(PREFIX) && !help.is_empty(), "{metric:?}");
            assert!(
                !name.contains("_total_") && !name.contains("__"),
                "{metric:?}"
            );
            // Base units only.
            for unit in [
                "milliseconds",
                "_ms",
                "_us",
                "_ns",
                "bits",
                "kilobytes",
                "percent",
                "minutes",
            ] {
                assert!(!name.contains(unit), "{metric:?}");
            }
            if kind == "histogram" {
                assert!(name.ends_with("_seconds"), "{metric:?}");
            }
            assert!(
                !labels.is_empty() || text.contains(&format!("\n{name}")),
                "{metric:?}"
            );
            // Clients have no place in labels, and neither has the prefix of Prometheus.
            for (label, _) in labels {
                let word = label.as_str();
                assert!(!["client", "source", "le", "quantile", "job", "instance"].contains(&word));
                assert!(
                    word.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
                    "{word}"
                );
                assert!(word != "id" || short.starts_with("stream_"), "{metric:?}");
            }
        }
    }
}
