//! The run loop: keeps the maps equal to the last good configuration and to where pods are.
//!
//! [`Agent`] owns the [`Dataplane`] and is the only one to write it. Everything that happens (a changed file, a moved
//! pod port, a kernel event, the sweep) ends in `Agent::reconcile`, which derives all from the whole state.
//! The `viewer` looks at the streams beside it, in a task of its own.
//! Stopping leaves programs and maps where they are: traffic goes on.

mod drains;
mod events;
mod gro;
mod modes;
mod reconcile;
mod restarts;
mod rotation;
mod tell;
mod viewer;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ingest_common::abi::{self, DeliveryMode};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant, MissedTickBehavior},
};
use tracing::{debug, error, info, warn};

pub use self::viewer::Viewer;
use self::{
    drains::Drains,
    events::EventLog,
    gro::PodGro,
    modes::{Modes, Prober},
    reconcile::Outcome,
    restarts::Restarts,
    rotation::Rotation,
};
use crate::{
    cli::{Delivery, StreamIds},
    dataplane::{self, Dataplane, ProbeTicket},
    error::Error,
    metrics::{AgentMetrics, Flows, Probes},
    notice::Notice,
    ports::PortWatcher,
    reconcile::{Observed, PodPort, Route},
    source::{self, Snapshot, Update},
};

