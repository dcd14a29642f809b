//! Which streams have series of their own, and what these say.
//!
//! At most so many as the command line says: those that are not well first, then by bitrate. A stream that has series keeps
//! them rather than making place for one that is a little bigger: series that come and go are worth nothing. They leave
//! with the stream.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use ingest_common::abi::{FlowKey, FlowState, StreamState};

use crate::{
    cli::StreamIds,
    redact,
    view::{Identity, Stream, View},
};

/// A stream must be this many times as big as one with series to get them instead.
const STICKY: f64 = 2.0;
/// Most characters of a redacted Stream ID.
const SHOWN: usize = 120;

/// Counters of a stream: names behind `ingest_`, and help.
pub(super) const TOTALS: [(&str, &str); 5] = [
    (
        "stream_payload_bytes",
        "Payload bytes of the stream: of SRT data packets, retransmitted ones too; of a reader, those to it; of a udp service, of all packets",
    ),
    (
        "stream_packets",
        "Packets of the stream from its client, all kinds",
    ),
    (
        "stream_lost_packets",
        "First transmissions of the stream that did not come to this node",
    ),
    (
        "stream_retransmitted_packets",
        "Data packets of the stream that its client sent again",
    ),
    (
        "stream_reported_lost_packets",
        "Sequence numbers of the stream that its pod reported lost; repeats count again",
    ),
];

type Totals = [u64; TOTALS.len()];

/// A stream's series.
#[derive(Clone, Debug)]
pub(super) struct Series {
    service: String,
    stream: String,
    id: String,
    pub(super) totals: Totals,
    pub(super) rtt_seconds: Option<f64>,
    pub(super) receive_buffer: u32,
    pub(super) state: StreamState,
}

impl Series {
    /// The `stream` is redacted and may be cut; `id` tells apart.
    pub(super) fn labels(&self) -> [(&'static str, &str); 3] {
        [
            ("service", &self.service),
            ("stream", &self.stream),
            ("id", &self.id),
        ]
    }

    pub(super) fn sample() -> Self {
        Self {
            service: "live/srt".to_owned(),
            stream: "#!::r=liv…0b5a7f21,m=publish".to_owned(),
            id: "0123456789abcdef".to_owned(),
            totals: [1316, 1, 0, 0, 0],
            rtt_seconds: Some(0.02),
            receive_buffer: 8192,
            state: StreamState::Warning,
        }
    }
}

/// Who has series. Kept from scrape to scrape.
#[derive(Debug, Default)]
pub struct StreamSeries {
    limit: usize,
    stream_ids: StreamIds,
    held: HashMap<Identity, Held>,
}

/// What is kept of a stream, so that its counters go on when its caller comes back, and never back.
#[derive(Debug, Default)]
struct Held {
    totals: Totals,
    /// What was counted of each of its sessions.
    sessions: HashMap<(FlowKey, u64), Totals>,
}

/// How much a stream wants series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rank {
    /// It has not ended.
    lives: bool,
    unwell: bool,
    weight: f64,
}

impl Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.lives, self.unwell)
            .cmp(&(other.lives, other.unwell))
            .then(self.weight.total_cmp(&other.weight))
    }
}

impl StreamSeries {
    /// For at most `limit` streams, with Stream IDs as `stream_ids` says, but never in full.
    pub fn new(limit: usize, stream_ids: StreamIds) -> Self {
        Self {
            limit,
            stream_ids: redact::at_most_redacted(stream_ids),
            held: HashMap::new(),
        }
    }

