//! Packets built by hand, sent from a namespace as no well-behaved host would: floods, damaged handshakes, ICMP errors.
//!
//! * [`caller`] and [`pod`]: both ends of an SRT handshake, packet by packet.
//! * [`icmp`]: ICMP errors, sent and heard.

pub mod caller;
pub mod icmp;
pub mod pod;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::netns::Namespace;

/// An SRT INDUCTION request: what a caller sends first, 64 bytes (SRT draft §3.2.1).
pub fn induction(caller_id: u32) -> Vec<u8> {
    let words: [u32; 16] = [
        0x8000_0000,
        0,
        0,
        0,
        4,           // version
        2,           // UDT_DGRAM
        0x1234_5678, // initial sequence number
        1500,        // MTU
        8192,        // flow window
        1,           // INDUCTION
        caller_id,
        0, // cookie
        0x0100_007f,
        0,
        0,
        0,
    ];
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// An IPv4 and UDP packet without UDP checksum.
fn udp_v4(source: (Ipv4Addr, u16), target: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = 28 + payload.len();
    let mut packet = Vec::with_capacity(length);
    packet.extend([0x45, 0]);
    packet.extend((length as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(source.0.octets());
    packet.extend(target.0.octets());
    packet.extend(source.1.to_be_bytes());
    packet.extend(target.1.to_be_bytes());
    packet.extend((length as u16 - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// The same with a UDP checksum, of the packet as it should be: where `flip` is a bit of the UDP payload, it is flipped after.
fn summed_udp_v4(
    source: (Ipv4Addr, u16),
    target: (Ipv4Addr, u16),
    payload: &[u8],
    flip: Option<usize>,
) -> Vec<u8> {
    let mut packet = udp_v4(source, target, payload);
    let length = 8 + payload.len() as u16;
    let mut summed = Vec::with_capacity(packet.len());
    summed.extend(&packet[12..20]);
    summed.extend([0, 17]);
    summed.extend(length.to_be_bytes());
    summed.extend(&packet[20..]);
    let sum = match checksum(&summed) {
        0 => 0xffff,
        sum => sum,
    };
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    if let Some(bit) = flip {
        packet[28 + bit / 8] ^= 0x80 >> (bit % 8);
    }
    packet
}

/// Sends whole IPv4 packets, from any address.
#[derive(Debug)]
pub struct RawSender {
    socket: OwnedFd,
}

impl RawSender {
    /// Opens one in `netns`.
    pub fn open(netns: &Namespace) -> Result<Self> {
        let socket = netns.enter(|| {
            socket(
                AddressFamily::Inet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::Raw,
            )
            .context("cannot open a raw socket")
        })?;
        Ok(Self { socket })
    }

    /// Sends `payload` with the bit `flip` of it (from 0) flipped, and the checksum that it had before.
    pub fn send_flipped(
        &self,
        source: SocketAddrV4,
        target: SocketAddrV4,
        payload: &[u8],
        flip: Option<usize>,
    ) -> Result<()> {
        let ends = ((*source.ip(), source.port()), (*target.ip(), target.port()));
        self.send(&summed_udp_v4(ends.0, ends.1, payload, flip), target)
    }

    fn send(&self, packet: &[u8], target: SocketAddrV4) -> Result<()> {
        let address = SockaddrIn::from(SocketAddrV4::new(*target.ip(), 0));
        sendto(self.socket.as_raw_fd(), packet, &address, MsgFlags::empty())
            .context("cannot send a spoofed packet")?;
        Ok(())
    }
}

/// Sends `rate` packets a second for `span` from `netns` to `target`; `make` gives the source and the payload of each
/// number. Returns how many were sent.
pub fn flood(
    netns: &Namespace,
    target: SocketAddrV4,
    rate: u32,
    span: Duration,
    make: impl Fn(u32) -> ((Ipv4Addr, u16), Vec<u8>) + Send + 'static,
) -> Result<JoinHandle<Result<u64>>> {
    let sender = RawSender::open(netns)?;
    Ok(std::thread::spawn(move || {
        let began = Instant::now();
        let mut sent = 0_u64;
        while began.elapsed() < span {
            let due = began.elapsed().as_micros() as u64 * u64::from(rate) / 1_000_000;
            while sent < due {
                let (source, payload) = make(sent as u32);
                let packet = udp_v4(source, (*target.ip(), target.port()), &payload);
                sender.send(&packet, target)?;
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(sent)
    }))
}

/// An address of 198.18.0.0/15 and a port, others for each number.
pub fn stranger(number: u32) -> (Ipv4Addr, u16) {
    let address = Ipv4Addr::from(0xc612_0000 | (number.wrapping_mul(0x9e37_79b1) >> 15));
    (address, 1024 + (number % 60_000) as u16)
}

/// Sends `rate` INDUCTIONs a second for `span` from `netns` to `target`, each from another address and port. Returns
/// how many were sent.
pub fn flood_inductions(
    netns: &Namespace,
    target: (Ipv4Addr, u16),
    rate: u32,
    span: Duration,
) -> Result<JoinHandle<Result<u64>>> {
    let target = SocketAddrV4::new(target.0, target.1);
    flood(netns, target, rate, span, |number| {
        (stranger(number), induction(number | 1))
    })
}

/// The Internet checksum (RFC 1071) of `data`.
fn checksum(data: &[u8]) -> u16 {
    let mut sum: u32 = data
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
