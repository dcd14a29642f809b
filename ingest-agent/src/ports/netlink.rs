//! The questions to the kernel, and its answers in our words.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
};

use futures::{StreamExt, TryStreamExt};
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_core::ErrorMessage,
    packet_route::{
        AddressFamily,
        link::{LinkAttribute, LinkFlags, LinkInfo as Info, LinkMessage, LinkXdp, XdpAttached},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
        route::{RouteAttribute, RouteMessage, RouteType},
    },
};

use super::{
    Error, LinkInfo, Xdp,
    decide::{Mac, Neighbour, Route},
};

/// A connection for questions. Ends with its last clone.
#[derive(Clone, Debug)]
pub(super) struct Netlink(Handle);

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn connect() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// The interface of this name.
    pub(super) async fn link_by_name(&self, name: &str) -> Result<Option<LinkInfo>, Error> {
        // The kernel calls longer names invalid rather than unknown.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Ok(None);
        }
        let mut answers = self.0.link().get().match_name(name.to_owned()).execute();
        match answers.try_next().await {
            Ok(answer) => Ok(answer.as_ref().map(link_info)),
            Err(rtnetlink::Error::NetlinkError(error)) if is(&error, &[libc::ENODEV]) => Ok(None),
            Err(source) => Err(failed(format!("interface {name}"), source)),
        }
    }

    /// Every interface.
    pub(super) async fn links(&self) -> Result<Vec<LinkInfo>, Error> {
        let answers = self.0.link().get().execute();
        answers
            .map_ok(|message| link_info(&message))
            .try_collect()
            .await
            .map_err(|source| failed("interfaces", source))
    }

    /// Every neighbour, or with [`AddressFamily::Bridge`] the FDBs of all bridges.
    pub(super) async fn neighbours(&self, family: AddressFamily) -> Result<Vec<Neighbour>, Error> {
        let answers = self
            .0
            .neighbours()
            .get()
            .set_address_family(family)
            .execute();
        answers
            .try_filter_map(|message| async move { Ok(neighbour(&message)) })
            .try_collect()
            .await
            .map_err(|source| failed("neighbours", source))
    }

    /// Indexes of the interfaces that default routes lead out by.
    pub(super) async fn default_routes(&self) -> Result<BTreeSet<u32>, Error> {
        let questions = [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ];
        let mut indexes = BTreeSet::new();
        for question in questions {
            let answers = self.0.route().get(question).execute();
            let routes: Vec<RouteMessage> = answers
                .try_collect()
                .await
                .map_err(|source| failed("routes", source))?;
            let defaults = routes
                .iter()
                .filter(|r| r.header.destination_prefix_length == 0);
            indexes.extend(defaults.filter_map(|r| match route(r) {
                Route::Out { ifindex, .. } => Some(ifindex),
                _ => None,
            }));
        }
        Ok(indexes)
    }

    /// Neighbours that the kernel has found by itself: interface, address.
    pub(super) async fn found_neighbours(&self) -> Result<HashSet<(u32, IpAddr)>, Error> {
        let answers = self.0.neighbours().get().execute();
        answers
            .try_filter_map(|message| async move {
                let given = matches!(
                    message.header.state,
                    NeighbourState::Permanent | NeighbourState::Noarp
                );
                Ok(match neighbour(&message).filter(|_| !given) {
                    Some(Neighbour::Resolved {
                        ifindex, address, ..
                    }) => Some((ifindex, address)),
                    _ => None,
                })
            })
            .try_collect()
            .await
            .map_err(|source| failed("neighbours", source))
    }

    /// Makes the kernel forget the MAC of `address`, so that it asks everybody instead of who had it.
    pub(super) async fn forget_neighbour(
        &self,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<(), Error> {
        let mut entry = NeighbourMessage::default();
        entry.header.ifindex = ifindex;
        let (family, destination) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
        };
        entry.header.family = family;
        entry
            .attributes
            .push(NeighbourAttribute::Destination(destination));
        match self.0.neighbours().del(entry).execute().await {
            Ok(()) => Ok(()),
            Err(rtnetlink::Error::NetlinkError(error)) if is(&error, &[libc::ENOENT]) => Ok(()),
            Err(source) => Err(failed(
                format!("the removal of neighbour {address}"),
                source,
            )),
        }
    }

    /// How a packet to `address` would leave.
    pub(super) async fn route(&self, address: IpAddr) -> Result<Route, Error> {
        let question = match address {
            IpAddr::V4(address) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(address, 32)
                .build(),
            IpAddr::V6(address) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(address, 128)
                .build(),
        };
        let mut answers = Box::pin(self.0.route().get(question).execute());
        match answers.next().await {
            None => Ok(Route::None),
            Some(Ok(message)) => Ok(route(&message)),
            // None at all; unreachable, prohibit and blackhole routes.
            Some(Err(rtnetlink::Error::NetlinkError(error)))
                if is(
                    &error,
                    &[
                        libc::ENETUNREACH,
                        libc::EHOSTUNREACH,
                        libc::EACCES,
                        libc::EINVAL,
                    ],
                ) =>
            {
                Ok(Route::None)
            }
            Some(Err(source)) => Err(failed(format!("the route to {address}"), source)),
        }
    }
}

