//! Tells what has changed about streams: in the log, to the people of a cluster, and as counts.
//!
//! Clients' addresses appear at debug only, Stream IDs as the command line says, and in notices never in full.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ingest_common::abi::{CutReason, FlowKey, Reason, StreamState};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::{
    cli::StreamIds,
    metrics::AgentMetrics,
    notice::{Notice, StreamsAre},
    output::socket,
    redact,
    view::{Change, Failover, Stream, View},
};

/// Lines between two terms; a dead uplink stalls thousands of streams at once.
const LINES: u32 = 200;
/// Ticks of a term.
const TERM: u32 = 5;

#[derive(Debug)]
pub(super) struct Teller {
    metrics: Arc<AgentMetrics>,
    notices: Option<mpsc::Sender<Notice>>,
    stream_ids: StreamIds,
    ticks: u32,
    lines: u32,
    suppressed: u64,
}

/// Streams that changed alike in one tick.
#[derive(Debug, Default)]
struct Alike {
    count: u32,
    example: Option<String>,
}

/// Service, backend, what they are, and why.
type Key = (String, Option<String>, StreamsAre, u16);

impl Teller {
    pub(super) fn new(
        metrics: Arc<AgentMetrics>,
        notices: Option<mpsc::Sender<Notice>>,
        stream_ids: StreamIds,
    ) -> Self {
        Self {
            metrics,
            notices,
            stream_ids,
            ticks: 0,
            lines: 0,
            suppressed: 0,
        }
    }

