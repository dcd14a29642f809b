//! What the API answers. Field names are stable.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    commands::{BackendRow, RouteRow, ServiceRow, Status},
    view::{FailoverRow, History, StreamRow},
};

/// When and where an answer is from: part of every one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Stamp {
    /// When it was given, RFC 3339.
    pub(super) at: String,
    /// Milliseconds since the streams were read; absent: not yet.
    pub(super) viewed_ms: Option<u64>,
}

/// This node at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Overview {
    #[serde(flatten)]
    pub(super) stamp: Stamp,
    /// Host name of the node.
    pub(super) node: String,
    /// `redacted` or `full`: how Stream IDs and clients appear.
    pub(super) shows: &'static str,
    /// Streams of it.
    pub(super) streams: StreamCounts,
    /// Failovers of the last hour, as far as they are remembered: see `failovers`.
    pub(super) failovers_last_hour: usize,
    /// Dropped packets, for any reason.
    pub(super) drops: u64,
    /// How full the maps are that can be.
    pub(super) maps: Vec<MapFill>,
    /// What `ingest-agent status` says.
    pub(super) status: Status,
}

/// Streams, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub(super) struct StreamCounts {
    /// All that are known.
    pub(super) total: usize,
    /// Those that pods have now: neither ended nor cut.
    pub(super) established: usize,
    /// By state, every state.
    pub(super) states: BTreeMap<&'static str, usize>,
    /// By what is not well, every reason. A stream can have several.
    pub(super) reasons: BTreeMap<&'static str, usize>,
    /// Bits a second of payload, of all of them.
    pub(super) bitrate: f64,
}

/// Entries of a map.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct MapFill {
    /// What it holds.
    pub(super) name: &'static str,
    /// Entries.
    pub(super) entries: u64,
    /// Entries that fit.
    pub(super) capacity: u64,
}

/// Some of the streams.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct StreamList {
    #[serde(flatten)]
    pub(super) stamp: Stamp,
    /// Streams that the filter lets through.
    pub(super) total: usize,
    /// The first one's place among them.
    pub(super) offset: usize,
    /// In the order asked for.
    pub(super) streams: Vec<ListedStream>,
}

/// A stream of a list.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct ListedStream {
    #[serde(flatten)]
    pub(super) row: StreamRow,
    /// Its last minute, rounded; with `history=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) history: Option<History>,
}

/// All sessions of one stream.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct StreamSessions {
    #[serde(flatten)]
    pub(super) stamp: Stamp,
    /// Its sessions, the newest established one first. Bonded links and readers of one Stream ID are several.
    pub(super) sessions: Vec<StreamRow>,
}

/// The services.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct ServiceList {
    #[serde(flatten)]
    pub(super) stamp: Stamp,
    /// By name.
    pub(super) services: Vec<ServiceRow>,
}

/// The backends.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct BackendList {
    #[serde(flatten)]
    pub(super) stamp: Stamp,
    /// By slot.
    pub(super) backends: Vec<BackendRow>,
}

/// The routes.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct RouteList {
    #[serde(flatten)]
    pub(super) stamp: Stamp,
    /// By name.
    pub(super) routes: Vec<RouteRow>,
}

/// Packets that did not reach a pod.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct DropList {
    #[serde(flatten)]
    pub(super) stamp: Stamp,
    /// Dropped, by every reason.
    pub(super) drops: Vec<ReasonRow>,
    /// To VIPs and left to the host, by every reason.
    pub(super) passes: Vec<ReasonRow>,
}

/// Packets of one reason.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct ReasonRow {
    /// The reason's word, as in the metrics.
    pub(super) reason: &'static str,
    /// What it means.
    pub(super) explained: &'static str,
    /// Packets since the maps were made.
    pub(super) packets: u64,
}

/// The last failovers.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct FailoverList {
    #[serde(flatten)]
    pub(super) stamp: Stamp,
    /// The newest first; at most 256.
    pub(super) failovers: Vec<FailoverRow>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Problem {
    /// A sentence.
    pub(super) error: String,
}
