//! What this node's Pods say of themselves, ahead of their EndpointSlices: an accelerator that only takes backends down.

use std::{sync::Arc, time::Instant};

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};

/// What is known of pods of this node, by UID.
#[derive(Clone, Debug, Default)]
pub(in crate::cluster) struct LocalPods {}

impl LocalPods {
    /// A pod is new or changed.
    pub(in crate::cluster) fn applied(&mut self, pod: &Pod, now: Instant) {
        let (_, _, _) = (self, pod, now);
    }

    /// A pod object is gone.
    pub(in crate::cluster) fn deleted(&mut self, pod: &Pod) {
        let (_, _) = (self, pod);
    }

    /// The whole set: known UIDs that are absent are gone.
    pub(in crate::cluster) fn relisted(&mut self, pods: &[Arc<Pod>], now: Instant) {
        let (_, _, _) = (self, pods, now);
    }

    /// When [`Self::expire`] would change something.
    pub(in crate::cluster) fn next_expiry(&self) -> Option<Instant> {
        None
    }

    /// Drops signals that no slice has confirmed in time.
    pub(in crate::cluster) fn expire(&mut self, now: Instant) {
        let (_, _) = (self, now);
    }

    /// Forgets the gone pods that no slice refers to.
    pub(in crate::cluster) fn forget_unreferenced(&mut self, slices: &[Arc<EndpointSlice>]) {
        let (_, _) = (self, slices);
    }
}
