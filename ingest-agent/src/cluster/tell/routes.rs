//! Writes the status of StreamRoutes.
//!
//! Every node's agent would write much the same. Each waits a different moment, looks whether it is still to be done, and
//! names the version that it has seen: of two that write at once, the second is refused and looks again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{
    Api, Client, Resource as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tracing::{debug, warn};

use super::{
    MANAGER,
    route_status::{self, InForce},
    status::jitter,
};
use crate::{
    cluster::{
        stream_route::StreamRoute,
        translate::{Derived, ObjectName},
    },
    metrics::ClusterMetrics,
};

/// What is known of a change after this long is told at once, not one after the other.
const SETTLING: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The status of a route is not written more often.
const PAUSE: Duration = Duration::from_secs(3);
/// Between two writes.
const PACE: Duration = Duration::from_millis(50);

/// Writes until `derived` ends.
pub(super) async fn keep(
    client: Client,
    node: String,
    mut derived: watch::Receiver<Arc<Derived>>,
    mut in_force: watch::Receiver<Arc<InForce>>,
    metrics: ClusterMetrics,
) {
    let wait = SETTLING + jitter(&node);
    let mut tried: HashMap<ObjectName, Instant> = HashMap::new();
    loop {
        let due = all(&derived.borrow_and_update(), &in_force.borrow_and_update());
        if due.is_empty() {
            tokio::select! {
                changed = derived.changed() => if changed.is_err() { return },
                changed = in_force.changed() => if changed.is_err() { return },
            }
            continue;
        }
        time::sleep(wait).await;
        let mut waits = false;
        for name in due.into_keys() {
            let now = Instant::now();
            tried.retain(|_, at| now.duration_since(*at) < PAUSE);
            if tried.contains_key(&name) {
                waits = true;
                continue;
            }
            let still = one(&derived.borrow(), &in_force.borrow(), &name);
            let Some((version, conditions)) = still else {
                continue;
            };
            tried.insert(name.clone(), now);
            write(&client, &name, &version, &conditions, &metrics).await;
            time::sleep(PACE).await;
        }
        // What was written comes back by the watch. What was not is tried again later.
        tokio::select! {
            changed = derived.changed(), if !waits => if changed.is_err() { return },
            changed = in_force.changed(), if !waits => if changed.is_err() { return },
            () = time::sleep(PAUSE) => {}
        }
    }
}

type Due = (String, Vec<Condition>);

/// What is to be written, by route, with the version that it is derived from.
fn all(derived: &Derived, in_force: &InForce) -> BTreeMap<ObjectName, Due> {
    let desired = desired(derived);
    let due = derived.routes.iter().filter_map(|(name, state)| {
        let conditions = route_status::conditions(state, &desired, in_force, Timestamp::now())?;
        Some((name.clone(), (state.version.clone(), conditions)))
    });
    due.collect()
}

fn one(derived: &Derived, in_force: &InForce, name: &ObjectName) -> Option<Due> {
    let state = derived.routes.get(name)?;
    let desired = desired(derived);
    let conditions = route_status::conditions(state, &desired, in_force, Timestamp::now())?;
    Some((state.version.clone(), conditions))
}

fn desired(derived: &Derived) -> BTreeMap<&str, &crate::reconcile::Route> {
    let routes = derived.desired.routes.iter();
    routes.map(|route| (route.name.as_str(), route)).collect()
}

async fn write(
    client: &Client,
    (namespace, name): &ObjectName,
    version: &str,
    conditions: &[Condition],
    metrics: &ClusterMetrics,
) {
    let routes: Api<StreamRoute> = Api::namespaced(client.clone(), namespace);
    let patch = json!({
        "apiVersion": StreamRoute::api_version(&()),
        "kind": StreamRoute::kind(&()),
        "metadata": { "name": name, "resourceVersion": version },
        "status": { "conditions": conditions },
    });
    let params = PatchParams::apply(MANAGER).force();
    let patch = Patch::Apply(patch);
    let attempt = routes.patch_status(name, &params, &patch);
    let (result, error) = match time::timeout(TIMEOUT, attempt).await {
        Ok(Ok(_)) => ("written", None),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => ("outrun", None),
        Ok(Err(error)) => ("failed", Some(error.to_string())),
        Err(_) => ("failed", Some("no answer in time".to_owned())),
    };
    match error {
        None => debug!(namespace, name, result, "status of a StreamRoute"),
        Some(error) => warn!(
            namespace,
            name, error, "cannot write the status of a StreamRoute; trying again"
        ),
    }
    metrics.route_status_write(result);
}

#[cfg(test)]
mod tests;
