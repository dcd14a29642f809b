//! Stream IDs as people may see them. Pure.
//!
//! They hold passwords and stream keys, and they come from strangers: what is shown is redacted unless someone asks for
//! all of it, and in every form it is printable text, so that no Stream ID moves a terminal's cursor or begins a line of a log.
//!
//! The hashes tell streams apart and are the same on every node. Whoever knows what to guess can try it against them.

use std::hash::{DefaultHasher, Hasher as _};

use ingest_common::abi;

use crate::cli::StreamIds;

/// What a structured Stream ID begins with (SRT Access Control).
const STRUCTURED: &[u8] = b"#!::";
/// Values that are no secret: of `m` and of `t`.
const WORDS: [(&[u8], &[&[u8]]); 2] = [
    (b"m", &[b"request", b"publish", b"bidirectional"]),
    (b"t", &[b"stream", b"file", b"auth"]),
];
/// Longest name of a field; what is longer may be anything.
const KEY_MAX: usize = 16;
/// Most characters of a value that are shown,
const SHOWN: usize = 3;
/// and at most one in so many: of a short value, most would be all but it.
const OF: usize = 3;

/// The Stream ID of a session, or `None` where its caller sent none. One that is longer than what is kept ends in `…`.
pub(crate) fn stream_id(stream: &abi::StreamId, how: StreamIds) -> Option<String> {
    let length = usize::from(stream.length);
    let kept = stream.text.get(..length).unwrap_or(&stream.text);
    let mut shown = (length > 0).then(|| text(kept, how))?;
    if length > kept.len() && how != StreamIds::Hash {
        shown.push('…');
    }
    Some(shown)
}

/// As `how` says, but never in full: for what everybody may read.
pub(crate) const fn at_most_redacted(how: StreamIds) -> StreamIds {
    match how {
        StreamIds::Full | StreamIds::Redacted => StreamIds::Redacted,
        StreamIds::Hash => StreamIds::Hash,
    }
}

/// The first `most` characters, and `…` where there were more.
pub(crate) fn cut(mut shown: String, most: usize) -> String {
    if let Some((at, _)) = shown.char_indices().nth(most) {
        shown.truncate(at);
        shown.push('…');
    }
    shown
}

/// The text of a Stream ID.
pub(crate) fn text(stream_id: &[u8], how: StreamIds) -> String {
    match how {
        StreamIds::Full => escaped(units(stream_id)),
        StreamIds::Hash => hash(stream_id),
        StreamIds::Redacted => redacted(stream_id),
    }
}

fn redacted(stream_id: &[u8]) -> String {
    let Some(fields) = stream_id.strip_prefix(STRUCTURED) else {
        return value(stream_id);
    };
    let fields: Vec<String> = fields.split(|byte| *byte == b',').map(field).collect();
    format!("#!::{}", fields.join(","))
}

/// `key=value`, or anything else.
fn field(bytes: &[u8]) -> String {
    let mut parts = bytes.splitn(2, |byte| *byte == b'=');
    let (Some(key), Some(content)) = (parts.next(), parts.next()) else {
        return value(bytes);
    };
    let is_name = key.len() <= KEY_MAX && key.iter().all(u8::is_ascii_alphanumeric);
    let key_shown = if is_name {
        escaped(units(key))
    } else {
        value(key)
    };
    let is_word = WORDS
        .iter()
        .any(|(name, words)| *name == key && words.contains(&content));
    let content = if is_word {
        escaped(units(content))
    } else {
        value(content)
    };
    format!("{key_shown}={content}")
}

/// How it begins, and its hash.
fn value(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return String::new();
    }
    let count = units(bytes).count();
    let shown = units(bytes).take(SHOWN.min(count / OF));
    format!("{}…{}", escaped(shown), hash(bytes))
}

fn hash(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:08x}", hasher.finish() as u32)
}

/// A character, or a byte that is part of none.
enum Unit {
    Character(char),
    Byte(u8),
}

fn units(bytes: &[u8]) -> impl Iterator<Item = Unit> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let characters = chunk.valid().chars().map(Unit::Character);
        characters.chain(chunk.invalid().iter().map(|byte| Unit::Byte(*byte)))
    })
}

