use super::*;

fn row() -> StreamRow {
    StreamRow {
        id: "00000000deadbeef".into(),
        state: "active",
        session: "established",
        client: "198.51.100.7:40000".into(),
        service: "live/srt".into(),
        backend: Some("live/pod-a".into()),
        stream_id: Some("#!::r=acm…0badcafe,m=publish".into()),
        route: Some("live/acme".into()),
        bitrate: Some(4_000_000.0),
        loss: Some(0.021),
        retransmitted_share: Some(0.0),
        rtt_ms: Some(21.4),
        latency_ms: Some(400),
        age_seconds: 10.0,
        ..Default::default()
    }
}

#[test]
fn the_table_tells_what_matters_of_a_stream() {
    let text = table(&[row()]);
    for part in [
        "active",
        "#!::r=acm…0badcafe,m=publish",
        "198.51.100.7:40000",
        "live/pod-a",
        "live/acme",
        "4.0 Mbit/s",
        "2.1%",
        "21.4 ms",
        "400 ms",
        "10s",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(table(&[]), "no streams");
}

#[test]
fn reasons_stand_beside_the_state() {
    let warned = StreamRow {
        state: "warning",
        reasons: vec!["low_bitrate", "loss"],
        ..row()
    };
    assert_eq!(state(&warned), "warning: low_bitrate, loss");
    let cut = StreamRow {
        state: "ending",
        session: "cut",
        cut_reason: Some("silent"),
        ..row()
    };
    assert_eq!(state(&cut), "ending: silent");
    assert_eq!(state(&row()), "active");
}

#[test]
fn the_table_fits_a_wide_terminal() {
    let long = StreamRow {
        state: "warning",
        reasons: vec!["low_bitrate"],
        stream_id: Some("x".repeat(300)),
        ..row()
    };
    let text = table(&[long]);
    let widest = text.lines().map(|l| l.chars().count()).max();
    assert!(widest <= Some(160), "{widest:?}\n{text}");
}

#[test]
fn the_latency_is_the_agreed_one_where_it_is_known() {
    let of = |agreed, up, down| {
        latency(&StreamRow {
            latency_ms: agreed,
            sender_latency_ms: up,
            receiver_latency_ms: down,
            ..row()
        })
    };
    assert_eq!(of(Some(400), Some(120), Some(120)), "400 ms");
    assert_eq!(of(None, Some(120), Some(120)), "120 ms");
    assert_eq!(of(None, Some(120), Some(200)), "120/200 ms");
    assert_eq!(of(None, None, None), "-");
}

#[test]
fn what_was_not_measured_is_a_dash() {
    let unmeasured = StreamRow {
        bitrate: None,
        loss: None,
        ..row()
    };
    let text = table(&[unmeasured]);
    let fields: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(fields[5..7], ["-", "-"]);
}
