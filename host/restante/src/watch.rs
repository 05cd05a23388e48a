//! Notices that a file which a configuration names was replaced.
//!
//! Files are replaced by renaming, and deployments turn symbolic links; so what is watched are directories: that of the
//! file, and those of all links on the way to it. A directory may be replaced, too: every now and then its name is asked whether
//! it is still that of the one that is watched. An event says only that something may have changed: what a file is now
//! is looked at then. Events of other files beside these say nothing: logs and spools may be in the same directory.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

/// A copy comes in several writes: it is looked at when none came for so long.
const QUIET: Duration = Duration::from_millis(200);
/// Where they do not end, it is looked at all the same.
const AT_LATEST: Duration = Duration::from_secs(2);
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
    // One that waits says all that any number of them would.
    let (sender, events) = sync_channel(1);
    let places = Arc::<Mutex<Places>>::default();
    let wanted = Arc::clone(&places);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access() && lock(&wanted).are_meant_by(&event.paths)) {
            let _ = sender.try_send(());
        }
    })?;
    let mut watching = Watching { watcher, places, directories: BTreeMap::new() };
    watching.follow(&**watched);
    let watched = Arc::downgrade(watched);
    let builder = std::thread::Builder::new().name(name.to_owned());
    let thread = builder.spawn(move || {
        while let Some(watched) = watched.upgrade() {
            let is_more = watching.follow(&*watched);
            // What is found anew waits, too, for the end of what may be a copy.
            if changed(&events) || is_more {
                watched.changed();
            }
        }
    })?;
    Ok(thread)
}

struct Watching {
    watcher: RecommendedWatcher,
    places: Arc<Mutex<Places>>,
    /// Those that are watched, and what was found under their names then.
    directories: BTreeMap<PathBuf, Identity>,
}

/// What a directory is, whatever its name: the device and the number of its inode.
type Identity = (u64, u64);

/// What decides where paths lead to.
#[derive(Clone, Debug, Default)]
struct Places {
    /// The directories.
    directories: BTreeSet<PathBuf>,
    /// What counts in them: files, and links on the way to them.
    entries: BTreeSet<PathBuf>,
}

impl Watching {
    /// Watches what is to be watched now. True: some of it is watched only now, and may have changed before.
    fn follow(&mut self, watched: &impl Watched) -> bool {
        let mut places = Places::default();
        watched.files().iter().for_each(|path| places.add(path));
        let wanted = places.directories.clone();
        *lock(&self.places) = places;
        let watcher = &mut self.watcher;
        // A name may be another directory's by now, and who watches has the one of before.
        self.directories.retain(|path, known| {
            let stays = wanted.contains(path) && identity(path) == Some(*known);
            if !stays {
                let _ = watcher.unwatch(path);
            }
            stays
        });
        let mut is_more = false;
        for path in wanted {
            if self.directories.contains_key(&path) {
                continue;
            }
            // One that is not there now is tried again. What it is is asked before: one that comes in between is noticed.
            if let Some(found) = identity(&path)
                && self.watcher.watch(&path, RecursiveMode::NonRecursive).is_ok()
            {
                self.directories.insert(path, found);
                is_more = true;
            }
        }
        is_more
    }
}

fn identity(directory: &Path) -> Option<Identity> {
    std::fs::metadata(directory).ok().map(|it| (it.dev(), it.ino()))
}

/// Waits for events, and for their end.
fn changed(events: &Receiver<()>) -> bool {
    match events.recv_timeout(LOOK_AGAIN) {
        Ok(()) => {
            let begun = Instant::now();
            while begun.elapsed() < AT_LATEST && events.recv_timeout(QUIET).is_ok() {}
            true
        }
        Err(RecvTimeoutError::Timeout) => false,
        Err(RecvTimeoutError::Disconnected) => {
            std::thread::sleep(LOOK_AGAIN);
            false
        }
    }
}

