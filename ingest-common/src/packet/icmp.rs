use super::{
    End, Frame, ICMP, ICMPV6, IPV4_HEADER, IPV6_HEADER, Packet, Truncated, difference, update,
};
use crate::abi::{self, Address, address_from_words, words_from_address};

const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// An ICMP error that quotes a UDP packet.
#[derive(Clone, Copy, Debug)]
pub struct IcmpError {
    /// Offset of the quoted IP header.
    inner_l3: usize,
    /// Offset of the quoted UDP header.
    inner_l4: usize,
    /// Source address of the quoted packet.
    pub source: [u32; 4],
    /// Destination address of the quoted packet.
    pub destination: [u32; 4],
    /// Source port of the quoted packet, host order.
    pub source_port: u16,
    /// Destination port of the quoted packet, host order.
    pub destination_port: u16,
    /// "Port unreachable" (RFC 792 type 3 code 3, RFC 4443 type 1 code 4).
    pub port_unreachable: bool,
    ports: u32,
}

/// What an ICMP packet is to us.
#[derive(Clone, Copy, Debug)]
pub enum Icmp {
    /// An error about a UDP packet.
    Error(IcmpError),
    /// An echo reply with this identifier and sequence number.
    EchoReply(u16, u16),
    /// Anything else.
    Other,
}

impl Icmp {
    /// Reads the ICMP header of `packet`, whose protocol is ICMP or ICMPv6.
    #[inline(always)]
    pub fn read<F: Frame>(frame: &F, packet: &Packet) -> Result<Self, Truncated> {
        let [first, second] = frame.words::<2>(packet.l4)?;
        let kind = u32::from_be(first) >> 16;
        let (kind, code) = ((kind >> 8) as u8, kind as u8);
        let echo = u32::from_be(second);
        match (packet.v6, kind) {
            (false, 0) | (true, 129) => {
                return Ok(Self::EchoReply((echo >> 16) as u16, echo as u16));
            }
            // Unreachable, time exceeded, parameter problem; for IPv6 packet too big as well.
            (false, 3 | 11 | 12) | (true, 1..=4) => {}
            _ => return Ok(Self::Other),
        }
        let inner_l3 = packet.l4 + 8;
        let (source, destination, inner_l4) = if packet.v6 {
            let [first, second, s0, s1, s2, s3, d0, d1, d2, d3] = frame.words::<10>(inner_l3)?;
            if u32::from_be(first) >> 28 != 6 || (u32::from_be(second) >> 8) as u8 != abi::UDP {
                return Ok(Self::Other);
            }
            ([s0, s1, s2, s3], [d0, d1, d2, d3], inner_l3 + IPV6_HEADER)
        } else {
            let [first, _, third, source, destination] = frame.words::<5>(inner_l3)?;
            if u32::from_be(first) >> 24 != 0x45 || (u32::from_be(third) >> 16) as u8 != abi::UDP {
                return Ok(Self::Other);
            }
            (
                [0, 0, MAPPED, source],
                [0, 0, MAPPED, destination],
                inner_l3 + IPV4_HEADER,
            )
        };
        let [ports] = frame.words::<1>(inner_l4)?;
        let host_ports = u32::from_be(ports);
        Ok(Self::Error(IcmpError {
            inner_l3,
            inner_l4,
            source,
            destination,
            source_port: (host_ports >> 16) as u16,
            destination_port: host_ports as u16,
            port_unreachable: matches!((packet.v6, kind, code), (false, 3, 3) | (true, 1, 4)),
            ports,
        }))
    }

    /// Whether `protocol` is this family's ICMP.
    #[must_use]
    #[inline(always)]
    pub const fn is(packet: &Packet) -> bool {
        packet.protocol == if packet.v6 { ICMPV6 } else { ICMP }
    }
}

impl IcmpError {
    /// The quoted packet's source.
    #[must_use]
    #[inline(always)]
    pub fn source(&self) -> Address {
        address_from_words(self.source)
    }

    /// The quoted packet's destination.
    #[must_use]
    #[inline(always)]
    pub fn destination(&self) -> Address {
        address_from_words(self.destination)
    }

    /// Readdresses an error about a VIP's packet to the pod that sent it: outer destination and quoted source
    /// become the pod's. The quoted UDP checksum is left alone: nobody can verify it on a quotation.
    #[inline(always)]
    pub fn readdress<F: Frame>(
        &self,
        frame: &mut F,
        packet: &Packet,
        address: &Address,
        port: u16,
    ) -> Result<(), Truncated> {
        let mut delta = 0;
        let outer = packet.set_address(frame, End::Destination, address)?;
        if packet.v6 {
            // Only ICMPv6 covers its pseudo-header.
            delta = outer;
        }
        let new = words_from_address(*address);
        if packet.v6 {
            frame.set_words::<4>(self.inner_l3 + 8, new)?;
            delta = delta.wrapping_add(difference(self.source, new));
        } else {
            let change = difference([self.source[3]], [new[3]]);
            let [checksum] = frame.halves::<1>(self.inner_l3 + 10)?;
            let changed = update(checksum, change);
            frame.set_halves::<1>(self.inner_l3 + 10, [changed])?;
            frame.set_words::<1>(self.inner_l3 + 12, [new[3]])?;
            delta = delta
                .wrapping_add(change)
                .wrapping_add(difference([u32::from(checksum)], [u32::from(changed)]));
        }
        let ports = ((u32::from_be(self.ports) & 0xffff) | u32::from(port) << 16).to_be();
        frame.set_words::<1>(self.inner_l4, [ports])?;
        delta = delta.wrapping_add(difference([self.ports], [ports]));
        let [checksum] = frame.halves::<1>(packet.l4 + 2)?;
        frame.set_halves::<1>(packet.l4 + 2, [update(checksum, delta)])
    }
}
