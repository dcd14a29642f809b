//! Any text as a Stream ID: refused or read, and both as a plain reading would.

#![no_main]

use ingest_tests::fixtures::fuzz::stream_id;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| stream_id(data));
