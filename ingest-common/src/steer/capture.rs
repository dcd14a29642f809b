//! Which packets of a marked flow are copied for `ingest-agent capture`.
//!
//! Owns the bounds: whoever asked may be gone. Must not copy: the shells do.

use super::Node;
use crate::abi::FLOW_CAPTURED;

/// How much of a packet is copied.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// Nothing.
    Nothing = 0,
    /// [`crate::abi::CAPTURE_HEADERS`]
    Headers = 1,
    /// [`crate::abi::CAPTURE_WHOLE`]
    Whole = 2,
}

/// Counts a packet of the marked flow, and says whether it is copied. Takes the mark away once there is enough.
#[inline(always)]
pub fn capture<N: Node>(node: &N, direction: u8) -> Copied {
    let Some(mut capture) = node.capture() else {
        return Copied::Nothing;
    };
    if capture.left == 0 || node.now() >= capture.until_ns {
        let key = capture.key;
        drop(capture);
        if let Some(mut flow) = node.flow(&key) {
            flow.marks &= !FLOW_CAPTURED;
        }
        return Copied::Nothing;
    }
    let [up, down] = &mut capture.seen;
    let seen = if direction == 0 { up } else { down };
    let number = *seen;
    *seen = number + 1;
    if capture.every > 1 && !number.is_multiple_of(u64::from(capture.every)) {
        return Copied::Nothing;
    }
    capture.left -= 1;
    if capture.whole == 0 {
        Copied::Headers
    } else {
        Copied::Whole
    }
}
