//! What this node's Pods say of themselves, ahead of their EndpointSlices: an accelerator that only takes backends down.
//!
//! A pod's own word is newer than the slice's, but it is not the contract: what may be taken back (readiness, a
//! container that does not run) holds for [`LIFETIME`] only, unless the slice comes to say the same. A pod that is gone
//! stays so. Nothing here makes a backend of a pod.
//!
//! Only its annotations say what share and how many sessions it wishes for: slices cannot.

use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    core::v1::{Container as ContainerSpec, ContainerStatus, Pod},
    discovery::v1::EndpointSlice,
};

use super::{
    super::{SESSION_LIMIT_ANNOTATION, WEIGHT_ANNOTATION},
    hash, ports,
};

/// How long a pod's word holds against its slice.
const LIFETIME: Duration = Duration::from_secs(30);

/// What is known of pods of this node, by UID.
#[derive(Clone, Debug, Default)]
pub(in crate::cluster) struct LocalPods {
    pods: HashMap<String, LocalPod>,
    /// Deleted or ended, and when that was learned: such a UID never comes back, whatever an older slice says.
    gone: HashMap<String, Option<Instant>>,
    /// The latest moment that was told.
    now: Option<Instant>,
}

#[derive(Clone, Debug)]
struct LocalPod {
    deleting: bool,
    wish: Wish,
    unready: Signal,
    containers: Vec<Container>,
}

#[derive(Clone, Debug)]
struct Container {
    name: String,
    /// Its UDP ports, as far as it lists them.
    ports: Vec<u16>,
    /// Hash of the id of the running or last container; 0: none yet.
    process: u32,
    stopped: Signal,
}

/// Bad news that expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Signal {
    #[default]
    Off,
    Since(Instant),
    Expired,
}

impl Signal {
    fn next(self, raised: bool, now: Instant) -> Self {
        match self {
            _ if !raised => Self::Off,
            Self::Off => Self::Since(now),
            older => older,
        }
    }

    fn holds(self) -> bool {
        matches!(self, Self::Since(_))
    }

    fn expiry(self) -> Option<Instant> {
        match self {
            Self::Since(since) => Some(since + LIFETIME),
            Self::Off | Self::Expired => None,
        }
    }
}

/// What a pod says of an endpoint of its.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// Nobody is there: the pod is gone, or the container does not run.
    pub(super) dead: bool,
    /// The pod is being deleted.
    pub(super) deleting: bool,
    /// The pod is not ready.
    pub(super) unready: bool,
    /// Hash of the container's id; 0: not known.
    pub(super) process: u32,
}

/// What a pod's annotations ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) weight: Option<u16>,
    pub(super) limit: Option<u32>,
    /// Annotation and value.
    pub(super) unusable: Vec<(&'static str, String)>,
}

impl Wish {
    const WEIGHTS: RangeInclusive<u32> = 1..=100;

    fn read(pod: &Pod) -> Self {
        let mut wish = Self::default();
        let annotations = pod.metadata.annotations.as_ref();
        let mut number = |field: &'static str, range: RangeInclusive<u32>| {
            let text = annotations.and_then(|all| all.get(field))?.trim();
            let number = text.parse().ok().filter(|number| range.contains(number));
            if number.is_none() {
                wish.unusable.push((field, text.to_owned()));
            }
            number
        };
        let weight = number(WEIGHT_ANNOTATION, Self::WEIGHTS);
        let limit = number(SESSION_LIMIT_ANNOTATION, 1..=u32::MAX);
        wish.weight = weight.and_then(|weight| weight.try_into().ok());
        wish.limit = limit;
        wish
    }
}

