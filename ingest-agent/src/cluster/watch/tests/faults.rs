//! Servers that lie, break off, refuse, and say nothing.

use std::time::Duration;

use serde_json::json;
use tokio::time::{self, Instant};

use super::{Following, PODS, SERVICES, SLICES, follow};
use crate::cluster::{
    mock::{Scene, next, pod, service, slice},
    watch::resource::DOUBT,
};

#[tokio::test(start_paused = true)]
async fn after_410_a_vanished_slice_is_gone_and_a_present_one_is_not() {
    let mut scene = Scene::new();
    let Following {
        slices: mut watch,
        services: _services,
        pods: _pods,
    } = follow(&mut scene).await;
    watch.refuse(410).await;
    let relist = next(&mut scene.server.slices).await;
    assert!(!relist.is_watch());
    // Until the answer is here, what was known stands.
    assert!(scene.is_silent(Duration::from_secs(20)).await);
    relist.list(50, &[slice("a", 45, &["two"])]);
    let update = scene.update().await;
    assert_eq!(crate::cluster::mock::backends(&update), ["live/two"]);
    assert_eq!(update.triggered.len(), 1);
    let _watch = next(&mut scene.server.slices).await.watch(50);
}

#[tokio::test(start_paused = true)]
async fn http_410_is_answered_with_a_list_too() {
    let mut scene = Scene::new();
    let Following {
        slices: watch,
        services: _services,
        pods: _pods,
    } = follow(&mut scene).await;
    drop(watch);
    next(&mut scene.server.slices).await.refuse(410);
    next(&mut scene.server.slices)
        .await
        .list(50, &[slice("a", 45, &["one"])]);
    assert_eq!(scene.backends().await, ["live/one"]);
}

