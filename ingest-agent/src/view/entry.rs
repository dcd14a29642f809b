//! One stream between readings.

use std::mem;

use ingest_common::abi::{CutReason, Flow, FlowState, StreamHealth, StreamState, Thresholds};

use super::{
    BackendName, Names, Stream,
    identity::{Callers, Ended, How},
    judge::Judge,
    rates::Meter,
};

/// A stream with what is needed to measure and to judge it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stream: Stream,
    pub(super) meter: Meter,
    pub(super) judge: Judge,
    /// The last reading that it was in.
    pub(super) round: u64,
    /// Whether it counts as a session of its caller: until its end has been seen.
    pub(super) counts: bool,
    /// State and reasons that were told of the key.
    pub(super) told: (StreamState, u16),
}

impl Entry {
    /// Its end has been seen, or something that means it.
    pub(super) fn end(&mut self, callers: &mut Callers, names: &BothNames<'_>) {
        if !mem::take(&mut self.counts) {
            return;
        }
        let Stream {
            key,
            flow,
            identity,
            asked,
            ..
        } = &self.stream;
        let mut ended = Ended::of(flow, names.pod(flow));
        let established = FlowState::from_u8(flow.state) == FlowState::Established;
        if established && names.is_gone(flow) {
            // Its port was taken over by its next session before anyone saw the cut.
            ended.how = How::Cut(Some(CutReason::BackendGone));
        }
        let has_id = asked.as_ref().is_some_and(|asked| asked.length > 0);
        callers.end(*identity, key, has_id, ended);
    }

    /// Takes the word of another judge.
    pub(super) fn adopt(&mut self, health: &StreamHealth, thresholds: Thresholds) {
        let stream = &mut self.stream;
        stream.state = StreamState::from_u8(health.state);
        stream.reasons = health.reasons;
        stream.since_ns = health.since_ns;
        stream.reconnects = stream.reconnects.max(health.reconnects);
        stream.failovers = stream.failovers.max(health.failovers);
        self.told = (stream.state, stream.reasons);
        self.judge.adopt(health, thresholds);
    }
}

/// Names now, and a reading ago.
pub(super) struct BothNames<'a> {
    pub(super) now: &'a Names,
    pub(super) before: &'a Names,
}

impl BothNames<'_> {
    /// The name of a flow's pod.
    pub(super) fn pod(&self, flow: &Flow) -> Option<String> {
        [self.now, self.before]
            .into_iter()
            .find_map(|names| backend_of(names, flow))
            .map(|backend| backend.name.clone())
    }

    /// Whether a flow's pod was there and is not.
    fn is_gone(&self, flow: &Flow) -> bool {
        backend_of(self.now, flow).is_none() && backend_of(self.before, flow).is_some()
    }
}

/// A flow's pod, while its slot has not got another.
pub(super) fn backend_of<'a>(names: &'a Names, flow: &Flow) -> Option<&'a BackendName> {
    names
        .backends
        .get(&flow.slot)
        .filter(|backend| backend.incarnation == flow.incarnation)
}
