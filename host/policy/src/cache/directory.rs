//! A directory that only this host writes.

use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::CacheError;

/// No compiled policy is larger.
const MAX_ENTRY_BYTES: u64 = 256 << 20;
/// The entries beyond so many that were used longest ago are removed.
const MAX_ENTRIES: usize = 4_096;
/// The same for their bytes.
const MAX_BYTES: u64 = 4 << 30;
/// When an entry was used is noted at most so often.
const USE_NOTED_EVERY: Duration = Duration::from_secs(3_600);
/// Marks a file that is being written.
const UNFINISHED: &str = ".unfinished";

/// An open directory.
pub(super) struct Directory {
    path: PathBuf,
    descriptor: OwnedFd,
    is_read_only: bool,
    written: AtomicU64,
}

impl Directory {
    /// Opens it, or makes it with mode 0700.
    pub(super) fn open(path: &Path) -> Result<Directory, CacheError> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(io_error(path, error.into())),
        }
        Directory::open_known(path)
    }

    /// Opens one that is there, and never changes anything in it.
    pub(super) fn reading(path: &Path) -> Result<Directory, CacheError> {
        Ok(Directory { is_read_only: true, ..Directory::open_known(path)? })
    }

    fn open_known(path: &Path) -> Result<Directory, CacheError> {
        let unsafe_directory = |problem| CacheError::Unsafe { path: path.to_owned(), problem };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                return Err(unsafe_directory("is a link or a file; expected a directory"));
            }
            Err(error) => return Err(io_error(path, error.into())),
        };
        let file = File::from(descriptor);
        let metadata = file.metadata().map_err(|error| io_error(path, error))?;
        if !belongs_to_us(&metadata) {
            return Err(unsafe_directory("is open to others; expected a directory of this user with mode 0700"));
        }
        Ok(Directory {
            path: path.to_owned(),
            descriptor: file.into(),
            is_read_only: false,
            written: AtomicU64::new(0),
        })
    }

    /// Refuses a file that lies directly in this directory.
    pub(super) fn must_not_contain(&self, file: &Path) -> Result<(), CacheError> {
        let parent = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let here = std::fs::metadata(&self.path).map_err(|error| io_error(&self.path, error))?;
        let there = std::fs::metadata(parent).map_err(|error| io_error(parent, error))?;
        if (here.dev(), here.ino()) == (there.dev(), there.ino()) {
            let problem = "lies in the directory that it protects; expected it elsewhere";
            return Err(CacheError::Unsafe { path: file.to_owned(), problem });
        }
        Ok(())
    }

    /// A file, opened for reading, and its length; none when there is none.
    pub(super) fn open_file(&self, name: &str) -> io::Result<Option<(File, u64)>> {
        // NONBLOCK: a pipe of this name must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || !belongs_to_us(&metadata) || metadata.len() > MAX_ENTRY_BYTES {
            return Err(io::Error::other("not a file that this host wrote"));
        }
        let now = SystemTime::now();
        let is_noted =
            metadata.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|ago| ago < USE_NOTED_EVERY));
        if !is_noted && !self.is_read_only {
            // Only the order in which entries make room depends on it.
            let _ = file.set_modified(now);
        }
        Ok(Some((file, metadata.len())))
    }

    /// Puts a file there, whole or not at all; nothing where it is only read.
    pub(super) fn write(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        if self.is_read_only {
            return Ok(());
        }
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = format!("{}-{number}{UNFINISHED}", std::process::id());
        let written = self.write_unfinished(&unfinished, parts);
        let renamed = written.and_then(|()| {
            rustix::fs::renameat(&self.descriptor, &unfinished, &self.descriptor, name).map_err(io::Error::from)
        });
        if renamed.is_err() {
            let _ = rustix::fs::unlinkat(&self.descriptor, &unfinished, AtFlags::empty());
        }
        renamed?;
        self.remove_oldest()
    }

    fn write_unfinished(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        // Left by a process of this number that was killed.
        match rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.descriptor, name, flags, Mode::RUSR | Mode::WUSR)?);
        for part in parts {
            file.write_all(part)?;
        }
        // No sync: an entry that a power cut tears does not verify.
        Ok(())
    }

    fn remove_oldest(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            entries.push((metadata.modified()?, metadata.len(), entry.file_name()));
        }
        entries.sort();
        let mut count = entries.len();
        let mut bytes = entries.iter().fold(0_u64, |sum, (_, length, _)| sum.saturating_add(*length));
        for (_, length, name) in entries {
            if count <= MAX_ENTRIES && bytes <= MAX_BYTES {
                break;
            }
            rustix::fs::unlinkat(&self.descriptor, &name, AtFlags::empty())?;
            count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(length);
        }
        Ok(())
    }
}

/// Whether nobody but the user that the host runs as can read or write this.
pub(super) fn belongs_to_us(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
}

pub(super) fn io_error(path: &Path, error: io::Error) -> CacheError {
    CacheError::Io { path: path.to_owned(), error }
}
