//! What a backend's state means for sessions: may a flow stay, may a new one come.

use super::Node;
use crate::abi::{Backend, BackendState, Config, CutReason, DeliveryMode, EventKind, Flow, Health};

/// Why `flow` must end now: the number of a [`CutReason`], 0 where it goes on.
#[must_use]
#[inline(always)]
pub fn fate(flow: &Flow, backend: &Backend, health: &Health, now: u64) -> u8 {
    if backend.incarnation == flow.incarnation
        && backend.state == BackendState::Serving as u8
        && backend.mode != DeliveryMode::None as u8
        && health.deaths == flow.deaths
        && health.drain == 0
    {
        return 0;
    }
    let state = BackendState::from_u8(backend.state);
    if backend.incarnation != flow.incarnation
        || matches!(state, BackendState::Free | BackendState::Gone)
    {
        return CutReason::BackendGone as u8;
    }
    if health.deaths != flow.deaths {
        return CutReason::Unreachable as u8;
    }
    if backend.mode == DeliveryMode::None as u8 {
        return CutReason::PortGone as u8;
    }
    let drain = if health.drain != 0 {
        (health.drain_deadline_ns, health.drain_window_ns)
    } else {
        (backend.drain_deadline_ns, backend.drain_window_ns)
    };
    if past_deadline(flow, drain, now) {
        CutReason::DrainDeadline as u8
    } else {
        0
    }
}

/// Whether the flow's own moment in the window behind the drain deadline has come: the callers of a drained pod do
/// not all reconnect at once.
#[inline(always)]
fn past_deadline(flow: &Flow, (deadline, window): (u64, u64), now: u64) -> bool {
    if deadline == 0 {
        return false;
    }
    let spread = u64::from(flow.caller_id.wrapping_mul(0x9e37_79b1) >> 16);
    now >= deadline.saturating_add((window >> 16).wrapping_mul(spread))
}

/// Whether new sessions may go to the backend.
#[must_use]
#[inline(always)]
pub fn accepts(backend: &Backend, health: &Health, config: &Config, now: u64) -> bool {
    serves(backend, health) && !distrusted(health, config, now)
}

/// Whether the agent and the operator let new sessions go to the backend, whatever the kernel saw of it.
#[inline(always)]
pub(super) fn serves(backend: &Backend, health: &Health) -> bool {
    backend.state == BackendState::Serving as u8
        && backend.mode != DeliveryMode::None as u8
        && health.drain == 0
}

/// Seen dead or silent lately, and not heard since.
#[inline(always)]
fn distrusted(health: &Health, config: &Config, now: u64) -> bool {
    suspected(health.unreachable_ns, health, config, now)
        || suspected(health.silent_ns, health, config, now)
}

/// The clock is coarse: a mark of the same tick as the last packet counts as later.
#[inline(always)]
fn suspected(mark_ns: u64, health: &Health, config: &Config, now: u64) -> bool {
    mark_ns != 0 && mark_ns >= health.heard_ns && now.saturating_sub(mark_ns) < config.distrust_ns
}

/// Notes that a flow of `slot` fell silent. Any packet from the pod clears it, so a pod with living flows is
/// suspected for milliseconds only: that is how "several of its flows agree".
#[inline(always)]
pub(super) fn fell_silent<N: Node>(node: &N, slot: u16, now: u64) {
    let Some(mut health) = node.health(slot) else {
        return;
    };
    let known = health.silent_ns >= health.heard_ns && health.silent_ns != 0;
    health.silent_ns = now;
    drop(health);
    if !known {
        emit(node, EventKind::BackendSilent, slot, now);
    }
}

/// Notes that the pod's process is dead: its flows end, new sessions go elsewhere for a while.
#[inline(always)]
pub(super) fn died<N: Node>(node: &N, slot: u16, now: u64) {
    let Some(mut health) = node.health(slot) else {
        return;
    };
    // Many packets in flight make many ICMP errors for one death.
    let known = health.unreachable_ns >= health.heard_ns && health.unreachable_ns != 0;
    health.unreachable_ns = now;
    if !known {
        health.deaths = health.deaths.wrapping_add(1);
    }
    drop(health);
    if !known {
        emit(node, EventKind::BackendUnreachable, slot, now);
    }
}

/// Notes a packet from the pod.
#[inline(always)]
pub(super) fn heard<N: Node>(node: &N, slot: u16, now: u64) {
    let Some(mut health) = node.health(slot) else {
        return;
    };
    if now.saturating_sub(health.heard_ns) < 1_000_000 {
        return;
    }
    let doubted = health.heard_ns.max(1) <= health.unreachable_ns.max(health.silent_ns);
    health.heard_ns = now;
    drop(health);
    if doubted {
        emit(node, EventKind::BackendHeard, slot, now);
    }
}

/// Tells a change of a backend.
#[inline(always)]
fn emit<N: Node>(node: &N, kind: EventKind, slot: u16, now: u64) {
    node.emit(|event| {
        event.time_ns = now;
        event.slot = slot;
        event.kind = kind as u8;
    });
}

/// A pod answers an INDUCTION at once; a caller repeats it after 250 ms.
const INDUCTION_PATIENCE_NS: u64 = 200_000_000;

/// Whether an INDUCTION sent to `slot` at `first_ns` was left unanswered by a pod that said nothing else either. Then
/// the pod is noted as silent. What it said in the very tick of the coarse clock in which it was asked counts as before.
#[inline(always)]
pub(super) fn unanswered<N: Node>(node: &N, slot: u16, first_ns: u64, now: u64) -> bool {
    let Some(health) = node.health(slot) else {
        return false;
    };
    let heard_ns = health.heard_ns;
    drop(health);
    if now.saturating_sub(first_ns) < INDUCTION_PATIENCE_NS || heard_ns > first_ns {
        return false;
    }
    fell_silent(node, slot, now);
    true
}
