//! Classic pcap with nanoseconds: every tool reads it, and a pipe can be read while it grows.

use std::io::{self, Write};

/// Says "nanoseconds", and by its order the order of all numbers.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Ethernet (`LINKTYPE_ETHERNET`).
const LINK_TYPE: u32 = 1;
/// Longest packet, as tcpdump says it.
const SNAP_LENGTH: u32 = 262_144;
const NS: u64 = 1_000_000_000;

/// Writes the header of a file.
pub(super) fn begin(out: &mut impl Write) -> io::Result<()> {
    let version = 2_u32 | 4 << 16;
    for word in [MAGIC, version, 0, 0, SNAP_LENGTH, LINK_TYPE] {
        out.write_all(&word.to_le_bytes())?;
    }
    Ok(())
}

/// Writes a packet of `length` bytes, of which these are here.
pub(super) fn packet(
    out: &mut impl Write,
    unix_ns: u64,
    bytes: &[u8],
    length: u32,
) -> io::Result<()> {
    let kept = bytes.len() as u32;
    for word in [(unix_ns / NS) as u32, (unix_ns % NS) as u32, kept, length] {
        out.write_all(&word.to_le_bytes())?;
    }
    out.write_all(bytes)
}
