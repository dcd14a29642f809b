//! The fuzz targets' functions over their corpora, over mutations of them, and over bytes of no form at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::LazyLock,
};

use ingest_common::abi::{DeliveryMode, SERVICE_STREAM};
use ingest_tests::fixtures::{
    fuzz::{self, FLAGS, HOOKS},
    packet::Family,
    srt, table,
};
use proptest::prelude::*;

const MODES: [DeliveryMode; 4] = [
    DeliveryMode::None,
    DeliveryMode::Redirect,
    DeliveryMode::Peer,
    DeliveryMode::Stack,
];

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

/// The corpus of a target, by name.
fn read(target: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(corpus(target)).expect("the corpus is there");
    let corpus: BTreeMap<_, _> = files
        .map(|file| {
            let path = file.expect("the folder can be read").path();
            let name = path.file_name().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            (name, fs::read(path).expect("an input can be read"))
        })
        .collect();
    assert!(corpus.len() >= 10, "{target}: {} inputs", corpus.len());
    corpus
}

/// A file's name of a row's.
fn slug(name: &str) -> String {
    let words: Vec<String> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("_")
}

/// Frames of the fixture table, each named after the row that sends it first.
static FRAMES: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let mut seen = BTreeSet::new();
    let mut frames = BTreeMap::new();
    for row in table::rows() {
        for (at, frame) in row.frames(fuzz::NOW) {
            let input = fuzz::input(at, row.family, DeliveryMode::Peer, 0, &frame);
            if seen.insert(input.clone()) {
                frames.entry(slug(&row.name)).or_insert(input);
            }
        }
    }
    frames
});

fn handshakes() -> BTreeMap<String, Vec<u8>> {
    let with = |blocks: Vec<(u16, Vec<u32>)>| {
        srt::conclusion().with(|handshake| {
            handshake.blocks = vec![(1, srt::HSREQ.to_vec())];
            handshake.blocks.extend(blocks);
        })
    };
    let group = vec![0x45bd_9b9b, 0x0100_000a];
    [
        ("induction", srt::induction()),
        ("induction_answer", srt::induction_answer()),
        ("conclusion", srt::conclusion()),
        ("conclusion_answer", srt::conclusion_answer()),
        ("conclusion_hsv4", srt::conclusion_v4()),
        ("rejection", srt::rejection(2403)),
        ("encrypted", with(vec![(3, srt::key_material(14))])),
        ("encrypted_two_keys", with(vec![(3, srt::key_material(26))])),
        (
            "key_material_too_long",
            with(vec![(3, srt::key_material(27))]),
        ),
        (
            "group",
            with(vec![(5, srt::stream_id("#!::r=bond")), (8, group)]),
        ),
        (
            "filter_and_congestion",
            with(vec![(6, vec![0x6c69_7665]), (7, vec![0x6665_6300])]),
        ),
        ("longest_stream_id", with(vec![(5, vec![0x6161_6161; 128])])),
        ("nine_blocks", with(vec![(8, vec![1, 2]); 8])),
    ]
    .into_iter()
    .map(|(name, handshake)| (name.to_owned(), handshake.bytes()))
    .collect()
}

