//! Writes the addresses into the status of Services of our class, and of no others.
//!
//! Every node's agent would write the same. Each waits a different moment and looks whether it is still to be done.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tracing::{info, warn};

use super::MANAGER;
use crate::{
    cluster::translate::{Derived, ObjectName},
    metrics::ClusterMetrics,
};

/// The latest that an agent comes to a status.
const SPREAD: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// A status is not written more often, whoever else writes it.
const PAUSE: Duration = Duration::from_secs(10);

/// Writes what `derived` wants until it ends.
pub(super) async fn keep(
    client: Client,
    node: String,
    mut derived: watch::Receiver<Arc<Derived>>,
    metrics: ClusterMetrics,
) {
    let jitter = jitter(&node);
    let mut tried: HashMap<ObjectName, Instant> = HashMap::new();
    loop {
        let wanted = derived.borrow_and_update().statuses.clone();
        if wanted.is_empty() {
            if derived.changed().await.is_err() {
                return;
            }
            continue;
        }
        time::sleep(jitter).await;
        for (name, addresses) in &wanted {
            let now = Instant::now();
            tried.retain(|_, at| now.duration_since(*at) < PAUSE);
            let still = derived.borrow().clone();
            if still.statuses.get(name) != Some(addresses) || tried.contains_key(name) {
                continue;
            }
            tried.insert(name.clone(), now);
            let uid = still.service_uids.get(name).map(String::as_str);
            write(&client, name, uid, addresses, &metrics).await;
        }
        // What was written comes back by the watch. What was not is tried again later.
        tokio::select! {
            changed = derived.changed() => if changed.is_err() { return },
            () = time::sleep(PAUSE) => {}
        }
    }
}

async fn write(
    client: &Client,
    (namespace, name): &ObjectName,
    uid: Option<&str>,
    addresses: &[IpAddr],
    metrics: &ClusterMetrics,
) {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let ingress = addresses.iter().map(|ip| json!({ "ip": ip }));
    let patch = json!({
        // Refused if the Service is another by now.
        "metadata": { "uid": uid },
        "status": { "loadBalancer": { "ingress": ingress.collect::<Vec<_>>() } },
    });
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..Default::default()
    };
    let patch = Patch::Merge(patch);
    let attempt = services.patch_status(name, &params, &patch);
    let error = match time::timeout(TIMEOUT, attempt).await {
        Ok(Ok(_)) => {
            info!(namespace, name, ?addresses, "status written");
            metrics.status_write("written");
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    warn!(
        namespace,
        name, error, "cannot write the status; trying again"
    );
    metrics.status_write("failed");
}

/// Every node's own share of [`SPREAD`].
pub(super) fn jitter(node: &str) -> Duration {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    SPREAD * (hasher.finish() % 1000) as u32 / 1000
}
