//! What the kernel programs and the agent share, in pure `no_std` Rust.
//!
//! * [`abi`]: every struct that lives in a BPF map, with its size asserted; map names and sizes.
//! * [`packet`]: reading and rewriting Ethernet, IP, UDP and ICMP through the [`packet::Frame`] trait.
//! * [`srt`]: SRT headers, handshakes and the filter checks, sans I/O.
//! * [`steer`]: the decision itself, top to bottom: [`steer::ingress`] for packets from clients,
//!   [`steer::egress`] for packets from pods.
//! * [`maglev`]: building and looking up the placement table.
//! * [`rate`]: how fast something may come.
//! * [`reason`]: numbered reasons for every drop and every pass of a packet to a VIP.
//!
//! Nothing here knows aya (but for `Pod` marks behind the feature `user`), std, maps or a clock: those come in
//! through [`steer::Node`]. So the same code runs in the kernel, in host tests and under a fuzzer.
//! Code on the packet path does not panic: no slice indexing, no unchecked arithmetic that could overflow in
//! debug builds, no division by a variable.

#![no_std]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod maglev;
pub mod packet;
pub mod rate;
pub mod reason;
pub mod srt;
pub mod steer;
