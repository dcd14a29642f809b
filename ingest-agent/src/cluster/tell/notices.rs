//! From what the run loop tells of packets and sessions to a few Events.
//!
//! Pure: the clock is an argument. Many cuts and streams become one Event, fallbacks are told now and then, and there is a limit
//! to all.

mod refusals;
mod streams;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use ingest_common::abi::CutReason;
use kube::runtime::events::EventType;
use tokio::time::Instant;

use self::{refusals::Refusals, streams::Streams};
use crate::notice::Notice;

/// Cuts are counted this long, and then told together.
const COLLECT: Duration = Duration::from_secs(5);
/// A fallback that lasts, or comes and goes, is told again after this.
const REMIND: Duration = Duration::from_mins(10);
/// At most so many Events at once,
const BURST: u32 = 20;
/// and one more each time this has passed.
const REFILL: Duration = Duration::from_secs(3);

/// Something to say about a pod or a Service, by this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saying {
    pub(super) about: About,
    pub(super) kind: EventType,
    pub(super) reason: &'static str,
    pub(super) note: String,
}

/// Names as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    Pod(String),
    /// And the pod that it has to do with.
    Service {
        service: String,
        pod: Option<String>,
    },
}

#[derive(Debug)]
pub(super) struct Notices {
    /// Sessions by pod, service with port, and reason.
    cuts: BTreeMap<(String, String, &'static str), u64>,
    cuts_due: Option<Instant>,
    refusals: Refusals,
    streams: Streams,
    /// When a backend's mode and its reason were told.
    fallbacks: HashMap<(String, &'static str, &'static str), Instant>,
    /// How many Events may go out at once.
    allowance: u32,
    refilled: Instant,
    dropped: u64,
}

impl Notices {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            cuts: BTreeMap::new(),
            cuts_due: None,
            refusals: Refusals::default(),
            streams: Streams::default(),
            fallbacks: HashMap::new(),
            allowance: BURST,
            refilled: now,
            dropped: 0,
        }
    }

    /// What of `notice` is to be said at once.
    pub(super) fn take(&mut self, notice: Notice, now: Instant) -> Option<Saying> {
        match notice {
            Notice::Cut {
                service,
                backend,
                reason,
            } => {
                *self
                    .cuts
                    .entry((backend, service, why(reason)))
                    .or_default() += 1;
                self.cuts_due.get_or_insert(now + COLLECT);
                None
            }
            Notice::Refused {
                service,
                route,
                rejection,
            } => {
                self.refusals.take(service, route, rejection, now);
                None
            }
            Notice::Fallback {
                backend,
                mode,
                reason,
            } => {
                self.fallbacks
                    .retain(|_, told| now.duration_since(*told) < REMIND);
                let key = (backend.clone(), mode, reason);
                if self.fallbacks.contains_key(&key) {
                    return None;
                }
                let said = self.allowed(
                    Saying {
                        about: About::Pod(backend),
                        kind: EventType::Warning,
                        reason: "DeliveryFallback",
                        note: if mode == "none" {
                            format!("Packets do not reach this pod: {reason}.")
                        } else {
                            format!("Packets get into this pod by {mode}, not by the faster way: {reason}.")
                        },
                    },
                    now,
                );
                if said.is_some() {
                    self.fallbacks.insert(key, now);
                }
                said
            }
            Notice::Drained { backend } => self.allowed(
                Saying {
                    about: About::Pod(backend),
                    kind: EventType::Normal,
                    reason: "Drained",
                    note: "The last session of this draining pod on its node has ended.".to_owned(),
                },
                now,
            ),
            Notice::Streams {
                service,
                backend,
                are,
                reasons,
                count,
                example,
            } => {
                let key = (service, backend, are);
                self.streams.take(key, reasons, count, example, now);
                None
            }
            // The status of routes tells of them.
            Notice::RoutesInForce { .. } | Notice::PlanRefused { .. } => None,
        }
    }

    /// When [`Self::collect`] has something.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.cuts_due, self.refusals.due(), self.streams.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What was collected long enough.
    pub(super) fn collect(&mut self, now: Instant) -> Vec<Saying> {
        let mut all = self.refusals.collect(now);
        all.extend(self.streams.collect(now));
        if self.cuts_due.is_some_and(|due| due <= now) {
            self.cuts_due = None;
            self.tell_cuts(&mut all);
        }
        all.into_iter()
            .filter_map(|saying| self.allowed(saying, now))
            .collect()
    }

    fn tell_cuts(&mut self, all: &mut Vec<Saying>) {
        for ((pod, service, why), count) in std::mem::take(&mut self.cuts) {
            let sessions = if count == 1 {
                "1 session"
            } else {
                &format!("{count} sessions")
            };
            let were = if count == 1 { "was" } else { "were" };
            let (object, port) = parts(&service);
            let end = format!("{were} cut: {why}. Callers were told to connect again.");
            let about_pod = Saying {
                about: About::Pod(pod.clone()),
                kind: EventType::Warning,
                reason: "SessionsCut",
                note: format!("{sessions} of Service {object}{port} {end}"),
            };
            let about_service = Saying {
                about: About::Service {
                    service: object.to_owned(),
                    pod: Some(pod.clone()),
                },
                note: format!("{sessions} on pod {pod}{port} {end}"),
                ..about_pod.clone()
            };
            all.extend([about_pod, about_service]);
        }
    }

    /// How many were not said since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn allowed(&mut self, saying: Saying, now: Instant) -> Option<Saying> {
        while self.allowance < BURST && now.duration_since(self.refilled) >= REFILL {
            self.allowance += 1;
            self.refilled += REFILL;
        }
        if self.allowance == BURST {
            self.refilled = now;
        }
        let Some(left) = self.allowance.checked_sub(1) else {
            self.dropped += 1;
            return None;
        };
        self.allowance = left;
        Some(saying)
    }
}

/// The Service's name, and its port as it stands in a sentence.
fn parts(service: &str) -> (&str, String) {
    match service.split_once(':') {
        Some((object, port)) => (object, format!(", port {port},")),
        None => (service, String::new()),
    }
}

fn why(reason: CutReason) -> &'static str {
    match reason {
        CutReason::BackendGone => "the pod is gone, not serving any more, or was restarted",
        CutReason::Unreachable => "the pod said that nobody listens on the port",
        CutReason::Silent => "the pod did not answer any more",
        CutReason::PortGone => "the pod's network interface is gone",
        CutReason::DrainDeadline => "the drain deadline has passed",
        CutReason::ListenerClosed => "the server closed the session",
        CutReason::ServiceGone => "the Service is no longer steered",
    }
}

#[cfg(test)]
mod tests;
