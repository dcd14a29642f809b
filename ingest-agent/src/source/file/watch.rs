//! Following the file: editors that rename, ConfigMaps that swap a symlink two levels up, and file systems that
//! tell nothing.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecursiveMode, Watcher as _};
use tokio::{sync::mpsc, task::JoinHandle, time};
use tracing::warn;

use super::{Error, parse};
use crate::source::{Change, Snapshot, Update};

/// One save is several events, and a swap of symlinks several more.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Network file systems and replaced directories send no events.
const POLL: Duration = Duration::from_secs(5);

/// Sends a [`Change`] whenever the file's content is no longer `last`. Ends when the receiver is dropped.
///
/// `uplinks` are those that the agent began with; a file with others is refused.
pub fn watch(
    path: &Path,
    last: Vec<u8>,
    uplinks: Vec<String>,
) -> (mpsc::Receiver<Change>, JoinHandle<()>) {
    let (changes, receiver) = mpsc::channel(1);
    let task = tokio::spawn(follow(path.to_path_buf(), last, uplinks, changes));
    (receiver, task)
}

async fn follow(path: PathBuf, last: Vec<u8>, uplinks: Vec<String>, changes: mpsc::Sender<Change>) {
    let mut last = Some(last);
    let (wake, mut woken) = mpsc::channel(1);
    let mut watched = BTreeSet::new();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file is an event too.
        if !matches!(&event, Ok(e) if e.kind.is_access() && !is_written(e.kind)) {
            // A full channel means that a wake-up is already on its way.
            wake.try_send(()).ok();
        }
    })
    .inspect_err(|error| warn!(%error, "no file events: the configuration is read every 5 s"))
    .ok();
    loop {
        if let Some(watcher) = &mut watcher {
            for directory in directories(&path).difference(&watched.clone()) {
                match watcher.watch(directory, RecursiveMode::NonRecursive) {
                    Ok(()) => drop(watched.insert(directory.clone())),
                    Err(error) => {
                        warn!(%error, directory = %directory.display(), "cannot watch; the configuration is read every 5 s");
                    }
                }
            }
        }
        tokio::select! {
            () = changes.closed() => return,
            _ = woken.recv() => time::sleep(DEBOUNCE).await,
            () = time::sleep(POLL) => {}
        }
        while woken.try_recv().is_ok() {}
        let (now, change) = match tokio::fs::read(&path).await {
            Ok(bytes) if last.as_ref() == Some(&bytes) => continue,
            Ok(bytes) => {
                let change = parse(&path, &bytes)
                    .and_then(|snapshot| keeps_uplinks(&path, snapshot, &uplinks))
                    .map(Update::now);
                (Some(bytes), change)
            }
            // Told once, until the file is back.
            Err(_) if last.is_none() => continue,
            Err(source) => (
                None,
                Err(Error::Read {
                    path: path.clone(),
                    source,
                }),
            ),
        };
        last = now;
        if changes.send(change).await.is_err() {
            return;
        }
    }
}

/// Refuses a snapshot with other uplinks: programs are attached once.
fn keeps_uplinks(path: &Path, snapshot: Snapshot, uplinks: &[String]) -> Result<Snapshot, Error> {
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    if set(&snapshot.uplinks) == set(uplinks) {
        return Ok(snapshot);
    }
    Err(Error::UplinkChanged {
        path: path.to_path_buf(),
        from: uplinks.join(", "),
        to: snapshot.uplinks.join(", "),
    })
}

fn is_written(kind: notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    kind == notify::EventKind::Access(AccessKind::Close(AccessMode::Write))
}

/// The directory that holds the file, and the one that holds what a symlink leads to.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let parent = |p: &Path| match p.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        other => other.map(Path::to_path_buf),
    };
    let target = std::fs::canonicalize(path).ok();
    parent(path)
        .into_iter()
        .chain(target.as_deref().and_then(parent))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{read, tests::GOOD},
        *,
    };

    /// A directory of its own, removed at the end.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ingest-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    async fn next(changes: &mut tokio::sync::mpsc::Receiver<Change>) -> Change {
        // Under the poll interval: it must be the file events that tell.
        tokio::time::timeout(Duration::from_secs(3), changes.recv())
            .await
            .unwrap()
            .unwrap()
    }

    fn port(change: Change) -> u16 {
        change.unwrap().snapshot.desired.services[0].port
    }

    #[tokio::test]
    async fn changes_are_followed_in_place_by_rename_and_by_symlink() {
        let dir = Scratch::new("watch");
        let file = dir.0.join("ingest.yaml");
        for (version, text) in [("v1", GOOD), ("v2", &GOOD.replace("9000", "9002"))] {
            std::fs::create_dir(dir.0.join(version)).unwrap();
            std::fs::write(dir.0.join(version).join("ingest.yaml"), text).unwrap();
        }
        // As the kubelet lays out a ConfigMap.
        std::os::unix::fs::symlink("v1", dir.0.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/ingest.yaml", &file).unwrap();

        let (mut changes, task) = watch(&file, read(&file).unwrap(), vec!["eth0".to_owned()]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        std::os::unix::fs::symlink("v2", dir.0.join("..new")).unwrap();
        std::fs::rename(dir.0.join("..new"), dir.0.join("..data")).unwrap();
        assert_eq!(port(next(&mut changes).await), 9002);

        std::fs::write(dir.0.join("v2/ingest.yaml"), "uplink: [\n").unwrap();
        assert!(matches!(
            next(&mut changes).await,
            Err(Error::Invalid { .. })
        ));

        std::fs::write(dir.0.join("tmp"), GOOD.replace("9000", "9003")).unwrap();
        std::fs::rename(dir.0.join("tmp"), &file).unwrap();
        assert_eq!(port(next(&mut changes).await), 9003);

        std::fs::write(&file, GOOD.replace("eth0", "eth3")).unwrap();
        assert!(matches!(
            next(&mut changes).await,
            Err(Error::UplinkChanged { .. })
        ));

        std::fs::remove_file(&file).unwrap();
        assert!(matches!(next(&mut changes).await, Err(Error::Read { .. })));
        assert!(
            tokio::time::timeout(Duration::from_millis(200), changes.recv())
                .await
                .is_err(),
            "told once"
        );
        drop(changes);
        tokio::time::timeout(Duration::from_secs(1), task)
            .await
            .unwrap()
            .unwrap();
    }
}
