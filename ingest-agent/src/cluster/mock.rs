//! An API server for tests that says what it is told to, sentence by sentence: what a real one cannot be made to say.

use std::{collections::BTreeMap, io, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{
    BodyExt as _,
    channel::{Channel, Sender},
};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tower_test::mock::{self, Handle, SendResponse};

use super::{Cluster, Options};
use crate::{metrics::ClusterMetrics, source::Update};

type Answer = Response<Channel<Bytes, io::Error>>;

pub(super) const NODE: &str = "here";
/// With a paused clock this is no time, but longer than anything that the source waits for.
const LONG: Duration = Duration::from_mins(5);

/// A request that waits for its answer.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Value,
    reply: SendResponse<Answer>,
}

/// An open watch. Dropping it ends it well.
pub(super) struct Watch(Sender<Bytes, io::Error>);

/// The requests, by what they are about.
pub(super) struct Server {
    pub(super) services: mpsc::UnboundedReceiver<Call>,
    pub(super) slices: mpsc::UnboundedReceiver<Call>,
    pub(super) pods: mpsc::UnboundedReceiver<Call>,
    /// Nobody need look: until [`Server::install_routes`] they are answered 404.
    pub(super) routes: mpsc::UnboundedReceiver<Call>,
    installed: watch::Sender<bool>,
    /// Events and status.
    pub(super) writes: mpsc::UnboundedReceiver<Call>,
}

/// The source, and the server that it follows.
pub(super) struct Scene {
    pub(super) server: Server,
    pub(super) cluster: Cluster,
    pub(super) metrics: ClusterMetrics,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::after(false)
    }

    /// As if an earlier agent had left services, where `held`.
    pub(super) fn after(held: bool) -> Self {
        let (service, handle) = mock::pair::<Request<Body>, Answer>();
        let server = Server::new(handle);
        let options = Options {
            node: NODE.to_owned(),
            uplinks: vec!["eth0".to_owned()],
            vip_ranges: vec!["192.0.2.0/24".parse().unwrap()],
            held,
            ..Default::default()
        };
        let metrics = ClusterMetrics::default();
        let client = Client::new(service, "default");
        Self {
            server,
            cluster: Cluster::with_client(client, options, metrics.clone()),
            metrics,
        }
    }

    /// The next state.
    pub(super) async fn update(&mut self) -> Update {
        let change = time::timeout(LONG, self.cluster.changes.recv()).await;
        change.expect("no update came").unwrap().unwrap()
    }

    /// Names of the backends of the only service, in order; those that drain marked by `-`.
    pub(super) async fn backends(&mut self) -> Vec<String> {
        let update = self.update().await;
        backends(&update)
    }

    /// Whether nothing new comes for a while.
    pub(super) async fn is_silent(&mut self, for_: Duration) -> bool {
        time::timeout(for_, self.cluster.changes.recv())
            .await
            .is_err()
    }
}

pub(super) fn backends(update: &Update) -> Vec<String> {
    let services = &update.snapshot.desired.services;
    let mut names = services
        .iter()
        .flat_map(|service| &service.backends)
        .map(|b| format!("{}{}", if b.draining { "-" } else { "" }, b.name))
        .collect::<Vec<_>>();
    names.sort();
    names
}

impl Server {
    fn new(mut handle: Handle<Request<Body>, Answer>) -> Self {
        let (to_services, services) = mpsc::unbounded_channel();
        let (to_slices, slices) = mpsc::unbounded_channel();
        let (to_pods, pods) = mpsc::unbounded_channel();
        let (to_routes, routes) = mpsc::unbounded_channel();
        let (installed, is_installed) = watch::channel(false);
        let (to_writes, writes) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some((request, reply)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let query = parts.uri.query().unwrap_or_default().split('&');
                let query = query.filter_map(|part| part.split_once('='));
                let call = Call {
                    path: parts.uri.path().to_owned(),
                    query: query.map(|(k, v)| (k.to_owned(), decoded(v))).collect(),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                    reply,
                    method: parts.method,
                };
                let to = match (call.method == Method::GET, call.path.rsplit('/').next()) {
                    (true, Some("services")) => &to_services,
                    (true, Some("endpointslices")) => &to_slices,
                    (true, Some("pods")) => &to_pods,
                    (true, Some("streamroutes")) if *is_installed.borrow() => &to_routes,
                    (true, Some("streamroutes")) => {
                        call.refuse(404);
                        continue;
                    }
                    _ => &to_writes,
                };
                // A test that has seen enough has dropped its end.
                to.send(call).ok();
            }
        });
        Self {
            services,
            slices,
            pods,
            routes,
            installed,
            writes,
        }
    }

    /// From now on the cluster knows StreamRoutes.
    pub(super) fn install_routes(&self) {
        self.installed.send_replace(true);
    }
}

/// What comes next, however long that takes.
pub(super) async fn next(calls: &mut mpsc::UnboundedReceiver<Call>) -> Call {
    let call = time::timeout(LONG, calls.recv()).await;
    call.expect("no request came").unwrap()
}

