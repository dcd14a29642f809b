//! What this node's Pods say of themselves, ahead of their EndpointSlices: an accelerator that only takes backends down.

/// What is known of pods of this node, by UID.
#[derive(Clone, Debug, Default)]
pub(in crate::cluster) struct LocalPods {}
