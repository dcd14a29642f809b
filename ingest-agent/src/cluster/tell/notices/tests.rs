use super::*;

fn cut(backend: &str, reason: CutReason) -> Notice {
    Notice::Cut {
        service: "live/a:srt".to_owned(),
        backend: backend.to_owned(),
        reason,
    }
}

fn fallback(backend: &str) -> Notice {
    Notice::Fallback {
        backend: backend.to_owned(),
        mode: "peer",
        reason: "no NAPI in the pod",
    }
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn cuts_are_counted_and_told_together() {
    let start = Instant::now();
    let mut notices = Notices::new(start);
    for _ in 0..50 {
        assert!(
            notices
                .take(cut("live/one", CutReason::Silent), start)
                .is_none()
        );
    }
    assert!(
        notices
            .take(cut("live/two", CutReason::Silent), after(start, 4))
            .is_none()
    );
    assert_eq!(notices.due(), Some(start + COLLECT));
    assert!(notices.collect(after(start, 4)).is_empty());
    let said = notices.collect(after(start, 5));
    // One for each pod, and each on the Service.
    assert_eq!(said.len(), 4);
    assert_eq!(said[0].about, About::Pod("live/one".to_owned()));
    assert!(
        said[0]
            .note
            .starts_with("50 sessions of Service live/a, port srt, were cut: "),
        "{}",
        said[0].note
    );
    assert!(
        said[1]
            .note
            .starts_with("50 sessions on pod live/one, port srt, were"),
        "{}",
        said[1].note
    );
    let service = About::Service {
        service: "live/a".to_owned(),
        pod: Some("live/one".to_owned()),
    };
    assert_eq!(said[1].about, service);
    assert!(
        said[2]
            .note
            .contains("1 session of Service live/a, port srt, was cut: "),
        "{}",
        said[2].note
    );
    assert!(said.iter().all(|saying| saying.reason == "SessionsCut"));
    assert_eq!(notices.due(), None);
    assert!(notices.collect(after(start, 60)).is_empty());
}

#[test]
fn a_fallback_is_told_once_in_ten_minutes() {
    let start = Instant::now();
    let mut notices = Notices::new(start);
    assert!(notices.take(fallback("live/one"), start).is_some());
    assert!(
        notices
            .take(fallback("live/one"), after(start, 599))
            .is_none()
    );
    assert!(
        notices
            .take(fallback("live/two"), after(start, 599))
            .is_some()
    );
    let said = notices
        .take(fallback("live/one"), after(start, 601))
        .unwrap();
    assert_eq!(said.reason, "DeliveryFallback");
    assert!(said.note.contains("by peer"), "{}", said.note);
    assert_eq!(notices.take_dropped(), 0);
}

#[test]
fn there_are_at_most_twenty_a_minute() {
    let start = Instant::now();
    let mut notices = Notices::new(start);
    let drained = || Notice::Drained {
        backend: "live/one".to_owned(),
    };
    let mut told = 0;
    for tenths in 0..1200 {
        let now = start + Duration::from_millis(tenths * 100);
        told += u32::from(notices.take(drained(), now).is_some());
    }
    // The first twenty, and forty in two minutes.
    assert!((58..=60).contains(&told), "{told}");
    assert_eq!(notices.take_dropped(), 1200 - u64::from(told));
    assert_eq!(notices.take_dropped(), 0);
    // Quiet for long, and the allowance is whole again, but no more than whole.
    let later = after(start, 10_000);
    let told = (0..30).filter(|_| notices.take(drained(), later).is_some());
    assert_eq!(told.count(), 20);
}