fn decoded(text: &str) -> String {
    let replaced = [
        ("%3D", "="),
        ("%2C", ","),
        ("%28", "("),
        ("%29", ")"),
        ("%2F", "/"),
        ("+", " "),
    ];
    let text = text.to_owned();
    replaced
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to))
}

impl Call {
    pub(super) fn is_watch(&self) -> bool {
        self.query.contains_key("watch")
    }

    /// Answers a list.
    pub(super) fn list(self, version: u32, items: &[Value]) {
        assert!(!self.is_watch(), "a watch, not a list");
        let list = json!({
            "apiVersion": "v1", "kind": "List",
            "metadata": { "resourceVersion": version.to_string() },
            "items": items,
        });
        self.text(200, &list.to_string());
    }

    /// Answers a watch, which is expected to begin after `version`.
    pub(super) fn watch(self, version: u32) -> Watch {
        assert!(self.is_watch(), "a list, not a watch");
        assert_eq!(self.query["resourceVersion"], version.to_string());
        let (sender, body) = Channel::new(64);
        self.reply.send_response(Response::new(body));
        Watch(sender)
    }

    pub(super) fn refuse(self, code: u16) {
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
            "message": "refused", "reason": "Test",
        });
        self.text(code, &status.to_string());
    }

    pub(super) fn text(self, code: u16, text: &str) {
        let (mut sender, body) = Channel::new(1);
        let text = Bytes::from(text.to_owned());
        tokio::spawn(async move { sender.send_data(text).await.ok() });
        let response = Response::builder().status(code).body(body);
        self.reply.send_response(response.unwrap());
    }
}

impl Watch {
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub(super) async fn say(&mut self, what: &str, object: &Value) {
        self.line(&json!({ "type": what, "object": object }).to_string())
            .await;
    }

    pub(super) async fn bookmark(&mut self, version: u32) {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "resourceVersion": version.to_string() },
        });
        self.say("BOOKMARK", &object).await;
    }

    pub(super) async fn refuse(&mut self, code: u16) {
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
            "message": "too old resource version", "reason": "Expired",
        });
        self.say("ERROR", &status).await;
    }

    pub(super) async fn line(&mut self, text: &str) {
        let text = Bytes::from(format!("{text}\n"));
        self.0.send_data(text).await.unwrap();
    }

    /// As when the connection breaks.
    pub(super) fn break_off(self) {
        self.0.abort(io::ErrorKind::ConnectionReset.into());
    }
}

/// A claimed Service with one SRT port and one VIP.
pub(super) fn service(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": "live", "name": name, "uid": format!("uid-{name}"),
            "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "ingest.steering.dev/steer": "true" },
        },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.1",
            "ports": [{ "name": "srt", "port": 8890, "protocol": "UDP", "targetPort": 8890 }],
        },
        "status": { "loadBalancer": { "ingress": [{ "ip": vip(name) }] } },
    })
}

/// A route of `live/<service>`'s streams whose resource begins with `acme/`, to `live/<pool>`.
pub(super) fn route(name: &str, version: u32, service: &str, pool: &str) -> Value {
    json!({
        "apiVersion": "ingest.steering.dev/v1alpha1", "kind": "StreamRoute",
        "metadata": {
            "namespace": "live", "name": name, "uid": format!("uid-{name}"), "generation": 1,
            "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-01-02T00:00:00Z",
        },
        "spec": {
            "parentRefs": [{ "name": service }],
            "rules": [{
                "matches": [{ "resource": { "type": "Prefix", "value": "acme/" } }],
                "backendRef": { "name": pool },
            }],
        },
    })
}

/// Every Service has its own.
fn vip(name: &str) -> String {
    format!("192.0.2.{}", name.bytes().map(u32::from).sum::<u32>() % 250)
}

/// Ready pods of a Service on this node, by name.
pub(super) fn slice(service: &str, version: u32, pods: &[&str]) -> Value {
    let endpoints = pods.iter().map(|pod| {
        let last = pod.bytes().map(u32::from).sum::<u32>() % 250;
        json!({
            "addresses": [format!("10.0.0.{last}")],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": NODE,
            "targetRef": { "kind": "Pod", "namespace": "live", "name": pod, "uid": format!("uid-{pod}") },
        })
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "namespace": "live", "name": format!("{service}-1"), "uid": format!("uid-{service}-1"),
            "resourceVersion": version.to_string(),
            "labels": { "kubernetes.io/service-name": service },
            "annotations": {
                "endpoints.kubernetes.io/last-change-trigger-time":
                    format!("2026-01-01T00:{:02}:{:02}Z", version / 60 % 60, version % 60),
            },
        },
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": [{ "name": "srt", "port": 8890, "protocol": "UDP" }],
    })
}

/// A pod of this node.
pub(super) fn pod(name: &str, version: u32, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "live", "name": name, "uid": format!("uid-{name}"),
            "resourceVersion": version.to_string(),
        },
        "spec": { "nodeName": NODE, "containers": [{ "name": "server" }] },
        "status": {
            "conditions": [{ "type": "Ready", "status": ready }],
            "containerStatuses": [{
                "name": "server", "containerID": format!("containerd://{name}"), "image": "", "imageID": "",
                "ready": true, "restartCount": 0, "state": { "running": {} },
            }],
        },
    })
}