impl Places {
    /// Adds the directories whose entries decide what this path leads to, and those entries.
    fn add(&mut self, path: &Path) {
        let mut links = 0;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut rest: Vec<PathBuf> = vec![absolute];
        while let Some(path) = rest.pop() {
            let mut prefix = PathBuf::new();
            for component in path.components() {
                let directory = prefix.clone();
                prefix.push(component);
                let Ok(target) = std::fs::read_link(&prefix) else { continue };
                self.directories.insert(directory.clone());
                self.entries.insert(prefix.clone());
                links += 1;
                if links < MAX_LINKS {
                    let behind = path.strip_prefix(&prefix).unwrap_or(Path::new("")).to_owned();
                    rest.push(normal(&directory.join(target).join(behind)));
                }
                break;
            }
            if let Some(parent) = path.parent() {
                self.directories.insert(parent.to_owned());
                self.entries.insert(path);
            }
        }
    }

    /// Whether an event about these paths may be about what is here. One about none says that events were lost.
    fn are_meant_by(&self, paths: &[PathBuf]) -> bool {
        paths.is_empty() || paths.iter().any(|path| self.entries.contains(path) || self.directories.contains(path))
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
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
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// How long anything that must happen may take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn places_of(path: &Path) -> Places {
        let mut places = Places::default();
        places.add(path);
        places
    }

    /// One file, and who is told that it changed.
    struct OneFile(PathBuf, Sender<()>);

    impl Watched for OneFile {
        fn files(&self) -> Vec<PathBuf> {
            vec![self.0.clone()]
        }

        fn changed(&self) {
            let _ = self.1.send(());
        }
    }

    #[test]
    fn a_change_is_noticed_while_another_file_of_the_directory_and_the_file_itself_never_rest() {
        let directory = tempfile::tempdir().unwrap();
        for busy in ["other.log", "policy.wasm"] {
            let file = directory.path().join("policy.wasm");
            let (told, changes) = channel();
            let watched = Arc::new(OneFile(file.clone(), told));
            start("busy-watch", &watched).unwrap();
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        std::fs::write(directory.path().join(busy), "more").unwrap();
                    }
                });
                std::fs::write(&file, "a policy").unwrap();
                let noticed = changes.recv_timeout(PATIENCE);
                is_over.store(true, Ordering::Relaxed);
                assert!(noticed.is_ok(), "{busy} is written all the time");
            });
        }
    }

    #[test]
    fn a_directory_that_is_replaced_is_watched_as_what_it_is_now() {
        let directory = tempfile::tempdir().unwrap();
        let [place, old, new] = ["policies", "old", "new"].map(|name| directory.path().join(name));
        let file = place.join("policy.wasm");
        for made in [&place, &new] {
            std::fs::create_dir(made).unwrap();
            std::fs::write(made.join("policy.wasm"), "a policy").unwrap();
        }
        let (told, changes) = channel();
        let watched = Arc::new(OneFile(file.clone(), told));
        start("replaced-watch", &watched).unwrap();
        std::fs::rename(&place, &old).unwrap();
        std::fs::rename(&new, &place).unwrap();
        for _ in 0..2 {
            assert!(changes.recv_timeout(PATIENCE).is_ok());
            // Until all that this led to is told.
            while changes.recv_timeout(LOOK_AGAIN * 2).is_ok() {}
            std::fs::write(&file, "another one").unwrap();
        }
    }

    #[test]
    fn what_happens_to_other_files_is_no_change() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("1")).unwrap();
        symlink("1", root.join("current")).unwrap();
        let places = places_of(&root.join("current/policy.wasm"));
        for (path, expected) in [
            ("current", true),
            ("current/policy.wasm", true),
            ("1/policy.wasm", true),
            ("1", true),
            ("restante.log", false),
            ("1/policy.wasm.new", false),
        ] {
            assert_eq!(places.are_meant_by(&[root.join("x"), root.join(path)]), expected, "{path}");
        }
        assert!(places.are_meant_by(&[]));
    }

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
        let found = places_of(&root.join("policy.wasm")).directories;
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
        assert!(!places_of(&directory.path().join("a")).directories.is_empty());
    }
}
