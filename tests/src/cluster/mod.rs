//! A node of a Kubernetes cluster: a real API server, pods made by real CNI plugins, the agent with its own rights.
//!
//! * [`apiserver`]: etcd and kube-apiserver; [`client`]: what people and controllers write.
//! * [`objects`]: Services, slices and pods; [`cni`]: the pods' namespaces; [`load`]: many streams at once.
//!
//! There are no controllers: tests write what those would, when they like, and so also what those never should.
//! Nothing here is a stand-in: the agent talks HTTP with the server, with a token that its own ClusterRole binds.

pub mod apiserver;
pub mod client;
pub mod cni;
pub mod load;
pub mod objects;
pub mod rights;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::apiserver::ApiServer;
use self::client::Client;
use self::cni::{CniPod, Network, Plugin};
use self::objects::{Endpoint, NODE};
use crate::agent::Agent;
use crate::netns::{Family, Layout, Topology};
use crate::peers::{Accepted, Listener, ListenerOptions, PORT, Target};
use crate::scene::LIMIT;

/// The Service of [`Cluster::with_pods`].
pub const SERVICE: &str = "ingest";
/// The slice that [`Cluster::publish`] writes.
pub const SLICE: &str = "ingest-x7k2p";

/// Which Service the pods are behind.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its name.
    pub service: String,
    /// The name of its port.
    pub port_name: String,
    /// What callers dial. Pods listen on the same port.
    pub vip: SocketAddr,
}

impl Default for Served {
    fn default() -> Self {
        Self {
            service: SERVICE.to_owned(),
            port_name: "srt".to_owned(),
            vip: SocketAddr::new(Family::V4.vip(), PORT),
        }
    }
}

/// A pod that runs: its namespace, its listener, its object, and its endpoint.
#[derive(Debug)]
pub struct Member {
    /// `ingest-a`, …
    pub name: String,
    /// What listens in it.
    pub listener: Listener,
    /// Its object, as it was applied last.
    pub object: Value,
    /// Its UID.
    pub uid: String,
    /// As its slice has it; [`Cluster::publish`] writes it.
    pub endpoint: Option<Endpoint>,
    /// Its namespace and addresses.
    pub place: CniPod,
}

/// A node, its cluster, and its agent. Fields are dropped in order, the namespaces last.
#[derive(Debug)]
pub struct Cluster {
    /// The pods.
    pub pods: Vec<Member>,
    /// The agent.
    pub agent: Agent,
    /// The administrator's client.
    pub client: Client,
    /// The API server.
    pub server: ApiServer,
    /// Which Service the pods are behind.
    pub served: Served,
    /// Where pods are.
    pub network: Network,
    /// The namespaces.
    pub topology: Topology,
}

impl Cluster {
    /// An API server and an agent that does not run yet. No Services and no pods.
    pub fn new(plugin: Plugin) -> Result<Self> {
        let topology = Topology::with(Layout {
            pods: 0,
            ..Layout::default()
        })?;
        let server = ApiServer::start(&topology.node, &rights::user()?)?;
        let client = Client::new(&topology.node, &server.kubeconfig("admin"))?;
        for object in rights::objects()?.iter().chain(&objects::surroundings()) {
            client.apply(object)?;
        }
        server.install_routes()?;
        let network = Network::new(&topology.node, plugin)?;
        let kubeconfig = server.kubeconfig("agent");
        let agent = Agent::in_cluster(&topology.node, &kubeconfig, NODE, "auto")?;
        Ok(Self {
            pods: Vec::new(),
            agent,
            client,
            server,
            served: Served::default(),
            network,
            topology,
        })
    }

    /// A Service on the IPv4 VIP with `count` ready pods in one slice, and a running agent that has seen it all.
    pub fn with_pods(plugin: Plugin, count: usize) -> Result<Self> {
        let mut cluster = Self::new(plugin)?;
        let service = objects::service(SERVICE, &[Family::V4.vip()]);
        cluster.client.apply(&service)?;
        for _ in 0..count {
            cluster.add_pod()?;
        }
        cluster.publish()?;
        cluster.start_agent(&[])?;
        cluster.wait_backends(count)?;
        Ok(cluster)
    }

    /// Gives the node another agent, which delivers by `mode`.
    pub fn install_agent(&mut self, mode: &str) -> Result<()> {
        let kubeconfig = self.server.kubeconfig("agent");
        self.agent = Agent::in_cluster(&self.topology.node, &kubeconfig, NODE, mode)?;
        Ok(())
    }

