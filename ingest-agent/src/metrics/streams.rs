//! Streams as metrics: how many are how, and series of their own for a bounded number.

use std::{collections::BTreeMap, fmt};

use ingest_common::abi::{Reason, StreamState};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    kernel::{count, counter, gauge, set, set_f64},
    series::{Series, StreamSeries, TOTALS},
};
use crate::view::View;

/// What the view said at a scrape. Plain data.
#[derive(Clone, Debug, Default)]
pub struct StreamsState {
    /// By service id.
    services: BTreeMap<u16, ServiceStreams>,
    series: Vec<Series>,
    /// Streams without series.
    omitted: usize,
}

#[derive(Clone, Debug, Default)]
struct ServiceStreams {
    name: String,
    vip: String,
    /// By [`StreamState`].
    states: [u32; StreamState::ALL.len()],
    /// By [`Reason`].
    reasons: [u32; Reason::ALL.len()],
}

impl StreamsState {
    /// Counts the streams of `view`, and has `series` choose which get series.
    pub(super) fn read(view: &View, series: &mut StreamSeries) -> Self {
        let named = |(id, service): (&u16, &crate::view::ServiceName)| {
            let streams = ServiceStreams {
                name: service.name.clone(),
                vip: service.vip.to_string(),
                ..ServiceStreams::default()
            };
            (*id, streams)
        };
        let mut services: BTreeMap<_, _> = view.names().services.iter().map(named).collect();
        for stream in view.streams() {
            let Some(service) = services.get_mut(&stream.key.service) else {
                continue;
            };
            if let Some(count) = service.states.get_mut(stream.state as usize) {
                *count += 1;
            }
            let holds = |reason: &Reason| stream.has(*reason);
            for (_, count) in Reason::ALL
                .iter()
                .zip(&mut service.reasons)
                .filter(|(reason, _)| holds(reason))
            {
                *count += 1;
            }
        }
        let (series, omitted) = series.choose(view);
        Self {
            services,
            series,
            omitted,
        }
    }

    /// One of everything.
    pub(super) fn sample() -> Self {
        let mut states = [0; StreamState::ALL.len()];
        states[StreamState::Warning as usize] = 1;
        let mut reasons = [0; Reason::ALL.len()];
        reasons[Reason::LowBitrate as usize] = 1;
        let service = ServiceStreams {
            name: "live/srt".to_owned(),
            vip: "203.0.113.10:9000".to_owned(),
            states,
            reasons,
        };
        Self {
            services: [(3, service)].into(),
            series: vec![Series::sample()],
            omitted: 0,
        }
    }
}

impl Collector for StreamsState {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Streams, by how they are: `active` is well, `warning` is over or under a threshold, `stalled` sends no data";
        let mut states = gauge(&mut encoder, "streams", help)?;
        for service in self.services.values() {
            for (state, streams) in StreamState::ALL.iter().zip(service.states) {
                let labels = [
                    ("service", service.name.as_str()),
                    ("vip", &service.vip),
                    ("state", state.as_str()),
                ];
                set(&mut states, &labels, streams.into())?;
            }
        }
        let help =
            "Streams of which this is so, whatever their state; one may have several reasons";
        let mut reasons = gauge(&mut encoder, "stream_reasons", help)?;
        for service in self.services.values() {
            for (reason, streams) in Reason::ALL.iter().zip(service.reasons) {
                let labels = [
                    ("service", service.name.as_str()),
                    ("vip", &service.vip),
                    ("reason", reason.as_str()),
                ];
                set(&mut reasons, &labels, streams.into())?;
            }
        }
        self.encode_series(&mut encoder)
    }
}

impl StreamsState {
    fn encode_series(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (total, (name, help)) in TOTALS.iter().enumerate() {
            let mut metric = counter(encoder, name, help)?;
            for series in &self.series {
                let value = series.totals.get(total).copied().unwrap_or_default();
                count(&mut metric, &series.labels(), value)?;
            }
        }
        let help = "Round trip of the stream between pod and encoder; absent: not measured";
        let mut rtt = gauge(encoder, "stream_rtt_seconds", help)?;
        for series in &self.series {
            if let Some(seconds) = series.rtt_seconds {
                set_f64(&mut rtt, &series.labels(), seconds)?;
            }
        }
        let help = "Free receive buffer of the stream's pod, as it told last";
        let mut buffer = gauge(encoder, "stream_receive_buffer_packets", help)?;
        for series in &self.series {
            set(&mut buffer, &series.labels(), series.receive_buffer.into())?;
        }
        let help = "How the stream is: 1 for its state";
        let mut states = gauge(encoder, "stream_state", help)?;
        for series in &self.series {
            let [service, stream, id] = series.labels();
            for state in StreamState::ALL {
                let labels = [service, stream, id, ("state", state.as_str())];
                set(&mut states, &labels, i64::from(series.state == state))?;
            }
        }
        let help = "Streams without series of their own, since others are less well or bigger (--stream-series)";
        let mut omitted = gauge(encoder, "stream_series_omitted", help)?;
        set(
            &mut omitted,
            &[],
            self.omitted.try_into().unwrap_or(i64::MAX),
        )
    }
}
