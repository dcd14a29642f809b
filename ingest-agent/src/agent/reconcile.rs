//! From the whole state to the maps: the one way that everything takes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use ingest_common::abi::{self, BackendState, DeliveryMode};
use tokio::time::{self, Instant};
use tracing::{debug, error, info, warn};

use super::Agent;
use crate::{
    dataplane,
    error::Error,
    notice::Notice,
    reconcile::{Observed, Op, PlanOptions, PodPort, from_abi, plan, repoint},
};

/// After a failed write.
const RETRY: Duration = Duration::from_millis(200);
const MAX_RETRY: Duration = Duration::from_secs(5);

/// Backends named in the log at one change, for each mode and reason.
const TOLD: usize = 8;

/// How it went to turn a snapshot into what the maps say.
pub(super) enum Outcome {
    Done,
    /// The snapshot does not fit; nothing was written.
    Refused(Error),
    /// A write failed; it will be tried again.
    Failed(Error),
}

impl Agent {
    /// Makes the maps say what the snapshot does, given where pods are.
    ///
    /// `since`: when what calls for it became known.
    pub(super) fn reconcile(&mut self, since: Instant) -> Outcome {
        let mut observed = match self.know() {
            Ok(observed) => observed,
            Err(error) => return Outcome::Failed(error),
        };
        self.follow(&observed);
        let found = self.ports.borrow().clone();
        let ports = self.modes.choose(&found);
        if let Some(gro) = &mut self.gro {
            gro.follow(&found);
        }
        let options = PlanOptions {
            now_ns: dataplane::now_ns(),
            drain_deadline_ns: self
                .settings
                .drain_deadline
                .map(|term| term.as_nanos() as u64),
            drain_window_ns: self.settings.drain_window.as_nanos() as u64,
        };
        let planned = match &self.snapshot {
            Some(snapshot) => plan(&snapshot.desired, &ports, &observed, &options),
            None => Ok(repoint(&ports, &observed)),
        };
        let ops = match planned {
            Ok(ops) => ops,
            Err(error) => {
                self.known = Some(observed);
                return Outcome::Refused(error.into());
            }
        };
        self.remember(&observed, &ops);
        if let Err(error) = self.write(&ops, &mut observed, &ports) {
            return Outcome::Failed(error.into());
        }
        self.known = Some(observed);
        if !ops.is_empty() {
            self.metrics.applied(since.elapsed());
            debug!(writes = ops.len(), took = ?since.elapsed(), "maps written");
        }
        Outcome::Done
    }

    /// What the maps hold. Whoever takes it gives it back to `known`, unless a write failed.
    pub(super) fn know(&mut self) -> Result<Observed, Error> {
        match self.known.take() {
            Some(observed) => Ok(observed),
            None => Ok(self.dataplane.observe()?),
        }
    }

    /// A pod's replies must find their program from the first packet that reaches it to the last.
    fn write(
        &mut self,
        ops: &[Op],
        observed: &mut Observed,
        ports: &HashMap<IpAddr, PodPort>,
    ) -> Result<(), dataplane::Error> {
        let found = |observed: &Observed| -> BTreeSet<u32> {
            let found = ports.values().map(|port| port.ifindex);
            let in_use = live(observed).map(|(_, b)| b.ifindex);
            found.chain(in_use).filter(|index| *index != 0).collect()
        };
        // One pod port that refuses its program must not hold up all the others' backends.
        let attached = self.dataplane.set_pod_ports(&found(observed));
        self.dataplane.apply(ops)?;
        attached?;
        for op in ops {
            observed.apply(op);
        }
        self.dataplane.set_pod_ports(&found(observed))
    }

    /// Notes who has which id, and tells of changed delivery modes.
    fn remember(&mut self, observed: &Observed, ops: &[Op]) {
        self.events.learn(observed, ops);
        for backend in self.restarts.learn(observed, ops) {
            self.metrics.changes().restarted(&backend);
            info!(
                backend,
                "backend was restarted: another process is behind its name"
            );
        }
        self.slots = live(observed)
            .map(|(slot, b)| (from_abi(&b.address), slot))
            .collect();
        let mut told: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for op in ops {
            let Op::SetBackend {
                slot,
                backend,
                name,
                fresh,
                ..
            } = op
            else {
                continue;
            };
            let address = from_abi(&backend.address);
            self.slots.insert(address, *slot);
            let before = observed
                .backends
                .get(slot)
                .map(|b| b.mode)
                .filter(|_| !fresh);
            if before == Some(backend.mode) {
                continue;
            }
            let mode = DeliveryMode::from_u8(backend.mode);
            let reason = self.modes.reason(address, mode);
            if mode == DeliveryMode::None {
                self.tell(Notice::Fallback {
                    backend: name.clone(),
                    mode: mode.as_str(),
                    reason,
                });
            }
            let mode = mode.as_str();
            // A thousand pods have few reasons.
            let count = told.entry((mode, reason)).or_default();
            *count += 1;
            if *count > TOLD {
                debug!(backend = %name, %address, mode, reason, "delivery");
            } else if backend.mode == DeliveryMode::None as u8 {
                warn!(backend = %name, %address, reason, "no delivery");
            } else {
                info!(backend = %name, %address, mode, reason, "delivery");
            }
        }
        for ((mode, reason), count) in told.into_iter().filter(|(_, count)| *count > TOLD) {
            info!(
                backends = count - TOLD,
                mode, reason, "delivery of more backends"
            );
        }
    }

    pub(super) fn reconcile_or_retry(&mut self) {
        match self.reconcile(Instant::now()) {
            Outcome::Done => self.done(),
            Outcome::Refused(error) | Outcome::Failed(error) => self.retry_after(&error),
        }
    }

    pub(super) fn retry_after(&mut self, error: &Error) {
        self.metrics.apply_failed();
        let delay = self
            .retry
            .map_or(RETRY, |(_, last)| (last * 2).min(MAX_RETRY));
        self.retry = Some((Instant::now() + delay, delay));
        error!(error = error.chain(), retry_in = ?delay, "the maps could not be brought up to date");
    }

    /// Follows the pod ports of all backends that are wanted or still have sessions.
    pub(super) fn follow(&self, observed: &Observed) {
        let services = self.snapshot.iter().flat_map(|s| &s.desired.services);
        let wanted = services.flat_map(|s| &s.backends);
        let addresses: BTreeSet<IpAddr> = wanted
            .map(|b| b.address)
            .chain(live(observed).map(|(_, b)| from_abi(&b.address)))
            .collect();
        self.addresses.send_if_modified(|old| {
            let modified = *old != addresses;
            *old = addresses;
            modified
        });
    }

    /// Waits until all followed addresses were looked up, but not for long.
    pub(super) async fn settle(&mut self, limit: Duration) {
        let addresses = self.addresses.borrow().clone();
        let known =
            |ports: &HashMap<IpAddr, PodPort>| addresses.iter().all(|a| ports.contains_key(a));
        if time::timeout(limit, self.ports.wait_for(known))
            .await
            .is_err()
        {
            warn!(waited = ?limit, "some pod ports are not looked up yet");
        }
    }
}

/// Slots with a tenant.
fn live(observed: &Observed) -> impl Iterator<Item = (u16, &abi::Backend)> {
    let tenant = |b: &abi::Backend| BackendState::from_u8(b.state) != BackendState::Free;
    observed
        .backends
        .iter()
        .filter(move |(_, b)| tenant(b))
        .map(|(slot, b)| (*slot, b))
}
