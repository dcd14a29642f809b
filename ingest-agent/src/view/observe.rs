//! The view itself: who comes, who goes, and in what order that is told.

use std::{
    collections::{HashMap, VecDeque},
    mem,
};

use ingest_common::abi::{
    Flow, FlowKey, FlowState, StreamHealth, StreamId, StreamState, Thresholds,
};

use super::{
    Change, Failover, Identity, Moment, Names, Rates, Reading, Stream,
    entry::{BothNames, Entry, backend_of},
    identity::{Callers, Ended, How, Returns},
    judge::{Facts, Judge},
    rates::Meter,
};

/// Values of a stream's history.
const MOMENTS: usize = 60;
/// Streams with a history, 720 bytes each.
pub(super) const HISTORIES: usize = 16_384;
/// Failovers that are kept.
const FAILOVERS: usize = 256;
/// A flow that is younger when it is seen first is measured from its beginning.
const YOUNG_NS: u64 = 2_500_000_000;

/// All streams.
#[derive(Debug, Default)]
pub struct View {
    /// The last one, without its flows.
    reading: Reading,
    streams: HashMap<FlowKey, Entry>,
    callers: Callers,
    /// Until the next reading.
    adopted: HashMap<FlowKey, StreamHealth>,
    failovers: VecDeque<Failover>,
    /// Counts readings.
    round: u64,
    /// Streams that have a history.
    histories: usize,
}

fn is_established(flow: &Flow) -> bool {
    FlowState::from_u8(flow.state) == FlowState::Established
}

fn is_same_session(one: &Flow, other: &Flow) -> bool {
    (one.accepted_ns, one.caller_id) == (other.accepted_ns, other.caller_id)
}

fn thresholds(reading: &Reading, key: &FlowKey, flow: &Flow) -> Thresholds {
    let get = |index| {
        let found = reading.thresholds.get(&index);
        found.copied().unwrap_or_default()
    };
    let of_service = get(Thresholds::of_service(key.service)).or(Thresholds::DEFAULT);
    match flow.route {
        0 => of_service,
        route => get(Thresholds::of_route(route)).or(of_service),
    }
}

