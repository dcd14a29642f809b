//! Judges every stream once a second: keeps the shared view, writes its judgement into the maps for the CLI and for the
//! next agent, and tells what has changed.
//!
//! It has a task and a reader of its own, so that it turns whatever the run loop waits for. It changes nothing that a
//! program reads: streams go on without it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use ingest_common::abi::{FlowKey, StreamHealth};
use tokio::{
    sync::mpsc,
    task,
    time::{self, MissedTickBehavior},
};
use tracing::{debug, error, info, warn};

use super::tell::Teller;
use crate::{
    cli::StreamIds,
    dataplane::{self, Reader},
    error::Error,
    metrics::AgentMetrics,
    notice::Notice,
    view::{self, View},
};

const PERIOD: Duration = Duration::from_secs(1);

/// The task.
#[derive(Debug)]
pub struct Viewer {
    reader: Reader,
    view: view::Shared,
    metrics: Arc<AgentMetrics>,
    teller: Teller,
    /// What `STREAM_HEALTH` holds. None: it was not read yet.
    kept: Option<HashMap<FlowKey, StreamHealth>>,
    /// The maps could not be read the last time.
    failing: bool,
}

impl Viewer {
    /// Keeps `view`. `reader` is its own; `notices` go to the people of a cluster, where there is one.
    pub fn new(
        reader: Reader,
        view: view::Shared,
        metrics: Arc<AgentMetrics>,
        notices: Option<mpsc::Sender<Notice>>,
        stream_ids: StreamIds,
    ) -> Self {
        Self {
            reader,
            view,
            teller: Teller::new(metrics.clone(), notices, stream_ids),
            metrics,
            kept: None,
            failing: false,
        }
    }

    /// Looks once a second, for ever.
    pub async fn run(mut self) {
        let mut tick = time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // Ten thousand streams take some milliseconds, in which nothing else of this thread would turn.
            let looked = task::spawn_blocking(move || {
                self.turn();
                self
            });
            self = match looked.await {
                Ok(viewer) => viewer,
                Err(error) => {
                    error!(%error, "streams are judged no more; they go on");
                    return;
                }
            };
        }
    }

    fn turn(&mut self) {
        let result = self.look();
        match (result, self.failing) {
            (Ok(()), false) => {}
            (Ok(()), true) => info!("streams are judged again"),
            (Err(error), was_failing) => {
                let error = Error::from(error).chain();
                if was_failing {
                    debug!(error, "streams are still not judged");
                } else {
                    warn!(
                        error,
                        "streams could not be judged; trying again every second"
                    );
                }
                self.failing = true;
                return;
            }
        }
        self.failing = false;
    }

    fn look(&mut self) -> Result<(), dataplane::Error> {
        // Before the view is locked: a scrape does not wait for system calls.
        let reading = self.reader.reading()?;
        let now_ns = reading.now_ns;
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => self.reader.stream_health()?,
        };
        let view = self.view.clone();
        let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
        if view.now_ns() == 0 {
            view.adopt(&kept);
        }
        let kept = self.kept.insert(kept);
        let reader = &self.reader;
        let changes = view.observe(reading, |key| reader.stream_id(key).ok().flatten());
        self.teller.tell(&view, &changes);
        let changes = self.metrics.changes();
        let names = view.names();
        changes.set_services(names.services.values().map(|s| s.name.as_str()));
        changes.set_backends(names.backends.values().map(|b| b.name.as_str()));
        let (written, gone) = differences(&view, kept);
        drop(view);
        // Those that are gone first: the map has room for as many as there are flows.
        for key in gone {
            self.reader.remove_stream_health(&key)?;
            kept.remove(&key);
        }
        for (key, health) in written {
            self.reader.set_stream_health(&key, &health)?;
            kept.insert(key, health);
        }
        self.reader.set_viewed(now_ns)?;
        changes.viewed();
        Ok(())
    }
}

/// What is to be written into `STREAM_HEALTH`, which holds `kept`, and what is to be removed.
fn differences(
    view: &View,
    kept: &HashMap<FlowKey, StreamHealth>,
) -> (Vec<(FlowKey, StreamHealth)>, Vec<FlowKey>) {
    let written = view
        .streams()
        .map(|stream| (stream.key, stream.health()))
        .filter(|(key, health)| kept.get(key) != Some(health))
        .collect();
    let gone = kept
        .keys()
        .filter(|key| view.stream(key).is_none())
        .copied()
        .collect();
    (written, gone)
}
