//! Recorded sessions of real libsrt on the real object.

use ingest_tests::fixtures::{capture, kernel::Kernel, packet::Family};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn recorded_sessions_are_forwarded_and_counted() {
    let mut kernel = Kernel::load().expect("the object loads");
    for family in [Family::V4, Family::V6] {
        capture::check_all(&mut kernel, family, false);
    }
}
