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
    source::{self, Snapshot, Update},
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
    /// The last good one. None: the source has said nothing yet, and what an earlier agent left is kept.
    snapshot: Option<Snapshot>,
    /// Whose pod ports are followed; the port watcher reads it.
    addresses: watch::Sender<BTreeSet<IpAddr>>,
    /// What it has found.
    ports: watch::Receiver<HashMap<IpAddr, PodPort>>,
    modes: Modes,
    /// A slot of each backend address, for probes.
    slots: HashMap<IpAddr, u16>,
    events: EventLog,
    metrics: Arc<AgentMetrics>,
    probes: Arc<Probes>,
    /// When to try again, and how long that was put off.
    retry: Option<(Instant, Duration)>,
}

impl Agent {
    /// Brings the maps up to `snapshot` and puts the programs on the uplinks. Ready when it returns, or, without a
    /// snapshot, once the source gives the first.
    pub async fn start(
        mut dataplane: Dataplane,
        settings: Settings,
        snapshot: Option<Snapshot>,
        config: &abi::Config,
        metrics: Arc<AgentMetrics>,
        probes: Arc<Probes>,
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
            probes,
            retry: None,
        };
        let observed = agent.dataplane.observe()?;
        agent.follow(&observed);
        agent.settle(FIRST_LOOKUP).await;
        agent.modes.adopt(&observed);
        match agent.reconcile(Instant::now()) {
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
        agent.dataplane.set_node(0)?;
        if agent.snapshot.is_some() {
            agent.metrics.config_read(true);
            agent.ready()?;
        } else {
            info!(
                backends = agent.slots.len(),
                "the last known state is in force until the source answers"
            );
        }
        Ok((agent, watcher))
    }

    /// The first whole state is in the maps.
    fn ready(&mut self) -> Result<(), Error> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.dataplane.set_node(since.as_nanos() as u64)?;
        self.probes.set_ready();
        info!(
            backends = self.slots.len(),
            flows = self.dataplane.max_flows(),
            "ready"
        );
        Ok(())
    }

    /// Runs until `shutdown` is done.
    pub async fn run(
        mut self,
        watcher: PortWatcher,
        mut changes: mpsc::Receiver<source::Change>,
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
                Some(change) = changes.recv() => self.changed(change).await,
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

    async fn changed(&mut self, change: source::Change) {
        let refused = match change {
            Ok(update) => self.take(update).await,
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

    /// Makes the update's snapshot the one in force, unless it does not fit.
    async fn take(&mut self, update: Update) -> Result<(), Error> {
        let Update {
            snapshot,
            learned,
            triggered,
        } = update;
        let last_good = self.snapshot.replace(snapshot);
        let observed = self.dataplane.observe()?;
        self.follow(&observed);
        self.settle(LOOKUP).await;
        match self.reconcile(learned.into()) {
            Outcome::Done => {
                self.retry = None;
                self.metrics.programmed(&triggered);
            }
            Outcome::Failed(error) => self.retry_after(&error),
            Outcome::Refused(error) => {
                self.snapshot = last_good;
                self.follow(&observed);
                return Err(error);
            }
        }
        if let Some(snapshot) = &self.snapshot {
            tell_warnings(snapshot);
            info!(
                services = snapshot.desired.services.len(),
                "configuration applied"
            );
        }
        if last_good.is_none() {
            self.ready()?;
        }
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
