//! Streams that are not well, or well again, told as a few Events.

use std::collections::BTreeMap;
use std::time::Duration;

use ingest_common::abi::Reason;
use kube::runtime::events::EventType;
use tokio::time::Instant;

use super::{About, COLLECT, Saying, parts};
use crate::{notice::StreamsAre, redact};

/// The same of the same pod and Service is not told more often.
const AGAIN: Duration = Duration::from_mins(1);
/// Most pods and Services at a time.
const MAX: usize = 4096;
/// Most characters of a Stream ID: a note has 1024 bytes.
const SHOWN: usize = 120;

/// By Service with port, pod, and what the streams are.
#[derive(Debug, Default)]
pub(super) struct Streams {
    counted: BTreeMap<(String, Option<String>, StreamsAre), Counted>,
}

#[derive(Debug)]
struct Counted {
    /// Since it was told last.
    count: u32,
    /// How many of them for each [`Reason`].
    reasons: [u32; Reason::ALL.len()],
    example: Option<String>,
    /// When it may be told.
    due: Instant,
}

impl Streams {
    /// `count` streams have become so, all for the same `reasons`.
    pub(super) fn take(
        &mut self,
        key: (String, Option<String>, StreamsAre),
        reasons: u16,
        count: u32,
        example: Option<String>,
        now: Instant,
    ) {
        if self.counted.len() >= MAX && !self.counted.contains_key(&key) {
            return;
        }
        let counted = self.counted.entry(key).or_insert_with(|| Counted {
            count: 0,
            reasons: [0; Reason::ALL.len()],
            example: None,
            due: now + COLLECT,
        });
        counted.count += count;
        for (reason, of_reason) in Reason::ALL.iter().zip(&mut counted.reasons) {
            if reasons & reason.bit() != 0 {
                *of_reason += count;
            }
        }
        counted.example = counted.example.take().or(example);
    }

    /// When [`Self::collect`] has something.
    pub(super) fn due(&self) -> Option<Instant> {
        self.counted.values().map(|counted| counted.due).min()
    }

    /// What is to be told. What has just been told waits before it is told again.
    pub(super) fn collect(&mut self, now: Instant) -> Vec<Saying> {
        let mut all = Vec::new();
        self.counted.retain(|(service, pod, are), counted| {
            if counted.due > now {
                return true;
            }
            if counted.count == 0 {
                return false;
            }
            tell(service, pod.as_deref(), *are, counted, &mut all);
            *counted = Counted {
                count: 0,
                reasons: [0; Reason::ALL.len()],
                example: None,
                due: now + AGAIN,
            };
            true
        });
        all
    }
}