impl LocalPods {
    /// A pod is new or changed.
    pub(in crate::cluster) fn applied(&mut self, pod: &Pod, now: Instant) {
        let Some(uid) = pod.metadata.uid.as_deref() else {
            return;
        };
        self.now = self.now.max(Some(now));
        if self.gone.contains_key(uid) {
            return;
        }
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.is_gone(uid);
            return;
        }
        let pod = LocalPod::read(pod, self.pods.get(uid), now);
        self.pods.insert(uid.to_owned(), pod);
    }

    /// A pod object is gone.
    pub(in crate::cluster) fn deleted(&mut self, pod: &Pod) {
        if let Some(uid) = pod.metadata.uid.as_deref() {
            self.is_gone(uid);
        }
    }

    /// The whole set: known UIDs that are absent are gone.
    pub(in crate::cluster) fn relisted(&mut self, pods: &[Arc<Pod>], now: Instant) {
        let listed: HashSet<&str> = pods
            .iter()
            .filter_map(|p| p.metadata.uid.as_deref())
            .collect();
        self.now = self.now.max(Some(now));
        let absent = self.pods.extract_if(|uid, _| !listed.contains(&**uid));
        self.gone.extend(absent.map(|(uid, _)| (uid, self.now)));
        for pod in pods {
            self.applied(pod, now);
        }
    }

    /// When [`Self::expire`] would change something.
    pub(in crate::cluster) fn next_expiry(&self) -> Option<Instant> {
        let signals = self.pods.values().flat_map(LocalPod::signals);
        signals.filter_map(Signal::expiry).min()
    }

    /// Drops signals that no slice has confirmed in time.
    pub(in crate::cluster) fn expire(&mut self, now: Instant) {
        self.now = self.now.max(Some(now));
        for signal in self.pods.values_mut().flat_map(LocalPod::signals_mut) {
            if signal.expiry().is_some_and(|expiry| expiry <= now) {
                *signal = Signal::Expired;
            }
        }
    }

    /// Forgets the gone pods that no slice refers to. Not at once: a slice on its way may be older than the pod's end.
    pub(in crate::cluster) fn forget_unreferenced(&mut self, slices: &[Arc<EndpointSlice>]) {
        if self.gone.is_empty() {
            return;
        }
        let endpoints = slices.iter().flat_map(|s| &s.endpoints);
        let referenced: HashSet<&str> = endpoints
            .filter_map(|e| e.target_ref.as_ref()?.uid.as_deref())
            .collect();
        let recent = self.now.and_then(|now| now.checked_sub(LIFETIME));
        self.gone
            .retain(|uid, since| *since > recent || referenced.contains(&**uid));
    }

    /// What the pod's annotations ask for.
    pub(super) fn wish(&self, uid: &str) -> Wish {
        let pod = self.pods.get(uid);
        pod.map_or_else(Wish::default, |pod| pod.wish.clone())
    }

    /// What the pod says of its endpoint at `port`.
    pub(super) fn word(&self, uid: &str, port: u16) -> Word {
        if self.gone.contains_key(uid) {
            return Word {
                dead: true,
                ..Word::default()
            };
        }
        let Some(pod) = self.pods.get(uid) else {
            return Word::default();
        };
        let container = pod.serving(port);
        Word {
            dead: container.is_some_and(|c| c.stopped.holds()),
            deleting: pod.deleting,
            unready: pod.unready.holds(),
            process: container.map_or(0, |c| c.process),
        }
    }

    fn is_gone(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.gone.insert(uid.to_owned(), self.now);
    }
}

impl LocalPod {
    fn read(pod: &Pod, before: Option<&Self>, now: Instant) -> Self {
        let status = pod.status.as_ref();
        let conditions = status.and_then(|s| s.conditions.as_deref());
        let unready = conditions
            .unwrap_or_default()
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "False");
        let statuses = status.and_then(|s| s.container_statuses.as_deref());
        let statuses = statuses.unwrap_or_default();
        let specs = pod.spec.as_ref().map(|s| s.containers.as_slice());
        let containers = specs.unwrap_or_default().iter().map(|spec| {
            let status = statuses.iter().find(|s| s.name == spec.name);
            let before = before.and_then(|b| b.containers.iter().find(|c| c.name == spec.name));
            Container::read(spec, status, before, now)
        });
        Self {
            deleting: pod.metadata.deletion_timestamp.is_some(),
            wish: Wish::read(pod),
            unready: before.map_or(Signal::Off, |b| b.unready).next(unready, now),
            containers: containers.collect(),
        }
    }

    /// The container that serves `port`: who lists it, else the only one. Sidecars among the init containers never do.
    fn serving(&self, port: u16) -> Option<&Container> {
        let lists = self.containers.iter().find(|c| c.ports.contains(&port));
        lists.or(match self.containers.as_slice() {
            [only] => Some(only),
            _ => None,
        })
    }

    fn signals(&self) -> impl Iterator<Item = Signal> {
        let containers = self.containers.iter().map(|c| c.stopped);
        containers.chain([self.unready])
    }

    fn signals_mut(&mut self) -> impl Iterator<Item = &mut Signal> {
        let containers = self.containers.iter_mut().map(|c| &mut c.stopped);
        containers.chain([&mut self.unready])
    }
}

impl Container {
    fn read(
        spec: &ContainerSpec,
        status: Option<&ContainerStatus>,
        before: Option<&Self>,
        now: Instant,
    ) -> Self {
        let listed = spec.ports.as_deref().unwrap_or_default();
        let udp = listed
            .iter()
            .filter(|p| p.protocol.as_deref() == Some("UDP"));
        let id = status.and_then(|s| s.container_id.as_deref());
        let process = id.filter(|id| !id.is_empty()).map_or(0, hash::stable);
        // No status yet says nothing.
        let stopped =
            status.is_some_and(|s| s.state.as_ref().is_none_or(|state| state.running.is_none()));
        // Another container that stopped is news, also where its running was missed.
        let signal = before.filter(|b| b.process == process);
        Self {
            name: spec.name.clone(),
            ports: udp
                .filter_map(|p| ports::number(p.container_port))
                .collect(),
            process,
            stopped: signal.map_or(Signal::Off, |b| b.stopped).next(stopped, now),
        }
    }
}
