//! What the status of a route should say, where it says something else. Pure.
//!
//! All agents derive `Accepted` and `ResolvedRefs` alike, so whoever writes them writes the same. `Programmed` is of
//! whoever has the route in its maps first; a node that cannot have it says so only where no other has it.

use std::collections::BTreeMap;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::{
    cluster::translate::{RouteState, Verdict},
    reconcile::Route,
};

pub(super) const ACCEPTED: &str = "Accepted";
pub(super) const RESOLVED_REFS: &str = "ResolvedRefs";
pub(super) const PROGRAMMED: &str = "Programmed";
/// `Programmed` is false since this node's maps cannot take what is desired.
const REFUSED: &str = "Refused";

/// What the run loop has told of the maps of this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct InForce {
    /// By name.
    pub(super) routes: BTreeMap<String, Route>,
    /// Why what is desired now is not in force.
    pub(super) refused: Option<String>,
}

/// The conditions that the status should have. `None`: it has them.
pub(super) fn conditions(
    state: &RouteState,
    desired: &BTreeMap<&str, &Route>,
    in_force: &InForce,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    let written = |kind: &str| state.written.iter().find(|c| c.type_ == kind);
    let mut all = Vec::new();
    for (kind, verdict) in [
        (ACCEPTED, &state.accepted),
        (RESOLVED_REFS, &state.resolved),
    ] {
        all.push(condition(kind, verdict, state, written(kind), now));
    }
    let before = written(PROGRAMMED);
    let verdict = programmed(state, desired, in_force);
    match (
        verdict.filter(|v| is_news(v, state.generation, before)),
        before,
    ) {
        (Some(verdict), _) => all.push(condition(PROGRAMMED, &verdict, state, before, now)),
        (None, Some(before)) => all.push(before.clone()),
        (None, None) => {}
    }
    let is_written = |condition: &Condition| written(&condition.type_) == Some(condition);
    (!all.iter().all(is_written)).then_some(all)
}

/// What this node says. `None`: it does not know yet.
fn programmed(
    state: &RouteState,
    desired: &BTreeMap<&str, &Route>,
    in_force: &InForce,
) -> Option<Verdict> {
    let names = match &state.becomes {
        Err(why) => return Some(why.clone()),
        Ok(names) => names,
    };
    let is_in_force = |name: &String| {
        let wanted = desired.get(name.as_str()).copied();
        wanted.is_some() && in_force.routes.get(name) == wanted
    };
    if names.iter().all(is_in_force) {
        return Some(Verdict {
            holds: true,
            reason: PROGRAMMED,
            message: "It is in force.".to_owned(),
        });
    }
    in_force.refused.as_ref().map(|why| Verdict {
        holds: false,
        reason: REFUSED,
        message: format!("A node's maps cannot take it: {why}."),
    })
}

/// Whether `verdict` is worth a write. Nodes may differ in their words, and in what they can take: they must not take
/// turns.
fn is_news(verdict: &Verdict, generation: i64, before: Option<&Condition>) -> bool {
    let Some(before) = before.filter(|b| b.observed_generation == Some(generation)) else {
        return true;
    };
    if before.status == text(true) && verdict.reason == REFUSED {
        return false;
    }
    before.status != text(verdict.holds) || before.reason != verdict.reason
}

fn condition(
    kind: &str,
    verdict: &Verdict,
    state: &RouteState,
    before: Option<&Condition>,
    now: Timestamp,
) -> Condition {
    let status = text(verdict.holds);
    let since = before.filter(|before| before.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        observed_generation: Some(state.generation),
        reason: verdict.reason.to_owned(),
        message: super::conditions::shortened(verdict.message.clone()),
        last_transition_time: since.map_or(Time(now), |since| since.last_transition_time.clone()),
    }
}

fn text(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

#[cfg(test)]
mod tests;
