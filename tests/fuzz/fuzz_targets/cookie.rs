//! Any caller at any time: its cookie holds for it, for a while, and for nobody else.

#![no_main]

use ingest_tests::fixtures::fuzz::cookie;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| cookie(data));
