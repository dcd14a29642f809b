//! Which delivery mode each backend gets, and its proof.
//!
//! A frame redirected into a pod whose side of the veth polls nothing is lost without a trace, so `redirect` is used
//! only while the pod's kernel answers probes that take the same way. `peer` works on every veth and is used at once;
//! it is probed too, so that a pod that does not answer is told of. Pure but for [`Prober`].

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use ingest_common::abi::DeliveryMode;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::{
    cli::Delivery,
    reconcile::{Observed, PodPort, from_abi},
};

/// An answer takes well under a millisecond, on a busy node some more.
const ANSWER: Duration = Duration::from_millis(100);
/// Unanswered ones before the mode counts as broken.
const TRIES: u32 = 3;
/// A proof is renewed, and a failure reconsidered, this often: settings of a pod change under it.
const RENEW: Duration = Duration::from_secs(30);
/// Probes sent in one step: a thousand backends are no burst.
const BURST: usize = 32;

/// Sends probes.
pub(super) trait Prober {
    /// A probe under way.
    type Ticket;
    /// Sends one by `mode`; `None` where that is not possible now.
    fn send(&mut self, address: IpAddr, mode: DeliveryMode) -> Option<Self::Ticket>;
    /// Whether the answer has come.
    fn is_answered(&self, ticket: &Self::Ticket) -> bool;
}

/// The modes of all backends.
#[derive(Debug)]
pub(super) struct Modes<T = crate::dataplane::ProbeTicket> {
    delivery: Delivery,
    veth_uplink: bool,
    /// By address, for pods behind a veth.
    proofs: BTreeMap<IpAddr, Proof<T>>,
    /// Redirect entries of an earlier agent, taken for proven until a probe says otherwise.
    adopted: HashMap<IpAddr, u32>,
    /// Whose redirect was found not to work since this was last asked for.
    fallen: Vec<IpAddr>,
}

#[derive(Debug)]
struct Proof<T> {
    /// Another interface or MAC needs another proof.
    port: PodPort,
    /// What is proved: `redirect` where it is wanted and possible, else `peer`.
    by: DeliveryMode,
    proven: Option<bool>,
    /// The probe under way, and how many went unanswered before it.
    asked: Option<T>,
    unanswered: u32,
    due: Instant,
}

impl<T> Modes<T> {
    pub(super) fn new(delivery: Delivery, veth_uplink: bool) -> Self {
        Self {
            delivery,
            veth_uplink,
            proofs: BTreeMap::new(),
            adopted: HashMap::new(),
            fallen: Vec::new(),
        }
    }

    /// Whether `redirect` is to be used where it is proven. A veth's frames may have unfinished checksums, which an
    /// XDP frame cannot carry.
    pub(super) fn wants_redirect(&self) -> bool {
        match self.delivery {
            Delivery::Auto => !self.veth_uplink,
            Delivery::Redirect => true,
            Delivery::Peer | Delivery::Stack => false,
        }
    }

    /// Trusts the earlier agent's proofs for now: streams that run must not be moved by a restart.
    pub(super) fn adopt(&mut self, observed: &Observed) {
        self.adopted = observed
            .backends
            .values()
            .filter(|b| DeliveryMode::from_u8(b.mode) == DeliveryMode::Redirect)
            .map(|b| (from_abi(&b.address), b.ifindex))
            .collect();
    }

    /// The pod ports with the modes to use.
    pub(super) fn choose(&mut self, found: &HashMap<IpAddr, PodPort>) -> HashMap<IpAddr, PodPort> {
        let redirectable = |port: &PodPort| self.wants_redirect() && port.pod_mac != [0; 6];
        let by: HashMap<IpAddr, DeliveryMode> = found
            .iter()
            .filter(|(_, port)| {
                port.mode == DeliveryMode::Peer
                    && port.ifindex != 0
                    && self.delivery != Delivery::Stack
            })
            .map(|(address, port)| {
                let by = if redirectable(port) {
                    DeliveryMode::Redirect
                } else {
                    DeliveryMode::Peer
                };
                (*address, by)
            })
            .collect();
        self.proofs.retain(|address, proof| {
            by.get(address) == Some(&proof.by)
                && found.get(address).is_some_and(|p| *p == proof.port)
        });
        found
            .iter()
            .map(|(address, port)| {
                let mode = match (self.delivery, port.mode, by.get(address)) {
                    (_, DeliveryMode::None, _) => DeliveryMode::None,
                    (Delivery::Stack, ..) => DeliveryMode::Stack,
                    (.., Some(by)) => self.proof(*address, *port, *by),
                    (_, mode, None) => mode,
                };
                let ifindex = if mode == DeliveryMode::Stack {
                    0
                } else {
                    port.ifindex
                };
                (
                    *address,
                    PodPort {
                        mode,
                        ifindex,
                        ..*port
                    },
                )
            })
            .collect()
    }

