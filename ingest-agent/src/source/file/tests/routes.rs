//! Routes, pools, and what a service says of both.

use super::{super::*, refused_text};
use crate::reconcile::{Handshake, Match, Mode, Quota, Target, Text, What};

/// The format's own example.
const GOOD: &str = r#"uplink: eth0
services:
  - name: live/ingest
    vips: [203.0.113.10]
    port: 9000
    protocol: srt
    handshake: stream
    unrouted: reject
    balance: true
    backends:
      - { name: live/pod-a, address: 10.0.1.2, port: 9000, weight: 3, limit: 200 }
  - name: live/acme
    backends:
      - { name: live/pod-b, address: 10.0.2.2, port: 9000 }
  - { name: live/raw, vips: [203.0.113.11], port: 9000, protocol: udp }
routes:
  - name: live/acme
    service: live/ingest
    match:
      - { resource: { prefix: acme/ }, mode: publish }
      - streamId: { exact: cam1 }
      - { mode: request }
      - { source: 198.51.100.7/24 }
    pool: live/acme
    quota: { streams: 10, sessionsPerSecond: 5, streamBitrate: 20000000, bitrate: 100000000 }
  - name: live/closed
    service: live/ingest
    match: [{ user: { exact: eve } }, { host: { prefix: "" } }]
    reject: true
"#;

fn check(text: &str) -> Result<Snapshot, Error> {
    parse(Path::new("ingest.yaml"), text.as_bytes())
}

#[track_caller]
fn refused(from: &str, to: &str, line: u64, reason: &str) {
    assert!(GOOD.contains(from), "{from}");
    refused_text(&GOOD.replacen(from, to, 1), line, reason);
}

#[test]
fn the_example_is_taken() {
    let snapshot = check(GOOD).unwrap();
    let desired = &snapshot.desired;
    let ingest = &desired.services[0];
    assert_eq!(ingest.handshake, Handshake::Stream);
    assert!(ingest.routed_only && ingest.balance);
    let backend = &ingest.backends[0];
    assert_eq!((backend.weight, backend.limit), (3, Some(200)));
    let pool = &desired.services[1];
    assert!(pool.vips.is_empty() && pool.port == 0);
    assert_eq!((pool.backends[0].weight, pool.backends[0].limit), (1, None));
    let [acme, closed] = &desired.routes[..] else {
        panic!()
    };
    let of = |what, mode| Match { what, mode };
    assert_eq!(
        acme.matches,
        [
            of(
                What::Resource(Text::Prefix("acme/".into())),
                Some(Mode::Publish)
            ),
            of(What::StreamId(Text::Exact("cam1".into())), None),
            of(What::Mode, Some(Mode::Request)),
            of(What::Source("198.51.100.0/24".parse().unwrap()), None),
        ]
    );
    assert_eq!(acme.target, Target::Pool("live/acme".into()));
    assert_eq!(
        acme.quota,
        Quota {
            streams: Some(10),
            sessions_per_second: Some(5),
            stream_bitrate: Some(20_000_000),
            bitrate: Some(100_000_000),
        }
    );
    assert_eq!(closed.target, Target::Reject);
    assert_eq!(closed.quota, Quota::default());
    assert_eq!(snapshot.warnings.len(), 1, "{:?}", snapshot.warnings);
}

#[test]
fn srt_services_have_their_handshakes_answered_unless_they_say_otherwise() {
    let way = |text: &str| check(text).unwrap().desired.services[0].handshake;
    let plain = super::GOOD;
    assert_eq!(way(plain), Handshake::Stream);
    let client = plain.replace("protocol: srt", "protocol: srt\n    handshake: client");
    assert_eq!(way(&client), Handshake::Client);
    assert_eq!(
        way(&plain.replace("protocol: srt", "protocol: udp")),
        Handshake::Client
    );
}

