//! What a [`Match`] is in `ROUTES`.

use std::net::IpAddr;

use ingest_common::abi::{self, RouteField, StreamMode};
use ipnet::IpNet;

use super::{Match, MatchKey, Mode, Text, What, plan::to_abi};

/// Bits of an address as maps hold it before those of IPv4.
const MAPPED_BITS: u32 = 96;

impl Match {
    /// Whether callers of `vip` may match: a source is of one address family.
    pub(crate) fn is_for(&self, vip: IpAddr) -> bool {
        match &self.what {
            What::Source(range) => range.addr().is_ipv4() == vip.is_ipv4(),
            _ => true,
        }
    }

    /// What the kernel looks at.
    pub(crate) fn field(&self) -> RouteField {
        match &self.what {
            What::StreamId(_) => RouteField::StreamId,
            What::Resource(_) => RouteField::Resource,
            What::User(_) => RouteField::User,
            What::Host(_) => RouteField::Host,
            What::Mode => RouteField::Mode,
            What::Source(_) => RouteField::Source,
        }
    }

    /// The key of this for callers of `service`.
    pub(crate) fn key(&self, service: u16) -> MatchKey {
        let (text, bits) = match &self.what {
            What::StreamId(text) | What::Resource(text) | What::User(text) | What::Host(text) => {
                let text = bytes(text);
                let bits = text.len() as u32 * 8;
                (text, bits)
            }
            What::Mode => (Vec::new(), 0),
            What::Source(range) => (to_abi(range.network()).to_vec(), source_bits(range)),
        };
        MatchKey {
            service,
            field: self.field(),
            mode: match self.mode {
                None => StreamMode::Any,
                Some(Mode::Publish) => StreamMode::Publish,
                Some(Mode::Request) => StreamMode::Request,
            },
            text,
            bits,
        }
    }
}

fn source_bits(range: &IpNet) -> u32 {
    let bits = u32::from(range.prefix_len());
    match range {
        IpNet::V4(_) => MAPPED_BITS + bits,
        IpNet::V6(_) => bits,
    }
}

/// At most what a key holds; a source refuses longer ones.
fn bytes(text: &Text) -> Vec<u8> {
    let mut bytes = match text {
        Text::Exact(text) => [text.as_bytes(), &[0]].concat(),
        Text::Prefix(text) => text.as_bytes().to_vec(),
    };
    bytes.truncate(abi::ROUTE_TEXT);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(what: What, mode: Option<Mode>) -> MatchKey {
        Match { what, mode }.key(7)
    }

    #[test]
    fn an_exact_text_ends_with_a_zero_and_a_prefix_does_not() {
        let exact = key(What::Resource(Text::Exact("a/b".into())), None);
        let prefix = key(
            What::Resource(Text::Prefix("a/b".into())),
            Some(Mode::Publish),
        );
        assert_eq!((exact.text.as_slice(), exact.bits), (&b"a/b\0"[..], 32));
        assert_eq!((prefix.text.as_slice(), prefix.bits), (&b"a/b"[..], 24));
        assert_eq!(
            (exact.mode, prefix.mode),
            (StreamMode::Any, StreamMode::Publish)
        );
    }

    #[test]
    fn a_mode_alone_matches_no_text() {
        let key = key(What::Mode, Some(Mode::Request));
        assert_eq!((key.field, key.bits), (RouteField::Mode, 0));
        assert_eq!(key.mode, StreamMode::Request);
    }

    #[test]
    fn sources_are_addresses_as_maps_hold_them() {
        let v4 = key(What::Source("203.0.113.7/24".parse().unwrap()), None);
        assert_eq!((v4.text.len(), v4.bits), (16, 96 + 24));
        assert_eq!(v4.text[10..], [0xff, 0xff, 203, 0, 113, 0]);
        let v6 = key(What::Source("2001:db8::/32".parse().unwrap()), None);
        assert_eq!((v6.text.len(), v6.bits), (16, 32));
    }
}
