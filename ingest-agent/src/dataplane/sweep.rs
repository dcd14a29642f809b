//! Forgets flows that are over, and counts the others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ingest_common::abi;

use super::{Dataplane, Error};

/// An ended flow is kept this long after its end and its last packet: late packets find out what became of it.
const OVER_NS: u64 = 10_000_000_000;
/// A flow that nobody has sent anything on is forgotten. SRT keeps alive once a second and gives up after five.
const IDLE_NS: u64 = 60_000_000_000;
/// A session that nobody has sent anything on for this long has ended unseen: it takes nobody's place any more.
const DEAD_NS: u64 = 6_000_000_000;

/// What [`Dataplane::sweep`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Flows forgotten.
    pub removed: usize,
    /// Flows kept, all states.
    pub kept: usize,
    /// Established flows by service id.
    pub by_service: HashMap<u16, u32>,
    /// Established flows by slot, of the slot's present tenant.
    pub by_slot: HashMap<u16, u32>,
    /// Sessions by route.
    pub by_route: HashMap<u16, u32>,
}

/// What nothing needed at the last sweep, and how many sessions there were.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle {
    /// Slots that were gone before it, and that it found no flow on.
    pub(super) gone: Vec<u16>,
    /// Ids of services that were closing before it, and that it found no flow on.
    pub(super) closing: Vec<u16>,
    /// Routes that had no entry in `ROUTES` before it, and that it found no flow of.
    pub(super) routes: Vec<u16>,
    /// Sessions by slot, of SRT services.
    pub(super) loads: BTreeMap<u16, u32>,
}

/// What was so before the flows were looked at: a slot, a service or a route that goes meanwhile waits for the next
/// sweep, and so does a count that moves.
#[derive(Default)]
struct Before {
    incarnations: HashMap<u16, u32>,
    gone: BTreeSet<u16>,
    closing: BTreeSet<u16>,
    /// Services whose sessions are counted.
    srt: HashSet<u16>,
    /// Routes in use.
    routes: BTreeSet<u16>,
    /// Those without matches.
    unmatched: BTreeSet<u16>,
    loads: HashMap<u16, u64>,
    active: HashMap<u16, u64>,
}

impl Dataplane {
    /// Forgets flows that are over and counts the others. `now_ns`: [`super::now_ns`]. About 30 ms for 100,000 flows.
    pub fn sweep(&mut self, now_ns: u64) -> Result<SweepReport, Error> {
        let mut before = self.before()?;
        let mut report = SweepReport::default();
        let mut loads: BTreeMap<u16, u32> = BTreeMap::new();
        let mut over = Vec::new();
        self.maps.flows.for_each(|key, flow| {
            if is_over(flow, now_ns) {
                over.push(*key);
                return;
            }
            report.kept += 1;
            before.gone.remove(&flow.slot);
            before.closing.remove(&key.service);
            before.unmatched.remove(&flow.route);
            if abi::FlowState::from_u8(flow.state) != abi::FlowState::Established {
                return;
            }
            *report.by_service.entry(key.service).or_default() += 1;
            let dead = now_ns.saturating_sub(heard_ns(flow)) > DEAD_NS;
            if flow.route != 0 && !dead {
                *report.by_route.entry(flow.route).or_default() += 1;
            }
            if before.incarnations.get(&flow.slot) == Some(&flow.incarnation) {
                *report.by_slot.entry(flow.slot).or_default() += 1;
                if before.srt.contains(&key.service) && !dead {
                    *loads.entry(flow.slot).or_default() += 1;
                }
            }
        })?;
        for key in over {
            report.removed += usize::from(self.forget(&key, now_ns)?);
        }
        self.correct(&before, &loads, &report.by_route)?;
        self.idle = Idle {
            gone: before.gone.into_iter().collect(),
            closing: before.closing.into_iter().collect(),
            routes: before.unmatched.into_iter().collect(),
            loads,
        };
        Ok(report)
    }

    fn before(&self) -> Result<Before, Error> {
        let mut before = Before::default();
        self.maps.backends.for_each(|slot, backend| {
            let slot = slot as u16;
            match abi::BackendState::from_u8(backend.state) {
                abi::BackendState::Free => {}
                abi::BackendState::Gone => {
                    before.gone.insert(slot);
                    before.incarnations.insert(slot, backend.incarnation);
                }
                abi::BackendState::Serving | abi::BackendState::Draining => {
                    before.incarnations.insert(slot, backend.incarnation);
                }
            }
        })?;
        self.maps.services.for_each(|_, service| {
            if service.flags & abi::SERVICE_CLOSING != 0 {
                before.closing.insert(service.id);
            }
            if service.flags & abi::SERVICE_SRT != 0 {
                before.srt.insert(service.id);
            }
        })?;
        self.maps.quotas.for_each(|route, quota| {
            if quota.in_use != 0 {
                before.routes.insert(route as u16);
            }
        })?;
        before.unmatched.clone_from(&before.routes);
        self.maps.routes.for_each(|_, _, route| {
            before.unmatched.remove(&route.route);
        })?;
        self.maps.loads.for_each(|slot, load| {
            let slot = slot as u16;
            if before.incarnations.contains_key(&slot) {
                before.loads.insert(slot, load.active);
            }
        })?;
        self.maps.route_states.for_each(|route, state| {
            let route = route as u16;
            if before.routes.contains(&route) {
                before.active.insert(route, state.active);
            }
        })?;
        Ok(before)
    }

