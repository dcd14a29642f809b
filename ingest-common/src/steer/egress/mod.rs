//! Packets from pods, at tc: on ingress of the pod port, or on egress of the uplink for `stack` pods.

mod accept;
mod replay;

pub use replay::{COOKIE_AT, Replay, Response, SOCKET_ID_AT};

use super::{Node, cut, fate, icmp};
use crate::{
    abi::{
        self, Address, Backend, CutReason, DeliveryMode, EndpointKey, FLOW_CAPTURED, Flow, FlowKey,
        FlowState, Path, ReturnKey, SERVICE_CLOSING, SERVICE_SRT,
    },
    packet::{Datagram, End, Frame, IPV4, IPV6, Icmp, Ip, Link, Packet, Truncated, addresses},
    reason::DropReason,
    srt::{self, Header, LossList, NAK_WORDS, control},
};

/// Where a packet from a pod is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Ingress of the pod port with this interface index.
    PodPort(u32),
    /// Egress of the uplink: the host has routed it.
    Uplink,
}

impl Hook {
    /// Whether the backend's packets come here: a pod cannot speak for another.
    #[inline(always)]
    pub(super) fn is_of(self, backend: &Backend) -> bool {
        match self {
            Self::PodPort(ifindex) => {
                backend.ifindex == ifindex && backend.mode != DeliveryMode::Stack as u8
            }
            Self::Uplink => backend.mode == DeliveryMode::Stack as u8,
        }
    }
}

/// What becomes of a packet from a pod.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// Not a steered session's: untouched.
    Pass,
    /// Dropped and counted.
    Drop(DropReason),
    /// A session's: its source becomes the VIP, and it leaves by the client's own path.
    Send(Rewrite),
    /// Handshakes are decided about apart, see [`egress_of`].
    Handshake,
    /// It becomes the CONCLUSION that waited for it, and goes back to the pod.
    Replay(Replay),
}

/// How a session's packet is rewritten.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite {
    /// The packet.
    pub packet: Packet,
    /// Its UDP header.
    pub datagram: Datagram,
    /// New source address.
    pub address: Address,
    /// New source port.
    pub port: u16,
    /// The way to the client; not used on egress of the uplink.
    pub path: Path,
    /// Its flow is marked for capture: [`super::capture`] is to be asked.
    pub captured: bool,
}

impl Rewrite {
    /// Rewrites addresses, port and checksums in memory. The kernel does it by helpers instead, since a pod's packet
    /// may carry only part of its checksum.
    pub fn apply<F: Frame>(&self, frame: &mut F, hook: Hook) -> Result<(), Truncated> {
        self.packet
            .set_udp_end(frame, End::Source, &self.address, self.port)?;
        if hook == Hook::Uplink {
            return Ok(());
        }
        frame.set_halves::<6>(0, addresses(self.path.client_mac, self.path.node_mac))
    }
}

/// Decides about a packet from a pod.
#[inline(always)]
pub fn egress<F: Frame, N: Node>(frame: &F, node: &N, hook: Hook) -> Reply {
    match egress_of::<false, F, N>(frame, node, hook) {
        Reply::Handshake => egress_of::<true, F, N>(frame, node, hook),
        reply => reply,
    }
}

/// [`egress`] for handshakes, or for everything else, which gives [`Reply::Handshake`] for those. The kernel makes a
/// function of each: they are never on the stack together, and the path of data stays short.
#[inline(always)]
pub fn egress_of<const HANDSHAKES: bool, F: Frame, N: Node>(
    frame: &F,
    node: &N,
    hook: Hook,
) -> Reply {
    decide::<HANDSHAKES, F, N>(frame, node, hook).unwrap_or(Reply::Pass)
}

#[inline(always)]
fn decide<const HANDSHAKES: bool, F: Frame, N: Node>(
    frame: &F,
    node: &N,
    hook: Hook,
) -> Option<Reply> {
    let link = Link::read(frame).ok()?;
    if link.kind != IPV4 && link.kind != IPV6 {
        return None;
    }
    let Ok(Ip::Packet(packet)) = Packet::read(frame, &link, link.kind) else {
        return None;
    };
    if packet.protocol != abi::UDP {
        if HANDSHAKES {
            return None;
        }
        return Icmp::is(&packet).then(|| icmp::from_pod(frame, node, &packet, hook));
    }
    let [ports] = frame.words::<1>(packet.l4).ok()?;
    let source_port = (u32::from_be(ports) >> 16) as u16;
    let slot = node.endpoint(&EndpointKey::of_words(packet.source, source_port, abi::UDP))?;
    let datagram = Datagram::read(frame, &packet).ok()??;
    if !hook.is_of(&*node.backend(slot)?) {
        return None;
    }
    let from_pod = FromPod {
        packet: &packet,
        datagram: &datagram,
        slot,
        now: node.now(),
    };
    let (service, path, captured) = match from_pod.session::<HANDSHAKES, F, N>(frame, node) {
        Ok(session) => session,
        Err(reply) => return Some(reply),
    };
    let vip = node.vip(service)?;
    Some(Reply::Send(Rewrite {
        packet,
        datagram,
        address: vip.address,
        port: vip.port,
        path,
        captured,
    }))
}

struct FromPod<'a> {
    packet: &'a Packet,
    datagram: &'a Datagram,
    slot: u16,
    now: u64,
}

