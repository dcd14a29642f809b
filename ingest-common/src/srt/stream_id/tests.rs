use std::{
    borrow::ToOwned, boxed::Box, collections::BTreeMap, format, string::String, vec, vec::Vec,
};

use proptest::prelude::*;

use super::*;

/// A workspace with a CONCLUSION whose SID block holds `body`, which is not all that there is in it.
fn space(body: &[u8]) -> Box<Workspace> {
    let mut space = Box::new(Workspace::default());
    // What a packet before this one has left.
    space.splice.bytes = [0xa5; COPY_MAX];
    space.splice.stream.text = [0xa5; STREAM_ID_KEPT];
    (space.splice.stream.length, space.splice.stream.key) = (0xa5a5, 0xa5a5);
    space.text = [b'='; STREAM_ID_MAX];
    space.fields = [Field {
        start: 9,
        length: 9,
        hash: 9,
    }; 4];
    space.route.key.text = [0xa5; ROUTE_TEXT];
    space.sid_at = 84;
    let words = (body.len() / 4) as u16;
    space.splice.bytes[80..82].copy_from_slice(&5_u16.to_be_bytes());
    space.splice.bytes[82..84].copy_from_slice(&words.to_be_bytes());
    space.splice.bytes[84..84 + body.len()].copy_from_slice(body);
    space
}

fn sent(text: &[u8]) -> Box<Workspace> {
    let mut body = [0; STREAM_ID_MAX];
    let length = encode_stream_id(text, &mut body);
    space(&body[..length])
}

/// The workspace after a Stream ID that is taken.
fn read(text: &str) -> Box<Workspace> {
    let mut space = sent(text.as_bytes());
    assert_eq!(read_stream_id(&mut space), 0, "{text}");
    space
}