    /// Runs the agent until it is ready.
    pub fn start_agent(&mut self, arguments: &[&str]) -> Result<()> {
        self.agent.run_with(arguments)?;
        self.agent.wait_ready()
    }

    /// One more pod with a listener, and its object. Its endpoint is in no slice until [`Cluster::publish`].
    pub fn add_pod(&mut self) -> Result<usize> {
        let letter = u8::try_from(self.pods.len())
            .ok()
            .and_then(|index| b'a'.checked_add(index))
            .context("at most 26 pods")?;
        let name = format!("{}-{}", self.served.service, char::from(letter));
        let place = self.network.add(&name)?;
        let options = ListenerOptions {
            port: self.served.vip.port(),
            ..ListenerOptions::default()
        };
        let listener = Listener::start(&place.pod.netns, &name, &options)?;
        let addresses = [place.pod.v4.into(), place.pod.v6.into()];
        let mut object = objects::pod(&name, &addresses, 0);
        object["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(options.port);
        let applied = self.client.apply(&object)?;
        let uid = applied["metadata"]["uid"].as_str().context("no UID")?;
        let mut endpoint = Endpoint::new(place.pod.v4.into());
        endpoint.pod = Some((name.clone(), uid.to_owned()));
        self.pods.push(Member {
            name,
            listener,
            object,
            uid: uid.to_owned(),
            endpoint: Some(endpoint),
            place,
        });
        Ok(self.pods.len() - 1)
    }

    /// Writes the slice as the endpoints are.
    pub fn publish(&self) -> Result<()> {
        let endpoints: Vec<_> = self.endpoints();
        let mut slice = objects::slice(&self.served.service, SLICE, &endpoints);
        slice["ports"][0]["name"] = json!(self.served.port_name);
        slice["ports"][0]["port"] = json!(self.served.vip.port());
        self.client.apply(&slice).map(drop)
    }

    /// The endpoints that pods have.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let endpoints = self.pods.iter().filter_map(|pod| pod.endpoint.clone());
        endpoints.collect()
    }

    /// Writes the object of `pod` as it is.
    pub fn apply_pod(&self, pod: usize) -> Result<()> {
        self.client.apply(&self.pods[pod].object).map(drop)
    }

    /// Waits until `count` backends get new sessions.
    pub fn wait_backends(&self, count: usize) -> Result<()> {
        self.agent.wait_json(&["backends"], LIMIT, |rows| {
            let up = rows.as_array()?.iter().filter(|row| row["up"] == true);
            (up.count() == count).then_some(())
        })
    }

    /// Waits until `field` of the backend of `pod` is `value`; null: until there is no such backend, or it is gone.
    pub fn wait_backend(&self, pod: usize, field: &str, value: &Value) -> Result<()> {
        let name = format!("{}/{}", objects::NAMESPACE, self.pods[pod].name);
        self.agent.wait_json(&["backends"], LIMIT, |rows| {
            let row = rows.as_array()?.iter().find(|row| row["name"] == *name);
            match row {
                None => value.is_null(),
                Some(row) if value.is_null() => row["state"] == "gone",
                Some(row) => row[field] == *value,
            }
            .then_some(())
        })
    }

    /// What a caller of `stream` dials.
    pub fn target(&self, stream: &str) -> Target {
        let mut target = Target::new(self.served.vip.ip(), stream);
        target.address.set_port(self.served.vip.port());
        target
    }

    /// Every session of `stream` after `after_ns`: the pod and what its listener said, in order.
    pub fn accepted(&self, stream: &str, after_ns: u64) -> Vec<(usize, Accepted)> {
        let pods = self.pods.iter().enumerate();
        let mut all: Vec<_> = pods
            .flat_map(|(pod, m)| m.listener.accepted().into_iter().map(move |a| (pod, a)))
            .filter(|(_, a)| a.streamid == stream && a.t > after_ns)
            .collect();
        all.sort_by_key(|(_, a)| a.t);
        all
    }

    /// Waits until `stream` is at a pod later than `after_ns`.
    pub fn wait_accepted(
        &self,
        stream: &str,
        after_ns: u64,
        limit: Duration,
    ) -> Result<(usize, Accepted)> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(first) = self.accepted(stream, after_ns).into_iter().next() {
                return Ok(first);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "{stream} reached no pod within {limit:?}; the agent said:\n{}",
                self.agent.said()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The pod where `stream` is now.
    pub fn seat(&self, stream: &str) -> Result<usize> {
        let accepted = self.accepted(stream, 0);
        accepted
            .last()
            .map(|(pod, _)| *pod)
            .with_context(|| format!("{stream} reached no pod"))
    }
}
