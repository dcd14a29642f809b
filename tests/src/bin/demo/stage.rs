//! Who is on stage: namespaces, the agent, listeners and encoders; and where each stream is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ingest_tests::agent::Agent;
use ingest_tests::config::{Backend, Config, Service};
use ingest_tests::monotonic_ns;
use ingest_tests::netns::{Family, Layout, NFT_VIP_V4, Topology, VIP_V4};
use ingest_tests::peers::{
    Accepted, Ffmpeg, Listener, ListenerOptions, LiveTransmit, PORT, Session, Target,
};
use nix::sys::signal::Signal;

/// The encoder that reconnects by itself.
pub(crate) const LIVE_TRANSMIT: &str = "srt-live-transmit";
/// Streams through our VIP, by Stream ID, and who sends them.
pub(crate) const STREAMS: [(&str, &str); 4] = [
    ("#!::r=acme/cam1,m=publish", LIVE_TRANSMIT),
    ("#!::r=acme/cam2,m=publish", "ffmpeg"),
    ("#!::r=globex/cam1,m=publish", LIVE_TRANSMIT),
    ("#!::r=globex/cam2,m=publish", "ffmpeg"),
];
/// The customer with pods of its own.
pub(crate) const CUSTOMER: &str = "acme";
/// How many pods every customer may use that has none of its own: the first ones. The others are the customer's.
const SHARED: usize = 2;
const PODS: usize = 4;
/// The stream of the nftables comparison.
pub(crate) const COMPARISON: &str = "compare/cam1";
/// The comparison's listeners, beside ours in the same pods.
const COMPARISON_PORT: u16 = 9100;
/// What srt-live-transmit sends, bits per second.
const RATE: f64 = 4e6;

/// A listener that was on stage at some time.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Index of its pod.
    pub(crate) pod: usize,
    /// The listener; what it said stays readable when it is dead.
    pub(crate) listener: Listener,
    /// Whether it is the pod's present one.
    pub(crate) present: bool,
}

/// Everything that runs. Fields are dropped in order: encoders first, the namespaces last.
#[derive(Debug)]
pub(crate) struct Stage {
    encoders: Vec<(&'static str, LiveTransmit)>,
    cameras: Vec<Ffmpeg>,
    /// Our listeners, past ones included.
    pub(crate) seats: Vec<Seat>,
    /// The comparison's listeners, by pod.
    pub(crate) comparison: Vec<Listener>,
    /// The agent on the node.
    pub(crate) agent: Agent,
    /// What its file says now.
    pub(crate) config: Config,
    /// The namespaces.
    pub(crate) topology: Topology,
}

impl Stage {
    /// Everything but the encoders.
    pub(crate) fn set(delivery: &str) -> Result<Self> {
        let topology = Topology::with(Layout {
            pods: PODS,
            ..Layout::default()
        })?;
        let (shared, own) = topology.pods.split_at(SHARED);
        let mut config = Config::of_family(shared, Family::V4).stream();
        let backends = own.iter().map(|pod| Backend::of(pod, Family::V4));
        let pool = format!("live/{CUSTOMER}");
        config
            .services
            .push(Service::pool(&pool, backends.collect()));
        let matched = format!("resource: {{ prefix: {CUSTOMER}/ }}");
        let config = config.with_route(&format!("{pool}-streams"), &[&matched], Some(&pool), "");
        let mut seats = Vec::new();
        let mut comparison = Vec::new();
        for (pod, place) in topology.pods.iter().enumerate() {
            let listener = Listener::start(&place.netns, &place.name, &ListenerOptions::default())?;
            seats.push(Seat {
                pod,
                listener,
                present: true,
            });
            let options = ListenerOptions {
                port: COMPARISON_PORT,
                ..ListenerOptions::default()
            };
            comparison.push(Listener::start(&place.netns, &place.name, &options)?);
        }
        let agent = Agent::start(&topology.node, &config, delivery)?;
        Ok(Self {
            encoders: Vec::new(),
            cameras: Vec::new(),
            seats,
            comparison,
            agent,
            config,
            topology,
        })
    }

    /// Where the comparison's DNAT may send to.
    pub(crate) fn comparison_endpoints(&self) -> Vec<SocketAddr> {
        self.topology
            .pods
            .iter()
            .map(|pod| (pod.v4, COMPARISON_PORT).into())
            .collect()
    }

