use super::*;

fn name(name: &str) -> ObjectName {
    ("live".to_owned(), name.to_owned())
}

fn derived(conditions: &[Condition]) -> Derived {
    Derived {
        conditions: BTreeMap::from([(name("a"), conditions.iter().cloned().collect())]),
        service_uids: BTreeMap::from([(name("a"), "uid-a".to_owned())]),
        ..Default::default()
    }
}

fn none_ready(port: &str) -> Condition {
    Condition::NoReadyBackend { port: port.into() }
}

fn elsewhere(port: &str) -> Condition {
    Condition::ReadyElsewhere { port: port.into() }
}

fn reasons(before: &[Condition], after: &[Condition]) -> Vec<&'static str> {
    let all = announcements(&derived(before), &derived(after), "here");
    all.iter().map(|announcement| announcement.reason).collect()
}

#[test]
fn conditions_are_told_when_they_begin() {
    assert_eq!(reasons(&[], &[none_ready("srt")]), ["NoReadyBackend"]);
    assert!(reasons(&[none_ready("srt")], &[none_ready("srt")]).is_empty());
    let two = [none_ready("srt"), none_ready("backup")];
    assert_eq!(reasons(&two[..1], &two), ["NoReadyBackend"]);
    // And nothing is said of the end of most.
    assert!(reasons(&[Condition::PublishesNotReady], &[]).is_empty());
}

#[test]
fn backends_that_are_back_are_told_once() {
    assert_eq!(reasons(&[none_ready("srt")], &[]), ["BackendsReady"]);
    assert_eq!(reasons(&[elsewhere("srt")], &[]), ["BackendsReady"]);
    // From bad to bad is no good news.
    assert_eq!(
        reasons(&[none_ready("srt")], &[elsewhere("srt")]),
        ["ReadyElsewhere"]
    );
    let gone = Derived::default();
    assert!(announcements(&derived(&[none_ready("srt")]), &gone, "here").is_empty());
}

#[test]
fn all_nodes_say_the_same_by_the_same_name() {
    let after = derived(&[elsewhere("srt"), none_ready("backup")]);
    let said = |node| announcements(&Derived::default(), &after, node);
    let (here, there) = (said("here"), said("there"));
    for (here, there) in here.iter().zip(&there) {
        assert_eq!(here.event_name(), there.event_name());
    }
    assert!(here.iter().any(|said| said.note.contains("here")));
    // But other ports, and other Services of the same name, have Events of their own.
    assert_ne!(here[0].event_name(), here[1].event_name());
    let mut other = here[0].clone();
    other.uid = "uid-b".to_owned();
    assert_ne!(other.event_name(), here[0].event_name());
    assert!(
        here[0].event_name().starts_with("a."),
        "{}",
        here[0].event_name()
    );
}

#[test]
fn services_are_counted_by_condition() {
    let counts = count(&derived(&[none_ready("srt"), none_ready("backup")]));
    assert_eq!(counts["NoReadyBackend"], 1);
    assert_eq!(counts["NoVip"], 0);
    assert_eq!(counts.len(), REASONS.len());
}

#[test]
fn notes_fit_into_an_event() {
    let long = Condition::Invalid {
        field: "spec",
        value: "ü".repeat(2000),
        reason: "why",
    };
    let said = &announcements(&Derived::default(), &derived(&[long]), "here")[0];
    assert!(
        (990..1024).contains(&said.note.len()),
        "{}",
        said.note.len()
    );
}

#[test]
fn a_tcp_port_is_told_of_and_is_no_warning() {
    let tcp = Condition::UnsupportedPort {
        port: "rtmp".into(),
        reason: "it is TCP",
    };
    let said = announcements(
        &Derived::default(),
        &derived(&[tcp, none_ready("srt")]),
        "here",
    );
    let kinds: Vec<_> = said.iter().map(|said| (said.reason, said.kind)).collect();
    assert!(kinds.contains(&("UnsupportedPort", EventType::Normal)));
    assert!(kinds.contains(&("NoReadyBackend", EventType::Warning)));
}
