//! Keys of the LPM tries, there and back.

use ingest_common::abi::{self, RouteField, StreamMode};
use ipnet::IpNet;

use crate::reconcile::MatchKey;

/// Bits of a `SOURCES` key before the address: the service id, always matched.
const SERVICE_BITS: u32 = 32;
/// Bits before an IPv4 address in its mapped form.
const MAPPED_BITS: u32 = 96;

/// The prefix length and data of a source range's key.
pub(super) fn source_key(service: u16, range: &IpNet) -> (u32, abi::SourceKey) {
    let (bits, address) = match range {
        IpNet::V4(net) => (
            MAPPED_BITS + u32::from(net.prefix_len()),
            abi::v4_mapped(net.network().octets()),
        ),
        IpNet::V6(net) => (net.prefix_len().into(), net.network().octets()),
    };
    (
        SERVICE_BITS + bits,
        abi::SourceKey {
            service: service.into(),
            address,
        },
    )
}

/// The reverse of [`source_key`]; `None` for a key that it never makes.
pub(super) fn source_range(prefix: u32, key: &abi::SourceKey) -> Option<(u16, IpNet)> {
    let bits = prefix.checked_sub(SERVICE_BITS)?;
    let service = u16::try_from(key.service).ok()?;
    let range = match abi::as_v4(&key.address) {
        Some(address) if bits >= MAPPED_BITS => {
            IpNet::new(address.into(), u8::try_from(bits - MAPPED_BITS).ok()?).ok()?
        }
        _ => IpNet::new(key.address.into(), u8::try_from(bits).ok()?).ok()?,
    };
    Some((service, range))
}

/// Bits of a `ROUTES` key before the text: service, field and mode, always matched.
const ROUTE_BITS: u32 = 32;

/// The prefix length and data of a match's key.
pub(super) fn route_key(key: &MatchKey) -> (u32, abi::RouteKey) {
    let mut data = abi::RouteKey {
        service: key.service,
        field: key.field as u8,
        mode: key.mode as u8,
        ..Default::default()
    };
    data.text
        .iter_mut()
        .zip(&key.text)
        .for_each(|(to, from)| *to = *from);
    (ROUTE_BITS + key.bits, data)
}

/// The reverse of [`route_key`]; `None` for a key that it never makes.
pub(super) fn match_key(prefix: u32, key: &abi::RouteKey) -> Option<MatchKey> {
    let bits = prefix.checked_sub(ROUTE_BITS)?;
    let field = RouteField::ALL
        .into_iter()
        .find(|field| *field as u8 == key.field)?;
    let mode = [
        StreamMode::Any,
        StreamMode::Publish,
        StreamMode::Request,
        StreamMode::Bidirectional,
    ]
    .into_iter()
    .find(|mode| *mode as u8 == key.mode)?;
    let length = if field == RouteField::Source {
        size_of::<abi::Address>()
    } else {
        (bits / 8) as usize
    };
    Some(MatchKey {
        service: key.service,
        field,
        mode,
        text: key.text.get(..length)?.to_vec(),
        bits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ranges_survive_the_way_into_the_map_and_back() {
        for text in [
            "0.0.0.0/0",
            "10.1.0.0/16",
            "192.0.2.7/32",
            "::/0",
            "2001:db8::/32",
            "::1/128",
        ] {
            let range: IpNet = text.parse().unwrap();
            let (prefix, key) = source_key(513, &range);
            assert_eq!(source_range(prefix, &key), Some((513, range)), "{text}");
        }
    }

    #[test]
    fn host_bits_of_a_range_do_not_get_into_the_key() {
        let range: IpNet = "10.1.2.3/8".parse().unwrap();
        let (prefix, key) = source_key(1, &range);
        assert_eq!(prefix, 32 + 96 + 8);
        assert_eq!(abi::as_v4(&key.address), Some([10, 0, 0, 0]));
    }

    #[test]
    fn matches_survive_the_way_into_the_map_and_back() {
        let text = |field, mode, text: &str| MatchKey {
            service: 513,
            field,
            mode,
            text: text.as_bytes().to_vec(),
            bits: text.len() as u32 * 8,
        };
        let longest = "x".repeat(abi::ROUTE_TEXT);
        for key in [
            text(RouteField::Resource, StreamMode::Publish, "acme/"),
            text(RouteField::StreamId, StreamMode::Any, "cam1\0"),
            text(RouteField::User, StreamMode::Any, &longest),
            text(RouteField::Host, StreamMode::Request, ""),
            text(RouteField::Mode, StreamMode::Request, ""),
            MatchKey {
                bits: 96 + 17,
                ..text(RouteField::Source, StreamMode::Any, "0123456789abcdef")
            },
        ] {
            let (prefix, data) = route_key(&key);
            assert_eq!(prefix, 32 + key.bits);
            assert_eq!(match_key(prefix, &data), Some(key));
        }
    }
}
