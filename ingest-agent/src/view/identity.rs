//! Who has been here: which new session is a caller that came back.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use ingest_common::abi::{Address, CutReason, Flow, FlowKey, FlowState, StreamId};

use super::Identity;

const SECOND: u64 = 1_000_000_000;
/// A caller that comes back later is a new one.
const REMEMBERED_FOR: u64 = 600 * SECOND;
/// A caller without a Stream ID is known by its address for this long after a cut.
const ADDRESS_FOR: u64 = 10 * SECOND;
/// An established session that has said nothing for this long is an encoder that has begun anew.
const HEARD_WITHIN: u64 = 5 * SECOND / 2;
/// Identities that are remembered.
pub(super) const MOST: usize = 65_536;

impl Identity {
    /// Of a session.
    pub(super) fn new(key: &FlowKey, flow: &Flow, asked: Option<&StreamId>) -> Self {
        // Without keys: every process must come to the same.
        let mut hasher = DefaultHasher::new();
        match asked.filter(|asked| asked.length > 0) {
            Some(asked) => (asked.length, asked.text).hash(&mut hasher),
            None => (
                flow.accepted_ns,
                flow.slot,
                flow.caller_id,
                key.address,
                key.port,
            )
                .hash(&mut hasher),
        }
        Self {
            service: key.service,
            hash: hasher.finish(),
        }
    }
}

/// Whose doing a session's end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// One of its ends'.
    Left,
    /// It was cut; why, where that is known.
    Cut(Option<CutReason>),
}

/// How a session has ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) at_ns: u64,
    /// Whose doing it was.
    pub(super) how: How,
    /// The pod it was at.
    pub(super) from: Option<String>,
}

impl Ended {
    /// Of a flow that is over; `from` is the name of its pod.
    pub(super) fn of(flow: &Flow, from: Option<String>) -> Self {
        let is_cut = FlowState::from_u8(flow.state) == FlowState::Cut;
        Self {
            at_ns: if flow.ended_ns == 0 {
                flow.up.seen_ns
            } else {
                flow.ended_ns
            },
            how: if is_cut {
                How::Cut(CutReason::from_u8(flow.cut_reason))
            } else {
                How::Left
            },
            from,
        }
    }
}

/// How often a caller has come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Returns {
    /// For whatever reason.
    pub(super) reconnects: u32,
    /// After a cut.
    pub(super) failovers: u32,
}

impl Returns {
    fn after(self, ended: &Ended) -> Self {
        Self {
            reconnects: self.reconnects.saturating_add(1),
            failovers: self
                .failovers
                .saturating_add(u32::from(ended.how != How::Left)),
        }
    }
}

/// A caller.
#[derive(Clone, Debug, Default)]
struct Caller {
    /// When it was here last.
    seen_ns: u64,
    /// When one of its established sessions was heard last.
    heard_ns: u64,
    /// Its established sessions.
    sessions: u32,
    /// The newest that is over.
    ended: Option<Ended>,
    returns: Returns,
}

impl Caller {
    /// The end of a session that nobody has ended: its encoder is elsewhere.
    fn unheard(&self) -> Option<Ended> {
        (self.sessions > 0).then_some(Ended {
            at_ns: self.heard_ns,
            how: How::Left,
            from: None,
        })
    }
}

/// All callers.
#[derive(Debug, Default)]
pub(super) struct Callers {
    callers: HashMap<Identity, Caller>,
    /// Sessions without a Stream ID that were cut.
    cut: HashMap<(u16, Address), (Ended, Returns)>,
}

