use super::{Address, abi, address_key, key_from_words};

/// Key of `SERVICES`: what a packet from a client is addressed to.
///
/// An entry with port 0 and protocol 0 marks the address itself as a VIP (for ICMP and fragments).
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The VIP.
    pub address: Address,
    /// Destination port, host order.
    pub port: u16,
    /// IP protocol: 17.
    pub protocol: u8,
    #[doc(hidden)]
    pub _pad: u8,
}

impl ServiceKey {
    /// The key that marks `address` as a VIP.
    #[must_use]
    #[inline(always)]
    pub const fn vip(address: Address) -> Self {
        Self::new(address, 0, 0)
    }
}

/// Value of `SERVICES`. Written by the agent, read by XDP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Index of this service in `VIPS`, `SERVICE_NAMES`, `SERVICE_STATS`, and in [`super::FlowKey`].
    pub id: u16,
    /// Index of its Maglev table in `TABLES`.
    pub pool: u16,
    /// `SERVICE_*` bits.
    pub flags: u32,
}

/// The service carries SRT: headers are checked, sessions begin by handshake. Otherwise it is plain UDP.
pub const SERVICE_SRT: u32 = 1;
/// Only sources in `SOURCES` may reach the service.
pub const SERVICE_SOURCE_RANGES: u32 = 2;
/// The key marks a VIP address, it is no service.
pub const SERVICE_VIP_MARK: u32 = 4;
/// Placement looks at the client's address alone, so that all its sessions meet at one backend.
pub const SERVICE_AFFINITY: u32 = 8;
/// Other nodes have ready backends: what no backend here takes is left to the host, whose own balancing knows them.
pub const SERVICE_ELSEWHERE: u32 = 16;
/// The service was removed: its sessions are cut, everything else is left to the host.
pub const SERVICE_CLOSING: u32 = 32;
/// Handshakes are answered here, and spliced with the pod's: `handshake: stream`.
pub const SERVICE_STREAM: u32 = 64;
/// What no route matches is rejected; without it the service's own pool takes it.
pub const SERVICE_ROUTED_ONLY: u32 = 128;
/// Some route asks for a mode. (Bits 16 to 21: [`super::RouteField::flag`].)
pub const SERVICE_ROUTES_MODE: u32 = 1 << 22;

/// Value of `VIPS`, by service id: what replies of the service are rewritten to. Written by the agent.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vip {
    /// The VIP.
    pub address: Address,
    /// The service's port, host order.
    pub port: u16,
    /// IP protocol: 17.
    pub protocol: u8,
    /// 1 where a service has this id.
    pub in_use: u8,
    /// The pool, as in [`Service::pool`].
    pub pool: u16,
    /// `SERVICE_*` bits, as in [`Service::flags`].
    pub flags: u16,
}

/// Data of a key of `SOURCES`, an LPM trie: 32 bits of service id (always matched), then the source address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SourceKey {
    /// [`Service::id`].
    pub service: u32,
    /// The client's address.
    pub address: Address,
}

/// A name for people: UTF-8, padded with zeros. Value of `SERVICE_NAMES` and `BACKEND_NAMES`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// `namespace/name`, at most 128 bytes.
    pub text: [u8; 128],
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Name({:?})", self.as_str())
    }
}

impl Default for Name {
    fn default() -> Self {
        Self { text: [0; 128] }
    }
}

impl Name {
    /// Keeps the first 128 bytes of `text` (whole characters).
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut name = Self::default();
        let end = (0..=text.len().min(128))
            .rev()
            .find(|&i| text.is_char_boundary(i))
            .unwrap_or(0);
        for (to, from) in name.text.iter_mut().zip(text.as_bytes().iter().take(end)) {
            *to = *from;
        }
        name
    }

    /// The text up to the first zero; empty where it is not UTF-8.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.text.split(|&b| b == 0).next().unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
    }
}

abi! {
    ServiceKey: 20 / 4,
    Service: 8 / 4,
    Vip: 24 / 4,
    SourceKey: 20 / 4,
    Name: 128 / 1,
}

key_from_words! { ServiceKey }
address_key! { ServiceKey }
