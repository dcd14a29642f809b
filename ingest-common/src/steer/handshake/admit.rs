//! Who may ask at all: how fast a source asks, and what a route's quota leaves.

use super::Decision;
use crate::{
    abi::{Address, SourceRate, SourceRateKey, address_from_words, words_from_address},
    rate,
    reason::DropReason,
    srt::Rejection,
    steer::Node,
};

/// What a source may do only so often.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Induction,
    Conclusion,
    /// Being rejected.
    Rejection,
}

/// Whether `address` may do this once more now.
#[inline(always)]
pub(super) fn source<N: Node>(node: &N, address: Address, act: Act) -> bool {
    let config = node.config();
    let (interval, burst) = match act {
        Act::Induction => (config.induction_interval_ns, config.induction_burst_ns),
        Act::Conclusion => (config.conclusion_interval_ns, config.conclusion_burst_ns),
        Act::Rejection => (config.rejection_interval_ns, 0),
    };
    if interval == 0 || node.dry_run() {
        return true;
    }
    let now = node.now();
    let key = rate_key(address);
    if let Some(mut rate) = node.source_rate(&key) {
        return charge(&mut rate, act, now, interval, burst);
    }
    let mut rate = SourceRate::default();
    let allowed = charge(&mut rate, act, now, interval, burst);
    node.insert_source_rate(&key, &rate);
    allowed
}

#[inline(always)]
fn charge(rate: &mut SourceRate, act: Act, now: u64, interval: u64, burst: u64) -> bool {
    match act {
        Act::Induction => rate::allow(&mut rate.inductions_ns, now, interval, burst),
        Act::Conclusion => rate::allow(&mut rate.conclusions_ns, now, interval, burst),
        Act::Rejection => {
            let due = rate.rejected_ns == 0 || now.saturating_sub(rate.rejected_ns) >= interval;
            if due {
                rate.rejected_ns = now;
            }
            due
        }
    }
}

/// Who has an address of a /64 has all of them.
#[inline(always)]
fn rate_key(address: Address) -> SourceRateKey {
    let [a, b, c, d] = words_from_address(address);
    let v4 = a | b == 0 && c == 0x0000_ffff_u32.to_be();
    SourceRateKey {
        address: address_from_words(if v4 { [a, b, c, d] } else { [a, b, 0, 0] }),
    }
}

/// Charges a new session to the route's quota.
#[inline(always)]
pub(super) fn session<N: Node>(node: &N, route: u16) -> Result<(), Decision> {
    if route == 0 {
        return Ok(());
    }
    let Some(quota) = node.quota(route) else {
        return Ok(());
    };
    let most = u64::from(quota.streams);
    let (interval, burst) = (quota.session_interval_ns, quota.session_burst_ns);
    drop(quota);
    let Some(mut state) = node.route_state(route) else {
        return Ok(());
    };
    if most != 0 && state.active >= most {
        node.count_route(route, |stats| stats.refused_streams += 1);
        let reason = DropReason::QuotaStreams;
        return Err(Decision::reject(Rejection::Overload, reason, route));
    }
    let mut stamp = state.sessions_ns;
    if rate::allow(&mut stamp, node.now(), interval, burst) {
        if !node.dry_run() {
            state.sessions_ns = stamp;
        }
        return Ok(());
    }
    node.count_route(route, |stats| stats.refused_sessions += 1);
    let reason = DropReason::QuotaSessions;
    Err(Decision::reject(Rejection::Overload, reason, route))
}
