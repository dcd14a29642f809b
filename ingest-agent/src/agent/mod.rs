//! The run loop: keeps the maps equal to the last good configuration and to where pods are.
//!
//! [`Agent`] owns the [`Dataplane`] and is the only one to write it. Everything that happens (a changed file, a moved
//! pod port, a kernel event, the sweep) ends in `Agent::reconcile`, which derives all from the whole state.
//! Stopping leaves programs and maps where they are: traffic goes on.

mod events;
mod modes;
mod reconcile;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ingest_common::abi::{self, DeliveryMode};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant, MissedTickBehavior},
};
use tracing::{debug, error, info, warn};

use self::{
    events::EventLog,
    modes::{Modes, Prober},
    reconcile::Outcome,
};
use crate::{
    cli::Delivery,
    dataplane::{self, Dataplane, ProbeTicket},
    error::Error,
    metrics::{AgentMetrics, Probes},
    ports::PortWatcher,
    reconcile::PodPort,
    source::{Snapshot, file},
};

/// Ended flows are forgotten, gone backends freed and the maps compared this often.
const SWEEP: Duration = Duration::from_secs(5);
/// How long the first plan waits to learn where all pods are: a pod port that is not known is a pod not reached.
const FIRST_LOOKUP: Duration = Duration::from_secs(2);
/// The same for backends that are new in a changed configuration.
const LOOKUP: Duration = Duration::from_millis(200);
/// What the command line says of the loop.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How packets get into pods.
    pub delivery: Delivery,
    /// How long a draining backend keeps its sessions.
    pub drain_deadline: Option<Duration>,
    /// The ends are spread over this long.
    pub drain_window: Duration,
}

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    dataplane: Dataplane,
    settings: Settings,
    /// The last good one.
    snapshot: Snapshot,
    /// Whose pod ports are followed; the port watcher reads it.
    addresses: watch::Sender<BTreeSet<IpAddr>>,
    /// What it has found.
    ports: watch::Receiver<HashMap<IpAddr, PodPort>>,
    modes: Modes,
    /// A slot of each backend address, for probes.
    slots: HashMap<IpAddr, u16>,
    events: EventLog,
    metrics: Arc<AgentMetrics>,
    /// When to try again, and how long that was put off.
    retry: Option<(Instant, Duration)>,
}

impl Agent {
    /// Brings the maps up to `snapshot` and puts the programs on the uplinks. Ready when it returns.
    pub async fn start(
        mut dataplane: Dataplane,
        settings: Settings,
        snapshot: Snapshot,
        config: &abi::Config,
        metrics: Arc<AgentMetrics>,
        probes: &Probes,
    ) -> Result<(Self, PortWatcher), Error> {
        dataplane.set_config(config)?;
        let uplinks = dataplane.uplinks();
        let veth = uplinks.iter().any(|uplink| uplink.is_veth);
        let indexes = uplinks.iter().map(|uplink| uplink.ifindex).collect();
        let (addresses, wanted) = watch::channel(BTreeSet::new());
        let watcher = PortWatcher::spawn(wanted, indexes, veth)?;
        let mut agent = Self {
            modes: Modes::new(settings.delivery, veth),
            dataplane,
            settings,
            snapshot,
            addresses,
            ports: watcher.ports.clone(),
            slots: HashMap::new(),
            events: EventLog::default(),
            metrics,
            retry: None,
        };
        let observed = agent.dataplane.observe()?;
        agent.follow(&observed);
        agent.settle(FIRST_LOOKUP).await;
        agent.modes.adopt(&observed);
        match agent.reconcile() {
            Outcome::Done => {}
            Outcome::Refused(error) | Outcome::Failed(error) => return Err(error),
        }
        agent.dataplane.attach()?;
        for uplink in agent.dataplane.uplinks() {
            let hook = uplink.xdp.map_or("none", dataplane::XdpHook::as_str);
            info!(
                uplink = uplink.name,
                xdp = hook,
                adopted = uplink.adopted,
                "programs attached"
            );
        }
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        agent.dataplane.set_node(since.as_nanos() as u64)?;
        agent.metrics.config_read(true);
        probes.set_ready();
        info!(
            services = agent.snapshot.desired.services.len(),
            backends = agent.slots.len(),
            flows = agent.dataplane.max_flows(),
            "ready"
        );
        Ok((agent, watcher))
    }

