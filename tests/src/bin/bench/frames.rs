//! Packets of clients and pods. Addresses and MACs are such that steering a packet leaves it as it is: VIP and pod
//! are one address, so a program can run on the same packet again and again and does all its work each time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ingest_agent::dataplane::client_frame;

/// VIP and pod.
pub(crate) const POD_V4: Ipv4Addr = Ipv4Addr::new(10, 2, 1, 2);
/// VIP and pod.
pub(crate) const POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 1, 0, 0, 0, 0, 2);
/// Port of the services.
pub(crate) const PORT: u16 = 9000;
/// Port of the service with source ranges.
pub(crate) const RANGED_PORT: u16 = 9001;
/// Port of the service that answers handshakes itself.
pub(crate) const STREAM_PORT: u16 = 9002;
/// The same with 256 routes.
pub(crate) const ROUTED_PORT: u16 = 9003;
/// The first client; flows have further ports and addresses behind it.
pub(crate) const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
/// The IPv6 client.
pub(crate) const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 64, 0, 0, 0, 0, 0x0a40, 0);
/// The first client port; a client address has 1024.
pub(crate) const CLIENT_PORT: u16 = 20_000;
/// Source of the frames that `client_frame` makes.
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Their destination.
pub(crate) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// SRT socket id of every caller.
pub(crate) const CALLER_ID: u32 = 0x1234_5678;
/// SRT socket id of every listener.
pub(crate) const LISTENER_ID: u32 = 0x0765_4321;
/// Payload of a full SRT data packet: seven packets of MPEG-TS.
const DATA: usize = 1316;

/// The first client of this address family.
pub(crate) fn client(v6: bool) -> SocketAddr {
    let address = if v6 {
        IpAddr::from(CLIENT_V6)
    } else {
        IpAddr::from(CLIENT_V4)
    };
    SocketAddr::new(address, CLIENT_PORT)
}

/// The service, and the pod.
pub(crate) fn pod(v6: bool) -> SocketAddr {
    let address = if v6 {
        IpAddr::from(POD_V6)
    } else {
        IpAddr::from(POD_V4)
    };
    SocketAddr::new(address, PORT)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// An SRT data packet, sequence number 0, clear.
pub(crate) fn data(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    srt(from, to, &data_payload(LISTENER_ID, 0xc000_0000))
}

/// A data packet with key field 3, which nobody sends.
pub(crate) fn bad_data(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    srt(from, to, &data_payload(LISTENER_ID, 0xd800_0000))
}

/// Payload of a data packet.
pub(crate) fn data_payload(destination: u32, second: u32) -> Vec<u8> {
    let mut payload = words(&[0, second, 0, destination]);
    payload.resize(16 + DATA, 0x47);
    payload
}

/// A full ACK from the listener.
pub(crate) fn ack(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let header = [0x8002_0000, 1, 0, CALLER_ID];
    let information = [1000, 20_000, 2000, 8000, 800, 9000, 1_000_000];
    srt(from, to, &words(&[&header[..], &information].concat()))
}

/// Version, encryption and extension field, cookie, type of a handshake.
struct Fixed {
    destination: u32,
    version: u32,
    field: u32,
    kind: u32,
    socket_id: u32,
    cookie: u32,
}

fn handshake(fixed: &Fixed, extensions: &[u32]) -> Vec<u8> {
    let header = [0x8000_0000, 0, 0, fixed.destination];
    let body = [
        fixed.version,
        fixed.field,
        0,
        1500,
        8192,
        fixed.kind,
        fixed.socket_id,
        fixed.cookie,
        0x0a40_0001,
        0,
        0,
        0,
    ];
    words(&[&header[..], &body, extensions].concat())
}

/// The caller's INDUCTION.
pub(crate) fn induction(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let fixed = Fixed {
        destination: 0,
        version: 4,
        field: 2,
        kind: 1,
        socket_id: CALLER_ID,
        cookie: 0,
    };
    srt(from, to, &handshake(&fixed, &[]))
}

/// The caller's CONCLUSION with HSREQ and a stream id of 36 bytes: what encoders send.
pub(crate) fn conclusion(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let fixed = Fixed {
        destination: 0,
        version: 5,
        field: 5,
        kind: 0xffff_ffff,
        socket_id: CALLER_ID,
        cookie: 0x1357_9bdf,
    };
    let mut extensions = vec![0x0001_0003, 0x0001_0501, 0xbf, 0x0078_0078, 0x0005_0009];
    extensions.extend([0x2323_2323; 9]);
    srt(from, to, &handshake(&fixed, &extensions))
}

/// The caller's CONCLUSION to a service that answers handshakes itself: cookie 0, for the generator to fill in, and a
/// Stream ID that makes the whole payload `length` bytes long.
pub(crate) fn stream_conclusion(from: SocketAddr, to: SocketAddr, length: usize) -> Vec<u8> {
    let sid = (length - 84) / 4;
    let fixed = Fixed {
        destination: 0,
        version: 5,
        field: 5,
        kind: 0xffff_ffff,
        socket_id: CALLER_ID,
        cookie: 0,
    };
    let mut extensions = vec![0x0001_0003, 0x0001_0501, 0xbf, 0x0078_0078];
    extensions.push(0x0005_0000 | sid as u32);
    let mut text = b"#!::r=live/".to_vec();
    text.resize(4 * sid - 10, b'x');
    text.extend(b",m=publish");
    // Each word is reversed on the wire (draft, section 3.2.1.3).
    let (words, _) = text.as_chunks::<4>();
    extensions.extend(words.iter().map(|word| u32::from_le_bytes(*word)));
    srt(from, to, &handshake(&fixed, &extensions))
}

/// The same without a valid cookie.
pub(crate) fn forged_conclusion(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    conclusion(from, to)
}

/// The listener's answer to an INDUCTION.
pub(crate) fn induction_answer(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let fixed = Fixed {
        destination: CALLER_ID,
        version: 5,
        field: 0x4a17,
        kind: 1,
        socket_id: LISTENER_ID,
        cookie: 0x1357_9bdf,
    };
    srt(from, to, &handshake(&fixed, &[]))
}

/// The listener's answer to a CONCLUSION: the session is accepted.
pub(crate) fn conclusion_answer(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let fixed = Fixed {
        destination: CALLER_ID,
        version: 5,
        field: 1,
        kind: 0xffff_ffff,
        socket_id: LISTENER_ID,
        cookie: 0x1357_9bdf,
    };
    let extensions = [0x0002_0003, 0x0001_0501, 0xbf, 0x0078_0078];
    srt(from, to, &handshake(&fixed, &extensions))
}

/// A datagram.
pub(crate) fn srt(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    client_frame(from, to, payload).to_vec()
}
