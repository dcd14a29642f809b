use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::Error;

/// Where the kernel offers a mount point for a BPF filesystem.
const BPFFS: &str = "/sys/fs/bpf";
/// [`Lock::is_held`] takes the lock for a moment: an agent that starts just then tries again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Held by the one agent of a pin root: a lock on the directory itself, so it goes with the process and leaves no
/// file behind.
#[derive(Debug)]
pub struct Lock {
    pin_root: PathBuf,
    /// Closing it gives the lock back.
    _directory: File,
}

impl Lock {
    /// Takes the lock: mounts a BPF filesystem on `/sys/fs/bpf` if none is there, makes `pin_root`.
    pub fn acquire(pin_root: &Path) -> Result<Self, Error> {
        if pin_root.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS))? {
            tracing::info!(path = BPFFS, "mounting a BPF filesystem, none is there");
            mount(
                Some("bpf"),
                BPFFS,
                Some("bpf"),
                MsFlags::empty(),
                None::<&str>,
            )
            .map_err(|errno| Error::Files {
                operation: "mounting a BPF filesystem on",
                path: BPFFS.into(),
                source: errno.into(),
            })?;
        }
        let existing = pin_root
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(pin_root);
        if !is_bpffs(existing)? {
            return Err(Error::NotBpffs {
                path: pin_root.to_owned(),
            });
        }
        fs::create_dir_all(pin_root).map_err(|source| Error::Files {
            operation: "making directory",
            path: pin_root.to_owned(),
            source,
        })?;
        Self::take(pin_root)
    }

    /// Takes the lock of a pin root that is there.
    pub(super) fn take(pin_root: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Files {
            operation: "locking",
            path: pin_root.to_owned(),
            source,
        };
        let directory = File::open(pin_root).map_err(failed)?;
        for attempt in 0..TRIES {
            match directory.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        pin_root: pin_root.to_owned(),
                        _directory: directory,
                    });
                }
                Err(TryLockError::WouldBlock) if attempt + 1 < TRIES => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Err(Error::Locked {
            pin_root: pin_root.to_owned(),
        })
    }

    /// Whether an agent holds it.
    pub fn is_held(pin_root: &Path) -> bool {
        File::open(pin_root).is_ok_and(|directory| {
            matches!(directory.try_lock_shared(), Err(TryLockError::WouldBlock))
        })
    }

    /// What it guards.
    pub fn pin_root(&self) -> &Path {
        &self.pin_root
    }
}

/// Whether `path` lies on a BPF filesystem.
fn is_bpffs(path: &Path) -> Result<bool, Error> {
    let found = statfs(path).map_err(|errno| Error::Files {
        operation: "asking for the filesystem of",
        path: path.to_owned(),
        source: errno.into(),
    })?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}
