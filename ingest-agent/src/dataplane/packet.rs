//! Frames that the agent itself makes: echo requests of probes, and the frame of the self-test.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use ingest_common::abi;

/// A MAC address.
pub(super) type Mac = [u8; 6];

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const HOP_LIMIT: u8 = 64;
/// Shortest frame on an Ethernet, without its check sum.
const MIN_FRAME: usize = 60;

/// Ends of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) source: Mac,
    pub(super) destination: Mac,
}

/// An echo request from the probe address to `pod`.
pub(super) fn echo_request(ends: Ends, pod: IpAddr, id: u16, sequence: u16) -> Bytes {
    let mut echo = BytesMut::with_capacity(8);
    echo.put_u8(if pod.is_ipv4() {
        ECHO_REQUEST_V4
    } else {
        ECHO_REQUEST_V6
    });
    echo.put_u8(0);
    echo.put_u16(0);
    echo.put_u16(id);
    echo.put_u16(sequence);
    let source = match pod {
        IpAddr::V4(_) => IpAddr::from(abi::PROBE_V4),
        IpAddr::V6(_) => IpAddr::from(abi::PROBE_V6),
    };
    // ICMPv6's checksum covers the addresses, ICMP's does not.
    let pseudo = match pod {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => pseudo_header(source, pod, ICMPV6, echo.len()),
    };
    let sum = checksum(pseudo, &echo);
    if let Some(field) = echo.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    frame(
        ends,
        source,
        pod,
        if pod.is_ipv4() { ICMP } else { ICMPV6 },
        &echo,
    )
}

/// A UDP datagram between addresses that nobody has (RFC 7600 §4.8), so that no service can want it.
pub(super) fn nobodys_datagram() -> Bytes {
    const DISCARD: u16 = 9;
    let address = IpAddr::from(abi::PROBE_V4);
    let mut datagram = BytesMut::with_capacity(8);
    datagram.put_u16(DISCARD);
    datagram.put_u16(DISCARD);
    datagram.put_u16(8);
    datagram.put_u16(0);
    frame(
        Ends {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
        },
        address,
        address,
        abi::UDP,
        &datagram,
    )
}

/// A UDP datagram as a client's packet arrives at an uplink; both addresses are of one family.
pub fn client_frame(client: SocketAddr, vip: SocketAddr, payload: &[u8]) -> Bytes {
    let mut datagram = BytesMut::with_capacity(8 + payload.len());
    datagram.put_u16(client.port());
    datagram.put_u16(vip.port());
    datagram.put_u16(8 + payload.len() as u16);
    datagram.put_u16(0);
    datagram.put_slice(payload);
    let (source, destination) = (client.ip(), vip.ip());
    let pseudo = match source {
        IpAddr::V4(_) => {
            let addresses = [source, destination].map(|address| sum(&v6(address)));
            // The mapped form's ones are no part of an IPv4 pseudo-header.
            addresses.iter().map(|sum| sum - 0xffff).sum::<u32>()
                + u32::from(abi::UDP)
                + datagram.len() as u32
        }
        IpAddr::V6(_) => pseudo_header(source, destination, abi::UDP, datagram.len()),
    };
    // 0 would say "no checksum" (RFC 768).
    let checksum = match checksum(pseudo, &datagram) {
        0 => 0xffff,
        other => other,
    };
    if let Some(field) = datagram.get_mut(6..8) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
    let ends = Ends {
        source: [2, 0, 0, 0, 0, 1],
        destination: [2, 0, 0, 0, 0, 2],
    };
    frame(ends, source, destination, abi::UDP, &datagram)
}