/// As Rust would write it in a string, but for quotes.
fn escaped(units: impl Iterator<Item = Unit>) -> String {
    let mut text = String::new();
    for unit in units {
        match unit {
            Unit::Character(quote @ ('"' | '\'')) => text.push(quote),
            Unit::Character(character) => text.extend(character.escape_debug()),
            Unit::Byte(byte) => {
                let [high, low] = [byte >> 4, byte & 0xf].map(|d| char::from_digit(d.into(), 16));
                text.extend(['\\', 'x'].into_iter().chain(high).chain(low));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redact(stream_id: &str) -> String {
        text(stream_id.as_bytes(), StreamIds::Redacted)
    }

    /// The text with every `…` and the eight digits behind it taken out.
    fn without_hashes(shown: &str) -> String {
        let mut parts = shown.split('…');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |all, part| all + part.get(8..).unwrap_or_default())
    }

    #[test]
    fn the_structure_the_mode_and_the_type_stay() {
        let shown = redact("#!::u=alice,r=acme/camera-1,s=hunter2secret,m=publish,t=stream");
        assert_eq!(
            without_hashes(&shown),
            "#!::u=a,r=acm,s=hun,m=publish,t=stream"
        );
        assert_eq!(
            shown,
            redact("#!::u=alice,r=acme/camera-1,s=hunter2secret,m=publish,t=stream")
        );
        assert_ne!(
            shown,
            redact("#!::u=alice,r=acme/camera-1,s=hunter2secreT,m=publish,t=stream")
        );
        assert_eq!(without_hashes(&redact("live_8fa3b2c4d5e6")), "liv");
        assert_eq!(redact("#!::"), "#!::");
        assert_eq!(redact("#!::r="), "#!::r=");
    }

    #[test]
    fn what_is_no_known_word_or_name_is_a_secret() {
        for secret in ["hunter2", "Publish", "stream"] {
            let shown = redact(&format!("#!::m={secret},{secret},r=x"));
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(!redact("#!::correct-horse-battery-staple=1").contains("correct"));
        assert_eq!(without_hashes(&redact("#!:{u=alice}")), "#!:");
        assert_eq!(without_hashes(&redact("abc")), "a");
        assert_eq!(without_hashes(&redact("ab")), "");
    }

    #[test]
    fn nothing_reaches_a_terminal_as_it_came() {
        let hostile = b"#!::r=\x1b[2J\x9b\n\r\xe2\x80\xae\xc2\x9b\\x,\x07\xff=\xfe";
        let shown = text(hostile, StreamIds::Full);
        assert_eq!(
            shown,
            "#!::r=\\u{1b}[2J\\x9b\\n\\r\\u{202e}\\u{9b}\\\\x,\\u{7}\\xff=\\xfe"
        );
        assert_eq!(text("löwe \"1\"".as_bytes(), StreamIds::Full), "löwe \"1\"");
    }

    #[test]
    fn one_hash_names_a_whole_stream_id() {
        let shown = text(b"#!::r=acme/1", StreamIds::Hash);
        assert_eq!(shown.len(), 8);
        assert_ne!(shown, text(b"#!::r=acme/2", StreamIds::Hash));
    }

    #[test]
    fn a_session_without_one_has_none_and_a_cut_one_says_so() {
        let mut stream = abi::StreamId::default();
        assert_eq!(stream_id(&stream, StreamIds::Full), None);
        stream.text.fill(b'a');
        stream.length = 2;
        assert_eq!(stream_id(&stream, StreamIds::Full).as_deref(), Some("aa"));
        stream.length = 500;
        let shown = stream_id(&stream, StreamIds::Full).unwrap();
        assert_eq!(shown, "a".repeat(abi::STREAM_ID_KEPT) + "…");
        let shown = stream_id(&stream, StreamIds::Redacted).unwrap();
        assert_eq!(without_hashes(shown.trim_end_matches('…')), "aaa");
    }

    proptest! {
        #[test]
        fn no_secret_survives(
            key in "[a-z]{1,8}",
            // Upper case and no hexadecimal digit: never part of what is added.
            secret in "[G-Z!-/:-@äß☃]{4,60}".prop_map(|s: String| s.replace([',', '='], "~")),
            resource in "[a-z/]{0,20}",
        ) {
            for stream_id in [
                format!("#!::{key}={secret},r={resource}"),
                format!("#!::r={resource},{key}={secret}"),
                format!("#!::{key}=={secret}"),
                format!("#!::{secret}"),
                format!("#!::m={secret}"),
                secret.clone(),
                format!("x{secret}"),
            ] {
                let shown = redact(&stream_id);
                let characters: Vec<char> = secret.chars().collect();
                for four in characters.windows(4) {
                    let four: String = four.iter().collect();
                    prop_assert!(!shown.contains(&four), "{four} of {stream_id} in {shown}");
                }
            }
        }

        #[test]
        fn any_bytes_become_printable_text(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for how in [StreamIds::Full, StreamIds::Redacted, StreamIds::Hash] {
                let shown = text(&bytes, how);
                prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
            }
        }

        #[test]
        fn the_names_of_fields_stay(keys in proptest::collection::vec("[a-z]{1,6}", 1..8)) {
            let fields: Vec<_> = keys.iter().map(|key| format!("{key}=VALUE-{key}-0000")).collect();
            let shown = redact(&format!("#!::{}", fields.join(",")));
            let fields = shown.strip_prefix("#!::").unwrap().split(',');
            let names: Vec<_> = fields.map(|f| f.split_once('=').unwrap().0).collect();
            prop_assert_eq!(names, keys);
        }
    }
}
