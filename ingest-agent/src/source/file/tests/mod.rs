//! Every way a file can be wrong, with the line it is said of.

mod routes;
mod thresholds;

use std::{fmt::Write as _, net::IpAddr, path::Path};

use super::*;
use crate::reconcile::Protocol;

/// The format's own example.
pub(super) const GOOD: &str = r#"uplink: eth0
services:
  - name: live/srt
    vips: [203.0.113.10, "2001:db8::10"]
    port: 9000
    protocol: srt
    sourceRanges: []
    backends:
      - { name: live/pod-a, address: 10.0.1.2, port: 9000 }
      - { name: live/pod-b, address: 10.0.2.2, port: 9000, serving: true, terminating: true }
      - { name: live/pod-c, address: 10.0.3.2, port: 9000, serving: false }
      - { name: live/pod-d, address: 10.0.4.2, port: 9000, serving: false, terminating: true }
"#;

fn check(text: &str) -> Result<Snapshot, Error> {
    parse(Path::new("ingest.yaml"), text.as_bytes())
}

#[test]
fn the_example_is_taken() {
    let snapshot = check(GOOD).unwrap();
    assert_eq!(snapshot.uplinks, ["eth0"]);
    let [service] = &snapshot.desired.services[..] else {
        panic!()
    };
    assert_eq!((service.name.as_str(), service.port), ("live/srt", 9000));
    assert_eq!(service.protocol, Protocol::Srt);
    let vips: [IpAddr; 2] = [
        "203.0.113.10".parse().unwrap(),
        "2001:db8::10".parse().unwrap(),
    ];
    assert_eq!(service.vips, vips);
    let backends: Vec<_> = service
        .backends
        .iter()
        .map(|b| (b.name.as_str(), b.draining))
        .collect();
    assert_eq!(
        backends,
        [("live/pod-a", false), ("live/pod-b", true)],
        "what does not serve is not listed"
    );
    assert_eq!(snapshot.warnings.len(), 1, "{:?}", snapshot.warnings);
    assert!(snapshot.warnings[0].contains("IPv6 VIP but no IPv6 backend"));
}

#[test]
fn uplinks_may_be_a_list_and_services_may_be_none() {
    let snapshot = check("uplink: [eth0, eth1]\nservices: []\n").unwrap();
    assert_eq!(snapshot.uplinks, ["eth0", "eth1"]);
    assert_eq!(snapshot.desired.services, []);
}

#[test]
fn ranges_are_networks_of_the_vips_families() {
    let text = GOOD.replace(
        "sourceRanges: []",
        "sourceRanges: [198.51.100.77/24, 198.51.100.0/24]",
    );
    let snapshot = check(&text).unwrap();
    assert_eq!(
        snapshot.desired.services[0].source_ranges,
        ["198.51.100.0/24".parse().unwrap()]
    );
    assert!(
        snapshot
            .warnings
            .iter()
            .any(|w| w.contains("no IPv6 source range"))
    );
}

/// `from` → `to` in [`GOOD`] must be refused at `line`, in words that hold `reason`.
#[track_caller]
fn refused(from: &str, to: &str, line: u64, reason: &str) {
    assert!(GOOD.contains(from), "{from}");
    refused_text(&GOOD.replacen(from, to, 1), line, reason);
}

#[track_caller]
fn refused_text(text: &str, line: u64, reason: &str) {
    let error = check(text).expect_err(reason);
    let Error::Invalid { problems, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        problems
            .iter()
            .any(|p| p.line == line && p.reason.contains(reason)),
        "line {line}, {reason:?} expected:\n{error}"
    );
    assert!(
        error.to_string().contains(&format!("ingest.yaml:{line}: ")),
        "{error}"
    );
    let shown = error.to_string();
    let separators = [';', ':'];
    assert!(
        shown.lines().all(|l| l.contains(separators)),
        "a remedy is given: {shown}"
    );
}

#[test]
fn malformed_yaml() {
    refused("port: 9000\n", "port: [9000\n", 5, "");
    refused("    port: 9000\n", "   port: 9000\n", 5, "block collection");
    refused_text("uplink: eth0\n", 1, "services");
    refused_text("services: []\n", 1, "uplink");
    refused(
        "protocol: srt",
        "protocol: srt\n    protocol: udp",
        7,
        "duplicate",
    );
    refused("sourceRanges", "sourceRange", 7, "sourceRange");
    refused("serving: true", "servin: true", 10, "servin");
    refused("serving: true", "serving: maybe", 10, "");
    refused("port: 9000\n", "port: srt\n", 5, "");
}

