//! What is served on /metrics, and the server.
//!
//! [`AgentMetrics`] is what the agent itself counts; `kernel` reads the rest out of the maps at each scrape, so
//! counters survive the agent. `streams` does the same with the view, and `series` chooses the streams that have series of
//! their own. Labels are bounded: services, VIPs, backends, reasons, and so many streams as the command line allows; never
//! a client's address, never a whole Stream ID.
//!
//! `reference` lists all of it for docs/metrics.md.

mod changes;
mod cluster;
mod kernel;
mod reference;
mod sample;
mod series;
mod server;
mod streams;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use ingest_common::abi::EventKind;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

pub use self::{
    changes::Changes,
    cluster::ClusterMetrics,
    kernel::KernelState,
    reference::reference,
    series::StreamSeries,
    server::{Probes, Read, serve},
    streams::StreamsState,
};

/// What the agent counts. Shared: the run loop writes, scrapes read.
pub struct AgentMetrics {
    registry: Mutex<Registry>,
    config_reloads: Family<ResultLabel, Counter>,
    config_good: Gauge,
    events: Family<KindLabel, Counter>,
    apply_seconds: Histogram,
    programming_seconds: Histogram,
    apply_failures: Counter,
    backends_unproven: Gauge,
    changes: Changes,
    flows: RwLock<Flows>,
}

/// What a sweep has counted.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// Established flows by service id.
    pub by_service: HashMap<u16, u32>,
    /// All entries of the flow table.
    pub entries: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

impl Default for AgentMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ingest");
        let config_reloads = Family::<ResultLabel, Counter>::default();
        let config_good = Gauge::default();
        let events = Family::<KindLabel, Counter>::default();
        let apply_seconds = Histogram::new(exponential_buckets(0.0001, 4.0, 8));
        let programming_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let apply_failures = Counter::default();
        let backends_unproven = Gauge::default();
        registry.register(
            "config_reloads",
            "Changes of the configuration, by whether they were applied or refused",
            config_reloads.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the configuration is what the maps say",
            config_good.clone(),
        );
        registry.register(
            "events",
            "Transitions that the kernel told of",
            events.clone(),
        );
        registry.register(
            "apply_duration_seconds",
            "Time from a known change to its last write to the maps",
            apply_seconds.clone(),
        );
        registry.register(
            "programming_latency_seconds",
            "Time from the change of an endpoint, as its EndpointSlice says, to the last write to the maps",
            programming_seconds.clone(),
        );
        registry.register(
            "apply_failures",
            "Writes to the maps that failed",
            apply_failures.clone(),
        );
        registry.register(
            "redirect_unproven_backends",
            "Backends that were to be reached by redirect and did not answer a probe",
            backends_unproven.clone(),
        );
        let changes = Changes::default();
        changes.register(&mut registry);
        let version = env!("CARGO_PKG_VERSION");
        let build = Family::<VersionLabel, Gauge>::default();
        build.get_or_create(&VersionLabel { version }).set(1);
        registry.register("build_info", "The running agent: 1", build);
        // All series from the start, so that a rate over a first failure is not missing.
        for result in ["applied", "refused"] {
            config_reloads
                .get_or_create(&ResultLabel { result })
                .inc_by(0);
        }
        Self {
            registry: Mutex::new(registry),
            config_reloads,
            config_good,
            events,
            apply_seconds,
            programming_seconds,
            apply_failures,
            backends_unproven,
            changes,
            flows: RwLock::default(),
        }
    }
}

impl fmt::Debug for AgentMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentMetrics").finish_non_exhaustive()
    }
}

impl AgentMetrics {
    /// What a cluster as the source counts. To be asked for once: only then is it served.
    pub fn cluster(&self) -> ClusterMetrics {
        let cluster = ClusterMetrics::default();
        cluster.register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
        cluster
    }

    /// A configuration was read: is it what the maps are to say?
    pub fn config_read(&self, applied: bool) {
        let result = if applied { "applied" } else { "refused" };
        self.config_reloads
            .get_or_create(&ResultLabel { result })
            .inc();
        self.config_good.set(i64::from(applied));
    }

    /// The kernel told of a transition.
    pub fn event(&self, kind: Option<EventKind>) {
        let kind = kind.map_or("unknown", EventKind::as_str);
        self.events.get_or_create(&KindLabel { kind }).inc();
    }

    /// A change has reached the maps.
    pub fn applied(&self, took: Duration) {
        self.apply_seconds.observe(took.as_secs_f64());
    }

    /// A change of these times is in the maps.
    pub fn programmed(&self, triggered: &[SystemTime]) {
        let now = SystemTime::now();
        for at in triggered {
            // A clock of the control plane that runs ahead of ours shows as no time at all.
            let latency = now.duration_since(*at).unwrap_or_default();
            self.programming_seconds.observe(latency.as_secs_f64());
        }
    }

    /// A change has not reached the maps.
    pub fn apply_failed(&self) {
        self.apply_failures.inc();
    }

    /// How many backends stay on `peer` though `redirect` is wanted.
    pub fn redirect_unproven(&self, backends: usize) {
        self.backends_unproven
            .set(backends.try_into().unwrap_or(i64::MAX));
    }

    /// What is counted of streams and backends as it happens.
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// What a sweep has counted.
    pub fn set_flows(&self, flows: Flows) {
        *self.flows.write().unwrap_or_else(PoisonError::into_inner) = flows;
    }

    /// What the agent itself counts, as text.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        render(self, KernelState::default(), StreamsState::default()).unwrap_or_default()
    }

    fn flows(&self) -> Flows {
        self.flows
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Everything as OpenMetrics text.
pub fn render(
    agent: &AgentMetrics,
    kernel: KernelState,
    streams: StreamsState,
) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let mut scrape = Registry::with_prefix("ingest");
    scrape.register_collector(Box::new(kernel.with_flows(agent.flows())));
    scrape.register_collector(Box::new(streams));
    text::encode_registry(
        &mut text,
        &agent
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    )?;
    text::encode_registry(&mut text, &scrape)?;
    text::encode_eof(&mut text)?;
    Ok(text)
}

/// The same for a client that knows only the older text format: there the name of a counter's family has its suffix.
pub(crate) fn to_classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let counters: HashSet<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    for line in openmetrics.lines() {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|what| {
            let (name, rest) = line.strip_prefix(what)?.split_once(' ')?;
            Some((what, name, rest))
        });
        match described {
            Some((what, name, rest)) if counters.contains(name) => {
                text.extend([what, name, "_total ", rest, "\n"]);
            }
            None if line == "# EOF" || line.starts_with("# UNIT ") => {}
            _ => text.extend([line, "\n"]),
        }
    }
    text
}