impl View {
    /// Streams that nobody measured, for tests of what shows them.
    pub fn made_up(
        reading: Reading,
        streams: impl IntoIterator<Item = Stream>,
        failovers: impl IntoIterator<Item = Failover>,
    ) -> Self {
        let now_ns = reading.now_ns;
        let entry = |stream: Stream| Entry {
            meter: Meter::from_now(now_ns, &stream.flow),
            judge: Judge::new(now_ns, &stream.flow),
            round: 0,
            counts: false,
            told: (stream.state, stream.reasons),
            stream,
        };
        let streams: HashMap<_, _> = streams.into_iter().map(|s| (s.key, entry(s))).collect();
        let has_history = |entry: &&Entry| entry.stream.history.capacity() > 0;
        Self {
            histories: streams.values().filter(has_history).count(),
            reading,
            streams,
            failovers: failovers.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Takes what another judge says, so that counts go on and nothing is told twice: before the first reading what an
    /// earlier agent left, after a reading what the agent says now. Its word stands until the next reading.
    pub fn adopt(&mut self, health: &HashMap<FlowKey, StreamHealth>) {
        self.adopted.clone_from(health);
        for (key, health) in health {
            if let Some(entry) = self.streams.get_mut(key)
                && entry.stream.flow.caller_id == health.caller_id
            {
                let thresholds = thresholds(&self.reading, key, &entry.stream.flow);
                entry.adopt(health, thresholds);
                self.callers.adopt(entry.stream.identity, health.into());
            }
        }
    }

    /// Takes in what the maps say now. `ask` reads what the caller of a flow that is new asked for.
    ///
    /// Told first is who is gone, then who has come back, then how streams are.
    pub fn observe(
        &mut self,
        mut reading: Reading,
        mut ask: impl FnMut(&FlowKey) -> Option<StreamId>,
    ) -> Vec<Change> {
        let flows = mem::take(&mut reading.flows);
        let before = mem::replace(&mut self.reading, reading);
        self.round += 1;
        let mut changes = Vec::new();
        let mut new = self.update(flows, &before.names);
        self.remove_missing(&before.names, &mut changes);
        new.sort_by_key(|(_, flow)| flow.accepted_ns);
        for (key, flow) in new {
            let asked = ask(&key).filter(|asked| asked.caller_id == flow.caller_id);
            self.begin(key, flow, asked.map(Box::new), &before.names, &mut changes);
        }
        self.adopted = HashMap::new();
        self.judge(&mut changes);
        self.callers.forget(self.reading.now_ns);
        changes
    }

    /// Takes in the flows that go on; the others are returned. One may be among them twice.
    fn update(&mut self, flows: Vec<(FlowKey, Flow)>, before: &Names) -> Vec<(FlowKey, Flow)> {
        let names = BothNames {
            now: &self.reading.names,
            before,
        };
        let mut new = Vec::new();
        for (key, flow) in flows {
            let Some(entry) = self.streams.get_mut(&key) else {
                new.push((key, flow));
                continue;
            };
            if entry.round == self.round {
                continue;
            }
            entry.round = self.round;
            if !is_same_session(&entry.stream.flow, &flow) {
                entry.end(&mut self.callers, &names);
                new.push((key, flow));
                continue;
            }
            entry.stream.flow = flow;
            if is_established(&flow) {
                let identity = entry.stream.identity;
                self.callers.hear(identity, self.reading.now_ns, &flow);
            } else {
                entry.end(&mut self.callers, &names);
            }
        }
        new
    }

    fn remove_missing(&mut self, before: &Names, changes: &mut Vec<Change>) {
        let names = BothNames {
            now: &self.reading.names,
            before,
        };
        let Self {
            streams,
            callers,
            histories,
            round,
            ..
        } = self;
        streams.retain(|key, entry| {
            let stays = entry.round == *round;
            if !stays {
                entry.end(callers, &names);
                *histories -= usize::from(entry.stream.history.capacity() > 0);
                changes.push(Change::Gone { key: *key });
            }
            stays
        });
    }

    /// A session that was not there before.
    fn begin(
        &mut self,
        key: FlowKey,
        flow: Flow,
        asked: Option<Box<StreamId>>,
        before: &Names,
        changes: &mut Vec<Change>,
    ) {
        let names = BothNames {
            now: &self.reading.names,
            before,
        };
        let mut told = (StreamState::Active, 0);
        if let Some(entry) = self.streams.get_mut(&key) {
            if is_same_session(&entry.stream.flow, &flow) {
                return;
            }
            entry.end(&mut self.callers, &names);
            told = entry.told;
        }
        let now_ns = self.reading.now_ns;
        let identity = Identity::new(&key, &flow, asked.as_deref());
        let (mut returns, ended) = self.callers.begin(identity, &key, &flow, asked.as_deref());
        let adopted = self.adopted.get(&key);
        let adopted = adopted.filter(|health| health.caller_id == flow.caller_id);
        match (adopted, ended) {
            (Some(health), _) => {
                self.callers.adopt(identity, health.into());
                returns = health.into();
            }
            (None, Some(Ended { at_ns, how, from })) => match how {
                How::Left => changes.push(Change::Reconnected { key }),
                How::Cut(reason) => {
                    let service = self.reading.names.services.get(&key.service);
                    let failover = Failover {
                        identity,
                        asked: asked.clone(),
                        at_ns: flow.accepted_ns,
                        took_ns: flow.accepted_ns.saturating_sub(at_ns),
                        reason,
                        service: service.map_or_else(String::new, |service| service.name.clone()),
                        from,
                        to: names.pod(&flow),
                    };
                    if self.failovers.len() == FAILOVERS {
                        self.failovers.pop_front();
                    }
                    self.failovers.push_back(failover.clone());
                    changes.push(Change::Failover(failover));
                }
            },
            (None, None) => {}
        }
        let is_young = now_ns.saturating_sub(flow.accepted_ns) < YOUNG_NS;
        let mut entry = Entry {
            meter: if is_young {
                Meter::of_new(&flow)
            } else {
                Meter::from_now(now_ns, &flow)
            },
            judge: Judge::new(now_ns, &flow),
            round: self.round,
            counts: is_established(&flow),
            told,
            stream: Stream {
                key,
                flow,
                identity,
                asked,
                state: StreamState::Active,
                reasons: 0,
                since_ns: flow.accepted_ns,
                rates: Rates::default(),
                reconnects: returns.reconnects,
                failovers: returns.failovers,
                history: VecDeque::new(),
            },
        };
        if let Some(health) = adopted {
            entry.adopt(health, thresholds(&self.reading, &key, &flow));
        }
        if let Some(replaced) = self.streams.insert(key, entry) {
            self.histories -= usize::from(replaced.stream.history.capacity() > 0);
        }
    }

    fn judge(&mut self, changes: &mut Vec<Change>) {
        let now_ns = self.reading.now_ns;
        for (key, entry) in &mut self.streams {
            let stream = &mut entry.stream;
            let flow = &stream.flow;
            let measured = entry.meter.measure(now_ns, flow, &mut stream.rates);
            let (state, reasons) = entry.judge.judge(&Facts {
                now_ns,
                flow,
                asked: stream.asked.as_deref(),
                backend: backend_of(&self.reading.names, flow),
                rates: &stream.rates,
                measured,
                thresholds: thresholds(&self.reading, key, flow),
            });
            if measured.is_some() {
                remember(stream, &mut self.histories);
            }
            if state != stream.state {
                stream.since_ns = now_ns;
            }
            (stream.state, stream.reasons) = (state, reasons);
            let (before, reasons_before) = entry.told;
            if entry.told != (state, reasons) {
                entry.told = (state, reasons);
                changes.push(Change::State {
                    key: *key,
                    before,
                    now: state,
                    reasons,
                    reasons_before,
                });
            }
        }
    }

    /// Every stream, in no order.
    pub fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.streams.values().map(|entry| &entry.stream)
    }

    /// One of them.
    pub fn stream(&self, key: &FlowKey) -> Option<&Stream> {
        self.streams.get(key).map(|entry| &entry.stream)
    }

    /// The last failovers, the newest last; at most 256.
    pub fn failovers(&self) -> impl Iterator<Item = &Failover> {
        self.failovers.iter()
    }

    /// Who is who.
    pub fn names(&self) -> &Names {
        &self.reading.names
    }

    /// When the maps were read last, `CLOCK_MONOTONIC`; 0: not yet.
    pub fn now_ns(&self) -> u64 {
        self.reading.now_ns
    }

    /// The thresholds of a stream: its route's, its service's, the default ones.
    pub fn thresholds(&self, stream: &Stream) -> Thresholds {
        thresholds(&self.reading, &stream.key, &stream.flow)
    }
}

impl From<&StreamHealth> for Returns {
    fn from(health: &StreamHealth) -> Self {
        Self {
            reconnects: health.reconnects,
            failovers: health.failovers,
        }
    }
}

/// Adds a second to a stream's history, if it has one or may have.
fn remember(stream: &mut Stream, histories: &mut usize) {
    let history = &mut stream.history;
    if history.capacity() == 0 {
        if *histories == HISTORIES {
            return;
        }
        *histories += 1;
        history.reserve_exact(MOMENTS);
    }
    if history.len() == MOMENTS {
        history.pop_front();
    }
    let rates = &stream.rates;
    history.push_back(Moment {
        bitrate: rates.bitrate as f32,
        loss: rates.loss as f32,
        rtt_ms: rates.rtt_ms.unwrap_or_default() as f32,
    });
}