impl FromPod<'_> {
    #[inline(always)]
    fn key(&self) -> ReturnKey {
        ReturnKey::of_words(
            self.packet.destination,
            self.datagram.destination_port,
            self.slot,
        )
    }

    /// The service, the path to the client, and whether it is captured, where the packet is a session's and goes there.
    #[inline(always)]
    fn session<const HANDSHAKES: bool, F: Frame, N: Node>(
        &self,
        frame: &F,
        node: &N,
    ) -> Result<(u16, Path, bool), Reply> {
        let key = self.key();
        let service = match node.returns(&key) {
            Some(service) => service,
            None => node.handshake(&key).ok_or(Reply::Pass)?.service,
        };
        let vip = node.vip(service).ok_or(Reply::Pass)?;
        if vip.in_use == 0 {
            // Removed, and the client's packets are the host's as well.
            return Err(Reply::Pass);
        }
        let flags = u32::from(vip.flags);
        drop(vip);
        let is_srt = flags & SERVICE_SRT != 0;
        let closing = flags & SERVICE_CLOSING != 0;
        let header = if is_srt {
            self.srt_header(frame)
        } else {
            Header::NONE
        };
        let handshake = header.is_control() && header.control_type() == control::HANDSHAKE;
        if handshake != HANDSHAKES {
            return Err(if handshake {
                Reply::Handshake
            } else {
                Reply::Pass
            });
        }
        fate::heard(node, self.slot, self.now);
        let flow_key = FlowKey::of_words(self.packet.destination, key.port, service);
        let payload = u64::from(self.datagram.payload);
        node.count(service, self.slot, |traffic| {
            traffic.down_packets += 1;
            traffic.down_bytes += payload;
        });
        if HANDSHAKES {
            self.handshake(frame, node, &key, &flow_key, &header, flags)?;
        } else if !closing && !is_srt {
            self.accept_udp(node, &key, &flow_key);
        }
        match node.flow(&flow_key) {
            Some(mut flow) if flow.slot == self.slot => {
                // The answer to a new handshake on an old flow's address: the flow is another session's.
                let answers = header.destination == flow.caller_id || !is_srt;
                if answers {
                    let path = self.established(frame, node, &mut flow, &flow_key, &header);
                    // The session was cut, and the client must not hear of it any more.
                    let path = path.ok_or(Reply::Drop(DropReason::FlowCut))?;
                    return Ok((service, path, flow.marks & FLOW_CAPTURED != 0));
                }
            }
            _ => {}
        }
        // A handshake with a closing service must not succeed: the caller would send to nobody. Unanswered, it asks
        // again, and the host decides.
        let path = node.handshake(&key).ok_or(Reply::Pass)?.path;
        if closing && is_srt {
            return Err(Reply::Drop(DropReason::FlowCut));
        }
        Ok((service, path, false))
    }

    #[inline(always)]
    fn srt_header<F: Frame>(&self, frame: &F) -> Header {
        if self.datagram.payload < srt::HEADER as u16 {
            return Header::NONE;
        }
        match frame.words::<4>(self.packet.l4 + Datagram::PAYLOAD) {
            Ok(words) => Header::new(words),
            Err(Truncated) => Header::NONE,
        }
    }

    /// Counts a packet of an established flow; the path to the client, or none where the flow was cut.
    #[inline(always)]
    fn established<F: Frame, N: Node>(
        &self,
        frame: &F,
        node: &N,
        flow: &mut Flow,
        flow_key: &FlowKey,
        header: &Header,
    ) -> Option<Path> {
        if flow.state == FlowState::Cut as u8 {
            // Only a pod's own SHUTDOWN may pass again: the caller may not have heard it.
            let repeated = flow.cut_reason == CutReason::ListenerClosed as u8;
            return repeated.then_some(flow.path);
        }
        flow.down.packets += 1;
        flow.down.bytes += u64::from(self.datagram.payload);
        flow.down.seen_ns = self.now;
        let path = flow.path;
        if header.is_control() {
            match header.control_type() {
                control::ACK => self.acknowledged(frame, flow),
                control::NAK => {
                    let lost = self.loss(frame);
                    flow.down.naks += 1;
                    flow.down.reported_lost += u64::from(lost);
                    node.count(flow_key.service, self.slot, |traffic| {
                        traffic.naks += 1;
                        traffic.reported_lost += u64::from(lost);
                    });
                }
                control::SHUTDOWN => {
                    cut::end(node, flow, flow_key, self.now);
                    flow.state = FlowState::Cut as u8;
                    flow.cut_reason = CutReason::ListenerClosed as u8;
                }
                _ => {}
            }
        }
        Some(path)
    }

    /// Reads an ACK (draft §3.2.4): full ones and small ones carry RTT and buffer, light ones do not.
    #[inline(always)]
    fn acknowledged<F: Frame>(&self, frame: &F, flow: &mut Flow) {
        flow.down.acks += 1;
        if self.datagram.payload < 32 {
            return;
        }
        let at = self.packet.l4 + Datagram::PAYLOAD + srt::HEADER;
        if let Ok([_, rtt, variance, buffer]) = frame.words::<4>(at) {
            flow.down.rtt_us = u32::from_be(rtt);
            flow.down.rtt_variance_us = u32::from_be(variance);
            flow.down.receive_buffer = u32::from_be(buffer);
        }
    }

    /// Sequence numbers that a NAK reports lost.
    #[inline(always)]
    fn loss<F: Frame>(&self, frame: &F) -> u32 {
        let at = self.packet.l4 + Datagram::PAYLOAD + srt::HEADER;
        let words = (self.datagram.payload as usize - srt::HEADER) / 4;
        let mut list = LossList::default();
        let mut index = 0;
        while index < NAK_WORDS && index < words {
            let Ok(word) = frame.word_at(at + 4 * index) else {
                break;
            };
            list.push(u32::from_be(word));
            index += 1;
        }
        list.lost
    }
}