    fn proof(&mut self, address: IpAddr, port: PodPort, by: DeliveryMode) -> DeliveryMode {
        let adopted = self.adopted.remove(&address) == Some(port.ifindex);
        let proof = self.proofs.entry(address).or_insert_with(|| Proof {
            port,
            by,
            proven: (adopted && by == DeliveryMode::Redirect).then_some(true),
            asked: None,
            unanswered: 0,
            due: Instant::now(),
        });
        if proof.proven == Some(true) {
            by
        } else {
            DeliveryMode::Peer
        }
    }

    /// When [`Self::step`] has something to do.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.proofs.values().map(|proof| proof.due).min()
    }

    /// Sends due probes and looks for answers. Gives whether a mode changes by that.
    pub(super) fn step(&mut self, now: Instant, prober: &mut impl Prober<Ticket = T>) -> bool {
        let mut changed = false;
        let mut sent = 0;
        for (address, proof) in self.proofs.iter_mut().filter(|(_, proof)| proof.due <= now) {
            let answered = proof.asked.take().map(|ticket| prober.is_answered(&ticket));
            let verdict = match answered {
                Some(true) => Some(true),
                Some(false) => {
                    proof.unanswered += 1;
                    (proof.unanswered >= TRIES).then_some(false)
                }
                None => None,
            };
            if let Some(proven) = verdict {
                match proof.by {
                    DeliveryMode::Redirect => {
                        tell_redirect(*address, self.delivery, proof.proven, proven);
                        changed |= proof.proven.unwrap_or(false) != proven;
                        if !proven && proof.proven != Some(false) {
                            self.fallen.push(*address);
                        }
                    }
                    _ => tell_peer(*address, proof.proven, proven),
                }
                proof.proven = Some(proven);
                proof.unanswered = 0;
                proof.due = now + RENEW;
            } else if sent == BURST {
                proof.due = now + ANSWER;
            } else {
                sent += 1;
                proof.asked = prober.send(*address, proof.by);
                proof.due = now + if proof.asked.is_some() { ANSWER } else { RENEW };
            }
        }
        changed
    }

    /// Whose redirect was found not to work since the last call.
    pub(super) fn take_fallen(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.fallen)
    }

    /// Something was done about the pod behind this interface: it is asked again at once.
    pub(super) fn reconsider(&mut self, ifindex: u32) {
        let proofs = self.proofs.values_mut();
        for proof in proofs.filter(|p| p.port.ifindex == ifindex && p.proven != Some(true)) {
            (proof.proven, proof.unanswered) = (None, 0);
            proof.due = Instant::now();
        }
    }

    /// How many backends stay on `peer` though `redirect` is wanted.
    pub(super) fn unproven(&self) -> usize {
        self.proofs
            .values()
            .filter(|proof| proof.by == DeliveryMode::Redirect && proof.proven != Some(true))
            .count()
    }

    /// Why the backend has this mode.
    pub(super) fn reason(&self, address: IpAddr, mode: DeliveryMode) -> &'static str {
        let proof = self.proofs.get(&address);
        let redirect = proof.filter(|proof| proof.by == DeliveryMode::Redirect);
        match (mode, self.delivery, redirect.map(|proof| proof.proven)) {
            (DeliveryMode::None, ..) => "no route leads to its address on this node",
            (DeliveryMode::Stack, Delivery::Stack, _) => "--delivery stack",
            (DeliveryMode::Stack, ..) => "its address leads to no veth of this node",
            (DeliveryMode::Redirect, ..) => "it answered a probe by redirect",
            (DeliveryMode::Peer, Delivery::Peer, _) => "--delivery peer",
            (DeliveryMode::Peer, _, Some(None)) => "redirect is not proven yet",
            (DeliveryMode::Peer, _, Some(Some(_))) => "it did not answer a probe by redirect",
            (DeliveryMode::Peer, Delivery::Auto, None) if self.veth_uplink => {
                "the uplink is a veth, whose unfinished checksums rule out redirect"
            }
            (DeliveryMode::Peer, ..) => "its MAC is not known, which redirect needs",
        }
    }
}

