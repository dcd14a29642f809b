//! How fast something may come: the generic cell rate algorithm, one stamp a bound.
//!
//! Owns the rule, not the stamps: they live in maps. Two CPUs may meet at one stamp and let a packet or two more through.

#[cfg(test)]
mod tests;

/// Whether something that takes `cost_ns` may come `now`: no more than `burst_ns` ahead of `stamp`, its theoretical arrival
/// time. If so, the stamp moves. A cost of 0 is no bound and leaves the stamp alone.
#[must_use]
#[inline(always)]
pub fn allow(stamp: &mut u64, now: u64, cost_ns: u64, burst_ns: u64) -> bool {
    if cost_ns == 0 {
        return true;
    }
    // What was not used before now is lost: else a quiet hour would pay for a flood.
    let due = if *stamp > now { *stamp } else { now };
    if due - now > burst_ns {
        return false;
    }
    *stamp = due.saturating_add(cost_ns);
    true
}
