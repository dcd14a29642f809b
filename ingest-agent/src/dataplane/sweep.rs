//! Forgets flows that are over, and counts the others.

use std::collections::{BTreeSet, HashMap};

use ingest_common::abi;

use super::{Dataplane, Error};

/// An ended flow is kept this long after its end and its last packet: late packets find out what became of it.
const OVER_NS: u64 = 10_000_000_000;
/// A flow that nobody has sent anything on is forgotten. SRT keeps alive once a second and gives up after five.
const IDLE_NS: u64 = 60_000_000_000;

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
}

impl Dataplane {
    /// Forgets flows that are over and counts the others. `now_ns`: [`super::now_ns`]. About 30 ms for 100,000 flows.
    pub fn sweep(&mut self, now_ns: u64) -> Result<SweepReport, Error> {
        // Read before the flows are: a slot or service that goes meanwhile waits for the next sweep.
        let mut incarnations = HashMap::new();
        let mut idle_gone = BTreeSet::new();
        self.maps.backends.for_each(|slot, backend| {
            let slot = slot as u16;
            match abi::BackendState::from_u8(backend.state) {
                abi::BackendState::Free => {}
                abi::BackendState::Gone => {
                    idle_gone.insert(slot);
                    incarnations.insert(slot, backend.incarnation);
                }
                abi::BackendState::Serving | abi::BackendState::Draining => {
                    incarnations.insert(slot, backend.incarnation);
                }
            }
        })?;

        let mut idle_closing = BTreeSet::new();
        self.maps.services.for_each(|_, service| {
            if service.flags & abi::SERVICE_CLOSING != 0 {
                idle_closing.insert(service.id);
            }
        })?;

        let mut report = SweepReport::default();
        let mut over = Vec::new();
        self.maps.flows.for_each(|key, flow| {
            if is_over(flow, now_ns) {
                over.push(*key);
                return;
            }
            report.kept += 1;
            idle_gone.remove(&flow.slot);
            idle_closing.remove(&key.service);
            if abi::FlowState::from_u8(flow.state) == abi::FlowState::Established {
                *report.by_service.entry(key.service).or_default() += 1;
                if incarnations.get(&flow.slot) == Some(&flow.incarnation) {
                    *report.by_slot.entry(flow.slot).or_default() += 1;
                }
            }
        })?;
        for key in over {
            report.removed += usize::from(self.forget(&key, now_ns)?);
        }
        self.idle_gone = idle_gone.into_iter().collect();
        self.idle_closing = idle_closing.into_iter().collect();
        Ok(report)
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

/// Whether nothing more is to be expected of a flow.
fn is_over(flow: &abi::Flow, now_ns: u64) -> bool {
    let heard = flow.accepted_ns.max(flow.up.seen_ns).max(flow.down.seen_ns);
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