#[test]
fn ways() {
    refused(
        "handshake: stream",
        "handshake: kernel",
        7,
        "unknown handshake of service live/ingest \"kernel\"; use stream or client",
    );
    refused(
        "unrouted: reject",
        "unrouted: drop",
        8,
        "unknown `unrouted` of service live/ingest",
    );
    refused(
        "handshake: stream",
        "handshake: client",
        8,
        "which has no routes",
    );
    refused(
        "protocol: udp }",
        "protocol: udp, handshake: stream }",
        15,
        "udp, which has no handshake",
    );
    refused(
        "protocol: udp }",
        "protocol: udp, balance: true }",
        15,
        "`balance` of service live/raw, which is udp",
    );
    refused("balance: true", "balance: maybe", 9, "");
}

#[test]
fn pools() {
    refused(
        "  - name: live/acme\n",
        "  - name: live/acme\n    port: 9000\n",
        12,
        "has a port and no VIP",
    );
    refused(
        "  - name: live/acme\n",
        "  - name: live/acme\n    vips: [203.0.113.12]\n    protocol: srt\n",
        12,
        "has VIPs and no port",
    );
    refused(
        "    protocol: srt\n",
        "",
        3,
        "service live/ingest has no protocol",
    );
    for (field, value) in [
        ("handshake", "stream"),
        ("unrouted", "reject"),
        ("sourceRanges", "[10.0.0.0/8]"),
    ] {
        refused(
            "  - name: live/acme\n",
            &format!("  - name: live/acme\n    {field}: {value}\n"),
            13,
            &format!("has no VIP, so `{field}`"),
        );
    }
    let unused = GOOD.replace("pool: live/acme", "reject: true");
    let warnings = check(&unused).unwrap().warnings;
    assert!(
        warnings.iter().any(|w| w.contains("no route leads to it")),
        "{warnings:?}"
    );
}

#[test]
fn weights_and_limits() {
    for weight in ["0", "101", "-1"] {
        refused(
            "weight: 3",
            &format!("weight: {weight}"),
            11,
            "weight of backend live/pod-a",
        );
    }
    for limit in ["0", "-1", "4294967296"] {
        refused(
            "limit: 200",
            &format!("limit: {limit}"),
            11,
            "limit of backend live/pod-a",
        );
    }
    refused(
        "protocol: udp }",
        "protocol: udp, backends: [{ name: live/x, address: 10.0.9.9, port: 1, limit: 3 }] }",
        15,
        "limit of backend live/x in service live/raw, which is udp",
    );
    let again = "{ name: live/pod-a, address: 10.0.1.2, port: 9000, limit: 300 }";
    refused(
        "{ name: live/pod-b, address: 10.0.2.2, port: 9000 }",
        again,
        14,
        "has the limit 300 here and 200 at line 11",
    );
    check(&GOOD.replace(
        "{ name: live/pod-b, address: 10.0.2.2, port: 9000 }",
        &again.replace("300", "200"),
    ))
    .unwrap();
}

#[test]
fn names_of_routes() {
    refused(
        "  - name: live/closed",
        "  - name: live/acme",
        26,
        "route live/acme is listed twice (first at line 17)",
    );
    refused(
        "  - name: live/closed",
        "  - name: closed",
        26,
        "not `namespace/name`",
    );
    refused(
        "live/closed\n    service: live/ingest",
        "live/closed\n    service: live/nobody",
        27,
        "route live/closed names service \"live/nobody\", which is not in the file",
    );
    refused(
        "live/closed\n    service: live/ingest",
        "live/closed\n    service: live/raw",
        27,
        "which is udp",
    );
    refused(
        "live/closed\n    service: live/ingest",
        "live/closed\n    service: live/acme",
        27,
        "which has no VIP",
    );
    let client = GOOD
        .replace("handshake: stream", "handshake: client")
        .replace("    unrouted: reject\n", "");
    refused_text(&client, 17, "whose pods answer handshakes");
}