#[tokio::test(start_paused = true)]
async fn pods_that_vanished_meanwhile_are_down() {
    let mut scene = Scene::new();
    let Following {
        pods: mut watch,
        services: _services,
        slices: _slices,
    } = follow(&mut scene).await;
    watch.refuse(410).await;
    next(&mut scene.server.pods)
        .await
        .list(60, &[pod("two", 4, true)]);
    assert_eq!(scene.backends().await, ["live/two"]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_goes_on_where_it_was() {
    let mut scene = Scene::new();
    let Following {
        slices: mut watch,
        services: _services,
        pods: _pods,
    } = follow(&mut scene).await;
    watch.bookmark(44).await;
    time::sleep(Duration::from_secs(2)).await;
    watch.break_off();
    let mut watch = next(&mut scene.server.slices).await.watch(44);
    watch.say("MODIFIED", &slice("a", 45, &["one"])).await;
    assert_eq!(scene.backends().await, ["-live/two", "live/one"]);
    assert_eq!(scene.backends().await, ["live/one"]);
    // Its time is over.
    time::sleep(Duration::from_secs(30)).await;
    drop(watch);
    let _watch = next(&mut scene.server.slices).await.watch(45);
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_not_made_at_once() {
    let mut scene = Scene::new();
    let Following {
        slices: watch,
        services: _services,
        pods: _pods,
    } = follow(&mut scene).await;
    drop(watch);
    let began = Instant::now();
    for _ in 0..10 {
        drop(next(&mut scene.server.slices).await.watch(SLICES));
    }
    assert!(
        began.elapsed() > Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_asked_for_again_and_changes_nothing() {
    let mut scene = Scene::new();
    let Following {
        slices: mut watch,
        services: _services,
        pods: _pods,
    } = follow(&mut scene).await;
    watch
        .line(r#"{"type":"MODIFIED","object":{"metadata":7}}"#)
        .await;
    // What the line said is not known, so all has to be asked for.
    for nonsense in [
        r#"{"kind":"List","metadata":{"resourceVersion":"50"},"items":[{"metadata":7}]}"#,
        r#"{"kind":"List","metadata":{"resourceVersion":"50"},"items":[{"metadata"#,
        r#"{"kind":"List","metadata":{},"items":[]}"#,
        r#"{"kind":"List","metadata":{"resourceVersion":"50"},"items":[{"metadata":{},"addressType":"IPv4"}]}"#,
        "{}",
        "<html>Sign in</html>",
        "",
    ] {
        let call = next(&mut scene.server.slices).await;
        assert!(!call.is_watch());
        call.text(200, nonsense);
    }
    let call = next(&mut scene.server.slices).await;
    assert!(scene.is_silent(Duration::from_millis(1)).await);
    call.list(50, &[slice("a", 45, &["one"])]);
    assert_eq!(scene.backends().await, ["live/one"]);
    assert_eq!(scene.metrics.watch_errors_of("endpointslices", "decode"), 8);
}

#[tokio::test(start_paused = true)]
async fn an_event_without_a_version_is_not_believed() {
    let mut scene = Scene::new();
    let mut watches = follow(&mut scene).await;
    let mut nameless = slice("a", 21, &[]);
    nameless["metadata"]["resourceVersion"] = json!("");
    watches.slices.say("MODIFIED", &nameless).await;
    let call = next(&mut scene.server.slices).await;
    assert!(!call.is_watch());
    assert!(scene.is_silent(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn refused_lists_are_repeated_ever_more_slowly() {
    let mut scene = Scene::new();
    let began = Instant::now();
    for code in [500, 503, 429, 401, 403, 500, 500, 500, 500] {
        next(&mut scene.server.services).await.refuse(code);
    }
    next(&mut scene.server.services)
        .await
        .list(SERVICES, &[service("a", 1)]);
    let took = began.elapsed();
    assert!(
        (Duration::from_secs(8)..Duration::from_secs(16)).contains(&took),
        "{took:?}"
    );
    for (kind, count) in [
        ("server", 6),
        ("throttled", 1),
        ("unauthorized", 1),
        ("forbidden", 1),
    ] {
        assert_eq!(
            scene.metrics.watch_errors_of("services", kind),
            count,
            "{kind}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn forbidden_pods_are_done_without() {
    let mut scene = Scene::new();
    let server = &mut scene.server;
    let mut pods = std::mem::replace(&mut server.pods, tokio::sync::mpsc::unbounded_channel().1);
    let refusing = tokio::spawn(async move {
        for _ in 0..20 {
            next(&mut pods).await.refuse(403);
        }
        // Someone has given the right at last.
        next(&mut pods).await.list(PODS, &[pod("one", 3, false)]);
        pods
    });
    next(&mut server.services)
        .await
        .list(SERVICES, &[service("a", 1)]);
    next(&mut server.slices)
        .await
        .list(SLICES, &[slice("a", 2, &["one", "two"])]);
    let began = Instant::now();
    assert_eq!(scene.backends().await, ["live/one", "live/two"]);
    assert!(began.elapsed() >= Duration::from_secs(5));
    assert_eq!(scene.backends().await, ["-live/one", "live/two"]);
    refusing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_asked_again() {
    let mut scene = Scene::new();
    // A list that never ends, a watch that is never begun, one that says nothing.
    let hanging = next(&mut scene.server.services).await;
    let began = Instant::now();
    let call = next(&mut scene.server.services).await;
    assert!(began.elapsed() < Duration::from_secs(42));
    call.list(SERVICES, &[]);
    let hanging_watch = next(&mut scene.server.services).await;
    let began = Instant::now();
    let silent = next(&mut scene.server.services).await.watch(SERVICES);
    assert!(began.elapsed() < Duration::from_secs(37));
    let _again = next(&mut scene.server.services).await.watch(SERVICES);
    assert_eq!(scene.metrics.watch_errors_of("services", "timeout"), 3);
    drop((hanging, hanging_watch, silent));
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_believed_the_second_time() {
    let mut scene = Scene::new();
    let mut watches = follow(&mut scene).await;
    watches.services.refuse(410).await;
    next(&mut scene.server.services).await.list(50, &[]);
    let began = Instant::now();
    let again = next(&mut scene.server.services).await;
    assert!(began.elapsed() >= DOUBT);
    assert!(scene.is_silent(Duration::from_millis(1)).await);
    // It was the wrong one.
    again.list(51, &[service("a", 1)]);
    let mut watch = next(&mut scene.server.services).await.watch(51);
    assert!(scene.is_silent(Duration::from_millis(1)).await);

    watch.refuse(410).await;
    next(&mut scene.server.services).await.list(60, &[]);
    next(&mut scene.server.services).await.list(61, &[]);
    let update = scene.update().await;
    assert!(update.snapshot.desired.services.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_empty_first_answer_is_doubted_where_an_earlier_agent_left_services() {
    let mut scene = Scene::after(true);
    next(&mut scene.server.pods).await.list(1, &[]);
    next(&mut scene.server.services).await.list(1, &[]);
    assert!(scene.is_silent(DOUBT * 9 / 10).await);
    next(&mut scene.server.services).await.list(2, &[]);
    let update = scene.update().await;
    assert!(update.snapshot.desired.services.is_empty());

    let mut scene = Scene::new();
    next(&mut scene.server.pods).await.list(1, &[]);
    next(&mut scene.server.services).await.list(1, &[]);
    let began = Instant::now();
    scene.update().await;
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_about_slices_or_pods_is_doubted_too() {
    let mut scene = Scene::new();
    let mut watches = follow(&mut scene).await;
    watches.slices.refuse(410).await;
    watches.pods.refuse(410).await;
    next(&mut scene.server.slices).await.list(50, &[]);
    next(&mut scene.server.pods).await.list(50, &[]);
    assert!(scene.is_silent(DOUBT * 9 / 10).await);
    next(&mut scene.server.slices)
        .await
        .list(51, &[slice("a", 2, &["one", "two"])]);
    next(&mut scene.server.pods)
        .await
        .list(51, &[pod("one", 3, true), pod("two", 4, true)]);
    assert!(scene.is_silent(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn deletions_that_are_told_are_believed_at_once() {
    let mut scene = Scene::new();
    let mut watches = follow(&mut scene).await;
    watches.services.say("DELETED", &service("a", 11)).await;
    let began = Instant::now();
    let update = scene.update().await;
    assert!(update.snapshot.desired.services.is_empty());
    assert!(began.elapsed() < Duration::from_secs(1));
}
