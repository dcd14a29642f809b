//! How every stream is: rates, losses and states, from what the maps say once a second.
//!
//! Pure: it is given [`Reading`]s and keeps what it needs of the ones before. It knows no maps, no clock and no I/O, and
//! shows nothing to people: the rows do. The agent has one [`View`] and shares it ([`Shared`]) with the metrics and the
//! page; `streams` and `top` have their own, from the pins.

mod entry;
mod identity;
mod judge;
mod observe;
mod rates;
mod row;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use ingest_common::abi::{
    CutReason, Flow, FlowKey, Reason, StreamHealth, StreamId, StreamState, Thresholds,
};

pub(crate) use self::row::threshold_bitrate;
pub use self::{
    observe::View,
    row::{Detail, FailoverRow, History, Shown, StreamRow, ThresholdsRow},
};

/// What the maps said at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// When, `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// Every flow, whatever its state. One may be there twice.
    pub flows: Vec<(FlowKey, Flow)>,
    /// Who is who.
    pub names: Names,
    /// By index, as in `THRESHOLDS`; what is all zeros is left out.
    pub thresholds: HashMap<u32, Thresholds>,
}

/// Names behind ids.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By service id.
    pub services: HashMap<u16, ServiceName>,
    /// By slot.
    pub backends: HashMap<u16, BackendName>,
    /// Of routes, by index.
    pub routes: HashMap<u16, String>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// `namespace/name[:port]`
    pub name: String,
    /// What callers dial.
    pub vip: SocketAddr,
    /// It carries SRT.
    pub is_srt: bool,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendName {
    /// `namespace/name` of the pod.
    pub name: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// [`ingest_common::abi::Backend::incarnation`]
    pub incarnation: u32,
    /// By the source or by an operator.
    pub draining: bool,
}

/// Who a stream is, over sessions: the same Stream ID on the same service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// [`ingest_common::abi::Service::id`]
    pub service: u16,
    /// A hash of the whole Stream ID; where there is none, of the session.
    pub hash: u64,
}

impl Identity {
    /// As it stands in paths of the API and in metrics: 16 hexadecimal digits.
    pub fn id(&self) -> String {
        let Self { service, hash } = self;
        format!("{:016x}", hash ^ u64::from(*service).rotate_left(48))
    }
}

/// What is known of one stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The client on the service.
    pub key: FlowKey,
    /// The flow, as it was read last.
    pub flow: Flow,
    /// Who it is.
    pub identity: Identity,
    /// What its caller asked for.
    pub asked: Option<Box<StreamId>>,
    /// How it is.
    pub state: StreamState,
    /// What is not well: bits of [`Reason`].
    pub reasons: u16,
    /// Since when it is in this state.
    pub since_ns: u64,
    /// What was measured.
    pub rates: Rates,
    /// How often its caller has come back, for whatever reason.
    pub reconnects: u32,
    /// How often of these because its pod could not go on.
    pub failovers: u32,
    /// The last minute, a value a second; the newest last.
    pub history: VecDeque<Moment>,
}

impl Stream {
    /// Whether `reason` holds.
    pub fn has(&self, reason: Reason) -> bool {
        self.reasons & reason.bit() != 0
    }

    /// Bytes of SRT payload from the client so far; of a reader, to it; of a `udp` service, all UDP payload.
    pub fn payload_bytes(&self) -> u64 {
        rates::payload_bytes(&self.flow)
    }

    /// Its form in `STREAM_HEALTH`.
    pub fn health(&self) -> StreamHealth {
        StreamHealth {
            since_ns: self.since_ns,
            caller_id: self.flow.caller_id,
            reconnects: self.reconnects,
            failovers: self.failovers,
            state: self.state as u8,
            reasons: self.reasons,
            ..StreamHealth::default()
        }
    }
}

/// One second of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Bits a second of payload.
    pub bitrate: f32,
    /// Share of first transmissions lost before the node, 0 to 1.
    pub loss: f32,
    /// Milliseconds; 0: not known.
    pub rtt_ms: f32,
}

/// Rates of a stream. Shares are 0 to 1, over about ten seconds, the newest counting most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Bits a second of payload of SRT data (of a `udp` service, of UDP), over the last second.
    pub bitrate: f64,
    /// Packets a second from the client, all kinds, over the last second.
    pub packets: f64,
    /// Share of first transmissions that did not arrive at the node.
    pub loss: f64,
    /// Sequence numbers that the pod reported lost, against data packets; repeats count again.
    pub reported_loss: f64,
    /// Share of data packets that are retransmissions.
    pub retransmitted: f64,
    /// Round trip pod–encoder, ms; `None` before it was measured.
    pub rtt_ms: Option<f64>,
    /// Its variance, ms.
    pub rtt_variance_ms: Option<f64>,
}

/// Something that has changed. Told once.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A stream is in another state, or has other reasons for it.
    State {
        /// Which stream.
        key: FlowKey,
        /// What it was.
        before: StreamState,
        /// What it is.
        now: StreamState,
        /// Why: bits of [`Reason`].
        reasons: u16,
        /// What they were.
        reasons_before: u16,
    },
    /// A caller came back after its session had been cut.
    Failover(Failover),
    /// A caller came back, of itself.
    Reconnected {
        /// Which stream.
        key: FlowKey,
    },
    /// A stream is forgotten. Where a caller has come back on the same port, its stream is not.
    Gone {
        /// Which stream.
        key: FlowKey,
    },
}

/// A stream that was cut at one backend and accepted by another, or by the same again.
#[derive(Clone, Debug, PartialEq)]
pub struct Failover {
    /// Who.
    pub identity: Identity,
    /// What its caller asked for.
    pub asked: Option<Box<StreamId>>,
    /// When the new pod accepted, `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// From the cut to the acceptance.
    pub took_ns: u64,
    /// Why it was cut.
    pub reason: Option<CutReason>,
    /// Name of the service.
    pub service: String,
    /// Name of the pod that it was at.
    pub from: Option<String>,
    /// Name of the pod that it is at.
    pub to: Option<String>,
}

/// The agent's view, for its server: locked for as long as rows are made of it.
pub type Shared = Arc<Mutex<View>>;

#[cfg(test)]
mod tests;
