//! One kernel's boot, and what its tests said on the serial line.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{Kernel, directory, fetch, initramfs};
use crate::test::Tally;

/// Where a guest is given up: it needs a minute, on a busy machine three.
const LIMIT: Duration = Duration::from_mins(7);
/// Boots that may panic before the tests begin: emulated CPUs do that to some kernels.
const TRIES: u32 = 3;
/// Lines that the init script writes.
const BEGINS: &str = "guest: begins on ";
const DONE: &str = "guest: done";

/// What a boot came to.
#[derive(Debug)]
struct Boot {
    /// The version that the kernel gives itself, once the tests begin.
    release: Option<String>,
    done: bool,
    tally: Tally,
    /// Tests that ran, as their binaries announced them.
    announced: u32,
}

/// Runs the tests in `base` on a kernel. An error where they did not all run.
pub(super) fn run(kernel: &Kernel, base: &[u8]) -> Result<Tally> {
    let archive = directory().join(format!("{}.cpio", kernel.name()));
    initramfs::write(base, kernel, &archive)?;
    for attempt in 1..=TRIES {
        let boot = boot(kernel, &archive)?;
        let Some(release) = &boot.release else {
            println!(
                "kernel {}: no test began, boot {attempt} of {TRIES}",
                kernel.name()
            );
            continue;
        };
        if !release.starts_with(&format!("{}.", kernel.name())) && kernel.suite != "sid" {
            bail!("it calls itself {release}");
        }
        if !boot.done {
            bail!("the guest ended before its tests did: see above");
        }
        if boot.announced == 0 || boot.tally.total() != boot.announced {
            bail!(
                "{} of {} tests told how they ended: see above",
                boot.tally.total(),
                boot.announced
            );
        }
        return Ok(boot.tally.of(&format!("kernel {}", kernel.name())));
    }
    bail!("it never came to its tests: see above")
}

fn boot(kernel: &Kernel, archive: &Path) -> Result<Boot> {
    let mut child = Guest(
        command(kernel, archive)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting qemu")?,
    );
    let stdout = child.0.stdout.take().context("qemu's output")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&line).trim_end().to_owned())
                .is_err()
            {
                break;
            }
        }
    });
    let mut boot = Boot {
        release: None,
        done: false,
        tally: Tally::default(),
        announced: 0,
    };
    let deadline = Instant::now() + LIMIT;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("[{}] {line}", kernel.name());
                boot.read(&line);
            }
            Err(RecvTimeoutError::Timeout) => bail!("not done after {LIMIT:?}: see above"),
            Err(RecvTimeoutError::Disconnected) => return Ok(boot),
        }
    }
}

impl Boot {
    fn read(&mut self, line: &str) {
        if let Some(release) = line.strip_prefix(BEGINS) {
            self.release = Some(release.to_owned());
        } else if line == DONE {
            self.done = true;
        } else if let Some(tests) = line.strip_prefix("running ") {
            let count = tests.split(' ').next().and_then(|count| count.parse().ok());
            self.announced += count.unwrap_or(0_u32);
        } else {
            self.tally.read(line);
        }
    }
}

/// Killed where it is given up.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // An error: it has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn command(kernel: &Kernel, archive: &Path) -> Command {
    let mut qemu = fetch::qemu();
    qemu.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1024",
    ]);
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
    qemu.args(["-display", "none", "-serial", "stdio"]);
    qemu.arg("-kernel")
        .arg(kernel.folder().join(fetch::VMLINUZ));
    qemu.arg("-initrd").arg(archive);
    // A panic ends the guest. Mitigations protect nobody there, and cost emulated time.
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
    qemu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_is_counted() {
        let mut boot = Boot {
            release: None,
            done: false,
            tally: Tally::default(),
            announced: 0,
        };
        for line in [
            "[    3.1] Run /init as init process",
            "guest: begins on 6.1.0-50-cloud-amd64",
            "running 2 tests",
            "test a ... ok",
            "test b ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "guest: done",
        ] {
            boot.read(line);
        }
        assert_eq!(boot.release.as_deref(), Some("6.1.0-50-cloud-amd64"));
        assert!(boot.done);
        assert_eq!((boot.announced, boot.tally.total()), (2, 2));
        assert_eq!(
            boot.tally.of("kernel 6.1").to_string(),
            "1 passed, 1 failed"
        );
    }
}
