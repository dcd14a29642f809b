//! What is written to a mocked API server.

use serde_json::Value;

use super::*;
use crate::{
    cluster::mock::{Call, Scene, Watch, next, route, service, slice},
    notice::Notice,
    reconcile::Route,
};

/// A source that knows route `acme` of Service `a`, to its own pods; the watch of routes, and what is desired.
async fn knowing(status: Option<Value>) -> (Scene, Watch, Vec<Route>) {
    let mut scene = Scene::new();
    scene.server.install_routes();
    let server = &mut scene.server;
    next(&mut server.services)
        .await
        .list(10, &[service("a", 1)]);
    next(&mut server.pods).await.list(30, &[]);
    let mut acme = route("acme", 50, "a", "a");
    if let Some(status) = status {
        acme["status"] = status;
    }
    next(&mut server.routes).await.list(50, &[acme]);
    let watch = next(&mut server.routes).await.watch(50);
    next(&mut server.slices)
        .await
        .list(20, &[slice("a", 2, &["one"])]);
    let routes = scene.update().await.snapshot.desired.routes;
    (scene, watch, routes)
}

/// The next write of a route's status.
async fn status(scene: &mut Scene) -> Call {
    loop {
        let call = next(&mut scene.server.writes).await;
        if call.method == http::Method::PATCH {
            return call;
        }
        let answer = call.body.to_string();
        call.text(201, &answer);
    }
}

fn words(call: &Call) -> Vec<String> {
    let conditions = call.body["status"]["conditions"].as_array().unwrap();
    let word = |c: &Value, field: &str| c[field].as_str().unwrap().to_owned();
    let words = conditions.iter();
    words
        .map(|c| {
            format!(
                "{}={} {}",
                word(c, "type"),
                word(c, "status"),
                word(c, "reason")
            )
        })
        .collect()
}

/// What the server makes of it.
fn after(call: &Call, version: u32) -> Value {
    let mut now = route("acme", version, "a", "a");
    now["status"] = call.body["status"].clone();
    now
}

async fn nothing_is_written(scene: &mut Scene) {
    let write = time::timeout(Duration::from_mins(1), scene.server.writes.recv());
    assert!(write.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_status_is_applied_to_the_version_that_was_seen_and_then_left_alone() {
    let (mut scene, mut watch, _) = knowing(None).await;
    let call = status(&mut scene).await;
    assert_eq!(
        call.path,
        "/apis/ingest.steering.dev/v1alpha1/namespaces/live/streamroutes/acme/status"
    );
    assert_eq!(call.query["fieldManager"], "ingest-agent");
    assert_eq!(call.query["force"], "true");
    assert_eq!(call.body["metadata"]["resourceVersion"], "50");
    assert_eq!(
        words(&call),
        ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs"]
    );
    assert_eq!(
        call.body["status"]["conditions"][0]["observedGeneration"],
        1
    );
    let now = after(&call, 51);
    call.text(200, &now.to_string());
    watch.say("MODIFIED", &now).await;
    nothing_is_written(&mut scene).await;
}

#[tokio::test(start_paused = true)]
async fn the_agent_that_has_it_in_force_says_so() {
    let (mut scene, mut watch, routes) = knowing(None).await;
    scene
        .cluster
        .notices
        .try_send(Notice::RoutesInForce { routes })
        .unwrap();
    let call = status(&mut scene).await;
    assert_eq!(words(&call)[2], "Programmed=True Programmed");
    let now = after(&call, 51);
    call.text(200, &now.to_string());
    watch.say("MODIFIED", &now).await;
    // What another node cannot do is not this one's to tell now.
    let why = "too many".to_owned();
    scene
        .cluster
        .notices
        .try_send(Notice::PlanRefused { why })
        .unwrap();
    nothing_is_written(&mut scene).await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_refused_is_told_with_its_reason() {
    let (mut scene, _watch, _) = knowing(None).await;
    let why = "too many".to_owned();
    scene
        .cluster
        .notices
        .try_send(Notice::PlanRefused { why })
        .unwrap();
    let call = status(&mut scene).await;
    assert_eq!(words(&call)[2], "Programmed=False Refused");
    let message = call.body["status"]["conditions"][2]["message"].clone();
    assert!(message.as_str().unwrap().contains("too many"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn who_is_outrun_looks_again_and_finds_nothing_to_do() {
    let (mut scene, mut watch, _) = knowing(None).await;
    let call = status(&mut scene).await;
    let now = after(&call, 51);
    call.refuse(409);
    watch.say("MODIFIED", &now).await;
    nothing_is_written(&mut scene).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again_but_not_at_once() {
    let (mut scene, _watch, _) = knowing(None).await;
    status(&mut scene).await.refuse(503);
    let began = Instant::now();
    status(&mut scene).await.refuse(503);
    assert!(began.elapsed() >= PAUSE, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_written_already_is_not_written_again() {
    let (mut scene, _, _) = knowing(None).await;
    let call = status(&mut scene).await;
    let status = call.body["status"].clone();
    let (mut scene, _watch, _) = knowing(Some(status)).await;
    nothing_is_written(&mut scene).await;
}