/// Stream IDs: those of the captures, and what is almost one.
fn stream_ids() -> BTreeMap<String, Vec<u8>> {
    let longest = format!("#!::r={},u=bob", "x".repeat(500));
    [
        ("plain_streamid", "#!::r=live/cam1,m=publish,u=alice"),
        ("encrypted", "#!::r=live/cam2,m=publish"),
        ("rejected", "#!::r=live/cam9"),
        ("group_broadcast", "#!::r=live/bond1,m=publish"),
        (
            "host_and_session",
            "#!::h=example.org,s=17,t=stream,m=request,r=a/b",
        ),
        ("bidirectional", "#!::m=bidirectional,u=bob"),
        ("a_name", "live/cam1"),
        ("publish_like_mediamtx", "publish:live/cam1:alice:secret"),
        ("nested", "#!:{r=a}"),
        ("a_field_twice", "#!::r=a,u=b,r=c"),
        ("an_empty_field_twice", "#!::h=,h="),
        ("equals_in_a_value", "#!::r=a=b,u==,=r=c"),
        ("commas_alone", "#!::,,,r=a,,"),
        ("a_control_character", "#!::r=a\u{1f}b"),
        ("a_zero_byte_within", "#!::r=a\0,r=b"),
        ("not_ascii", "#!::r=ünï/cødé"),
        ("syntax_alone", "#!::"),
        ("longest", &longest),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
    .collect()
}

/// Callers and times, as `fuzz::cookie` takes them.
fn callers() -> BTreeMap<String, Vec<u8>> {
    let v4 = [0_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    let v6 = [0x20_u8, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let slot = 1_u64 << 36;
    let mut callers = BTreeMap::new();
    for (name, address) in [("v4", v4), ("v6", v6)] {
        for (when, now) in [
            ("at_boot", 0),
            ("at_the_end_of_a_slot", slot - 1),
            ("at_the_start_of_a_slot", slot),
            ("after_eleven_days", 28_000 * slot + 5),
            ("after_a_century", u64::MAX / 8),
        ] {
            let mut bytes = address.to_vec();
            bytes.extend(40_000_u32.to_le_bytes());
            bytes.extend(0x1f01_3076_u32.to_le_bytes());
            bytes.extend(u64::to_le_bytes(now));
            callers.insert(format!("{name}_{when}"), bytes);
        }
    }
    callers
}

/// The corpora are written anew where this is set: by hand, after the table has changed.
const WRITE: &str = "INGEST_WRITE_CORPORA";

fn write(target: &str, inputs: &BTreeMap<String, Vec<u8>>) {
    let folder = corpus(target);
    fs::create_dir_all(&folder).expect("the folder can be made");
    for (name, bytes) in inputs {
        fs::write(folder.join(name), bytes).expect("an input can be written");
    }
}

#[test]
fn the_corpora_hold() {
    if std::env::var_os(WRITE).is_some() {
        write("frame_steer", &FRAMES);
        write("srt_handshake", &handshakes());
        write("stream_id", &stream_ids());
        write("cookie", &callers());
    }
    for input in read("frame_steer").values() {
        fuzz::frame_steer(input);
    }
    for input in read("srt_handshake").values() {
        fuzz::srt_handshake(input);
    }
    for input in read("stream_id").values() {
        fuzz::stream_id(input);
    }
    for input in read("cookie").values() {
        fuzz::cookie(input);
    }
}

#[test]
fn every_hook_mode_and_flag_holds_on_every_frame() {
    for input in FRAMES.values() {
        for at in HOOKS {
            for mode in MODES {
                let family = if input[0] >> 3 & 1 == 0 {
                    Family::V4
                } else {
                    Family::V6
                };
                for flags in FLAGS.into_iter().chain([SERVICE_STREAM]) {
                    fuzz::frame_steer(&fuzz::input(at, family, mode, flags, &input[1..]));
                }
            }
        }
    }
}

#[test]
fn every_prefix_of_a_frame_holds() {
    for input in FRAMES.values() {
        for length in (0..input.len().min(160)).chain([input.len() - 1]) {
            fuzz::frame_steer(&input[..length]);
        }
    }
}

/// Writes `bytes` into `input` at places of its headers, mostly.
fn mutated(input: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut input = input.to_vec();
    let span = input.len().min(200);
    for (at, byte) in changes {
        input[at % span] = *byte;
    }
    input
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_frames_hold(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        flags in 0..4_u8,
        stream in any::<bool>(),
    ) {
        let mut input = FRAMES.values().nth(which.index(FRAMES.len())).unwrap().clone();
        if stream {
            let answered = fuzz::input(HOOKS[usize::from(input[0] & 7) % 5], Family::V4, DeliveryMode::None, SERVICE_STREAM, &[]);
            input[0] = input[0] & !7 | answered[0] & 7;
        }
        input[0] |= flags << 6;
        fuzz::frame_steer(&mutated(&input, &changes));
    }

    #[test]
    fn mutated_handshakes_hold(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let corpus = handshakes();
        let input = corpus.values().nth(which.index(corpus.len())).unwrap();
        fuzz::srt_handshake(&mutated(input, &changes));
    }

    #[test]
    fn mutated_stream_ids_hold(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<usize>(), prop::sample::select(&b"ruhm=,#:!x\0\x1f\xff"[..])), 1..6),
    ) {
        let corpus = stream_ids();
        let input = corpus.values().nth(which.index(corpus.len())).unwrap();
        fuzz::stream_id(&mutated(input, &changes));
    }

    #[test]
    fn mutated_callers_hold(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let corpus = callers();
        let input = corpus.values().nth(which.index(corpus.len())).unwrap();
        fuzz::cookie(&mutated(input, &changes));
    }

    #[test]
    fn any_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::stream_id(&bytes);
        fuzz::cookie(&bytes);
        fuzz::frame_steer(&bytes);
        fuzz::srt_handshake(&bytes);
    }
}