fn value(space: &Workspace, place: usize) -> Option<String> {
    let field = space.fields[place];
    let bytes = &space.text[usize::from(field.start)..][..usize::from(field.length)];
    (field.start != 0).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Resource, user, host, mode.
fn fields(text: &str) -> [Option<String>; 4] {
    let space = read(text);
    [0, 1, 2, 3].map(|place| value(&space, place))
}

fn some<const N: usize>(values: [&str; N]) -> [Option<String>; N] {
    values.map(|value| (value != "-").then(|| value.to_owned()))
}

fn text(space: &Workspace) -> String {
    let bytes = &space.text[..usize::from(space.splice.stream.length)];
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_block_is_read_as_libsrt_writes_it() {
    // From a capture of libsrt 1.5.4: words stand backwards.
    let body = b"::!#il=rc/ev,1maup=msilb=u,hcila\0\0\0e";
    let mut space = space(&body[..]);
    assert_eq!(read_stream_id(&mut space), 0);
    assert_eq!(text(&space), "#!::r=live/cam1,m=publish,u=alice");
}

#[test]
fn fields_are_found_in_any_order() {
    for (id, expected) in [
        (
            "#!::r=live/cam1,m=publish,u=alice",
            ["live/cam1", "alice", "-", "publish"],
        ),
        (
            "#!::r=live/cam2,m=publish",
            ["live/cam2", "-", "-", "publish"],
        ),
        (
            "#!::r=live/bond1,m=publish",
            ["live/bond1", "-", "-", "publish"],
        ),
        ("#!::r=live/cam9", ["live/cam9", "-", "-", "-"]),
        (
            "#!::h=example.org,u=admin,m=request,r=a/b",
            ["a/b", "admin", "example.org", "request"],
        ),
        ("#!::u=a,x=1,r=b,s=c,t=stream", ["b", "a", "-", "-"]),
        ("#!::r=a=b,u==", ["a=b", "=", "-", "-"]),
        ("#!::r=a,,u=b,", ["a", "b", "-", "-"]),
        ("#!::,r=a", ["a", "-", "-", "-"]),
        ("#!::rr=a,ur=b,=r=c,r", ["-", "-", "-", "-"]),
        ("#!::R=a,r =b, r=c", ["-", "-", "-", "-"]),
        ("#!::r=,u=", ["", "", "-", "-"]),
        ("#!::r=ünï", ["ünï", "-", "-", "-"]),
        ("#!::", ["-", "-", "-", "-"]),
        ("#!::x", ["-", "-", "-", "-"]),
        ("#!::x=r=a", ["-", "-", "-", "-"]),
        ("#!::x,r=a,r", ["a", "-", "-", "-"]),
    ] {
        assert_eq!(fields(id), some(expected), "{id}");
    }
}

#[test]
fn other_texts_are_names_as_a_whole() {
    for id in [
        "cam1",
        "r=a,u=b",
        "#!:{r=a}",
        "#!:",
        " #!::r=a",
        "#!:;r=a",
        "publish:live/cam1:alice:secret",
    ] {
        assert_eq!(fields(id), some(["-"; 4]), "{id}");
        let space = read(id);
        assert_eq!(text(&space), id);
        assert_ne!(space.splice.stream.key, 0, "placed by the whole of it");
    }
}

#[test]
fn a_text_ends_at_its_first_zero_byte() {
    for (sent_text, expected) in [
        (&b"abc\0def\0"[..], "abc"),
        (b"abcd\0efg", "abcd"),
        (b"#!::r=a\0,u=b", "#!::r=a"),
        (b"abcdef\0\x01", "abcdef"),
        (b"\0abc", ""),
        (b"ab\0\x01\x7f", "ab"),
    ] {
        let mut space = sent(sent_text);
        assert_eq!(read_stream_id(&mut space), 0);
        assert_eq!(text(&space), expected);
        assert_eq!(
            value(&space, 1),
            None,
            "what stands behind counts for nothing"
        );
        let kept = &space.splice.stream.text;
        assert_eq!(&kept[..expected.len()], expected.as_bytes());
        assert!(kept[expected.len()..].iter().all(|byte| *byte == 0));
        let shorter = read(expected);
        assert_eq!(space.splice.stream.key, shorter.splice.stream.key);
    }
}

#[test]
fn nothing_is_read_without_a_block() {
    let mut space = sent(b"#!::r=a");
    space.sid_at = 0;
    assert_eq!(read_stream_id(&mut space), 0);
    assert_eq!(
        (space.splice.stream.length, space.splice.stream.key),
        (0, 0)
    );
    assert_eq!(space.fields, [Field::default(); 4]);
    assert_eq!(space.splice.stream.text, [0; STREAM_ID_KEPT]);
    let empty = read("");
    assert_eq!(
        (empty.splice.stream.length, empty.splice.stream.key),
        (0, 0)
    );
}

#[test]
fn the_longest_one_is_read_to_its_end() {
    let id = format!("#!::r={},u=bob", "x".repeat(STREAM_ID_MAX - 12));
    assert_eq!(id.len(), STREAM_ID_MAX);
    let space = read(&id);
    assert_eq!(text(&space), id);
    assert_eq!(value(&space, 1).as_deref(), Some("bob"));
    assert_eq!(
        &space.splice.stream.text[..],
        &id.as_bytes()[..STREAM_ID_KEPT]
    );
    // A block that claims more is cut there.
    let mut space = sent(id.as_bytes());
    space.splice.bytes[82..84].copy_from_slice(&200_u16.to_be_bytes());
    assert_eq!(read_stream_id(&mut space), 0);
    assert_eq!(text(&space), id);
}

#[test]
fn a_field_twice_is_refused() {
    for id in [
        "#!::r=a,r=b",
        "#!::r=a,u=b,r=a",
        "#!::u=a,u=",
        "#!::h=,h=",
        "#!::m=publish,m=request",
        "#!::r=a,x=1,y=2,r=",
    ] {
        let mut space = sent(id.as_bytes());
        assert_eq!(
            read_stream_id(&mut space),
            DropReason::SrtStreamId as u8,
            "{id}"
        );
    }
    // Others may come as often as they like: we do not look at them.
    read("#!::s=a,s=b,t=1,t=2,x=,x=");
    read("r=a,r=b");
}

#[test]
fn a_control_character_is_refused_wherever_it_stands() {
    for base in ["cam1", "#!::r=live/cam1", "abcdefg"] {
        for bad in (1..0x20).chain([0x7f]) {
            for at in 0..=base.len() {
                let mut bytes = base.as_bytes().to_vec();
                bytes.insert(at, bad);
                let mut space = sent(&bytes);
                let reason = read_stream_id(&mut space);
                assert_eq!(
                    reason,
                    DropReason::SrtStreamId as u8,
                    "{bad:#x} at {at} of {base}"
                );
            }
        }
    }
    for good in [0x20, 0x7e, 0x80, 0x9f, 0xff] {
        assert_eq!(
            read_stream_id(&mut sent(&[b'a', good, b'b'])),
            0,
            "{good:#x}"
        );
    }
}

#[test]
fn a_session_is_placed_by_its_resource_and_host() {
    let key = |id: &str| read(id).splice.stream.key;
    assert_eq!(key("#!::r=a,m=publish,u=alice"), key("#!::m=request,r=a"));
    assert_ne!(key("#!::r=a"), key("#!::r=b"));
    assert_ne!(key("#!::r=a"), key("#!::r=a,h=b"));
    assert_ne!(key("#!::r=a,h=b"), key("#!::r=b,h=a"));
    assert_eq!(key("#!::r=a,h=b"), key("#!::h=b,u=c,r=a"));
    assert_eq!(key("#!::r=a,h="), key("#!::r=a"));
    // Without a resource, by all of it.
    assert_ne!(key("#!::u=a"), key("#!::u=b"));
    assert_ne!(key("#!::r=,u=a"), key("#!::r=,u=b"));
    assert_ne!(key("a"), key("b"));
    // Fixed, since nodes of different releases must agree.
    assert_eq!(key("#!::r=live/cam1,m=publish"), hash_of(b"live/cam1"));
}

#[test]
fn hashes_stay_what_they_are() {
    // The same on every node and in every release, else a stream's readers part from its publisher.
    assert_eq!(read("#!::r=live/cam1").splice.stream.key, KEYS[0]);
    assert_eq!(
        read("#!::r=live/cam1,h=example.org").splice.stream.key,
        KEYS[1]
    );
    assert_eq!(read("live/cam1").splice.stream.key, KEYS[2]);
}

const KEYS: [u32; 3] = [0xa119_ce9e, 0xe5a8_6357, 0x6ee1_4632];

#[test]
fn keys_spread_over_the_table() {
    let mut tenths = [0_u32; 10];
    for stream in 0..20_000 {
        for id in [format!("#!::r=live/cam{stream}"), format!("cam{stream}")] {
            let position = crate::maglev::position(read(&id).splice.stream.key, 0);
            tenths[(position * 10 / crate::maglev::TABLE_SIZE) as usize] += 1;
        }
    }
    for count in tenths {
        assert!(count.abs_diff(4000) < 300, "{tenths:?}");
    }
}

#[test]
fn a_mode_is_one_of_three_words() {
    for (id, mode) in [
        ("#!::m=publish", StreamMode::Publish),
        ("#!::r=a,m=request", StreamMode::Request),
        ("#!::m=bidirectional,r=a", StreamMode::Bidirectional),
        ("#!::m=Publish", StreamMode::Any),
        ("#!::m=publis", StreamMode::Any),
        ("#!::m=publish2", StreamMode::Any),
        ("#!::m=", StreamMode::Any),
        ("#!::r=a", StreamMode::Any),
        ("m=publish", StreamMode::Any),
    ] {
        assert_eq!(stream_mode(&read(id)), mode, "{id}");
    }
}

/// The key for a field, as the agent would write an exact route's.
fn key(id: &str, field: RouteField) -> Option<Vec<u8>> {
    let mut space = read(id);
    match_key(&mut space, 7, field, StreamMode::Publish).then(|| {
        let key = &space.route.key;
        assert_eq!((key.service, key.field, key.mode), (7, field as u8, 1));
        key.text[..(space.route.bits as usize - 32) / 8].to_vec()
    })
}

#[test]
fn a_key_holds_the_text_of_its_field() {
    let id = "#!::r=live/cam1,u=alice,m=publish";
    assert_eq!(key(id, RouteField::Resource).unwrap(), b"live/cam1\0");
    assert_eq!(key(id, RouteField::User).unwrap(), b"alice\0");
    assert_eq!(key(id, RouteField::Host), None);
    assert_eq!(
        key(id, RouteField::StreamId).unwrap(),
        format!("{id}\0").as_bytes()
    );
    assert_eq!(key(id, RouteField::Mode).unwrap(), b"");
    assert_eq!(key(id, RouteField::Source), None);
    assert_eq!(key("", RouteField::StreamId), None);
    assert_eq!(key("", RouteField::Mode).unwrap(), b"");
    assert_eq!(
        key("#!::u=", RouteField::User),
        None,
        "an empty one says nothing"
    );
    assert_eq!(key("cam1", RouteField::StreamId).unwrap(), b"cam1\0");
}

#[test]
fn a_long_text_is_matched_by_its_first_bytes() {
    for length in [ROUTE_TEXT - 1, ROUTE_TEXT, ROUTE_TEXT + 1, 500] {
        let value = "x".repeat(length);
        let mut expected = format!("{value}\0").into_bytes();
        expected.truncate(ROUTE_TEXT);
        assert_eq!(
            key(&value, RouteField::StreamId).unwrap(),
            expected,
            "{length}"
        );
        let id = format!("#!::u={value}");
        assert_eq!(key(&id, RouteField::User).unwrap(), expected, "{length}");
    }
}

#[test]
fn a_source_key_is_the_address() {
    let mut space = read("a");
    let address = crate::abi::v4_mapped([192, 0, 2, 1]);
    let words = crate::abi::words_from_address(address);
    match_source(&mut space, 7, words, StreamMode::Any);
    assert_eq!(space.route.bits, 160);
    assert_eq!(space.route.key.text[..16], address);
    assert_eq!(space.route.key.field, RouteField::Source as u8);
}

/// The same by the standard library: fields by letter, or nothing where it is refused.
fn plain(text: &[u8]) -> Option<BTreeMap<u8, &[u8]>> {
    let end = text.iter().position(|byte| *byte == 0);
    let text = &text[..end.unwrap_or(text.len())];
    if text.iter().any(u8::is_ascii_control) {
        return None;
    }
    let mut fields = BTreeMap::new();
    for pair in text
        .strip_prefix(b"#!::")
        .unwrap_or_default()
        .split(|byte| *byte == b',')
    {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        if let ([letter @ (b'r' | b'u' | b'h' | b'm')], value) =
            (&pair[..equals], &pair[equals + 1..])
            && fields.insert(*letter, value).is_some()
        {
            return None;
        }
    }
    Some(fields)
}

fn assert_like_plain(sent_text: &[u8]) {
    let mut space = sent(sent_text);
    let reason = read_stream_id(&mut space);
    let Some(expected) = plain(sent_text) else {
        assert_eq!(reason, DropReason::SrtStreamId as u8);
        return;
    };
    assert_eq!(reason, 0);
    let end = sent_text.iter().position(|byte| *byte == 0);
    let shown = &sent_text[..end.unwrap_or(sent_text.len())];
    assert_eq!(usize::from(space.splice.stream.length), shown.len());
    assert_eq!(&space.text[..shown.len()], shown);
    let kept = shown.len().min(STREAM_ID_KEPT);
    assert_eq!(&space.splice.stream.text[..kept], &shown[..kept]);
    assert!(
        space.splice.stream.text[kept..]
            .iter()
            .all(|byte| *byte == 0)
    );
    for (place, letter) in [b'r', b'u', b'h', b'm'].into_iter().enumerate() {
        let field = space.fields[place];
        match expected.get(&letter) {
            None => assert_eq!(field, Field::default()),
            Some(value) => {
                let found = &space.text[usize::from(field.start)..][..usize::from(field.length)];
                assert_eq!(found, *value);
                assert_eq!(field.hash, hash_of(value));
            }
        }
    }
}

/// Texts of the pieces that matter, so that most are almost right.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b"#!::"[..]),
        Just(&b"r="[..]),
        Just(&b"u="[..]),
        Just(&b"h="[..]),
        Just(&b"m="[..]),
        Just(&b",r="[..]),
        Just(&b",m=publish"[..]),
        Just(&b","[..]),
        Just(&b"="[..]),
        Just(&b"x"[..]),
        Just(&b"live/"[..]),
        Just(&b"\0"[..]),
        Just(&b"\x1f"[..]),
        Just(&b"\xc3\xbc"[..]),
    ];
    (any::<bool>(), prop::collection::vec(piece, 0..30)).prop_map(|(syntax, pieces)| {
        let mut text = if syntax { b"#!::".to_vec() } else { Vec::new() };
        text.extend(pieces.concat());
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_are_read_as_the_standard_library_would(text in pieces()) {
        assert_like_plain(&text);
    }

    #[test]
    fn any_text_is_read_as_the_standard_library_would(text in prop::collection::vec(any::<u8>(), 0..=STREAM_ID_MAX)) {
        assert_like_plain(&text);
    }

    #[test]
    fn printable_texts_are_read_whole(text in "(#!::)?[ -~]{0,120}") {
        assert_like_plain(text.as_bytes());
    }

    #[test]
    fn any_workspace_holds(
        text in pieces(),
        sid_at in any::<u32>(),
        words in any::<u16>(),
        field in 1..=6_u8,
        place in any::<(u16, u16)>(),
    ) {
        let mut space = sent(&text);
        space.splice.bytes[82..84].copy_from_slice(&words.to_be_bytes());
        for at in [84, sid_at] {
            space.sid_at = at;
            let _reason = read_stream_id(&mut space);
            prop_assert!(usize::from(space.splice.stream.length) <= STREAM_ID_MAX);
            let field = RouteField::ALL[usize::from(field) - 1];
            let _found = match_key(&mut space, 1, field, StreamMode::Any);
            space.fields[0] = Field { start: place.0, length: place.1, hash: 0 };
            let _found = match_key(&mut space, 1, RouteField::Resource, StreamMode::Any);
            prop_assert!(space.route.bits as usize <= 32 + 8 * ROUTE_TEXT);
        }
    }
}
