//! The packet of a handshake, once it is decided what becomes of it.

use super::{
    Caller,
    decision::{Decision, Step},
};
use crate::{
    abi::{AnswerBy, BACKEND_PARTIAL_CHECKSUMS, Backend, DeliveryMode},
    packet::{
        Datagram, End, Frame, Truncated, UDP_HEADER, difference, finish_udp, fold, sum, update_udp,
    },
    reason::DropReason,
    srt::{self, Rejection},
    steer::{
        Action, Node, Outcome,
        session::{delivery, finish},
    },
};

/// Bytes of UDP that carry a handshake without extensions.
const LENGTH: u16 = UDP_HEADER as u16 + srt::HANDSHAKE;
/// Hop limit of our own packets.
const HOPS: u32 = 64;
const DONT_FRAGMENT: u32 = 0x4000;
/// What tells a caller that we speak HSv5; and no key length is advertised.
const MAGIC: u32 = 0x0000_4a17;
/// Extension field of an INDUCTION: UDT_DGRAM.
const DATAGRAM: u32 = 2;

/// Offsets in the payload.
mod at {
    pub(super) const DESTINATION: usize = 12;
    pub(super) const VERSION: usize = 16;
    pub(super) const KIND: usize = 36;
    pub(super) const COOKIE: usize = 44;
}

