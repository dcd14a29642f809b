use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    style::{Color, Modifier},
};

use super::{
    model::{Column, Header, Model},
    render,
    style::Theme,
};
use crate::{
    cli::StreamIds,
    redact,
    view::{Detail, FailoverRow, History, StreamRow, ThresholdsRow},
};

fn stream(number: u16, state: &'static str) -> StreamRow {
    StreamRow {
        id: format!("{number:016x}"),
        state,
        session: "established",
        client: format!("198.51.100.7:{}", 40_000 + number),
        vip: "203.0.113.10:9000".into(),
        service: "live/srt".into(),
        backend: Some(format!("live/pod-{}", number % 3)),
        stream_id: Some(format!("cam-{number:05}")),
        route: Some("live/acme".into()),
        bitrate: Some(f64::from(number) * 1e6),
        loss: Some(0.0),
        rtt_ms: Some(20.0),
        age_seconds: 61.0,
        detail: Some(Detail {
            history: History {
                bitrate: (0..60_u8).map(f32::from).collect(),
                loss: vec![0.0, 0.02],
                rtt_ms: vec![20.0; 60],
            },
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn model(rows: Vec<StreamRow>) -> Model {
    let mut model = Model::new("");
    let header = Header {
        node: "node-1".into(),
        uplinks: vec!["eth0 (native XDP)".into()],
        judge: "no agent: judged here".into(),
        is_judged_by_agent: false,
        drops: vec![("rate_limited", 12.4), ("malformed", 3.0)],
    };
    model.take(header, rows, Vec::new());
    model
}

fn three() -> Model {
    model(vec![
        stream(1, "active"),
        StreamRow {
            reasons: vec!["low_bitrate"],
            ..stream(2, "warning")
        },
        StreamRow {
            reasons: vec!["encoder_stopped"],
            ..stream(3, "stalled")
        },
    ])
}

fn terminal(columns: u16, lines: u16) -> Terminal<TestBackend> {
    Terminal::new(TestBackend::new(columns, lines)).unwrap()
}

/// The screen's lines, without blanks behind them.
fn screen(terminal: &mut Terminal<TestBackend>, model: &mut Model) -> Vec<String> {
    let theme = Theme::new(true);
    terminal
        .draw(|frame| render::draw(frame, model, theme))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let width = usize::from(buffer.area.width);
    buffer
        .content
        .chunks(width)
        .map(|line| {
            let line: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
            line.trim_end().to_owned()
        })
        .collect()
}

fn shown(model: &mut Model) -> Vec<String> {
    screen(&mut terminal(200, 30), model)
}

fn press(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            key => KeyCode::Char(key),
        };
        model.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

fn push(model: &mut Model, code: KeyCode) {
    model.key(KeyEvent::new(code, KeyModifiers::NONE));
}

fn id(model: &Model) -> &str {
    model.chosen().unwrap().stream_id.as_deref().unwrap()
}

#[test]
fn the_header_tells_of_the_node() {
    let lines = shown(&mut three());
    assert_eq!(lines[0], "node-1  eth0 (native XDP)  no agent: judged here");
    assert_eq!(
        lines[1],
        "3 streams  6.0 Mbit/s  1 stalled  1 warning  1 active"
    );
    assert_eq!(lines[2], "15 drops/s: rate_limited 12, malformed 3");
    let mut failed = three();
    failed.fail("the map FLOWS cannot be read".into());
    assert!(shown(&mut failed)[2].contains("not read: the map FLOWS"));
}

#[test]
fn the_worst_stands_first_with_its_reason() {
    let lines = shown(&mut three());
    assert!(lines[3].starts_with("STATE▼"), "{lines:#?}");
    for (line, parts) in [
        (
            &lines[4],
            ["stalled: encoder_st", "cam-00003", "3.0 Mbit/s"],
        ),
        (
            &lines[5],
            ["warning: low_bitrate", "cam-00002", "live/pod-2"],
        ),
        (&lines[6], ["active", "198.51.100.7:40001", "live/acme"]),
    ] {
        for part in parts {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(line.contains("▁▁▂▂▃"), "its last minute: {line}");
    }
}

#[test]
fn states_are_worded_and_coloured_only_where_colours_are_wanted() {
    let mut model = three();
    for colours in [true, false] {
        let mut terminal = terminal(120, 20);
        terminal
            .draw(|frame| render::draw(frame, &mut model, Theme::new(colours)))
            .unwrap();
        let buffer = terminal.backend().buffer();
        let warning = &buffer[(0, 5)];
        assert_eq!(warning.symbol(), "w");
        assert!(warning.modifier.contains(Modifier::BOLD));
        let is_coloured = buffer.content.iter().any(|cell| cell.fg != Color::Reset);
        assert_eq!(is_coloured, colours);
    }
}

#[test]
fn s_and_r_sort() {
    let mut model = three();
    press(&mut model, "sssss");
    assert_eq!(model.sort, Column::Bitrate);
    let bitrates =
        |model: &Model| -> Vec<f64> { model.rows.iter().filter_map(|row| row.bitrate).collect() };
    assert_eq!(bitrates(&model), [3e6, 2e6, 1e6], "the most first");
    press(&mut model, "r");
    assert_eq!(bitrates(&model), [1e6, 2e6, 3e6]);
    assert!(shown(&mut model)[3].contains("BITRATE▲"));
    press(&mut model, "SSSSS");
    assert_eq!(model.sort, Column::State);
    press(&mut model, "S");
    assert_eq!(model.sort, Column::Age, "round");
}

#[test]
fn a_filter_finds_any_text_and_escape_clears_it() {
    let mut model = three();
    press(&mut model, "/LOW_bit");
    assert_eq!(model.visible.len(), 1, "as it is written");
    assert_eq!(id(&model), "cam-00002");
    assert!(shown(&mut model)[29].contains("filter: LOW_bit"));
    press(&mut model, "\n");
    assert!(shown(&mut model)[29].contains("1 of 3 streams with “LOW_bit”"));
    press(&mut model, "\x1b");
    assert_eq!(model.visible.len(), 3);
    for text in [
        "cam-00003",
        "POD-1",
        "acme",
        "stalled",
        "live/srt",
        ":40001",
    ] {
        press(&mut model, &format!("/{text}\n"));
        assert!(!model.visible.is_empty(), "{text}");
        press(&mut model, "\x1b");
    }
    press(&mut model, "/nothing");
    assert!(shown(&mut model)[5].contains("no stream has that text"));
    press(&mut model, "\x08\x08\x08\x08\x08\x08\x08q");
    assert!(!model.is_over(), "q is a letter here");
    press(&mut model, "\x1bq");
    assert!(model.is_over());
}

#[test]
fn the_chosen_stream_stays_chosen_when_others_come() {
    let mut model = three();
    press(&mut model, "jj");
    assert_eq!(id(&model), "cam-00001");
    let header = model.header.clone();
    let rows = vec![
        stream(5, "stalled"),
        stream(4, "stalled"),
        stream(1, "warning"),
        stream(2, "active"),
    ];
    model.take(header.clone(), rows, Vec::new());
    assert_eq!(id(&model), "cam-00001");
    // It has gone: who is in its place.
    model.take(header.clone(), vec![stream(7, "active")], Vec::new());
    assert_eq!(id(&model), "cam-00007");
    model.take(header, Vec::new(), Vec::new());
    assert!(model.chosen().is_none());
    assert!(shown(&mut model)[5].contains("no streams"));
    press(&mut model, "jk\ns");
    shown(&mut model);
}

#[test]
fn ten_thousand_streams_cost_a_screen() {
    let mut model = model((0..10_000).map(|n| stream(n, "active")).collect());
    let mut terminal = terminal(170, 24);
    let lines = screen(&mut terminal, &mut model);
    assert!(lines[4].contains("cam-00000") && lines[22].contains("cam-00018"));
    push(&mut model, KeyCode::End);
    let lines = screen(&mut terminal, &mut model);
    assert!(lines[22].contains("cam-09999"), "{lines:#?}");
    push(&mut model, KeyCode::PageUp);
    let lines = screen(&mut terminal, &mut model);
    assert!(lines.iter().any(|l| l.contains("cam-09980")), "{lines:#?}");
    push(&mut model, KeyCode::Home);
    push(&mut model, KeyCode::PageDown);
    assert_eq!(id(&model), "cam-00019");
    push(&mut model, KeyCode::Up);
    assert_eq!(id(&model), "cam-00018");
    // Growing shows more, and nothing blank where there are streams.
    push(&mut model, KeyCode::End);
    terminal.backend_mut().resize(170, 60);
    let lines = screen(&mut terminal, &mut model);
    assert!(lines[4].contains("cam-09945") && lines[58].contains("cam-09999"));
}

#[test]
fn any_size_is_drawn() {
    let mut model = three();
    for (columns, lines) in [(1, 1), (10, 3), (40, 8), (80, 24), (300, 100)] {
        for keys in ["", "\n", "?", "\x1b"] {
            press(&mut model, keys);
            screen(&mut terminal(columns, lines), &mut model);
        }
        press(&mut model, "\x1b");
    }
    let narrow = screen(&mut terminal(60, 10), &mut model);
    assert!(narrow[4].contains("stalled") && narrow[4].contains("cam-00003"));
    assert!(!narrow[3].contains("CLIENT"));
}

#[test]
fn the_detail_tells_everything_of_a_stream() {
    let mut warned = stream(2, "warning");
    warned.since_seconds = 12.0;
    warned.latency_ms = Some(400);
    warned.peer_version = Some("1.5.4".into());
    warned.encryption = Some("AES-128");
    warned.receive_buffer = Some(8100);
    warned.reconnects = 1;
    warned.failovers = 1;
    let detail = warned.detail.as_mut().unwrap();
    detail.explained = vec!["the encoder sends less: 1.2 Mbit/s of 2.0 Mbit/s".into()];
    detail.thresholds = ThresholdsRow {
        min_bitrate: Some(2_000_000),
        min_bitrate_for_ms: 5000,
        stalled_after_ms: Some(3000),
        max_loss: Some(0.05),
        max_rtt: None,
    };
    let failover = FailoverRow {
        id: warned.id.clone(),
        from: Some("live/pod-0".into()),
        to: Some("live/pod-2".into()),
        reason: Some("unreachable"),
        took_ms: 340.0,
        ago_seconds: 90.0,
        ..Default::default()
    };
    let other = FailoverRow {
        id: "other".into(),
        from: Some("live/elsewhere".into()),
        ..failover.clone()
    };
    let mut model = model(vec![warned]);
    model.failovers = vec![failover, other];
    press(&mut model, "\n");
    for (columns, lines) in [(170, 60), (100, 30)] {
        let text = screen(&mut terminal(columns, lines), &mut model).join("\n");
        for part in [
            "warning for 12s",
            "1.2 Mbit/s of 2.0 Mbit/s",
            "198.51.100.7:40002 to 203.0.113.10:9000",
            "SRT 1.5.4, encryption AES-128",
            "400 ms",
            "8100 packets left",
            "at least 2.0 Mbit/s within 5s, loss 5.0%, stalled after 3s",
            "reconnects 1, failovers 1",
            "1m30s ago from live/pod-0 to live/pod-2 in 340 ms: unreachable",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("elsewhere"), "{text}");
        let charts = if columns > 150 {
            "loss, up to 2.0%"
        } else {
            "▃▃▃▄▄▄"
        };
        assert!(text.contains(charts), "{text}");
    }
    press(&mut model, "\x1b");
    assert!(!shown(&mut model).join("\n").contains("unreachable"));
}

#[test]
fn help_closes_by_any_key() {
    let mut model = three();
    press(&mut model, "?");
    let text = shown(&mut model).join("\n");
    assert!(text.contains("sort by the next column") && text.contains("Keys: any closes"));
    press(&mut model, "j");
    assert!(!shown(&mut model).join("\n").contains("Keys: any closes"));
    assert_eq!(model.chosen, 0, "it did nothing else");
    model.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(model.is_over());
}

/// What strangers send reaches a cell of the screen as printable text, and no cell beyond its own.
#[test]
fn a_hostile_stream_id_stays_in_its_cell() {
    let hostile = b"\x1b[2J\x1b[H\r\n\x07\xe2\x80\xae\xc2\x9b31m\xff";
    let mut first = stream(1, "active");
    first.stream_id = Some(redact::text(hostile, StreamIds::Full));
    let mut model = model(vec![first, stream(2, "active")]);
    for keys in ["", "\n"] {
        press(&mut model, keys);
        let lines = shown(&mut model);
        assert!(lines.iter().any(|l| l.contains("\\u{1b}[2J")), "{lines:#?}");
        let mut characters = lines.iter().flat_map(|line| line.chars());
        assert!(!characters.any(|c| c.is_control() || c == '\u{202e}'));
        assert!(lines[0].starts_with("node-1"), "{lines:#?}");
    }
}

#[test]
fn a_sparkline_is_as_wide_as_it_should_be_and_ends_now() {
    let spark = |values: &[f32]| render::spark(values, 20);
    assert_eq!(spark(&[]), " ".repeat(20));
    assert_eq!(spark(&[0.0; 60]), " ".repeat(20));
    assert_eq!(spark(&[5.0; 60]), "█".repeat(20));
    assert_eq!(spark(&[5.0; 3]), format!("{}█", " ".repeat(19)));
    let mut fallen = [8.0; 60];
    fallen[57..].fill(1.0);
    assert!(spark(&fallen).ends_with("█▁"));
}
