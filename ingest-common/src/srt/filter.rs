//! The filter on packets from clients: what libsrt would not send is dropped before it reaches a pod.

use super::{HANDSHAKE, HEADER, Header, PAYLOAD_MAX, control};
use crate::{packet::Frame, reason::DropReason};

/// Checks 1, 2, 9 to 13: a packet from a client, `length` bytes of UDP payload at `offset`. Handshakes to a listener
/// and what needs a flow (checks 8 and 9's window) are checked elsewhere.
#[inline(always)]
pub fn check<F: Frame>(
    frame: &F,
    header: &Header,
    offset: usize,
    length: u16,
) -> Result<(), DropReason> {
    if length < HEADER as u16 || length > PAYLOAD_MAX {
        return Err(DropReason::SrtLength);
    }
    if header.is_control() {
        return check_control(frame, header, offset, length);
    }
    if header.key() == 3 || length == HEADER as u16 {
        return Err(DropReason::SrtData);
    }
    if header.destination == 0 {
        Err(DropReason::SrtUnaddressed)
    } else {
        Ok(())
    }
}

#[inline(always)]
fn check_control<F: Frame>(
    frame: &F,
    header: &Header,
    offset: usize,
    length: u16,
) -> Result<(), DropReason> {
    let kind = header.control_type();
    if kind > control::PEER_ERROR && kind != control::USER {
        return Err(DropReason::SrtControlType);
    }
    if kind != control::USER && header.subtype() != 0 {
        return Err(DropReason::SrtControlType);
    }
    if !length.is_multiple_of(4) {
        return Err(DropReason::SrtControlLength);
    }
    if header.destination == 0 && kind != control::HANDSHAKE {
        return Err(DropReason::SrtUnaddressed);
    }
    match kind {
        control::HANDSHAKE => (length >= HANDSHAKE)
            .then_some(())
            .ok_or(DropReason::SrtControlLength),
        control::ACK => matches!(length, 20 | 32 | 40 | 44 | 48)
            .then_some(())
            .ok_or(DropReason::SrtControlLength),
        control::NAK => {
            // The list must not end inside a range.
            let last = frame
                .word_at(offset + length as usize - 4)
                .unwrap_or(u32::MAX);
            (length >= 20 && u32::from_be(last) >> 31 == 0)
                .then_some(())
                .ok_or(DropReason::SrtNak)
        }
        control::DROP_REQUEST => {
            let Ok([first, last]) = frame.words::<2>(offset + HEADER) else {
                return Err(DropReason::SrtDropRequest);
            };
            let span = super::ahead(u32::from_be(last), u32::from_be(first));
            (length == 24 && (0..=8191).contains(&span))
                .then_some(())
                .ok_or(DropReason::SrtDropRequest)
        }
        control::USER => {
            let ok = match header.subtype() {
                // HSREQ and HSRSP of HSv4.
                1 | 2 => length == 28,
                // KMREQ and KMRSP: a status word, or key material of 56 to 104 bytes (CVE-2026-55868/55869).
                3 | 4 => length == 20 || (72..=120).contains(&length),
                _ => false,
            };
            ok.then_some(()).ok_or(DropReason::SrtUser)
        }
        _ => matches!(length, 16 | 20)
            .then_some(())
            .ok_or(DropReason::SrtControlLength),
    }
}