    /// Tells the changes of one tick.
    pub(super) fn tell(&mut self, view: &View, changes: &[Change]) {
        self.tick();
        let mut alike: BTreeMap<Key, Alike> = BTreeMap::new();
        for change in changes {
            match change {
                Change::State {
                    key,
                    before,
                    now,
                    reasons,
                    ..
                } => {
                    let Some(stream) = view.stream(key) else {
                        continue;
                    };
                    let Some(are) = turned(*before, *now) else {
                        continue;
                    };
                    self.log(view, stream, are, *reasons);
                    let (service, backend) = names(view, stream);
                    let reasons = if are == StreamsAre::Well { 0 } else { *reasons };
                    let alike = alike.entry((service, backend, are, reasons)).or_default();
                    alike.count += 1;
                    if alike.example.is_none() {
                        let how = redact::at_most_redacted(self.stream_ids);
                        alike.example = asked(stream, how);
                    }
                }
                Change::Failover(failover) => self.failed_over(failover),
                Change::Reconnected { key } => {
                    if let Some(service) = view.names().services.get(&key.service) {
                        self.metrics.changes().reconnected(&service.name);
                        debug!(
                            service = service.name,
                            client = client(key),
                            "its caller came back of itself"
                        );
                    }
                }
                Change::Gone { .. } => {}
            }
        }
        for ((service, backend, are, reasons), Alike { count, example }) in alike {
            self.notify(Notice::Streams {
                service,
                backend,
                are,
                reasons,
                count,
                example,
            });
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        if self.ticks < TERM {
            return;
        }
        if self.suppressed > 0 {
            info!(
                changes = self.suppressed,
                "changes of streams not logged, they were too many"
            );
        }
        (self.ticks, self.lines, self.suppressed) = (0, 0, 0);
    }

    /// Whether one more line is allowed.
    fn allowed(&mut self) -> bool {
        let allowed = self.lines < LINES;
        if allowed {
            self.lines += 1;
        } else {
            self.suppressed += 1;
        }
        allowed
    }

    fn log(&mut self, view: &View, stream: &Stream, are: StreamsAre, reasons: u16) {
        if !self.allowed() {
            return;
        }
        let (service, backend) = names(view, stream);
        let stream_id = asked(stream, self.stream_ids);
        let id = stream.identity.id();
        let reasons = words(reasons);
        match are {
            StreamsAre::InWarning => {
                warn!(
                    service,
                    backend, stream_id, id, reasons, "stream is in warning"
                );
            }
            StreamsAre::Stalled => {
                warn!(
                    service,
                    backend, stream_id, id, reasons, "stream has stalled"
                );
            }
            StreamsAre::Well => info!(service, backend, stream_id, id, "stream is well again"),
        }
        debug!(id, client = client(&stream.key), "its client");
    }

    fn failed_over(&mut self, failover: &Failover) {
        let took = Duration::from_nanos(failover.took_ns);
        let changes = self.metrics.changes();
        changes.failed_over(&failover.service, failover.reason, took);
        if !self.allowed() {
            return;
        }
        let asked = failover.asked.as_deref();
        info!(
            service = failover.service,
            from = failover.from,
            to = failover.to,
            reason = failover.reason.map(CutReason::as_str),
            ?took,
            stream_id = asked.and_then(|asked| redact::stream_id(asked, self.stream_ids)),
            id = failover.identity.id(),
            "stream came back after its session was cut"
        );
    }

    /// They can wait, and a full queue loses.
    fn notify(&self, notice: Notice) {
        if let Some(notices) = &self.notices
            && let Err(error) = notices.try_send(notice)
        {
            debug!(%error, "a notice is lost");
        }
    }
}

/// What there is to tell of a stream that was so and is so now.
fn turned(before: StreamState, now: StreamState) -> Option<StreamsAre> {
    use StreamState::{Active, Draining, Stalled, Warning};
    match (before, now) {
        _ if before == now => None,
        (_, Warning) => Some(StreamsAre::InWarning),
        (_, Stalled) => Some(StreamsAre::Stalled),
        // Draining outranks a warning, which may still hold, but not a stall.
        (Warning | Stalled, Active) | (Stalled, Draining) => Some(StreamsAre::Well),
        _ => None,
    }
}

/// Of the service, and of the pod that the stream is with.
fn names(view: &View, stream: &Stream) -> (String, Option<String>) {
    let names = view.names();
    let service = names.services.get(&stream.key.service);
    let backend = names.backends.get(&stream.flow.slot);
    (
        service.map_or_else(|| "?".to_owned(), |service| service.name.clone()),
        backend
            .filter(|backend| backend.incarnation == stream.flow.incarnation)
            .map(|backend| backend.name.clone()),
    )
}

fn asked(stream: &Stream, how: StreamIds) -> Option<String> {
    let asked = stream.asked.as_deref();
    asked.and_then(|asked| redact::stream_id(asked, how))
}

fn client(key: &FlowKey) -> String {
    socket(&key.address, key.port)
}

/// The reasons' words.
fn words(reasons: u16) -> String {
    let holds = |reason: &Reason| reasons & reason.bit() != 0;
    let words: Vec<_> = Reason::ALL
        .into_iter()
        .filter(holds)
        .map(Reason::as_str)
        .collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_a_stall_and_their_end_are_told_and_nothing_else() {
        use StreamState::{Active, Draining, Ending, Stalled, Warning};
        for (before, now, told) in [
            (Active, Warning, Some(StreamsAre::InWarning)),
            (Warning, Warning, None),
            (Warning, Stalled, Some(StreamsAre::Stalled)),
            (Stalled, Warning, Some(StreamsAre::InWarning)),
            (Stalled, Active, Some(StreamsAre::Well)),
            (Warning, Active, Some(StreamsAre::Well)),
            (Stalled, Draining, Some(StreamsAre::Well)),
            (Warning, Draining, None),
            (Draining, Active, None),
            (Active, Ending, None),
            (Stalled, Ending, None),
        ] {
            assert_eq!(turned(before, now), told, "{before:?} {now:?}");
        }
        assert_eq!(
            words(Reason::Loss.bit() | Reason::LowBitrate.bit()),
            "low_bitrate,loss"
        );
    }

    #[test]
    fn a_flood_of_changes_is_cut_short_for_a_term() {
        let mut teller = Teller::new(Arc::default(), None, StreamIds::Redacted);
        let allowed = (0..LINES + 50).filter(|_| teller.allowed()).count();
        assert_eq!((allowed, teller.suppressed), (LINES as usize, 50));
        for _ in 0..TERM {
            teller.tick();
        }
        assert!(teller.allowed() && teller.suppressed == 0);
    }

    #[test]
    fn a_failover_is_counted() {
        let metrics = Arc::new(AgentMetrics::default());
        let mut teller = Teller::new(metrics.clone(), None, StreamIds::Redacted);
        let failover = Failover {
            identity: crate::view::Identity {
                service: 3,
                hash: 7,
            },
            asked: None,
            at_ns: 9_000_000_000,
            took_ns: 700_000_000,
            reason: Some(CutReason::Silent),
            service: "live/srt".into(),
            from: Some("live/a".into()),
            to: Some("live/b".into()),
        };
        teller.tell(&View::default(), &[Change::Failover(failover)]);
        let text = metrics.text();
        for line in [
            r#"ingest_failovers_total{service="live/srt",reason="silent"} 1"#,
            "ingest_failover_duration_seconds_sum 0.7",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
