//! What a real API server cannot be made to do, done by a mocked one. The clock is paused: waits take no time.

mod faults;
mod moves;
mod routes;
mod selectors;

use serde_json::json;

use crate::cluster::mock::{NODE, Scene, Watch, next, pod, service, slice};

/// The open watches of a source that follows Service `a` with ready pods `one` and `two`.
struct Following {
    services: Watch,
    slices: Watch,
    pods: Watch,
}

/// The versions of the three lists.
const SERVICES: u32 = 10;
const SLICES: u32 = 20;
const PODS: u32 = 30;

async fn follow(scene: &mut Scene) -> Following {
    let server = &mut scene.server;
    next(&mut server.services)
        .await
        .list(SERVICES, &[service("a", 1)]);
    next(&mut server.pods)
        .await
        .list(PODS, &[pod("one", 3, true), pod("two", 4, true)]);
    next(&mut server.slices)
        .await
        .list(SLICES, &[slice("a", 2, &["one", "two"])]);
    let following = Following {
        services: next(&mut server.services).await.watch(SERVICES),
        slices: next(&mut server.slices).await.watch(SLICES),
        pods: next(&mut server.pods).await.watch(PODS),
    };
    assert_eq!(scene.backends().await, ["live/one", "live/two"]);
    following
}

#[tokio::test(start_paused = true)]
async fn each_kind_is_asked_for_as_the_role_allows() {
    let mut scene = Scene::new();
    let call = next(&mut scene.server.services).await;
    assert_eq!(call.path, "/api/v1/services");
    assert_eq!(call.query["limit"], "500");
    // Whatever is current, and nothing older.
    assert!(!call.query.contains_key("resourceVersion"));
    call.list(1, &[service("a", 1)]);
    let call = next(&mut scene.server.services).await;
    assert_eq!(call.query["timeoutSeconds"], "30");
    assert_eq!(call.query["allowWatchBookmarks"], "true");
    let call = next(&mut scene.server.pods).await;
    assert_eq!(call.path, "/api/v1/pods");
    assert_eq!(call.query["fieldSelector"], format!("spec.nodeName={NODE}"));
    let call = next(&mut scene.server.slices).await;
    assert_eq!(call.path, "/apis/discovery.k8s.io/v1/endpointslices");
    assert_eq!(
        call.query["labelSelector"].replace(' ', ""),
        "kubernetes.io/service-namein(a)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_may_come_in_pages() {
    let mut scene = Scene::new();
    let page = json!({
        "apiVersion": "v1", "kind": "List", "items": [service("a", 1)],
        "metadata": { "resourceVersion": "9", "continue": "more" },
    });
    next(&mut scene.server.services)
        .await
        .text(200, &page.to_string());
    let call = next(&mut scene.server.services).await;
    assert_eq!(call.query["continue"], "more");
    call.list(9, &[service("b", 2)]);
    let call = next(&mut scene.server.slices).await;
    assert!(call.query["labelSelector"].contains("(a,b)"));
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_changes_is_an_update_with_its_time() {
    let mut scene = Scene::new();
    let mut watches = follow(&mut scene).await;
    watches
        .slices
        .say("MODIFIED", &slice("a", 21, &["one"]))
        .await;
    let update = scene.update().await;
    assert_eq!(
        crate::cluster::mock::backends(&update),
        ["-live/two", "live/one"]
    );
    assert_eq!(update.triggered.len(), 1);
    assert_eq!(scene.backends().await, ["live/one"]);
    // Nothing that the maps would show: no update.
    watches
        .slices
        .say("MODIFIED", &slice("a", 22, &["one"]))
        .await;
    assert!(scene.is_silent(std::time::Duration::from_secs(20)).await);
}

#[tokio::test(start_paused = true)]
async fn a_pod_goes_down_before_its_slice_says_so() {
    let mut scene = Scene::new();
    let mut watches = follow(&mut scene).await;
    watches.pods.say("MODIFIED", &pod("one", 31, false)).await;
    assert_eq!(scene.backends().await, ["-live/one", "live/two"]);
    watches.pods.say("DELETED", &pod("one", 32, false)).await;
    assert_eq!(scene.backends().await, ["live/two"]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_run_loop_gets_the_newest_state() {
    let mut scene = Scene::new();
    let mut watches = follow(&mut scene).await;
    for version in 21..40 {
        let pods: &[&str] = if version % 2 == 0 { &["one"] } else { &["two"] };
        watches
            .slices
            .say("MODIFIED", &slice("a", version, pods))
            .await;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    // One was on its way, the last waited.
    let (first, last) = (scene.update().await, scene.update().await);
    for update in [&first, &last] {
        let backends = crate::cluster::mock::backends(update);
        assert_eq!(backends, ["-live/one", "live/two"]);
    }
    assert!(last.triggered.len() > 10, "{}", last.triggered.len());
}
