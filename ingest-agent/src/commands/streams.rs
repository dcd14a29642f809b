//! `ingest-agent streams`

use std::{
    io::{IsTerminal as _, stdout},
    path::Path,
    thread,
    time::Duration,
};

use super::watch::Watch;
use crate::{
    cli::{Output, Streams},
    error::Error,
    output::{self, age, bitrate, dash, print, print_text},
    view::{Shown, StreamRow, View},
};

/// Characters of a Stream ID in the table; `-o json` has all of it.
const STREAM_ID_SHOWN: usize = 34;

pub(super) fn run(pin_root: &Path, output: Output, args: &Streams) -> Result<(), Error> {
    let mut watch = Watch::open(pin_root)?;
    watch.look()?;
    loop {
        if !args.sample.is_zero() {
            thread::sleep(args.sample);
            watch.look()?;
        }
        let rows = rows(watch.view(), args);
        match output {
            Output::Table if args.watch => {
                // From the top of an empty screen, where there is a screen.
                let clear = if stdout().is_terminal() {
                    "\x1b[H\x1b[2J"
                } else {
                    ""
                };
                print_text(&format!("{clear}{}\n", table(&rows)))?;
            }
            // One line a sample can be read line by line.
            Output::Json if args.watch => {
                print_text(&serde_json::to_string(&rows).map_err(|e| Error::Output(e.into()))?)?;
            }
            _ => print(output, &rows, |rows| table(rows))?,
        }
        if !args.watch {
            return Ok(());
        }
        if args.sample.is_zero() {
            thread::sleep(Duration::from_secs(1));
            watch.look()?;
        }
    }
}

fn rows(view: &View, args: &Streams) -> Vec<StreamRow> {
    let shown = Shown {
        stream_ids: args.stream_ids,
        clients: true,
    };
    let mut rows: Vec<StreamRow> = view
        .streams()
        .map(|stream| StreamRow::new(stream, view, shown))
        .filter(|row| args.all || row.session == "established")
        .collect();
    rows.sort_by(|a, b| (&a.service, &a.client, &a.vip).cmp(&(&b.service, &b.client, &b.vip)));
    rows
}

fn table(rows: &[StreamRow]) -> String {
    if rows.is_empty() {
        return "no streams".to_owned();
    }
    output::table(
        [
            "STATE",
            "STREAM-ID",
            "CLIENT",
            "POD",
            "ROUTE",
            ">BITRATE",
            ">LOSS",
            ">RETRANS",
            ">RTT",
            ">LATENCY",
            ">FAILOVERS",
            ">AGE",
        ],
        rows.iter().map(|r| {
            [
                state(r),
                cut(r.stream_id.as_deref().unwrap_or("-"), STREAM_ID_SHOWN),
                r.client.clone(),
                r.backend.clone().unwrap_or_else(dash),
                r.route.clone().unwrap_or_else(dash),
                r.bitrate.map_or_else(dash, bitrate),
                r.loss.map_or_else(dash, percent),
                r.retransmitted_share.map_or_else(dash, percent),
                r.rtt_ms.map_or_else(dash, |ms| format!("{ms:.1} ms")),
                latency(r),
                r.failovers.to_string(),
                age(Duration::from_secs_f64(r.age_seconds)),
            ]
        }),
    )
}

/// The state and why.
pub(super) fn state(row: &StreamRow) -> String {
    let why: Vec<&str> = row.reasons.iter().copied().chain(row.cut_reason).collect();
    if why.is_empty() {
        row.state.to_owned()
    } else {
        format!("{}: {}", row.state, why.join(", "))
    }
}

/// `2.1%`
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// What the two agreed on, or what the caller asked for; two numbers where it is another for each direction.
pub(super) fn latency(row: &StreamRow) -> String {
    let of = |up: Option<u16>, down: Option<u16>| match (up, down) {
        (Some(up), Some(down)) if up != down => Some(format!("{up}/{down} ms")),
        (Some(latency), _) => Some(format!("{latency} ms")),
        _ => None,
    };
    of(row.latency_ms, row.latency_down_ms)
        .or_else(|| of(row.sender_latency_ms, row.receiver_latency_ms))
        .unwrap_or_else(dash)
}

/// At most `most` characters of `text`.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests;
