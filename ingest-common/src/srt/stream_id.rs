//! Stream IDs: from a CONCLUSION's SID block to text, fields and the key that a session is placed by.
//!
//! Source: "SRT Access Control" (draft, Appendix B): `#!::key=value,key=value`. Any other text is a name as a whole. Does not
//! judge what a field says: routes do.
//!
//! One pass over words, one over bytes. The verifier follows both for every length there is, so nothing that differs from
//! one length to the next may choose an address or a branch behind the loop: it goes through the workspace.

use core::hint::black_box;

use crate::{
    abi::{ROUTE_TEXT, RouteField, STREAM_ID_KEPT, STREAM_ID_MAX, StreamMode},
    maglev::mix,
    packet::COPY_MAX,
    reason::DropReason,
    steer::{Field, Workspace},
};

#[cfg(test)]
mod tests;

const WORDS_MAX: u32 = STREAM_ID_MAX as u32 / 4;
/// Every byte's lowest bit, and its highest.
const ONES: u32 = 0x0101_0101;
const HIGHS: u32 = 0x8080_8080;
/// `#!::`, as a word whose lowest byte is the first character.
const SYNTAX: u32 = u32::from_le_bytes(*b"#!::");
/// FNV-1a, 64 bits.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Places in [`Workspace::fields`]: bits 2 and 3 of the key's letter.
const RESOURCE: usize = 0;
const HOST: usize = 2;
const MODE: usize = 3;

/// Reads the Stream ID at `sid_at` into `text`, `fields` and the `length`, `text` and `key` of `splice.stream`. 0, or the
/// number of a [`DropReason`]: it holds a control character, or a field twice.
///
/// The block's length, in the two bytes before `sid_at`, has been checked. Without a Stream ID (`sid_at` 0, or an empty
/// text) `length` and `key` are 0: the session is placed by something else.
#[inline(always)]
pub fn read_stream_id(space: &mut Workspace) -> u8 {
    if !copy_text(space) {
        return DropReason::SrtStreamId as u8;
    }
    // The length is a constant to the verifier at each way out of the loop above. From here on it is read from the map.
    let space = black_box(space);
    if word_of(&space.text, 0) == SYNTAX && space.splice.stream.length >= 4 && !split(space) {
        return DropReason::SrtStreamId as u8;
    }
    let space = black_box(space);
    let [resource, _, host, _] = space.fields;
    if resource.length != 0 {
        space.splice.stream.key = if host.length == 0 {
            resource.hash
        } else {
            fold(u64::from(resource.hash) << 32 | u64::from(host.hash))
        };
    }
    0
}

/// The text in reading order: each word of the block stands backwards. Ends at the first zero byte; false where a control
/// character stands before that. The key becomes the whole text's hash.
#[inline(always)]
fn copy_text(space: &mut Workspace) -> bool {
    // A zero that the compiler does not know as one: it would call `memset`, which goes by bytes.
    let zero = black_box(0_u32);
    for field in &mut space.fields {
        field.start = zero as u16;
        field.length = zero as u16;
        field.hash = zero;
    }
    space.splice.stream.length = 0;
    space.splice.stream.key = 0;
    *words_mut::<STREAM_ID_KEPT, { STREAM_ID_KEPT / 4 }>(&mut space.splice.stream.text) =
        [zero; STREAM_ID_KEPT / 4];
    let at = space.sid_at >> 2;
    let block = if at == 0 {
        0
    } else {
        packet_word(&space.splice.bytes, at - 1) & 0xffff
    };
    let mut hash = BASIS;
    let mut bad = 0;
    let mut index = 0;
    while index < WORDS_MAX {
        if index >= block {
            break;
        }
        // Reversed as it is, the word's lowest byte is the first character.
        let word = packet_word(&space.splice.bytes, at + index);
        // The lowest bit set is exactly that of the first zero byte.
        let zeros = word.wrapping_sub(ONES) & !word & HIGHS;
        // What counts of the word: the bytes below the first zero byte.
        let mask = ((zeros & zeros.wrapping_neg()) >> 7).wrapping_sub(1);
        let word = word & mask;
        put_word::<STREAM_ID_MAX, { STREAM_ID_MAX / 4 }>(&mut space.text, index, word);
        put_word::<STREAM_ID_KEPT, { STREAM_ID_KEPT / 4 }>(
            &mut space.splice.stream.text,
            index,
            word,
        );
        let spaced = word | (!mask & (ONES << 5));
        bad |= spaced.wrapping_sub(ONES << 5) & !spaced;
        let deletes = spaced ^ (ONES * 0x7f);
        bad |= deletes.wrapping_sub(ONES) & !deletes;
        if word != 0 {
            hash = (hash ^ u64::from(word)).wrapping_mul(PRIME);
        }
        if zeros != 0 {
            let bytes = (mask & 1) + (mask >> 8 & 1) + (mask >> 16 & 1);
            space.splice.stream.length = (4 * index + bytes) as u16;
            break;
        }
        index += 1;
        space.splice.stream.length = (4 * index) as u16;
    }
    if hash != BASIS {
        space.splice.stream.key = fold(hash);
    }
    bad & HIGHS == 0
}

