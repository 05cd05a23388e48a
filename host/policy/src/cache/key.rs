//! The key that authenticates entries.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::CacheError;
use super::directory::{belongs_to_us, io_error};

/// One block of SHA-256: used as it is.
const KEY_BYTES: usize = 64;

/// A secret of this host.
pub(super) struct Key([u8; KEY_BYTES]);

impl Key {
    /// Reads the key, or makes one.
    pub(super) fn open(path: &Path) -> Result<Key, CacheError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => Key::read(path, File::from(descriptor)),
            Err(rustix::io::Errno::NOENT) => Key::create(path),
            Err(rustix::io::Errno::LOOP) => Err(unsafe_key(path, "is a link; expected a file")),
            Err(error) => Err(io_error(path, error.into())),
        }
    }

    /// Reads one that is there.
    pub(super) fn known(path: &Path) -> Result<Key, CacheError> {
        let descriptor = rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        Key::read(path, File::from(descriptor.map_err(|error| io_error(path, error.into()))?))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn read(path: &Path, mut file: File) -> Result<Key, CacheError> {
        let metadata = file.metadata().map_err(|error| io_error(path, error))?;
        if !metadata.is_file() || !belongs_to_us(&metadata) {
            return Err(unsafe_key(path, "can be read by others; expected a file of this user with mode 0600"));
        }
        let mut bytes = Vec::with_capacity(KEY_BYTES);
        let limit = KEY_BYTES as u64 + 1;
        (&mut file).take(limit).read_to_end(&mut bytes).map_err(|error| io_error(path, error))?;
        match bytes.try_into() {
            Ok(bytes) => Ok(Key(bytes)),
            Err(_) => Err(unsafe_key(path, "is not a key; expected 64 bytes (remove it and a new one is made)")),
        }
    }

    fn create(path: &Path) -> Result<Key, CacheError> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io_error(path, std::io::Error::other(error.to_string())))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(descriptor) => descriptor,
            Err(error) => return Err(io_error(path, error.into())),
        };
        let mut file = File::from(descriptor);
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(|error| io_error(path, error))?;
        Ok(Key(bytes))
    }
}

fn unsafe_key(path: &Path, problem: &'static str) -> CacheError {
    CacheError::Unsafe { path: path.to_owned(), problem }
}
