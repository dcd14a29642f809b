//! What most tests begin with: a topology, an agent on its node, a listener in every pod.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::agent::Agent;
use crate::config::Config;
use crate::netns::{Family, Layout, Pod, Topology};
use crate::peers::{Accepted, Listener, ListenerOptions, Target};

/// How long a test waits for what must come.
pub const LIMIT: Duration = Duration::from_secs(10);

/// A node that steers. Fields are dropped in order, the namespaces last.
#[derive(Debug)]
pub struct Scene {
    /// The present listener of each pod.
    pub listeners: Vec<Listener>,
    /// Listeners that were replaced; what they said stays readable.
    pub retired: Vec<(usize, Listener)>,
    /// The agent.
    pub agent: Agent,
    /// What its file said first.
    pub config: Config,
    /// How the listeners were started.
    pub options: ListenerOptions,
    /// The namespaces.
    pub topology: Topology,
}

impl Scene {
    /// `pods` routed pods with listeners on IPv4, steered by delivery mode `delivery`.
    pub fn new(pods: usize, delivery: &str) -> Result<Self> {
        let layout = Layout {
            pods,
            ..Layout::default()
        };
        Self::with(layout, delivery, &ListenerOptions::default())
    }

    /// As told.
    pub fn with(layout: Layout, delivery: &str, options: &ListenerOptions) -> Result<Self> {
        Self::changed(layout, delivery, options, &[], |config, _| config)
    }

    /// The same, but with what `change` makes of the agent's file, and with more `arguments` for the agent. The first
    /// pod's listener is `age` seconds old, the next one's twice as much, and so on.
    pub fn changed(
        layout: Layout,
        delivery: &str,
        options: &ListenerOptions,
        arguments: &[&str],
        change: impl FnOnce(Config, &[Pod]) -> Config,
    ) -> Result<Self> {
        let topology = Topology::with(layout)?;
        let config = change(
            Config::of_family(&topology.pods, options.family),
            &topology.pods,
        );
        let listeners = (1..)
            .zip(&topology.pods)
            .map(|(times, pod)| {
                let options = ListenerOptions {
                    age: options.age * times,
                    ..options.clone()
                };
                Listener::start(&pod.netns, &pod.name, &options)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut agent = Agent::install(&topology.node, &config, delivery)?;
        agent.run_with(arguments)?;
        agent.wait_ready()?;
        Ok(Self {
            listeners,
            retired: Vec::new(),
            agent,
            config,
            options: options.clone(),
            topology,
        })
    }

    /// What a caller of `stream_id` dials: the VIP, as the listeners want it.
    pub fn target(&self, stream_id: &str) -> Target {
        Target {
            passphrase: self.options.passphrase.clone(),
            latency_ms: self.options.latency_ms,
            ..Target::new(self.options.family.vip(), stream_id)
        }
    }

    /// Every session of `stream_id` after `after_ns`: the pod and what its listener said, in order.
    pub fn accepted(&self, stream_id: &str, after_ns: u64) -> Vec<(usize, Accepted)> {
        let present = self.listeners.iter().enumerate();
        let retired = self.retired.iter().map(|(pod, listener)| (*pod, listener));
        let mut all: Vec<_> = present
            .chain(retired)
            .flat_map(|(pod, l)| l.accepted().into_iter().map(move |a| (pod, a)))
            .filter(|(_, a)| a.streamid == stream_id && a.t > after_ns)
            .collect();
        all.sort_by_key(|(_, a)| a.t);
        all
    }

    /// Waits until `stream_id` is at a pod later than `after_ns`.
    pub fn wait_accepted(
        &self,
        stream_id: &str,
        after_ns: u64,
        limit: Duration,
    ) -> Result<(usize, Accepted)> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(first) = self.accepted(stream_id, after_ns).into_iter().next() {
                return Ok(first);
            }
            if Instant::now() >= deadline {
                return Err(anyhow::anyhow!(
                    "{stream_id} reached no pod within {limit:?}; the agent said:\n{}",
                    self.agent.said()
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until `stream_id` has received `messages` at `pod`.
    pub fn wait_messages(&self, pod: usize, stream_id: &str, messages: u64) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let received: u64 = self.listeners[pod]
                .sessions()
                .iter()
                .filter(|s| s.streamid == stream_id)
                .map(|s| s.messages)
                .sum();
            if received >= messages {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "{stream_id}: {received} of {messages}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The pod where `stream_id` is now.
    pub fn seat(&self, stream_id: &str) -> Result<usize> {
        self.accepted(stream_id, 0)
            .last()
            .map(|(pod, _)| *pod)
            .with_context(|| format!("{stream_id} reached no pod"))
    }

    /// A fresh listener in `pod`, as a restarted container.
    pub fn refresh(&mut self, pod: usize) -> Result<()> {
        let old = &mut self.listeners[pod];
        if old.process().try_wait()?.is_none() {
            old.kill()?;
        }
        let place = &self.topology.pods[pod];
        let fresh = Listener::start(&place.netns, &place.name, &self.options)?;
        self.retired
            .push((pod, std::mem::replace(&mut self.listeners[pod], fresh)));
        Ok(())
    }

    /// Applies `config`, and waits until the agent shows as many backends.
    pub fn reload(&self, config: &Config) -> Result<()> {
        self.agent.write(&config.to_string())
    }

    /// Sends a signal to the listener of `pod`. Says when.
    pub fn signal(&mut self, pod: usize, signal: Signal) -> Result<u64> {
        self.listeners[pod].process().signal(signal)
    }

    /// The VIP and port that callers dial.
    pub fn vip(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::new(self.options.family.vip(), crate::peers::PORT)
    }

    /// The family of the listeners.
    pub fn family(&self) -> Family {
        self.options.family
    }
}
