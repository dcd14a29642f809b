//! What only tc can do with a packet: rewriting with partial checksums, VLAN tags, sending it somewhere else.

use core::ptr;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::{
        bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_store_bytes,
        bpf_skb_vlan_pop, bpf_skb_vlan_push,
    },
};
use ingest_common::{
    abi::{Path, VLAN_NONE, words_from_address},
    packet::Truncated,
    steer::Rewrite,
};

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
