//! Thresholds of services and routes.

use ingest_common::abi::{OFF, Thresholds};

use super::{check, refused_text};

const GOOD: &str = r#"uplink: eth0
services:
  - name: live/ingest
    vips: [203.0.113.10]
    port: 9000
    protocol: srt
    thresholds: { minBitrate: 2000000, minBitrateFor: 5s, maxLoss: 2%, maxRtt: 40%, stalledAfter: 1m30s }
    backends:
      - { name: live/pod-a, address: 10.0.1.2, port: 9000 }
routes:
  - name: live/acme
    service: live/ingest
    match: [{ resource: { prefix: acme/ } }]
    pool: live/ingest
    thresholds:
      maxLoss: off
      maxRtt: "off"
      stalledAfter: off
  - name: live/other
    service: live/ingest
    match: [{ resource: { prefix: other/ } }]
    pool: live/ingest
    thresholds: {}
"#;

#[test]
fn the_example_is_taken() {
    let desired = check(GOOD).unwrap().desired;
    let expected = Thresholds {
        min_bitrate: 2_000_000,
        min_bitrate_for_ms: 5000,
        stalled_after_ms: 90_000,
        max_loss: 200,
        max_rtt: 40,
    };
    assert_eq!(desired.services[0].thresholds, expected);
    let expected = Thresholds {
        stalled_after_ms: OFF,
        max_loss: OFF,
        max_rtt: OFF,
        ..Default::default()
    };
    assert_eq!(desired.routes[0].thresholds, expected);
    assert_eq!(desired.routes[1].thresholds, Thresholds::default());
}

#[track_caller]
fn refused(from: &str, to: &str, line: u64, reason: &str) {
    assert!(GOOD.contains(from), "{from}");
    refused_text(&GOOD.replacen(from, to, 1), line, reason);
}

#[test]
fn wrong_ones_are_refused_with_their_line() {
    let of = "of service live/ingest; use";
    refused(
        "minBitrate: 2000000",
        "minBitrate: 0",
        7,
        &format!("thresholds.minBitrate 0 {of} 1 to 1000000000000"),
    );
    refused(
        "minBitrateFor: 5s",
        "minBitrateFor: 5",
        7,
        "thresholds.minBitrateFor 5 of",
    );
    refused(
        "minBitrateFor: 5s",
        "minBitrateFor: off",
        7,
        "use 100ms to 1h, for example 5s",
    );
    refused("maxLoss: 2%", "maxLoss: 2.001%", 7, "use 0.01% to 100%");
    refused("maxLoss: 2%", "maxLoss: 2", 7, "use 0.01% to 100%");
    refused("maxRtt: 40%", "maxRtt: 1001%", 7, "use 1% to 1000%");
    refused(
        "stalledAfter: 1m30s",
        "stalledAfter: 2h",
        7,
        "use 100ms to 1h, for example 3s, or off",
    );
    refused(
        "maxLoss: off",
        "maxLoss: never",
        16,
        "thresholds.maxLoss never of route live/acme",
    );
    refused("stalledAfter: off", "stalled: 3s", 18, "stalled");
}

#[test]
fn they_are_of_no_use_without_streams() {
    refused(
        "    pool: live/ingest\n    thresholds:\n",
        "    reject: true\n    thresholds:\n",
        16,
        "remove them",
    );
    let pool = "    vips: [203.0.113.10]\n    port: 9000\n    protocol: srt\n";
    refused(pool, "", 4, "`thresholds` is of no use");
}