#[test]
fn an_empty_file_is_no_empty_state() {
    assert!(check("").is_err());
    assert!(check("# nothing yet\n").is_err());
}

#[test]
fn protocols() {
    refused(
        "protocol: srt",
        "protocol: rtmp",
        6,
        "rtmp of service live/srt is not yet supported",
    );
    refused(
        "protocol: srt",
        "protocol: tcp",
        6,
        "tcp of service live/srt is not yet supported",
    );
    refused(
        "protocol: srt",
        "protocol: quic",
        6,
        "unknown protocol \"quic\"",
    );
}

#[test]
fn uplinks() {
    refused("uplink: eth0", "uplink: []", 1, "no uplink");
    refused(
        "uplink: eth0",
        "uplink: \"\"",
        1,
        "cannot be an interface name",
    );
    refused(
        "uplink: eth0",
        "uplink: ../eth0",
        1,
        "cannot be an interface name",
    );
    refused(
        "uplink: eth0",
        "uplink: interface-name-x",
        1,
        "cannot be an interface name",
    );
    refused("uplink: eth0", "uplink: [eth0, eth0]", 1, "listed twice");
    refused(
        "uplink: eth0",
        "uplink: [a, b, c, d, e, f, g, h, i]",
        1,
        "more than 8 uplinks",
    );
}

#[test]
fn names() {
    refused("name: live/srt", "name: srt", 3, "not `namespace/name`");
    refused("name: live/srt", "name: live/", 3, "not `namespace/name`");
    refused("name: live/srt", "name: a/b/c", 3, "not `namespace/name`");
    refused(
        "name: live/srt",
        "name: \"live/s rt\"",
        3,
        "not `namespace/name`",
    );
    refused(
        "name: live/srt",
        &format!("name: live/{}", "x".repeat(124)),
        3,
        "129 bytes",
    );
    refused(
        "name: live/pod-b",
        "name: pod-b",
        10,
        "backend name \"pod-b\"",
    );
}

#[test]
fn ports() {
    refused(
        "    port: 9000\n",
        "    port: 0\n",
        5,
        "port 0 of service live/srt",
    );
    refused("    port: 9000\n", "    port: 65536\n", 5, "port 65536");
    refused(
        "10.0.1.2, port: 9000",
        "10.0.1.2, port: 0",
        9,
        "port 0 of backend live/pod-a",
    );
    refused("10.0.1.2, port: 9000", "10.0.1.2, port: -1", 9, "port -1");
}

#[test]
fn vips() {
    refused("[203.0.113.10, \"2001:db8::10\"]", "[]", 4, "has no VIP");
    refused("203.0.113.10", "203.0.113", 4, "VIP \"203.0.113\"");
    refused("203.0.113.10", "0.0.0.0", 4, "unspecified");
    refused("203.0.113.10", "224.0.0.1", 4, "multicast");
    refused("203.0.113.10", "127.0.0.1", 4, "loopback");
    refused("203.0.113.10", "255.255.255.255", 4, "broadcast");
    refused("2001:db8::10", "::1", 4, "loopback");
    refused("2001:db8::10", "ff02::1", 4, "multicast");
    refused("2001:db8::10", "::ffff:203.0.113.11", 4, "IPv4-mapped");
    refused(
        "203.0.113.10, \"2001:db8::10\"",
        "203.0.113.10, 203.0.113.10",
        4,
        "already taken by live/srt",
    );
    refused(
        "203.0.113.10",
        "10.0.2.2",
        4,
        "also the address of backend live/pod-b",
    );
}

#[test]
fn duplicates() {
    let second = "  - { name: live/other, vips: [203.0.113.10], port: 9000, protocol: udp }\n";
    refused_text(
        &format!("{GOOD}{second}"),
        13,
        "already taken by live/srt (line 4)",
    );
    let second = "  - { name: live/srt, vips: [203.0.113.11], port: 9000, protocol: udp }\n";
    refused_text(
        &format!("{GOOD}{second}"),
        13,
        "listed twice (first at line 3)",
    );
    let other_port = second
        .replace("live/srt", "live/other")
        .replace("203.0.113.11], port: 9000", "203.0.113.10], port: 9001");
    check(&format!("{GOOD}{other_port}")).unwrap();
    refused(
        "10.0.2.2",
        "10.0.1.2",
        10,
        "listed twice in service live/srt (first at line 9)",
    );
}

