use super::{Frame, IPV4, Link, Truncated, difference, fold, sum, update, update_udp};
use crate::{
    abi::{self, Address, address_from_words, words_from_address},
    reason::PassReason,
};

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6_HEADER: usize = 40;
/// Bytes of a UDP header.
pub const UDP_HEADER: usize = 8;

const MAPPED: u32 = 0x0000_ffff_u32.to_be();
/// More fragments, or an offset.
const FRAGMENT: u32 = 0x0000_3fff;

/// Where a field stands that a rewrite changes: source or destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Source address and port.
    Source,
    /// Destination address and port.
    Destination,
}

/// An IPv4 or IPv6 packet without options, extension headers or fragmentation.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of what follows it.
    pub l4: usize,
    /// IPv6.
    pub v6: bool,
    /// IP protocol number of what follows.
    pub protocol: u8,
    /// Bytes of what follows, as the IP header says.
    pub length: u16,
    /// Source address, in words as in memory; IPv4 in mapped form.
    pub source: [u32; 4],
    /// Destination address, likewise.
    pub destination: [u32; 4],
}

/// What an IP header turned out to be.
#[derive(Clone, Copy, Debug)]
pub enum Ip {
    /// A packet that can be steered.
    Packet(Packet),
    /// One that cannot, to this destination.
    Unsteerable([u32; 4], PassReason),
    /// Not IP at all.
    Other,
}

impl Packet {
    /// Reads the IP header behind `link`. `family` is the EtherType again, so that a caller that has branched on it
    /// lets the compiler drop the other family.
    #[inline(always)]
    pub fn read<F: Frame>(frame: &F, link: &Link, family: u16) -> Result<Ip, Truncated> {
        if family == IPV4 {
            Self::read_v4(frame, link.l3)
        } else {
            Self::read_v6(frame, link.l3)
        }
    }

    #[inline(always)]
    fn read_v4<F: Frame>(frame: &F, l3: usize) -> Result<Ip, Truncated> {
        let [first, fragment, third, source, destination] = frame.words::<5>(l3)?;
        let first = u32::from_be(first);
        let destination = [0, 0, MAPPED, destination];
        let version = first >> 24;
        if version != 0x45 {
            return Ok(if version >> 4 == 4 {
                Ip::Unsteerable(destination, PassReason::IpOptions)
            } else {
                Ip::Other
            });
        }
        if u32::from_be(fragment) & FRAGMENT != 0 {
            return Ok(Ip::Unsteerable(destination, PassReason::Fragment));
        }
        Ok(Ip::Packet(Self {
            l3,
            l4: l3 + IPV4_HEADER,
            v6: false,
            protocol: (u32::from_be(third) >> 16) as u8,
            length: ((first & 0xffff) as u16).saturating_sub(IPV4_HEADER as u16),
            source: [0, 0, MAPPED, source],
            destination,
        }))
    }

    #[inline(always)]
    fn read_v6<F: Frame>(frame: &F, l3: usize) -> Result<Ip, Truncated> {
        let [first, second, s0, s1, s2, s3, d0, d1, d2, d3] = frame.words::<10>(l3)?;
        if u32::from_be(first) >> 28 != 6 {
            return Ok(Ip::Other);
        }
        let second = u32::from_be(second);
        let protocol = (second >> 8) as u8;
        let destination = [d0, d1, d2, d3];
        match protocol {
            abi::UDP | ICMPV6 => {}
            44 => return Ok(Ip::Unsteerable(destination, PassReason::Fragment)),
            // Hop-by-hop, routing, ESP, AH, destination options, mobility, HIP, shim6 (IANA).
            0 | 43 | 50 | 51 | 60 | 135 | 139 | 140 => {
                return Ok(Ip::Unsteerable(destination, PassReason::ExtensionHeader));
            }
            _ => {}
        }
        Ok(Ip::Packet(Self {
            l3,
            l4: l3 + IPV6_HEADER,
            v6: true,
            protocol,
            length: (second >> 16) as u16,
            source: [s0, s1, s2, s3],
            destination,
        }))
    }

    /// The source address.
    #[must_use]
    #[inline(always)]
    pub fn source(&self) -> Address {
        address_from_words(self.source)
    }

    /// The destination address.
    #[must_use]
    #[inline(always)]
    pub fn destination(&self) -> Address {
        address_from_words(self.destination)
    }

