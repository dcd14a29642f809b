//! SRT as the steering layer needs it: headers, handshakes, the filter, sequence numbers. Sans I/O.
//!
//! Sources: draft-sharabayko-srt (cited as "draft §") and what real libsrt does. The filter's check numbers are
//! those of [`crate::reason::DropReason`].

mod filter;
mod handshake;
mod header;
mod sequence;
#[cfg(test)]
mod tests;

pub use filter::*;
pub use handshake::*;
pub use header::*;
pub use sequence::*;
