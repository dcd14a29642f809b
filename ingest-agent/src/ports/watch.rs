//! Keeps the pod ports of the wanted addresses up to date.
//!
//! Changes are gathered for some milliseconds, then everything is asked anew: three dumps and a route each. Only a
//! deleted interface does not wait: its pods have no port from that moment on.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::Pin,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, channel::mpsc::UnboundedReceiver, stream};
use ingest_common::abi::DeliveryMode;
use ipnet::IpNet;
use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteAddress, RouteAttribute, RouteMessage},
    },
    sys::{AsyncSocket, SocketAddr as NetlinkAddress},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Error,
    decide::{Decision, Neighbour, Snapshot, Surroundings, plain},
    netlink::{self, Netlink},
};
use crate::reconcile::PodPort;

/// Changes come in bursts: a new pod is a link, its addresses, routes and neighbours.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Pods without a MAC or bridge port are asked again this often.
const RETRY: Duration = Duration::from_secs(1);
/// In case a change was never told.
const RESYNC: Duration = Duration::from_secs(30);
/// Route questions under way at a time.
const PARALLEL: usize = 64;
/// Room for what the kernel tells while we are busy.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The discard service: a datagram there disturbs nobody, and makes the kernel resolve its receiver.
const DISCARD: u16 = 9;

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, NetlinkAddress)>;
type Lookup = Pin<Box<dyn Future<Output = Result<Answers, Error>> + Send>>;

/// What one round of questions gave.
struct Answers {
    snapshot: Snapshot,
    decisions: HashMap<IpAddr, Decision>,
}

pub(super) struct Watcher {
    addresses: watch::Receiver<BTreeSet<IpAddr>>,
    publish: watch::Sender<HashMap<IpAddr, PodPort>>,
    surroundings: Surroundings,
    netlink: Netlink,
    messages: Messages,
    wanted: BTreeSet<IpAddr>,
    snapshot: Snapshot,
    /// Addresses whose pod port was deleted: no other delivery is believed until there is a port again.
    gone: HashSet<IpAddr>,
    /// Interfaces deleted since the running lookup began.
    deleted: HashSet<u32>,
    lookup: Option<Lookup>,
    /// When to look up next.
    due: Instant,
}

impl Watcher {
    pub(super) fn new(
        addresses: watch::Receiver<BTreeSet<IpAddr>>,
        publish: watch::Sender<HashMap<IpAddr, PodPort>>,
        surroundings: Surroundings,
    ) -> Result<Self, Error> {
        let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])
        .map_err(Error::Socket)?;
        let socket = connection.socket_mut().socket_mut();
        socket
            .set_rx_buf_sz(RECEIVE_BUFFER)
            .map_err(Error::Socket)?;
        tokio::spawn(connection);
        Ok(Self {
            addresses,
            publish,
            surroundings,
            netlink: Netlink::connect()?,
            messages,
            wanted: BTreeSet::new(),
            snapshot: Snapshot::default(),
            gone: HashSet::new(),
            deleted: HashSet::new(),
            lookup: None,
            due: Instant::now(),
        })
    }

    /// Until nobody wants addresses any more.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        self.want();
        loop {
            if self.lookup.is_none() && self.due <= Instant::now() {
                self.begin();
            }
            let idle = self.lookup.is_none();
            let lookup = async {
                match self.lookup.as_mut() {
                    Some(lookup) => lookup.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.addresses.changed() => match changed {
                    Ok(()) => self.want(),
                    Err(_) => return Ok(()),
                },
                message = self.messages.next() => match message {
                    Some((message, _)) => self.hear(&message.payload),
                    None => return Err(Error::Closed),
                },
                answers = lookup => {
                    self.lookup = None;
                    self.finish(answers?);
                }
                () = sleep_until(self.due), if idle => {}
            }
        }
    }

    /// Takes over the wanted addresses.
    fn want(&mut self) {
        self.wanted.clone_from(&self.addresses.borrow_and_update());
        self.gone.retain(|address| self.wanted.contains(address));
        self.due = Instant::now();
    }

    fn soon(&mut self) {
        self.due = self.due.min(Instant::now() + DEBOUNCE);
    }

    /// Begins to ask anew.
    fn begin(&mut self) {
        self.due = Instant::now() + RESYNC;
        self.deleted.clear();
        let (netlink, wanted) = (self.netlink.clone(), self.wanted.clone());
        let (before, surroundings) = (self.snapshot.clone(), self.surroundings.clone());
        let gone = self.gone.clone();
        self.lookup = Some(Box::pin(look_up(
            netlink,
            wanted,
            before,
            surroundings,
            gone,
        )));
    }

    fn finish(&mut self, answers: Answers) {
        self.snapshot = answers.snapshot;
        for ifindex in &self.deleted {
            self.snapshot.links.remove(ifindex);
        }
        let mut ports = HashMap::with_capacity(answers.decisions.len());
        let mut unresolved = Vec::new();
        for (address, decision) in answers.decisions {
            let mut port = decision.port;
            if self.deleted.contains(&port.ifindex) {
                self.gone.insert(address);
                port = plain(DeliveryMode::None, &self.surroundings);
            } else if port.ifindex != 0 {
                self.gone.remove(&address);
            } else if self.gone.contains(&address) {
                // Its own route went with it, and what is left leads elsewhere.
                port = plain(DeliveryMode::None, &self.surroundings);
            }
            if decision.unresolved {
                unresolved.push(address);
            }
            ports.insert(address, port);
        }
        if !unresolved.is_empty() {
            self.due = self.due.min(Instant::now() + RETRY);
            nudge(&unresolved);
        }
        self.publish.send_if_modified(|published| {
            let modified = *published != ports;
            *published = ports;
            modified
        });
    }

    /// Judges what the kernel tells: most of it changes nothing for us.
    fn hear(&mut self, payload: &NetlinkPayload<RouteNetlinkMessage>) {
        let NetlinkPayload::InnerMessage(message) = payload else {
            if matches!(payload, NetlinkPayload::Overrun(_)) {
                tracing::debug!("missed changes of the network: asking for everything");
                self.soon();
            }
            return;
        };
        let relevant = match message {
            // A bridge tells by the same messages, in its own family, of ports that come and go.
            RouteNetlinkMessage::DelLink(link)
                if link.header.interface_family == AddressFamily::Unspec =>
            {
                self.lose(link.header.index);
                true
            }
            RouteNetlinkMessage::NewLink(link)
                if link.header.interface_family == AddressFamily::Unspec =>
            {
                let info = netlink::link_info(link);
                let known = self.snapshot.links.get(&info.ifindex);
                // XDP programs come and go without changing who is where.
                known.is_none_or(|known| {
                    *known
                        != super::LinkInfo {
                            xdp: known.xdp,
                            ..info.clone()
                        }
                })
            }
            RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_) => true,
            RouteNetlinkMessage::NewNeighbour(message) => netlink::neighbour(message)
                .is_some_and(|entry| self.is_wanted(&entry) && self.snapshot.contradicts(&entry)),
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                let covered = destination(route);
                self.wanted
                    .iter()
                    .any(|address| covered.is_none_or(|net| net.contains(address)))
            }
            _ => false,
        };
        if relevant {
            self.soon();
        }
    }

    fn is_wanted(&self, entry: &Neighbour) -> bool {
        match entry {
            Neighbour::Resolved { address, .. } => self.wanted.contains(address),
            Neighbour::Learned { bridge, mac, .. } => {
                self.snapshot
                    .neighbours
                    .iter()
                    .any(|((ifindex, address), known)| {
                        ifindex == bridge && known == mac && self.wanted.contains(address)
                    })
            }
        }
    }

    /// The interface is gone, and the pods behind it with it: said at once.
    fn lose(&mut self, ifindex: u32) {
        self.deleted.insert(ifindex);
        self.snapshot.links.remove(&ifindex);
        let Self {
            publish,
            gone,
            surroundings,
            ..
        } = self;
        publish.send_if_modified(|ports| {
            let mut modified = false;
            for (address, port) in ports.iter_mut().filter(|(_, port)| port.ifindex == ifindex) {
                gone.insert(*address);
                *port = plain(DeliveryMode::None, surroundings);
                modified = true;
            }
            modified
        });
    }
}

