//! Thresholds of services and routes.

use ingest_common::abi;
use serde_saphyr::Spanned;

use super::Checker;
use crate::source::{file::schema::Thresholds, thresholds::Field};

impl Checker {
    /// `of`: whose they are, for messages.
    pub(super) fn thresholds(
        &mut self,
        given: Option<&Spanned<Thresholds>>,
        of: &str,
    ) -> abi::Thresholds {
        let mut thresholds = abi::Thresholds::default();
        let Some(given) = given.map(|given| &given.value) else {
            return thresholds;
        };
        let bitrate = given.min_bitrate.as_ref();
        let bitrate = bitrate.map(|b| (b.referenced.line(), b.value.to_string()));
        let text = |text: &Option<Spanned<String>>| {
            let text = text.as_ref()?;
            Some((text.referenced.line(), text.value.clone()))
        };
        for (field, written) in [
            (Field::MinBitrate, bitrate),
            (Field::MinBitrateFor, text(&given.min_bitrate_for)),
            (Field::MaxLoss, text(&given.max_loss)),
            (Field::MaxRtt, text(&given.max_rtt)),
            (Field::StalledAfter, text(&given.stalled_after)),
        ] {
            let Some((line, text)) = written else {
                continue;
            };
            if field.set(&mut thresholds, &text).is_err() {
                let remedy = field.allowed();
                self.problem(line, format!("thresholds.{field} {text} of {of}; {remedy}"));
            }
        }
        thresholds
    }
}
