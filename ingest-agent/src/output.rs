//! How commands print: tables for people, JSON for programs, and numbers that people can read.

use std::{
    io::{Write as _, stdout},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};
use ingest_common::abi;
use serde::Serialize;

use crate::{cli::Output, error::Error, reconcile::from_abi};

/// Prints `value`: as JSON, or as `table` makes it.
pub(crate) fn print<T: Serialize>(
    output: Output,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Error> {
    let text = match output {
        Output::Table => table(value),
        Output::Json => serde_json::to_string_pretty(value).map_err(|e| Error::Output(e.into()))?,
    };
    print_text(&text)
}

/// Prints a text and ends its line.
pub(crate) fn print_text(text: &str) -> Result<(), Error> {
    let mut out = stdout().lock();
    writeln!(out, "{}", text.trim_end())
        .and_then(|()| out.flush())
        .map_err(Error::Output)
}

/// A table without lines. Columns whose header begins with `>` are right-aligned.
pub(crate) fn table<const N: usize>(
    headers: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(headers.map(|h| h.trim_start_matches('>')));
    for row in rows {
        table.add_row(row);
    }
    for (column, header) in table.column_iter_mut().zip(headers) {
        column.set_padding((0, 2));
        if header.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// What stands where there is nothing to say.
pub(crate) fn dash() -> String {
    "-".to_owned()
}

/// `12.3 Mbit/s`
pub(crate) fn bitrate(bits_per_second: f64) -> String {
    scaled(bits_per_second, "bit/s")
}

/// `12.3 MB`
pub(crate) fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    scaled(count as f64, "B")
}

fn scaled(value: f64, unit: &str) -> String {
    let mut value = value;
    for prefix in ["", "k", "M", "G", "T"] {
        if value < 999.5 || prefix == "T" {
            let digits = usize::from(!prefix.is_empty() && value < 99.95);
            return format!("{value:.digits$} {prefix}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.0} {unit}")
}

/// `3h12m`, `5m07s`, `12s`, `340ms`
pub(crate) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Address and port as people write them.
pub(crate) fn socket(address: &abi::Address, port: u16) -> String {
    SocketAddr::new(from_abi(address), port).to_string()
}

/// Text of a field that is padded with zeros.
pub(crate) fn padded(bytes: &[u8]) -> String {
    let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The word for the address's family.
pub(crate) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(bitrate(0.0), "0 bit/s");
        assert_eq!(bitrate(999.0), "999 bit/s");
        assert_eq!(bitrate(4_560_000.0), "4.6 Mbit/s");
        assert_eq!(bitrate(999_600.0), "1.0 Mbit/s");
        assert_eq!(bitrate(123_456_789.0), "123 Mbit/s");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(5_000_000_000_000_000), "5000 TB");
    }

    #[test]
    fn ages_have_two_parts() {
        let of = |ms| age(Duration::from_millis(ms));
        assert_eq!(of(340), "340ms");
        assert_eq!(of(12_900), "12s");
        assert_eq!(of(307_000), "5m07s");
        assert_eq!(of(11_520_000), "3h12m");
        assert_eq!(of(90_000_000), "1d01h");
    }

    #[test]
    fn tables_have_no_trailing_blanks() {
        let text = table(
            ["NAME", ">COUNT"],
            [["a".into(), "10".into()], ["bcd".into(), "9".into()]],
        );
        assert_eq!(text, "NAME  COUNT\na        10\nbcd       9");
    }
}
