//! Which streams a list has, and in which order.
//!
//! Texts are compared as they are shown: a filter or an order must not tell what redaction hides.

use std::cmp::Ordering;

use ingest_common::abi::StreamState;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::view::{Shown, Stream, StreamRow, View};

/// Streams in a list, unless fewer are asked for: a thousand are half a megabyte.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// What can be asked of `/api/v1/streams`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StreamQuery {
    /// Only streams in these states: one or more of `active`, `warning`, `draining`, `stalled`, `ending`, with commas.
    pub(super) state: Option<String>,
    /// Only streams of this service, `namespace/name`.
    pub(super) service: Option<String>,
    /// Only streams with this in their id, Stream ID, client, service, VIP, pod or route, as they are shown; upper and lower case
    /// are the same.
    pub(super) q: Option<String>,
    /// By what to sort. Equals are in the order of service and Stream ID.
    pub(super) sort: Sort,
    /// Which end first. `state`: `asc` has what is not well first.
    pub(super) order: Order,
    /// Most streams in the answer, 0 to 1000; without it 100.
    #[schemars(range(max = 1000))]
    pub(super) limit: Option<usize>,
    /// Streams to leave out before them.
    pub(super) offset: usize,
    /// Whether each stream has its last minute with it.
    pub(super) history: bool,
}

/// By what streams are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sort {
    /// What is not well first.
    #[default]
    State,
    /// Stream ID, as it is shown.
    StreamId,
    /// Service.
    Service,
    /// Pod.
    Backend,
    /// Bitrate.
    Bitrate,
    /// Loss before the node.
    Loss,
    /// Round trip.
    Rtt,
    /// Time since its pod accepted it.
    Age,
    /// How often its caller came back, for whatever reason.
    Returns,
}

/// Which end comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// The lowest.
    #[default]
    Asc,
    /// The highest.
    Desc,
}

/// What of `view` is asked for.
pub(super) struct Found<'a> {
    /// Streams that the filter lets through.
    pub(super) total: usize,
    /// Those of the page.
    pub(super) streams: Vec<(&'a Stream, StreamRow)>,
}

impl StreamQuery {
    /// The streams asked for, or why that makes no sense.
    pub(super) fn find<'a>(&self, view: &'a View, shown: Shown) -> Result<Found<'a>, String> {
        let states = self.states()?;
        let limit = self.limit.unwrap_or(LIMIT);
        if limit > LIMIT_MAX {
            return Err(format!("limit={limit}: at most {LIMIT_MAX}"));
        }
        let needle = self.q.as_deref().map(str::trim).unwrap_or_default();
        let needle = needle.to_lowercase();
        let mut found: Vec<_> = view
            .streams()
            .filter(|stream| states.contains(&stream.state))
            .map(|stream| (stream, StreamRow::new(stream, view, shown)))
            .filter(|(_, row)| self.service.as_ref().is_none_or(|s| *s == row.service))
            .filter(|(_, row)| needle.is_empty() || has(row, &needle))
            .collect();
        found.sort_unstable_by(|a, b| self.compare(a, b));
        let total = found.len();
        let streams = found.into_iter().skip(self.offset).take(limit).collect();
        Ok(Found { total, streams })
    }

    fn states(&self) -> Result<Vec<StreamState>, String> {
        let Some(words) = &self.state else {
            return Ok(StreamState::ALL.to_vec());
        };
        let known = |word: &str| StreamState::ALL.into_iter().find(|s| s.as_str() == word);
        words
            .split(',')
            .map(|word| known(word).ok_or_else(|| format!("state={word}: no such state")))
            .collect()
    }

    fn compare(&self, a: &(&Stream, StreamRow), b: &(&Stream, StreamRow)) -> Ordering {
        let ((one, x), (two, y)) = (a, b);
        let by = match self.sort {
            Sort::State => severity(one.state).cmp(&severity(two.state)),
            Sort::StreamId => x.stream_id.cmp(&y.stream_id),
            Sort::Service => x.service.cmp(&y.service),
            Sort::Backend => x.backend.cmp(&y.backend),
            Sort::Bitrate => numbers(x.bitrate, y.bitrate),
            Sort::Loss => numbers(x.loss, y.loss),
            Sort::Rtt => numbers(x.rtt_ms, y.rtt_ms),
            Sort::Age => x.age_seconds.total_cmp(&y.age_seconds),
            Sort::Returns => x.reconnects.cmp(&y.reconnects),
        };
        let by = match self.order {
            Order::Asc => by,
            Order::Desc => by.reverse(),
        };
        // To the last detail, so that a page does not show one twice and another never.
        by.then_with(|| (&x.service, &x.stream_id).cmp(&(&y.service, &y.stream_id)))
            .then_with(|| (&x.id, x.caller_id).cmp(&(&y.id, y.caller_id)))
            .then_with(|| one.key.cmp(&two.key))
    }
}

/// What needs eyes first.
fn severity(state: StreamState) -> u8 {
    match state {
        StreamState::Stalled => 0,
        StreamState::Warning => 1,
        StreamState::Draining => 2,
        StreamState::Active => 3,
        StreamState::Ending => 4,
    }
}

/// What was not measured is less than anything.
fn numbers(a: Option<f64>, b: Option<f64>) -> Ordering {
    a.unwrap_or(-1.0).total_cmp(&b.unwrap_or(-1.0))
}

fn has(row: &StreamRow, needle: &str) -> bool {
    let texts = [
        Some(&row.id),
        Some(&row.client),
        Some(&row.service),
        Some(&row.vip),
        row.stream_id.as_ref(),
        row.backend.as_ref(),
        row.route.as_ref(),
    ];
    texts
        .into_iter()
        .flatten()
        .any(|text| text.to_lowercase().contains(needle))
}
