//! The format. Stable: fields are added, never renamed or given another meaning.
//!
//! Addresses and names are read as text, so that [`super::check`] can say what is wrong with them and where.

use serde::Deserialize;
use serde_saphyr::Spanned;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    /// One interface name or a list.
    pub(super) uplink: Spanned<OneOrMany>,
    pub(super) services: Vec<Spanned<Service>>,
    #[serde(default)]
    pub(super) routes: Vec<Spanned<Route>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Service {
    /// `namespace/name`
    pub(super) name: Spanned<String>,
    /// None, and no port: it is only a pool, for routes.
    pub(super) vips: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) port: Option<Spanned<i64>>,
    /// `srt` where it is only a pool.
    pub(super) protocol: Option<Spanned<String>>,
    /// `stream` (the default with SRT) or `client`: who answers callers' handshakes.
    pub(super) handshake: Option<Spanned<String>>,
    /// `default` or `reject`: what becomes of callers that no route matches.
    pub(super) unrouted: Option<Spanned<String>>,
    /// Backends without a limit get one: a quarter above the mean.
    pub(super) balance: Option<Spanned<bool>>,
    /// Empty: everyone.
    #[serde(default)]
    pub(super) source_ranges: Vec<Spanned<String>>,
    pub(super) thresholds: Option<Spanned<Thresholds>>,
    #[serde(default)]
    pub(super) backends: Vec<Spanned<Backend>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Backend {
    /// `namespace/name` of the pod
    pub(super) name: Spanned<String>,
    pub(super) address: Spanned<String>,
    pub(super) port: Spanned<i64>,
    /// As in an EndpointSlice: false means that the pod takes no sessions and keeps none.
    #[serde(default = "yes")]
    pub(super) serving: bool,
    /// As in an EndpointSlice: the pod keeps its sessions and takes no new ones.
    #[serde(default)]
    pub(super) terminating: bool,
    /// Share of new sessions, relative to the others: 1 (the default) to 100.
    pub(super) weight: Option<Spanned<i64>>,
    /// Most sessions.
    pub(super) limit: Option<Spanned<i64>>,
}

/// Which streams of a service go where.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Route {
    /// `namespace/name`
    pub(super) name: Spanned<String>,
    /// Name of the service whose callers it is for.
    pub(super) service: Spanned<String>,
    /// Any of these.
    #[serde(rename = "match")]
    pub(super) matches: Spanned<Vec<Spanned<Match>>>,
    /// Name of the service whose backends get them.
    pub(super) pool: Option<Spanned<String>>,
    /// Nobody gets them.
    pub(super) reject: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) quota: Quota,
    /// Before the service's.
    pub(super) thresholds: Option<Spanned<Thresholds>>,
}

/// One of the first five, or the mode alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Match {
    pub(super) stream_id: Option<Text>,
    /// `r=`
    pub(super) resource: Option<Text>,
    /// `u=`
    pub(super) user: Option<Text>,
    /// `h=`
    pub(super) host: Option<Text>,
    /// A network.
    pub(super) source: Option<Spanned<String>>,
    /// `publish` or `request`: `m=`
    pub(super) mode: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Text {
    Exact(String),
    Prefix(String),
}

/// Bounds of all of a route's streams together, on this node.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Quota {
    /// Sessions at once.
    pub(super) streams: Option<Spanned<i64>>,
    pub(super) sessions_per_second: Option<Spanned<i64>>,
    /// Bits a second, each stream.
    pub(super) stream_bitrate: Option<Spanned<i64>>,
    /// Bits a second, all streams.
    pub(super) bitrate: Option<Spanned<i64>>,
}

/// From when on a stream is not well. As text, but for the bitrate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Thresholds {
    /// Bits a second.
    pub(super) min_bitrate: Option<Spanned<i64>>,
    pub(super) min_bitrate_for: Option<Spanned<String>>,
    pub(super) max_loss: Option<Spanned<String>>,
    pub(super) max_rtt: Option<Spanned<String>>,
    pub(super) stalled_after: Option<Spanned<String>>,
}

const fn yes() -> bool {
    true
}
