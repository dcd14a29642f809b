//! A captured frame as the client's side of the node saw it: the VIP's address, the uplink's MACs, no tags, right
//! checksums.

use std::net::SocketAddr;

use ingest_common::{
    abi::{self, Path},
    packet::{End, Frame, FrameBuf, Ip, Link, Packet, UDP_HEADER},
};

use crate::reconcile::to_abi;

/// Bytes of Ethernet addresses.
const MACS: usize = 12;

/// The ends of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) vip: SocketAddr,
    /// Whose MACs are the uplink's and the next hop's.
    pub(super) path: Path,
}

impl Ends {
    /// The frame as it came or went, and how many bytes its tags took; `None`: it is no packet of this client.
    pub(super) fn restore(
        &self,
        up: bool,
        bytes: Vec<u8>,
        length: u32,
    ) -> Option<(Vec<u8>, usize)> {
        let mut frame = FrameBuf(bytes);
        let link = Link::read(&frame).ok()?;
        let Ok(Ip::Packet(packet)) = Packet::read(&frame, &link, link.kind) else {
            return None;
        };
        let [ports] = frame.words::<1>(packet.l4).ok()?;
        let ports = u32::from_be(ports);
        let (source, destination) = ((ports >> 16) as u16, ports as u16);
        let client = if up {
            (packet.source(), source)
        } else {
            (packet.destination(), destination)
        };
        if packet.protocol != abi::UDP || client != (to_abi(self.client.ip()), self.client.port()) {
            return None;
        }
        let end = if up { End::Destination } else { End::Source };
        packet
            .set_udp_end(&mut frame, end, &to_abi(self.vip.ip()), self.vip.port())
            .ok()?;
        let mut bytes = frame.0;
        if bytes.len() == length as usize {
            sum_up(&mut bytes, &packet);
        }
        let (to, from) = if up {
            (self.path.node_mac, self.path.client_mac)
        } else {
            (self.path.client_mac, self.path.node_mac)
        };
        bytes.get_mut(..6)?.copy_from_slice(&to);
        bytes.get_mut(6..MACS)?.copy_from_slice(&from);
        let tags = link.l3 - MACS - 2;
        bytes.drain(MACS..MACS + tags);
        Some((bytes, tags))
    }
}

/// Computes the UDP checksum anew: on the way through this machine it may be left to a device. One that is missing
/// stays so.
fn sum_up(frame: &mut [u8], packet: &Packet) {
    let field = packet.l4 + 6;
    let end = packet.l4 + usize::from(packet.length);
    let addresses = if packet.v6 {
        packet.l3 + 8..packet.l3 + 40
    } else {
        packet.l3 + 12..packet.l3 + 20
    };
    if packet.length < UDP_HEADER as u16
        || end > frame.len()
        || frame.get(field..field + 2) == Some(&[0, 0])
    {
        return;
    }
    if let Some(field) = frame.get_mut(field..field + 2) {
        field.fill(0);
    }
    let part = |range| frame.get(range).map_or(0, sum);
    let mut total =
        part(addresses) + part(packet.l4..end) + u64::from(packet.length) + u64::from(abi::UDP);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    // 0 would say "no checksum" (RFC 768).
    let checksum = match !(total as u16) {
        0 => 0xffff,
        other => other,
    };
    if let Some(field) = frame.get_mut(field..field + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Sum of the big-endian 16-bit words.
fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let words: u64 = pairs
        .iter()
        .map(|pair| u64::from(u16::from_be_bytes(*pair)))
        .sum();
    words + rest.first().map_or(0, |last| u64::from(*last) << 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::client_frame;

    const PATH: Path = Path {
        ifindex: 1,
        client_mac: [2, 0, 0, 0, 0, 7],
        node_mac: [2, 0, 0, 0, 0, 8],
        vlan_protocol: 0,
        vlan_outer: 0,
        vlan_inner: 0,
        _pad: 0,
    };

    fn ends(client: &str, vip: &str) -> Ends {
        Ends {
            client: client.parse().unwrap(),
            vip: vip.parse().unwrap(),
            path: PATH,
        }
    }

    /// As it came from the client: with the checksum that `client_frame` computes.
    fn original(client: SocketAddr, vip: SocketAddr, payload: &[u8]) -> Vec<u8> {
        let mut frame = client_frame(client, vip, payload).to_vec();
        frame[..6].copy_from_slice(&PATH.node_mac);
        frame[6..12].copy_from_slice(&PATH.client_mac);
        frame
    }

    #[test]
    fn what_went_to_the_pod_is_what_the_client_sent() {
        for (client, vip, pod) in [
            ("198.51.100.7:40000", "203.0.113.10:9000", "10.0.1.2:9001"),
            (
                "[2001:db8::7]:40000",
                "[2001:db8::10]:9000",
                "[fd00::2]:9001",
            ),
        ] {
            let ends = ends(client, vip);
            for payload in [&[7_u8; 64][..], &[7; 33]] {
                let sent = original(ends.client, ends.vip, payload);
                let mut delivered = original(ends.client, pod.parse().unwrap(), payload);
                let length = delivered.len() as u32;
                let restored = ends.restore(true, delivered.clone(), length).unwrap();
                assert_eq!(restored, (sent.clone(), 0));
                // A sum that was left to a device.
                let field = if ends.vip.is_ipv4() { 40 } else { 60 };
                delivered[field] ^= 0x55;
                assert_eq!(
                    ends.restore(true, delivered.clone(), length).unwrap().0,
                    sent
                );
                // Behind two tags, as a `stack` pod gets it.
                let tags = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6];
                delivered.splice(12..12, tags);
                let restored = ends.restore(true, delivered, length + 8).unwrap();
                assert_eq!(restored, (sent, 8));
            }
        }
    }

    #[test]
    fn the_beginning_of_a_packet_keeps_a_sum_of_the_whole() {
        let ends = ends("198.51.100.7:40000", "203.0.113.10:9000");
        let pod = "10.0.1.2:9001".parse().unwrap();
        let sent = original(ends.client, ends.vip, &[7; 1316]);
        let delivered = original(ends.client, pod, &[7; 1316]);
        let length = delivered.len() as u32;
        let restored = ends.restore(true, delivered[..96].to_vec(), length);
        assert_eq!(restored.unwrap().0, sent[..96]);
    }

    #[test]
    fn another_clients_packet_is_none_of_it() {
        let ends = ends("198.51.100.7:40000", "203.0.113.10:9000");
        let frame = original("198.51.100.7:40001".parse().unwrap(), ends.vip, &[0; 20]);
        let length = frame.len() as u32;
        assert_eq!(ends.restore(true, frame, length), None);
        assert_eq!(ends.restore(false, vec![0; 60], 60), None);
    }
}
