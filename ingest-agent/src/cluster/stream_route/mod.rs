//! The resource `StreamRoute`: its types, and the definition that is made of them (`cargo run -p ingest-agent --example
//! crd`).
//!
//! What a user writes and reads, nothing else: what follows from it is `translate`'s business. What a schema
//! can say is said by the schema, so that the API server refuses it at once.

#![expect(
    unreachable_pub,
    reason = "KubeSchema copies these types, `pub` and all, into functions"
)]

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{CustomResource, CustomResourceExt as _, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The API group.
pub const GROUP: &str = "ingest.steering.dev";

/// The definition, as it is installed into a cluster.
pub fn definition() -> CustomResourceDefinition {
    let mut definition = StreamRoute::crd();
    let labels = [
        ("app.kubernetes.io/name", "ingest-agent"),
        ("app.kubernetes.io/part-of", "ingest"),
    ];
    definition.metadata.labels = Some(
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    );
    definition
}

/// Which streams of a Service go to which pods, and what they may use.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "ingest.steering.dev",
    version = "v1alpha1",
    kind = "StreamRoute",
    plural = "streamroutes",
    shortname = "sroute",
    category = "ingest",
    namespaced,
    status = "StreamRouteStatus",
    derive = "PartialEq",
    doc = "Which streams of a steered Service go to which pods, and what they may use.",
    printcolumn = r#"{"name": "Service", "type": "string", "jsonPath": ".spec.parentRefs[0].name"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Programmed\")].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct StreamRouteSpec {
    /// Steered Services of the same namespace whose callers the route is for.
    #[schemars(length(min = 1, max = 8))]
    pub parent_refs: Vec<ServicePortRef>,
    /// Of two matches that are alike, the older route's counts, and in one route the earlier rule's.
    #[schemars(length(min = 1, max = 32))]
    pub rules: Vec<RouteRule>,
}

/// A Service of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServicePortRef {
    /// The Service's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The Service's port. Without it, all its SRT ports; of a backend, its only SRT port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// Where the streams that match go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.backendRef) != (has(self.reject) && self.reject)", "give exactly one of backendRef and reject: true"),
    validation = ("!has(self.quota) || has(self.backendRef)", "what is rejected has no quota"),
    validation = ("!has(self.thresholds) || has(self.backendRef)", "what is rejected has no thresholds")
)]
pub struct RouteRule {
    /// Any of these. The longest text that fits a stream wins, over all routes of the Service.
    #[schemars(length(min = 1, max = 64))]
    pub matches: Vec<Match>,
    /// The Service whose pods get these streams. It needs neither a load balancer nor the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<ServicePortRef>,
    /// Callers are told that it is forbidden (SRT rejection 2403).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reject: Option<bool>,
    /// What all these streams may use, on every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// From when on one of these streams is not well. What is not given here is as the Service's annotation
    /// `ingest.steering.dev/thresholds` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
}

/// One of `streamId`, `resource`, `user`, `host` and `source`, or `mode` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("size([has(self.streamId), has(self.resource), has(self.user), has(self.host), has(self.source)].filter(given, given)) <= 1", "give at most one of streamId, resource, user, host and source"),
    validation = ("has(self.streamId) || has(self.resource) || has(self.user) || has(self.host) || has(self.source) || has(self.mode)", "give one of streamId, resource, user, host and source, or a mode"),
    validation = ("!has(self.source) || !has(self.mode)", "a source is matched whatever the mode: give one of them")
)]
pub struct Match {
    /// The whole Stream ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<Text>,
    /// `r=` of the Stream ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Text>,
    /// `u=` of the Stream ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Text>,
    /// `h=` of the Stream ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Text>,
    /// Only callers with this `m=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The caller's addresses, as 203.0.113.0/24. Asked only where nothing else of the Service matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 64))]
    pub source: Option<String>,
}

/// A text to compare with, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = ("self.type == 'Prefix' || (size(self.value) > 0 && size(self.value) <= 123)", "an exact text has 1 to 123 bytes"),
    validation = ("!self.value.contains('\\u0000')", "no Stream ID holds a zero byte")
)]
pub struct Text {
    /// How to compare.
    #[serde(default, rename = "type")]
    pub kind: TextKind,
    /// At most 123 bytes, or 124 of a prefix. An empty prefix fits every stream that has the field.
    #[schemars(length(max = 124))]
    pub value: String,
}

/// How a [`Text`] is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TextKind {
    /// The whole.
    #[default]
    Exact,
    /// The beginning.
    Prefix,
}

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `m=publish`
    Publish,
    /// `m=request`
    Request,
}

/// What a rule's streams may use, all together, on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Streams at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub streams: Option<i32>,
    /// New streams a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub sessions_per_second: Option<i32>,
    /// Bits a second of each stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub stream_bitrate: Option<i64>,
    /// Bits a second of all streams together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub bitrate: Option<i64>,
}

/// From when on a stream is not well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.minBitrateFor) || (duration(self.minBitrateFor) >= duration('100ms') && duration(self.minBitrateFor) <= duration('1h'))", "minBitrateFor is 100ms to 1h"),
    validation = ("!has(self.stalledAfter) || self.stalledAfter == 'off' || (duration(self.stalledAfter) >= duration('100ms') && duration(self.stalledAfter) <= duration('1h'))", "stalledAfter is 100ms to 1h, or off")
)]
pub struct Thresholds {
    /// Bits a second of SRT payload. Without it no stream sends too little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub min_bitrate: Option<i64>,
    /// How long a stream must be below that: 100ms to 1h, by default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub min_bitrate_for: Option<String>,
    /// First transmissions lost before the node: 0.01% to 100%, or "off"; by default 5%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 7),
        regex(pattern = r"^(off|(0\.(0[1-9]|[1-9][0-9]?)|[1-9][0-9]?(\.[0-9]{1,2})?|100)%)$")
    )]
    pub max_loss: Option<String>,
    /// Round trip in percent of the latency that the two ends agreed on: 1% to 1000%, or "off"; by default 50%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 5), regex(pattern = r"^(off|([1-9][0-9]{0,2}|1000)%)$"))]
    pub max_rtt: Option<String>,
    /// A stream without data for this long is stalled: 100ms to 1h, or "off"; by default 3s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 24),
        regex(pattern = r"^(off|([0-9]{1,5}(h|m|s|ms)){1,4})$")
    )]
    pub stalled_after: Option<String>,
}

/// What the agents say of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamRouteStatus {
    /// `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// As Kubernetes' own types have it. A list by type: agents and others can each own some.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
                "message": {"type": "string", "maxLength": 32768},
            },
        },
    })
}

#[cfg(test)]
mod tests;
