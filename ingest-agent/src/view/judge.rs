//! Whether a stream is well, and what is not. Every verdict has hysteresis: a number that wavers about its threshold
//! must not make a state that flaps.

use ingest_common::abi::{
    Flow, FlowState, OFF, Reason, StreamHealth, StreamId, StreamState, Thresholds,
};

use super::{
    BackendName, Rates,
    rates::{Measured, data_packets, is_reader},
};

const SECOND: u64 = 1_000_000_000;
/// A number must be over its threshold for this long,
const RAISED_AFTER: u64 = 3 * SECOND;
/// and under [`CLEAR_AT`] of it for this long.
const CLEARED_AFTER: u64 = 5 * SECOND;
const CLEAR_AT: f64 = 0.8;
/// Bitrates must be enough for this long.
const ENOUGH_FOR: u64 = 3 * SECOND;
/// Readings do not come on the second.
const JITTER: u64 = SECOND / 5;
/// A caller that is there sends a keepalive a second.
const HEARD_WITHIN: u64 = 5 * SECOND / 2;
/// A pod that is there answers data within a hundredth of this.
const ANSWERS_WITHIN: u64 = SECOND;
/// Fewer than so many are no trend, whatever their share.
const LOST_AT_LEAST: f64 = 2.0;
/// The share of its buffer that a pod should have free, and so many packets.
const BUFFER_FREE: f64 = 0.1;
const BUFFER_PACKETS: f64 = 64.0;

/// A verdict that takes time to come and to go.
#[derive(Clone, Copy, Debug, Default)]
struct Trigger {
    held: bool,
    bad_since: Option<u64>,
    good_since: Option<u64>,
}

impl Trigger {
    /// One reading, of what was from `since` until `now`.
    fn take(
        &mut self,
        (since, now): (u64, u64),
        sign: Sign,
        raised_after: u64,
        cleared_after: u64,
    ) {
        match sign {
            Sign::Bad => {
                self.good_since = None;
                let began = *self.bad_since.get_or_insert(since);
                self.held |= lasted(began, now, raised_after);
            }
            Sign::Between => {
                self.bad_since = None;
                self.good_since = None;
            }
            Sign::Good => {
                self.bad_since = None;
                let began = *self.good_since.get_or_insert(since);
                self.held &= !lasted(began, now, cleared_after);
            }
        }
    }

    /// Of a number that is bad above `threshold`.
    fn over(&mut self, span: (u64, u64), value: f64, threshold: f64) {
        let sign = if value > threshold {
            Sign::Bad
        } else if value < threshold * CLEAR_AT {
            Sign::Good
        } else {
            Sign::Between
        };
        self.take(span, sign, RAISED_AFTER, CLEARED_AFTER);
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[derive(Clone, Copy)]
enum Sign {
    Good,
    Between,
    Bad,
}

fn lasted(since: u64, now: u64, long: u64) -> bool {
    now.saturating_sub(since).saturating_add(JITTER) >= long
}

/// What judging one stream needs to remember.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    low_bitrate: Trigger,
    loss: Trigger,
    rtt: Trigger,
    pod_buffer: Trigger,
    /// Data packets so far, and when the last is known to have come.
    data: u64,
    data_ns: u64,
    /// Most packets that the pod had room for: as good as the size of its buffer, which it does not tell.
    buffer: u32,
}

/// What is known of a stream at a reading.
pub(super) struct Facts<'a> {
    pub(super) now_ns: u64,
    pub(super) flow: &'a Flow,
    pub(super) asked: Option<&'a StreamId>,
    pub(super) backend: Option<&'a BackendName>,
    pub(super) rates: &'a Rates,
    /// Absent: rates are of an earlier reading.
    pub(super) measured: Option<Measured>,
    pub(super) thresholds: Thresholds,
}

impl Judge {
    /// Of a flow that is seen first. Whether data has just stopped is not known of one that has had some.
    pub(super) fn new(now_ns: u64, flow: &Flow) -> Self {
        let data = data_packets(flow);
        let data_ns = if data == 0 { flow.accepted_ns } else { now_ns };
        Self {
            data,
            data_ns: data_ns.min(now_ns),
            ..Self::default()
        }
    }

    /// Goes on from what an earlier judge said.
    pub(super) fn adopt(&mut self, health: &StreamHealth, thresholds: Thresholds) {
        let has = |reason: Reason| health.reasons & reason.bit() != 0;
        self.low_bitrate.held = has(Reason::LowBitrate);
        self.loss.held = has(Reason::Loss);
        self.rtt.held = has(Reason::Rtt);
        self.pod_buffer.held = has(Reason::PodBuffer);
        if StreamState::from_u8(health.state) == StreamState::Stalled {
            let before = ms(thresholds.stalled_after_ms);
            self.data_ns = self.data_ns.min(health.since_ns.saturating_sub(before));
        }
    }

    /// The state, and bits of its reasons.
    pub(super) fn judge(&mut self, facts: &Facts<'_>) -> (StreamState, u16) {
        let flow = facts.flow;
        if FlowState::from_u8(flow.state) != FlowState::Established {
            return (StreamState::Ending, 0);
        }
        let pod_silent = pod_silent(facts);
        let stalled = self.stalled(facts);
        if let Some(measured) = facts.measured {
            self.weigh(facts, measured, stalled.is_some());
        }
        let reasons = [
            (Reason::LowBitrate, self.low_bitrate.held),
            (Reason::Loss, self.loss.held),
            (Reason::Rtt, self.rtt.held),
            (Reason::PodBuffer, self.pod_buffer.held),
            (Reason::PodSilent, pod_silent),
        ]
        .into_iter()
        .filter_map(|(reason, holds)| holds.then_some(reason))
        .chain(stalled)
        .fold(0, |bits, reason| bits | reason.bit());
        let draining = facts
            .backend
            .is_some_and(|backend| backend.draining && backend.incarnation == flow.incarnation);
        let state = if stalled.is_some() {
            StreamState::Stalled
        } else if draining {
            StreamState::Draining
        } else if reasons != 0 {
            StreamState::Warning
        } else {
            StreamState::Active
        };
        (state, reasons)
    }

