//! Which draining backends still have sessions: the end of the last one is told.

use std::collections::{BTreeSet, HashMap};

use ingest_common::abi::BackendState;

use crate::reconcile::Observed;

/// Slots and incarnations of draining backends that had sessions at the last sweep.
#[derive(Debug, Default)]
pub(super) struct Drains(BTreeSet<(u16, u32)>);

impl Drains {
    /// Takes in a sweep's count of sessions by slot; gives the slots whose last session has ended.
    pub(super) fn swept(&mut self, observed: &Observed, sessions: &HashMap<u16, u32>) -> Vec<u16> {
        let busy: BTreeSet<(u16, u32)> = observed
            .backends
            .iter()
            .filter(|(slot, b)| {
                BackendState::from_u8(b.state) == BackendState::Draining
                    && sessions.get(slot).is_some_and(|count| *count > 0)
            })
            .map(|(slot, b)| (*slot, b.incarnation))
            .collect();
        let before = std::mem::replace(&mut self.0, busy);
        // One that was taken away or came back meanwhile did not end its drain.
        let still_draining = |(slot, incarnation): &(u16, u32)| {
            observed.backends.get(slot).is_some_and(|b| {
                b.incarnation == *incarnation
                    && BackendState::from_u8(b.state) == BackendState::Draining
            })
        };
        let ended = before.difference(&self.0).copied();
        ended.filter(still_draining).map(|(slot, _)| slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use ingest_common::abi;

    use super::*;

    fn observed(states: &[(u16, BackendState)]) -> Observed {
        let backends = states.iter().map(|(slot, state)| {
            let backend = abi::Backend {
                state: *state as u8,
                incarnation: 1,
                ..Default::default()
            };
            (*slot, backend)
        });
        Observed {
            backends: backends.collect(),
            ..Observed::default()
        }
    }

    #[test]
    fn the_end_of_a_drain_is_told_once() {
        use BackendState::{Draining, Gone, Serving};
        let mut drains = Drains::default();
        let all = observed(&[(1, Draining), (2, Serving), (3, Draining), (4, Draining)]);
        let sessions = HashMap::from([(1, 2), (2, 1), (4, 1)]);
        assert_eq!(
            drains.swept(&all, &sessions),
            [] as [u16; 0],
            "3 had none to end"
        );
        let later = observed(&[(1, Draining), (2, Draining), (3, Draining), (4, Gone)]);
        assert_eq!(
            drains.swept(&later, &HashMap::new()),
            [1],
            "4 was taken away"
        );
        assert_eq!(drains.swept(&later, &HashMap::new()), [] as [u16; 0]);
    }
}