impl Callers {
    /// A session has been accepted. How often its caller has come back with it, and what ended the session before where it has.
    pub(super) fn begin(
        &mut self,
        identity: Identity,
        key: &FlowKey,
        flow: &Flow,
        asked: Option<&StreamId>,
    ) -> (Returns, Option<Ended>) {
        let established = FlowState::from_u8(flow.state) == FlowState::Established;
        let before = if asked.is_some_and(|asked| asked.length > 0) {
            self.callers.get_mut(&identity).and_then(|caller| {
                let bonded = asked.is_some_and(|asked| asked.group != 0);
                let beside = caller.sessions > 0
                    && caller.heard_ns.saturating_add(HEARD_WITHIN) >= flow.accepted_ns;
                if bonded || beside {
                    return None;
                }
                let ended = caller.ended.take().or_else(|| caller.unheard())?;
                is_after(flow, &ended, REMEMBERED_FOR).then_some((caller.returns, ended))
            })
        } else {
            let place = (key.service, key.address);
            self.cut
                .get(&place)
                .is_some_and(|(ended, _)| is_after(flow, ended, ADDRESS_FOR))
                .then(|| self.cut.remove(&place))
                .flatten()
                .map(|(ended, returns)| (returns, ended))
        };
        let caller = self.callers.entry(identity).or_default();
        let mut ended = None;
        if let Some((returns, last)) = before {
            caller.returns = returns.after(&last);
            ended = Some(last);
        }
        caller.seen_ns = caller.seen_ns.max(flow.accepted_ns);
        if established {
            caller.sessions += 1;
            caller.heard_ns = caller.heard_ns.max(flow.up.seen_ns).max(flow.accepted_ns);
        }
        (caller.returns, ended)
    }

    /// An established session is still there.
    pub(super) fn hear(&mut self, identity: Identity, now_ns: u64, flow: &Flow) {
        if let Some(caller) = self.callers.get_mut(&identity) {
            caller.seen_ns = now_ns;
            caller.heard_ns = caller.heard_ns.max(flow.up.seen_ns);
        }
    }

    /// A session that was established is over.
    pub(super) fn end(&mut self, identity: Identity, key: &FlowKey, has_id: bool, ended: Ended) {
        let Some(caller) = self.callers.get_mut(&identity) else {
            return;
        };
        caller.sessions = caller.sessions.saturating_sub(1);
        caller.seen_ns = caller.seen_ns.max(ended.at_ns);
        if !has_id {
            if ended.how != How::Left && self.cut.len() < MOST {
                self.cut
                    .insert((key.service, key.address), (ended, caller.returns));
            }
            self.callers.remove(&identity);
            return;
        }
        let newer = |before: &Ended| before.at_ns <= ended.at_ns;
        if caller.ended.as_ref().is_none_or(newer) {
            caller.ended = Some(ended);
        }
    }

    /// Goes on from what an earlier judge counted.
    pub(super) fn adopt(&mut self, identity: Identity, returns: Returns) {
        if let Some(caller) = self.callers.get_mut(&identity) {
            caller.returns.reconnects = caller.returns.reconnects.max(returns.reconnects);
            caller.returns.failovers = caller.returns.failovers.max(returns.failovers);
        }
    }

    /// Forgets who has been away for too long, and if there are too many, who has been away longest.
    pub(super) fn forget(&mut self, now_ns: u64) {
        self.cut
            .retain(|_, (ended, _)| ended.at_ns.saturating_add(ADDRESS_FOR) >= now_ns);
        self.callers.retain(|_, caller| {
            caller.sessions > 0 || caller.seen_ns.saturating_add(REMEMBERED_FOR) >= now_ns
        });
        let Some(surplus) = self.callers.len().checked_sub(MOST + 1) else {
            return;
        };
        let mut seen: Vec<u64> = self.callers.values().map(|caller| caller.seen_ns).collect();
        let (_, newest_forgotten, _) = seen.select_nth_unstable(surplus);
        let newest_forgotten = *newest_forgotten;
        let mut left = surplus + 1;
        self.callers.retain(|_, caller| {
            let goes = left > 0 && caller.seen_ns <= newest_forgotten;
            left -= usize::from(goes);
            !goes
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.callers.len()
    }
}

fn is_after(flow: &Flow, ended: &Ended, within: u64) -> bool {
    flow.accepted_ns >= ended.at_ns && flow.accepted_ns - ended.at_ns <= within
}
