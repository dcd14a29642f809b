//! Keeps copies of the objects.

use std::sync::Arc;

use kube::Client;
use tokio::sync::{mpsc, watch};

use super::{Options, translate::Derived};
use crate::{metrics::ClusterMetrics, source::Change};

pub(super) async fn follow(
    client: Client,
    options: Options,
    changes: mpsc::Sender<Change>,
    derived: watch::Sender<Arc<Derived>>,
    metrics: ClusterMetrics,
) {
    let (_, _, _, _, _) = (client, options, changes, derived, metrics);
}
