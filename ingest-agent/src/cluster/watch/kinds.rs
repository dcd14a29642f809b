//! The kinds of objects that are followed from the beginning, and what of them is kept.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service, ServiceSpec};
use kube::{Api, Client};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    resource::{Followed, Learned},
    slices::WAITING,
};
use crate::{
    cluster::{
        stream_route::{GROUP, StreamRoute},
        translate::is_claimed,
    },
    metrics::ClusterMetrics,
};

/// All Services: a route may lead to any. `held`: an earlier agent left some that are claimed.
pub(super) fn services(
    client: &Client,
    held: bool,
    tasks: &mut JoinSet<()>,
    metrics: &ClusterMetrics,
) -> mpsc::Receiver<Learned<Service>> {
    let (sender, learned) = mpsc::channel(WAITING);
    let followed = Followed {
        name: "services",
        api: Api::<Service>::all(client.clone()),
        labels: None,
        fields: None,
        keep: |service| {
            service.metadata.managed_fields = None;
            if !is_claimed(service) {
                shorten(service);
            }
            true
        },
        counts: is_claimed,
        known: BTreeMap::new(),
        expected: held,
        optional: false,
    };
    tasks.spawn(followed.run(sender, metrics.clone()));
    learned
}

/// Leaves of a Service what a pool needs: there are many, and few are pools.
fn shorten(service: &mut Service) {
    service.metadata.labels = None;
    if let Some(annotations) = &mut service.metadata.annotations {
        annotations.retain(|key, _| key.starts_with(GROUP));
    }
    service.status = None;
    if let Some(spec) = service.spec.take() {
        service.spec = Some(ServiceSpec {
            type_: spec.type_,
            ports: spec.ports,
            external_traffic_policy: spec.external_traffic_policy,
            publish_not_ready_addresses: spec.publish_not_ready_addresses,
            ..ServiceSpec::default()
        });
    }
}

pub(super) fn routes(
    client: &Client,
    tasks: &mut JoinSet<()>,
    metrics: &ClusterMetrics,
) -> mpsc::Receiver<Learned<StreamRoute>> {
    let (sender, learned) = mpsc::channel(WAITING);
    let followed = Followed {
        name: "streamroutes",
        api: Api::<StreamRoute>::all(client.clone()),
        labels: None,
        fields: None,
        keep: |route| {
            route.metadata.managed_fields = None;
            true
        },
        counts: |_| true,
        known: BTreeMap::new(),
        expected: false,
        optional: true,
    };
    tasks.spawn(followed.run(sender, metrics.clone()));
    learned
}

/// Those of this node.
pub(super) fn pods(
    client: &Client,
    node: &str,
    tasks: &mut JoinSet<()>,
    metrics: &ClusterMetrics,
) -> mpsc::Receiver<Learned<Pod>> {
    let (sender, learned) = mpsc::channel(WAITING);
    let followed = Followed {
        name: "pods",
        api: Api::<Pod>::all(client.clone()),
        labels: None,
        fields: Some(format!("spec.nodeName={node}")),
        keep: |_| true,
        counts: |_| true,
        known: BTreeMap::new(),
        expected: false,
        optional: false,
    };
    tasks.spawn(followed.run(sender, metrics.clone()));
    learned
}
