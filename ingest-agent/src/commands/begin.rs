//! What `run` begins with: the source that its arguments name.

use std::path::PathBuf;

use tokio::{sync::mpsc, task::JoinSet};
use tracing::info;

use crate::{
    agent::tell_warnings,
    cli::{self, Run},
    cluster::{self, Cluster},
    error::Error,
    metrics::AgentMetrics,
    notice::Notice,
    ports,
    source::{self, Snapshot, file},
};

/// A source whose arguments were found to make sense.
pub(super) enum Begun {
    File {
        path: PathBuf,
        bytes: Vec<u8>,
        snapshot: Snapshot,
    },
    Kubernetes(cluster::Options),
}

/// A source that is followed.
pub(super) struct Followed {
    /// The first state, where it is known at once.
    pub(super) first: Option<Snapshot>,
    pub(super) changes: mpsc::Receiver<source::Change>,
    /// To the people of the cluster, where there is one.
    pub(super) notices: Option<mpsc::Sender<Notice>>,
    /// What follows it. Ends when dropped.
    pub(super) tasks: JoinSet<()>,
}

impl Begun {
    pub(super) async fn new(args: &Run) -> Result<Self, Error> {
        match (args.source, &args.config) {
            (cli::Source::File, Some(path)) => {
                let bytes = file::read(path)?;
                let snapshot = file::parse(path, &bytes)?;
                tell_warnings(&snapshot);
                Ok(Self::File {
                    path: path.clone(),
                    bytes,
                    snapshot,
                })
            }
            (cli::Source::File, None) => Err(Error::NoConfig),
            (cli::Source::Kubernetes, _) => Ok(Self::Kubernetes(options(&args.cluster).await?)),
        }
    }

    pub(super) fn uplinks(&self) -> &[String] {
        match self {
            Self::File { snapshot, .. } => &snapshot.uplinks,
            Self::Kubernetes(options) => &options.uplinks,
        }
    }

    /// Begins to follow it. `held`: an earlier agent left services in the maps.
    pub(super) async fn follow(
        self,
        metrics: &AgentMetrics,
        held: bool,
    ) -> Result<Followed, Error> {
        match self {
            Self::File {
                path,
                bytes,
                snapshot,
            } => {
                // This task ends with the receiver.
                let (changes, _) = file::watch(&path, bytes, snapshot.uplinks.clone());
                Ok(Followed {
                    first: Some(snapshot),
                    changes,
                    notices: None,
                    tasks: JoinSet::new(),
                })
            }
            Self::Kubernetes(options) => {
                let options = cluster::Options { held, ..options };
                let Cluster {
                    changes,
                    notices,
                    tasks,
                } = Cluster::start(options, metrics.cluster()).await?;
                Ok(Followed {
                    first: None,
                    changes,
                    notices: Some(notices),
                    tasks,
                })
            }
        }
    }
}

/// What the command line says of the cluster, with the uplinks found where it does not name them.
pub(super) async fn options(args: &cli::Cluster) -> Result<cluster::Options, Error> {
    let uplinks = if args.uplink.is_empty() {
        let found = ports::default_interfaces().await?;
        if found.is_empty() {
            return Err(Error::NoUplink);
        }
        info!(uplinks = found.join(", "), "the default routes' interfaces");
        found
    } else {
        args.uplink.clone()
    };
    Ok(cluster::Options {
        kubeconfig: args.kubeconfig.clone(),
        node: args.node_name.clone().unwrap_or_default(),
        node_addresses: args.node_ip.clone(),
        node_ports: args.node_ports,
        external_ips: args.allow_external_ips,
        vip_ranges: args.vip_range.clone(),
        uplinks,
        held: false,
    })
}