/// Finds the fields of a text that begins with `#!::`; false where one comes twice.
///
/// A field begins at a comma that a lone letter and a `=` follow, and ends at the next comma. So each comma looks ahead: to
/// remember the last bytes instead, the verifier would follow every way to have come by them.
#[inline(always)]
fn split(space: &mut Workspace) -> bool {
    let length = u32::from(space.splice.stream.length);
    let mut letter = 0_u32;
    let mut start = 0_u32;
    let mut hash = BASIS;
    // The prefix's last colon stands for the first comma.
    let mut at = 3_u32;
    while at <= STREAM_ID_MAX as u32 {
        let over = at >= length;
        let byte = byte_at(&space.text, at);
        if over || at == 3 || byte == u32::from(b',') {
            if letter != 0 {
                let field = &mut space.fields[(letter >> 2 & 3) as usize];
                if field.start != 0 {
                    return false;
                }
                field.start = start as u16;
                field.length = (at - start) as u16;
                field.hash = fold(hash);
            }
            if over {
                break;
            }
            letter = byte_at(&space.text, at + 1);
            start = at + 3;
            hash = BASIS;
            if start <= length
                && byte_at(&space.text, at + 2) == u32::from(b'=')
                && names_field(letter)
            {
                at += 2;
            } else {
                letter = 0;
            }
        } else {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        at += 1;
    }
    true
}

#[inline(always)]
const fn names_field(letter: u32) -> bool {
    matches!(letter as u8, b'r' | b'u' | b'h' | b'm')
}

/// What the caller wants: its `m=`.
#[must_use]
#[inline(always)]
pub const fn stream_mode(space: &Workspace) -> StreamMode {
    const PUBLISH: u32 = hash_of(b"publish");
    const REQUEST: u32 = hash_of(b"request");
    const BIDIRECTIONAL: u32 = hash_of(b"bidirectional");
    let field = &space.fields[MODE];
    // Who goes to the trouble of another word with the same hash could have said it outright.
    match (field.length, field.hash) {
        (7, PUBLISH) => StreamMode::Publish,
        (7, REQUEST) => StreamMode::Request,
        (13, BIDIRECTIONAL) => StreamMode::Bidirectional,
        _ => StreamMode::Any,
    }
}

/// Writes the key that `ROUTES` is asked with about `field` into `space.route`; false where the caller has no such field
/// (an empty one says nothing either). For the same field and another mode, change `route.key.mode` alone.
///
/// The text ends with the zero byte that exact routes end with, where there is room.
#[inline(always)]
pub fn match_key(space: &mut Workspace, service: u16, field: RouteField, mode: StreamMode) -> bool {
    let place = match field {
        RouteField::StreamId => Field {
            start: 0,
            length: space.splice.stream.length,
            hash: 0,
        },
        RouteField::Resource => space.fields[RESOURCE],
        RouteField::User => space.fields[1],
        RouteField::Host => space.fields[HOST],
        RouteField::Mode => Field::default(),
        RouteField::Source => return false,
    };
    if place.length == 0 && field as u8 != RouteField::Mode as u8 {
        return false;
    }
    key_head(space, service, field, mode);
    if field as u8 == RouteField::Mode as u8 {
        space.route.bits = 32;
        return true;
    }
    let mut index = 0_u32;
    while index < ROUTE_TEXT as u32 {
        if index >= u32::from(place.length) {
            break;
        }
        space.route.key.text[index as usize] =
            space.text[(u32::from(place.start) + index) as usize & (STREAM_ID_MAX - 1)];
        index += 1;
    }
    space.route.bits = 32 + 8 * index;
    if index < ROUTE_TEXT as u32 {
        space.route.key.text[index as usize] = 0;
        space.route.bits += 8;
    }
    true
}

/// The same about where the caller is: `client` in words as in memory.
#[inline(always)]
pub fn match_source(space: &mut Workspace, service: u16, client: [u32; 4], mode: StreamMode) {
    key_head(space, service, RouteField::Source, mode);
    let (words, _) = space.route.key.text.as_chunks_mut::<4>();
    for (word, of_client) in words.iter_mut().zip(client) {
        *word = of_client.to_ne_bytes();
    }
    space.route.bits = 32 + 128;
}

#[inline(always)]
const fn key_head(space: &mut Workspace, service: u16, field: RouteField, mode: StreamMode) {
    space.route.key.service = service;
    space.route.key.field = field as u8;
    space.route.key.mode = mode as u8;
}

/// Writes `text` as the body of a SID block: in words, each backwards, the last one padded with zeros. The body's bytes.
/// For senders: tests and `explain`. Of a longer text, the first [`STREAM_ID_MAX`] bytes.
pub fn encode_stream_id(text: &[u8], body: &mut [u8; STREAM_ID_MAX]) -> usize {
    *body = [0; STREAM_ID_MAX];
    for (at, byte) in text.iter().take(STREAM_ID_MAX).enumerate() {
        body[at ^ 3] = *byte;
    }
    text.len().min(STREAM_ID_MAX).next_multiple_of(4)
}

/// The hash of a field's value.
const fn hash_of(text: &[u8]) -> u32 {
    let mut hash = BASIS;
    let mut at = 0;
    while at < text.len() {
        hash = (hash ^ text[at] as u64).wrapping_mul(PRIME);
        at += 1;
    }
    fold(hash)
}

#[inline(always)]
const fn fold(hash: u64) -> u32 {
    (mix(hash) >> 32) as u32
}

/// The byte at `at`. The mask keeps it inside.
#[inline(always)]
const fn byte_at(text: &[u8; STREAM_ID_MAX], at: u32) -> u32 {
    text[at as usize & (STREAM_ID_MAX - 1)] as u32
}

/// Word number `index` of a CONCLUSION, host order. The mask keeps it inside.
#[inline(always)]
fn packet_word(bytes: &[u8; COPY_MAX], index: u32) -> u32 {
    u32::from_be(words::<COPY_MAX, { COPY_MAX / 4 }>(bytes)[index as usize & (COPY_MAX / 4 - 1)])
}

/// Word number `index` of a text, the first character lowest.
#[inline(always)]
fn word_of(text: &[u8; STREAM_ID_MAX], index: u32) -> u32 {
    let words = words::<STREAM_ID_MAX, { STREAM_ID_MAX / 4 }>(text);
    u32::from_le(words[index as usize & (STREAM_ID_MAX / 4 - 1)])
}

/// Sets word number `index` of a text, where it has one.
#[inline(always)]
fn put_word<const N: usize, const WORDS: usize>(text: &mut [u8; N], index: u32, word: u32) {
    if let Some(place) = words_mut::<N, WORDS>(text).get_mut(index as usize) {
        *place = word.to_le();
    }
}

const _: () = {
    assert!(core::mem::align_of::<Workspace>() >= 4);
    assert!(core::mem::offset_of!(Workspace, text).is_multiple_of(4));
    assert!(core::mem::offset_of!(Workspace, splice.bytes).is_multiple_of(4));
    assert!(core::mem::offset_of!(Workspace, splice.stream.text).is_multiple_of(4));
};

/// A text of the [`Workspace`], or its packet, as words: of bytes the compiler does not know that they are aligned, and would
/// load each by itself.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "a plain change of type; the bytes stand at words"
)]
const fn words<const N: usize, const WORDS: usize>(bytes: &[u8; N]) -> &[u32; WORDS] {
    const { assert!(N == 4 * WORDS) };
    // SAFETY: as many bytes, at a multiple of 4 in every workspace (asserted above); every bit pattern is valid.
    unsafe { &*bytes.as_ptr().cast::<[u32; WORDS]>() }
}

/// [`words`], to write.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "a plain change of type; the bytes stand at words"
)]
const fn words_mut<const N: usize, const WORDS: usize>(bytes: &mut [u8; N]) -> &mut [u32; WORDS] {
    const { assert!(N == 4 * WORDS) };
    // SAFETY: as in `words`, and borrowed alone.
    unsafe { &mut *bytes.as_mut_ptr().cast::<[u32; WORDS]>() }
}