#[test]
fn targets() {
    refused(
        "pool: live/acme",
        "pool: live/nobody",
        24,
        "which is not in the file",
    );
    refused("pool: live/acme", "pool: live/raw", 24, "which is udp");
    refused("    pool: live/acme\n", "", 17, "leads nowhere");
    refused("reject: true", "reject: false", 26, "leads nowhere");
    refused(
        "    pool: live/acme\n",
        "    pool: live/acme\n    reject: true\n",
        24,
        "has a pool and rejects",
    );
    let warnings = check(&GOOD.replace("10.0.2.2", "2001:db8:2::2"))
        .unwrap()
        .warnings;
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("pool live/acme has no IPv4 backend")),
        "{warnings:?}"
    );
}

#[test]
fn matches() {
    let list = "[{ user: { exact: eve } }, { host: { prefix: \"\" } }]";
    refused(list, "[]", 28, "matches nothing");
    let one = |text: &str| format!("[{{ {text} }}]");
    for (wrong, reason) in [
        ("", "asks for nothing"),
        (
            "user: { exact: a }, host: { exact: b }",
            "asks for 2 things",
        ),
        (
            "source: 10.0.0.0/8, user: { exact: a }",
            "asks for 2 things",
        ),
        ("source: 10.0.0.0/8, mode: publish", "a source and a mode"),
        ("source: 10.0.0.0/33", "source of route live/closed"),
        ("source: \"2001:db8::/32\"", "is IPv6, and no VIP"),
        ("mode: bidirectional", "unknown mode of route live/closed"),
        ("user: { exact: \"\" }", "is empty"),
        ("user: { prefix: \"a\\tb\" }", "control characters"),
        ("user: { prefix: a, exact: b }", ""),
        ("user: { suffix: a }", "suffix"),
        ("user: eve", ""),
        ("users: { exact: a }", "users"),
        (
            "resource: { prefix: acme/ }, mode: publish",
            "also one of route live/acme (line 20)",
        ),
        (
            "source: 198.51.100.0/24",
            "also one of route live/acme (line 23)",
        ),
    ] {
        refused(list, &one(wrong), 28, reason);
    }
    let longest = |kind, bytes| one(&format!("user: {{ {kind}: {} }}", "x".repeat(bytes)));
    refused(
        list,
        &longest("exact", 124),
        28,
        "has 124 bytes; at most 123",
    );
    refused(
        list,
        &longest("prefix", 125),
        28,
        "has 125 bytes; at most 124",
    );
    for fits in [
        longest("exact", 123),
        longest("prefix", 124),
        one("resource: { exact: acme/ }, mode: publish"),
        one("resource: { prefix: acme/ }"),
    ] {
        check(&GOOD.replace(list, &fits)).unwrap();
    }
}

#[test]
fn quotas() {
    for (quota, reason) in [
        ("streams: 0", "quota.streams of route live/acme 0; use 1 to"),
        ("streams: 4294967296", "quota.streams"),
        ("sessionsPerSecond: 0", "quota.sessionsPerSecond"),
        ("sessionsPerSecond: 1000001", "quota.sessionsPerSecond"),
        ("streamBitrate: 15999", "quota.streamBitrate"),
        ("bitrate: -1", "use 16000 to 1000000000000 bits a second"),
        ("bitrate: 20M", ""),
        ("bits: 1", "bits"),
    ] {
        refused("streams: 10,", &format!("{quota} }}\n#"), 25, reason);
    }
}

#[test]
fn too_many() {
    use std::fmt::Write as _;
    let mut text = GOOD.to_owned();
    for i in 0..4093 {
        writeln!(
            text,
            "  - {{ name: live/r{i}, service: live/ingest, match: [user: {{ exact: u{i} }}], reject: true }}"
        )
        .unwrap();
    }
    check(&text).unwrap();
    let line = text.lines().count() as u64 + 1;
    text += "  - { name: live/more, service: live/ingest, match: [user: { exact: more }], reject: true }\n";
    refused_text(&text, line, "more than 4095 routes");
}
