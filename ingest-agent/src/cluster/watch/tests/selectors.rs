//! Which slices are watched follows which Services are claimed.

use std::time::Duration;

use serde_json::json;

use super::{SLICES, follow};
use crate::cluster::mock::{Scene, backends, next, service, slice};

/// Names of the services of the next state.
async fn services(scene: &mut Scene) -> Vec<String> {
    let update = scene.update().await;
    let services = &update.snapshot.desired.services;
    services
        .iter()
        .map(|service| service.name.clone())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_claimed_means_no_slices_asked_for() {
    let mut scene = Scene::new();
    let mut unclaimed = service("a", 1);
    unclaimed["metadata"]["labels"] = json!({});
    next(&mut scene.server.services)
        .await
        .list(10, &[unclaimed]);
    next(&mut scene.server.pods).await.list(30, &[]);
    assert!(scene.update().await.snapshot.desired.services.is_empty());
    assert!(scene.server.slices.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_new_service_comes_with_its_backends_and_the_old_ones_go_on_meanwhile() {
    let mut scene = Scene::new();
    let mut watches = follow(&mut scene).await;
    watches.services.say("ADDED", &service("b", 11)).await;
    let list = next(&mut scene.server.slices).await;
    assert!(list.query["labelSelector"].contains("(a,b)"));
    // The API server takes its time. The old watch still tells.
    assert!(scene.is_silent(Duration::from_secs(10)).await);
    watches
        .slices
        .say("MODIFIED", &slice("a", 21, &["one"]))
        .await;
    let update = scene.update().await;
    assert_eq!(backends(&update), ["-live/two", "live/one"]);
    assert_eq!(scene.backends().await, ["live/one"]);
    assert_eq!(update.snapshot.desired.services.len(), 1);
    // The new one: never without its backends.
    list.list(40, &[slice("a", 21, &["one"]), slice("b", 22, &["three"])]);
    let update = scene.update().await;
    assert_eq!(update.snapshot.desired.services.len(), 2);
    assert_eq!(backends(&update), ["live/one", "live/three"]);
    assert!(update.triggered.is_empty(), "nothing has changed just now");
    let mut watch = next(&mut scene.server.slices).await.watch(40);
    watch
        .say("MODIFIED", &slice("b", 41, &["three", "four"]))
        .await;
    let update = scene.update().await;
    assert_eq!(update.triggered.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_given_up_is_gone_at_once() {
    let mut scene = Scene::new();
    let mut watches = follow(&mut scene).await;
    watches.services.say("ADDED", &service("b", 11)).await;
    next(&mut scene.server.slices)
        .await
        .list(40, &[slice("a", 2, &["one"]), slice("b", 3, &["three"])]);
    assert_eq!(services(&mut scene).await.len(), 2);
    let mut unclaimed = service("b", 12);
    unclaimed["metadata"]["labels"] = json!({});
    watches.services.say("MODIFIED", &unclaimed).await;
    assert_eq!(services(&mut scene).await.len(), 1);
    // And with the last one the watch.
    watches.services.say("DELETED", &service("a", 13)).await;
    assert!(services(&mut scene).await.is_empty());
    while let Ok(call) = scene.server.slices.try_recv() {
        drop(call);
    }
    assert!(scene.is_silent(Duration::from_mins(1)).await);
    assert!(scene.server.slices.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_comes_and_goes_again_changes_nothing() {
    let mut scene = Scene::new();
    let mut watches = follow(&mut scene).await;
    watches.services.say("ADDED", &service("b", 11)).await;
    let hanging = next(&mut scene.server.slices).await;
    watches.services.say("DELETED", &service("b", 12)).await;
    assert!(scene.is_silent(Duration::from_secs(20)).await);
    drop(hanging);
    // The old watch was never left.
    watches
        .slices
        .say("MODIFIED", &slice("a", SLICES + 1, &["two"]))
        .await;
    assert_eq!(scene.backends().await, ["-live/one", "live/two"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_state_waits_for_slices() {
    let mut scene = Scene::new();
    next(&mut scene.server.services)
        .await
        .list(10, &[service("a", 1)]);
    next(&mut scene.server.pods).await.list(30, &[]);
    let hanging = next(&mut scene.server.slices).await;
    assert!(scene.is_silent(Duration::from_secs(30)).await);
    hanging.list(SLICES, &[slice("a", 2, &["one"])]);
    assert_eq!(scene.backends().await, ["live/one"]);
}
