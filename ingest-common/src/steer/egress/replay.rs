//! A pod's INDUCTION response to the kernel's own INDUCTION: the caller never sees it. The CONCLUSION that was kept
//! takes its place, with the pod's cookie in it, and goes back to the pod.

use super::{FromPod, Reply};
use crate::{
    abi::{FlowKey, ReturnKey, Splice},
    packet::{
        COPY_MAX, Datagram, Frame, FrameBuf, IPV4, IPV4_HEADER, IPV6, Ip, Link, Packet, Shorten,
        Truncated, UDP_HEADER, difference, update, update_udp,
    },
    reason::DropReason,
    srt,
    steer::Node,
};

/// Offset of the caller's socket id in a handshake's UDP payload.
pub const SOCKET_ID_AT: usize = 40;
/// Offset of the cookie.
pub const COOKIE_AT: usize = 44;

/// How a pod's INDUCTION response becomes the CONCLUSION that waited for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// [`crate::abi::Service::id`].
    pub service: u16,
    /// Bytes of the CONCLUSION: a multiple of 4, from [`srt::HANDSHAKE`] to [`COPY_MAX`].
    pub length: u16,
    /// The caller's socket id.
    pub caller_id: u32,
    /// The pod's cookie.
    pub cookie: u32,
}

/// A pod's INDUCTION response, read once more to be rewritten.
#[derive(Clone, Copy, Debug)]
pub struct Response {
    /// The packet.
    pub packet: Packet,
    /// Its UDP header; [`srt::HANDSHAKE`] bytes follow.
    pub datagram: Datagram,
}

impl Response {
    /// Reads what was decided about. `None` only where the frame has changed since.
    #[inline(always)]
    pub fn read<F: Frame>(frame: &F) -> Option<Self> {
        let link = Link::read(frame).ok()?;
        if link.kind != IPV4 && link.kind != IPV6 {
            return None;
        }
        let Ok(Ip::Packet(packet)) = Packet::read(frame, &link, link.kind) else {
            return None;
        };
        let datagram = Datagram::read(frame, &packet).ok()??;
        Some(Self { packet, datagram })
    }

    /// Where the CONCLUSION is kept in `SPLICES`.
    #[must_use]
    #[inline(always)]
    pub fn key(&self, replay: &Replay) -> FlowKey {
        let port = self.datagram.destination_port;
        FlowKey::of_words(self.packet.destination, port, replay.service)
    }

    /// The UDP header's length field before and after, as in memory.
    #[must_use]
    #[inline(always)]
    pub const fn lengths(replay: &Replay) -> [u16; 2] {
        let header = UDP_HEADER as u16;
        [
            (header + srt::HANDSHAKE).to_be(),
            header.wrapping_add(replay.length).to_be(),
        ]
    }

    /// The IP header's length field before and after, as in memory.
    #[must_use]
    #[inline(always)]
    pub const fn ip_lengths(&self, replay: &Replay) -> [u16; 2] {
        let header = if self.packet.v6 {
            0
        } else {
            IPV4_HEADER as u16
        };
        let [old, new] = Self::lengths(replay);
        [
            u16::from_be(old).wrapping_add(header).to_be(),
            u16::from_be(new).wrapping_add(header).to_be(),
        ]
    }
}