impl Caller<'_> {
    /// Rewrites the packet as decided.
    #[inline(always)]
    pub(super) fn carry_out<F: Frame, N: Node>(
        &self,
        frame: &mut F,
        node: &N,
        decision: Decision,
    ) -> Result<Outcome, DropReason> {
        match decision.step() {
            // What is not decided never comes so far.
            Step::Drop | Step::Unknown | Step::Unplaced | Step::Ask => Ok(Outcome::told(
                Action::Drop,
                decision.reason(),
                decision.route(),
                0,
            )),
            Step::Pass => Ok(Outcome::told(Action::Pass, decision.reason(), 0, 0)),
            Step::Answer | Step::Reject => {
                if !node.dry_run() {
                    self.answer(frame, node, decision)?;
                }
                Ok(Outcome::told(
                    Action::Answer,
                    decision.reason(),
                    decision.route(),
                    decision.rejection(),
                ))
            }
            Step::Forward | Step::Rewrite | Step::Cut => self.deliver(frame, node, decision),
        }
    }

    /// Makes the request our answer to it, where it stands.
    #[inline(always)]
    fn answer<F: Frame, N: Node>(
        &self,
        frame: &mut F,
        node: &N,
        decision: Decision,
    ) -> Result<(), DropReason> {
        // Sent by tc, the packet keeps its mark: a device adds the rest.
        let partial = self.datagram.is_partial(frame, self.packet)?
            && node.config().answer_by == AnswerBy::Tc as u32;
        let (caller_id, cookie) = match node.workspace() {
            Some(space) => (space.request.caller_id, space.request.send_cookie),
            None => return Err(DropReason::Undeliverable),
        };
        let payload = self.packet.l4 + Datagram::PAYLOAD;
        if decision.step() == Step::Reject {
            let rejection =
                Rejection::from_place(decision.rejection()).ok_or(DropReason::Undeliverable)?;
            frame.truncate(payload + srt::HANDSHAKE as usize)?;
            let code = u32::from(rejection.code());
            frame.set_words::<1>(payload + at::KIND, [code.to_be()])?;
            frame.set_words::<2>(
                payload + at::DESTINATION,
                [caller_id.to_be(), 5_u32.to_be()],
            )?;
        } else {
            frame.set_words::<3>(
                payload + at::DESTINATION,
                [caller_id.to_be(), 5_u32.to_be(), MAGIC.to_be()],
            )?;
            frame.set_words::<1>(payload + at::COOKIE, [cookie.to_be()])?;
        }
        self.turn_round(frame)?;
        self.seal(frame, true, partial)?;
        Ok(())
    }

    /// Swaps both ends of all layers.
    #[inline(always)]
    fn turn_round<F: Frame>(&self, frame: &mut F) -> Result<(), Truncated> {
        let [d0, d1, d2, s0, s1, s2] = frame.halves::<6>(0)?;
        frame.set_halves::<6>(0, [s0, s1, s2, d0, d1, d2])?;
        let packet = self.packet;
        if packet.v6 {
            let [s0, s1, s2, s3, d0, d1, d2, d3] = frame.words::<8>(packet.l3 + 8)?;
            frame.set_words::<8>(packet.l3 + 8, [d0, d1, d2, d3, s0, s1, s2, s3])?;
        } else {
            let [source, destination] = frame.words::<2>(packet.l3 + 12)?;
            frame.set_words::<2>(packet.l3 + 12, [destination, source])?;
        }
        let [ports] = frame.words::<1>(packet.l4)?;
        frame.set_words::<1>(packet.l4, [ports.rotate_left(16)])
    }

    /// On to the pod.
    #[inline(always)]
    fn deliver<F: Frame, N: Node>(
        &self,
        frame: &mut F,
        node: &N,
        decision: Decision,
    ) -> Result<Outcome, DropReason> {
        let slot = decision.slot();
        let (service, cookie, induction) = match node.workspace() {
            Some(space) => (
                space.request.key.service,
                space.request.send_cookie,
                space.request.kind == srt::INDUCTION,
            ),
            None => return Err(DropReason::Undeliverable),
        };
        let length = u64::from(self.datagram.payload);
        node.count(service, slot, |traffic| {
            traffic.up_packets += 1;
            traffic.up_bytes += length;
            traffic.inductions += u64::from(induction);
        });
        let backend = node.backend(slot).ok_or(DropReason::Undeliverable)?;
        let mut way = delivery(service, self.link, &backend, slot, decision.by_flow());
        way.route = decision.route();
        let partial = self.datagram.is_partial(frame, self.packet)?;
        if decision.step() == Step::Cut {
            // An XDP frame cannot carry the mark of a partial checksum; with a full one it needs none.
            let partial = partial && way.mode != DeliveryMode::Redirect;
            self.cut(frame, &backend, partial)?;
        } else {
            if decision.step() == Step::Rewrite {
                self.set_cookie(frame, cookie, partial)?;
            }
            if partial
                && way.mode == DeliveryMode::Redirect
                && backend.flags & BACKEND_PARTIAL_CHECKSUMS != 0
            {
                way.mode = DeliveryMode::Peer;
            }
            self.packet
                .set_udp_end(frame, End::Destination, &backend.address, backend.port)?;
        }
        finish(frame, &backend, &way)?;
        Ok(Outcome::deliver(&way))
    }

    /// The pod's cookie in place of ours.
    #[inline(always)]
    fn set_cookie<F: Frame>(
        &self,
        frame: &mut F,
        cookie: u32,
        partial: bool,
    ) -> Result<(), Truncated> {
        let at = self.packet.l4 + Datagram::PAYLOAD + at::COOKIE;
        let [old] = frame.words::<1>(at)?;
        let new = cookie.to_be();
        frame.set_words::<1>(at, [new])?;
        if partial {
            return Ok(());
        }
        let checksum = update_udp(self.datagram.checksum, difference([old], [new]));
        frame.set_halves::<1>(self.packet.l4 + 6, [checksum])
    }

    /// Makes the CONCLUSION an INDUCTION to the pod: what a caller would have sent it. The CONCLUSION itself is kept.
    #[inline(always)]
    fn cut<F: Frame>(
        &self,
        frame: &mut F,
        backend: &Backend,
        partial: bool,
    ) -> Result<(), Truncated> {
        let payload = self.packet.l4 + Datagram::PAYLOAD;
        frame.truncate(payload + srt::HANDSHAKE as usize)?;
        frame.set_words::<2>(payload + at::VERSION, [4_u32.to_be(), DATAGRAM.to_be()])?;
        frame.set_words::<1>(payload + at::KIND, [srt::INDUCTION.to_be()])?;
        frame.set_words::<1>(payload + at::COOKIE, [0])?;
        self.packet
            .set_udp_end(frame, End::Destination, &backend.address, backend.port)?;
        self.seal(frame, false, partial)
    }

    /// Makes the headers those of a handshake without extensions, with both checksums anew; of a `partial` one the
    /// pseudo-header's sum. `ours`: it is a packet of our own, no longer the client's.
    #[inline(always)]
    fn seal<F: Frame>(&self, frame: &mut F, ours: bool, partial: bool) -> Result<(), Truncated> {
        let packet = self.packet;
        if packet.v6 {
            let [first, second] = frame.words::<2>(packet.l3)?;
            let second = u32::from_be(second) & 0xffff | u32::from(LENGTH) << 16;
            let words = if ours {
                [0x6000_0000_u32.to_be(), (second & !0xff | HOPS).to_be()]
            } else {
                [first, second.to_be()]
            };
            frame.set_words::<2>(packet.l3, words)?;
        } else {
            let [first, second, third, source, destination] = frame.words::<5>(packet.l3)?;
            let first = u32::from_be(first) & 0xffff_0000 | (20 + u32::from(LENGTH));
            let third = u32::from_be(third) & 0xffff_0000;
            let [first, second, third] = if ours {
                [
                    (first & 0xff00_ffff).to_be(),
                    DONT_FRAGMENT.to_be(),
                    (third & 0x00ff_0000 | HOPS << 24).to_be(),
                ]
            } else {
                [first.to_be(), second, third.to_be()]
            };
            let checksum = !fold(sum([first, second, third, source, destination]));
            // The checksum is the second half of the third word, as in memory.
            let third = third | u32::from(u16::from_be(checksum)).to_be();
            frame.set_words::<3>(packet.l3, [first, second, third])?;
        }
        let pseudo = packet.pseudo_header(frame, LENGTH)?;
        let length = (u32::from(LENGTH) << 16).to_be();
        let checksum = if partial {
            fold(pseudo)
        } else {
            let payload = packet.l4 + Datagram::PAYLOAD;
            let mut total = pseudo.wrapping_add(sum(frame.words::<1>(packet.l4)?));
            total = total.wrapping_add(u64::from(length));
            total = total.wrapping_add(sum(frame.words::<8>(payload)?));
            finish_udp(total.wrapping_add(sum(frame.words::<8>(payload + 32)?)))
        };
        let second = u32::from_be(length) | u32::from(u16::from_be(checksum));
        frame.set_words::<1>(packet.l4 + 4, [second.to_be()])
    }
}