#[test]
fn one_pod_has_one_name() {
    let second = "  - { name: live/b, vips: [203.0.113.11], port: 9000, protocol: udp,
      backends: [{ name: live/pod-x, address: 10.0.1.2, port: 9000 }] }\n";
    refused_text(
        &format!("{GOOD}{second}"),
        14,
        "named live/pod-x here and live/pod-a at line 9",
    );
    let same = second.replace("pod-x", "pod-a");
    check(&format!("{GOOD}{same}")).unwrap();
}

#[test]
fn backends() {
    refused(
        "10.0.1.2",
        "10.0.1.256",
        9,
        "backend address \"10.0.1.256\"",
    );
    refused("10.0.1.2", "127.0.0.1", 9, "loopback");
    refused("10.0.1.2", "0.0.0.0", 9, "unspecified");
    refused("10.0.1.2", "239.1.1.1", 9, "multicast");
}

#[test]
fn families_are_not_mixed_up() {
    let v4_only = GOOD.replace(", \"2001:db8::10\"", "");
    refused_text(
        &v4_only.replace("address: 10.0.1.2", "address: \"2001:db8:1::2\""),
        9,
        "backend live/pod-a (2001:db8:1::2) is IPv6, and no VIP",
    );
    refused_text(
        &v4_only.replace(
            "sourceRanges: []",
            "sourceRanges:\n      - 198.51.100.0/24\n      - \"2001:db8::/32\"",
        ),
        9,
        "source range 2001:db8::/32 of service live/srt is IPv6",
    );
    refused(
        "sourceRanges: []",
        "sourceRanges: [198.51.100.0/33]",
        7,
        "source range",
    );
}

/// A service of `count` backends from 10.`second`.0.1 on, its first backend on the third line after `name`.
fn large(name: &str, vip: &str, second: u8, count: usize) -> String {
    let mut text = format!(
        "  - name: {name}\n    vips: [{vip}]\n    port: 9000\n    protocol: udp\n    backends:\n"
    );
    for i in 0..count {
        let address = format!("10.{second}.{}.{}", i / 200, i % 200 + 1);
        writeln!(
            text,
            "      - {{ name: {name}-{i}, address: {address}, port: 9000 }}"
        )
        .unwrap();
    }
    text
}

#[test]
fn too_many() {
    let head = "uplink: eth0\nservices:\n";
    let fits = format!("{head}{}", large("live/a", "203.0.113.1", 0, 1024));
    check(&fits).unwrap();
    let over = format!("{head}{}", large("live/a", "203.0.113.1", 0, 1025));
    refused_text(
        &over,
        2 + 5 + 1025,
        "more than 1024 IPv4 backends in service live/a",
    );

    let mut node = head.to_owned();
    for i in 0..4 {
        node += &large(
            &format!("live/s{i}"),
            &format!("203.0.113.{}", i + 1),
            i,
            1024,
        );
    }
    check(&node).unwrap();
    let line = node.lines().count() as u64 + 5 + 1;
    node += &large("live/s4", "203.0.113.5", 4, 1);
    refused_text(&node, line, "more than 4096 backends on the node");

    let mut services = head.to_owned();
    for i in 0..256 {
        writeln!(
            services,
            "  - {{ name: live/s{i}, vips: [203.0.113.1, 203.0.113.2, 203.0.113.3, 203.0.113.4], \
             port: {}, protocol: srt }}",
            i + 1
        )
        .unwrap();
    }
    check(&services).unwrap();
    services += "  - { name: live/more, vips: [203.0.113.1], port: 1000, protocol: srt }\n";
    refused_text(&services, 259, "more than 1024 VIP:ports");

    let mut pools = head.to_owned();
    for i in 0..512 {
        writeln!(
            pools,
            "  - {{ name: live/s{i}, vips: [203.0.113.1], port: {}, protocol: srt }}",
            i + 1
        )
        .unwrap();
    }
    check(&pools).unwrap();
    pools += "  - { name: live/more, vips: [203.0.113.1], port: 1000, protocol: srt }\n";
    refused_text(&pools, 515, "more than 512 pools");
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let text = GOOD
        .replace("protocol: srt", "protocol: tcp")
        .replace("10.0.1.2", "10.0.1.x");
    let shown = check(&text).unwrap_err().to_string();
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(
        shown.starts_with("ingest.yaml:6: "),
        "in the order of lines: {shown}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = read(Path::new("/nonexistent/ingest.yaml")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ingest.yaml"));
}
