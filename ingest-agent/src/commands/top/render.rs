//! Draws the header, the streams and the help. Of the streams only those that fit: ten thousand cost what fifty do.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    symbols::bar,
    text::{Line, Span},
    widgets::{Block, Cell, Clear, Paragraph, Row, Table},
};

use super::{
    detail,
    model::{Column, Model, STATES},
    style::Theme,
};
use crate::{
    commands::streams::{percent, state},
    output::{age, bitrate},
    view::StreamRow,
};

/// From this height on the streams stay in sight beside a detail.
const TALL: u16 = 40;
/// From this width on the longest reason fits.
const WIDE: u16 = 120;
/// Lines that a detail needs then.
const DETAIL: u16 = 24;

const KEYS: &str =
    " q quit  ↑↓ choose  Enter detail  / filter  Esc clear  s sort  r reverse  ? help";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, theme: Theme) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    header(frame, head, model, theme);
    if model.has_detail && model.chosen().is_some() {
        let below = if body.height >= TALL {
            DETAIL
        } else {
            body.height
        };
        let [list, pane] =
            Layout::vertical([Constraint::Min(0), Constraint::Length(below)]).areas(body);
        if list.height > 0 {
            streams(frame, list, model, theme);
        }
        if let Some(row) = model.chosen() {
            detail::draw(frame, pane, row, &model.failovers, theme);
        }
    } else {
        streams(frame, body, model, theme);
    }
    footer(frame, foot, model, theme);
    if model.has_help {
        help(frame, theme);
    }
}

fn header(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let header = &model.header;
    let judge = if header.is_judged_by_agent {
        theme.faint()
    } else {
        theme.amiss()
    };
    let mut first = vec![Span::styled(header.node.clone(), theme.title())];
    if !header.uplinks.is_empty() {
        first.push(format!("  {}", header.uplinks.join(", ")).into());
    }
    first.extend(["  ".into(), Span::styled(header.judge.clone(), judge)]);
    let mut second = vec![
        Span::styled(format!("{} streams", model.rows.len()), theme.title()),
        format!("  {}", bitrate(model.bitrate())).into(),
    ];
    for (state, count) in STATES.iter().zip(model.counts()) {
        if count > 0 {
            second.push("  ".into());
            second.push(Span::styled(format!("{count} {state}"), theme.state(state)));
        }
    }
    let total: f64 = header.drops.iter().map(|(_, rate)| rate).sum();
    let worst: Vec<String> = header
        .drops
        .iter()
        .take(3)
        .map(|(reason, rate)| format!("{reason} {rate:.0}"))
        .collect();
    let third = match (&model.failure, worst.is_empty()) {
        (Some(why), _) => Line::styled(format!("not read: {why}"), theme.amiss()),
        (None, true) => Line::styled("no drops", theme.faint()),
        (None, false) => format!("{total:.0} drops/s: {}", worst.join(", ")).into(),
    };
    let lines = vec![Line::from(first), Line::from(second), third];
    frame.render_widget(Paragraph::new(lines), area);
}

fn footer(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let line = if model.is_writing {
        Line::from(vec![
            Span::styled(" filter: ", theme.title()),
            model.filter.escape_debug().to_string().into(),
            "█".into(),
        ])
    } else if model.filter.is_empty() {
        Line::styled(KEYS, theme.faint())
    } else {
        let filter = model.filter.escape_debug();
        Line::from(format!(
            " {} of {} streams with “{filter}” (Esc shows all)",
            model.visible.len(),
            model.rows.len()
        ))
    };
    frame.render_widget(line, area);
}

/// A column on the screen: of what, its title, its width, and from which width of the screen on it is there.
struct Place {
    column: Option<Column>,
    title: &'static str,
    width: Constraint,
    from: u16,
    is_number: bool,
}

const fn place(
    column: Option<Column>,
    title: &'static str,
    width: Constraint,
    from: u16,
    is_number: bool,
) -> Place {
    Place {
        column,
        title,
        width,
        from,
        is_number,
    }
}

const PLACES: [Place; 11] = [
    place(
        Some(Column::State),
        "STATE",
        Constraint::Length(20),
        0,
        false,
    ),
    place(
        Some(Column::StreamId),
        "STREAM ID",
        Constraint::Fill(3),
        0,
        false,
    ),
    place(
        Some(Column::Client),
        "CLIENT",
        Constraint::Length(21),
        160,
        false,
    ),
    place(Some(Column::Pod), "POD", Constraint::Fill(1), 100, false),
    place(
        Some(Column::Route),
        "ROUTE",
        Constraint::Fill(1),
        190,
        false,
    ),
    place(
        Some(Column::Bitrate),
        "BITRATE",
        Constraint::Length(11),
        0,
        true,
    ),
    place(None, "LAST MINUTE", Constraint::Length(20), 90, false),
    place(Some(Column::Loss), "LOSS", Constraint::Length(6), 60, true),
    place(
        Some(Column::Retransmitted),
        "RETRANS",
        Constraint::Length(8),
        110,
        true,
    ),
    place(Some(Column::Rtt), "RTT", Constraint::Length(9), 70, true),
    place(Some(Column::Age), "AGE", Constraint::Length(7), 80, true),
];