    /// Runs until `shutdown` is done.
    pub async fn run(
        mut self,
        watcher: PortWatcher,
        mut changes: mpsc::Receiver<file::Change>,
        path: &std::path::Path,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let PortWatcher {
            mut ports,
            mut task,
        } = watcher;
        let mut events = self.dataplane.events()?;
        let mut sweep = time::interval_at(Instant::now() + SWEEP, SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            let wake = self.modes.next_wake();
            let retry = self.retry.map(|(at, _)| at);
            tokio::select! {
                () = &mut shutdown => {
                    info!("stopping; programs and maps stay, and streams go on");
                    return Ok(());
                }
                Some(change) = changes.recv() => self.config_changed(path, change).await,
                Ok(()) = ports.changed() => self.reconcile_or_retry(),
                ended = &mut task => {
                    ended.map_err(|_| Error::PortsEnded)??;
                    return Err(Error::PortsEnded);
                }
                event = next(&mut events) => {
                    let event = event?;
                    self.metrics.event(abi::EventKind::from_u8(event.kind));
                    self.events.log(&event);
                }
                _ = sweep.tick() => self.sweep(),
                () = until(wake) => self.probe(),
                () = until(retry) => self.reconcile_or_retry(),
            }
        }
    }

    async fn config_changed(&mut self, path: &std::path::Path, change: file::Change) {
        let refused = match change {
            Ok(snapshot) if same(&snapshot.uplinks, &self.snapshot.uplinks) => {
                self.take(snapshot).await
            }
            Ok(snapshot) => Err(Error::Config(file::Error::UplinkChanged {
                path: path.to_path_buf(),
                from: self.snapshot.uplinks.join(", "),
                to: snapshot.uplinks.join(", "),
            })),
            Err(error) => Err(error.into()),
        };
        self.metrics.config_read(refused.is_ok());
        if let Err(error) = refused {
            error!(
                error = error.chain(),
                "configuration refused; the last good one stays in force"
            );
        }
    }

    /// Makes `snapshot` the one in force, unless it does not fit.
    async fn take(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        let last_good = std::mem::replace(&mut self.snapshot, snapshot);
        let observed = self.dataplane.observe()?;
        self.follow(&observed);
        self.settle(LOOKUP).await;
        match self.reconcile() {
            Outcome::Done => self.retry = None,
            Outcome::Failed(error) => self.retry_after(&error),
            Outcome::Refused(error) => {
                self.snapshot = last_good;
                self.follow(&observed);
                return Err(error);
            }
        }
        tell_warnings(&self.snapshot);
        info!(
            services = self.snapshot.desired.services.len(),
            "configuration applied"
        );
        Ok(())
    }

    fn sweep(&mut self) {
        self.events.tick();
        match self.dataplane.sweep(dataplane::now_ns()) {
            Ok(report) => {
                debug!(removed = report.removed, kept = report.kept, "flows swept");
                self.metrics.set_flows(report.by_service);
            }
            Err(error) => warn!(
                error = Error::from(error).chain(),
                "flows could not be swept"
            ),
        }
        if self.retry.is_none() {
            self.reconcile_or_retry();
        }
    }

    fn probe(&mut self) {
        let mut prober = SlotProber {
            dataplane: &mut self.dataplane,
            slots: &self.slots,
        };
        let changed = self.modes.step(Instant::now(), &mut prober);
        self.metrics.redirect_unproven(self.modes.unproven());
        if changed {
            self.reconcile_or_retry();
        }
    }
}

/// Tells what is allowed but probably not meant.
pub fn tell_warnings(snapshot: &Snapshot) {
    for warning in &snapshot.warnings {
        warn!("{warning}");
    }
}

struct SlotProber<'a> {
    dataplane: &'a mut Dataplane,
    slots: &'a HashMap<IpAddr, u16>,
}

impl Prober for SlotProber<'_> {
    type Ticket = ProbeTicket;

    fn send(&mut self, address: IpAddr, mode: DeliveryMode) -> Option<ProbeTicket> {
        let slot = *self.slots.get(&address)?;
        self.dataplane
            .send_probe(slot, mode)
            .inspect_err(|error| debug!(%address, %error, "no probe"))
            .ok()
    }

    fn is_answered(&self, ticket: &ProbeTicket) -> bool {
        self.dataplane.probe_answered(ticket).unwrap_or(false)
    }
}

/// Whether two lists of uplinks mean the same.
fn same(a: &[String], b: &[String]) -> bool {
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    set(a) == set(b)
}

async fn next(events: &mut Option<dataplane::EventReader>) -> Result<abi::Event, dataplane::Error> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
