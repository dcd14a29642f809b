//! From what the kernel says to a pod port. Pure: no sockets, no clock.

use std::{collections::HashMap, net::IpAddr};

use ingest_common::abi::DeliveryMode;

use super::LinkInfo;
use crate::reconcile::PodPort;

/// An entry of a neighbour table or of a bridge's FDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// `address` on the interface `ifindex` has `mac`.
    Resolved {
        ifindex: u32,
        address: IpAddr,
        mac: Mac,
    },
    /// The bridge `bridge` has learned `mac` at its port `ifindex`.
    Learned { bridge: u32, mac: Mac, ifindex: u32 },
}

pub(super) type Mac = [u8; 6];

/// How a packet to a pod would leave this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Not at all.
    None,
    /// It would not: the address is ours (a pod with hostNetwork).
    Local,
    /// By an interface, and by a gateway or straight to the pod.
    Out { ifindex: u32, gateway: bool },
}

/// What is the same for all pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Never pod ports: a veth uplink leads to other nodes, not into a pod.
    pub(super) uplinks: Vec<u32>,
    /// As [`PodPort::partial_checksums`].
    pub(super) partial_checksums: bool,
}

/// Interfaces, neighbours and FDBs at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) links: HashMap<u32, LinkInfo>,
    /// (interface, address) → MAC.
    pub(super) neighbours: HashMap<(u32, IpAddr), Mac>,
    /// (bridge, MAC) → port.
    pub(super) learned: HashMap<(u32, Mac), u32>,
}

/// What is known of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) port: PodPort,
    /// Whether its MAC or bridge port is missing: a packet to it would make the kernel ask.
    pub(super) unresolved: bool,
    /// The bridge that has not learned its MAC, which may be that of a pod that had the address before.
    pub(super) outdated: Option<u32>,
}

impl Snapshot {
    /// Adds an entry of a neighbour table or FDB.
    pub(super) fn learn(&mut self, entry: Neighbour) {
        match entry {
            Neighbour::Resolved {
                ifindex,
                address,
                mac,
            } => {
                self.neighbours.insert((ifindex, address), mac);
            }
            // A bridge lists its own and its ports' addresses too.
            Neighbour::Learned {
                bridge,
                mac,
                ifindex,
            } if ifindex != bridge => {
                self.learned.insert((bridge, mac), ifindex);
            }
            Neighbour::Learned { .. } => {}
        }
    }

    /// Whether `entry` says something new.
    pub(super) fn contradicts(&self, entry: &Neighbour) -> bool {
        match *entry {
            Neighbour::Resolved {
                ifindex,
                address,
                mac,
            } => self.neighbours.get(&(ifindex, address)) != Some(&mac),
            Neighbour::Learned {
                bridge,
                mac,
                ifindex,
            } => ifindex != bridge && self.learned.get(&(bridge, mac)) != Some(&ifindex),
        }
    }

    /// Keeps what `before` knew and nothing contradicts: entries of a quiet pod time out, the pod has not moved.
    pub(super) fn inherit(&mut self, before: &Self) {
        for (key, mac) in &before.neighbours {
            if self.links.contains_key(&key.0) {
                self.neighbours.entry(*key).or_insert(*mac);
            }
        }
        for (key, port) in &before.learned {
            if self
                .links
                .get(port)
                .is_some_and(|link| link.controller == Some(key.0))
            {
                self.learned.entry(*key).or_insert(*port);
            }
        }
    }

    /// Where `address` is, when packets to it take `route`.
    pub(super) fn decide(
        &self,
        address: IpAddr,
        route: Route,
        surroundings: &Surroundings,
    ) -> Decision {
        let by_stack = Decision {
            port: plain(DeliveryMode::Stack, surroundings),
            unresolved: false,
            outdated: None,
        };
        let (ifindex, gateway) = match route {
            Route::None => {
                return Decision {
                    port: plain(DeliveryMode::None, surroundings),
                    ..by_stack
                };
            }
            Route::Local => return by_stack,
            Route::Out { ifindex, gateway } => (ifindex, gateway),
        };
        // Behind a gateway, or an uplink, is another node.
        if gateway || surroundings.uplinks.contains(&ifindex) {
            return by_stack;
        }
        let Some(link) = self.links.get(&ifindex) else {
            return by_stack;
        };
        let mac = self.neighbours.get(&(ifindex, address));
        let port = if link.kind == "bridge" {
            match mac.and_then(|mac| self.learned.get(&(ifindex, *mac))) {
                Some(port) => self.links.get(port),
                None => {
                    return Decision {
                        unresolved: true,
                        outdated: mac.map(|_| ifindex),
                        ..by_stack
                    };
                }
            }
        } else {
            Some(link)
        };
        match port {
            Some(port) if is_pod_port(port) && !surroundings.uplinks.contains(&port.ifindex) => {
                Decision {
                    port: PodPort {
                        mode: DeliveryMode::Peer,
                        ifindex: port.ifindex,
                        pod_mac: mac.copied().unwrap_or_default(),
                        port_mac: port.mac.unwrap_or_default(),
                        partial_checksums: surroundings.partial_checksums,
                    },
                    // Interfaces without MACs have no neighbours either.
                    unresolved: mac.is_none() && port.mac.is_some(),
                    outdated: None,
                }
            }
            _ => by_stack,
        }
    }
}

/// Whether packets can be handed to the other end of this interface by `bpf_redirect_peer`.
fn is_pod_port(link: &LinkInfo) -> bool {
    matches!(link.kind.as_str(), "veth" | "netkit")
}

/// A delivery that needs no interface.
pub(super) fn plain(mode: DeliveryMode, surroundings: &Surroundings) -> PodPort {
    PodPort {
        mode,
        ifindex: 0,
        pod_mac: [0; 6],
        port_mac: [0; 6],
        partial_checksums: surroundings.partial_checksums,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
