//! The administrator's hands: writes objects and reads them, as kubectl and the controllers do.
//!
//! The server is on the node's loopback, so a thread of the client's own has entered the node's namespace.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::netns::Namespace;

/// No call takes longer: a test is never hung by the server it hangs.
const LIMIT: Duration = Duration::from_secs(10);
/// Owns what tests apply.
const MANAGER: &str = "ingest-tests";

type Work = Box<dyn FnOnce(&tokio::runtime::Runtime, kube::Client) + Send>;

/// A client of the API server.
#[derive(Debug)]
pub struct Client {
    work: UnboundedSender<Work>,
}

impl Client {
    /// One that speaks from `node` as `kubeconfig` says.
    pub fn new(node: &Namespace, kubeconfig: &Path) -> Result<Self> {
        let (sender, mut receiver) = unbounded_channel::<Work>();
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        // Ends with its sender.
        node.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let client = runtime.block_on(async {
                let options = KubeConfigOptions::default();
                let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
                anyhow::Ok(kube::Client::try_from(config)?)
            })?;
            while let Some(work) = receiver.blocking_recv() {
                work(&runtime, client.clone());
            }
            Ok(())
        })?;
        Ok(Self { work: sender })
    }

    fn call<T, F>(
        &self,
        what: String,
        run: impl FnOnce(kube::Client) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = kube::Result<T>>,
    {
        let (answer, answered) = channel();
        let work: Work = Box::new(move |runtime, client| {
            let result = runtime.block_on(async { tokio::time::timeout(LIMIT, run(client)).await });
            drop(answer.send(result));
        });
        self.work
            .send(work)
            .map_err(|_| anyhow!("the API client's thread has ended"))?;
        answered
            .recv()
            .context("the API client's thread has ended")?
            .with_context(|| format!("{what}: no answer within {LIMIT:?}"))?
            .context(what)
    }

    /// Makes `object` so, by server-side apply: status too, where it has one. Returns what the server made of it.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        let mut whole = object.clone();
        let status = whole.as_object_mut().and_then(|o| o.remove("status"));
        let (name, api) = addressed(object)?;
        let made = self.call(format!("applying {name}"), {
            let (name, api) = (name.clone(), api.clone());
            async move |client| {
                let patch = PatchParams::apply(MANAGER).force();
                api.of(client)
                    .patch(&name, &patch, &Patch::Apply(&whole))
                    .await
            }
        })?;
        let Some(status) = status else {
            return Ok(serde_json::to_value(made)?);
        };
        let status = json!({
            "apiVersion": object["apiVersion"],
            "kind": object["kind"],
            "status": status,
        });
        let made = self.call(
            format!("applying the status of {name}"),
            async move |client| {
                let patch = PatchParams::apply(MANAGER).force();
                let status = Patch::Apply(&status);
                api.of(client).patch_status(&name, &patch, &status).await
            },
        )?;
        Ok(serde_json::to_value(made)?)
    }

    /// Deletes `object`, which is named by its kind, namespace and name. At once: grace is the kubelet's matter.
    pub fn delete(&self, object: &Value) -> Result<()> {
        let (name, api) = addressed(object)?;
        self.call(format!("deleting {name}"), async move |client| {
            let now = DeleteParams::default().grace_period(0);
            api.of(client).delete(&name, &now).await.map(drop)
        })
    }

    /// As it is now.
    pub fn get(&self, object: &Value) -> Result<Value> {
        let (name, api) = addressed(object)?;
        let found = self.call(format!("getting {name}"), async move |client| {
            api.of(client).get(&name).await
        })?;
        Ok(serde_json::to_value(found)?)
    }

    /// All Events, whole.
    pub fn all_events(&self) -> Result<Vec<DynamicObject>> {
        let events = Kind::new("events.k8s.io/v1", "Event", None);
        let listed = self.call("listing events".to_owned(), async move |client| {
            events.of(client).list(&ListParams::default()).await
        })?;
        Ok(listed.items)
    }

    /// `reason: note` of all Events about `kind` `name`.
    pub fn events(&self, kind: &str, name: &str) -> Result<Vec<String>> {
        let listed = self.all_events()?;
        let about = |event: &&DynamicObject| {
            event.data["regarding"]["kind"] == kind && event.data["regarding"]["name"] == name
        };
        let told = |event: &DynamicObject| {
            let text = |field: &str| event.data[field].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", text("reason"), text("note"))
        };
        Ok(listed.iter().filter(about).map(told).collect())
    }

    /// Waits for an Event of `reason` about `kind` `name`. Returns what it says.
    pub fn wait_event(
        &self,
        kind: &str,
        name: &str,
        reason: &str,
        limit: Duration,
    ) -> Result<String> {
        let deadline = std::time::Instant::now() + limit;
        loop {
            let events = self.events(kind, name)?;
            let start = format!("{reason}: ");
            if let Some(event) = events.iter().find(|event| event.starts_with(&start)) {
                return Ok(event.clone());
            }
            anyhow::ensure!(
                std::time::Instant::now() < deadline,
                "no Event {reason} about {kind} {name} within {limit:?}: {events:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Where objects of a kind are.
#[derive(Clone)]
struct Kind {
    resource: ApiResource,
    namespace: Option<String>,
}

impl Kind {
    fn new(api_version: &str, kind: &str, namespace: Option<&str>) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = GroupVersionKind::gvk(group, version, kind);
        Self {
            resource: ApiResource::from_gvk(&kind),
            namespace: namespace.map(str::to_owned),
        }
    }

    fn of(&self, client: kube::Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &self.resource),
            None => Api::all_with(client, &self.resource),
        }
    }
}

/// The name of `object`, and where it is.
fn addressed(object: &Value) -> Result<(String, Kind)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let field = |name: &str| text(&object[name]).with_context(|| format!("no {name}: {object}"));
    let name = text(&object["metadata"]["name"]).with_context(|| format!("no name: {object}"))?;
    let namespace = text(&object["metadata"]["namespace"]);
    let kind = Kind::new(&field("apiVersion")?, &field("kind")?, namespace.as_deref());
    Ok((name, kind))
}
