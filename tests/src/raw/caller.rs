//! An SRT caller packet by packet: what libsrt would not send, or not when a test wants it.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::fixtures::srt::{self, Handshake};
use crate::netns::Namespace;

/// Type word of an INDUCTION.
pub const INDUCTION: u32 = 1;
/// Type word of a CONCLUSION.
pub const CONCLUSION: u32 = 0xffff_ffff;

/// A caller's socket.
#[derive(Debug)]
pub struct RawCaller {
    socket: UdpSocket,
    /// Its SRT socket id.
    pub caller_id: u32,
    /// The cookie that it was sent last.
    pub cookie: u32,
}

/// A handshake packet that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Destination socket id.
    pub destination: u32,
    /// Handshake version.
    pub version: u32,
    /// Encryption and extension fields.
    pub extension: u32,
    /// INDUCTION, CONCLUSION, or a rejection.
    pub kind: u32,
    /// Socket id of the sender.
    pub socket_id: u32,
    /// Its cookie.
    pub cookie: u32,
    /// Bytes of it.
    pub length: usize,
}

impl Answer {
    fn parse(packet: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?))
        };
        (word(0)? == 0x8000_0000).then_some(())?;
        Some(Self {
            destination: word(12)?,
            version: word(16)?,
            extension: word(20)?,
            kind: word(36)?,
            socket_id: word(40)?,
            cookie: word(44)?,
            length: packet.len(),
        })
    }
}

impl RawCaller {
    /// Opens one in `netns` at `from` (port 0: any) that talks to `target` only.
    pub fn open(
        netns: &Namespace,
        from: SocketAddr,
        target: SocketAddr,
        caller_id: u32,
    ) -> Result<Self> {
        let socket = netns.enter(move || {
            let socket = UdpSocket::bind(from).with_context(|| format!("cannot bind to {from}"))?;
            socket.connect(target)?;
            Ok(socket)
        })?;
        Ok(Self {
            socket,
            caller_id,
            cookie: 0,
        })
    }

    /// Where it calls from.
    pub fn local(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Sends `packet`.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        self.socket.send(packet).context("cannot send")?;
        Ok(())
    }

    /// The next handshake packet that comes within `limit`; others are passed over.
    pub fn hear(&self, limit: Duration) -> Result<Option<Answer>> {
        let deadline = Instant::now() + limit;
        let mut buffer = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            // A refusal by ICMP is no answer.
            if let Ok(size) = self.socket.recv(&mut buffer)
                && let Some(answer) = Answer::parse(&buffer[..size])
            {
                return Ok(Some(answer));
            }
        }
    }

    /// Every handshake packet that comes within `span`.
    pub fn hear_all(&self, span: Duration) -> Result<Vec<Answer>> {
        let deadline = Instant::now() + span;
        let mut heard = Vec::new();
        while let Some(answer) = self.hear(deadline.saturating_duration_since(Instant::now()))? {
            heard.push(answer);
        }
        Ok(heard)
    }

    /// Sends an INDUCTION and keeps the cookie that comes back.
    pub fn induce(&mut self, limit: Duration) -> Result<Answer> {
        self.send(&srt::induction().of(self.caller_id).bytes())?;
        let answer = self
            .hear(limit)?
            .with_context(|| format!("no answer to an INDUCTION within {limit:?}"))?;
        if answer.kind != INDUCTION {
            bail!("an INDUCTION was answered by {answer:x?}");
        }
        self.cookie = answer.cookie;
        Ok(answer)
    }

    /// Its CONCLUSION with `stream_id` (empty: none).
    pub fn conclusion(&self, stream_id: &str) -> Handshake {
        let (caller_id, cookie) = (self.caller_id, self.cookie);
        srt::conclusion().of(caller_id).with(|handshake| {
            handshake.cookie = cookie;
            handshake.blocks.truncate(1);
            handshake.extension = 1;
            if !stream_id.is_empty() {
                handshake.extension = 5;
                handshake.blocks.push((5, srt::stream_id(stream_id)));
            }
        })
    }

    /// Sends its CONCLUSION, and again every 250 ms as libsrt does, until an answer of type CONCLUSION or a rejection
    /// comes. How many it took, and the answer.
    pub fn conclude(&self, stream_id: &str, limit: Duration) -> Result<(u32, Answer)> {
        let packet = self.conclusion(stream_id).bytes();
        let deadline = Instant::now() + limit;
        for count in 1.. {
            self.send(&packet)?;
            match self.hear(Duration::from_millis(250))? {
                Some(answer) if answer.kind == INDUCTION => {
                    bail!("INDUCTION reached a caller that sent a CONCLUSION")
                }
                Some(answer) => return Ok((count, answer)),
                None if Instant::now() >= deadline => break,
                None => {}
            }
        }
        bail!("no answer to a CONCLUSION of {stream_id} within {limit:?}")
    }
}
