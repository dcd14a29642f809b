use std::{collections::BTreeSet, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    abi::StreamId,
    packet::{COPY_MAX, FrameBuf},
};

#[test]
fn ahead_knows_the_wrap() {
    assert_eq!(ahead(5, 5), 0);
    assert_eq!(ahead(6, 5), 1);
    assert_eq!(ahead(4, 5), -1);
    assert_eq!(ahead(0, 0x7fff_ffff), 1);
    assert_eq!(ahead(0x7fff_ffff, 0), -1);
    assert_eq!(next(0x7fff_ffff), 0);
}

#[test]
fn a_shutdown_is_what_libsrt_sends() {
    let bytes: Vec<u8> = shutdown(0x1234_5678)
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let expected = [
        0x80, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0,
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn a_header_is_read_as_the_draft_says() {
    let header = Header::new([
        0x8002_0001_u32.to_be(),
        0xffff_ffff,
        0,
        0x0102_0304_u32.to_be(),
    ]);
    assert!(header.is_control());
    assert_eq!((header.control_type(), header.subtype()), (control::ACK, 1));
    assert_eq!(header.destination, 0x0102_0304);
    let data = Header::new([0x7fff_fffe_u32.to_be(), 0xf400_0001_u32.to_be(), 0, 0]);
    assert!(!data.is_control() && data.is_retransmitted());
    assert_eq!((data.sequence(), data.key()), (0x7fff_fffe, 2));
}

fn lost(words: &[u32]) -> u32 {
    let mut list = LossList::default();
    for word in words {
        list.push(*word);
    }
    list.lost
}

/// A loss list of `set`, as libsrt writes it.
fn loss_list(set: &BTreeSet<u32>) -> Vec<u32> {
    let mut words = Vec::new();
    let mut rest = set.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        if first == last {
            words.push(first);
        } else {
            words.extend([first | 1 << 31, last]);
        }
    }
    words
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ahead_undoes_addition(from in 0..=0x7fff_ffff_u32, by in -0x3fff_ffff..=0x3fff_ffff_i32) {
        let to = from.wrapping_add_signed(by) & 0x7fff_ffff;
        prop_assert_eq!(ahead(to, from), by);
        prop_assert_eq!(ahead(next(from), from), 1);
    }

    #[test]
    fn a_loss_list_counts_what_is_lost(set in prop::collection::btree_set(0..5000_u32, 0..60)) {
        prop_assert_eq!(lost(&loss_list(&set)) as usize, set.len());
    }

    #[test]
    fn any_loss_list_counts_no_more_than_its_ranges_may(words in prop::collection::vec(any::<u32>(), 0..64)) {
        prop_assert!(u64::from(lost(&words)) <= words.len() as u64 * 0x10_0000);
    }

    #[test]
    fn the_filter_takes_any_bytes(
        first in any::<u32>(),
        mut bytes in prop::collection::vec(any::<u8>(), 16..120),
        length in any::<u16>(),
    ) {
        bytes[..4].copy_from_slice(&first.to_be_bytes());
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes(chunk.try_into().unwrap());
        }
        let honest = bytes.len() as u16;
        let frame = FrameBuf(bytes.as_mut_slice());
        for length in [honest, length] {
            // Of a wrong length only that it does not panic.
            let _verdict = check(&frame, &Header::new(words), 0, length);
        }
    }

    #[test]
    fn the_extension_walk_takes_any_bytes(
        bytes in prop::collection::vec(any::<u8>(), COPY_MAX),
        heads in prop::collection::vec((1..9_u16, 0..30_u16), 1..9),
        length in 0..=COPY_MAX as u16,
    ) {
        let mut bytes: [u8; COPY_MAX] = bytes.try_into().unwrap();
        let mut at = 64;
        for (kind, words) in heads {
            if at + 4 > COPY_MAX {
                break;
            }
            bytes[at..at + 2].copy_from_slice(&kind.to_be_bytes());
            bytes[at + 2..at + 4].copy_from_slice(&words.to_be_bytes());
            at += 4 + 4 * usize::from(words);
        }
        for length in [length & !3, at.min(COPY_MAX) as u16] {
            let _verdict = check_extensions(&bytes, length, &mut StreamId::default());
        }
    }
}
