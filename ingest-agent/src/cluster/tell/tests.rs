//! What is written to a mocked API server.

use std::time::Duration;

use http::Method;
use ingest_common::abi::CutReason;
use serde_json::{Value, json};
use tokio::time;

use crate::{
    cluster::mock::{NODE, Scene, next, pod, service, slice},
    notice::Notice,
};

const NONE: &[&str] = &[];

/// Starts a source that knows `service` and ready `pods`.
async fn knowing(service: Value, pods: &[&str]) -> Scene {
    let mut scene = Scene::new();
    let name = service["metadata"]["name"].as_str().unwrap().to_owned();
    let server = &mut scene.server;
    next(&mut server.services).await.list(10, &[service]);
    let there = pods.iter().map(|name| pod(name, 3, true));
    next(&mut server.pods)
        .await
        .list(30, &there.collect::<Vec<_>>());
    next(&mut server.slices)
        .await
        .list(20, &[slice(&name, 2, pods)]);
    scene.update().await;
    scene
}

#[tokio::test(start_paused = true)]
async fn a_condition_becomes_one_event_and_a_known_one_is_left_alone() {
    let mut scene = knowing(service("a", 1), NONE).await;
    let call = next(&mut scene.server.writes).await;
    assert_eq!(call.method, Method::POST);
    assert_eq!(call.path, "/apis/events.k8s.io/v1/namespaces/live/events");
    let event = call.body.clone();
    assert_eq!(event["reason"], "NoReadyBackend");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["regarding"]["uid"], "uid-a");
    assert_eq!(event["regarding"]["kind"], "Service");
    assert_eq!(event["reportingController"], "ingest-agent");
    assert_eq!(event["reportingInstance"], NODE);
    assert!(event["action"].is_string() && event["eventTime"].is_string());
    // An agent of another node was first.
    call.refuse(409);
    nothing_is_written(&mut scene).await;
    assert_eq!(scene.metrics.events_of("known"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_tried_again_but_not_for_ever() {
    let mut scene = knowing(service("a", 1), NONE).await;
    for _ in 0..4 {
        next(&mut scene.server.writes).await.refuse(503);
    }
    nothing_is_written(&mut scene).await;
    assert_eq!(scene.metrics.events_of("failed"), 1);
    // What may not be is not tried again.
    let mut scene = knowing(service("a", 1), NONE).await;
    next(&mut scene.server.writes).await.refuse(403);
    nothing_is_written(&mut scene).await;
}

#[tokio::test(start_paused = true)]
async fn cut_sessions_are_told_on_the_pod_and_on_the_service() {
    let mut scene = knowing(service("a", 1), &["one"]).await;
    for _ in 0..3 {
        let notice = Notice::Cut {
            service: "live/a:srt".to_owned(),
            backend: "live/one".to_owned(),
            reason: CutReason::Unreachable,
        };
        scene.cluster.notices.try_send(notice).unwrap();
    }
    let call = next(&mut scene.server.writes).await;
    assert_eq!(call.body["regarding"]["kind"], "Pod");
    assert_eq!(call.body["regarding"]["uid"], "uid-one");
    assert!(
        call.body["note"]
            .as_str()
            .unwrap()
            .starts_with("3 sessions of Service live/a, port srt, were cut")
    );
    let answer = call.body.to_string();
    call.text(201, &answer);
    let call = next(&mut scene.server.writes).await;
    assert_eq!(call.body["regarding"]["kind"], "Service");
    assert_eq!(call.body["related"]["name"], "one");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_events_holds_nothing_up() {
    let mut scene = Scene::new();
    let server = &mut scene.server;
    next(&mut server.services)
        .await
        .list(10, &[service("a", 1)]);
    next(&mut server.pods).await.list(30, &[]);
    next(&mut server.slices)
        .await
        .list(20, &[slice("a", 2, NONE)]);
    let mut watch = next(&mut server.slices).await.watch(20);
    scene.update().await;
    let hanging = next(&mut scene.server.writes).await;
    watch.say("MODIFIED", &slice("a", 21, &["one"])).await;
    let began = time::Instant::now();
    assert_eq!(scene.backends().await, ["live/one"]);
    assert!(began.elapsed() < Duration::from_millis(100));
    drop(hanging);
}

async fn nothing_is_written(scene: &mut Scene) {
    let write = time::timeout(Duration::from_mins(1), scene.server.writes.recv());
    assert!(write.await.is_err());
}

fn ours() -> Value {
    let mut ours = service("a", 1);
    ours["metadata"]["labels"] = json!({});
    ours["metadata"]["annotations"] = json!({ "ingest.steering.dev/vips": "192.0.2.7" });
    ours["spec"]["loadBalancerClass"] = json!("ingest.steering.dev/xdp");
    ours["status"] = json!({ "loadBalancer": {} });
    ours
}

/// The next write that is no Event.
async fn status(scene: &mut Scene) -> crate::cluster::mock::Call {
    loop {
        let call = next(&mut scene.server.writes).await;
        if call.method == Method::PATCH {
            return call;
        }
        let answer = call.body.to_string();
        call.text(201, &answer);
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_of_our_class_is_written_until_it_is_so() {
    let mut scene = knowing(ours(), &["one"]).await;
    let call = status(&mut scene).await;
    assert_eq!(call.path, "/api/v1/namespaces/live/services/a/status");
    assert_eq!(call.query["fieldManager"], "ingest-agent");
    assert_eq!(
        call.body,
        json!({
            "metadata": { "uid": "uid-a" },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.7" }] } },
        })
    );
    call.refuse(503);
    // Again, but not at once, whatever else happens.
    let began = time::Instant::now();
    let mut watch = next(&mut scene.server.services).await.watch(10);
    time::sleep(Duration::from_secs(2)).await;
    let mut other = ours();
    other["metadata"]["resourceVersion"] = json!("11");
    other["spec"]["publishNotReadyAddresses"] = json!(true);
    watch.say("MODIFIED", &other).await;
    let call = status(&mut scene).await;
    assert!(began.elapsed() >= Duration::from_secs(9));
    let mut done = ours();
    done["metadata"]["resourceVersion"] = json!("12");
    done["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.7" }] } });
    call.text(200, &done.to_string());
    watch.say("MODIFIED", &done).await;
    nothing_is_written(&mut scene).await;
}

#[tokio::test(start_paused = true)]
async fn the_status_of_others_is_never_written() {
    let mut others = ours();
    others["metadata"]["labels"] = json!({ "ingest.steering.dev/steer": "true" });
    others["spec"]["loadBalancerClass"] = json!("metallb.io/metallb");
    let mut scene = knowing(others, &["one"]).await;
    let writes = time::timeout(Duration::from_mins(2), status(&mut scene));
    assert!(writes.await.is_err(), "a status was written");
}
