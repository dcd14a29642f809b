//! Draws all about one stream.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::{Block, Paragraph, Sparkline, Wrap},
};

use super::style::Theme;
use crate::{
    commands::streams::{latency, percent},
    output::{age, bitrate, bytes},
    view::{Detail, FailoverRow, StreamRow, ThresholdsRow, threshold_bitrate},
};

/// Columns of the charts; a second each, and the frame.
const CHARTS: u16 = 62;

/// Draws `row` and its `failovers`.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    row: &StreamRow,
    failovers: &[FailoverRow],
    theme: Theme,
) {
    let name = row.stream_id.as_deref().unwrap_or("without a Stream ID");
    let block = Block::bordered().title(format!(" {name} "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let charts_fit = inner.width >= CHARTS + 50;
    let charts = if charts_fit { CHARTS } else { 0 };
    let [left, right] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(charts)]).areas(inner);
    let none = Detail::default();
    let detail = row.detail.as_ref().unwrap_or(&none);
    let mut lines = state(row, detail, theme);
    lines.extend(log(row, failovers, theme));
    lines.extend(facts(row, detail, theme));
    if charts_fit {
        sparklines(frame, right, detail, theme);
    } else {
        // Where charts have no room of their own, they are lines.
        let narrow = [
            ("bitrate", &detail.history.bitrate),
            ("loss", &detail.history.loss),
            ("rtt", &detail.history.rtt_ms),
        ];
        let at = 1 + detail.explained.len();
        for (title, values) in narrow.into_iter().rev() {
            let line = Line::from(vec![
                label(title, theme),
                Span::styled(super::render::spark(values, 60), theme.chart()),
            ]);
            lines.insert(at.min(lines.len()), line);
        }
    }
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), left);
}

fn label(title: &str, theme: Theme) -> Span<'static> {
    Span::styled(format!("{title:<11}"), theme.faint())
}

fn line(title: &str, text: impl Into<String>, theme: Theme) -> Line<'static> {
    Line::from(vec![label(title, theme), text.into().into()])
}

fn state(row: &StreamRow, detail: &Detail, theme: Theme) -> Vec<Line<'static>> {
    let since = age(Duration::from_secs_f64(row.since_seconds));
    let mut lines = vec![Line::from(vec![
        label("state", theme),
        Span::styled(row.state, theme.state(row.state)),
        format!(" for {since}").into(),
    ])];
    if let Some(why) = row.cut_reason {
        lines.push(line("", format!("cut: {why}"), theme));
    }
    let sentences = detail.explained.iter();
    lines.extend(sentences.map(|sentence| line("", sentence, theme)));
    lines
}

