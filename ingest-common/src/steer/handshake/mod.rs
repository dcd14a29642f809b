//! A caller's handshake, which begins a session. The packet is read into the workspace ([`super::Request`]), decided about
//! there ([`decide`]), and then rewritten (`answer`).
//!
//! Two ways: of a `client` service both handshakes go to the pod that the client's address chooses (`client`). Of a `stream`
//! service the INDUCTION is answered here (`induction`), and the CONCLUSION tells which stream it is for (`conclusion`):
//! its pod gets an INDUCTION in its place, and tc answers the pod's with the CONCLUSION that is kept meanwhile.
//!
//! Each step is a function of its own in the kernel, on the same workspace: no stack holds them all at once.

mod admit;
mod answer;
mod client;
mod conclusion;
mod decision;
mod induction;
mod keep;
mod known;
mod place;
mod route;
mod stream;

use super::{Node, Outcome};
use crate::{
    abi::{FlowKey, SERVICE_STREAM, Service, ServiceKey, UDP},
    packet::{Datagram, Frame, Ip, Link, Packet, UDP_HEADER, fold, sum},
    reason::{DropReason, PassReason},
    srt,
};

pub use conclusion::{check_cookie, check_extensions, payload_sum, read_stream_id};
pub use decision::{Decision, Part};
pub use known::is_repeated;
pub use route::{find_route, match_key};

/// A handshake that [`super::ingress_of`] came upon: whom to ask what it calls for ([`Decision::part`]), if it is not decided
/// yet. The frame is read once more: nothing of the first reading is on this stack.
#[inline(always)]
pub fn handshake_of<const FAMILY: u16, F: Frame, N: Node>(
    frame: &F,
    node: &N,
    link: &Link,
    ifindex: impl Fn() -> u32,
) -> Decision {
    let Ok(Ip::Packet(packet)) = Packet::read(frame, link, FAMILY) else {
        return Decision::drop(DropReason::Malformed);
    };
    let Ok(Some(datagram)) = Datagram::read(frame, &packet) else {
        return Decision::drop(DropReason::Malformed);
    };
    let key = ServiceKey::of_words(packet.destination, datagram.destination_port, UDP);
    let Some(service) = node.service(&key) else {
        return Decision::pass(PassReason::NoService);
    };
    let caller = Caller {
        link,
        packet: &packet,
        datagram: &datagram,
    };
    caller
        .ask(frame, node, service, ifindex)
        .unwrap_or_else(Decision::drop)
}

/// Rewrites the frame of a handshake as `decision` says.
#[inline(always)]
pub fn carry_out<const FAMILY: u16, F: Frame, N: Node>(
    frame: &mut F,
    node: &N,
    link: &Link,
    decision: Decision,
) -> Outcome {
    let Ok(Ip::Packet(packet)) = Packet::read(frame, link, FAMILY) else {
        return Outcome::drop(DropReason::Malformed);
    };
    let Ok(Some(datagram)) = Datagram::read(frame, &packet) else {
        return Outcome::drop(DropReason::Malformed);
    };
    let caller = Caller {
        link,
        packet: &packet,
        datagram: &datagram,
    };
    caller
        .carry_out(frame, node, decision)
        .unwrap_or_else(Outcome::drop)
}

/// [`Part`]'s decision about the request in the workspace.
#[inline(always)]
pub fn decide<N: Node>(node: &N, part: Part) -> Decision {
    let decided = match part {
        Part::Client => client::decide(node),
        Part::Induction => induction::decide(node),
        Part::Conclusion => conclusion::decide(node),
        Part::Known => known::decide(node),
        Part::Stream => stream::decide(node),
    };
    decided.unwrap_or_else(|refused| refused)
}

/// The frame of a handshake.
struct Caller<'a> {
    link: &'a Link,
    packet: &'a Packet,
    datagram: &'a Datagram,
}

impl Caller<'_> {
    /// Puts the request into the workspace. What is cheap to refuse is refused first.
    #[inline(always)]
    fn ask<F: Frame, N: Node>(
        &self,
        frame: &F,
        node: &N,
        service: Service,
        ifindex: impl Fn() -> u32,
    ) -> Result<Decision, DropReason> {
        let offset = self.packet.l4 + Datagram::PAYLOAD;
        let length = self.datagram.payload;
        let request = srt::Handshake::new(frame.words::<8>(offset + srt::HEADER)?);
        let extensions = match request.kind {
            srt::INDUCTION => {
                request.check_induction(length)?;
                false
            }
            srt::CONCLUSION => request.check_conclusion(length)?,
            _ => return Err(DropReason::SrtUnaddressed),
        };
        let part = match (service.flags & SERVICE_STREAM != 0, request.kind) {
            (false, _) => Part::Client,
            (true, srt::INDUCTION) => Part::Induction,
            _ => Part::Conclusion,
        };
        self.note(node, service, &request)?;
        if part == Part::Conclusion
            && let Some(reason) = DropReason::from_u8(node.check_cookie())
        {
            let client = self.packet.source();
            return if induction::is_elsewhere(node, service.flags, service.pool, &client) {
                Ok(Decision::pass(PassReason::Elsewhere))
            } else {
                Err(reason)
            };
        }
        let path = self.link.path(frame, ifindex())?;
        let sum = if part == Part::Conclusion {
            self.checksum(frame)?
        } else {
            None
        };
        let mut space = node.workspace().ok_or(DropReason::Undeliverable)?;
        space.request.path = path;
        space.request.sum = u32::from(sum.unwrap_or(0));
        space.request.summed = u32::from(sum.is_some());
        if extensions || part == Part::Conclusion {
            frame.copy(offset, length as usize, &mut space.splice.bytes)?;
        }
        drop(space);
        Ok(Decision::ask(part))
    }

    #[inline(always)]
    fn note<N: Node>(
        &self,
        node: &N,
        service: Service,
        request: &srt::Handshake,
    ) -> Result<(), DropReason> {
        let mut space = node.workspace().ok_or(DropReason::Undeliverable)?;
        let asked = &mut space.request;
        asked.key = FlowKey::of_words(self.packet.source, self.datagram.source_port, service.id);
        asked.flags = service.flags;
        asked.pool = service.pool;
        asked.length = self.datagram.payload;
        asked.kind = request.kind;
        asked.version = request.version as u16;
        asked.encryption = request.encryption;
        asked.caller_id = request.socket_id;
        asked.flow_window = request.flow_window;
        asked.cookie = request.cookie;
        Ok(())
    }

    /// The sum of what the UDP checksum covers beside the payload, itself included. `None`: there is nothing to verify; a
    /// packet of this very node may hold only part of a checksum.
    #[inline(always)]
    fn checksum<F: Frame>(&self, frame: &F) -> Result<Option<u16>, DropReason> {
        if self.datagram.checksum == 0 {
            // IPv6 has no packets without one (RFC 8200 §8.1).
            return if self.packet.v6 {
                Err(DropReason::Checksum)
            } else {
                Ok(None)
            };
        }
        let length = self.datagram.payload + UDP_HEADER as u16;
        let pseudo = self.packet.pseudo_header(frame, length)?;
        if self.datagram.checksum == fold(pseudo) {
            return Ok(None);
        }
        let header = sum(frame.words::<2>(self.packet.l4)?);
        Ok(Some(fold(pseudo.wrapping_add(header))))
    }
}