/// Ended flows are forgotten, gone backends freed and the maps compared this often.
const SWEEP: Duration = Duration::from_secs(5);
/// How long the first plan waits to learn where all pods are: a pod port that is not known is a pod not reached.
const FIRST_LOOKUP: Duration = Duration::from_secs(2);
/// The same for backends that are new in a changed configuration.
const LOOKUP: Duration = Duration::from_millis(200);
/// What the command line says of the loop.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How packets get into pods.
    pub delivery: Delivery,
    /// How long a draining backend keeps its sessions.
    pub drain_deadline: Option<Duration>,
    /// The ends are spread over this long.
    pub drain_window: Duration,
    /// Where the network namespaces of pods are bound, for switching GRO on in them; none: their GRO is their own.
    pub pod_gro: Option<PathBuf>,
    /// How long one secret makes cookies.
    pub secret_rotation: Duration,
    /// How Stream IDs appear in the log.
    pub stream_ids: StreamIds,
}

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    dataplane: Dataplane,
    /// What the maps hold, kept up with every write. None: they must be read (after a sweep, or a failure).
    known: Option<Observed>,
    settings: Settings,
    /// The last good one. None: the source has said nothing yet, and what an earlier agent left is kept.
    snapshot: Option<Snapshot>,
    /// One that did not fit. It may, once the sessions of removed backends have ended.
    waiting: Option<Snapshot>,
    /// Whose pod ports are followed; the port watcher reads it.
    addresses: watch::Sender<BTreeSet<IpAddr>>,
    /// What it has found.
    ports: watch::Receiver<HashMap<IpAddr, PodPort>>,
    modes: Modes,
    /// A slot of each backend address, for probes.
    slots: HashMap<IpAddr, u16>,
    events: EventLog,
    restarts: Restarts,
    metrics: Arc<AgentMetrics>,
    probes: Arc<Probes>,
    drains: Drains,
    rotation: Rotation,
    /// Where it was asked for and is of use.
    gro: Option<PodGro>,
    /// To the people of the cluster, where there is one.
    notices: Option<mpsc::Sender<Notice>>,
    /// What was told to be in force. None: nothing, or it is to be told again.
    told_routes: Option<Vec<Route>>,
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
        notices: Option<mpsc::Sender<Notice>>,
    ) -> Result<(Self, PortWatcher), Error> {
        dataplane.set_config(config)?;
        let rotation = Rotation::begin(&mut dataplane, settings.secret_rotation)?;
        let uplinks = dataplane.uplinks();
        let veth = uplinks.iter().any(|uplink| uplink.is_veth);
        let indexes = uplinks.iter().map(|uplink| uplink.ifindex).collect();
        let (addresses, wanted) = watch::channel(BTreeSet::new());
        let watcher = PortWatcher::spawn(wanted, indexes, veth)?;
        let mut agent = Self {
            modes: Modes::new(settings.delivery, veth),
            dataplane,
            known: None,
            events: EventLog::new(settings.stream_ids),
            restarts: Restarts::default(),
            settings,
            snapshot,
            waiting: None,
            addresses,
            ports: watcher.ports.clone(),
            slots: HashMap::new(),
            metrics,
            probes,
            drains: Drains::default(),
            rotation,
            gro: None,
            notices,
            told_routes: None,
            retry: None,
        };
        if let Some(netns_dir) = &agent.settings.pod_gro {
            if agent.modes.wants_redirect() {
                agent.gro = Some(PodGro::new(netns_dir));
            } else {
                info!("--pod-gro has no use here: redirect is not wanted");
            }
        }
        let observed = agent.know()?;
        agent.follow(&observed);
        agent.modes.adopt(&observed);
        agent.known = Some(observed);
        agent.settle(FIRST_LOOKUP).await;
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
            agent.done();
        } else {
            info!(
                backends = agent.slots.len(),
                "the last known state is in force until the source answers"
            );
        }
        Ok((agent, watcher))
    }

    /// The maps are up to date: nothing to try again, and ready, if it was the first time.
    fn done(&mut self) {
        self.retry = None;
        self.tell_routes();
        if self.snapshot.is_none() || self.probes.is_ready() {
            return;
        }
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        if let Err(error) = self.dataplane.set_node(since.as_nanos() as u64) {
            self.retry_after(&error.into());
            return;
        }
        self.probes.set_ready();
        info!(
            backends = self.slots.len(),
            flows = self.dataplane.max_flows(),
            "ready"
        );
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
                    let dataplane = &self.dataplane;
                    self.events.log(&event, |key| dataplane.stream_id(key).ok().flatten());
                    if let Some(notice) = self.events.notice(&event) {
                        self.tell(notice);
                    }
                }
                _ = sweep.tick() => {
                    self.sweep();
                    if let Some(snapshot) = self.waiting.take() {
                        self.changed(Ok(Update::now(snapshot))).await;
                    }
                }
                ifindex = polling(&mut self.gro) => self.modes.reconsider(ifindex),
                () = until(wake) => self.probe(),
                () = time::sleep_until(self.rotation.due()) => self.rotation.rotate(&mut self.dataplane),
                () = until(retry) => self.reconcile_or_retry(),
            }
        }
    }

    async fn changed(&mut self, change: source::Change) {
        self.waiting = None;
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
        let observed = self.know()?;
        self.follow(&observed);
        self.known = Some(observed);
        self.settle(LOOKUP).await;
        match self.reconcile(learned.into()) {
            Outcome::Done => {
                self.done();
                self.metrics.programmed(&triggered);
            }
            Outcome::Failed(error) => self.retry_after(&error),
            Outcome::Refused(error) => {
                self.waiting = std::mem::replace(&mut self.snapshot, last_good);
                self.reconcile_or_retry();
                let why = error.chain();
                self.tell(Notice::PlanRefused { why });
                self.told_routes = None;
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
        Ok(())
    }

    /// Tells the people of the cluster. They can wait, and a full queue loses: streams come first.
    fn tell(&self, notice: Notice) {
        if let Some(notices) = &self.notices
            && let Err(error) = notices.try_send(notice)
        {
            debug!(%error, "a notice is lost");
        }
    }

    /// Tells which routes are in force, where that is news.
    fn tell_routes(&mut self) {
        let Some(snapshot) = &self.snapshot else {
            return;
        };
        let routes = &snapshot.desired.routes;
        if self.notices.is_some() && self.told_routes.as_ref() != Some(routes) {
            let routes = routes.clone();
            self.told_routes = Some(routes.clone());
            self.tell(Notice::RoutesInForce { routes });
        }
    }

    fn tell_drained(&mut self, sessions: &HashMap<u16, u32>) {
        let Ok(observed) = self.know() else {
            return;
        };
        for slot in self.drains.swept(&observed, sessions) {
            if let Some(backend) = self.events.backend(slot).map(str::to_owned) {
                info!(
                    backend,
                    "the last session of this draining backend has ended"
                );
                self.tell(Notice::Drained { backend });
            }
        }
        self.known = Some(observed);
    }

    fn sweep(&mut self) {
        self.events.tick();
        self.probes.turned();
        match self.dataplane.sweep(dataplane::now_ns()) {
            Ok(report) => {
                debug!(removed = report.removed, kept = report.kept, "flows swept");
                // The sweep has found out what nothing needs any more.
                self.known = None;
                self.tell_drained(&report.by_slot);
                self.metrics.set_flows(Flows {
                    by_service: report.by_service,
                    entries: report.kept,
                });
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
        for address in self.modes.take_fallen() {
            let slot = self.slots.get(&address).copied();
            if let Some(backend) = slot.and_then(|slot| self.events.backend(slot)) {
                self.tell(Notice::Fallback {
                    backend: backend.to_owned(),
                    mode: DeliveryMode::Peer.as_str(),
                    reason: self.modes.reason(address, DeliveryMode::Peer),
                });
            }
        }
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

async fn polling(gro: &mut Option<PodGro>) -> u32 {
    match gro {
        Some(gro) => gro.next().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
