//! Back to the cluster's people: Events on Services and Pods, the status of Services of our class and of StreamRoutes.
//!
//! * `conditions`, `notices`: what is to be said. Pure.
//! * `publish`: writes Events.
//! * `status`: writes the status of Services.
//! * `route_status`, `routes`: what the status of StreamRoutes should say, and who writes it.
//!
//! Nothing here is waited for: an API server that hangs costs Events, never a change of the maps.

mod conditions;
mod notices;
mod publish;
mod route_status;
mod routes;
mod status;
#[cfg(test)]
mod tests;

use std::{future, sync::Arc};

use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{self, Instant},
};

use self::{
    notices::{About, Notices, Saying},
    publish::{Post, Uids, publish},
    route_status::InForce,
};
use super::translate::Derived;
use crate::{metrics::ClusterMetrics, notice::Notice};

/// Who Events and status say they are from.
const MANAGER: &str = "ingest-agent";
/// How many Events may wait for the API server.
const WAITING: usize = 256;

/// Starts the tasks. What is put into the sender is told of.
pub(super) fn spawn(
    tasks: &mut JoinSet<()>,
    client: Client,
    node: &str,
    notices: mpsc::Receiver<Notice>,
    metrics: ClusterMetrics,
) -> watch::Sender<Arc<Derived>> {
    let (sender, derived) = watch::channel(Arc::default());
    let (posts, posted) = mpsc::channel(WAITING);
    let node = node.to_owned();
    tasks.spawn(publish(
        client.clone(),
        node.clone(),
        posted,
        metrics.clone(),
    ));
    tasks.spawn(status::keep(
        client.clone(),
        node.clone(),
        derived.clone(),
        metrics.clone(),
    ));
    let (force, in_force) = watch::channel(Arc::default());
    tasks.spawn(routes::keep(
        client,
        node.clone(),
        derived.clone(),
        in_force,
        metrics.clone(),
    ));
    tasks.spawn(listen(node, derived, notices, posts, force, metrics));
    sender
}

/// Makes Events of all that happens, and never waits for one to be written.
async fn listen(
    node: String,
    mut derived: watch::Receiver<Arc<Derived>>,
    mut noticed: mpsc::Receiver<Notice>,
    posts: mpsc::Sender<Post>,
    in_force: watch::Sender<Arc<InForce>>,
    metrics: ClusterMetrics,
) {
    let mut last = Arc::<Derived>::default();
    let (mut services, mut pods) = (Uids::default(), Uids::default());
    let mut notices = Notices::new(Instant::now());
    let post = |post| {
        if posts.try_send(post).is_err() {
            metrics.event("dropped");
        }
    };
    loop {
        let due = notices.due();
        let mut sayings = Vec::new();
        tokio::select! {
            changed = derived.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = derived.borrow_and_update().clone();
                services.learn(&now.service_uids);
                pods.learn(&now.pod_uids);
                for (reason, count) in conditions::count(&now) {
                    metrics.conditions(reason, count);
                }
                for announcement in conditions::announcements(&last, &now, &node) {
                    post(Post::Once(announcement));
                }
                last = now;
            }
            Some(notice) = noticed.recv() => {
                learn(&notice, &in_force);
                sayings.extend(notices.take(notice, Instant::now()));
            }
            () = until(due) => sayings = notices.collect(Instant::now()),
        }
        for _ in 0..notices.take_dropped() {
            metrics.event("dropped");
        }
        for saying in sayings {
            // What has no UID is no object, but an address that someone wrote into a slice.
            if let Some(ready) = addressed(saying, &services, &pods) {
                post(ready);
            }
        }
    }
}

/// Takes note of what the maps hold.
fn learn(notice: &Notice, in_force: &watch::Sender<Arc<InForce>>) {
    match notice {
        Notice::RoutesInForce { routes } => {
            let routes = routes
                .iter()
                .map(|route| (route.name.clone(), route.clone()));
            in_force.send_replace(Arc::new(InForce {
                routes: routes.collect(),
                refused: None,
            }));
        }
        Notice::PlanRefused { why } => in_force.send_modify(|in_force| {
            Arc::make_mut(in_force).refused = Some(why.clone());
        }),
        _ => {}
    }
}

fn addressed(saying: Saying, services: &Uids, pods: &Uids) -> Option<Post> {
    let (regarding, related) = match &saying.about {
        About::Pod(pod) => (pods.reference("Pod", pod)?, None),
        About::Service { service, pod } => (
            services.reference("Service", service)?,
            pod.as_deref().and_then(|pod| pods.reference("Pod", pod)),
        ),
    };
    Some(Post::Repeatable(saying, Box::new(regarding), related))
}

async fn until(due: Option<Instant>) {
    match due {
        Some(at) => time::sleep_until(at).await,
        None => future::pending().await,
    }
}
