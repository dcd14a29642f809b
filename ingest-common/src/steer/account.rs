//! What data packets from a caller tell: losses on their way, and whether the pod still answers.

use super::{Node, fate};
use crate::{
    abi::{CutReason, Flow, Traffic},
    reason::DropReason,
    srt::{self, Header},
};

/// What one data packet adds to the counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    retransmitted: bool,
    out_of_order: bool,
    gaps: u32,
}

impl Data {
    /// Nothing: not a data packet.
    pub(super) const NONE: Self = Self {
        retransmitted: false,
        out_of_order: false,
        gaps: 0,
    };

    #[inline(always)]
    pub(super) fn count(self, traffic: &mut Traffic) {
        if self.retransmitted {
            traffic.retransmitted += 1;
        }
        if self.gaps != 0 {
            traffic.gaps += u64::from(self.gaps);
        }
        if self.out_of_order {
            traffic.out_of_order += 1;
        }
    }
}

/// Sequence numbers may be this far from the expected one, whatever the flow window.
const WINDOW_MIN: u32 = 65_536;
/// So many packets outside the window in a row, and the flow follows them: after a long outage the sender has
/// skipped what it could not deliver in time.
const OUT_OF_WINDOW_MAX: u32 = 16;

/// Check 9's window, and the counters of one data packet.
#[inline(always)]
pub(super) fn data(flow: &mut Flow, header: &Header) -> Result<Data, DropReason> {
    let sequence = header.sequence();
    let mut ahead = srt::ahead(sequence, flow.up.next_sequence);
    let up = &mut flow.up;
    if ahead == 0 && !header.is_retransmitted() {
        up.data_packets += 1;
        up.next_sequence = srt::next(sequence);
        up.out_of_window = 0;
        return Ok(Data::NONE);
    }
    let window = WINDOW_MIN.max(flow.flow_window.saturating_mul(2));
    if ahead.unsigned_abs() > window {
        up.out_of_window += 1;
        if up.out_of_window <= OUT_OF_WINDOW_MAX {
            return Err(DropReason::SrtSequence);
        }
        // What was skipped is the sender's secret: no gap is counted.
        up.next_sequence = sequence;
        ahead = 0;
    }
    up.out_of_window = 0;
    up.data_packets += 1;
    let mut data = Data::NONE;
    if header.is_retransmitted() {
        up.retransmitted += 1;
        data.retransmitted = true;
    } else if ahead >= 0 {
        data.gaps = ahead.cast_unsigned();
        up.gaps += u64::from(data.gaps);
        up.next_sequence = srt::next(sequence);
    } else {
        up.out_of_order += 1;
        data.out_of_order = true;
    }
    Ok(data)
}

/// No configured silence is shorter than this; below it, the configuration need not be read.
const SILENCE_MIN_NS: u64 = 50_000_000;

/// Counts a data packet that is about to go up. [`CutReason::Silent`] when the pod has been silent for too long, else
/// 0: enough data went up, and nothing at all came down. Idle sessions exchange one keepalive a second, so without data up silence
/// means nothing.
#[inline(always)]
pub(super) fn silence<N: Node>(node: &N, flow: &mut Flow, now: u64) -> u8 {
    if node.dry_run() {
        return 0;
    }
    let answered = flow.down.packets as u32;
    let slot = flow.slot;
    let up = &mut flow.up;
    if up.answered_mark != answered || up.unanswered == 0 {
        up.answered_mark = answered;
        up.unanswered = 1;
        up.unanswered_since_ns = now;
        return 0;
    }
    up.unanswered = up.unanswered.saturating_add(1);
    let silent_for = now.saturating_sub(up.unanswered_since_ns);
    if silent_for < SILENCE_MIN_NS {
        return 0;
    }
    let config = node.config();
    if up.unanswered < config.silence_packets || silent_for < config.silence_ns {
        return 0;
    }
    fate::fell_silent(node, slot, now);
    CutReason::Silent as u8
}
