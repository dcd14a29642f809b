//! Rates of one stream, from counters that only grow.

use ingest_common::abi::Flow;

use super::Rates;

/// Bytes of an SRT header, which every data packet begins with.
const SRT_HEADER: u64 = 16;
/// Bytes of a control packet of a caller: ACKACK and keepalive have four bytes of body.
const CONTROL_PACKET: u64 = 20;
/// A pod that sends more than this a packet sends data: ACKs, NAKs and keepalives are smaller.
const READER_PACKET: u64 = 128;
/// What is left of an old count after a second.
const DECAY: f64 = 0.8;
/// Two readings closer than this are one: a rate over less says nothing.
const SHORTEST_NS: u64 = 50_000_000;
/// libsrt's round trip and variance before it has measured one, µs.
const NOT_MEASURED: (u32, u32) = (100_000, 50_000);

/// The bytes of SRT data that a flow has carried from its client; of a reader, to it; of UDP, all of the client's.
pub(super) fn payload_bytes(flow: &Flow) -> u64 {
    let up = &flow.up;
    if flow.caller_id == 0 {
        return up.bytes;
    }
    if is_reader(flow) {
        let headers = flow.down.packets.saturating_mul(SRT_HEADER);
        return flow.down.bytes.saturating_sub(headers);
    }
    let control = up.packets.saturating_sub(up.data_packets);
    up.bytes
        .saturating_sub(up.data_packets.saturating_mul(SRT_HEADER))
        .saturating_sub(control.saturating_mul(CONTROL_PACKET))
}

/// Whether the caller asks for data rather than sends it.
pub(super) fn is_reader(flow: &Flow) -> bool {
    flow.caller_id != 0
        && flow.up.data_packets == 0
        && flow.down.bytes > flow.down.packets.saturating_mul(READER_PACKET)
}

/// What brings data up, counted: SRT data packets; of UDP, every packet.
pub(super) fn data_packets(flow: &Flow) -> u64 {
    if flow.caller_id == 0 {
        flow.up.packets
    } else {
        flow.up.data_packets
    }
}

/// What rates are made of besides the last two readings.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    /// When the last measured reading was; 0: none yet.
    at_ns: u64,
    payload: u64,
    packets: u64,
    data: u64,
    lost: i64,
    retransmitted: u64,
    reported: u64,
    /// The same, decayed.
    recent: Recent,
}

#[derive(Clone, Debug, Default)]
struct Recent {
    data: f64,
    lost: f64,
    retransmitted: f64,
    reported: f64,
}

/// What a reading has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Since when it counts.
    pub(super) since_ns: u64,
    /// First transmissions that were lost, over about ten seconds.
    pub(super) lost: f64,
}

impl Meter {
    /// Counts from a flow's beginning.
    pub(super) fn of_new(flow: &Flow) -> Self {
        Self {
            at_ns: flow.accepted_ns,
            ..Self::default()
        }
    }

    /// Counts from now on: of a flow that is old.
    pub(super) fn from_now(now_ns: u64, flow: &Flow) -> Self {
        let mut meter = Self::default();
        meter.mark(now_ns, flow);
        meter
    }

    fn mark(&mut self, now_ns: u64, flow: &Flow) {
        self.at_ns = now_ns;
        self.payload = payload_bytes(flow);
        self.packets = flow.up.packets;
        self.data = data_packets(flow);
        self.lost = lost(flow);
        self.retransmitted = flow.up.retransmitted;
        self.reported = flow.down.reported_lost;
    }

    /// Takes in a reading; `None` where it is too close to the one before to say anything about rates.
    pub(super) fn measure(
        &mut self,
        now_ns: u64,
        flow: &Flow,
        rates: &mut Rates,
    ) -> Option<Measured> {
        (rates.rtt_ms, rates.rtt_variance_ms) = round_trip(flow);
        let since_ns = self.at_ns;
        let elapsed = now_ns.saturating_sub(since_ns);
        if elapsed < SHORTEST_NS {
            return None;
        }
        let seconds = float(elapsed) / 1e9;
        let payload = payload_bytes(flow).saturating_sub(self.payload);
        let packets = flow.up.packets.saturating_sub(self.packets);
        rates.bitrate = float(payload) * 8.0 / seconds;
        rates.packets = float(packets) / seconds;
        if flow.caller_id != 0 && !is_reader(flow) {
            self.shares(flow, seconds, rates);
        }
        self.mark(now_ns, flow);
        Some(Measured {
            since_ns,
            lost: self.recent.lost,
        })
    }

    fn shares(&mut self, flow: &Flow, seconds: f64, rates: &mut Rates) {
        let data = float(flow.up.data_packets.saturating_sub(self.data));
        let again = float(flow.up.retransmitted.saturating_sub(self.retransmitted));
        let reported = float(flow.down.reported_lost.saturating_sub(self.reported));
        let lost = signed(lost(flow).saturating_sub(self.lost));
        let kept = DECAY.powf(seconds);
        let recent = &mut self.recent;
        recent.data = recent.data * kept + data;
        recent.retransmitted = recent.retransmitted * kept + again;
        recent.reported = recent.reported * kept + reported;
        // A gap of one second may be filled in the next.
        recent.lost = recent.lost * kept + lost;
        let lost = recent.lost.max(0.0);
        let first = (recent.data - recent.retransmitted).max(0.0);
        rates.loss = share(lost, first + lost);
        rates.retransmitted = share(recent.retransmitted, recent.data);
        rates.reported_loss = share(recent.reported, recent.data);
    }
}

/// First transmissions that have not arrived, as far as the numbers tell.
fn lost(flow: &Flow) -> i64 {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    signed(flow.up.gaps).saturating_sub(signed(flow.up.out_of_order))
}

/// Less than a thousandth of a packet is what decay has left of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole < 1e-3 {
        0.0
    } else {
        (part / whole).clamp(0.0, 1.0)
    }
}

fn round_trip(flow: &Flow) -> (Option<f64>, Option<f64>) {
    let measured = (flow.down.rtt_us, flow.down.rtt_variance_us);
    if measured.0 == 0 || measured == NOT_MEASURED {
        return (None, None);
    }
    let ms = |us| f64::from(us) / 1000.0;
    (Some(ms(measured.0)), Some(ms(measured.1)))
}

#[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
fn signed(count: i64) -> f64 {
    count as f64
}
