//! Thresholds as people write them, the same in the file, in a StreamRoute and in an annotation.
//!
//! Only words and numbers: whose thresholds they are, and where they are said to be wrong, is the sources' business.

use std::{fmt, time::Duration};

use ingest_common::abi::{OFF, Thresholds};

/// The word for no threshold.
const OFF_WORD: &str = "off";
/// Bits a second. More is no network's.
const BITRATES: std::ops::RangeInclusive<u64> = 1..=1_000_000_000_000;
/// What is shorter is a gap between two pictures, what is longer nobody waits for.
const DURATIONS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_hours(1);
/// Hundredths of a percent.
const LOSSES: std::ops::RangeInclusive<u32> = 1..=10_000;
/// Percent of the latency.
const ROUND_TRIPS: std::ops::RangeInclusive<u32> = 1..=1000;

/// One of the thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    MinBitrate,
    MinBitrateFor,
    MaxLoss,
    MaxRtt,
    StalledAfter,
}

impl Field {
    const ALL: [Self; 5] = [
        Self::MinBitrate,
        Self::MinBitrateFor,
        Self::MaxLoss,
        Self::MaxRtt,
        Self::StalledAfter,
    ];

    /// As it is written.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MinBitrate => "minBitrate",
            Self::MinBitrateFor => "minBitrateFor",
            Self::MaxLoss => "maxLoss",
            Self::MaxRtt => "maxRtt",
            Self::StalledAfter => "stalledAfter",
        }
    }

    /// What may be written, as a remedy.
    pub(crate) const fn allowed(self) -> &'static str {
        match self {
            Self::MinBitrate => "use 1 to 1000000000000 bits a second",
            Self::MinBitrateFor => "use 100ms to 1h, for example 5s",
            Self::MaxLoss => "use 0.01% to 100% with at most two decimals, or off",
            Self::MaxRtt => "use 1% to 1000% of the latency, in whole percent, or off",
            Self::StalledAfter => "use 100ms to 1h, for example 3s, or off",
        }
    }

    /// Takes `text` for this one. What is wrong leaves `thresholds` as they were.
    pub(crate) fn set(self, thresholds: &mut Thresholds, text: &str) -> Result<(), Error> {
        let off = (text == OFF_WORD).then_some(OFF);
        let done = match self {
            Self::MinBitrate => bitrate(text).map(|bits| thresholds.min_bitrate = bits),
            Self::MinBitrateFor => millis(text).map(|ms| thresholds.min_bitrate_for_ms = ms),
            Self::MaxLoss => off
                .or_else(|| hundredths(text))
                .map(|loss| thresholds.max_loss = loss),
            Self::MaxRtt => off
                .or_else(|| percent(text))
                .map(|part| thresholds.max_rtt = part),
            Self::StalledAfter => off
                .or_else(|| millis(text))
                .map(|ms| thresholds.stalled_after_ms = ms),
        };
        done.ok_or_else(|| Error::Value {
            field: self,
            value: text.to_owned(),
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is no threshold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A value that this one cannot have.
    #[error("{field} {value:?}; {}", field.allowed())]
    Value { field: Field, value: String },
    /// Not `name=value`, with one of the names.
    #[error("{part:?} is no threshold; {UNKNOWN}")]
    Unknown { part: String },
    /// The name once more.
    #[error("{field} is written twice; write it once")]
    Twice { field: Field },
}

const UNKNOWN: &str =
    "write minBitrate, minBitrateFor, maxLoss, maxRtt or stalledAfter, for example maxLoss=2%";

impl Error {
    /// The remedy alone.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::Value { field, .. } => field.allowed(),
            Self::Unknown { .. } => UNKNOWN,
            Self::Twice { .. } => "write each once",
        }
    }

    /// What it is about, as it was written.
    pub(crate) fn written(&self) -> String {
        match self {
            Self::Value { field, value } => format!("{field}={value}"),
            Self::Unknown { part } => part.clone(),
            Self::Twice { field } => field.name().to_owned(),
        }
    }
}

