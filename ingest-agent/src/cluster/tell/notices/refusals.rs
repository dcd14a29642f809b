//! Sessions that the kernel refused, told as a few Events: encoders that are set up wrong try again for days.

use std::collections::BTreeMap;

use ingest_common::srt::Rejection;
use kube::runtime::events::EventType;
use tokio::time::Instant;

use super::{About, COLLECT, REMIND, Saying, parts};

/// Most Services and reasons at a time.
const MAX: usize = 1024;

/// By Service with port, and what its callers were told.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counted: BTreeMap<(String, Rejection), Refused>,
}

#[derive(Debug)]
struct Refused {
    /// Since it was told last.
    count: u64,
    /// Of the last one.
    route: Option<String>,
    /// When it may be told.
    due: Instant,
}

impl Refusals {
    pub(super) fn take(
        &mut self,
        service: String,
        route: Option<String>,
        rejection: Rejection,
        now: Instant,
    ) {
        let key = (service, rejection);
        if self.counted.len() >= MAX && !self.counted.contains_key(&key) {
            return;
        }
        let refused = self.counted.entry(key).or_insert_with(|| Refused {
            count: 0,
            route: None,
            due: now + COLLECT,
        });
        refused.count += 1;
        refused.route = route;
    }

    /// When [`Self::collect`] has something.
    pub(super) fn due(&self) -> Option<Instant> {
        let counted = self.counted.values();
        counted.map(|refused| refused.due).min()
    }

    /// What is to be told. What has just been told waits for long before it is told again.
    pub(super) fn collect(&mut self, now: Instant) -> Vec<Saying> {
        let mut all = Vec::new();
        self.counted.retain(|(service, rejection), refused| {
            if refused.due > now {
                return true;
            }
            if refused.count > 0 {
                all.push(saying(service, *rejection, refused));
                refused.due = now + REMIND;
            }
            std::mem::take(&mut refused.count) > 0
        });
        all
    }
}

fn saying(service: &str, rejection: Rejection, refused: &Refused) -> Saying {
    let (object, port) = parts(service);
    let sessions = match refused.count {
        1 => "1 session was".to_owned(),
        more => format!("{more} sessions were"),
    };
    let port = port.trim_start_matches(',').trim_end_matches(',');
    let on = if port.is_empty() {
        String::new()
    } else {
        format!(" on{port}")
    };
    let route = match &refused.route {
        Some(route) => format!(" The last one was for route {route}."),
        None => String::new(),
    };
    Saying {
        about: About::Service {
            service: object.to_owned(),
            pod: None,
        },
        kind: EventType::Warning,
        reason: "SessionsRefused",
        note: format!(
            "{sessions} refused{on}: {}. Callers were told {} ({}).{route}",
            why(rejection),
            rejection.code(),
            rejection.as_str(),
        ),
    }
}

fn why(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::BadRequest => "the Stream ID names a field twice, or is no text",
        Rejection::Overload => "the route is over its quota",
        Rejection::Forbidden => "the route rejects them",
        Rejection::NotFound => "no route matches, and the Service takes only routed streams",
        Rejection::Unavailable => "no backend takes new sessions",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn refuse(refusals: &mut Refusals, rejection: Rejection, now: Instant) {
        let route = (rejection == Rejection::Overload).then(|| "live/acme".to_owned());
        refusals.take("live/a:srt".to_owned(), route, rejection, now);
    }

    #[test]
    fn refusals_are_told_once_in_ten_minutes_with_their_count() {
        let start = Instant::now();
        let mut refusals = Refusals::default();
        assert_eq!(refusals.due(), None);
        for second in 0..4 {
            refuse(&mut refusals, Rejection::NotFound, after(start, second));
        }
        refuse(&mut refusals, Rejection::Overload, after(start, 3));
        assert_eq!(refusals.due(), Some(after(start, 5)));
        assert_eq!(refusals.collect(after(start, 4)), []);
        let said = refusals.collect(after(start, 5));
        assert_eq!(said.len(), 1, "the other has not waited yet");
        assert_eq!(
            said[0].about,
            About::Service {
                service: "live/a".to_owned(),
                pod: None
            }
        );
        assert_eq!(
            said[0].note,
            "4 sessions were refused on port srt: no route matches, and the Service takes only routed streams. Callers were told 2404 (not_found)."
        );
        let said = refusals.collect(after(start, 8));
        assert!(
            said[0].note.starts_with("1 session was refused")
                && said[0]
                    .note
                    .ends_with("The last one was for route live/acme."),
            "{}",
            said[0].note
        );
        for second in 6..606 {
            refuse(&mut refusals, Rejection::NotFound, after(start, second));
            let told = usize::from(second == 605);
            assert_eq!(
                refusals.collect(after(start, second)).len(),
                told,
                "{second}"
            );
        }
    }

    #[test]
    fn what_has_stopped_is_forgotten() {
        let start = Instant::now();
        let mut refusals = Refusals::default();
        refuse(&mut refusals, Rejection::Unavailable, start);
        assert_eq!(refusals.collect(after(start, 5)).len(), 1);
        assert_eq!(refusals.collect(after(start, 605)), []);
        assert_eq!(refusals.due(), None);
        for service in 0..2 * MAX {
            refusals.take(service.to_string(), None, Rejection::NotFound, start);
        }
        assert_eq!(refusals.collect(after(start, 5)).len(), MAX);
    }
}
