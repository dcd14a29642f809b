//! GRO in steered pods, where the administrator asks for it (`--pod-gro`): a frame redirected into a veth is received
//! only where its far end polls, and GRO makes it poll.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ingest_common::abi::DeliveryMode;
use tokio::{
    sync::mpsc,
    task,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

use crate::{
    dataplane::{self, GroOutcome},
    error::Error,
    ports,
    reconcile::PodPort,
};

/// A pod whose namespace was not found may get it bound yet.
const AGAIN: Duration = Duration::from_secs(30);

/// Switches GRO on, pod by pod.
#[derive(Debug)]
pub(super) struct PodGro {
    netns_dir: PathBuf,
    /// By pod port: when to try again; none where nothing is left to do.
    asked: HashMap<u32, Option<Instant>>,
    finished: mpsc::UnboundedReceiver<Finished>,
    finish: mpsc::UnboundedSender<Finished>,
}

#[derive(Debug)]
struct Finished {
    ifindex: u32,
    result: Result<GroOutcome, Error>,
}

impl PodGro {
    pub(super) fn new(netns_dir: &Path) -> Self {
        let (finish, finished) = mpsc::unbounded_channel();
        Self {
            netns_dir: netns_dir.to_path_buf(),
            asked: HashMap::new(),
            finished,
            finish,
        }
    }

    /// Sees to pods that are new here, and again to those where it failed.
    pub(super) fn follow(&mut self, found: &HashMap<IpAddr, PodPort>) {
        let now = Instant::now();
        let ports: Vec<u32> = found
            .values()
            .filter(|port| port.mode == DeliveryMode::Peer && port.ifindex != 0)
            .map(|port| port.ifindex)
            .collect();
        self.asked.retain(|ifindex, _| ports.contains(ifindex));
        for ifindex in ports {
            let due = match self.asked.get(&ifindex) {
                None => true,
                Some(again) => again.is_some_and(|at| at <= now),
            };
            if !due {
                continue;
            }
            self.asked.insert(ifindex, None);
            let (dir, finish) = (self.netns_dir.clone(), self.finish.clone());
            tokio::spawn(async move {
                let result = enable(ifindex, dir).await;
                // An agent that ends has no use for the answer.
                finish.send(Finished { ifindex, result }).ok();
            });
        }
    }

    /// Waits for the next pod port whose pod can now be expected to poll.
    pub(super) async fn next(&mut self) -> u32 {
        loop {
            let Some(Finished { ifindex, result }) = self.finished.recv().await else {
                // Not while `finish` lives.
                time::sleep(AGAIN).await;
                continue;
            };
            match result {
                Ok(outcome) => {
                    match outcome {
                        GroOutcome::Enabled => info!(ifindex, "GRO switched on in the pod"),
                        GroOutcome::WasOn => debug!(ifindex, "the pod has GRO on"),
                    }
                    return ifindex;
                }
                Err(error) => {
                    warn!(ifindex, error = error.chain(), again_in = ?AGAIN, "GRO could not be switched on in a pod");
                    self.asked.insert(ifindex, Some(Instant::now() + AGAIN));
                }
            }
        }
    }
}

async fn enable(ifindex: u32, netns_dir: PathBuf) -> Result<GroOutcome, Error> {
    let end = ports::pod_end(ifindex, &netns_dir).await?;
    let switched = task::spawn_blocking(move || dataplane::enable_gro(&end.netns, end.ifindex));
    let switched = switched.await.map_err(|error| Error::Runtime {
        operation: "switching GRO on in a pod",
        source: error.into(),
    })?;
    Ok(switched?)
}
