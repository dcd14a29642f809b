//! Which Services are ours, and who comes first where two want the same.

use k8s_openapi::{api::core::v1::Service, jiff::Timestamp};

use super::super::{LOAD_BALANCER_CLASS, STEER_LABEL};

/// Whether the Service asks to be steered: by label, or by class. One that is being deleted does so until it is gone,
/// as kube-proxy has it: its sessions live as long.
pub(in crate::cluster) fn is_claimed(service: &Service) -> bool {
    let labelled = service.metadata.labels.as_ref();
    labelled.is_some_and(|l| l.get(STEER_LABEL).is_some_and(|v| v == "true"))
        || is_of_our_class(service)
}

/// Whether the Service's addresses are ours to give, and its status ours to write.
pub(super) fn is_of_our_class(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.load_balancer_class.as_deref()) == Some(LOAD_BALANCER_CLASS)
}

/// Older is less. The same on every node.
pub(super) fn age(service: &Service) -> (bool, Option<Timestamp>, &str, &str) {
    let created = service.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let (namespace, name) = name(service);
    (created.is_none(), created, namespace, name)
}

/// Namespace and name.
pub(super) fn name(service: &Service) -> (&str, &str) {
    let metadata = &service.metadata;
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// An annotation that says something.
pub(super) fn annotation<'a>(service: &'a Service, key: &str) -> Option<&'a str> {
    let annotations = service.metadata.annotations.as_ref()?;
    let text = annotations.get(key)?.trim();
    (!text.is_empty()).then_some(text)
}
