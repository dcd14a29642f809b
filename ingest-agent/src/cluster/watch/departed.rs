//! Endpoints that left a slice a moment ago. The controller moves endpoints between slices by one write for each slice, so
//! one that is moved may be in none for a while: its sessions must not end for that.

use std::{collections::HashSet, sync::Arc, time::Duration};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use tokio::time::Instant;

use super::slices::SERVICE_NAME;

/// How long an endpoint that is in no slice any more keeps its sessions, but for what its Pod says. Two writes of one
/// controller are milliseconds apart; people see no difference in half a second.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// Each in a slice of its own, as one that keeps sessions and takes none.
#[derive(Debug, Default)]
pub(super) struct Departed(Vec<Ghost>);

#[derive(Debug)]
struct Ghost {
    slice: Arc<EndpointSlice>,
    until: Instant,
}

impl Departed {
    /// The slice `before` has become `now`, or is gone.
    pub(super) fn left(
        &mut self,
        before: &EndpointSlice,
        now: Option<&EndpointSlice>,
        at: Instant,
    ) {
        let stays: HashSet<&str> = now.into_iter().flat_map(addresses).collect();
        let endpoints = before.endpoints.iter();
        for endpoint in endpoints.filter(|e| address(e).is_some_and(|a| !stays.contains(a))) {
            let conditions = endpoint.conditions.as_ref();
            if conditions.is_some_and(|c| c.ready == Some(false) && c.serving == Some(false)) {
                continue;
            }
            let endpoint = Endpoint {
                conditions: Some(EndpointConditions {
                    ready: Some(false),
                    serving: Some(true),
                    terminating: Some(false),
                }),
                ..endpoint.clone()
            };
            self.0.push(Ghost {
                slice: Arc::new(EndpointSlice {
                    endpoints: vec![endpoint],
                    ..before.clone()
                }),
                until: at + GRACE,
            });
        }
    }

    /// Forgets those whose time is over, and those that are in one of `slices` again.
    pub(super) fn forget(&mut self, slices: &[Arc<EndpointSlice>], now: Instant) {
        self.0.retain(|ghost| ghost.until > now);
        if self.0.is_empty() {
            return;
        }
        let present: HashSet<_> = slices
            .iter()
            .flat_map(|slice| addresses(slice).map(|address| (service(slice), address)))
            .collect();
        self.0.retain(|ghost| {
            addresses(&ghost.slice)
                .all(|address| !present.contains(&(service(&ghost.slice), address)))
        });
    }

    pub(super) fn slices(&self) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.0.iter().map(|ghost| &ghost.slice)
    }

    /// When the next is over.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.0.iter().map(|ghost| ghost.until).min()
    }
}

fn address(endpoint: &Endpoint) -> Option<&str> {
    endpoint.addresses.first().map(String::as_str)
}

fn addresses(slice: &EndpointSlice) -> impl Iterator<Item = &str> {
    slice.endpoints.iter().filter_map(address)
}

/// Namespace and name of the Service.
fn service(slice: &EndpointSlice) -> (Option<&str>, Option<&str>) {
    let labels = slice.metadata.labels.as_ref();
    (
        slice.metadata.namespace.as_deref(),
        labels.and_then(|labels| labels.get(SERVICE_NAME).map(String::as_str)),
    )
}