fn is(error: &ErrorMessage, codes: &[i32]) -> bool {
    codes.contains(&error.raw_code().abs())
}

pub(super) fn failed(what: impl Into<String>, source: rtnetlink::Error) -> Error {
    Error::Query {
        what: what.into(),
        source: Box::new(source),
    }
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok()
}

/// An interface in our words.
pub(super) fn link_info(message: &LinkMessage) -> LinkInfo {
    let mut info = LinkInfo {
        name: String::new(),
        ifindex: message.header.index,
        kind: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        controller: None,
        xdp: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => info.name.clone_from(name),
            LinkAttribute::Address(bytes) => info.mac = mac(bytes),
            LinkAttribute::Mtu(mtu) => info.mtu = *mtu,
            LinkAttribute::Controller(index) => info.controller = Some(*index),
            LinkAttribute::LinkInfo(parts) => {
                for part in parts {
                    if let Info::Kind(kind) = part {
                        info.kind = kind.to_string();
                    }
                }
            }
            LinkAttribute::Xdp(parts) => info.xdp = xdp(parts),
            _ => {}
        }
    }
    info
}

fn xdp(parts: &[LinkXdp]) -> Option<Xdp> {
    let program = parts.iter().find_map(|part| match part {
        // Set where one program is attached; with several, each has its own attribute.
        LinkXdp::ProgId(id)
        | LinkXdp::DrvProgId(id)
        | LinkXdp::SkbProgId(id)
        | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    })?;
    let generic = parts
        .iter()
        .any(|part| matches!(part, LinkXdp::Attached(XdpAttached::SocketBuffer)));
    Some(Xdp { program, generic })
}

/// A neighbour in our words; `None` where it has no MAC (yet, or any more).
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let ifindex = message.header.ifindex;
    let mac = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes),
            _ => None,
        })?;
    if message.header.family == AddressFamily::Bridge {
        return message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                NeighbourAttribute::Controller(bridge) => Some(Neighbour::Learned {
                    bridge: *bridge,
                    mac,
                    ifindex,
                }),
                _ => None,
            });
    }
    if matches!(
        message.header.state,
        NeighbourState::Failed | NeighbourState::Incomplete
    ) {
        return None;
    }
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                Some(Neighbour::Resolved {
                    ifindex,
                    address: (*address).into(),
                    mac,
                })
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                Some(Neighbour::Resolved {
                    ifindex,
                    address: (*address).into(),
                    mac,
                })
            }
            _ => None,
        })
}

fn route(message: &RouteMessage) -> Route {
    match message.header.kind {
        RouteType::Local => Route::Local,
        RouteType::Unicast => {
            let mut out = None;
            let mut gateway = false;
            for attribute in &message.attributes {
                match attribute {
                    RouteAttribute::Oif(index) => out = Some(*index),
                    RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = true,
                    _ => {}
                }
            }
            out.map_or(Route::None, |ifindex| Route::Out { ifindex, gateway })
        }
        _ => Route::None,
    }
}
