//! Room on the disk that is kept for the end. Where it is full, what settles deliveries and what keeps users reachable still
//! needs some: without it a full disk could never be emptied.
//!
//! It takes as much as the WAL may need when it is copied back, and some for those orders: so there is always a way from a
//! full disk to one whose WAL begins anew in its own room.
//!
//! | state | on | does | goes to |
//! |---|---|---|---|
//! | kept | the WAL or a batch is longer than ever | the file is made longer; where there is no room for that, it gives its room for copying the WAL back, and is made as long as is needed then | kept |
//! | kept | that does not help, or a commit fails for want of room | the file goes, its room is there for those orders | lent |
//! | lent | there is room for several of it | the file is made again | kept |
//! | lent | what filled the database is gone: it has as much room within itself | messages are taken again | within |
//! | within | little of that is left, or a commit fails for want of room | no message is taken | lent |
//! | within | there is room on the disk | the file is made again | kept |
//!
//! While it is lent no message is stored.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Its size with a short WAL, and what it grows by.
const BYTES: u64 = 16 * 1024 * 1024;
/// What of it is for orders, whatever the WAL takes.
const FOR_ORDERS: u64 = BYTES / 2;
/// Room beyond its size that must be there before it is taken back.
const BEYOND: u64 = 2 * BYTES;

/// Says how many bytes a disk has left, if that can be said.
pub type FreeBytes = Arc<dyn Fn(&Path) -> Option<u64> + Send + Sync>;

/// The file, and whether it is there.
pub(super) struct Reserve {
    path: PathBuf,
    free_bytes: FreeBytes,
    state: State,
    is_lent: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The file has so many bytes.
    Kept(u64),
    Lent,
    Within,
}

/// What room is wanted for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// Of the WAL, all of which may have to be copied back to where the database is not yet so long.
    pub(super) wal_bytes: u64,
    /// That a batch adds to it at most, about.
    pub(super) batch_bytes: u64,
}

impl Demand {
    fn bytes(self) -> u64 {
        let bytes = FOR_ORDERS.saturating_add(self.wal_bytes).saturating_add(self.batch_bytes);
        bytes.checked_next_multiple_of(BYTES).unwrap_or(u64::MAX)
    }
}

/// The free bytes of the disk that a directory is on, for those who are not root.
pub(super) fn free_bytes(directory: &Path) -> Option<u64> {
    statvfs(directory).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl Reserve {
    /// Gives its room to a store that is being opened.
    pub(super) fn lend_to_start(directory: &Path) {
        let _ = std::fs::remove_file(path_in(directory));
    }

    /// Makes it, if there is room.
    pub(super) fn open(directory: &Path, free_bytes: FreeBytes) -> Reserve {
        let is_lent = Arc::new(AtomicBool::new(false));
        let mut reserve = Reserve { path: path_in(directory), free_bytes, state: State::Kept(0), is_lent };
        if !reserve.has_free(BYTES.saturating_add(BEYOND)) || !reserve.put_back(BYTES) {
            reserve.lend("there is none to begin with");
        }
        reserve
    }

    /// For those who want to know whether messages are taken.
    pub(super) fn lent_flag(&self) -> Arc<AtomicBool> {
        self.is_lent.clone()
    }

    pub(super) fn is_kept(&self) -> bool {
        matches!(self.state, State::Kept(_))
    }

    /// Messages have what is free within the database, and nothing else.
    pub(super) fn is_within(&self) -> bool {
        self.state == State::Within
    }

    /// Whether messages may be stored, as far as the disk is concerned. `within` says how many bytes are free in the
    /// database. Where it is kept and too small, and cannot grow, it is left to the caller what is done.
    pub(super) fn suffices(&mut self, demand: Demand, within: impl FnOnce() -> u64) -> bool {
        let wanted = demand.bytes();
        match self.state {
            State::Kept(bytes) if bytes >= wanted => true,
            State::Kept(_) => self.put_back(wanted),
            State::Lent | State::Within => {
                if self.take_back(wanted) {
                    return true;
                }
                let beyond = if self.state == State::Lent { BEYOND } else { 0 };
                let is_enough = within() >= BYTES.saturating_add(beyond).saturating_add(demand.batch_bytes);
                match (is_enough, self.state) {
                    (true, State::Lent) => self.enter(State::Within),
                    (false, State::Within) => self.lend("what was free within the database is used up"),
                    _ => {}
                }
                is_enough
            }
        }
    }

    /// Gives its room to what copies the WAL back, and says how much that was. What it is to be afterwards is asked next.
    pub(super) fn set_aside(&mut self) -> u64 {
        let before = if let State::Kept(bytes) = self.state { bytes } else { 0 };
        let _ = std::fs::remove_file(&self.path);
        self.state = State::Kept(0);
        before
    }

    /// Makes it so long, or leaves it as it is where there is no room for that.
    pub(super) fn put_back(&mut self, bytes: u64) -> bool {
        match self.make(bytes) {
            Ok(()) => {
                self.state = State::Kept(bytes);
                true
            }
            // Without the file things go on as well as they can.
            Err(error) => !is_want_of_room(&error),
        }
    }

    /// Gives its room away.
    pub(super) fn lend(&mut self, why: &str) {
        let _ = std::fs::remove_file(&self.path);
        self.state = State::Lent;
        if !self.is_lent.swap(true, Ordering::Relaxed) {
            tracing::error!(why, "the disk is full: messages are refused until space is freed");
        }
    }

    /// Makes it again when there is room for more than it.
    fn take_back(&mut self, bytes: u64) -> bool {
        let with_room = bytes.saturating_add(BEYOND);
        // Where the disk cannot say what is left, or says nothing of quotas, the file itself shows it.
        let is_made = self.has_free(with_room) && self.make(with_room).is_ok();
        if is_made {
            let shortened = File::options().write(true).open(&self.path).and_then(|file| file.set_len(bytes));
            self.enter(State::Kept(if shortened.is_ok() { bytes } else { with_room }));
        }
        is_made
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        if self.is_lent.swap(false, Ordering::Relaxed) {
            let is_within = state == State::Within;
            tracing::info!(is_within, "there is space again: messages are accepted");
        }
    }

    /// Makes it so long; if that cannot be, it is as long as before.
    fn make(&self, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
        let length = file.metadata()?.len();
        let made = self.lengthen(&file, length, bytes);
        if made.is_err() {
            let _ = if length == 0 { std::fs::remove_file(&self.path) } else { file.set_len(length) };
        }
        made
    }

    /// Where that cannot be said it is tried.
    fn has_free(&self, bytes: u64) -> bool {
        (self.free_bytes)(self.path.parent().unwrap_or(&self.path)).is_none_or(|free| free >= bytes)
    }

    fn lengthen(&self, file: &File, length: u64, bytes: u64) -> io::Result<()> {
        let missing = bytes.saturating_sub(length);
        if !self.has_free(missing) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            // Some file systems cannot promise room: there it is filled.
            Err(rustix::io::Errno::OPNOTSUPP) => fill(file, length, missing),
            result => result.map_err(io::Error::from),
        }
    }
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join("reserve")
}

