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
    pub(super) vips: Spanned<Vec<Spanned<String>>>,
    pub(super) port: Spanned<i64>,
    pub(super) protocol: Spanned<String>,
    /// Empty: everyone.
    #[serde(default)]
    pub(super) source_ranges: Vec<Spanned<String>>,
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
}

const fn yes() -> bool {
    true
}
