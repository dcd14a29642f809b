//! The kernel's counters as metrics.

mod node;
mod routing;
mod sample;

use std::{collections::HashMap, fmt};

use ingest_common::{
    abi::{self, BackendState, DeliveryMode, Traffic},
    reason::{DropReason, PassReason},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::{
    commands,
    dataplane::{self, BackendView, LinkView, Reader, RouteView, ServiceView},
    metrics::Flows,
    output::socket,
};

/// What the maps said at a scrape. Plain data.
#[derive(Clone, Debug, Default)]
pub struct KernelState {
    /// Services with their counters.
    pub services: Vec<ServiceView>,
    /// Backends with their counters.
    pub backends: Vec<BackendView>,
    /// Dropped packets.
    pub drops: Vec<(DropReason, u64)>,
    /// Passed packets.
    pub passes: Vec<(PassReason, u64)>,
    /// Routes with their counters.
    pub routes: Vec<RouteView>,
    /// When the secret that makes cookies became that; `None`: there is none yet.
    pub secret_since_ns: Option<u64>,
    /// Established flows by service id.
    pub flows: HashMap<u16, u32>,
    /// Entries of the flow table, as of the last sweep.
    pub flow_entries: usize,
    /// Flows that fit.
    pub max_flows: u32,
    /// Source ranges.
    pub sources: usize,
    /// What is attached to the uplinks.
    pub links: Vec<LinkView>,
    /// Who runs where.
    pub node: abi::Node,
    /// The packet path's settings.
    pub config: abi::Config,
    /// When this was read.
    pub now_ns: u64,
}

impl KernelState {
    /// Reads all of it but for the flows.
    pub fn read(reader: &Reader) -> Result<Self, dataplane::Error> {
        Ok(Self {
            services: reader.services()?,
            backends: reader.backends()?,
            drops: reader.drops()?,
            passes: reader.passes()?,
            routes: reader.routes()?,
            secret_since_ns: Some(reader.secrets()?)
                .filter(|secrets| secrets.serial != 0)
                .map(|secrets| secrets.since_ns),
            flows: HashMap::new(),
            flow_entries: 0,
            max_flows: reader.max_flows(),
            sources: reader.sources()?,
            links: reader.uplink_links()?,
            node: reader.node()?,
            config: reader.config()?,
            now_ns: dataplane::now_ns(),
        })
    }

    pub(super) fn with_flows(self, flows: Flows) -> Self {
        Self {
            flows: flows.by_service,
            flow_entries: flows.entries,
            ..self
        }
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Value of the one more label, and the field.
type Series = (&'static str, fn(&Traffic) -> u64);

/// A counter of [`Traffic`]: name behind `service_` or `backend_`, help, and its series by one more label.
struct TrafficMetric {
    name: &'static str,
    help: &'static str,
    label: Option<&'static str>,
    series: &'static [Series],
}

const TRAFFIC: [TrafficMetric; 9] = [
    TrafficMetric {
        name: "packets",
        help: "Packets steered: up from clients, down from pods",
        label: Some("direction"),
        series: &[("up", |t| t.up_packets), ("down", |t| t.down_packets)],
    },
    TrafficMetric {
        name: "bytes",
        help: "UDP payload bytes of these packets",
        label: Some("direction"),
        series: &[("up", |t| t.up_bytes), ("down", |t| t.down_bytes)],
    },
    TrafficMetric {
        name: "sessions",
        help: "Sessions: accepted or rejected by a pod, ended by one of their ends, cut because their backend could not go on",
        label: Some("event"),
        series: &[
            ("accepted", |t| t.accepted),
            ("rejected", |t| t.rejected),
            ("ended", |t| t.ended),
            ("cut", |t| t.cut),
        ],
    },
    TrafficMetric {
        name: "inductions",
        help: "SRT handshakes begun by clients",
        label: None,
        series: &[("", |t| t.inductions)],
    },
    TrafficMetric {
        name: "shutdowns",
        help: "SHUTDOWNs sent to callers",
        label: None,
        series: &[("", |t| t.shutdowns)],
    },
    TrafficMetric {
        name: "retransmitted_packets",
        help: "SRT data packets that clients sent again",
        label: None,
        series: &[("", |t| t.retransmitted)],
    },
    TrafficMetric {
        name: "sequence_gaps",
        help: "Sequence numbers skipped by first transmissions before they came to this node",
        label: None,
        series: &[("", |t| t.gaps)],
    },
    TrafficMetric {
        name: "out_of_order_packets",
        help: "First transmissions that came behind a later one; each fills a gap",
        label: None,
        series: &[("", |t| t.out_of_order)],
    },
    TrafficMetric {
        name: "reported_lost_packets",
        help: "Sequence numbers that pods reported lost; repeats count again",
        label: None,
        series: &[("", |t| t.reported_lost)],
    },
];

impl Collector for KernelState {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let services: Vec<_> = self
            .services
            .iter()
            .map(|s| (s.name.as_str(), socket(&s.key.address, s.key.port), s))
            .collect();
        let backends: Vec<_> = self
            .backends
            .iter()
            .map(|b| {
                (
                    b.name.as_str(),
                    socket(&b.backend.address, b.backend.port),
                    b,
                )
            })
            .collect();
        for metric in &TRAFFIC {
            let rows = services.iter().map(|(name, vip, s)| {
                (vec![("service", *name), ("vip", vip.as_str())], &s.traffic)
            });
            traffic(&mut encoder, "service", metric, rows)?;
            let rows = backends.iter().map(|(name, address, b)| {
                (
                    vec![("backend", *name), ("address", address.as_str())],
                    &b.traffic,
                )
            });
            traffic(&mut encoder, "backend", metric, rows)?;
        }

        let mut gauge = gauge(
            &mut encoder,
            "flows",
            "Established flows, counted every few seconds",
        )?;
        for (name, vip, service) in &services {
            let flows = self
                .flows
                .get(&service.service.id)
                .copied()
                .unwrap_or_default();
            set(&mut gauge, &[("service", name), ("vip", vip)], flows.into())?;
        }
        routing::handshakes(&mut encoder, &services)?;
        routing::routes(&mut encoder, &self.routes)?;
        routing::secret(&mut encoder, self.secret_since_ns, self.now_ns)?;
        self.encode_backends(&mut encoder, &backends)?;
        self.encode_reasons(&mut encoder)?;
        self.encode_node(&mut encoder)?;
        self.encode_maps(&mut encoder)
    }
}

impl KernelState {
    fn encode_backends(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        backends: &[(&str, String, &BackendView)],
    ) -> fmt::Result {
        let help = "Whether the backend gets new sessions";
        let mut up = gauge(encoder, "backend_up", help)?;
        for (name, address, view) in backends {
            let is_up = commands::is_up(view, &self.config, self.now_ns);
            set(
                &mut up,
                &[("backend", name), ("address", address)],
                i64::from(is_up),
            )?;
        }
        let help = "What the configuration says of the backend: 1 for its state";
        let mut states = gauge(encoder, "backend_state", help)?;
        for (name, address, view) in backends {
            for state in [
                BackendState::Serving,
                BackendState::Draining,
                BackendState::Gone,
            ] {
                let labels = [
                    ("backend", *name),
                    ("address", address),
                    ("state", state.as_str()),
                ];
                set(
                    &mut states,
                    &labels,
                    i64::from(view.backend.state == state as u8),
                )?;
            }
        }
        let help = "How packets get into the backend: 1 for its mode";
        let mut modes = gauge(encoder, "backend_delivery", help)?;
        for (name, address, view) in backends {
            let mode = DeliveryMode::from_u8(view.backend.mode).as_str();
            set(
                &mut modes,
                &[("backend", name), ("address", address), ("mode", mode)],
                1,
            )?;
        }
        let help = "How often the backend's process was seen dead";
        let mut deaths = counter(encoder, "backend_deaths", help)?;
        for (name, address, view) in backends {
            let labels = [("backend", *name), ("address", address.as_str())];
            count(&mut deaths, &labels, view.health.deaths.into())?;
        }
        Ok(())
    }

    fn encode_reasons(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut drops = counter(encoder, "drops", "Packets to VIPs dropped, by reason")?;
        for (reason, packets) in &self.drops {
            count(&mut drops, &[("reason", reason.as_str())], *packets)?;
        }
        let help = "Packets to VIPs left to the host, by reason";
        let mut passes = counter(encoder, "passes", help)?;
        for (reason, packets) in &self.passes {
            count(&mut passes, &[("reason", reason.as_str())], *packets)?;
        }
        Ok(())
    }
}

fn traffic<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    of: &str,
    metric: &TrafficMetric,
    rows: impl Iterator<Item = (Labels<'a>, &'a Traffic)>,
) -> fmt::Result {
    let name = format!("{of}_{}", metric.name);
    let mut counter = counter(encoder, &name, metric.help)?;
    for (labels, traffic) in rows {
        for (value, read) in metric.series {
            let mut labels = labels.clone();
            labels.extend(metric.label.map(|label| (label, *value)));
            count(&mut counter, &labels, read(traffic))?;
        }
    }
    Ok(())
}

pub(super) fn counter<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &'e str,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

pub(super) fn gauge<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &'e str,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)
}

pub(super) fn count(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&str, &str)],
    value: u64,
) -> fmt::Result {
    metric
        .encode_family(&labels)?
        .encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

pub(super) fn set(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&str, &str)],
    value: i64,
) -> fmt::Result {
    if labels.is_empty() {
        return metric.encode_gauge(&value);
    }
    metric.encode_family(&labels)?.encode_gauge(&value)
}

pub(super) fn set_f64(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&str, &str)],
    value: f64,
) -> fmt::Result {
    metric.encode_family(&labels)?.encode_gauge(&value)
}

#[cfg(test)]
mod tests;
