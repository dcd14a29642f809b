//! Client, node and pod, the object under test beside the reference programs, and switching between ways.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result};
use aya::programs::links::Link as _;
use aya::programs::tc::SchedClassifierLinkId;
use aya::programs::xdp::XdpLinkId;
use aya::programs::{TcAttachType, XdpMode};
use ingest_common::abi::{DeliveryMode, Path, SERVICE_SRT, Service, VLAN_NONE, program};
use ingest_tests::command;
use ingest_tests::netns::{CLIENT_V4, Layout, NFT_VIP_V4, Namespace, Topology, UPLINK, VIP_V4};
use nix::sched::{CloneFlags, setns};

use crate::frames::{CLIENT_PORT, PORT};
use crate::real::Real;
use crate::reference::Reference;

/// Sessions of each way.
pub(super) const FLOWS: u16 = 64;

/// How a packet gets to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It does not: XDP drops it at the node's interface.
    Drop,
    /// Ours.
    Redirect,
    /// Ours.
    Peer,
    /// Ours.
    Stack,
    /// The minimal program: DNAT and redirect.
    Minimal,
    /// The node routes it; it is addressed to the pod.
    Routing,
    /// nftables, as kube-proxy sets it up, with 500 services.
    Nftables,
}

impl Way {
    /// Every way.
    pub(super) const ALL: [Self; 7] = [
        Self::Drop,
        Self::Redirect,
        Self::Peer,
        Self::Stack,
        Self::Minimal,
        Self::Routing,
        Self::Nftables,
    ];

    /// The word in the results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Redirect => "redirect",
            Self::Peer => "peer",
            Self::Stack => "stack",
            Self::Minimal => "minimal",
            Self::Routing => "routing",
            Self::Nftables => "nftables",
        }
    }

    /// Slot, which is also the service id, and mode of our ways.
    fn slot(self) -> Option<(u16, DeliveryMode)> {
        match self {
            Self::Redirect => Some((2, DeliveryMode::Redirect)),
            Self::Peer => Some((3, DeliveryMode::Peer)),
            Self::Stack => Some((4, DeliveryMode::Stack)),
            _ => None,
        }
    }
}

/// What [`Stage::set`] attached.
pub(super) struct Set {
    way: Way,
    xdp: Option<XdpLinkId>,
    tc: Option<SchedClassifierLinkId>,
}

/// An interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    pub(super) ifindex: u32,
    pub(super) mac: [u8; 6],
}

/// The namespaces and programs.
pub(super) struct Stage {
    real: Real,
    reference: Reference,
    topology: Topology,
    home: File,
    pub(super) client: Port,
    pub(super) uplink: Port,
}

impl Stage {
    /// Builds it all, with nothing attached yet.
    pub(super) fn build() -> Result<Self> {
        let topology = Topology::with(Layout {
            pods: 1,
            ..Layout::default()
        })?;
        let pod = topology.pods.first().context("there is one pod")?;
        let client = port(&topology.client, "eth0")?;
        let uplink = port(&topology.node, UPLINK)?;
        let pod_port = port(&topology.node, &pod.name)?;
        let pod_end = port(&pod.netns, "eth0")?;
        // Nobody is asked for an address meanwhile.
        topology.node.shell(&format!(
            "ip neigh replace {} lladdr {} nud permanent dev {}",
            pod.v4,
            text(pod_end.mac),
            pod.name
        ))?;
        topology.client.shell(&format!(
            "ip neigh replace 10.1.0.1 lladdr {} nud permanent dev eth0",
            text(uplink.mac)
        ))?;
        let rules = format!(
            "table ip bench {{\n counter arrived {{ }}\n chain in {{\n  type filter hook prerouting priority raw;\n  \
             udp dport {PORT} counter name arrived drop\n }}\n}}\n"
        );
        nft(&pod.netns, &rules)?;
        let pod_socket = SocketAddrV4::new(pod.v4, PORT);
        let mut stage = Self {
            real: Real::load(4096)?,
            reference: Reference::load(4096)?,
            home: File::open("/proc/self/ns/net").context("cannot open our own namespace")?,
            topology,
            client,
            uplink,
        };
        stage.fill(pod_socket, pod_port, pod_end)?;
        Ok(stage)
    }