/// `minBitrate=2000000,maxLoss=2%`: what of it can be used, and what cannot.
pub(crate) fn listed(text: &str) -> (Thresholds, Vec<Error>) {
    let mut thresholds = Thresholds::default();
    let (mut seen, mut errors) = (Vec::new(), Vec::new());
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let named = part.split_once('=').and_then(|(name, value)| {
            let field = Field::ALL.into_iter().find(|f| f.name() == name.trim())?;
            Some((field, value.trim()))
        });
        let result = match named {
            None => Err(Error::Unknown {
                part: part.to_owned(),
            }),
            Some((field, _)) if seen.contains(&field) => Err(Error::Twice { field }),
            Some((field, value)) => {
                seen.push(field);
                field.set(&mut thresholds, value)
            }
        };
        errors.extend(result.err());
    }
    (thresholds, errors)
}

/// What is set, as [`listed`] reads it; `None`: nothing is.
pub(crate) fn shown(thresholds: &Thresholds) -> Option<String> {
    let Thresholds {
        min_bitrate,
        min_bitrate_for_ms,
        stalled_after_ms,
        max_loss,
        max_rtt,
    } = *thresholds;
    let or_off = |value: u32, text: fn(u32) -> String| {
        if value == OFF {
            OFF_WORD.to_owned()
        } else {
            text(value)
        }
    };
    let all = [
        (Field::MinBitrate, min_bitrate != 0, min_bitrate.to_string()),
        (
            Field::MinBitrateFor,
            min_bitrate_for_ms != 0,
            duration(min_bitrate_for_ms),
        ),
        (
            Field::MaxLoss,
            max_loss != 0,
            or_off(max_loss, of_hundredths),
        ),
        (
            Field::MaxRtt,
            max_rtt != 0,
            or_off(max_rtt, |part| format!("{part}%")),
        ),
        (
            Field::StalledAfter,
            stalled_after_ms != 0,
            or_off(stalled_after_ms, duration),
        ),
    ];
    let parts: Vec<String> = all
        .into_iter()
        .filter(|(_, set, _)| *set)
        .map(|(field, _, value)| format!("{field}={value}"))
        .collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

fn bitrate(text: &str) -> Option<u64> {
    let bits = digits(text)?.parse().ok()?;
    BITRATES.contains(&bits).then_some(bits)
}

/// A duration as in the Gateway API (`1m30s`): what the API server's schema allows is what the file allows.
fn millis(text: &str) -> Option<u32> {
    if !text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"hms".contains(&b))
    {
        return None;
    }
    let duration = humantime::parse_duration(text).ok()?;
    let allowed = DURATIONS.contains(&duration);
    allowed.then(|| u32::try_from(duration.as_millis()).ok())?
}

fn hundredths(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, part) = (digits(whole)?, digits(part)?);
    if part.len() > 2 {
        return None;
    }
    let part: u32 = format!("{part:0<2}").parse().ok()?;
    let all = whole.parse::<u32>().ok()?.checked_mul(100)? + part;
    LOSSES.contains(&all).then_some(all)
}

fn percent(text: &str) -> Option<u32> {
    let part = digits(text.strip_suffix('%')?)?.parse().ok()?;
    ROUND_TRIPS.contains(&part).then_some(part)
}

/// Digits only: `parse` takes a sign as well.
fn digits(text: &str) -> Option<&str> {
    let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all.then_some(text)
}

fn of_hundredths(value: u32) -> String {
    let text = format!("{}.{:02}", value / 100, value % 100);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}%")
}