fn streams(frame: &mut Frame<'_>, area: Rect, model: &mut Model, theme: Theme) {
    let page = usize::from(area.height.saturating_sub(1));
    model.page = page.max(1);
    // The chosen one is in sight.
    let first = model.chosen.saturating_sub(model.page - 1);
    let last = model.visible.len().saturating_sub(model.page);
    model.top = model.top.clamp(first, model.chosen.max(first)).min(last);
    let places: Vec<&Place> = PLACES.iter().filter(|p| p.from <= area.width).collect();
    let titles = places.iter().map(|place| {
        let arrow = match place.column {
            Some(column) if column == model.sort => {
                if model.reversed {
                    "▲"
                } else {
                    "▼"
                }
            }
            _ => "",
        };
        aligned(place, format!("{}{arrow}", place.title)).style(theme.title())
    });
    let shown = model.visible.iter().enumerate().skip(model.top).take(page);
    let rows = shown.filter_map(|(position, index)| {
        let row = model.rows.get(*index)?;
        let cells: Vec<_> = places.iter().map(|place| cell(place, row, theme)).collect();
        let style = if position == model.chosen {
            theme.chosen()
        } else {
            ratatui::style::Style::new()
        };
        Some(Row::new(cells).style(style))
    });
    let widths = places.iter().map(|place| match place.column {
        Some(Column::State) if area.width >= WIDE => Constraint::Length(28),
        _ => place.width,
    });
    let table = Table::new(rows, widths)
        .header(Row::new(titles))
        .column_spacing(1);
    frame.render_widget(table, area);
    if model.visible.is_empty() && area.height > 2 {
        let text = if model.rows.is_empty() {
            "no streams"
        } else {
            "no stream has that text"
        };
        let below = Rect {
            y: area.y + 2,
            height: 1,
            ..area
        };
        frame.render_widget(Paragraph::new(text).alignment(Alignment::Center), below);
    }
}

fn aligned(place: &Place, text: String) -> Cell<'static> {
    let line = Line::from(text);
    Cell::from(if place.is_number {
        line.right_aligned()
    } else {
        line
    })
}

fn cell(place: &Place, row: &StreamRow, theme: Theme) -> Cell<'static> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let text = match place.column {
        Some(Column::State) => return Cell::from(state(row)).style(theme.state(row.state)),
        None => {
            let history = row.detail.as_ref().map(|d| d.history.bitrate.as_slice());
            return Cell::from(spark(history.unwrap_or_default(), 20)).style(theme.chart());
        }
        Some(Column::StreamId) => or_dash(row.stream_id.clone()),
        Some(Column::Client) => row.client.clone(),
        Some(Column::Pod) => or_dash(row.backend.clone()),
        Some(Column::Route) => or_dash(row.route.clone()),
        Some(Column::Bitrate) => or_dash(row.bitrate.map(bitrate)),
        Some(Column::Loss) => or_dash(row.loss.map(percent)),
        Some(Column::Retransmitted) => or_dash(row.retransmitted_share.map(percent)),
        Some(Column::Rtt) => or_dash(row.rtt_ms.map(|ms| format!("{ms:.1} ms"))),
        Some(Column::Age) => age(Duration::from_secs_f64(row.age_seconds)),
    };
    aligned(place, text)
}

/// The last minute in `width` characters, the newest at the right, against its own most.
pub(super) fn spark(values: &[f32], width: usize) -> String {
    const LEVELS: [&str; 9] = [
        " ",
        bar::ONE_EIGHTH,
        bar::ONE_QUARTER,
        bar::THREE_EIGHTHS,
        bar::HALF,
        bar::FIVE_EIGHTHS,
        bar::THREE_QUARTERS,
        bar::SEVEN_EIGHTHS,
        bar::FULL,
    ];
    let each = 60_usize.div_ceil(width.max(1));
    let most = values.iter().copied().fold(0.0, f32::max);
    let mut columns: Vec<&str> = values
        .rchunks(each)
        .take(width)
        .map(|seconds| {
            let sum: f32 = seconds.iter().sum();
            #[expect(clippy::cast_precision_loss, reason = "a few values")]
            let mean = sum / seconds.len() as f32;
            if mean <= 0.0 || most <= 0.0 {
                return LEVELS[0];
            }
            #[expect(clippy::cast_sign_loss, reason = "it is above 0")]
            let level = (mean / most * 8.0).round() as usize;
            LEVELS[level.clamp(1, 8)]
        })
        .collect();
    columns.reverse();
    format!("{:>width$}", columns.concat())
}

const HELP: [(&str, &str); 11] = [
    ("j k ↓ ↑", "the next stream, the one before"),
    ("PgDn PgUp", "a page on, a page back"),
    ("Home End", "the first, the last"),
    ("Enter", "all about the stream, and back"),
    ("/", "show only streams with a text; Enter keeps it"),
    ("Esc", "close the detail; show all streams"),
    ("s S", "sort by the next column, by the one before"),
    ("r", "sort the other way round"),
    ("?", "this"),
    ("q", "quit"),
    (
        "",
        "▼ marks the column that is sorted by: the worst or most first",
    ),
];

fn help(frame: &mut Frame<'_>, theme: Theme) {
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(keys, what)| {
            Line::from(vec![
                Span::styled(format!(" {keys:<10}"), theme.title()),
                (*what).into(),
            ])
        })
        .collect();
    let area = frame
        .area()
        .centered(Constraint::Max(76), Constraint::Max(lines.len() as u16 + 2));
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" Keys: any closes this ");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
