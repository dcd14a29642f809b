//! The handshake checks over any UDP payload: nothing panics, and what passes has the form that pods expect.

#![no_main]

use ingest_tests::fixtures::fuzz::srt_handshake;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| srt_handshake(data));
