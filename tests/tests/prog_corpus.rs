//! Every frame of the fuzz corpus on the real object: it must do what the host does, byte by byte and map by map.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use ingest_tests::fixtures::{
    fuzz,
    kernel::Kernel,
    model::differences,
    plane::{At, Dataplane, Host, Verdict},
};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_object_does_with_the_corpus_what_the_host_does() {
    let mut kernel = Kernel::load().expect("the object loads");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame_steer");
    let mut failed = Vec::new();
    let mut count = 0;
    for file in fs::read_dir(folder).expect("the corpus is there") {
        let path = file.expect("the folder can be read").path();
        let input = fs::read(&path).expect("an input can be read");
        let Some(case) = fuzz::case(&input) else {
            continue;
        };
        count += 1;
        let agreed = catch_unwind(AssertUnwindSafe(|| {
            let since = kernel.now();
            let mut host = Host::new();
            host.0.now.set(since);
            host.load(&case.world);
            let on_host = host.run(case.at, case.frame);
            kernel.load(&case.world);
            let on_kernel = kernel.run(case.at, case.frame);
            assert_eq!(on_kernel.verdict, on_host.verdict, "verdict");
            assert_eq!(on_kernel.handover, on_host.handover, "handover");
            // What a dropped frame was made into before is of no meaning, and tags of tc stand beside the frame.
            let compared = !matches!(on_host.verdict, Verdict::XdpDrop | Verdict::TcShot)
                && !matches!(case.at, At::PodPort(_) | At::UplinkTc);
            if compared {
                assert_eq!(on_kernel.frame, on_host.frame, "frame");
            }
            let found = kernel.world().normalised(since);
            let differences = differences(&found, &host.world().normalised(since));
            assert!(differences.is_empty(), "{}", differences);
        }));
        if agreed.is_err() {
            failed.push(path.display().to_string());
        }
    }
    assert!(count > 400, "only {count} inputs");
    assert!(
        failed.is_empty(),
        "{} of {count}:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
