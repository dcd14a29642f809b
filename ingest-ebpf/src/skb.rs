//! What only tc can do with a packet: rewriting with partial checksums, VLAN tags, sending it somewhere else.

use core::ptr;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::{
        bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_change_tail,
        bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_skb_vlan_pop, bpf_skb_vlan_push,
    },
};
use ingest_common::{
    abi::{Path, VLAN_NONE, words_from_address},
    packet::{COPY_MAX, Datagram, Truncated},
    srt,
    steer::{COOKIE_AT, Node, Replay, Response, Rewrite, SOCKET_ID_AT, Workspace},
};

use crate::{frame::opaque, node::Kernel};

/// Overwrites the packet's bytes from `offset`.
#[inline(always)]
fn store<T: Copy>(ctx: *mut __sk_buff, offset: usize, value: &T) -> Result<(), Truncated> {
    // SAFETY: `value` has the size passed; the helper checks the offset.
    let result = unsafe {
        bpf_skb_store_bytes(
            ctx.cast(),
            offset as u32,
            ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(Truncated) }
}

/// Rewrites the source of a pod's packet. The sum in a local pod's packet covers only the pseudo-header yet
/// (`CHECKSUM_PARTIAL`); the helpers know, so the same calls serve both cases.
#[inline(always)]
pub fn rewrite_source(ctx: *mut __sk_buff, rewrite: &Rewrite) -> Result<(), Truncated> {
    let packet = &rewrite.packet;
    let checksum = (packet.l4 + 6) as u32;
    let new = words_from_address(rewrite.address);
    let port = rewrite.port.to_be();
    if rewrite.datagram.checksum != 0 {
        let pseudo = u64::from(BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
        let old_port = u64::from(rewrite.datagram.source_port.to_be());
        // SAFETY: the helpers check the offset; old and new addresses are 16 readable bytes on the stack.
        let result = unsafe {
            let address = if packet.v6 {
                let (mut old, mut new) = (packet.source, new);
                let delta = bpf_csum_diff(old.as_mut_ptr(), 16, new.as_mut_ptr(), 16, 0);
                bpf_l4_csum_replace(ctx.cast(), checksum, 0, delta as u64, pseudo)
            } else {
                let (old, new) = (u64::from(packet.source[3]), u64::from(new[3]));
                bpf_l4_csum_replace(ctx.cast(), checksum, old, new, pseudo | 4)
            };
            let mangled = u64::from(BPF_F_MARK_MANGLED_0) | 2;
            address | bpf_l4_csum_replace(ctx.cast(), checksum, old_port, u64::from(port), mangled)
        };
        if result != 0 {
            return Err(Truncated);
        }
    }
    store(ctx, packet.l4, &port)?;
    if packet.v6 {
        return store(ctx, packet.l3 + 8, &new);
    }
    let (old, new) = (packet.source[3], new[3]);
    // SAFETY: the helper checks the offset.
    let result = unsafe {
        bpf_l3_csum_replace(
            ctx.cast(),
            packet.l3 as u32 + 10,
            u64::from(old),
            u64::from(new),
            4,
        )
    };
    if result != 0 {
        return Err(Truncated);
    }
    store(ctx, packet.l3 + 12, &new)
}

/// Makes the CONCLUSION that was kept of a pod's INDUCTION response, as the workspace says (see [`Replay`]).
///
/// The copy is read again from the packet: what its checksum is made of is then what the pod will read, even where the
/// entry of `SPLICES` was given away meanwhile.
#[inline(always)]
pub fn replay(ctx: *mut __sk_buff, response: &Response) -> Result<(), Truncated> {
    let payload = response.packet.l4 + Datagram::PAYLOAD;
    let space = Kernel.workspace().ok_or(Truncated)?;
    let replay = space.replay;
    let kept = Kernel.splice(&response.key(&replay)).ok_or(Truncated)?;
    // SAFETY: the text has room for both; the helper checks the offsets.
    let loaded = unsafe {
        let old = space.text.as_mut_ptr();
        bpf_skb_load_bytes(ctx.cast(), 0, old.add(OLD_MACS).cast(), 12)
            | bpf_skb_load_bytes(ctx.cast(), payload as u32, old.cast(), OLD_PAYLOAD)
    };
    if loaded != 0 {
        return Err(Truncated);
    }
    let length = u32::from(replay.length);
    // SAFETY: the helper takes plain values; no packet address is used afterwards.
    if unsafe { bpf_skb_change_tail(ctx, payload as u32 + length, 0) } != 0 {
        return Err(Truncated);
    }
    let from = kept.bytes.as_ptr();
    let bytes = bounded(length, SMALLEST, COPY_MAX as u32)?;
    // SAFETY: `from` has COPY_MAX bytes, at least `bytes`.
    if unsafe { bpf_skb_store_bytes(ctx.cast(), payload as u32, from.cast(), bytes, 0) } != 0 {
        return Err(Truncated);
    }
    store(ctx, payload + COOKIE_AT, &replay.cookie.to_be())?;
    let into = space.splice.bytes.as_mut_ptr();
    let bytes = bounded(length, SMALLEST, COPY_MAX as u32)?;
    // SAFETY: `into` has COPY_MAX bytes, at least `bytes`.
    if unsafe { bpf_skb_load_bytes(ctx.cast(), payload as u32, into.cast(), bytes) } != 0 {
        return Err(Truncated);
    }
    let [id0, id1, id2, id3] = [0, 1, 2, 3].map(|at| space.splice.bytes[SOCKET_ID_AT + at]);
    if u32::from_be_bytes([id0, id1, id2, id3]) != replay.caller_id {
        return Err(Truncated);
    }
    if response.datagram.checksum != 0 {
        let delta = payload_difference(space, length)?;
        change_sum(ctx, response, &replay, delta)?;
    }
    turn_back(ctx, space, response, &replay)
}

/// Bytes of an INDUCTION response.
const OLD_PAYLOAD: u32 = srt::HANDSHAKE as u32;
/// Bytes of the shortest CONCLUSION.
const SMALLEST: u32 = srt::HANDSHAKE as u32;
/// Where the old Ethernet addresses are in the workspace's text, behind the old payload.
const OLD_MACS: usize = srt::HANDSHAKE as usize;

/// `length`, if it is between the bounds: said in a way that every verifier understands, right before it is used. Each
/// comparison is hidden from LLVM, which would merge them into one or drop what it has proved before.
#[inline(always)]
fn bounded(length: u32, least: u32, most: u32) -> Result<u32, Truncated> {
    let length = opaque(u64::from(length));
    if length < u64::from(least) {
        return Err(Truncated);
    }
    let length = opaque(length);
    if length > u64::from(most) {
        return Err(Truncated);
    }
    Ok(length as u32)
}

/// The difference that the new payload makes to a sum. In pieces: old kernels sum up no more than 512 bytes at once.
#[inline(always)]
fn payload_difference(space: &mut Workspace, length: u32) -> Result<i64, Truncated> {
    const FIRST: u32 = 512 - OLD_PAYLOAD;
    const SECOND: u32 = FIRST + 512;
    let old = space.text.as_mut_ptr().cast();
    let new = space.splice.bytes.as_mut_ptr();
    let none = ptr::null_mut();
    let bytes = bounded(length.min(FIRST), SMALLEST, FIRST)?;
    // SAFETY: both have the bytes passed.
    let mut delta = unsafe { bpf_csum_diff(old, OLD_PAYLOAD, new.cast(), bytes, 0) };
    if length > FIRST {
        let bytes = bounded((length - FIRST).min(512), 4, 512)?;
        // SAFETY: FIRST and 512 are less than COPY_MAX.
        delta = unsafe {
            let from = new.add(FIRST as usize).cast();
            bpf_csum_diff(none, 0, from, bytes, delta as u32)
        };
    }
    if length > SECOND {
        let bytes = bounded(length - SECOND, 4, COPY_MAX as u32 - SECOND)?;
        // SAFETY: no more than what COPY_MAX leaves behind SECOND.
        delta = unsafe {
            let from = new.add(SECOND as usize).cast();
            bpf_csum_diff(none, 0, from, bytes, delta as u32)
        };
    }
    Ok(delta)
}

/// Tells the UDP checksum of the new length and payload. The length counts twice, in the pseudo-header and in the header;
/// where the field holds only the pseudo-header's sum, the helper leaves out the rest.
#[inline(always)]
fn change_sum(
    ctx: *mut __sk_buff,
    response: &Response,
    replay: &Replay,
    delta: i64,
) -> Result<(), Truncated> {
    let checksum = (response.packet.l4 + 6) as u32;
    let [old, new] = Response::lengths(replay).map(u64::from);
    let mangled = u64::from(BPF_F_MARK_MANGLED_0);
    let pseudo = mangled | u64::from(BPF_F_PSEUDO_HDR);
    // SAFETY: the helper checks the offset.
    let result = unsafe {
        bpf_l4_csum_replace(ctx.cast(), checksum, old, new, pseudo | 2)
            | bpf_l4_csum_replace(ctx.cast(), checksum, old, new, mangled | 2)
            | bpf_l4_csum_replace(ctx.cast(), checksum, 0, delta as u64, mangled)
    };
    if result == 0 { Ok(()) } else { Err(Truncated) }
}

/// Swaps the ends, which changes no sum, and writes the new lengths.
#[inline(always)]
fn turn_back(
    ctx: *mut __sk_buff,
    space: &Workspace,
    response: &Response,
    replay: &Replay,
) -> Result<(), Truncated> {
    let Response { packet, datagram } = response;
    // SAFETY: both are six bytes of the text.
    let (destination, source) = unsafe {
        let at = space.text.as_ptr().add(OLD_MACS);
        (&*at.cast::<[u8; 6]>(), &*at.add(6).cast::<[u8; 6]>())
    };
    store(ctx, 0, source)?;
    store(ctx, 6, destination)?;
    let ports = [
        datagram.destination_port.to_be(),
        datagram.source_port.to_be(),
    ];
    store(ctx, packet.l4, &ports)?;
    let [_, new] = Response::lengths(replay);
    store(ctx, packet.l4 + 4, &new)?;
    let [old, new] = response.ip_lengths(replay);
    if packet.v6 {
        store(ctx, packet.l3 + 4, &new)?;
        store(ctx, packet.l3 + 8, &packet.destination)?;
        return store(ctx, packet.l3 + 24, &packet.source);
    }
    let header = packet.l3 as u32 + 10;
    // SAFETY: the helper checks the offset.
    if unsafe { bpf_l3_csum_replace(ctx.cast(), header, old.into(), new.into(), 2) } != 0 {
        return Err(Truncated);
    }
    store(ctx, packet.l3 + 2, &new)?;
    store(
        ctx,
        packet.l3 + 12,
        &[packet.destination[3], packet.source[3]],
    )
}

/// Addresses the frame to the client's next hop.
#[inline(always)]
pub fn address_to(ctx: *mut __sk_buff, path: &Path) -> Result<(), Truncated> {
    // Copied, or the whole path stays in memory (see `node`).
    let (client, node) = (path.client_mac, path.node_mac);
    store(ctx, 0, &client)?;
    store(ctx, 6, &node)
}

/// Puts the client's VLAN tags in front.
#[inline(always)]
pub fn push_tags(ctx: *mut __sk_buff, path: &Path) -> Result<(), Truncated> {
    if path.vlan_protocol == 0 {
        return Ok(());
    }
    if path.vlan_inner != VLAN_NONE {
        push(ctx, ingest_common::packet::VLAN, path.vlan_inner)?;
    }
    push(ctx, path.vlan_protocol, path.vlan_outer)
}

#[inline(always)]
fn push(ctx: *mut __sk_buff, protocol: u16, tag: u16) -> Result<(), Truncated> {
    // SAFETY: the helper takes plain values.
    if unsafe { bpf_skb_vlan_push(ctx, protocol.to_be(), tag) } == 0 {
        Ok(())
    } else {
        Err(Truncated)
    }
}

/// Takes the tags of [`push_tags`] away again.
#[inline(always)]
pub fn pop_tags(ctx: *mut __sk_buff, path: &Path) -> Result<(), Truncated> {
    if path.vlan_protocol == 0 {
        return Ok(());
    }
    // SAFETY: the helper takes only the context.
    let mut result = unsafe { bpf_skb_vlan_pop(ctx) };
    if path.vlan_inner != VLAN_NONE {
        // SAFETY: as above.
        result |= unsafe { bpf_skb_vlan_pop(ctx) };
    }
    if result == 0 { Ok(()) } else { Err(Truncated) }
}
