//! Streams as people and programs see them: the rows of `streams`, of `top` and of the API, redacted.

use serde::Serialize;

use super::{Failover, Stream, View};
use crate::cli::StreamIds;

/// How much is shown of what strangers sent and of who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Stream IDs.
    pub stream_ids: StreamIds,
    /// Clients' addresses in full; otherwise their network (IPv4 /24, IPv6 /48).
    pub clients: bool,
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamRow {
    /// Its id: the same for all sessions of one Stream ID on one service.
    pub id: String,
}

impl StreamRow {
    /// The row of a stream of `view`.
    pub fn new(stream: &Stream, view: &View, shown: Shown) -> Self {
        let _ = (view, shown);
        Self {
            id: stream.identity.id(),
        }
    }
}

/// A failover.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailoverRow {
    /// Id of the stream, as in [`StreamRow::id`].
    pub id: String,
}

impl FailoverRow {
    /// The row of a failover of `view`.
    pub fn new(failover: &Failover, view: &View, shown: Shown) -> Self {
        let _ = (view, shown);
        Self {
            id: failover.identity.id(),
        }
    }
}