fn facts(row: &StreamRow, detail: &Detail, theme: Theme) -> Vec<Line<'static>> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let share = |share: Option<f64>| or_dash(share.map(percent));
    let ms = |ms: Option<f64>| or_dash(ms.map(|ms| format!("{ms:.1} ms")));
    let buffer = row
        .receive_buffer
        .map(|left| format!("{left} packets left"));
    let asked = match (row.sender_latency_ms, row.receiver_latency_ms) {
        (Some(up), Some(down)) => format!(", {up} ms up and {down} ms down asked for"),
        _ => String::new(),
    };
    let group = row.group.map(|group| format!(", in group {group:#x}"));
    // What is asked most stands first: a small terminal shows the beginning.
    let all = [
        (
            "client",
            format!("{} to {} of {}", row.client, row.vip, row.service),
        ),
        (
            "pod",
            match &row.route {
                Some(route) => format!("{} by route {route}", or_dash(row.backend.clone())),
                None => or_dash(row.backend.clone()),
            },
        ),
        (
            "bitrate",
            format!(
                "{}, {} packets/s",
                or_dash(row.bitrate.map(bitrate)),
                or_dash(row.packets_per_second.map(|rate| format!("{rate:.0}")))
            ),
        ),
        (
            "loss",
            format!(
                "{} before the node, {} reported by the pod, {} retransmitted",
                share(row.loss),
                share(row.reported_loss),
                share(row.retransmitted_share)
            ),
        ),
        (
            "rtt",
            format!("{}, variance {}", ms(row.rtt_ms), ms(row.rtt_variance_ms)),
        ),
        ("latency", format!("{}{asked}", latency(row))),
        ("thresholds", thresholds(&detail.thresholds)),
        (
            "came back",
            format!("reconnects {}, failovers {}", row.reconnects, row.failovers),
        ),
        (
            "age",
            format!(
                "{}, last packet {} ms ago",
                age(Duration::from_secs_f64(row.age_seconds)),
                row.idle_ms
            ),
        ),
        ("buffer", or_dash(buffer)),
        (
            "caller",
            format!(
                "SRT {}, encryption {}, socket {:#x}{}",
                or_dash(row.peer_version.clone()),
                row.encryption.unwrap_or("-"),
                row.caller_id,
                group.unwrap_or_default()
            ),
        ),
        (
            "counted",
            format!(
                "{} packets up ({}), {} down ({})",
                row.up_packets,
                bytes(row.up_bytes),
                row.down_packets,
                bytes(row.down_bytes)
            ),
        ),
        (
            "",
            format!(
                "{} lost, {} retransmitted, {} NAKs for {}",
                row.lost, row.retransmitted, row.naks, row.reported_lost
            ),
        ),
        ("id", row.id.clone()),
    ];
    all.into_iter()
        .map(|(title, text)| line(title, text, theme))
        .collect()
}

fn thresholds(of: &ThresholdsRow) -> String {
    let seconds = |ms: u32| age(Duration::from_millis(ms.into()));
    let least = of.min_bitrate.map(|rate| {
        let rate = threshold_bitrate(rate);
        format!("at least {rate} within {}", seconds(of.min_bitrate_for_ms))
    });
    let all = [
        least,
        of.max_loss.map(|share| format!("loss {}", percent(share))),
        of.max_rtt
            .map(|share| format!("rtt {} of the latency", percent(share))),
        of.stalled_after_ms
            .map(|ms| format!("stalled after {}", seconds(ms))),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}

/// Its failovers, the newest first.
fn log(row: &StreamRow, failovers: &[FailoverRow], theme: Theme) -> Vec<Line<'static>> {
    let mine = failovers.iter().rev().filter(|f| f.id == row.id).take(4);
    mine.map(|failover| {
        let pod = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".to_owned());
        let text = format!(
            "{} ago from {} to {} in {:.0} ms: {}",
            age(Duration::from_secs_f64(failover.ago_seconds)),
            pod(&failover.from),
            pod(&failover.to),
            failover.took_ms,
            failover.reason.unwrap_or("not known")
        );
        line("failover", text, theme)
    })
    .collect()
}

fn sparklines(frame: &mut Frame<'_>, area: Rect, detail: &Detail, theme: Theme) {
    let areas: [Rect; 3] = Layout::vertical([Constraint::Fill(1); 3]).areas(area);
    let history = &detail.history;
    let most = |values: &[f32]| f64::from(values.iter().copied().fold(0.0, f32::max));
    let titles = [
        format!("bitrate, up to {}", bitrate(most(&history.bitrate))),
        format!("loss, up to {}", percent(most(&history.loss))),
        format!("rtt, up to {:.1} ms", most(&history.rtt_ms)),
    ];
    // Whole numbers are drawn: of a share thousandths of a percent, of a round trip microseconds.
    let series = [
        (&history.bitrate, 1.0),
        (&history.loss, 100_000.0),
        (&history.rtt_ms, 1000.0),
    ];
    for ((area, title), (values, unit)) in areas.into_iter().zip(titles).zip(series) {
        #[expect(clippy::cast_sign_loss, reason = "none is below 0")]
        let whole: Vec<u64> = values.iter().map(|value| (value * unit) as u64).collect();
        let block = Block::bordered().title(format!(" {title} "));
        let chart = Sparkline::default()
            .block(block)
            .data(whole)
            .style(theme.chart());
        frame.render_widget(chart, area);
    }
}