    /// Sets right what the kernel counts, where it did not count meanwhile: flows that were evicted or forgotten took
    /// no leave.
    fn correct(
        &mut self,
        before: &Before,
        loads: &BTreeMap<u16, u32>,
        by_route: &HashMap<u16, u32>,
    ) -> Result<(), Error> {
        for (&slot, &was) in &before.loads {
            let active = loads.get(&slot).copied().unwrap_or(0).into();
            let index = u32::from(slot);
            if was != active && self.maps.loads.get(index)?.active == was {
                self.maps.loads.set(index, &abi::Load { active })?;
            }
        }
        for (&route, &was) in &before.active {
            let active = by_route.get(&route).copied().unwrap_or(0).into();
            let index = u32::from(route);
            if was == active {
                continue;
            }
            // Written whole, so rates that move in these microseconds are set back by them.
            let state = self.maps.route_states.get(index)?;
            if state.active == was {
                let state = abi::RouteState { active, ..state };
                self.maps.route_states.set(index, &state)?;
            }
        }
        Ok(())
    }

    /// Removes a flow, unless its client has come back since it was judged.
    fn forget(&mut self, key: &abi::FlowKey, now_ns: u64) -> Result<bool, Error> {
        let Some(flow) = self
            .maps
            .flows
            .get(key)?
            .filter(|flow| is_over(flow, now_ns))
        else {
            return Ok(false);
        };
        let removed = self.maps.flows.remove(key)?;
        self.maps.stream_ids.remove(key)?;
        let back = abi::ReturnKey {
            address: key.address,
            port: key.port,
            slot: flow.slot,
        };
        if self
            .maps
            .returns
            .get(&back)?
            .is_some_and(|found| found.service == key.service)
        {
            self.maps.returns.remove(&back)?;
        }
        Ok(removed)
    }
}

/// When either side sent something last.
fn heard_ns(flow: &abi::Flow) -> u64 {
    flow.accepted_ns.max(flow.up.seen_ns).max(flow.down.seen_ns)
}

/// Whether nothing more is to be expected of a flow.
fn is_over(flow: &abi::Flow, now_ns: u64) -> bool {
    let heard = heard_ns(flow);
    let since = |then: u64| now_ns.saturating_sub(then);
    match abi::FlowState::from_u8(flow.state) {
        // A caller that still sends is still to be told.
        abi::FlowState::Ended | abi::FlowState::Cut => {
            since(flow.ended_ns.max(flow.up.seen_ns)) > OVER_NS || since(heard) > IDLE_NS
        }
        abi::FlowState::Established | abi::FlowState::None => since(heard) > IDLE_NS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    fn flow(state: abi::FlowState, ended_ago: u64, up_ago: u64, down_ago: u64) -> abi::Flow {
        let mut flow = abi::Flow {
            state: state as u8,
            accepted_ns: NOW - 500 * SECOND,
            ended_ns: NOW - ended_ago * SECOND,
            ..Default::default()
        };
        flow.up.seen_ns = NOW - up_ago * SECOND;
        flow.down.seen_ns = NOW - down_ago * SECOND;
        flow
    }

    #[test]
    fn an_established_flow_lives_while_either_side_is_heard() {
        let state = abi::FlowState::Established;
        assert!(!is_over(&flow(state, 0, 59, 400), NOW));
        assert!(!is_over(&flow(state, 0, 400, 59), NOW));
        assert!(is_over(&flow(state, 0, 61, 61), NOW));
    }

    #[test]
    fn a_flow_just_accepted_is_not_idle() {
        let flow = abi::Flow {
            state: abi::FlowState::Established as u8,
            accepted_ns: NOW - SECOND,
            ..Default::default()
        };
        assert!(!is_over(&flow, NOW));
    }

    #[test]
    fn a_cut_flow_is_kept_while_its_caller_sends() {
        assert!(!is_over(&flow(abi::FlowState::Cut, 30, 1, 31), NOW));
        assert!(is_over(&flow(abi::FlowState::Cut, 30, 11, 31), NOW));
        assert!(is_over(&flow(abi::FlowState::Ended, 11, 12, 12), NOW));
        assert!(!is_over(&flow(abi::FlowState::Ended, 9, 12, 12), NOW));
    }

    #[test]
    fn a_stamp_from_after_the_clock_was_read_is_no_age() {
        let mut flow = flow(abi::FlowState::Established, 0, 0, 0);
        flow.up.seen_ns = NOW + SECOND;
        assert!(!is_over(&flow, NOW));
    }
}
