//! The kernel's events in the log. Clients' addresses appear at debug only, Stream IDs as the command line says.

use std::collections::HashMap;

use ingest_common::{
    abi::{CutReason, Event, EventKind, FlowKey, StreamId},
    srt::Rejection,
};
use tracing::{debug, info, warn};

use crate::{
    cli::StreamIds,
    notice::Notice,
    output::socket,
    reconcile::{Observed, Op},
    redact,
};

/// Lines of single flows between two ticks; an outage cuts thousands at once, and a flood begins as many.
const FLOW_LINES: u32 = 200;

/// Who has which id, and what was logged of late.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    services: HashMap<u16, String>,
    backends: HashMap<u16, String>,
    routes: HashMap<u16, String>,
    stream_ids: StreamIds,
    flow_lines: u32,
    suppressed: u64,
}

impl EventLog {
    /// Nobody's name is known, and Stream IDs are to be shown so.
    pub(super) fn new(stream_ids: StreamIds) -> Self {
        Self {
            stream_ids,
            ..Self::default()
        }
    }

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
        self.routes.extend(
            observed
                .route_names
                .iter()
                .map(|(route, n)| (*route, n.clone())),
        );
        for op in ops {
            match op {
                Op::SetBackend { slot, name, .. } => {
                    self.backends.insert(*slot, name.clone());
                }
                Op::SetService { service, name, .. } => {
                    self.services.insert(service.id, name.clone());
                }
                Op::SetQuota { route, name, .. } => {
                    self.routes.insert(*route, name.clone());
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
        let service = self.services.get(&event.service)?.clone();
        match EventKind::from_u8(event.kind)? {
            EventKind::FlowCut => Some(Notice::Cut {
                service,
                backend: self.backends.get(&event.slot)?.clone(),
                reason: CutReason::from_u8(event.reason)?,
            }),
            EventKind::HandshakeRefused => Some(Notice::Refused {
                service,
                route: self.routes.get(&event.route).cloned(),
                rejection: rejection(event)?,
            }),
            _ => None,
        }
    }

    /// The Stream ID of an accepted session.
    fn asked(
        &self,
        event: &Event,
        stream_id: impl FnOnce(&FlowKey) -> Option<StreamId>,
    ) -> Option<String> {
        let stream = stream_id(&FlowKey {
            address: event.address,
            port: event.port,
            service: event.service,
        })?;
        // Otherwise it is that of an earlier caller on this port: this one's handshake was not ours to read.
        (stream.caller_id == event.caller_id)
            .then(|| redact::stream_id(&stream, self.stream_ids))
            .flatten()
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

    /// Logs an event; `stream_id` reads what the caller of an accepted session asked for.
    pub(super) fn log(
        &mut self,
        event: &Event,
        stream_id: impl FnOnce(&FlowKey) -> Option<StreamId>,
    ) {
        let service = self
            .services
            .get(&event.service)
            .map_or("?", String::as_str);
        let backend = self.backends.get(&event.slot).map_or("?", String::as_str);
        let route = self.routes.get(&event.route).map(String::as_str);
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
            Some(EventKind::FlowAccepted) => {
                let stream_id = self.asked(event, stream_id);
                info!(service, backend, route, stream_id, "session accepted");
            }
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
            Some(EventKind::HandshakeRefused) => {
                let reason = rejection(event).map_or("unknown", Rejection::as_str);
                info!(
                    service,
                    route,
                    reason,
                    code = event.listener_id,
                    "session refused; its caller is told so"
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

/// Which of our own rejections was sent.
fn rejection(event: &Event) -> Option<Rejection> {
    Rejection::ALL
        .into_iter()
        .find(|rejection| u32::from(rejection.code()) == event.listener_id)
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
            log.log(&event, |_| None);
        }
        assert_eq!(log.suppressed, 1);
        log.tick();
        assert_eq!((log.flow_lines, log.suppressed), (0, 0));
    }
    #[test]
    fn a_refusal_is_told_with_its_service_and_route() {
        let mut log = EventLog::default();
        let observed = Observed {
            service_names: [(3, "live/srt".to_owned())].into(),
            route_names: [(7, "live/acme".to_owned())].into(),
            ..Observed::default()
        };
        log.learn(&observed, &[]);
        let event = Event {
            kind: EventKind::HandshakeRefused as u8,
            service: 3,
            slot: abi::NO_SLOT,
            route: 7,
            listener_id: 2402,
            ..Default::default()
        };
        let refused = Notice::Refused {
            service: "live/srt".into(),
            route: Some("live/acme".into()),
            rejection: Rejection::Overload,
        };
        assert_eq!(log.notice(&event), Some(refused));
        let pods_own = Event {
            kind: EventKind::HandshakeRejected as u8,
            ..event
        };
        assert_eq!(log.notice(&pods_own), None);
        // No route has index 0.
        let unrouted = Event {
            route: 0,
            listener_id: 2404,
            ..event
        };
        let refused = Notice::Refused {
            service: "live/srt".into(),
            route: None,
            rejection: Rejection::NotFound,
        };
        assert_eq!(log.notice(&unrouted), Some(refused));
    }

    #[test]
    fn what_a_caller_asked_for_is_told_without_its_secrets() {
        let log = EventLog::new(StreamIds::Redacted);
        let event = Event {
            kind: EventKind::FlowAccepted as u8,
            caller_id: 5,
            ..Default::default()
        };
        let text = b"#!::r=acme/one,s=hunter2,m=publish";
        let mut stream = StreamId {
            caller_id: 5,
            length: text.len() as u16,
            ..Default::default()
        };
        stream.text[..text.len()].copy_from_slice(text);
        let shown = log.asked(&event, |_| Some(stream)).unwrap();
        assert!(
            shown.contains("m=publish") && !shown.contains("hunter2"),
            "{shown}"
        );
        let another = StreamId {
            caller_id: 6,
            ..stream
        };
        assert_eq!(log.asked(&event, |_| Some(another)), None);
        assert_eq!(log.asked(&event, |_| None), None);
    }
}
