//! Kubernetes as a source: Services, EndpointSlices and this node's Pods in, whole [`Update`](crate::source::Update)s
//! out, and back to the cluster's people Events and the status of our own Services. The only place that knows `kube`.
//!
//! * `translate`: from objects to the desired state; pure, no I/O and no clock.
//! * [`stream_route`]: the resource that users write routes in.
//! * `watch`: keeps copies of the objects, whatever the API server does.
//! * `tell`: Events and status.
//!
//! Nothing here can stop a stream: a silent API server leaves the last state in force.

mod connect;
mod error;
#[cfg(test)]
mod mock;
pub mod stream_route;
mod tell;
mod translate;
mod watch;

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use tokio::{sync::mpsc, task::JoinSet};

pub use self::{
    connect::{Access, check},
    error::Error,
};
use crate::{metrics::ClusterMetrics, notice::Notice, source::Change};

/// The `loadBalancerClass` that is ours.
pub const LOAD_BALANCER_CLASS: &str = "ingest.steering.dev/xdp";
/// The label by which a Service of any class asks to be steered, with value `true`.
pub const STEER_LABEL: &str = "ingest.steering.dev/steer";
/// Annotation: `srt` or `udp` for all UDP ports of a Service, or `port=protocol,…` by port name or number.
pub const PROTOCOL_ANNOTATION: &str = "ingest.steering.dev/protocol";
/// Annotation of Services of our class: the addresses they want, separated by commas.
pub const VIPS_ANNOTATION: &str = "ingest.steering.dev/vips";

/// Annotation of Services: who answers callers' handshakes, `stream` (the kernel, by Stream ID) or `client` (the pods).
pub const HANDSHAKE_ANNOTATION: &str = "ingest.steering.dev/handshake";
/// Annotation of Services: what becomes of streams that no route matches, `default` (the Service's own pods) or `reject`.
pub const UNROUTED_ANNOTATION: &str = "ingest.steering.dev/unrouted";
/// Annotation of Services: `true` bounds each pod's sessions to a quarter above the mean.
pub const BALANCE_ANNOTATION: &str = "ingest.steering.dev/balance";
/// Annotation of Services: from when on a stream is not well, as `minBitrate=2000000,maxLoss=2%`.
pub const THRESHOLDS_ANNOTATION: &str = "ingest.steering.dev/thresholds";
/// Annotation of Pods: share of new sessions, 1 to 100.
pub const WEIGHT_ANNOTATION: &str = "ingest.steering.dev/weight";
/// Annotation of Pods: most sessions at once.
pub const SESSION_LIMIT_ANNOTATION: &str = "ingest.steering.dev/session-limit";

/// What the command line says of the source.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How to reach the API server; none: by the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// This node's name, as in `spec.nodeName`.
    pub node: String,
    /// This node's addresses: VIPs of node ports.
    pub node_addresses: Vec<IpAddr>,
    /// Whether node ports are steered.
    pub node_ports: bool,
    /// Whether `spec.externalIPs` are VIPs (CVE-2020-8554: whoever writes a Service can then claim any address).
    pub external_ips: bool,
    /// What Services of our class may ask for; empty: they get no address.
    pub vip_ranges: Vec<IpNet>,
    /// The interfaces that clients' packets come in by.
    pub uplinks: Vec<String>,
    /// An earlier agent left services in the maps: a first list without any is believed only the second time.
    pub held: bool,
}

/// How many notices may wait. More is not worth telling.
const NOTICES: usize = 1024;

/// The running source.
#[derive(Debug)]
pub struct Cluster {
    /// The desired state, whole at each change. The first comes once all is known, which may be never.
    pub changes: mpsc::Receiver<Change>,
    /// What the run loop has to tell. Use `try_send`: a full channel means that nobody listens.
    pub notices: mpsc::Sender<Notice>,
    /// What follows and tells. Ends when dropped.
    pub tasks: JoinSet<()>,
}

impl Cluster {
    /// Starts following. Fails only if there is no telling where the API server is: one that is away is waited for.
    pub async fn start(options: Options, metrics: ClusterMetrics) -> Result<Self, Error> {
        let client = connect::client(options.kubeconfig.as_deref(), &metrics).await?;
        Ok(Self::with_client(client, options, metrics))
    }

    fn with_client(client: kube::Client, options: Options, metrics: ClusterMetrics) -> Self {
        let (notices, noticed) = mpsc::channel(NOTICES);
        let mut tasks = JoinSet::new();
        let derived = tell::spawn(
            &mut tasks,
            client.clone(),
            &options.node,
            noticed,
            metrics.clone(),
        );
        let (sender, changes) = mpsc::channel(1);
        tasks.spawn(watch::follow(client, options, sender, derived, metrics));
        Self {
            changes,
            notices,
            tasks,
        }
    }
}
