//! Writes Events. Slow or failing writes end here: what waits is bounded, and the rest is dropped and counted.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{sync::mpsc, time};
use tracing::{debug, warn};

use super::{MANAGER, conditions::Announcement, notices::Saying};
use crate::{
    cluster::{translate::ObjectName, watch::Backoff},
    metrics::ClusterMetrics,
};

/// An API server that hangs is not waited for longer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often an Event is tried that the API server could not take at the moment.
const TRIES: u32 = 4;
/// Between two writes.
const PACE: Duration = Duration::from_millis(50);
/// Required of every Event: what was done about it.
const ACTION: &str = "Steering";

/// An Event to be written.
#[derive(Debug)]
pub(super) enum Post {
    /// One for the cluster.
    Once(Announcement),
    /// One of this agent; repeats add to it.
    Repeatable(Saying, Box<ObjectReference>, Option<ObjectReference>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    /// Another agent was first.
    Known,
}

pub(super) async fn publish(
    client: Client,
    node: String,
    mut posts: mpsc::Receiver<Post>,
    metrics: ClusterMetrics,
) {
    let reporter = Reporter {
        controller: MANAGER.to_owned(),
        instance: Some(node.clone()),
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let mut backoff = Backoff::default();
    while let Some(post) = posts.recv().await {
        let mut tries = TRIES;
        let result = loop {
            tries -= 1;
            let attempt = write(&client, &recorder, &node, &post);
            let error = match time::timeout(TIMEOUT, attempt).await {
                Ok(Ok(Outcome::Created)) => break "created",
                Ok(Ok(Outcome::Known)) => break "known",
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            if tries == 0 || !error.as_ref().is_none_or(passes) {
                let error = error.map(|e| e.to_string());
                let error = error.as_deref().unwrap_or("no answer in time");
                warn!(error, ?post, "cannot write an Event");
                break "failed";
            }
            debug!(?error, "an Event is tried again");
            time::sleep(backoff.next(false)).await;
        };
        metrics.event(result);
        time::sleep(PACE).await;
    }
}

/// Whether an error may pass by itself.
fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    }
}

async fn write(
    client: &Client,
    recorder: &Recorder,
    node: &str,
    post: &Post,
) -> kube::Result<Outcome> {
    match post {
        Post::Once(announcement) => once(client, node, announcement).await,
        Post::Repeatable(saying, regarding, related) => {
            let event = Event {
                type_: saying.kind,
                reason: saying.reason.to_owned(),
                note: Some(saying.note.clone()),
                action: ACTION.to_owned(),
                secondary: related.clone(),
            };
            recorder.publish(&event, regarding).await?;
            Ok(Outcome::Created)
        }
    }
}

/// Creates the Event of this name, unless there is one.
async fn once(client: &Client, node: &str, said: &Announcement) -> kube::Result<Outcome> {
    let namespace = said.service.0.clone();
    let event = v1::Event {
        metadata: ObjectMeta {
            namespace: Some(namespace.clone()),
            name: Some(said.event_name()),
            ..Default::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        type_: Some(
            match said.kind {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            }
            .to_owned(),
        ),
        reason: Some(said.reason.to_owned()),
        note: Some(said.note.clone()),
        action: Some(ACTION.to_owned()),
        regarding: Some(reference("Service", &said.service, &said.uid)),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Default::default()
    };
    let events: Api<v1::Event> = Api::namespaced(client.clone(), &namespace);
    match events.create(&PostParams::default(), &event).await {
        Ok(_) => Ok(Outcome::Created),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Outcome::Known),
        Err(error) => Err(error),
    }
}

/// By UID: an object of the same name that comes later is another.
pub(super) fn reference(kind: &str, name: &ObjectName, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        namespace: Some(name.0.clone()),
        name: Some(name.1.clone()),
        uid: Some(uid.to_owned()),
        ..Default::default()
    }
}

/// UIDs of objects that are or lately were.
#[derive(Debug, Default)]
pub(super) struct Uids {
    known: BTreeMap<ObjectName, String>,
}

impl Uids {
    /// How many of the past are kept: sessions are cut because pods are gone.
    const KEPT: usize = 4096;

    pub(super) fn learn(&mut self, current: &BTreeMap<ObjectName, String>) {
        if self.known.len() > Self::KEPT.max(current.len()) {
            self.known.clear();
        }
        self.known.extend(
            current
                .iter()
                .map(|(name, uid)| (name.clone(), uid.clone())),
        );
    }

    /// Of `namespace/name`.
    pub(super) fn reference(&self, kind: &str, object: &str) -> Option<ObjectReference> {
        let (namespace, name) = object.split_once('/')?;
        let name = (namespace.to_owned(), name.to_owned());
        self.known.get(&name).map(|uid| reference(kind, &name, uid))
    }
}
