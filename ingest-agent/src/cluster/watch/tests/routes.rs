//! StreamRoutes are followed where the cluster knows them, and none comes before the slices it leads to.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    cluster::mock::{Scene, Watch, next, route, service, slice},
    source::Update,
};

/// An unclaimed Service.
fn pool(name: &str, version: u32) -> Value {
    let mut pool = service(name, version);
    pool["metadata"]["labels"] = json!({});
    pool["spec"]["type"] = json!("ClusterIP");
    pool
}

/// By name, where each leads.
fn routes(update: &Update) -> Vec<String> {
    let routes = &update.snapshot.desired.routes;
    let routes = routes.iter().map(|r| format!("{} {:?}", r.name, r.target));
    routes.collect()
}

/// The watches of routes and of Services of a source that knows Services `a`, `b` and `c`, the first one claimed.
async fn follow(scene: &mut Scene, there: &[Value]) -> (Watch, Watch) {
    scene.server.install_routes();
    let server = &mut scene.server;
    let services = [service("a", 1), pool("b", 2), pool("c", 3)];
    next(&mut server.services).await.list(10, &services);
    next(&mut server.pods).await.list(30, &[]);
    next(&mut server.routes).await.list(50, there);
    let routes = next(&mut server.routes).await.watch(50);
    (routes, next(&mut server.services).await.watch(10))
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_the_kind_has_no_routes_until_it_is_installed() {
    let mut scene = Scene::new();
    next(&mut scene.server.services)
        .await
        .list(10, &[service("a", 1), pool("b", 2)]);
    next(&mut scene.server.pods).await.list(30, &[]);
    next(&mut scene.server.slices)
        .await
        .list(20, &[slice("a", 4, &["one"])]);
    assert!(routes(&scene.update().await).is_empty());
    assert!(scene.is_silent(Duration::from_mins(2)).await);
    assert_eq!(scene.metrics.watch_errors_of("streamroutes", "missing"), 0);
    scene.server.install_routes();
    next(&mut scene.server.routes)
        .await
        .list(50, &[route("acme", 50, "a", "b")]);
    let both = [slice("a", 4, &["one"]), slice("b", 5, &["two"])];
    loop {
        let call = next(&mut scene.server.slices).await;
        if !call.is_watch() {
            assert!(call.query["labelSelector"].contains("(a,b)"));
            call.list(21, &both);
            break;
        }
    }
    assert_eq!(
        routes(&scene.update().await),
        ["live/acme Pool(\"live/b:srt\")"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_kind_that_goes_away_takes_its_routes_along_but_not_at_once() {
    let mut scene = Scene::new();
    let (watch, _services) = follow(&mut scene, &[route("acme", 50, "a", "b")]).await;
    let both = [slice("a", 4, &["one"]), slice("b", 5, &["two"])];
    loop {
        let call = next(&mut scene.server.slices).await;
        if call.query["labelSelector"].contains("(a,b)") {
            call.list(20, &both);
            break;
        }
    }
    assert_eq!(routes(&scene.update().await).len(), 1);
    drop(watch);
    // An API server that is just starting may not know it yet.
    for _ in 0..2 {
        assert!(scene.is_silent(Duration::from_secs(5)).await);
        next(&mut scene.server.routes).await.refuse(404);
    }
    assert!(scene.is_silent(Duration::from_secs(5)).await);
    next(&mut scene.server.routes).await.refuse(404);
    assert!(routes(&scene.update().await).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_route_waits_for_the_slices_that_it_leads_to_and_stays_as_it_was() {
    let mut scene = Scene::new();
    let (mut watch, _services) = follow(&mut scene, &[route("acme", 50, "a", "b")]).await;
    let list = loop {
        let call = next(&mut scene.server.slices).await;
        if call.query["labelSelector"].contains("(a,b)") {
            break call;
        }
    };
    assert!(scene.is_silent(Duration::from_secs(20)).await);
    list.list(20, &[slice("a", 4, &["one"]), slice("b", 5, &["two"])]);
    assert_eq!(
        routes(&scene.update().await),
        ["live/acme Pool(\"live/b:srt\")"]
    );
    let _slices = next(&mut scene.server.slices).await.watch(20);
    // It leads elsewhere, whose slices take their time.
    watch.say("MODIFIED", &route("acme", 51, "a", "c")).await;
    let list = next(&mut scene.server.slices).await;
    assert!(list.query["labelSelector"].contains("(a,c)"));
    assert!(scene.is_silent(Duration::from_secs(10)).await);
    list.list(21, &[slice("a", 4, &["one"]), slice("c", 6, &["three"])]);
    let update = scene.update().await;
    assert_eq!(routes(&update), ["live/acme Pool(\"live/c:srt\")"]);
    let services = &update.snapshot.desired.services;
    let names: Vec<_> = services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["live/a:srt", "live/c:srt"]);
    watch.say("DELETED", &route("acme", 52, "a", "c")).await;
    assert!(routes(&scene.update().await).is_empty());
}

#[tokio::test(start_paused = true)]
async fn services_that_nobody_claims_are_no_reason_for_doubt_or_work() {
    let mut scene = Scene::new();
    let (_routes, mut services) = follow(&mut scene, &[]).await;
    let call = next(&mut scene.server.slices).await;
    assert!(call.query["labelSelector"].contains("(a)"));
    call.list(20, &[slice("a", 4, &["one"])]);
    scene.update().await;
    assert_eq!(scene.metrics.objects_of("services"), 1);
    services.say("MODIFIED", &pool("b", 11)).await;
    services.say("DELETED", &pool("c", 12)).await;
    assert!(scene.is_silent(Duration::from_secs(20)).await);
    // The claimed one gone all at once, in a list, is not believed the first time, whatever else there is.
    services.refuse(410).await;
    drop(services);
    loop {
        let call = next(&mut scene.server.services).await;
        if !call.is_watch() {
            call.list(13, &[pool("b", 11)]);
            break;
        }
    }
    assert!(scene.is_silent(Duration::from_secs(8)).await);
    assert_eq!(scene.metrics.watch_errors_of("services", "emptied"), 1);
}
