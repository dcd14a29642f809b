//! Endpoints that leave one slice, and perhaps come to another.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Following, follow};
use crate::cluster::{
    mock::{Scene, pod, slice},
    watch::departed::GRACE,
};

/// The second slice of Service `a`.
fn second(version: u32, pods: &[&str]) -> Value {
    let mut second = slice("a", version, pods);
    second["metadata"]["name"] = "a-2".into();
    second
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_moved_keeps_its_sessions() {
    let mut scene = Scene::new();
    let Following {
        slices: mut watch,
        services: _services,
        pods: _pods,
    } = follow(&mut scene).await;
    watch.say("MODIFIED", &slice("a", 40, &["two"])).await;
    assert_eq!(scene.backends().await, ["-live/one", "live/two"]);
    watch.say("ADDED", &second(41, &["one"])).await;
    assert_eq!(scene.backends().await, ["live/one", "live/two"]);
    assert!(scene.is_silent(Duration::from_secs(5)).await);
    // Back, by the deletion of a slice.
    watch.say("DELETED", &second(42, &["one"])).await;
    assert_eq!(scene.backends().await, ["-live/one", "live/two"]);
    watch
        .say("MODIFIED", &slice("a", 43, &["one", "two"]))
        .await;
    assert_eq!(scene.backends().await, ["live/one", "live/two"]);
    assert!(scene.is_silent(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_left_is_gone_after_a_moment() {
    let mut scene = Scene::new();
    let Following {
        slices: mut watch,
        services: _services,
        pods: _pods,
    } = follow(&mut scene).await;
    let began = Instant::now();
    watch.say("MODIFIED", &slice("a", 40, &["two"])).await;
    assert_eq!(scene.backends().await, ["-live/one", "live/two"]);
    assert_eq!(scene.backends().await, ["live/two"]);
    assert!((GRACE..GRACE * 2).contains(&began.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_left_with_its_pod_is_gone_at_once() {
    let mut scene = Scene::new();
    let Following {
        slices: mut watch,
        services: _services,
        mut pods,
    } = follow(&mut scene).await;
    let began = Instant::now();
    watch.say("MODIFIED", &slice("a", 40, &["two"])).await;
    assert_eq!(scene.backends().await, ["-live/one", "live/two"]);
    pods.say("DELETED", &pod("one", 41, true)).await;
    assert_eq!(scene.backends().await, ["live/two"]);
    assert!(began.elapsed() < GRACE / 2);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_serves_no_more_has_no_grace() {
    let mut scene = Scene::new();
    let Following {
        slices: mut watch,
        services: _services,
        pods: _pods,
    } = follow(&mut scene).await;
    let mut dead = slice("a", 40, &["one", "two"]);
    dead["endpoints"][0]["conditions"] =
        serde_json::json!({ "ready": false, "serving": false, "terminating": false });
    watch.say("MODIFIED", &dead).await;
    assert_eq!(scene.backends().await, ["live/two"]);
    // What was dead already leaves nothing behind.
    watch.say("MODIFIED", &slice("a", 41, &["two"])).await;
    assert!(scene.is_silent(Duration::from_secs(5)).await);
}
