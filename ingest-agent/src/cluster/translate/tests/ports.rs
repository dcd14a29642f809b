//! Which ports, and as what.

use super::*;
use crate::{
    cluster::PROTOCOL_ANNOTATION,
    reconcile::Protocol::{self, Srt, Udp},
};

/// Desired services of these ports: name, port, protocol.
fn steered(ports: &Value, annotation: &str) -> (Vec<(String, u16, Protocol)>, Vec<Condition>) {
    let annotations = json!({ PROTOCOL_ANNOTATION: annotation });
    let endpoints = [endpoint(1, json!({}))];
    let mut world = world(
        json!({ "metadata": { "annotations": annotations }, "spec": { "ports": ports } }),
        &endpoints,
    );
    world.slices = vec![slice(
        "srs",
        json!({ "endpoints": endpoints, "ports": ports }),
    )];
    let services = world.derive().desired.services.into_iter();
    let services = services.map(|s| (s.name, s.port, s.protocol)).collect();
    (services, world.conditions())
}

fn udp(name: &str) -> Value {
    json!({ "name": name, "port": 9000, "protocol": "UDP" })
}

#[test]
fn the_ports_name_says_its_protocol() {
    for (name, expected) in [
        ("srt", Some(Srt)),
        ("srt-ingest", Some(Srt)),
        ("ingest-srt", Some(Srt)),
        ("srt-udp", Some(Srt)),
        ("udp", Some(Udp)),
        ("udp-rist", Some(Udp)),
        ("rist-udp", Some(Udp)),
        ("srtp", None),
        ("assrt", None),
        ("dns", None),
    ] {
        let (services, conditions) = steered(&json!([udp(name)]), "");
        let protocol = services.first().map(|s| s.2);
        assert_eq!(protocol, expected, "{name}");
        assert_eq!(
            conditions.len(),
            usize::from(expected.is_none()),
            "{name}: {conditions:?}"
        );
    }
}

#[test]
fn app_protocol_counts_more_than_the_name() {
    for (text, expected) in [
        ("srt", Some(Srt)),
        ("SRT", Some(Srt)),
        ("ingest.steering.dev/srt", Some(Srt)),
        ("udp", Some(Udp)),
        ("rtmp", None),
        ("example.com/quic", Some(Udp)),
    ] {
        let mut port = udp("udp");
        port["appProtocol"] = json!(text);
        let (services, _) = steered(&json!([port]), "");
        assert_eq!(services.first().map(|s| s.2), expected, "{text}");
    }
}

#[test]
fn the_annotation_counts_most() {
    let ports = json!([
        { "name": "srt", "port": 9000, "protocol": "UDP" },
        { "name": "other", "port": 9001, "protocol": "UDP" },
    ]);
    let both = |a, b| {
        vec![
            ("live/srs:srt".to_owned(), 9000, a),
            ("live/srs:other".to_owned(), 9001, b),
        ]
    };
    assert_eq!(steered(&ports, "udp").0, both(Udp, Udp));
    assert_eq!(steered(&ports, "SRT").0, both(Srt, Srt));
    assert_eq!(steered(&ports, "srt=udp, 9001=srt").0, both(Udp, Srt));
    assert_eq!(steered(&ports, "other=udp").0, both(Srt, Udp));
}

#[test]
fn what_the_annotation_cannot_mean_is_told_and_ignored() {
    let ports = json!([udp("srt"), { "name": "http", "port": 80, "protocol": "TCP" }]);
    for (text, wrong) in [
        ("quic", "quic"),
        ("srt=quic", "srt=quic"),
        ("srt=srt,live=srt", "live=srt"),
        ("http=srt", "http=srt"),
        ("9000=srt,,9001=udp", "9001=udp"),
    ] {
        let (services, conditions) = steered(&ports, text);
        assert_eq!(services, [("live/srs:srt".to_owned(), 9000, Srt)], "{text}");
        let told = conditions.iter().any(
            |c| matches!(c, Condition::Invalid { field: PROTOCOL_ANNOTATION, value, .. } if value == wrong),
        );
        assert!(told, "{text}: {conditions:?}");
    }
}

#[test]
fn what_is_not_steered_is_told() {
    let ports = json!([
        { "name": "rtmp", "port": 1935 },
        { "name": "srt-tcp", "port": 9000, "protocol": "TCP" },
        { "name": "sigtran", "port": 2905, "protocol": "SCTP" },
        { "port": 5353, "protocol": "UDP" },
    ]);
    let (services, conditions) = steered(&ports, "");
    assert!(services.is_empty(), "{services:?}");
    let told: Vec<_> = conditions
        .iter()
        .map(|c| match c {
            Condition::UnsupportedPort { port, reason } => {
                (port.as_str(), reason.split(' ').nth(2).unwrap())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            ("5353", "UDP"),
            ("rtmp", "TCP"),
            ("sigtran", "SCTP"),
            ("srt-tcp", "TCP")
        ]
    );
}

#[test]
fn a_port_without_name_gives_the_service_its_plain_name() {
    let (services, _) = steered(
        &json!([{ "port": 9000, "protocol": "UDP", "appProtocol": "srt" }]),
        "",
    );
    assert_eq!(services, [("live/srs".to_owned(), 9000, Srt)]);
}