    /// Why no data comes; `None` where it does.
    fn stalled(&mut self, facts: &Facts<'_>) -> Option<Reason> {
        let flow = facts.flow;
        let data = data_packets(flow);
        if data != self.data {
            self.data = data;
            self.data_ns = flow.up.seen_ns.min(facts.now_ns).max(self.data_ns);
        }
        let long = facts.thresholds.stalled_after_ms;
        if long == OFF {
            return None;
        }
        let silent_for = |seen_ns: u64| facts.now_ns.saturating_sub(seen_ns.max(flow.accepted_ns));
        let gone = silent_for(flow.up.seen_ns) > HEARD_WITHIN;
        if is_reader(flow) {
            // It gets data, or waits for some that nobody publishes: both is well while the two ends talk.
            let up = silent_for(flow.up.seen_ns) > ms(long).max(HEARD_WITHIN);
            let down = silent_for(flow.down.seen_ns) > ms(long).max(HEARD_WITHIN);
            return (up || down).then_some(if up {
                Reason::EncoderUnreachable
            } else {
                Reason::PodSilent
            });
        }
        if facts.now_ns.saturating_sub(self.data_ns) < ms(long) {
            return None;
        }
        Some(if gone {
            Reason::EncoderUnreachable
        } else {
            Reason::EncoderStopped
        })
    }

    fn weigh(&mut self, facts: &Facts<'_>, measured: Measured, is_stalled: bool) {
        let Facts {
            now_ns,
            flow,
            rates,
            thresholds,
            ..
        } = facts;
        let span = (measured.since_ns, *now_ns);
        let reader = is_reader(flow);
        if is_stalled || reader || thresholds.min_bitrate == 0 {
            self.low_bitrate.reset();
        } else {
            self.weigh_bitrate(facts, span);
        }
        if thresholds.max_loss == OFF || reader {
            self.loss.reset();
        } else if measured.lost < LOST_AT_LEAST {
            self.loss.over(span, 0.0, 1.0);
        } else {
            let threshold = f64::from(thresholds.max_loss) / 10_000.0;
            self.loss.over(span, rates.loss, threshold);
        }
        match (rates.rtt_ms, latency_ms(flow, facts.asked)) {
            (Some(rtt), Some(latency)) if thresholds.max_rtt != OFF => {
                let threshold = f64::from(thresholds.max_rtt) / 100.0 * f64::from(latency);
                self.rtt.over(span, rtt, threshold);
            }
            _ => self.rtt.reset(),
        }
        self.weigh_buffer(flow, span);
    }

    fn weigh_bitrate(&mut self, facts: &Facts<'_>, span: (u64, u64)) {
        let thresholds = &facts.thresholds;
        let long = ms(thresholds.min_bitrate_for_ms);
        let age = facts.now_ns.saturating_sub(facts.flow.accepted_ns);
        #[expect(clippy::cast_precision_loss, reason = "no bitrate is 2^52")]
        let sign = if facts.rates.bitrate < thresholds.min_bitrate as f64 {
            Sign::Bad
        } else {
            Sign::Good
        };
        let held = self.low_bitrate.held;
        self.low_bitrate.take(span, sign, long, ENOUGH_FOR);
        // An encoder needs a while to begin.
        if !held && age < long {
            self.low_bitrate.held = false;
        }
    }

    fn weigh_buffer(&mut self, flow: &Flow, span: (u64, u64)) {
        if flow.down.acks == 0 {
            return;
        }
        let left = flow.down.receive_buffer;
        self.buffer = self.buffer.max(left);
        // More than the flow window is never in flight, so more room than that is no use.
        let size = match flow.flow_window {
            0 => self.buffer,
            window => self.buffer.min(window),
        };
        let needed = (f64::from(size) * BUFFER_FREE).max(BUFFER_PACKETS);
        let left = f64::from(left);
        let sign = if left < needed {
            Sign::Bad
        } else if left > needed / CLEAR_AT {
            Sign::Good
        } else {
            Sign::Between
        };
        self.pod_buffer
            .take(span, sign, RAISED_AFTER, CLEARED_AFTER);
    }
}

/// Whether data went up last, and the pod has said nothing since.
fn pod_silent(facts: &Facts<'_>) -> bool {
    let (up, down) = (&facts.flow.up, &facts.flow.down);
    let since = up.unanswered_since_ns.max(down.seen_ns);
    facts.flow.caller_id != 0
        && up.unanswered > 0
        && up.answered_mark == down.packets as u32
        && facts.now_ns.saturating_sub(since) > ANSWERS_WITHIN
}

/// The latency of the stream's direction, ms: what the two agreed on, or else the least that it can be.
fn latency_ms(flow: &Flow, asked: Option<&StreamId>) -> Option<u16> {
    let asked = asked.filter(|asked| asked.version != 0);
    let (agreed, least) = if is_reader(flow) {
        let least = asked.map_or(0, |asked| asked.receiver_latency);
        (flow.down.sender_latency, least)
    } else {
        let least = asked.map_or(0, |asked| asked.sender_latency);
        (flow.down.receiver_latency, least)
    };
    [agreed, least].into_iter().find(|ms| *ms != 0)
}

fn ms(ms: u32) -> u64 {
    u64::from(ms) * 1_000_000
}
