//! From conditions of Services to what is said of them: once, when they begin.
//!
//! Pure. All nodes derive the same conditions, but for those that speak of "here"; what tells one from another (see
//! [`Announcement::same`]) leaves the node out, so that a cluster has one Event of them and not one a node.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use kube::runtime::events::EventType;

use crate::cluster::translate::{Condition, Derived, ObjectName};

/// Something to say about a Service, by whichever agent is first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) service: ObjectName,
    pub(super) uid: String,
    pub(super) kind: EventType,
    pub(super) reason: &'static str,
    pub(super) note: String,
    /// The note as every node would write it.
    same: String,
}

impl Announcement {
    /// The name of its Event: another agent that says the same chooses the same.
    pub(super) fn event_name(&self) -> String {
        // Its keys are fixed. A release of Rust that hashes otherwise costs one more Event.
        let mut hasher = DefaultHasher::new();
        (&self.uid, self.reason, &self.same).hash(&mut hasher);
        format!("{}.{:016x}", self.service.1, hasher.finish())
    }
}

/// Every reason, for metrics.
pub(super) const REASONS: [&str; 10] = [
    "NoReadyBackend",
    "ReadyElsewhere",
    "VipConflict",
    "UnsupportedPort",
    "NoVip",
    "VipNotAllowed",
    "VipIsBackend",
    "InvalidField",
    "LeftOut",
    "PublishesNotReady",
];

/// A condition's name for people.
pub(super) fn reason(condition: &Condition) -> &'static str {
    match condition {
        Condition::NoReadyBackend { .. } => "NoReadyBackend",
        Condition::ReadyElsewhere { .. } => "ReadyElsewhere",
        Condition::VipConflict { .. } => "VipConflict",
        Condition::UnsupportedPort { .. } => "UnsupportedPort",
        Condition::NoVip { .. } => "NoVip",
        Condition::VipNotAllowed { .. } => "VipNotAllowed",
        Condition::VipIsBackend { .. } => "VipIsBackend",
        Condition::Invalid { .. } => "InvalidField",
        Condition::LeftOut { .. } => "LeftOut",
        Condition::PublishesNotReady => "PublishesNotReady",
    }
}

/// How many Services are in each condition.
pub(super) fn count(derived: &Derived) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::from(REASONS.map(|reason| (reason, 0)));
    for conditions in derived.conditions.values() {
        for reason in conditions.iter().map(reason).collect::<BTreeSet<_>>() {
            *counts.entry(reason).or_default() += 1;
        }
    }
    counts
}

/// What is to be said after `before` has become `after`, by the agent of `node`.
pub(super) fn announcements(before: &Derived, after: &Derived, node: &str) -> Vec<Announcement> {
    let none = BTreeSet::new();
    let mut all = Vec::new();
    // A Service that is gone or no longer ours needs no last word.
    for (service, uid) in &after.service_uids {
        let was = before.conditions.get(service).unwrap_or(&none);
        let is = after.conditions.get(service).unwrap_or(&none);
        let mut say = |kind, reason, note: String, same: String| {
            all.push(Announcement {
                service: service.clone(),
                uid: uid.clone(),
                kind,
                reason,
                note: shortened(note),
                same,
            });
        };
        for condition in is.difference(was) {
            let same = text(condition, "a node");
            // A Service for SRT and RTMP is a usual thing, and its owner is to know, not to worry.
            let kind = match condition {
                Condition::UnsupportedPort { .. } => EventType::Normal,
                _ => EventType::Warning,
            };
            say(kind, reason(condition), text(condition, node), same);
        }
        let ports = |conditions: &BTreeSet<Condition>| {
            let ports = conditions.iter().filter_map(without_backends);
            ports.map(str::to_owned).collect::<BTreeSet<_>>()
        };
        for port in ports(was).difference(&ports(is)) {
            let note = format!(
                "{}: new sessions go to ready backends again.",
                of_port(port)
            );
            say(EventType::Normal, "BackendsReady", note.clone(), note);
        }
    }
    all
}

/// The port that cannot take new sessions here.
fn without_backends(condition: &Condition) -> Option<&str> {
    match condition {
        Condition::NoReadyBackend { port } | Condition::ReadyElsewhere { port } => Some(port),
        _ => None,
    }
}

fn of_port(port: &str) -> String {
    if port.is_empty() {
        "The port".to_owned()
    } else {
        format!("Port {port}")
    }
}

fn text(condition: &Condition, node: &str) -> String {
    match condition {
        Condition::NoReadyBackend { port } => format!(
            "{} has no ready backend: new sessions are refused. Check the readiness of its pods.",
            of_port(port)
        ),
        Condition::ReadyElsewhere { port } => format!(
            "{} has ready backends, but none on {node}: new sessions that arrive there are left to the node's own \
             routing (kube-proxy). Run a pod there, or let the VIP be announced only where pods are \
             (externalTrafficPolicy: Local).",
            of_port(port)
        ),
        Condition::VipConflict { vip, port, winner } => format!(
            "{vip} port {port} belongs to the older Service {winner}: it is not steered for this one. Give one of \
             them another address or port."
        ),
        Condition::UnsupportedPort { port, reason } => {
            format!("{} is not steered: {reason}.", of_port(port))
        }
        Condition::NoVip { reason } => format!("No address to steer: {reason}."),
        Condition::VipNotAllowed { address } => format!(
            "{address} is not in the ranges that the administrator allows (--vip-range): it is not used."
        ),
        Condition::VipIsBackend { vip, port, backend } => format!(
            "{vip} port {port} is also the address of backend {backend}: it is not steered. Give the Service another \
             address."
        ),
        Condition::Invalid {
            field,
            value,
            reason,
        } => format!("{field} has {value:?}: {reason}."),
        Condition::LeftOut { what, limit } => {
            format!("More {what} than the {limit} that fit: the rest is left out.")
        }
        Condition::PublishesNotReady => {
            "publishNotReadyAddresses is set: pods get sessions before they are ready.".to_owned()
        }
    }
}

/// The API server refuses longer notes than 1,024 bytes.
pub(super) fn shortened(mut note: String) -> String {
    const LONGEST: usize = 1000;
    if note.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&i| note.is_char_boundary(i));
        note.truncate(end.unwrap_or_default());
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests;
