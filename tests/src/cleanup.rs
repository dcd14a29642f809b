//! Whatever way a run ends, nothing of it stays: not on drop, not on panic, not on Ctrl-C.
//!
//! Everything that outlives a process by itself (child processes, namespaces, pins, directories) is registered here
//! when it is made. Dropping its [`Guard`] removes it; a signal removes all that is registered; [`sweep_leftovers`]
//! removes what a run left that was killed without notice, and never what belongs to a living one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::command;

/// Begins the name of every namespace, pin directory and scratch directory of ours; the run's pid follows.
pub const PREFIX: &str = "ingest-test-";
/// Where pins of test agents live.
pub const BPFFS: &str = "/sys/fs/bpf";
const NAMESPACES: &str = "/run/netns";

/// Something that stays until it is removed.
#[derive(Clone, Debug)]
pub enum Resource {
    /// A network namespace, by name.
    Namespace(String),
    /// A directory, on bpffs or elsewhere.
    Directory(PathBuf),
    /// A file.
    File(PathBuf),
    /// A child that is not reaped yet.
    Process(Pid),
}

impl Resource {
    fn remove(&self) {
        // Failures are of no use here: the resource may be half made or gone already.
        match self {
            Self::Namespace(name) => drop(command::run("ip", &["netns", "delete", name])),
            Self::Directory(path) => drop(std::fs::remove_dir_all(path)),
            Self::File(path) => drop(std::fs::remove_file(path)),
            Self::Process(pid) => drop(kill(*pid, Signal::SIGKILL)),
        }
    }
}

/// Resources in the order they were made; they are removed the other way round.
static REGISTRY: Mutex<(u64, BTreeMap<u64, Resource>)> = Mutex::new((0, BTreeMap::new()));

/// Keeps a resource; dropping it removes the resource.
#[derive(Debug)]
pub struct Guard {
    id: u64,
}

impl Guard {
    /// Registers `resource`.
    pub fn new(resource: Resource) -> Self {
        install();
        let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
        registry.0 += 1;
        let id = registry.0;
        registry.1.insert(id, resource);
        Self { id }
    }

    /// Makes something and registers it in one step, so that an interrupt finds all of it or none.
    pub fn with<T>(make: impl FnOnce() -> Result<(T, Resource)>) -> Result<(T, Self)> {
        install();
        let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
        let (made, resource) = make()?;
        registry.0 += 1;
        let id = registry.0;
        registry.1.insert(id, resource);
        Ok((made, Self { id }))
    }

    /// Forgets the resource: it is gone already, or somebody else's now.
    pub fn release(self) {
        let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
        registry.1.remove(&self.id);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resource) = registry.1.remove(&self.id) {
            resource.remove();
        }
    }
}

/// Removes everything registered, last made first, at the end of this process.
fn sweep() {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some((_, resource)) = registry.1.pop_last() {
        resource.remove();
    }
    // Kept locked: what a supervisor would start now has nobody to end it.
    std::mem::forget(registry);
}

/// Sees to it that SIGINT, SIGTERM, SIGHUP and (where panics abort) a panic clean up. Once per process.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if cfg!(panic = "abort") {
            let print = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                print(info);
                sweep();
            }));
        }
        let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
            return;
        };
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                eprintln!("\ninterrupted: cleaning up");
                sweep();
                std::process::exit(128 + signal);
            }
        });
    });
}

/// Removes what runs left that no longer live, and the processes in their namespaces.
pub fn sweep_leftovers() -> Result<()> {
    for name in leftovers(Path::new(NAMESPACES))? {
        for pid in command::run("ip", &["netns", "pids", &name])?.lines() {
            if let Ok(pid) = pid.trim().parse() {
                Resource::Process(Pid::from_raw(pid)).remove();
            }
        }
        Resource::Namespace(name).remove();
    }
    for base in [Path::new(BPFFS), &std::env::temp_dir()] {
        for name in leftovers(base)? {
            Resource::Directory(base.join(name)).remove();
        }
    }
    Ok(())
}

/// Names under `directory` that carry our prefix and the pid of a process that is no more.
fn leftovers(directory: &Path) -> Result<Vec<String>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// A name that no other run and no other call has.
pub fn unique_name(what: &str) -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{PREFIX}{}-{count}-{what}", std::process::id())
}

/// A directory for scratch files that goes with its guard.
pub fn scratch_directory(what: &str) -> Result<(PathBuf, Guard)> {
    let path = std::env::temp_dir().join(unique_name(what));
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok((path.clone(), Guard::new(Resource::Directory(path))))
}