    fn fill(&mut self, pod: SocketAddrV4, port: Port, end: Port) -> Result<()> {
        let node = open(&self.topology.node)?;
        let (real, reference, uplink) = (&mut self.real, &mut self.reference, self.uplink);
        let client_mac = self.client.mac;
        within(&node, &self.home, || {
            let macs = (end.mac, port.mac);
            for way in Way::ALL {
                let Some((slot, mode)) = way.slot() else {
                    continue;
                };
                real.backend(slot, pod.into(), mode, macs, port.ifindex)?;
                let service = Service {
                    id: slot,
                    pool: slot,
                    flags: SERVICE_SRT,
                };
                real.service(vip(way, *pod.ip()).into(), service)?;
                let path = Path {
                    ifindex: uplink.ifindex,
                    client_mac,
                    node_mac: uplink.mac,
                    vlan_inner: VLAN_NONE,
                    ..Path::default()
                };
                for client in clients() {
                    real.flow(client.into(), slot, slot, path)?;
                }
            }
            reference.minimal_backend(0, pod, macs, port.ifindex)?;
            for client in clients() {
                reference.minimal_flow(client, vip(Way::Minimal, *pod.ip()), 0)?;
            }
            Ok(())
        })
    }

    /// What packets of this way are addressed to.
    pub(super) fn destination(&self, way: Way) -> SocketAddrV4 {
        let pod = self.topology.pods.first().map_or(VIP_V4, |pod| pod.v4);
        vip(way, pod)
    }

    /// Attaches what the way needs. Native frames enter the node only where a program makes the interface poll:
    /// there the kernel's own ways carry an empty one.
    pub(super) fn set(&mut self, way: Way, needs_napi: bool) -> Result<Set> {
        if way == Way::Nftables {
            self.nftables()?;
        }
        let node = open(&self.topology.node)?;
        let (real, reference) = (&mut self.real, &mut self.reference);
        within(&node, &self.home, || {
            let mut set = Set {
                way,
                xdp: None,
                tc: None,
            };
            let xdp = match way {
                Way::Drop => Some(reference.xdp("xdp_drop")?),
                Way::Minimal => Some(reference.xdp("xdp_minimal")?),
                Way::Routing | Way::Nftables if needs_napi => Some(reference.xdp("xdp_empty")?),
                Way::Routing | Way::Nftables => None,
                Way::Redirect | Way::Peer | Way::Stack => {
                    let tc = real.tc(program::TC_UPLINK_IN)?;
                    let link = tc.attach(UPLINK, TcAttachType::Ingress);
                    set.tc = Some(link.context("cannot attach to tc of the uplink")?);
                    Some(real.xdp(program::XDP_INGEST)?)
                }
            };
            if let Some(xdp) = xdp {
                let link = xdp.attach(UPLINK, XdpMode::Driver);
                set.xdp = Some(link.context("cannot attach to XDP of the uplink")?);
            }
            Ok(set)
        })
    }

    /// Takes away what [`Self::set`] attached.
    pub(super) fn unset(&mut self, set: Set) -> Result<()> {
        if let Some(link) = set.xdp {
            let xdp = match set.way {
                Way::Drop => self.reference.xdp("xdp_drop")?,
                Way::Minimal => self.reference.xdp("xdp_minimal")?,
                Way::Routing | Way::Nftables => self.reference.xdp("xdp_empty")?,
                _ => self.real.xdp(program::XDP_INGEST)?,
            };
            xdp.take_link(link)?.detach()?;
        }
        if let Some(link) = set.tc {
            let tc = self.real.tc(program::TC_UPLINK_IN)?;
            tc.take_link(link)?.detach()?;
        }
        if set.way == Way::Nftables {
            self.topology.node.shell("nft delete table ip bench")?;
        }
        Ok(())
    }

