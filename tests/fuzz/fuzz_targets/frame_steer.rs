//! A frame at any hook of a node with sessions: nothing panics, and it goes only to pods that are known.

#![no_main]

use ingest_tests::fixtures::fuzz::frame_steer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| frame_steer(data));
