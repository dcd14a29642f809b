//! SRT as the steering layer needs it: headers, handshakes, the filter, sequence numbers. Sans I/O.
//!
//! Sources: draft-sharabayko-srt (cited as "draft §") and what real libsrt does. The filter's check numbers are
//! those of [`crate::reason::DropReason`].

mod cookie;
mod filter;
mod handshake;
mod header;
mod sequence;
mod stream_id;
#[cfg(test)]
mod tests;

pub use cookie::*;
pub use filter::*;
pub use handshake::*;
pub use header::*;
pub use sequence::*;
pub use stream_id::*;
