//! The handshakes of a made-up caller, as libsrt sends them (draft §4.3.1).

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use ingest_common::{
    abi::STREAM_ID_MAX,
    srt::{self, encode_stream_id},
};

/// The caller's: the highest of libsrt's, which begins at a random one and counts down, so as good as nobody's.
pub(super) const SOCKET_ID: u32 = 0x3fff_ffff;

/// The first one.
pub(super) fn induction(vip: SocketAddr) -> Bytes {
    const UDT_DGRAM: u32 = 2;
    handshake(vip, 4, UDT_DGRAM, srt::INDUCTION, 0).freeze()
}

/// The second one, in clear.
pub(super) fn conclusion(vip: SocketAddr, cookie: u32, stream_id: Option<&str>) -> Bytes {
    const HSREQ: u32 = 1;
    const CONFIG: u32 = 4;
    const VERSION: u32 = 0x0001_0501;
    const FLAGS: u32 = 0xbf;
    const LATENCY_MS: u16 = 120;
    const SID: u32 = 5;
    let flags = if stream_id.is_some() {
        HSREQ | CONFIG
    } else {
        HSREQ
    };
    let mut packet = handshake(vip, 5, flags, srt::CONCLUSION, cookie);
    packet.put_u32(HSREQ << 16 | 3);
    packet.put_u32(VERSION);
    packet.put_u32(FLAGS);
    packet.put_u16(LATENCY_MS);
    packet.put_u16(LATENCY_MS);
    if let Some(text) = stream_id {
        let mut body = [0; STREAM_ID_MAX];
        let length = encode_stream_id(text.as_bytes(), &mut body);
        packet.put_u32(SID << 16 | (length / 4) as u32);
        packet.put_slice(body.get(..length).unwrap_or(&body));
    }
    packet.freeze()
}

/// Header and fixed part.
fn handshake(vip: SocketAddr, version: u32, fields: u32, kind: u32, cookie: u32) -> BytesMut {
    const HANDSHAKE: u32 = 0x8000_0000;
    const MTU: u32 = 1500;
    const FLOW_WINDOW: u32 = 8192;
    let mut packet = BytesMut::with_capacity(84 + STREAM_ID_MAX);
    packet.put_u32(HANDSHAKE);
    packet.put_u32(0);
    packet.put_u32(0);
    packet.put_u32(0);
    packet.put_u32(version);
    packet.put_u32(fields);
    packet.put_u32(1);
    packet.put_u32(MTU);
    packet.put_u32(FLOW_WINDOW);
    packet.put_u32(kind);
    packet.put_u32(SOCKET_ID);
    packet.put_u32(cookie);
    // The address that the caller dialled, each word byte-reversed.
    match vip {
        SocketAddr::V4(v4) => {
            packet.put_u32(u32::from_le_bytes(v4.ip().octets()));
            packet.put_slice(&[0; 12]);
        }
        SocketAddr::V6(v6) => {
            for word in v6.ip().octets().as_chunks::<4>().0 {
                packet.put_u32(u32::from_le_bytes(*word));
            }
        }
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_induction_is_libsrts() {
        let packet = induction("127.0.0.1:9000".parse().unwrap());
        assert_eq!(packet.len(), 64);
        assert_eq!(packet[..4], [0x80, 0, 0, 0]);
        assert_eq!(packet[16..24], [0, 0, 0, 4, 0, 0, 0, 2]);
        assert_eq!(packet[36..40], [0, 0, 0, 1]);
        assert_eq!(packet[48..52], [1, 0, 0, 127]);
        let packet = induction("[2001:db8::10]:9000".parse().unwrap());
        assert_eq!(packet[48..52], [0xb8, 0x0d, 0x01, 0x20]);
        assert_eq!(packet[60..64], [0x10, 0, 0, 0]);
    }

    #[test]
    fn the_conclusion_is_libsrts() {
        let vip = "127.0.0.1:9000".parse().unwrap();
        let packet = conclusion(vip, 0x6f8d_d49a, Some("#!::r=live,m=publish,u=alice"));
        assert_eq!(packet[16..24], [0, 0, 0, 5, 0, 0, 0, 5]);
        assert_eq!(packet[36..40], [0xff; 4]);
        assert_eq!(packet[44..48], [0x6f, 0x8d, 0xd4, 0x9a]);
        assert_eq!(packet[64..72], [0, 1, 0, 3, 0, 1, 5, 1]);
        assert_eq!(packet[80..88], [0, 5, 0, 7, 0x3a, 0x3a, 0x21, 0x23]);
        assert_eq!(packet.len(), 84 + 28);
        assert_eq!(conclusion(vip, 1, None).len(), 80);
        assert_eq!(conclusion(vip, 1, None)[20..24], [0, 0, 0, 1]);
    }

    #[test]
    fn the_filter_takes_both() {
        let vip = "203.0.113.10:9000".parse().unwrap();
        let read = |packet: &Bytes| {
            let (words, _) = packet[16..48].as_chunks::<4>();
            let words: Vec<u32> = words.iter().map(|w| u32::from_ne_bytes(*w)).collect();
            srt::Handshake::new(words.try_into().unwrap())
        };
        let packet = induction(vip);
        assert_eq!(read(&packet).check_induction(packet.len() as u16), Ok(()));
        let longest = "x".repeat(STREAM_ID_MAX);
        for stream_id in [None, Some("#!::r=acme/1"), Some(longest.as_str())] {
            let packet = conclusion(vip, 7, stream_id);
            let checked = read(&packet).check_conclusion(packet.len() as u16);
            assert_eq!(checked, Ok(true), "{stream_id:?}");
        }
    }
}
