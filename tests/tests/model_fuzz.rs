//! The fuzz targets' functions over their corpora, over mutations of them, and over bytes of no form at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::LazyLock,
};

use ingest_common::abi::DeliveryMode;
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
        for (at, frame) in row.frames() {
            let input = fuzz::input(at, row.family, DeliveryMode::Peer, 0, frame);
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
    }
    for input in read("frame_steer").values() {
        fuzz::frame_steer(input);
    }
    for input in read("srt_handshake").values() {
        fuzz::srt_handshake(input);
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
                for flags in FLAGS {
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
    ) {
        let mut input = FRAMES.values().nth(which.index(FRAMES.len())).unwrap().clone();
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
    fn any_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::frame_steer(&bytes);
        fuzz::srt_handshake(&bytes);
    }
}