fn is_want_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn fill(mut file: &File, from: u64, bytes: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    io::copy(&mut io::Read::take(io::repeat(0x5a), bytes), &mut file)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// A disk that holds the file and so much more.
    fn disk(directory: &Path, room: &Arc<AtomicU64>) -> FreeBytes {
        let (directory, room) = (directory.to_owned(), room.clone());
        Arc::new(move |_| {
            let taken = std::fs::metadata(path_in(&directory)).map_or(0, |file| file.len());
            Some(room.load(Ordering::Relaxed).saturating_sub(taken))
        })
    }

    fn demand(mebibytes: u64) -> Demand {
        Demand { wal_bytes: mebibytes << 20, batch_bytes: 0 }
    }

    #[test]
    fn it_is_as_long_as_the_wal_needs() {
        let directory = tempfile::tempdir().unwrap();
        let room = Arc::new(AtomicU64::new(60 << 20));
        let mut reserve = Reserve::open(directory.path(), disk(directory.path(), &room));
        let length = || std::fs::metadata(path_in(directory.path())).unwrap().len() >> 20;
        assert_eq!((length(), reserve.is_kept()), (16, true));
        for (wal, expected) in [(8, 16), (9, 32), (2, 32), (40, 48)] {
            assert!(reserve.suffices(demand(wal), || 0), "{wal}");
            assert_eq!(length(), expected, "{wal}");
        }
        assert!(!reserve.suffices(demand(41), || 0), "there is no room");
        assert_eq!((length(), reserve.is_kept()), (48, true), "it is what it was");
        assert_eq!(reserve.set_aside(), 48 << 20);
        assert!(reserve.suffices(demand(0), || 0));
        assert_eq!((length(), reserve.lent_flag().load(Ordering::Relaxed)), (16, false));
    }

    #[test]
    fn what_is_lent_is_taken_back_when_there_is_room_on_the_disk_or_within_the_database() {
        let directory = tempfile::tempdir().unwrap();
        let room = Arc::new(AtomicU64::new(20 << 20));
        let mut reserve = Reserve::open(directory.path(), disk(directory.path(), &room));
        let flag = reserve.lent_flag();
        let is_lent = || flag.load(Ordering::Relaxed);
        assert!(is_lent() && !path_in(directory.path()).exists());
        for (free_within, suffices) in [(0, false), (47, false), (48, true), (16, true), (15, false), (16, false)] {
            assert_eq!(reserve.suffices(demand(0), || free_within << 20), suffices, "{free_within}");
            assert_eq!(is_lent(), !suffices, "{free_within}");
            assert!(!path_in(directory.path()).exists());
        }
        room.store(47 << 20, Ordering::Relaxed);
        assert!(!reserve.suffices(demand(0), || 0));
        room.store(48 << 20, Ordering::Relaxed);
        assert!(reserve.suffices(demand(0), || 0));
        assert!(!is_lent() && reserve.is_kept() && path_in(directory.path()).exists());
        reserve.lend("a test");
        assert!(is_lent() && !path_in(directory.path()).exists());
    }
}
