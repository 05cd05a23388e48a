//! Notices that a file which a configuration names was replaced.
//!
//! Files are replaced by renaming, and deployments turn symbolic links; so what is watched are directories: that of the
//! file, and those of all links on the way to it. An event says only that something may have changed: what a file is now
//! is looked at then.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

/// A copy comes in several writes: it is looked at when none came for so long.
const QUIET: Duration = Duration::from_millis(200);
/// What is to be watched may be other files by now.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// More links than this on the way to a file are a circle.
const MAX_LINKS: usize = 40;

/// Who has files that may be replaced.
pub trait Watched: Send + Sync + 'static {
    /// The files as they are named.
    fn files(&self) -> Vec<PathBuf>;

    /// One of them, or what leads to it, may have changed.
    fn changed(&self);
}

/// Watches, on a thread of this name, until who has the files is gone. Without inotify there is no watching.
///
/// # Errors
/// No thread, or nothing to watch with.
pub fn start<W: Watched>(name: &str, watched: &Arc<W>) -> notify::Result<JoinHandle<()>> {
    let (sender, events) = channel();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = sender.send(());
        }
    })?;
    let mut watching = Watching { watcher, directories: BTreeSet::new() };
    watching.follow(&**watched);
    let watched = Arc::downgrade(watched);
    let builder = std::thread::Builder::new().name(name.to_owned());
    let thread = builder.spawn(move || {
        while let Some(watched) = watched.upgrade() {
            watching.follow(&*watched);
            if changed(&events) {
                watched.changed();
            }
        }
    })?;
    Ok(thread)
}

struct Watching {
    watcher: RecommendedWatcher,
    directories: BTreeSet<PathBuf>,
}

impl Watching {
    /// Watches what is to be watched now.
    fn follow(&mut self, watched: &impl Watched) {
        let wanted: BTreeSet<PathBuf> = watched.files().iter().flat_map(|path| directories_of(path)).collect();
        for gone in self.directories.difference(&wanted) {
            let _ = self.watcher.unwatch(gone);
        }
        let mut watched: BTreeSet<PathBuf> = self.directories.intersection(&wanted).cloned().collect();
        for added in wanted.difference(&self.directories) {
            // One that is not there now is tried again.
            if self.watcher.watch(added, RecursiveMode::NonRecursive).is_ok() {
                watched.insert(added.clone());
            }
        }
        self.directories = watched;
    }
}

/// Waits for events, and for their end.
fn changed(events: &Receiver<()>) -> bool {
    match events.recv_timeout(LOOK_AGAIN) {
        Ok(()) => {
            while events.recv_timeout(QUIET).is_ok() {}
            true
        }
        Err(RecvTimeoutError::Timeout) => false,
        Err(RecvTimeoutError::Disconnected) => {
            std::thread::sleep(LOOK_AGAIN);
            false
        }
    }
}

/// The directories whose entries decide what this path leads to.
fn directories_of(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut links = 0;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest: Vec<PathBuf> = vec![absolute];
    while let Some(path) = rest.pop() {
        let mut prefix = PathBuf::new();
        for component in path.components() {
            let directory = prefix.clone();
            prefix.push(component);
            let Ok(target) = std::fs::read_link(&prefix) else { continue };
            found.insert(directory.clone());
            links += 1;
            if links < MAX_LINKS {
                let behind = path.strip_prefix(&prefix).unwrap_or(Path::new("")).to_owned();
                rest.push(normal(&directory.join(target).join(behind)));
            }
            break;
        }
        if let Some(parent) = path.parent() {
            found.insert(parent.to_owned());
        }
    }
    found
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => _ = normal.pop(),
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_on_the_way_is_watched_in_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for made in ["releases/1", "etc"] {
            std::fs::create_dir_all(root.join(made)).unwrap();
        }
        std::fs::write(root.join("releases/1/policy.wasm"), b"").unwrap();
        symlink("../releases/1", root.join("etc/current")).unwrap();
        symlink("etc/current/policy.wasm", root.join("policy.wasm")).unwrap();
        let found = directories_of(&root.join("policy.wasm"));
        for expected in ["", "etc", "etc/current", "releases/1"] {
            let expected = if expected.is_empty() { root.clone() } else { root.join(expected) };
            assert!(found.contains(&expected), "{} in {found:?}", expected.display());
        }
    }

    #[test]
    fn circles_end() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert!(!directories_of(&directory.path().join("a")).is_empty());
    }
}