    /// Sum of the pseudo-header for a payload of `length` bytes. The addresses are read again: eight words are dear to
    /// keep until they are needed.
    #[inline(always)]
    pub(crate) fn pseudo_header<F: Frame>(&self, frame: &F, length: u16) -> Result<u64, Truncated> {
        let tail = sum([u32::from(length).to_be(), u32::from(self.protocol).to_be()]);
        let addresses = if self.v6 {
            sum(frame.words::<8>(self.l3 + 8)?)
        } else {
            sum(frame.words::<2>(self.l3 + 12)?)
        };
        Ok(addresses.wrapping_add(tail))
    }

    /// Replaces one end's address in the IP header (and its checksum, for IPv4). Gives the difference that this
    /// makes to a checksum over the pseudo-header.
    #[inline(always)]
    pub fn set_address<F: Frame>(
        &self,
        frame: &mut F,
        end: End,
        address: &Address,
    ) -> Result<u64, Truncated> {
        let new = words_from_address(*address);
        if self.v6 {
            let at = if end == End::Source { 8 } else { 24 };
            // Read again, as in `pseudo_header`.
            let old = frame.words::<4>(self.l3 + at)?;
            frame.set_words::<4>(self.l3 + at, new)?;
            Ok(difference(old, new))
        } else {
            let at = if end == End::Source { 12 } else { 16 };
            let old = match end {
                End::Source => self.source[3],
                End::Destination => self.destination[3],
            };
            let delta = difference([old], [new[3]]);
            let [checksum] = frame.halves::<1>(self.l3 + 10)?;
            frame.set_halves::<1>(self.l3 + 10, [update(checksum, delta)])?;
            frame.set_words::<1>(self.l3 + at, [new[3]])?;
            Ok(delta)
        }
    }

    /// Replaces one end of a UDP datagram: address, port and the checksums.
    #[inline(always)]
    pub fn set_udp_end<F: Frame>(
        &self,
        frame: &mut F,
        end: End,
        address: &Address,
        port: u16,
    ) -> Result<(), Truncated> {
        let mut delta = self.set_address(frame, end, address)?;
        // Read again, as in `pseudo_header`.
        let [ports, second] = frame.words::<2>(self.l4)?;
        let (old, checksum) = (u32::from_be(ports), u32::from_be(second) as u16);
        let new = match end {
            End::Source => (old & 0xffff) | u32::from(port) << 16,
            End::Destination => (old & 0xffff_0000) | u32::from(port),
        }
        .to_be();
        delta = delta.wrapping_add(difference([ports], [new]));
        frame.set_words::<1>(self.l4, [new])?;
        frame.set_halves::<1>(self.l4 + 6, [update_udp(checksum.to_be(), delta)])
    }
}

/// A UDP datagram in a [`Packet`].
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// Source port, host order.
    pub source_port: u16,
    /// Destination port, host order.
    pub destination_port: u16,
    /// Bytes of payload.
    pub payload: u16,
    /// The checksum, as in memory; 0: none.
    pub checksum: u16,
}

impl Datagram {
    /// Offset of the payload behind the start of the UDP header.
    pub const PAYLOAD: usize = UDP_HEADER;

    /// Reads the UDP header of `packet`. `Ok(None)`: its length disagrees with the IP header's or the frame's.
    #[inline(always)]
    pub fn read<F: Frame>(frame: &F, packet: &Packet) -> Result<Option<Self>, Truncated> {
        let [ports, second] = frame.words::<2>(packet.l4)?;
        let (host_ports, host_second) = (u32::from_be(ports), u32::from_be(second));
        let length = (host_second >> 16) as u16;
        // Longer than what IP carries, or than the frame: refused. Shorter is legal UDP padding, but no sender of
        // ours makes it, and the rest would go unchecked.
        if length < UDP_HEADER as u16
            || length != packet.length
            || !frame.holds(packet.l4 + length as usize)
        {
            return Ok(None);
        }
        Ok(Some(Self {
            source_port: (host_ports >> 16) as u16,
            destination_port: host_ports as u16,
            payload: length - UDP_HEADER as u16,
            checksum: (host_second as u16).to_be(),
        }))
    }

    /// Whether the checksum field holds only the pseudo-header's sum: the sender left the rest to a device.
    /// (A full checksum looks like that once in 65536.)
    #[inline(always)]
    pub fn is_partial<F: Frame>(&self, frame: &F, packet: &Packet) -> Result<bool, Truncated> {
        let [checksum] = frame.halves::<1>(packet.l4 + 6)?;
        let sum = packet.pseudo_header(frame, self.payload + UDP_HEADER as u16)?;
        Ok(checksum == fold(sum))
    }
}