/// Puts IP and Ethernet headers before `payload`. Addresses of two families never come here.
fn frame(ends: Ends, source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(MIN_FRAME.max(14 + 40 + payload.len()));
    frame.put_slice(&ends.destination);
    frame.put_slice(&ends.source);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = BytesMut::with_capacity(20);
            header.put_slice(&[0x45, 0]);
            header.put_u16(20 + payload.len() as u16);
            // Identification 0, don't fragment.
            header.put_u16(0);
            header.put_u16(0x4000);
            header.put_u8(HOP_LIMIT);
            header.put_u8(protocol);
            header.put_u16(0);
            header.put_slice(&source.octets());
            header.put_slice(&destination.octets());
            let sum = checksum(0, &header);
            if let Some(field) = header.get_mut(10..12) {
                field.copy_from_slice(&sum.to_be_bytes());
            }
            frame.put_u16(ETHERTYPE_IPV4);
            frame.put_slice(&header);
        }
        (source, destination) => {
            frame.put_u16(ETHERTYPE_IPV6);
            frame.put_u32(0x6000_0000);
            frame.put_u16(payload.len() as u16);
            frame.put_u8(protocol);
            frame.put_u8(HOP_LIMIT);
            frame.put_slice(&v6(source));
            frame.put_slice(&v6(destination));
        }
    }
    frame.put_slice(payload);
    frame.resize(frame.len().max(MIN_FRAME), 0);
    frame.freeze()
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Unfolded sum of an IPv6 pseudo-header (RFC 8200 §8.1).
fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u32 {
    sum(&v6(source)) + sum(&v6(destination)) + u32::from(protocol) + length as u32
}

/// Sum of the big-endian 16-bit words of `bytes`.
fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let words: u32 = pairs
        .iter()
        .map(|pair| u32::from(u16::from_be_bytes(*pair)))
        .sum();
    words + rest.first().map_or(0, |last| u32::from(*last) << 8)
}

/// The Internet checksum (RFC 1071) of `bytes`, begun with `start`.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut folded = start + sum(bytes);
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    !(folded as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends = Ends {
        source: [2, 0, 0, 0, 0, 1],
        destination: [2, 0, 0, 0, 0, 9],
    };

    #[test]
    fn the_checksum_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(0, &bytes), !0xddf2);
    }

    #[test]
    fn an_ipv4_echo_request_checks_out() {
        let frame = echo_request(ENDS, IpAddr::from([10, 0, 1, 2]), 7, 0x1234);
        assert_eq!(frame.len(), MIN_FRAME);
        assert_eq!(frame[..6], ENDS.destination);
        assert_eq!(frame[12..14], [0x08, 0x00]);
        // A sum over a range with its own checksum is zero.
        assert_eq!(checksum(0, &frame[14..34]), 0);
        assert_eq!(checksum(0, &frame[34..42]), 0);
        assert_eq!(frame[26..30], abi::PROBE_V4);
        assert_eq!(frame[30..34], [10, 0, 1, 2]);
        assert_eq!(frame[34..36], [8, 0]);
        assert_eq!(frame[38..42], [0, 7, 0x12, 0x34]);
    }

    #[test]
    fn an_ipv6_echo_request_checks_out() {
        let pod: IpAddr = "fd00::2".parse().unwrap();
        let frame = echo_request(ENDS, pod, 4095, 3);
        assert_eq!(frame.len(), 14 + 40 + 8);
        assert_eq!(frame[12..14], [0x86, 0xdd]);
        assert_eq!(frame[18..20], [0, 8]);
        assert_eq!(frame[20], ICMPV6);
        let pseudo = pseudo_header(IpAddr::from(abi::PROBE_V6), pod, ICMPV6, 8);
        assert_eq!(checksum(pseudo, &frame[54..62]), 0);
        assert_eq!(frame[58..62], [0x0f, 0xff, 0, 3]);
    }

    #[test]
    fn a_clients_frame_checks_out_in_both_families() {
        let frame = client_frame(
            "198.51.100.7:40000".parse().unwrap(),
            "203.0.113.10:9000".parse().unwrap(),
            b"abc",
        );
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, abi::UDP, 0, 11]);
        assert_eq!(checksum(sum(&pseudo), &frame[34..45]), 0);
        assert_eq!(frame[34..38], [0x9c, 0x40, 0x23, 0x28]);

        let (client, vip) = ("[2001:db8::7]:40000", "[2001:db8::10]:9000");
        let frame = client_frame(client.parse().unwrap(), vip.parse().unwrap(), b"abcd");
        let mut pseudo = frame[22..54].to_vec();
        pseudo.extend([0, 0, 0, 12, 0, 0, 0, abi::UDP]);
        assert_eq!(checksum(sum(&pseudo), &frame[54..66]), 0);
    }

    #[test]
    fn the_self_test_frame_is_a_whole_udp_datagram() {
        let frame = nobodys_datagram();
        assert_eq!(frame.len(), MIN_FRAME);
        assert_eq!(frame[23], abi::UDP);
        assert_eq!(frame[16..18], [0, 28]);
        assert_eq!(checksum(0, &frame[14..34]), 0);
    }
}
