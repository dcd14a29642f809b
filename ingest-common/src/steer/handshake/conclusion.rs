//! CONCLUSION to a `stream` service: whoever proves its address is heard, and told where it is rejected.

use core::hint::black_box;

use super::{
    Part, admit,
    decision::{Decision, Step},
};
use crate::{
    abi::{EventKind, NO_SLOT, words_from_address},
    packet::{COPY_MAX, fold},
    reason::DropReason,
    srt::{self, CookieCheck, Rejection},
    steer::Node,
};

/// Checks 5 and 6: the cookie of the request in the workspace. 0, or the number of a [`DropReason`].
#[inline(always)]
pub fn check_cookie<N: Node>(node: &N) -> u8 {
    if node.dry_run() {
        return 0;
    }
    let (Some(secrets), Some(space)) = (node.secrets(), node.workspace()) else {
        return DropReason::Undeliverable as u8;
    };
    let key = space.request.key;
    let (caller_id, cookie) = (space.request.caller_id, space.request.cookie);
    drop(space);
    let client = words_from_address(key.address);
    let check = srt::check_cookie(&secrets, client, key.port, caller_id, cookie, node.now());
    node.count_splice(key.service, |stats| match check {
        CookieCheck::Valid => stats.cookies_valid += 1,
        CookieCheck::Stale => stats.cookies_stale += 1,
        CookieCheck::Forged => stats.cookies_forged += 1,
    });
    match check {
        CookieCheck::Valid => 0,
        CookieCheck::Stale => DropReason::CookieStale as u8,
        CookieCheck::Forged => DropReason::CookieForged as u8,
    }
}

/// Check 7: [`srt::check_extensions`] in the workspace. Begins what is known of the stream. 0, or the number of a
/// [`DropReason`].
#[inline(always)]
pub fn check_extensions<N: Node>(node: &N) -> u8 {
    let Some(mut space) = node.workspace() else {
        return DropReason::Undeliverable as u8;
    };
    let space = &mut *space;
    let asked = &space.request;
    let stream = &mut space.splice.stream;
    stream.caller_id = asked.caller_id;
    stream.encryption = asked.encryption as u8;
    stream.handshake = asked.version as u8;
    stream.version = 0;
    stream.receiver_latency = 0;
    stream.sender_latency = 0;
    stream.group = 0;
    stream.encrypted = 0;
    space.sid_at = 0;
    if asked.version != 5 {
        return 0;
    }
    match srt::check_extensions(&space.splice.bytes, asked.length, stream) {
        Ok(sid_at) => {
            space.sid_at = sid_at;
            0
        }
        Err(reason) => reason as u8,
    }
}

/// [`srt::read_stream_id`] in the workspace.
#[inline(always)]
pub fn read_stream_id<N: Node>(node: &N) -> u8 {
    match node.workspace() {
        Some(mut space) => srt::read_stream_id(&mut space),
        None => DropReason::Undeliverable as u8,
    }
}

/// The sum of the payload in the workspace.
#[must_use]
#[inline(always)]
pub fn payload_sum<N: Node>(node: &N) -> u16 {
    let Some(space) = node.workspace() else {
        return 0;
    };
    let words = u32::from(space.request.length) / 4;
    let (bytes, _) = space.splice.bytes.as_chunks::<4>();
    let mut sum = 0_u64;
    let mut at = 0;
    while at < COPY_MAX as u32 / 4 {
        if at >= words {
            break;
        }
        let word = bytes.get(at as usize).copied().unwrap_or_default();
        sum = sum.wrapping_add(u64::from(u32::from_ne_bytes(word)));
        at += 1;
    }
    fold(sum)
}

/// Decides, and says or does not say a rejection.
#[inline(always)]
pub(super) fn decide<N: Node>(node: &N) -> Result<Decision, Decision> {
    let refused = conclude(node)?;
    if refused.step() != Step::Reject {
        return Ok(refused);
    }
    let silent = Decision::drop_by(refused.reason()).of_route(refused.route());
    let Some(space) = node.workspace() else {
        return Err(silent);
    };
    let key = space.request.key;
    let (version, caller_id) = (space.request.version, space.request.caller_id);
    drop(space);
    // HSv4 callers do not understand rejections.
    if version == 4 {
        return Err(silent);
    }
    // Told too often, encoders storm: silence costs them seconds.
    if !admit::source(node, key.address, admit::Act::Rejection) {
        node.count_splice(key.service, |stats| stats.unsaid += 1);
        return Err(silent);
    }
    let Some(rejection) = Rejection::from_place(refused.rejection()) else {
        return Err(silent);
    };
    // The compiler knows the bound and would leave out the check that the verifier wants to see.
    let place = black_box(rejection as usize);
    node.count_splice(key.service, |stats| {
        if let Some(count) = stats.rejected.get_mut(place) {
            *count += 1;
        }
    });
    node.emit(|event| {
        event.time_ns = node.now();
        event.address = key.address;
        event.port = key.port;
        event.service = key.service;
        event.slot = NO_SLOT;
        event.kind = EventKind::HandshakeRefused as u8;
        event.reason = refused.reason();
        event.caller_id = caller_id;
        event.listener_id = u32::from(rejection.code());
        event.route = refused.route();
    });
    Err(refused)
}

#[inline(always)]
fn conclude<N: Node>(node: &N) -> Result<Decision, Decision> {
    let address = match node.workspace() {
        Some(space) => space.request.key.address,
        None => return Err(Decision::drop(DropReason::Undeliverable)),
    };
    if !admit::source(node, address, admit::Act::Conclusion) {
        return Err(Decision::drop(DropReason::SourceRate));
    }
    let bad = node.check_extensions();
    if bad != 0 {
        return Err(Decision::drop_by(bad));
    }
    verify(node)?;
    let known = node.decide(Part::Known);
    match known.step() {
        Step::Unknown | Step::Unplaced => {}
        _ => return Ok(known),
    }
    if let Some(mut space) = node.workspace() {
        space.request.charged = u32::from(known.step() == Step::Unplaced);
    }
    Ok(node.decide(Part::Stream))
}

/// The checksum of what is about to be kept: it is sent on with a fresh one, and a flipped bit must not become another
/// stream's name.
#[inline(always)]
fn verify<N: Node>(node: &N) -> Result<(), Decision> {
    let (sum, summed) = match node.workspace() {
        Some(space) => (space.request.sum, space.request.summed),
        None => return Err(Decision::drop(DropReason::Undeliverable)),
    };
    if summed == 1 && fold(u64::from(sum) + u64::from(node.payload_sum())) != 0xffff {
        return Err(Decision::drop(DropReason::Checksum));
    }
    Ok(())
}
