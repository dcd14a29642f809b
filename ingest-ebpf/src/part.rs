//! Parts of the decisions as global functions: the verifier checks each once, by its signature, and each has a stack of its
//! own. They share the workspace. No decisions here.

use ingest_common::steer::{self, Part};

use crate::node::Kernel;

/// Placement.
#[unsafe(export_name = "ingest_place")]
#[inline(never)]
pub extern "C" fn place(pool: u32, hash: u32) -> u32 {
    u32::from(steer::place(&Kernel, pool as u16, hash))
}

/// Placement among doubtful backends. Apart from the other: their stacks add to the caller's.
#[unsafe(export_name = "ingest_doubtful")]
#[inline(never)]
pub extern "C" fn doubtful(pool: u32, hash: u32) -> u32 {
    u32::from(steer::place_in_doubt(&Kernel, pool as u16, hash))
}

/// Whether a packet of the marked flow is copied.
#[unsafe(export_name = "ingest_capture")]
#[inline(never)]
pub extern "C" fn capture(direction: u32) -> u32 {
    steer::capture(&Kernel, direction as u8) as u32
}

// The steps of a handshake.

#[unsafe(export_name = "ingest_extensions")]
#[inline(never)]
pub extern "C" fn extensions() -> u32 {
    u32::from(steer::check_extensions(&Kernel))
}

#[unsafe(export_name = "ingest_cookie")]
#[inline(never)]
pub extern "C" fn cookie() -> u32 {
    u32::from(steer::check_cookie(&Kernel))
}

#[unsafe(export_name = "ingest_sum")]
#[inline(never)]
pub extern "C" fn sum() -> u32 {
    u32::from(steer::payload_sum(&Kernel))
}

#[unsafe(export_name = "ingest_repeated")]
#[inline(never)]
pub extern "C" fn repeated() -> u32 {
    u32::from(steer::is_repeated(&Kernel))
}

#[unsafe(export_name = "ingest_stream_id")]
#[inline(never)]
pub extern "C" fn stream_id() -> u32 {
    u32::from(steer::read_stream_id(&Kernel))
}

#[unsafe(export_name = "ingest_match_key")]
#[inline(never)]
pub extern "C" fn match_key(field: u32) -> u32 {
    u32::from(steer::match_key(&Kernel, field as u8))
}

#[unsafe(export_name = "ingest_route")]
#[inline(never)]
pub extern "C" fn route() -> u64 {
    let route = steer::find_route(&Kernel);
    u64::from(route.route) | u64::from(route.pool) << 16 | u64::from(route.length) << 32
}

#[unsafe(export_name = "ingest_client")]
#[inline(never)]
pub extern "C" fn client() -> u64 {
    steer::decide(&Kernel, Part::Client).word()
}

#[unsafe(export_name = "ingest_induction")]
#[inline(never)]
pub extern "C" fn induction() -> u64 {
    steer::decide(&Kernel, Part::Induction).word()
}

#[unsafe(export_name = "ingest_conclusion")]
#[inline(never)]
pub extern "C" fn conclusion() -> u64 {
    steer::decide(&Kernel, Part::Conclusion).word()
}

#[unsafe(export_name = "ingest_known")]
#[inline(never)]
pub extern "C" fn known() -> u64 {
    steer::decide(&Kernel, Part::Known).word()
}

#[unsafe(export_name = "ingest_stream")]
#[inline(never)]
pub extern "C" fn stream() -> u64 {
    steer::decide(&Kernel, Part::Stream).word()
}
