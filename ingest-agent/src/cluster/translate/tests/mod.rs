//! The rules, by matter. Objects are written as the API server shows them, as far as they differ from an ordinary one.

mod annotations;
mod claim;
mod endpoints;
mod fallback;
mod fit;
mod pods;
mod ports;
mod property;
mod routes;
mod sources;
mod vips;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::reconcile::Backend;

/// This node.
const HERE: &str = "node-a";

/// Objects, this node's options, and what follows.
#[derive(Default)]
struct World {
    services: Vec<Arc<Service>>,
    routes: Vec<Arc<StreamRoute>>,
    slices: Vec<Arc<EndpointSlice>>,
    pods: LocalPods,
    options: Options,
}

impl World {
    fn derive(&self) -> Derived {
        let view = View {
            services: &self.services,
            routes: &self.routes,
            slices: &self.slices,
            pods: &self.pods,
        };
        translate(&view, &self.options)
    }

    /// The backends of the only desired service, as `<name> <address>:<port>`, draining ones in brackets.
    #[track_caller]
    fn backends(&self) -> Vec<String> {
        let derived = self.derive();
        let [service] = &derived.desired.services[..] else {
            panic!("not one service: {:?}", derived.desired.services);
        };
        service.backends.iter().map(in_words).collect()
    }

    /// What is told of `live/srs`.
    fn conditions(&self) -> Vec<Condition> {
        let name = ("live".to_owned(), "srs".to_owned());
        let conditions = self.derive().conditions.remove(&name);
        conditions.into_iter().flatten().collect()
    }
}

fn in_words(backend: &Backend) -> String {
    let name = backend.name.strip_prefix("live/").unwrap_or(&backend.name);
    let text = format!("{name} {}:{}", backend.address, backend.port);
    if backend.draining {
        format!("({text})")
    } else {
        text
    }
}

fn options() -> Options {
    Options {
        node: HERE.to_owned(),
        ..Options::default()
    }
}

/// `live/srs` with the endpoints of one slice.
fn world(service_differs: Value, endpoints: &[Value]) -> World {
    World {
        services: vec![service("srs", service_differs)],
        slices: vec![slice("srs", json!({ "endpoints": endpoints }))],
        options: options(),
        ..World::default()
    }
}

/// A labelled Service with a VIP and an SRT port.
fn service(name: &str, differs: Value) -> Arc<Service> {
    let mut object = json!({
        "metadata": {
            "namespace": "live",
            "name": name,
            "uid": format!("uid-of-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "ingest.steering.dev/steer": "true" },
        },
        "spec": {
            "type": "LoadBalancer",
            "ports": [{ "name": "srt", "port": 9000, "protocol": "UDP" }],
        },
        "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.10" }] } },
    });
    merge(&mut object, differs);
    Arc::new(serde_json::from_value(object).unwrap())
}

/// An IPv4 slice of a Service, with its SRT port.
fn slice(service: &str, differs: Value) -> Arc<EndpointSlice> {
    let mut object = json!({
        "metadata": {
            "namespace": "live",
            "name": format!("{service}-x7x7x"),
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "srt", "port": 9000, "protocol": "UDP" }],
        "endpoints": [],
    });
    merge(&mut object, differs);
    Arc::new(serde_json::from_value(object).unwrap())
}

/// Endpoint `10.0.0.<n>` of pod `srs-<n>`, ready on this node.
fn endpoint(n: u8, differs: Value) -> Value {
    let mut object = json!({
        "addresses": [format!("10.0.0.{n}")],
        "nodeName": HERE,
        "conditions": { "ready": true, "serving": true, "terminating": false },
        "targetRef": { "kind": "Pod", "namespace": "live", "name": format!("srs-{n}"), "uid": format!("uid-{n}") },
    });
    merge(&mut object, differs);
    object
}

/// Conditions: ready, serving, terminating.
fn judged(n: u8, ready: bool, serving: bool, terminating: bool) -> Value {
    let conditions = json!({ "ready": ready, "serving": serving, "terminating": terminating });
    endpoint(n, json!({ "conditions": conditions }))
}

/// Pod `srs-<n>`, ready, its only container running.
fn pod(n: u8, differs: Value) -> Pod {
    let mut object = json!({
        "metadata": { "namespace": "live", "name": format!("srs-{n}"), "uid": format!("uid-{n}") },
        "spec": { "nodeName": HERE, "containers": [{ "name": "srs" }] },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [container("srs", &format!("containerd://{n}-first"), true)],
        },
    });
    merge(&mut object, differs);
    serde_json::from_value(object).unwrap()
}

fn container(name: &str, id: &str, running: bool) -> Value {
    let state = if running {
        json!({ "running": {} })
    } else {
        json!({ "terminated": { "exitCode": 137 } })
    };
    json!({
        "name": name, "containerID": id, "state": state,
        "ready": running, "restartCount": 0, "image": "srs", "imageID": "srs",
    })
}

/// As JSON merge patch (RFC 7396): objects by key, null removes, the rest replaces.
fn merge(object: &mut Value, differs: Value) {
    match (object, differs) {
        (Value::Object(object), Value::Object(differs)) => {
            for (key, value) in differs {
                if value.is_null() {
                    object.remove(&key);
                } else {
                    merge(object.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (object, differs) => *object = differs,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_trigger_time_is_the_slices_stamp() {
    let stamped = |text: &str| {
        let annotations = json!({ "endpoints.kubernetes.io/last-change-trigger-time": text });
        trigger_time(&slice(
            "srs",
            json!({ "metadata": { "annotations": annotations } }),
        ))
    };
    let expected = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_767_225_600_250);
    assert_eq!(stamped("2026-01-01T00:00:00.25Z"), Some(expected));
    assert_eq!(stamped("2026-01-01T01:00:00.25+01:00"), Some(expected));
    assert_eq!(stamped("yesterday"), None);
    assert_eq!(trigger_time(&slice("srs", json!({}))), None);
}