    /// The series now, and how many streams have none.
    pub(super) fn choose(&mut self, view: &View) -> (Vec<Series>, usize) {
        let chosen = self.rank(view);
        let omitted = chosen.1;
        let chosen = chosen.0;
        self.held.retain(|identity, _| chosen.contains(identity));
        let mut shown: HashMap<Identity, &Stream> = HashMap::new();
        let mut sessions: HashSet<(FlowKey, u64)> = HashSet::new();
        for stream in view.streams() {
            if !chosen.contains(&stream.identity) {
                continue;
            }
            let session = (stream.key, stream.flow.accepted_ns);
            sessions.insert(session);
            let held = self.held.entry(stream.identity).or_default();
            held.count(session, &totals(stream));
            let present = shown.entry(stream.identity).or_insert(stream);
            if is_newer(stream, present) {
                *present = stream;
            }
        }
        for held in self.held.values_mut() {
            held.sessions
                .retain(|session, _| sessions.contains(session));
        }
        let mut all: Vec<_> = shown
            .into_iter()
            .map(|(identity, stream)| self.series(view, identity, stream))
            .collect();
        all.sort_by(|a, b| (&a.service, &a.id).cmp(&(&b.service, &b.id)));
        (all, omitted)
    }

    /// Who is to have series, and how many are not.
    fn rank(&self, view: &View) -> (HashSet<Identity>, usize) {
        let mut ranks: HashMap<Identity, Rank> = HashMap::new();
        for stream in view.streams() {
            let rank = ranks.entry(stream.identity).or_default();
            rank.lives |= stream.state != StreamState::Ending;
            rank.unwell |= matches!(stream.state, StreamState::Warning | StreamState::Stalled);
            rank.weight += stream.rates.bitrate;
        }
        let mut ranks: Vec<_> = ranks.into_iter().collect();
        for (identity, rank) in &mut ranks {
            if self.held.contains_key(identity) {
                rank.weight = rank.weight.mul_add(STICKY, 1.0);
            }
        }
        let omitted = ranks.len().saturating_sub(self.limit);
        if omitted > 0 {
            let best_first =
                |(a, x): &(Identity, Rank), (b, y): &(Identity, Rank)| y.cmp(x).then(a.cmp(b));
            ranks.select_nth_unstable_by(self.limit, best_first);
            ranks.truncate(self.limit);
        }
        (
            ranks.into_iter().map(|(identity, _)| identity).collect(),
            omitted,
        )
    }

    fn series(&self, view: &View, identity: Identity, stream: &Stream) -> Series {
        let service = view.names().services.get(&identity.service);
        let held = self.held.get(&identity);
        let asked = stream.asked.as_deref();
        let name = asked.and_then(|asked| redact::stream_id(asked, self.stream_ids));
        Series {
            service: service.map(|s| s.name.clone()).unwrap_or_default(),
            stream: redact::cut(name.unwrap_or_default(), SHOWN),
            id: identity.id(),
            totals: held.map(|held| held.totals).unwrap_or_default(),
            rtt_seconds: stream.rates.rtt_ms.map(|ms| ms / 1000.0),
            receive_buffer: stream.flow.down.receive_buffer,
            state: stream.state,
        }
    }
}

impl Held {
    /// Adds what has come since. What a session counts less than before (a late packet has filled a gap) waits until it
    /// counts more.
    fn count(&mut self, session: (FlowKey, u64), now: &Totals) {
        let before = self.sessions.entry(session).or_default();
        for ((total, before), now) in self.totals.iter_mut().zip(before).zip(now) {
            *total += now.saturating_sub(*before);
            *before = (*before).max(*now);
        }
    }
}

/// Of several sessions of one stream, the one that tells how it is.
fn is_newer(stream: &Stream, than: &Stream) -> bool {
    let rank = |stream: &Stream| {
        let is_established = FlowState::from_u8(stream.flow.state) == FlowState::Established;
        (is_established, stream.flow.accepted_ns, stream.key)
    };
    rank(stream) > rank(than)
}

fn totals(stream: &Stream) -> Totals {
    let flow = &stream.flow;
    let up = &flow.up;
    [
        stream.payload_bytes(),
        up.packets,
        up.gaps.saturating_sub(up.out_of_order),
        up.retransmitted,
        flow.down.reported_lost,
    ]
}

#[cfg(test)]
mod tests;
