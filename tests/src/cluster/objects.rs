//! Objects as users and Kubernetes' controllers write them. Tests change what they are about in the JSON.

use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::peers::PORT;

/// Where the objects of the tests are.
pub const NAMESPACE: &str = "live";
/// The agent's node.
pub const NODE: &str = "node-a";

/// What there is before anything: the namespace, and the ServiceAccount of its pods.
pub fn surroundings() -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": NAMESPACE},
        }),
    ]
}

/// A Service that asks to be steered, with one SRT port, and `vips` as a load balancer's controller has given it.
pub fn service(name: &str, vips: &[IpAddr]) -> Value {
    let has = |v4: bool| vips.iter().any(|vip| vip.is_ipv4() == v4);
    let families: &[&str] = match (has(true), has(false)) {
        (true, true) => &["IPv4", "IPv6"],
        (false, true) => &["IPv6"],
        _ => &["IPv4"],
    };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"ingest.steering.dev/steer": "true"},
        },
        "spec": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": false,
            "ipFamilies": families,
            "ipFamilyPolicy": if families.len() == 2 { "RequireDualStack" } else { "SingleStack" },
            "selector": {"app": name},
            "ports": [{"name": "srt", "protocol": "UDP", "port": PORT, "targetPort": "srt"}],
        },
        "status": ingress(vips),
    })
}

/// The status that says `vips`.
pub fn ingress(vips: &[IpAddr]) -> Value {
    let rows: Vec<_> = vips
        .iter()
        .map(|vip| json!({"ip": vip, "ipMode": "VIP"}))
        .collect();
    json!({"loadBalancer": {"ingress": rows}})
}

/// An endpoint of a slice.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// The pod's name and UID.
    pub pod: Option<(String, String)>,
    /// The pod's node.
    pub node: Option<String>,
    /// Conditions; `None` is left out, as old controllers do.
    pub ready: Option<bool>,
    /// See `ready`.
    pub serving: Option<bool>,
    /// See `ready`.
    pub terminating: Option<bool>,
}

impl Endpoint {
    /// One that is ready, on the agent's node, without a pod.
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            pod: None,
            node: Some(NODE.to_owned()),
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }
    }

    /// The same on another node.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.node = Some("node-b".to_owned());
        self
    }

    fn to_json(&self) -> Value {
        let mut conditions = serde_json::Map::new();
        for (name, value) in [
            ("ready", self.ready),
            ("serving", self.serving),
            ("terminating", self.terminating),
        ] {
            if let Some(value) = value {
                conditions.insert(name.to_owned(), value.into());
            }
        }
        let mut endpoint = json!({"addresses": [self.address], "conditions": conditions});
        if let Some(node) = &self.node {
            endpoint["nodeName"] = json!(node);
        }
        if let Some((name, uid)) = &self.pod {
            endpoint["targetRef"] =
                json!({"kind": "Pod", "namespace": NAMESPACE, "name": name, "uid": uid});
        }
        endpoint
    }
}

/// The slice `name` of `service`, with `endpoints` of one address family, changed now.
pub fn slice(service: &str, name: &str, endpoints: &[Endpoint]) -> Value {
    let is_v6 = endpoints.first().is_some_and(|e| e.address.is_ipv6());
    let rows: Vec<_> = endpoints.iter().map(Endpoint::to_json).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "annotations": {
                "endpoints.kubernetes.io/last-change-trigger-time": Timestamp::now().to_string(),
            },
        },
        "addressType": if is_v6 { "IPv6" } else { "IPv4" },
        "endpoints": rows,
        "ports": [{"name": "srt", "protocol": "UDP", "port": PORT}],
    })
}

/// A pod of the agent's node that runs and is ready. `container` numbers the runs of its container.
pub fn pod(name: &str, addresses: &[IpAddr], container: u32) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let ips: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "ingest"}},
        "spec": {
            "nodeName": NODE,
            "containers": [{
                "name": "ingest",
                "image": "registry.example/ingest:1",
                "ports": [{"name": "srt", "containerPort": PORT, "protocol": "UDP"}],
            }],
        },
        "status": {
            "phase": "Running",
            "podIP": addresses.first(),
            "podIPs": ips,
            "startTime": now,
            "conditions": [
                condition("PodScheduled"),
                condition("Initialized"),
                condition("ContainersReady"),
                condition("Ready"),
            ],
            "containerStatuses": [{
                "name": "ingest",
                "image": "registry.example/ingest:1",
                "imageID": "registry.example/ingest@sha256:0",
                "containerID": format!("containerd://{name}-{container}"),
                "ready": true,
                "started": true,
                "restartCount": container,
                "state": {"running": {"startedAt": now}},
            }],
        },
    })
}

/// Makes `pod` say that it is not ready.
pub fn not_ready(pod: &mut Value) {
    let conditions = pod["status"]["conditions"].as_array_mut();
    for condition in conditions.into_iter().flatten() {
        if condition["type"] == "Ready" || condition["type"] == "ContainersReady" {
            condition["status"] = json!("False");
        }
    }
    pod["status"]["containerStatuses"][0]["ready"] = json!(false);
}
