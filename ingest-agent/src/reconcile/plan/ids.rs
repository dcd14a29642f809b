//! Giving out ids: who had one keeps it, who is new gets one that nothing in the maps refers to.

use std::collections::BTreeSet;

/// Ids below a limit, of which some are taken.
pub(super) struct Ids {
    taken: BTreeSet<u16>,
    limit: usize,
    next: usize,
}

impl Ids {
    /// New ids begin behind the highest one taken and then go round: what the kernel still remembers of an id
    /// (flows, handshakes) has the longest time to end before the id is used again.
    pub(super) fn new(taken: impl IntoIterator<Item = u16>, limit: usize) -> Self {
        let taken: BTreeSet<u16> = taken.into_iter().collect();
        let next = taken.last().map_or(0, |last| usize::from(*last) + 1);
        Self { taken, limit, next }
    }

    /// A free id, or none.
    pub(super) fn take(&mut self) -> Option<u16> {
        let round = (self.next..self.limit).chain(0..self.next.min(self.limit));
        let id = round
            .map(|id| id as u16)
            .find(|id| !self.taken.contains(id))?;
        self.taken.insert(id);
        self.next = usize::from(id) + 1;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_go_round() {
        let mut ids = Ids::new([0, 2], 4);
        assert_eq!(ids.take(), Some(3));
        assert_eq!(ids.take(), Some(1));
        assert_eq!(ids.take(), None);
    }
}
