//! The kernel's events in the log. Clients' addresses appear at debug only.

use std::collections::HashMap;

use ingest_common::abi::{CutReason, Event, EventKind};
use tracing::{debug, info, warn};

use crate::{
    notice::Notice,
    output::socket,
    reconcile::{Observed, Op},
};

/// Lines of single flows between two ticks; an outage cuts thousands at once, and a flood begins as many.
const FLOW_LINES: u32 = 200;

/// Who has which id, and what was logged of late.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    services: HashMap<u16, String>,
    backends: HashMap<u16, String>,
    flow_lines: u32,
    suppressed: u64,
}

impl EventLog {
    /// Notes the names behind ids, as they are after `ops`.
    pub(super) fn learn(&mut self, observed: &Observed, ops: &[Op]) {
        // Names of what has just left stay: its last events are still to come.
        self.services.extend(
            observed
                .service_names
                .iter()
                .map(|(id, n)| (*id, n.clone())),
        );
        self.backends.extend(
            observed
                .backend_names
                .iter()
                .map(|(slot, n)| (*slot, n.clone())),
        );
        for op in ops {
            match op {
                Op::SetBackend { slot, name, .. } => {
                    self.backends.insert(*slot, name.clone());
                }
                Op::SetService { service, name, .. } => {
                    self.services.insert(service.id, name.clone());
                }
                _ => {}
            }
        }
    }

    /// The name of the backend in a slot.
    pub(super) fn backend(&self, slot: u16) -> Option<&str> {
        self.backends.get(&slot).map(String::as_str)
    }

    /// What an event means to the people of a cluster.
    pub(super) fn notice(&self, event: &Event) -> Option<Notice> {
        if EventKind::from_u8(event.kind) != Some(EventKind::FlowCut) {
            return None;
        }
        Some(Notice::Cut {
            service: self.services.get(&event.service)?.clone(),
            backend: self.backends.get(&event.slot)?.clone(),
            reason: CutReason::from_u8(event.reason)?,
        })
    }

    /// A new term for the limit on lines.
    pub(super) fn tick(&mut self) {
        if self.suppressed > 0 {
            info!(
                events = self.suppressed,
                "events of flows not logged, they were too many"
            );
        }
        (self.flow_lines, self.suppressed) = (0, 0);
    }

    pub(super) fn log(&mut self, event: &Event) {
        let service = self
            .services
            .get(&event.service)
            .map_or("?", String::as_str);
        let backend = self.backends.get(&event.slot).map_or("?", String::as_str);
        let kind = EventKind::from_u8(event.kind);
        match kind {
            Some(EventKind::BackendUnreachable) => {
                warn!(
                    backend,
                    "backend is dead: it answered port unreachable; its callers are told to reconnect"
                );
                return;
            }
            Some(EventKind::BackendSilent) => {
                warn!(
                    backend,
                    "backend is silent: it gets data and sends nothing; its callers are told to reconnect"
                );
                return;
            }
            Some(EventKind::BackendHeard) => {
                info!(backend, "backend is heard again");
                return;
            }
            _ if self.flow_lines >= FLOW_LINES => {
                self.suppressed += 1;
                return;
            }
            _ => self.flow_lines += 1,
        }
        match kind {
            Some(EventKind::FlowAccepted) => info!(service, backend, "session accepted"),
            Some(EventKind::FlowEnded) => info!(service, backend, "session ended"),
            Some(EventKind::FlowCut) => {
                let reason = CutReason::from_u8(event.reason).map_or("unknown", CutReason::as_str);
                info!(
                    service,
                    backend, reason, "session cut; its caller is told to reconnect"
                );
            }
            Some(EventKind::HandshakeRejected) => {
                info!(
                    service,
                    backend,
                    code = event.listener_id,
                    "session rejected by the pod"
                );
            }
            _ => debug!(kind = event.kind, "kernel event of an unknown kind"),
        }
        debug!(
            client = socket(&event.address, event.port),
            caller_id = event.caller_id,
            kind = kind.map_or("unknown", EventKind::as_str),
            "its client"
        );
    }
}

#[cfg(test)]
mod tests {
    use ingest_common::abi;

    use super::*;

    #[test]
    fn names_outlive_what_they_name_and_floods_are_cut_short() {
        let mut log = EventLog::default();
        let op = Op::SetBackend {
            slot: 3,
            backend: abi::Backend::default(),
            name: "live/a".into(),
            tenant: abi::Tenant::default(),
            fresh: true,
        };
        log.learn(&Observed::default(), &[op]);
        log.learn(&Observed::default(), &[]);
        assert_eq!(log.backend(3), Some("live/a"));

        let event = Event {
            kind: EventKind::FlowCut as u8,
            slot: 3,
            ..Default::default()
        };
        for _ in 0..=FLOW_LINES {
            log.log(&event);
        }
        assert_eq!(log.suppressed, 1);
        log.tick();
        assert_eq!((log.flow_lines, log.suppressed), (0, 0));
    }
}
