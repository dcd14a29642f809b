//! A real Prometheus scrapes a real agent: its metrics are well formed, its alerts load, and what alerts and dashboard ask
//! has an answer.

#![expect(clippy::unwrap_used, reason = "tests panic")]

mod alerts;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use ingest_tests::netns::{Layout, Topology};
use ingest_tests::peers::{ListenerOptions, LiveTransmit, Target};
use ingest_tests::prometheus::{self, Prometheus};
use ingest_tests::raw::{flood, stranger};
use ingest_tests::scene::{LIMIT, Scene};
use ingest_tests::{command, workspace};

use self::alerts::{alerts, dashboard, queries};

/// A scrape a second, a query each on a machine that has other work.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a query of the dashboard may name and be without an answer: with a file as the source nobody counts it.
const OF_A_CLUSTER: [&str; 3] = [
    "ingest_apiserver_last_heard_timestamp_seconds",
    "ingest_watch_errors_total",
    "ingest_backend_restarts_total",
];
/// The same: no route of this scene bounds a bitrate, and nothing is left to the host.
const OF_OTHERS: [&str; 2] = ["ingest_route_dropped_packets_total", "ingest_passes_total"];

/// A node that answers handshakes. Streams of `acme/` are a route's, which takes one.
fn scene() -> Scene {
    let layout = Layout {
        pods: 3,
        ..Layout::default()
    };
    // On a busy machine a pod that is slow is not to be taken for one that hangs.
    let arguments = ["--silence", "3s"];
    Scene::changed(
        layout,
        "auto",
        &ListenerOptions::default(),
        &arguments,
        |config, _| {
            config.stream().with_route(
                "live/acme",
                &["resource: { prefix: acme/ }"],
                Some("live/srt"),
                "streams: 1",
            )
        },
    )
    .unwrap()
}

fn encoder(topology: &Topology, target: &Target, number: u32) -> LiveTransmit {
    LiveTransmit::start(&topology.client, target, number, 4e6).unwrap()
}

/// * two streams come, a third is over its route's quota, strangers send what is no SRT; a pod dies, and its stream goes on
///   elsewhere;
/// * the scrape is what promtool takes for well formed, in the text format and in OpenMetrics' names;
/// * Prometheus reaches the agent, and evaluates all rules without an error;
/// * every query of the dashboard finds something, but for those about what is not there;
/// * the alerts of failovers and of drops are pending or fire, that of a lost agent does not.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn prometheus_finds_what_alerts_and_dashboard_ask_for() {
    let mut scene = scene();
    let rules = workspace().join("deploy/prometheus/rules.yaml");
    let prometheus = Prometheus::start(&scene.topology.node, &rules).unwrap();
    let streams = ["#!::r=acme/cam1,m=publish", "#!::r=live/cam2,m=publish"];
    let mut encoders = Vec::new();
    for (number, stream) in (1..).zip(streams) {
        encoders.push(encoder(&scene.topology, &scene.target(stream), number));
        scene.wait_accepted(stream, 0, LIMIT).unwrap();
    }
    let surplus = scene.target("#!::r=acme/cam3,m=publish");
    encoders.push(encoder(&scene.topology, &surplus, 3));
    let SocketAddr::V4(vip) = scene.vip() else {
        panic!("the VIP is not IPv4");
    };
    let strangers = flood(&scene.topology.client, vip, 40, 3 * PATIENCE, |number| {
        (stranger(number), b"no SRT".to_vec())
    });
    drop(strangers.unwrap());

    prometheus
        .wait("up{job=\"ingest-agent\"} == 1", PATIENCE)
        .unwrap();
    let bitrate = "rate(ingest_stream_payload_bytes_total[5s]) * 8 > 2e6";
    prometheus.wait(bitrate, PATIENCE).unwrap();
    // An increase needs what was before.
    let before = "min_over_time(ingest_stream_packets_total[3s])";
    prometheus.wait(before, PATIENCE).unwrap();
    let pod = scene.seat(streams[0]).unwrap();
    let killed = scene.listeners[pod].kill().unwrap();
    scene.wait_accepted(streams[0], killed, LIMIT).unwrap();
    scene.refresh(pod).unwrap();

    let mut promtool = Command::new(prometheus::program("promtool").unwrap());
    promtool.args(["check", "metrics"]);
    command::feed(promtool, &scene.agent.get("/metrics").unwrap()).unwrap();

    let firing = |alert: &str| format!("ALERTS{{alertname=\"{alert}\"}}");
    prometheus
        .wait(&firing("IngestFailovers"), PATIENCE)
        .unwrap();
    prometheus.wait(&firing("IngestDrops"), PATIENCE).unwrap();
    assert!(
        prometheus
            .query(&firing("IngestAgentDown"))
            .unwrap()
            .is_empty()
    );
    rules_are_healthy(&prometheus);
    queries_find_something(&prometheus);
}

/// What Prometheus says of the rules that it has evaluated.
fn rules_are_healthy(prometheus: &Prometheus) {
    let answer = prometheus.api("rules").unwrap();
    let groups = answer["groups"].as_array().unwrap();
    let rules: Vec<_> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert_eq!(rules.len(), alerts().len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    for alert in alerts() {
        prometheus
            .query(&alert.expression)
            .unwrap_or_else(|error| panic!("{}: {error:#}", alert.name));
    }
}

fn queries_find_something(prometheus: &Prometheus) {
    let absent: Vec<_> = OF_A_CLUSTER.into_iter().chain(OF_OTHERS).collect();
    let queries = queries(&dashboard(), "2m");
    for metric in &absent {
        let mut all = queries.iter();
        assert!(all.any(|(_, query)| query.contains(metric)), "{metric}");
    }
    let deadline = Instant::now() + PATIENCE;
    let mut empty = Vec::new();
    for (title, query) in &queries {
        if absent.iter().any(|metric| query.contains(metric)) {
            prometheus
                .query(query)
                .unwrap_or_else(|error| panic!("{title}: {error:#}"));
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if let Err(error) = prometheus.wait(query, left) {
            empty.push(format!("{title}: {error:#}"));
        }
    }
    assert!(empty.is_empty(), "{}", empty.join("\n"));
}
