//! Where packets come from.

use std::io::IoSlice;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use aya::TestRun;
use aya::programs::{TestRunAttrs, TestRunOptions};
use ingest_tests::netns::CLIENT_V4;
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind,
    sendmmsg, setsockopt, socket, sockopt,
};

use super::stage::{FLOWS, Stage, Way};
use crate::frames::{self, CLIENT_PORT, LISTENER_ID};
use crate::reference::{Generator, Reference};

/// Packets per batch: NAPI's budget.
const BATCH: u32 = 64;

/// Sends a session's data packets out of the client's interface.
pub(super) trait Sender {
    /// Whether the node's interface must poll for these packets to come in.
    fn needs_napi(&self) -> bool;
    /// Sends about `packets`; says how many. Runs in the client's namespace.
    fn send(&mut self, packets: u32) -> Result<u64>;
}

/// Frames that never were socket buffers: a program makes them, and redirects them into the client's veth.
pub(super) struct Frames {
    reference: Reference,
    frame: Vec<u8>,
}

impl Frames {
    pub(super) fn new(stage: &Stage, way: Way) -> Result<Self> {
        let mut reference = Reference::load(16)?;
        reference.generate(Generator {
            flows: FLOWS.into(),
            keep_sequence: false,
            address: CLIENT_V4.to_bits(),
            port: CLIENT_PORT,
        })?;
        // The program adds port and sequence number.
        let from = SocketAddr::from((CLIENT_V4, 0));
        let mut frame = frames::data(from, stage.destination(way).into());
        for (to, mac) in [(0, stage.uplink.mac), (6, stage.client.mac)] {
            frame
                .get_mut(to..to + 6)
                .context("a frame has addresses")?
                .copy_from_slice(&mac);
        }
        reference.template(&frame)?;
        stage.in_client(|| reference.live_port(stage.client.ifindex))?;
        Ok(Self { reference, frame })
    }
}

impl Sender for Frames {
    fn needs_napi(&self) -> bool {
        true
    }

    fn send(&mut self, packets: u32) -> Result<u64> {
        let packets = packets.next_multiple_of(BATCH);
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        self.reference
            .xdp("xdp_live")?
            .test_run(options)
            .context("the kernel made no live frames")?;
        Ok(packets.into())
    }
}

/// UDP sockets.
pub(super) struct Sockets {
    connected: Vec<UdpSocket>,
    /// The sequence number that each begins its next batch with.
    sequence: u32,
    payloads: Vec<Vec<u8>>,
    headers: MultiHeaders<SockaddrStorage>,
    /// The socket whose turn it is.
    turn: usize,
}

impl Sockets {
    pub(super) fn new(stage: &Stage, way: Way) -> Result<Self> {
        let destination = stage.destination(way);
        // Each way's sockets are bound to the same ports, which is possible since they are connected elsewhere.
        let connected = stage.in_client(|| {
            (FLOWS..2 * FLOWS)
                .map(|index| open(CLIENT_PORT + index, destination))
                .collect::<Result<Vec<_>>>()
        })?;
        Ok(Self {
            connected,
            sequence: 0,
            payloads: vec![frames::data_payload(LISTENER_ID, 0xc000_0000); BATCH as usize],
            headers: MultiHeaders::preallocate(BATCH as usize, None),
            turn: 0,
        })
    }

    /// One batch of one socket.
    fn batch(&mut self) -> Result<u64> {
        let Some(socket) = self.connected.get(self.turn) else {
            return Ok(0);
        };
        for (sequence, payload) in (self.sequence..).zip(&mut self.payloads) {
            if let Some(field) = payload.first_chunk_mut() {
                *field = sequence.to_be_bytes();
            }
        }
        let slices: Vec<_> = self
            .payloads
            .iter()
            .map(|payload| [IoSlice::new(payload)])
            .collect();
        let addresses: Vec<Option<SockaddrStorage>> = vec![None; slices.len()];
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            &slices,
            &addresses,
            [],
            MsgFlags::empty(),
        )
        .context("cannot send")?
        .count();
        ensure!(
            sent == slices.len(),
            "only {sent} packets of a batch were sent"
        );
        self.turn += 1;
        if self.turn == self.connected.len() {
            self.turn = 0;
            self.sequence += BATCH;
        }
        Ok(sent as u64)
    }
}

fn open(port: u16, destination: SocketAddrV4) -> Result<UdpSocket> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context("cannot open a socket")?;
    setsockopt(&socket, sockopt::ReuseAddr, &true).context("cannot share a port")?;
    let address = SockaddrIn::from(SocketAddrV4::new(CLIENT_V4, port));
    bind(socket.as_raw_fd(), &address).with_context(|| format!("cannot bind to port {port}"))?;
    let socket = UdpSocket::from(socket);
    socket
        .connect(destination)
        .with_context(|| format!("cannot connect to {destination}"))?;
    Ok(socket)
}

impl Sender for Sockets {
    fn needs_napi(&self) -> bool {
        false
    }

    fn send(&mut self, packets: u32) -> Result<u64> {
        let mut sent = 0;
        while sent < u64::from(packets) {
            sent += self.batch()?;
        }
        Ok(sent)
    }
}