fn tell(
    service: &str,
    pod: Option<&str>,
    are: StreamsAre,
    counted: &Counted,
    all: &mut Vec<Saying>,
) {
    let (object, port) = parts(service);
    let is_one = counted.count == 1;
    let streams = if is_one {
        "1 stream".to_owned()
    } else {
        format!("{} streams", counted.count)
    };
    let (kind, reason, so) = match (are, is_one) {
        (StreamsAre::InWarning, true) => (EventType::Warning, "StreamWarning", "is in warning"),
        (StreamsAre::InWarning, false) => (EventType::Warning, "StreamWarning", "are in warning"),
        (StreamsAre::Stalled, true) => (EventType::Warning, "StreamStalled", "has stalled"),
        (StreamsAre::Stalled, false) => (EventType::Warning, "StreamStalled", "have stalled"),
        (StreamsAre::Well, true) => (EventType::Normal, "StreamRecovered", "is well again"),
        (StreamsAre::Well, false) => (EventType::Normal, "StreamRecovered", "are well again"),
    };
    let why: Vec<_> = Reason::ALL
        .iter()
        .zip(counted.reasons)
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{} ({count})", reason.explained()))
        .collect();
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(": {}", why.join("; "))
    };
    let example = match &counted.example {
        Some(example) => {
            let which = if is_one { "Its" } else { "One" };
            format!(
                " {which} Stream ID: {}",
                redact::cut(example.clone(), SHOWN)
            )
        }
        None => String::new(),
    };
    let end = format!("{so}{why}.{example}");
    if let Some(pod) = pod {
        all.push(Saying {
            about: About::Pod(pod.to_owned()),
            kind,
            reason,
            note: format!("{streams} of Service {object}{port} {end}"),
        });
    }
    let on_pod = pod.map(|pod| format!(" on pod {pod}")).unwrap_or_default();
    all.push(Saying {
        about: About::Service {
            service: object.to_owned(),
            pod: pod.map(str::to_owned),
        },
        kind,
        reason,
        note: format!("{streams}{on_pod}{port} {end}"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pod: &str, are: StreamsAre) -> (String, Option<String>, StreamsAre) {
        ("live/srt:9000".to_owned(), Some(pod.to_owned()), are)
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn streams_of_a_pod_are_counted_and_told_together() {
        let start = Instant::now();
        let mut streams = Streams::default();
        let low = Reason::LowBitrate.bit();
        let warning = || key("live/one", StreamsAre::InWarning);
        streams.take(warning(), low, 1, Some("#!::r=a…0123".into()), start);
        streams.take(
            warning(),
            low | Reason::Loss.bit(),
            1,
            None,
            after(start, 2),
        );
        assert_eq!(streams.due(), Some(after(start, 5)));
        assert_eq!(streams.collect(after(start, 4)), []);
        let said = streams.collect(after(start, 5));
        assert_eq!(said.len(), 2);
        assert_eq!(said[0].about, About::Pod("live/one".into()));
        assert_eq!(
            said[0].note,
            "2 streams of Service live/srt, port 9000, are in warning: the encoder sends less than the threshold (2); \
             the network before this node loses more than the threshold (1). One Stream ID: #!::r=a…0123"
        );
        assert_eq!(
            said[1].about,
            About::Service {
                service: "live/srt".into(),
                pod: Some("live/one".into())
            }
        );
        assert!(
            said[1]
                .note
                .starts_with("2 streams on pod live/one, port 9000, are in warning: "),
            "{}",
            said[1].note
        );
        assert!(said.iter().all(|said| said.reason == "StreamWarning"));
    }

    #[test]
    fn a_stream_that_comes_and_goes_is_told_once_a_minute_and_its_recovery_apart() {
        let start = Instant::now();
        let mut streams = Streams::default();
        let mut told = Vec::new();
        for second in 0..120 {
            let now = after(start, second);
            if second % 20 == 0 {
                let stalled = key("live/one", StreamsAre::Stalled);
                streams.take(stalled, Reason::EncoderStopped.bit(), 1, None, now);
            }
            if second % 20 == 10 {
                streams.take(key("live/one", StreamsAre::Well), 0, 1, None, now);
            }
            told.extend(streams.collect(now));
        }
        let of = |reason: &str| told.iter().filter(|said| said.reason == reason).count();
        assert_eq!((of("StreamStalled"), of("StreamRecovered")), (4, 4));
        assert_eq!(
            told[0].note,
            "1 stream of Service live/srt, port 9000, has stalled: the encoder is connected and sends no data (1)."
        );
        assert_eq!(
            told[2].note,
            "1 stream of Service live/srt, port 9000, is well again."
        );
        assert_eq!(told[2].kind, EventType::Normal);
        // All of them are forgotten in the end.
        for second in 120..400 {
            streams.collect(after(start, second));
        }
        assert_eq!(streams.due(), None);
    }

    #[test]
    fn a_stream_of_no_known_pod_is_told_at_its_service_and_a_flood_is_bounded() {
        let start = Instant::now();
        let mut streams = Streams::default();
        let nowhere = ("live/srt".to_owned(), None, StreamsAre::Stalled);
        let long = "é".repeat(600);
        streams.take(nowhere, u16::MAX, 1, Some(long), start);
        let said = streams.collect(after(start, 5));
        assert_eq!(said.len(), 1);
        assert!(
            said[0].note.starts_with("1 stream has stalled: ") && said[0].note.len() < 1024,
            "{}",
            said[0].note
        );
        for pod in 0..2 * MAX {
            let key = key(&pod.to_string(), StreamsAre::Well);
            streams.take(key, 0, 1, None, start);
        }
        assert!(streams.counted.len() <= MAX);
    }
}
