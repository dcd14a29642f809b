//! What annotations of Services and Pods change.

use ingest_common::abi;

use super::*;
use crate::reconcile::Handshake;

#[test]
fn annotations_choose_how_a_service_is_steered() {
    let of = |annotations: Value| {
        let annotated = json!({ "metadata": { "annotations": annotations } });
        let world = world(annotated, &[endpoint(1, json!({}))]);
        let service = world.derive().desired.services.remove(0);
        (
            (service.handshake, service.routed_only, service.balance),
            world.conditions().len(),
        )
    };
    assert_eq!(of(json!({})), ((Handshake::Stream, false, false), 0));
    let all = json!({
        "ingest.steering.dev/handshake": "client",
        "ingest.steering.dev/unrouted": "reject",
        "ingest.steering.dev/balance": "true",
    });
    assert_eq!(of(all), ((Handshake::Client, true, true), 0));
    let wrong = json!({
        "ingest.steering.dev/handshake": "kernel",
        "ingest.steering.dev/unrouted": "drop",
        "ingest.steering.dev/balance": "yes",
    });
    assert_eq!(of(wrong), ((Handshake::Stream, false, false), 3));
}

/// What is wrong is told and left out, the rest counts, and the Service is steered all the same.
#[test]
fn an_annotation_gives_thresholds() {
    let of = |text: &str| {
        let annotated =
            json!({ "metadata": { "annotations": { "ingest.steering.dev/thresholds": text } } });
        let world = world(annotated, &[endpoint(1, json!({}))]);
        let thresholds = world.derive().desired.services.remove(0).thresholds;
        (thresholds, world.conditions())
    };
    let expected = abi::Thresholds {
        min_bitrate: 2_000_000,
        max_loss: 200,
        ..Default::default()
    };
    let (thresholds, conditions) = of("minBitrate=2000000,maxLoss=2%");
    assert_eq!((thresholds, conditions.len()), (expected, 0));
    let (thresholds, conditions) = of("minBitrate=2000000, maxLoss=2%, maxRtt=0%, stalled=3s");
    assert_eq!((thresholds, conditions.len()), (expected, 2));
    let field = "ingest.steering.dev/thresholds";
    assert!(conditions.contains(&Condition::Invalid {
        field,
        value: "maxRtt=0%".to_owned(),
        reason: "use 1% to 1000% of the latency, in whole percent, or off",
    }));
}

#[test]
fn annotations_of_a_pod_are_its_weight_and_limit() {
    let of = |annotations: Value| {
        let mut world = world(json!({}), &[endpoint(1, json!({}))]);
        let pod = pod(1, json!({ "metadata": { "annotations": annotations } }));
        world.pods.applied(&pod, std::time::Instant::now());
        let backend = world.derive().desired.services.remove(0).backends.remove(0);
        ((backend.weight, backend.limit), world.conditions().len())
    };
    assert_eq!(of(json!({})), ((1, None), 0));
    let weight = |text: &str| json!({ "ingest.steering.dev/weight": text });
    assert_eq!(of(weight("100")), ((100, None), 0));
    assert_eq!(of(weight("101")), ((1, None), 1));
    assert_eq!(of(weight("0")), ((1, None), 1));
    let limit = |text: &str| json!({ "ingest.steering.dev/session-limit": text });
    assert_eq!(of(limit("40")), ((1, Some(40)), 0));
    assert_eq!(of(limit("many")), ((1, None), 1));
    assert_eq!(of(limit("0")), ((1, None), 1));
}