async fn look_up(
    netlink: Netlink,
    wanted: BTreeSet<IpAddr>,
    before: Snapshot,
    surroundings: Surroundings,
    gone: HashSet<IpAddr>,
) -> Result<Answers, Error> {
    let mut snapshot = Snapshot::default();
    let links = netlink.links().await?;
    let bridges = links.iter().any(|link| link.kind == "bridge");
    snapshot.links = links.into_iter().map(|link| (link.ifindex, link)).collect();
    for entry in netlink.neighbours(AddressFamily::Unspec).await? {
        snapshot.learn(entry);
    }
    if bridges {
        for entry in netlink.neighbours(AddressFamily::Bridge).await? {
            snapshot.learn(entry);
        }
    }
    snapshot.inherit(&before);
    let routes: Vec<_> = stream::iter(wanted)
        .map(|address| {
            let netlink = &netlink;
            async move { Ok::<_, Error>((address, netlink.route(address).await?)) }
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    let decisions: HashMap<IpAddr, Decision> = routes
        .into_iter()
        .map(|(address, route)| (address, snapshot.decide(address, route, &surroundings)))
        .collect();
    let outdated: Vec<(u32, IpAddr)> = decisions
        .iter()
        .filter(|(address, _)| gone.contains(address))
        .filter_map(|(address, decision)| Some((decision.outdated?, *address)))
        .collect();
    if !outdated.is_empty() {
        forget(&netlink, &outdated).await?;
    }
    Ok(Answers {
        snapshot,
        decisions,
    })
}

/// Has the kernel ask everybody for pods that are gone: it still believes in their MACs, for many seconds, and would
/// not find who has their addresses next.
async fn forget(netlink: &Netlink, neighbours: &[(u32, IpAddr)]) -> Result<(), Error> {
    let found = netlink.found_neighbours().await?;
    for (ifindex, address) in neighbours.iter().filter(|entry| found.contains(entry)) {
        if let Err(error) = netlink.forget_neighbour(*ifindex, *address).await {
            tracing::debug!(%address, %error, "a pod's MAC may be outdated for some seconds");
        }
    }
    Ok(())
}

/// The network a route leads to; `None` for a default route of either family, or one we cannot read.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                Some(IpAddr::from(*address))
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                Some(IpAddr::from(*address))
            }
            _ => None,
        })?;
    IpNet::new(address, route.header.destination_prefix_length).ok()
}

/// Sends an empty datagram to each, so that the kernel asks the link for its MAC. The answer comes as a change.
fn nudge(addresses: &[IpAddr]) {
    for (unspecified, v4) in [
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), true),
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), false),
    ] {
        let mut family = addresses
            .iter()
            .filter(|address| address.is_ipv4() == v4)
            .peekable();
        if family.peek().is_none() {
            continue;
        }
        let sent = UdpSocket::bind(SocketAddr::new(unspecified, 0)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            // One that cannot be reached must not keep the others from being asked.
            family
                .map(|address| {
                    socket
                        .send_to(&[], SocketAddr::new(*address, DISCARD))
                        .map(drop)
                })
                .fold(Ok(()), Result::and)
        });
        if let Err(error) = sent {
            tracing::debug!(%error, "asking for a pod's MAC failed, trying again later");
        }
    }
}