    /// 500 other services in the map; one endpoint each, conntrack for all.
    fn nftables(&self) -> Result<()> {
        use std::fmt::Write as _;
        let destination = self.destination(Way::Nftables);
        let pod = self.destination(Way::Routing);
        let mut rules = String::from("table ip bench {\n");
        writeln!(
            rules,
            " chain endpoint {{ meta l4proto udp dnat to {pod}; }}"
        )?;
        let mut elements = format!("{} . udp . {} : goto endpoint", destination.ip(), PORT);
        for index in 0..500_u16 {
            let [high, low] = index.to_be_bytes();
            write!(
                elements,
                ", 198.18.{high}.{low} . udp . {PORT} : goto endpoint"
            )?;
        }
        writeln!(
            rules,
            " map services {{ type ipv4_addr . inet_proto . inet_service : verdict\n  elements = {{ {elements} }} }}"
        )?;
        rules.push_str(
            " chain services { type nat hook prerouting priority dstnat;\n  ip daddr . meta l4proto . th dport vmap @services\n }\n}\n",
        );
        nft(&self.topology.node, &rules)
    }

    /// Packets that have come to the pod's IP stack.
    pub(super) fn arrived(&self) -> Result<u64> {
        let pod = self.topology.pods.first().context("there is one pod")?;
        let text = pod.netns.shell("nft list counter ip bench arrived")?;
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "packets");
        words
            .nth(1)
            .and_then(|count| count.parse().ok())
            .with_context(|| format!("no packet count in `{text}`"))
    }

    /// Runs `run` in the client's namespace.
    pub(super) fn in_client<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        within(&open(&self.topology.client)?, &self.home, run)
    }

    /// Fails where a session's packets were not seen in order.
    pub(super) fn expect_in_order(&mut self) -> Result<()> {
        for way in Way::ALL {
            if let Some((slot, _)) = way.slot() {
                for client in clients() {
                    self.real.expect_in_order(client.into(), slot)?;
                }
            }
        }
        Ok(())
    }
}

/// Where a way's packets go: a service each, so that their sessions do not meet. The kernel's ways, and every
/// sender's, have the same packets.
fn vip(way: Way, pod: Ipv4Addr) -> SocketAddrV4 {
    let address = match way {
        Way::Nftables => NFT_VIP_V4,
        Way::Routing => pod,
        Way::Drop | Way::Minimal | Way::Redirect => VIP_V4,
        Way::Peer => Ipv4Addr::new(203, 0, 113, 11),
        Way::Stack => Ipv4Addr::new(203, 0, 113, 12),
    };
    SocketAddrV4::new(address, PORT)
}

/// Every client: those of the frames, then those of the sockets.
fn clients() -> impl Iterator<Item = SocketAddrV4> {
    (0..2 * FLOWS).map(|index| SocketAddrV4::new(CLIENT_V4, CLIENT_PORT + index))
}

/// Finds an interface.
fn port(namespace: &Namespace, name: &str) -> Result<Port> {
    let text = namespace.shell(&format!("ip -o link show dev {name}"))?;
    let line = text
        .lines()
        .find(|line| line.contains("link/ether"))
        .with_context(|| format!("no MAC of {name}"))?;
    let ifindex = line
        .split(':')
        .next()
        .and_then(|index| index.trim().parse().ok())
        .with_context(|| format!("no index of {name}"))?;
    let mac = line
        .split_whitespace()
        .skip_while(|word| *word != "link/ether")
        .nth(1)
        .with_context(|| format!("no MAC of {name}"))?;
    let mut bytes = [0; 6];
    for (byte, digits) in bytes.iter_mut().zip(mac.split(':')) {
        *byte = u8::from_str_radix(digits, 16).with_context(|| format!("MAC {mac}"))?;
    }
    Ok(Port {
        ifindex,
        mac: bytes,
    })
}

/// A MAC as `ip` takes it.
fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn nft(namespace: &Namespace, rules: &str) -> Result<()> {
    let mut nft = namespace.command("nft");
    nft.args(["-f", "-"]);
    command::feed(nft, rules).context("nftables refused the rules")
}

fn open(namespace: &Namespace) -> Result<File> {
    let path = namespace.path();
    File::open(&path).with_context(|| format!("cannot open {}", path.display()))
}

/// Runs `run` in `namespace` and comes back. This process has one thread: nobody else moves.
fn within<T>(namespace: &File, home: &File, run: impl FnOnce() -> Result<T>) -> Result<T> {
    setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter a namespace")?;
    let result = run();
    setns(home, CloneFlags::CLONE_NEWNET).context("cannot come back to our namespace")?;
    result
}