impl Replay {
    /// Rewrites the frame in memory. The kernel does it by helpers instead, since the response may carry only part of its
    /// checksum, and the frame must grow.
    pub fn apply<B>(&self, frame: &mut FrameBuf<B>, kept: &Splice) -> Result<(), Truncated>
    where
        B: AsRef<[u8]> + AsMut<[u8]> + Shorten + Extend<u8>,
    {
        let response = Response::read(frame).ok_or(Truncated)?;
        let Packet { l3, l4, v6, .. } = response.packet;
        let payload = l4 + Datagram::PAYLOAD;
        let kept = kept.bytes.get(..self.length as usize).ok_or(Truncated)?;
        let [old, new] = Response::lengths(self).map(u32::from);
        // The pseudo-header has the length as well.
        let lengths = difference([old, old], [new, new]);
        let mut delta = difference(frame.words::<16>(payload)?, [0; 16]).wrapping_add(lengths);
        frame.0.shorten(payload);
        frame.0.extend(kept.iter().copied());
        frame.set_words::<1>(payload + COOKIE_AT, [self.cookie.to_be()])?;
        for at in (0..kept.len()).step_by(4) {
            delta = delta.wrapping_add(u64::from(frame.word_at(payload + at)?));
        }
        let [checksum] = frame.halves::<1>(l4 + 6)?;
        frame.set_halves::<1>(l4 + 6, [update_udp(checksum, delta)])?;
        turn_back(frame, &response.packet)?;
        let [_, new] = Response::lengths(self);
        frame.set_halves::<1>(l4 + 4, [new])?;
        let [old, new] = response.ip_lengths(self);
        if v6 {
            return frame.set_halves::<1>(l3 + 4, [new]);
        }
        let [checksum] = frame.halves::<1>(l3 + 10)?;
        let delta = difference([u32::from(old)], [u32::from(new)]);
        frame.set_halves::<1>(l3 + 10, [update(checksum, delta)])?;
        frame.set_halves::<1>(l3 + 2, [new])
    }
}

/// Swaps the ends: no checksum changes by it. Whoever sent the response on is who can take the CONCLUSION back, so even
/// the Ethernet addresses are known.
fn turn_back<F: Frame>(frame: &mut F, packet: &Packet) -> Result<(), Truncated> {
    let Packet { l3, l4, v6, .. } = *packet;
    let [d0, d1, d2, s0, s1, s2] = frame.halves::<6>(0)?;
    frame.set_halves::<6>(0, [s0, s1, s2, d0, d1, d2])?;
    let [ports] = frame.words::<1>(l4)?;
    frame.set_words::<1>(l4, [ports.rotate_left(16)])?;
    let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (packet.source, packet.destination);
    if v6 {
        frame.set_words::<8>(l3 + 8, [d0, d1, d2, d3, s0, s1, s2, s3])
    } else {
        frame.set_words::<2>(l3 + 12, [d3, s3])
    }
}

impl FromPod<'_> {
    /// An INDUCTION response of a service whose handshakes are answered here.
    #[inline(always)]
    pub(super) fn induction<N: Node>(
        &self,
        node: &N,
        key: &ReturnKey,
        flow_key: &FlowKey,
        caller_id: u32,
        cookie: u32,
    ) -> Reply {
        const DROP: Reply = Reply::Drop(DropReason::InductionResponse);
        let service = flow_key.service;
        let surplus = || node.count_splice(service, |stats| stats.surplus += 1);
        let Some(mut known) = node.handshake(key) else {
            surplus();
            return DROP;
        };
        // A caller that repeats its CONCLUSION early makes the pod answer twice. To a caller that is connected already,
        // a second CONCLUSION would do no good.
        if known.caller_id != caller_id || known.pod_cookie != 0 {
            drop(known);
            surplus();
            return DROP;
        }
        known.pod_cookie = cookie;
        known.cookie_ns = self.now;
        drop(known);
        let Some(length) = self.kept(node, flow_key, caller_id) else {
            // The caller's next retry is sent on with this cookie.
            node.count_splice(service, |stats| stats.lazies += 1);
            return DROP;
        };
        node.count_splice(service, |stats| stats.splices += 1);
        Reply::Replay(Replay {
            service,
            length,
            caller_id,
            cookie,
        })
    }

    /// Bytes of the CONCLUSION that waits for this pod's cookie.
    #[inline(always)]
    fn kept<N: Node>(&self, node: &N, key: &FlowKey, caller_id: u32) -> Option<u16> {
        let incarnation = node.backend(self.slot)?.incarnation;
        let kept = node.splice(key)?;
        let sound = (srt::HANDSHAKE..=COPY_MAX as u16).contains(&kept.length)
            && kept.length % 4 == 0
            && self.datagram.payload == srt::HANDSHAKE;
        let same = kept.stream.caller_id == caller_id
            && kept.slot == self.slot
            && kept.incarnation == incarnation;
        (sound && same).then_some(kept.length)
    }
}
