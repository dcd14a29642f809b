//! ICMP errors as a router on the way would send them, and an ear for those that arrive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv,
    sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::{checksum, udp_v4};
use crate::netns::Namespace;

/// Sends to `vip` the ICMP error "packet too big, MTU 1400" about a packet from `vip` to `client`, as a router on the
/// way to the client would.
pub fn send_too_big(netns: &Namespace, vip: SocketAddr, client: SocketAddr) -> Result<()> {
    let (family, protocol, message) = match (vip.ip(), client.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let quoted = udp_v4((from, vip.port()), (to, client.port()), &[0; 32]);
            let mut message = vec![3, 4, 0, 0, 0, 0, 0x05, 0x78];
            message.extend(quoted);
            let sum = checksum(&message).to_be_bytes();
            message[2..4].copy_from_slice(&sum);
            (AddressFamily::Inet, SockProtocol::Icmp, message)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            // The kernel fills in the checksum of ICMPv6 (RFC 3542 §3.1).
            let mut message = vec![2, 0, 0, 0, 0, 0, 0x05, 0x78];
            message.extend([0x60, 0, 0, 0, 0, 40, 17, 64]);
            message.extend(from.octets());
            message.extend(to.octets());
            message.extend(vip.port().to_be_bytes());
            message.extend(client.port().to_be_bytes());
            message.extend([0, 40, 0xbe, 0xef]);
            message.extend([0; 32]);
            (AddressFamily::Inet6, SockProtocol::IcmpV6, message)
        }
        _ => bail!("{vip} and {client} are of different families"),
    };
    netns.enter(move || {
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        let sent = match vip.ip() {
            IpAddr::V4(address) => sendto(
                socket.as_raw_fd(),
                &message,
                &SockaddrIn::from(std::net::SocketAddrV4::new(address, 0)),
                MsgFlags::empty(),
            ),
            IpAddr::V6(address) => sendto(
                socket.as_raw_fd(),
                &message,
                &SockaddrIn6::from(std::net::SocketAddrV6::new(address, 0, 0, 0)),
                MsgFlags::empty(),
            ),
        };
        sent.context("cannot send the ICMP error")?;
        Ok(())
    })
}

/// A raw socket that hears the ICMP messages of a namespace.
#[derive(Debug)]
pub struct IcmpEar {
    socket: OwnedFd,
    is_v4: bool,
}

/// The packet that an ICMP "too big" quotes, as far as it names ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBig {
    /// Where the quoted packet came from.
    pub source: SocketAddr,
    /// Where it went.
    pub target: SocketAddr,
}

impl IcmpEar {
    /// Listens in `netns` from now on.
    pub fn open(netns: &Namespace, is_v4: bool) -> Result<Self> {
        let socket = netns.enter(move || {
            let (family, protocol) = if is_v4 {
                (AddressFamily::Inet, SockProtocol::Icmp)
            } else {
                (AddressFamily::Inet6, SockProtocol::IcmpV6)
            };
            let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            setsockopt(
                &socket,
                sockopt::ReceiveTimeout,
                &TimeVal::milliseconds(100),
            )?;
            Ok(socket)
        })?;
        Ok(Self { socket, is_v4 })
    }

    /// The next "too big" within `limit`.
    pub fn hear_too_big(&self, limit: Duration) -> Result<TooBig> {
        let deadline = Instant::now() + limit;
        let mut buffer = [0; 2048];
        while Instant::now() < deadline {
            let Ok(size) = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) else {
                continue;
            };
            if let Some(heard) = self.parse(&buffer[..size]) {
                return Ok(heard);
            }
        }
        bail!("no ICMP error within {limit:?}")
    }

    /// Raw IPv4 sockets give the IP header too, raw IPv6 sockets do not.
    fn parse(&self, packet: &[u8]) -> Option<TooBig> {
        let port = |at: usize, quoted: &[u8]| {
            Some(u16::from_be_bytes([*quoted.get(at)?, *quoted.get(at + 1)?]))
        };
        if self.is_v4 {
            let icmp = packet.get(20..)?;
            let quoted = icmp.get(8..).filter(|_| icmp.starts_with(&[3, 4]))?;
            let address = |at: usize| -> Option<Ipv4Addr> {
                Some(<[u8; 4]>::try_from(quoted.get(at..at + 4)?).ok()?.into())
            };
            Some(TooBig {
                source: (address(12)?, port(20, quoted)?).into(),
                target: (address(16)?, port(22, quoted)?).into(),
            })
        } else {
            let quoted = packet.get(8..).filter(|_| packet.starts_with(&[2, 0]))?;
            let address = |at: usize| -> Option<Ipv6Addr> {
                Some(<[u8; 16]>::try_from(quoted.get(at..at + 16)?).ok()?.into())
            };
            Some(TooBig {
                source: (address(8)?, port(40, quoted)?).into(),
                target: (address(24)?, port(42, quoted)?).into(),
            })
        }
    }
}
