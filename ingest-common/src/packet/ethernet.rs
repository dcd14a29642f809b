use super::{Frame, Truncated};
use crate::abi::{Path, VLAN_NONE};

/// Bytes of an Ethernet header without tags.
pub const ETHERNET: usize = 14;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad (QinQ) outer tag.
pub const QINQ: u16 = 0x88a8;

/// What stands in front of the IP header.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// EtherType of the payload, host order.
    pub kind: u16,
    /// Offset of the IP header: 14, 18 or 22.
    pub l3: usize,
}

impl Link {
    /// No tags, and IP behind.
    #[must_use]
    #[inline(always)]
    pub const fn untagged(kind: u16) -> Self {
        Self { kind, l3: ETHERNET }
    }

    /// Reads the EtherType behind up to two VLAN tags. A third tag stays in `kind`, which then is no IP.
    #[inline(always)]
    pub fn read<F: Frame>(frame: &F) -> Result<Self, Truncated> {
        let [kind] = frame.halves::<1>(12)?;
        let mut link = Self {
            kind: u16::from_be(kind),
            l3: ETHERNET,
        };
        if link.kind == VLAN || link.kind == QINQ {
            let [kind] = frame.halves::<1>(ETHERNET + 2)?;
            link = Self {
                kind: u16::from_be(kind),
                l3: ETHERNET + 4,
            };
            if link.kind == VLAN {
                let [kind] = frame.halves::<1>(ETHERNET + 6)?;
                link = Self {
                    kind: u16::from_be(kind),
                    l3: ETHERNET + 8,
                };
            }
        }
        Ok(link)
    }

    /// The way the frame came, by uplink `ifindex`. Read only where it is kept: twelve bytes of addresses are dear
    /// to hold in registers all along.
    #[inline(always)]
    pub fn path<F: Frame>(&self, frame: &F, ifindex: u32) -> Result<Path, Truncated> {
        let [d0, d1, d2, s0, s1, s2, protocol] = frame.halves::<7>(0)?;
        let mut path = Path {
            ifindex,
            client_mac: mac([s0, s1, s2]),
            node_mac: mac([d0, d1, d2]),
            vlan_protocol: 0,
            vlan_outer: 0,
            vlan_inner: VLAN_NONE,
            _pad: 0,
        };
        if self.l3 > ETHERNET {
            let [tag] = frame.halves::<1>(ETHERNET)?;
            path.vlan_protocol = u16::from_be(protocol);
            path.vlan_outer = u16::from_be(tag);
        }
        if self.l3 > ETHERNET + 4 {
            let [tag] = frame.halves::<1>(ETHERNET + 4)?;
            path.vlan_inner = u16::from_be(tag);
        }
        Ok(path)
    }
}

#[inline(always)]
const fn mac(halves: [u16; 3]) -> [u8; 6] {
    let [a, b, c] = halves;
    let ([a0, a1], [b0, b1], [c0, c1]) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes());
    [a0, a1, b0, b1, c0, c1]
}

/// Whether the frame's source address is `mac`.
#[inline(always)]
pub fn is_from<F: Frame>(frame: &F, mac: &[u8; 6]) -> Result<bool, Truncated> {
    let [_, _, _, s0, s1, s2] = addresses([0; 6], *mac);
    Ok(frame.halves::<3>(6)? == [s0, s1, s2])
}

/// The halves of an Ethernet header's two addresses.
#[must_use]
#[inline(always)]
pub const fn addresses(destination: [u8; 6], source: [u8; 6]) -> [u16; 6] {
    let ([d0, d1, d2], [s0, s1, s2]) = (halves(destination), halves(source));
    [d0, d1, d2, s0, s1, s2]
}

#[inline(always)]
const fn halves(mac: [u8; 6]) -> [u16; 3] {
    let [m0, m1, m2, m3, m4, m5] = mac;
    [
        u16::from_ne_bytes([m0, m1]),
        u16::from_ne_bytes([m2, m3]),
        u16::from_ne_bytes([m4, m5]),
    ]
}
