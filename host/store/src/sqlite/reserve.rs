//! Room on the disk that is kept for the end. Where it is full, what settles deliveries and what keeps users reachable still
//! needs some: without it a full disk could never be emptied.
//!
//! | state | on | does | goes to |
//! |---|---|---|---|
//! | kept | a commit fails for want of room | the file goes, its room is there for those orders | lent |
//! | lent | there is room for several of it | the file is made again | kept |
//!
//! While it is lent no message is stored.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Its size.
const BYTES: u64 = 16 * 1024 * 1024;
/// Room that must be there before it is taken back, in its own size.
const ROOM: u64 = 3;

/// The file, and whether it is there.
pub(super) struct Reserve {
    path: PathBuf,
    is_lent: Arc<AtomicBool>,
}

impl Reserve {
    /// Makes it, if there is room.
    pub(super) fn open(directory: &Path) -> Reserve {
        let reserve = Reserve { path: directory.join("reserve"), is_lent: Arc::default() };
        let _ = std::fs::remove_file(&reserve.path);
        reserve.is_lent.store(!reserve.is_roomy() || reserve.make().is_err(), Ordering::Relaxed);
        reserve
    }

    /// For those who want to know whether messages are taken.
    pub(super) fn lent_flag(&self) -> Arc<AtomicBool> {
        self.is_lent.clone()
    }

    pub(super) fn is_lent(&self) -> bool {
        self.is_lent.load(Ordering::Relaxed)
    }

    /// Gives its room away.
    pub(super) fn lend(&self) {
        let _ = std::fs::remove_file(&self.path);
        if !self.is_lent.swap(true, Ordering::Relaxed) {
            tracing::error!("the disk is full: no message is taken until there is room");
        }
    }

    /// Takes it back when there is room again.
    pub(super) fn take_back(&self) {
        if self.is_lent() && self.is_roomy() && self.make().is_ok() {
            self.is_lent.store(false, Ordering::Relaxed);
            tracing::info!("there is room on the disk again: messages are taken");
        }
    }

    fn is_roomy(&self) -> bool {
        let directory = self.path.parent().unwrap_or(&self.path);
        // Where this cannot be said the file itself shows it.
        statvfs(directory).map_or(true, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= BYTES * ROOM)
    }

    fn make(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&self.path)?;
        let made = match fallocate(&file, FallocateFlags::empty(), 0, BYTES) {
            // Some file systems cannot promise room: there it is filled.
            Err(rustix::io::Errno::OPNOTSUPP) => fill(&file),
            result => result.map_err(io::Error::from),
        };
        if made.is_err() {
            let _ = std::fs::remove_file(&self.path);
        }
        made
    }
}

fn fill(mut file: &File) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0x5a), BYTES), &mut file)?;
    file.sync_data()
}
