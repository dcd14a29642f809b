//! The view of the command line: read from the pins, and judged by the agent where one runs, else here.

use std::{collections::HashMap, path::Path};

use ingest_common::abi::{FlowKey, StreamHealth};

use crate::{dataplane::Reader, error::Error, view::View};

/// The agent judges once a second. One that has not for this long is taken for gone.
const FRESH_NS: u64 = 3_000_000_000;

/// Looks at the streams.
#[derive(Debug)]
pub(super) struct Watch {
    reader: Reader,
    view: View,
    by_agent: bool,
}

impl Watch {
    /// Opens the pins. Nothing is read yet.
    pub(super) fn open(pin_root: &Path) -> Result<Self, Error> {
        Ok(Self {
            reader: Reader::open(pin_root)?,
            view: View::default(),
            by_agent: false,
        })
    }

    /// Reads what the maps say now.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        let reading = self.reader.reading()?;
        let viewed_ns = self.reader.node()?.viewed_ns;
        self.by_agent = is_fresh(viewed_ns, reading.now_ns);
        let is_first = self.view.now_ns() == 0;
        let health: HashMap<FlowKey, StreamHealth> = if is_first || self.by_agent {
            self.reader.stream_health()?
        } else {
            HashMap::new()
        };
        if is_first {
            // Who was counted by an agent that is gone is still counted.
            self.view.adopt(&health);
        }
        let mut failed = None;
        let reader = &self.reader;
        self.view.observe(reading, |key| {
            reader.stream_id(key).unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
        });
        if self.by_agent {
            // It has watched for longer.
            self.view.adopt(&health);
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// What was seen.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// The maps.
    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether the states are an agent's word.
    pub(super) fn by_agent(&self) -> bool {
        self.by_agent
    }
}

fn is_fresh(viewed_ns: u64, now_ns: u64) -> bool {
    viewed_ns != 0 && now_ns.saturating_sub(viewed_ns) < FRESH_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_stopped_judging_is_not_believed() {
        assert!(is_fresh(10_000_000_000, 12_900_000_000));
        assert!(!is_fresh(10_000_000_000, 13_000_000_000));
        assert!(!is_fresh(0, 1_000_000_000), "no agent has ever judged");
        assert!(is_fresh(10_000_000_001, 10_000_000_000), "read in between");
    }
}
