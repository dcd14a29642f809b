//! A pod's INDUCTION response to the kernel's own INDUCTION: the caller never sees it. The CONCLUSION that was kept
//! takes its place, with the pod's cookie in it, and goes back to the pod.

use super::{FromPod, Hook, Reply};
use crate::{
    abi::{FlowKey, Path, ReturnKey, Splice},
    packet::{
        COPY_MAX, Datagram, Frame, FrameBuf, Packet, Shorten, Truncated, UDP_HEADER, addresses,
        difference, update, update_udp,
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
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// The response.
    pub packet: Packet,
    /// Its UDP header; [`srt::HANDSHAKE`] bytes follow.
    pub datagram: Datagram,
    /// Where the CONCLUSION is kept in `SPLICES`.
    pub key: FlowKey,
    /// Bytes of it: a multiple of 4, from [`srt::HANDSHAKE`] to [`COPY_MAX`].
    pub length: u16,
    /// The caller's socket id.
    pub caller_id: u32,
    /// The pod's cookie.
    pub cookie: u32,
    /// The way that the client's packets come. The host's routing brings them to a `stack` pod.
    pub path: Path,
}

impl Replay {
    /// The UDP header's length field before and after, as in memory.
    #[must_use]
    #[inline(always)]
    pub const fn lengths(&self) -> [u16; 2] {
        let header = UDP_HEADER as u16;
        [
            (header + srt::HANDSHAKE).to_be(),
            (header + self.length).to_be(),
        ]
    }

    /// The IP header's length field before and after, as in memory.
    #[must_use]
    #[inline(always)]
    pub const fn ip_lengths(&self) -> [u16; 2] {
        let header = if self.packet.v6 {
            0
        } else {
            (self.packet.l4 - self.packet.l3) as u16
        };
        let [old, new] = self.lengths();
        [
            (u16::from_be(old) + header).to_be(),
            (u16::from_be(new) + header).to_be(),
        ]
    }

    /// Rewrites the frame in memory. The kernel does it by helpers instead, since the response may carry only part of its
    /// checksum, and the frame must grow.
    pub fn apply<B>(
        &self,
        frame: &mut FrameBuf<B>,
        kept: &Splice,
        hook: Hook,
    ) -> Result<(), Truncated>
    where
        B: AsRef<[u8]> + AsMut<[u8]> + Shorten + Extend<u8>,
    {
        let Packet { l3, l4, .. } = self.packet;
        let payload = l4 + Datagram::PAYLOAD;
        let kept = kept.bytes.get(..self.length as usize).ok_or(Truncated)?;
        let [old, new] = self.lengths();
        // The pseudo-header has the length as well.
        let lengths = difference(
            [u32::from(old), u32::from(old)],
            [u32::from(new), u32::from(new)],
        );
        let mut delta = difference(frame.words::<16>(payload)?, [0; 16]).wrapping_add(lengths);
        frame.0.shorten(payload);
        frame.0.extend(kept.iter().copied());
        frame.set_words::<1>(payload + COOKIE_AT, [self.cookie.to_be()])?;
        for at in (0..kept.len()).step_by(4) {
            delta = delta.wrapping_add(u64::from(frame.word_at(payload + at)?));
        }
        let [checksum] = frame.halves::<1>(l4 + 6)?;
        frame.set_halves::<1>(l4 + 6, [update_udp(checksum, delta)])?;
        self.turn_back(frame, hook)?;
        frame.set_halves::<1>(l4 + 4, [new])?;
        let [old, new] = self.ip_lengths();
        if self.packet.v6 {
            return frame.set_halves::<1>(l3 + 4, [new]);
        }
        let [checksum] = frame.halves::<1>(l3 + 10)?;
        let delta = difference([u32::from(old)], [u32::from(new)]);
        frame.set_halves::<1>(l3 + 10, [update(checksum, delta)])?;
        frame.set_halves::<1>(l3 + 2, [new])
    }

    /// Swaps the ends: no checksum changes by it.
    fn turn_back<F: Frame>(&self, frame: &mut F, hook: Hook) -> Result<(), Truncated> {
        let Packet {
            l3,
            l4,
            v6,
            source: [s0, s1, s2, s3],
            destination: [d0, d1, d2, d3],
            ..
        } = self.packet;
        let [d_high, d_mid, d_low, s_high, s_mid, s_low] = frame.halves::<6>(0)?;
        let macs = match hook {
            Hook::PodPort(_) => [s_high, s_mid, s_low, d_high, d_mid, d_low],
            Hook::Uplink => addresses(self.path.node_mac, self.path.client_mac),
        };
        frame.set_halves::<6>(0, macs)?;
        let [ports] = frame.words::<1>(l4)?;
        frame.set_words::<1>(l4, [ports.rotate_left(16)])?;
        if v6 {
            frame.set_words::<8>(l3 + 8, [d0, d1, d2, d3, s0, s1, s2, s3])
        } else {
            frame.set_words::<2>(l3 + 12, [d3, s3])
        }
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
        let path = known.path;
        drop(known);
        let Some(length) = self.kept(node, flow_key, caller_id) else {
            // The caller's next retry is sent on with this cookie.
            node.count_splice(service, |stats| stats.lazies += 1);
            return DROP;
        };
        node.count_splice(service, |stats| stats.splices += 1);
        Reply::Replay(Replay {
            packet: *self.packet,
            datagram: *self.datagram,
            key: *flow_key,
            length,
            caller_id,
            cookie,
            path,
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
