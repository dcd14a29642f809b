use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

/// The Internet checksum (RFC 1071), from scratch.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A UDP frame with right checksums.
fn frame(v6: bool, addresses: [[u8; 16]; 2], ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let mut udp = Vec::new();
    udp.extend(ports[0].to_be_bytes());
    udp.extend(ports[1].to_be_bytes());
    udp.extend(length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let wire: Vec<u8> = addresses
        .iter()
        .flat_map(|address| address[if v6 { 0 } else { 12 }..].iter().copied())
        .collect();
    let mut covered = wire.clone();
    covered.extend(u32::from(length).to_be_bytes());
    covered.extend([0, 0, 0, 17]);
    covered.extend(&udp);
    let sum = match checksum(&covered) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut ip = if v6 {
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend(length.to_be_bytes());
        ip.extend([17, 64]);
        ip
    } else {
        let mut ip = vec![0x45, 0];
        ip.extend((20 + length).to_be_bytes());
        ip.extend([0, 1, 0x40, 0, 64, 17, 0, 0]);
        ip
    };
    ip.extend(&wire);
    if !v6 {
        let sum = checksum(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
    }
    let kind = if v6 { IPV6 } else { IPV4 };
    [vec![2; 12], kind.to_be_bytes().to_vec(), ip, udp].concat()
}

fn mapped(v6: bool, mut address: [u8; 16]) -> [u8; 16] {
    if !v6 {
        address[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    }
    address
}

/// What the parsers say of any frame; only that they return.
fn parse_all(bytes: &mut [u8]) {
    let frame = FrameBuf(bytes);
    let Ok(link) = Link::read(&frame) else {
        return;
    };
    let _path = link.path(&frame, 1);
    for family in [IPV4, IPV6] {
        if let Ok(Ip::Packet(packet)) = Packet::read(&frame, &link, family) {
            if let Ok(Some(datagram)) = Datagram::read(&frame, &packet) {
                let _partial = datagram.is_partial(&frame, &packet);
            }
            let _icmp = Icmp::read(&frame, &packet);
        }
    }
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_all_ones() {
    let address = |last| mapped(false, [last; 16]);
    // Of all payloads of two bytes, one makes the new sum zero, which on the wire would mean "none".
    let payload = (0..=u16::MAX)
        .map(u16::to_be_bytes)
        .find(|payload| {
            frame(false, [address(1), address(3)], [7, 9], payload)[40..42] == [0xff; 2]
        })
        .unwrap();
    let mut bytes = frame(false, [address(1), address(2)], [7, 8], &payload);
    let mut buffer = FrameBuf(bytes.as_mut_slice());
    let link = Link::read(&buffer).unwrap();
    let Ok(Ip::Packet(packet)) = Packet::read(&buffer, &link, IPV4) else {
        panic!("no packet");
    };
    packet
        .set_udp_end(&mut buffer, End::Destination, &address(3), 9)
        .unwrap();
    assert_eq!(
        bytes,
        frame(false, [address(1), address(3)], [7, 9], &payload)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_incremental_checksum_is_a_full_one(
        mut bytes in prop::collection::vec(any::<[u8; 4]>(), 2..40),
        at in any::<prop::sample::Index>(),
        new in any::<[u8; 4]>(),
    ) {
        // Not all zeros: their sum has two forms, of which an update gives one and a recount the other.
        bytes[0] = [1, 2, 3, 4];
        let old_sum = checksum(&bytes.concat());
        let at = 1 + at.index(bytes.len() - 1);
        let delta = difference([u32::from_ne_bytes(bytes[at])], [u32::from_ne_bytes(new)]);
        bytes[at] = new;
        let updated = u16::from_be(update(old_sum.to_be(), delta));
        prop_assert_eq!(updated, checksum(&bytes.concat()));
    }

    #[test]
    fn a_readdressed_datagram_is_one_built_anew(
        v6 in any::<bool>(),
        addresses in any::<[[u8; 16]; 3]>(),
        ports in any::<[u16; 3]>(),
        payload in prop::collection::vec(any::<u8>(), 0..64),
        at_source in any::<bool>(),
    ) {
        let [source, destination, new] = addresses.map(|address| mapped(v6, address));
        let mut bytes = frame(v6, [source, destination], [ports[0], ports[1]], &payload);
        let mut buffer = FrameBuf(bytes.as_mut_slice());
        let link = Link::read(&buffer).unwrap();
        let Ok(Ip::Packet(packet)) = Packet::read(&buffer, &link, link.kind) else {
            panic!("no packet");
        };
        prop_assert_eq!((packet.source(), packet.destination()), (source, destination));
        let datagram = Datagram::read(&buffer, &packet).unwrap().unwrap();
        prop_assert_eq!(usize::from(datagram.payload), payload.len());
        let (end, expected) = if at_source {
            (End::Source, frame(v6, [new, destination], [ports[2], ports[1]], &payload))
        } else {
            (End::Destination, frame(v6, [source, new], [ports[0], ports[2]], &payload))
        };
        packet.set_udp_end(&mut buffer, end, &new, ports[2]).unwrap();
        prop_assert_eq!(bytes, expected);
    }

    #[test]
    fn any_bytes_parse(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        parse_all(&mut bytes);
    }

    #[test]
    fn any_headers_parse(
        mut bytes in prop::collection::vec(any::<u8>(), 60..160),
        kind in prop::sample::select(vec![IPV4, IPV6, VLAN, QINQ]),
        protocol in prop::sample::select(vec![1_u8, 17, 58]),
        cut in any::<prop::sample::Index>(),
    ) {
        bytes[12..14].copy_from_slice(&kind.to_be_bytes());
        bytes[14] = if kind == IPV4 { 0x45 } else { 0x60 };
        bytes[if kind == IPV4 { 23 } else { 20 }] = protocol;
        bytes[20..22].copy_from_slice(&[0, 0]);
        parse_all(&mut bytes);
        let length = cut.index(bytes.len());
        parse_all(&mut bytes[..length]);
    }
}