fn duration(ms: u32) -> String {
    let duration = Duration::from_millis(ms.into());
    let text = humantime::format_duration(duration).to_string();
    text.replace(' ', "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(field: Field, text: &str) -> Option<Thresholds> {
        let mut thresholds = Thresholds::default();
        field.set(&mut thresholds, text).ok()?;
        Some(thresholds)
    }

    #[test]
    fn a_list_is_read_and_shown_the_same() {
        let text =
            "minBitrate=2000000,minBitrateFor=1m30s,maxLoss=0.5%,maxRtt=40%,stalledAfter=500ms";
        let (read, errors) = listed(text);
        assert_eq!(errors, []);
        let expected = Thresholds {
            min_bitrate: 2_000_000,
            min_bitrate_for_ms: 90_000,
            stalled_after_ms: 500,
            max_loss: 50,
            max_rtt: 40,
        };
        assert_eq!(read, expected);
        assert_eq!(shown(&read).as_deref(), Some(text));
        assert_eq!(shown(&Thresholds::default()), None);
        assert_eq!(listed(" "), (Thresholds::default(), Vec::new()));
    }

    #[test]
    fn off_is_for_what_has_a_default() {
        let (read, errors) = listed("maxLoss=off, maxRtt=off, stalledAfter = off");
        assert_eq!(errors, []);
        assert_eq!(
            (read.max_loss, read.max_rtt, read.stalled_after_ms),
            (OFF, OFF, OFF)
        );
        assert_eq!(one(Field::MinBitrate, "off"), None);
        assert_eq!(one(Field::MinBitrateFor, "off"), None);
    }

    #[test]
    fn bounds_hold() {
        let cases = [
            (
                Field::MinBitrate,
                ["1", "1000000000000"].as_slice(),
                ["0", "1000000000001", "-1", "+1", "2M", ""].as_slice(),
            ),
            (
                Field::MinBitrateFor,
                &["100ms", "1h", "60m", "59m59s999ms"],
                &["99ms", "1h1ms", "5", "5 s", "1d", "", "1s 2s", "s"],
            ),
            (Field::StalledAfter, &["100ms", "1h"], &["0s", "2h", "Off"]),
            (
                Field::MaxLoss,
                &["0.01%", "0.5%", "2%", "100%", "100.00%"],
                &[
                    "0%", "0.00%", "0.001%", "100.01%", "2", "2.%", ".5%", "-1%", "1e1%", "2 %", "",
                ],
            ),
            (
                Field::MaxRtt,
                &["1%", "1000%"],
                &["0%", "1001%", "40", "4.5%", "+4%"],
            ),
        ];
        for (field, good, bad) in cases {
            for text in good {
                assert!(one(field, text).is_some(), "{field} {text}");
            }
            for text in bad {
                assert!(one(field, text).is_none(), "{field} {text:?}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_the_rest_is_taken() {
        let (read, errors) = listed("minBitrate=5,maxLoss=2,loss=2%,maxRtt,minBitrate=6,maxRtt=7%");
        assert_eq!((read.min_bitrate, read.max_rtt, read.max_loss), (5, 7, 0));
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let words = [
            "maxLoss \"2\"; use 0.01%",
            "\"loss=2%\" is no",
            "\"maxRtt\" is no",
            "minBitrate is written twice",
        ];
        assert_eq!(said.len(), words.len(), "{said:?}");
        for (said, word) in said.iter().zip(words) {
            assert!(said.starts_with(word), "{said}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(
            min_bitrate in 0..=1_000_000_000_000_u64,
            times in prop::array::uniform2(prop_oneof![Just(0), 100..=3_600_000_u32]),
            off in any::<[bool; 3]>(),
            max_loss in 0..=10_000_u32,
            max_rtt in 0..=1000_u32,
        ) {
            let or_off = |off, value| if off { OFF } else { value };
            let thresholds = Thresholds {
                min_bitrate,
                min_bitrate_for_ms: times[0],
                stalled_after_ms: or_off(off[0], times[1]),
                max_loss: or_off(off[1], max_loss),
                max_rtt: or_off(off[2], max_rtt),
            };
            let text = shown(&thresholds).unwrap_or_default();
            prop_assert_eq!(listed(&text), (thresholds, Vec::new()), "{}", text);
        }
    }
}
