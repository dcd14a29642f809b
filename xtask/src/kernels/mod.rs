//! The tests of tier `kernels` on kernels other than the machine's: Debian's, emulated by qemu, so that it works where
//! there is no KVM.
//!
//! * [`fetch`]: kernels, qemu and busybox, as Debian packages unpacked into `target/kernels/`.
//! * [`initramfs`]: the guest's only file system: tests, agent, peers, and what they run by.
//! * [`guest`]: one boot, and what its tests said.

mod fetch;
mod guest;
mod initramfs;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    test::{Tally, seconds},
    workspace,
};

/// A Debian suite and the kernel that it must have.
#[derive(Debug)]
struct Kernel {
    /// The first two numbers of its version.
    series: (u32, u32),
    suite: &'static str,
}

impl Kernel {
    fn name(&self) -> String {
        let (major, minor) = self.series;
        format!("{major}.{minor}")
    }

    fn folder(&self) -> PathBuf {
        directory().join(self.name())
    }
}

/// The oldest that we run on, those of the next two Debians, and the newest.
const KERNELS: [Kernel; 4] = [
    Kernel {
        series: (5, 10),
        suite: "bullseye",
    },
    Kernel {
        series: (6, 1),
        suite: "bookworm",
    },
    Kernel {
        series: (6, 12),
        suite: "trixie",
    },
    Kernel {
        series: (7, 2),
        suite: "sid",
    },
];

/// Guests at a time: each keeps a CPU busy.
const AT_A_TIME: usize = 2;

fn directory() -> PathBuf {
    workspace::target_dir().join("kernels")
}

/// Runs the test binaries `tests` (name, path) on each kernel, only the tests whose names contain `filter`.
pub(crate) fn run(tests: &[(String, PathBuf)], filter: Option<&str>) -> Result<Tally> {
    fetch::install()?;
    let begun = Instant::now();
    let base = initramfs::base(tests, filter)?;
    let waiting: Mutex<VecDeque<&Kernel>> = Mutex::new(KERNELS.iter().collect());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let next = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(kernel) = next else { break };
                    let begun = Instant::now();
                    let result = guest::run(kernel, &base)
                        .with_context(|| format!("kernel {}", kernel.name()));
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((kernel, result, begun.elapsed()));
                }
            });
        }
    });
    let mut total = Tally::default();
    let mut broken = Vec::new();
    println!();
    for (kernel, result, took) in done.into_inner().unwrap_or_else(PoisonError::into_inner) {
        match result {
            Ok(tally) => {
                println!("kernel {}: {tally} in {}", kernel.name(), seconds(took));
                total.add(tally);
            }
            Err(error) => {
                println!("{error:#}");
                broken.push(kernel.name());
            }
        }
    }
    println!("kernels: {}", seconds(begun.elapsed()));
    if !broken.is_empty() {
        bail!("not all was run on {}", broken.join(", "));
    }
    Ok(total)
}