fn tell_peer(address: IpAddr, before: Option<bool>, proven: bool) {
    match (before, proven) {
        (Some(true), true) | (Some(false), false) => {
            debug!(%address, proven, "peer probed again");
        }
        (_, true) => info!(%address, "peer is proven"),
        (_, false) => {
            warn!(%address, "peer goes unanswered and is used all the same: does the pod drop echo requests?");
        }
    }
}

fn tell_redirect(address: IpAddr, delivery: Delivery, before: Option<bool>, proven: bool) {
    match (before, proven, delivery) {
        (Some(true), true, _) | (Some(false), false, _) => {
            debug!(%address, proven, "redirect probed again");
        }
        (_, true, _) => info!(%address, "redirect is proven"),
        (Some(true), false, _) => {
            warn!(%address, "redirect is answered no more, back to peer; has GRO been switched off in the pod?");
        }
        (None, false, Delivery::Redirect) => {
            warn!(%address, "redirect goes unanswered, peer is used; `ethtool -K eth0 gro on` in the pod allows it");
        }
        (None, false, _) => info!(%address, "redirect goes unanswered, peer stays"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ingest_common::abi;

    use super::*;
    use crate::reconcile::to_abi;

    fn pod(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn veth(ifindex: u32) -> PodPort {
        PodPort {
            mode: DeliveryMode::Peer,
            ifindex,
            pod_mac: [2; 6],
            port_mac: [4; 6],
            partial_checksums: false,
        }
    }

    /// Answers those it was told to.
    #[derive(Default)]
    struct Pods {
        answering: BTreeSet<IpAddr>,
        sent: usize,
        by: Option<DeliveryMode>,
    }

    impl Prober for Pods {
        type Ticket = IpAddr;
        fn send(&mut self, address: IpAddr, mode: DeliveryMode) -> Option<IpAddr> {
            self.sent += 1;
            self.by = Some(mode);
            Some(address)
        }
        fn is_answered(&self, ticket: &IpAddr) -> bool {
            self.answering.contains(ticket)
        }
    }

    fn modes_of(modes: &mut Modes<IpAddr>, found: &HashMap<IpAddr, PodPort>) -> Vec<DeliveryMode> {
        let chosen: BTreeMap<_, _> = modes.choose(found).into_iter().collect();
        chosen.values().map(|port| port.mode).collect()
    }

    /// Steps until nothing is due for a while; gives whether anything changed.
    fn run(modes: &mut Modes<IpAddr>, pods: &mut Pods, mut now: Instant) -> bool {
        let mut changed = false;
        let end = now + RENEW / 2;
        while let Some(due) = modes.next_wake().filter(|due| *due < end) {
            now = now.max(due);
            changed |= modes.step(now, pods);
        }
        changed
    }

    #[test]
    fn redirect_is_used_only_once_it_is_answered() {
        let mut modes = Modes::new(Delivery::Auto, false);
        let found = HashMap::from([(pod(1), veth(7)), (pod(2), veth(8))]);
        assert_eq!(modes_of(&mut modes, &found), [DeliveryMode::Peer; 2]);
        let mut pods = Pods {
            answering: BTreeSet::from([pod(1)]),
            ..Pods::default()
        };
        let start = Instant::now();
        assert!(run(&mut modes, &mut pods, start));
        assert_eq!(pods.sent, 1 + 3, "an unanswered one is repeated");
        assert_eq!(
            modes_of(&mut modes, &found),
            [DeliveryMode::Redirect, DeliveryMode::Peer]
        );
        assert_eq!(modes.unproven(), 1);
        assert_eq!(modes.take_fallen(), [pod(2)]);
        assert_eq!(modes.take_fallen(), [] as [IpAddr; 0], "told once");
        assert!(
            modes
                .reason(pod(2), DeliveryMode::Peer)
                .contains("did not answer")
        );

        pods.answering = BTreeSet::from([pod(2)]);
        assert!(run(&mut modes, &mut pods, start + RENEW * 2));
        assert_eq!(
            modes_of(&mut modes, &found),
            [DeliveryMode::Peer, DeliveryMode::Redirect],
            "proofs are renewed"
        );
    }

    #[test]
    fn another_interface_needs_another_proof() {
        let mut modes = Modes::new(Delivery::Redirect, true);
        let mut found = HashMap::from([(pod(1), veth(7))]);
        modes.choose(&found);
        let mut pods = Pods {
            answering: BTreeSet::from([pod(1)]),
            ..Pods::default()
        };
        run(&mut modes, &mut pods, Instant::now());
        assert_eq!(modes_of(&mut modes, &found), [DeliveryMode::Redirect]);
        found.insert(pod(1), veth(9));
        assert_eq!(modes_of(&mut modes, &found), [DeliveryMode::Peer]);
    }

    #[test]
    fn modes_that_were_chosen_wait_for_no_proof() {
        let found = HashMap::from([
            (pod(1), veth(7)),
            (
                pod(2),
                PodPort {
                    mode: DeliveryMode::Stack,
                    ifindex: 0,
                    ..veth(0)
                },
            ),
            (
                pod(3),
                PodPort {
                    mode: DeliveryMode::None,
                    ifindex: 0,
                    ..veth(0)
                },
            ),
        ]);
        for (delivery, veth_uplink, first) in [
            (Delivery::Auto, true, DeliveryMode::Peer),
            (Delivery::Peer, false, DeliveryMode::Peer),
            (Delivery::Stack, false, DeliveryMode::Stack),
        ] {
            let mut modes = Modes::<IpAddr>::new(delivery, veth_uplink);
            let expected = [first, DeliveryMode::Stack, DeliveryMode::None];
            assert_eq!(modes_of(&mut modes, &found), expected);
            let mut pods = Pods::default();
            assert!(
                !run(&mut modes, &mut pods, Instant::now()),
                "no mode depends on it"
            );
            assert_eq!(modes_of(&mut modes, &found), expected);
            let probed = (first == DeliveryMode::Peer).then_some(DeliveryMode::Peer);
            assert_eq!(pods.by, probed, "peer is probed by peer, stack not at all");
            assert_eq!(modes.unproven(), 0);
        }
        let mut modes = Modes::<IpAddr>::new(Delivery::Stack, false);
        assert_eq!(modes.choose(&found)[&pod(1)].ifindex, 0);
    }

    #[test]
    fn an_earlier_agents_proof_holds_until_probed() {
        let mut observed = Observed::default();
        let backend = abi::Backend {
            address: to_abi(pod(1)),
            mode: DeliveryMode::Redirect as u8,
            ifindex: 7,
            ..Default::default()
        };
        observed.backends.insert(0, backend);
        let found = HashMap::from([(pod(1), veth(7)), (pod(2), veth(8))]);
        let mut modes = Modes::new(Delivery::Auto, false);
        modes.adopt(&observed);
        assert_eq!(
            modes_of(&mut modes, &found),
            [DeliveryMode::Redirect, DeliveryMode::Peer]
        );
        assert!(run(&mut modes, &mut Pods::default(), Instant::now()));
        assert_eq!(modes_of(&mut modes, &found), [DeliveryMode::Peer; 2]);
    }

    #[test]
    fn a_thousand_pods_are_probed_a_few_at_a_time() {
        let mut modes = Modes::new(Delivery::Auto, false);
        let found = (0..200).map(|i| (pod(i), veth(u32::from(i) + 1))).collect();
        modes.choose(&found);
        let mut pods = Pods::default();
        modes.step(Instant::now(), &mut pods);
        assert_eq!(pods.sent, BURST);
        run(&mut modes, &mut pods, Instant::now());
        assert_eq!(pods.sent, 200 * 3);
    }
}