    /// Starts all encoders and waits until every stream is at some pod.
    pub(crate) fn start_encoders(&mut self) -> Result<()> {
        let client = &self.topology.client;
        for (number, (stream, sender)) in (1..).zip(STREAMS) {
            let target = Target::new(VIP_V4.into(), stream);
            if sender == "ffmpeg" {
                self.cameras.push(Ffmpeg::start(client, &target)?);
            } else {
                let encoder = LiveTransmit::start(client, &target, number, RATE)?;
                self.encoders.push((stream, encoder));
            }
        }
        let target = Target::new(NFT_VIP_V4.into(), COMPARISON);
        let encoder = LiveTransmit::start(client, &target, 9, RATE)?;
        self.encoders.push((COMPARISON, encoder));
        let deadline = Instant::now() + Duration::from_secs(15);
        for (stream, _) in STREAMS {
            while self.seat_of(stream).is_none() {
                anyhow::ensure!(
                    Instant::now() < deadline,
                    "{stream} reached no pod within 15 s; the agent said:\n{}",
                    self.agent.said()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Ends the encoder of `stream` and starts it anew: it calls from another port. Says when.
    pub(crate) fn restart_encoder(&mut self, stream: &'static str) -> Result<u64> {
        let at = self.encoders.iter().position(|(name, _)| *name == stream);
        let at = at.with_context(|| format!("no encoder of ours sends {stream}"))?;
        let (_, mut old) = self.encoders.swap_remove(at);
        old.process().signal(Signal::SIGTERM)?;
        old.process().wait(Duration::from_secs(5))?;
        drop(old);
        let now = monotonic_ns();
        let target = Target::new(VIP_V4.into(), stream);
        let encoder = LiveTransmit::start(&self.topology.client, &target, 8, RATE)?;
        self.encoders.push((stream, encoder));
        Ok(now)
    }

    /// Every session that began, in order: index of the seat, and what the listener said.
    pub(crate) fn accepted(&self) -> Vec<(usize, Accepted)> {
        let mut all: Vec<_> = self
            .seats
            .iter()
            .enumerate()
            .flat_map(|(seat, s)| s.listener.accepted().into_iter().map(move |a| (seat, a)))
            .collect();
        all.sort_by_key(|(_, accepted)| accepted.t);
        all
    }

    /// The seat where `stream` connected last.
    pub(crate) fn seat_of(&self, stream: &str) -> Option<usize> {
        self.accepted()
            .iter()
            .rev()
            .find(|(_, a)| a.streamid == stream)
            .map(|(seat, _)| *seat)
    }

    /// Name of the stream of a client's `address:port`.
    pub(crate) fn stream_of_client(&self, client: &str) -> Option<String> {
        self.accepted()
            .iter()
            .rev()
            .find(|(_, a)| a.peer == client)
            .map(|(_, a)| a.streamid.clone())
    }

    /// Streams whose seat is `seat`.
    pub(crate) fn streams_at(&self, seat: usize) -> Vec<&'static str> {
        STREAMS
            .into_iter()
            .map(|(stream, _)| stream)
            .filter(|stream| self.seat_of(stream) == Some(seat))
            .collect()
    }

    /// The present seat with the most streams of srt-live-transmit, which reconnects by itself, and then of others;
    /// those in `avoid` (pods) only where no other has any.
    pub(crate) fn busiest(&self, avoid: &[usize]) -> Result<usize> {
        let by_itself = |stream: &&str| sender_of(stream) == LIVE_TRANSMIT;
        (0..self.seats.len())
            .filter(|&seat| self.seats[seat].present)
            .map(|seat| (seat, self.streams_at(seat)))
            .filter(|(_, streams)| !streams.is_empty())
            .max_by_key(|(seat, streams)| {
                let welcome = !avoid.contains(&self.seats[*seat].pod);
                (
                    welcome,
                    streams.iter().filter(|s| by_itself(s)).count(),
                    streams.len(),
                )
            })
            .map(|(seat, _)| seat)
            .context("no listener has a stream")
    }

    /// A fresh listener in `pod`, as a restarted container; the old one is gone for good.
    pub(crate) fn refresh(&mut self, pod: usize) -> Result<()> {
        for seat in self
            .seats
            .iter_mut()
            .filter(|seat| seat.pod == pod && seat.present)
        {
            seat.present = false;
            if seat.listener.process().try_wait()?.is_none() {
                seat.listener.kill()?;
            }
        }
        let place = &self.topology.pods[pod];
        let listener = Listener::start(&place.netns, &place.name, &ListenerOptions::default())?;
        self.seats.push(Seat {
            pod,
            listener,
            present: true,
        });
        Ok(())
    }

    /// Gives the agent a new file.
    pub(crate) fn configure(&mut self, config: Config) -> Result<u64> {
        let now = monotonic_ns();
        self.agent.write(&config.to_string())?;
        self.config = config;
        Ok(now)
    }

    /// The pod's name.
    pub(crate) fn pod_name(&self, pod: usize) -> &str {
        &self.topology.pods[pod].name
    }

    /// All sessions of `stream`: seat and last word.
    pub(crate) fn sessions_of(&self, stream: &str) -> Vec<(usize, Session)> {
        let mut sessions: Vec<_> = self
            .seats
            .iter()
            .enumerate()
            .flat_map(|(seat, s)| s.listener.sessions().into_iter().map(move |x| (seat, x)))
            .filter(|(_, session)| session.streamid == stream)
            .collect();
        sessions.sort_by_key(|(_, session)| session.t);
        sessions
    }
}

/// The VIP and port that encoders dial, for messages.
pub(crate) fn vip() -> String {
    format!("{VIP_V4}:{PORT}")
}

/// The customer that `stream` belongs to: what its resource begins with.
pub(crate) fn customer_of(stream: &str) -> &str {
    let resource = stream.strip_prefix("#!::r=").unwrap_or(stream);
    resource.split('/').next().unwrap_or_default()
}

/// Whether a route takes `stream` to `pod`.
pub(crate) fn may_be_at(stream: &str, pod: usize) -> bool {
    (customer_of(stream) == CUSTOMER) == (pod >= SHARED)
}

/// Who sends `stream`.
pub(crate) fn sender_of(stream: &str) -> &'static str {
    STREAMS
        .iter()
        .find(|(name, _)| *name == stream)
        .map_or(LIVE_TRANSMIT, |(_, sender)| sender)
}
