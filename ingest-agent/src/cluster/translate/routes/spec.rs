//! One rule of a route by itself: what it looks for and what it allows. What the schema lets through and the kernel
//! cannot do is found here.

use ingest_common::abi;

use super::super::super::stream_route as crd;
use crate::{
    reconcile::{Match, Mode, Quota, Text, What},
    source::thresholds::{self, Field},
};

/// Why a rule cannot be used, in words for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpecError {
    #[error("{field} {value:?} is longer than {limit} bytes")]
    TooLong {
        field: &'static str,
        value: String,
        limit: usize,
    },
    #[error("{field} is an empty exact text; an empty prefix fits any")]
    Empty { field: &'static str },
    #[error("{field} {value:?} has a zero byte, which no Stream ID holds")]
    Zero { field: &'static str, value: String },
    #[error("source {value:?} is not a range such as 203.0.113.0/24")]
    Source { value: String },
    #[error(
        "a match needs exactly one of streamId, resource, user, host and source, or a mode alone"
    )]
    Ambiguous,
    #[error("a match by source cannot ask for a mode")]
    SourceWithMode,
    #[error("a rule needs exactly one of backendRef and reject: true")]
    Target,
    #[error("quota.{field} must be 1 or more")]
    Quota { field: &'static str },
    #[error("thresholds.{0}")]
    Thresholds(#[from] thresholds::Error),
}

/// What a rule looks for, each once.
pub(super) fn matches(rule: &crd::RouteRule) -> Result<Vec<Match>, SpecError> {
    if rule.backend_ref.is_some() == (rule.reject == Some(true)) {
        return Err(SpecError::Target);
    }
    let mut all = Vec::new();
    for found in rule.matches.iter().map(one) {
        let found = found?;
        if !all.contains(&found) {
            all.push(found);
        }
    }
    Ok(all)
}

fn one(wanted: &crd::Match) -> Result<Match, SpecError> {
    let mode = wanted.mode.map(|mode| match mode {
        crd::Mode::Publish => Mode::Publish,
        crd::Mode::Request => Mode::Request,
    });
    let texts = [
        (
            "streamId",
            &wanted.stream_id,
            What::StreamId as fn(Text) -> What,
        ),
        ("resource", &wanted.resource, What::Resource),
        ("user", &wanted.user, What::User),
        ("host", &wanted.host, What::Host),
    ];
    let mut found = Vec::new();
    for (field, wanted, what) in texts {
        if let Some(wanted) = wanted {
            found.push(what(text(field, wanted)?));
        }
    }
    if let Some(range) = &wanted.source {
        if mode.is_some() {
            return Err(SpecError::SourceWithMode);
        }
        let value = range.trim();
        let range = value.parse::<ipnet::IpNet>().ok();
        // An address alone is its own range.
        let range = range.or_else(|| value.parse::<std::net::IpAddr>().ok().map(Into::into));
        let range = range.ok_or_else(|| SpecError::Source {
            value: value.to_owned(),
        })?;
        found.push(What::Source(range.trunc()));
    }
    match (found.len(), mode) {
        (1, _) => Ok(Match {
            what: found.remove(0),
            mode,
        }),
        (0, Some(_)) => Ok(Match {
            what: What::Mode,
            mode,
        }),
        _ => Err(SpecError::Ambiguous),
    }
}

fn text(field: &'static str, wanted: &crd::Text) -> Result<Text, SpecError> {
    let value = wanted.value.clone();
    let limit = match wanted.kind {
        // It ends with a zero byte in its key.
        crd::TextKind::Exact => abi::ROUTE_TEXT - 1,
        crd::TextKind::Prefix => abi::ROUTE_TEXT,
    };
    if value.len() > limit {
        return Err(SpecError::TooLong {
            field,
            value,
            limit,
        });
    }
    if value.contains('\0') {
        return Err(SpecError::Zero { field, value });
    }
    match wanted.kind {
        crd::TextKind::Exact if value.is_empty() => Err(SpecError::Empty { field }),
        crd::TextKind::Exact => Ok(Text::Exact(value)),
        crd::TextKind::Prefix => Ok(Text::Prefix(value)),
    }
}

/// What a rule allows; no quota is no bound.
pub(super) fn quota(rule: &crd::RouteRule) -> Result<Quota, SpecError> {
    let Some(quota) = &rule.quota else {
        return Ok(Quota::default());
    };
    Ok(Quota {
        streams: bound("streams", quota.streams)?,
        sessions_per_second: bound("sessionsPerSecond", quota.sessions_per_second)?,
        stream_bitrate: bound("streamBitrate", quota.stream_bitrate)?,
        bitrate: bound("bitrate", quota.bitrate)?,
    })
}

/// From when on streams of a rule are not well; zeros: as the service says.
pub(super) fn thresholds(rule: &crd::RouteRule) -> Result<abi::Thresholds, SpecError> {
    let mut thresholds = abi::Thresholds::default();
    let Some(given) = &rule.thresholds else {
        return Ok(thresholds);
    };
    for (field, text) in [
        (Field::MinBitrate, given.min_bitrate.map(|b| b.to_string())),
        (Field::MinBitrateFor, given.min_bitrate_for.clone()),
        (Field::MaxLoss, given.max_loss.clone()),
        (Field::MaxRtt, given.max_rtt.clone()),
        (Field::StalledAfter, given.stalled_after.clone()),
    ] {
        if let Some(text) = text {
            field.set(&mut thresholds, &text)?;
        }
    }
    Ok(thresholds)
}

fn bound<I, O>(field: &'static str, value: Option<I>) -> Result<Option<O>, SpecError>
where
    O: TryFrom<I> + Default + PartialEq,
{
    let Some(value) = value else {
        return Ok(None);
    };
    let value = O::try_from(value)
        .ok()
        .filter(|value| *value != O::default());
    value.map(Some).ok_or(SpecError::Quota { field })
}
