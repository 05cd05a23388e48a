//! Large bodies as files: written beside, made durable, renamed; then the row; then the answer.
//!
//! `spool/tmp/ID` while it is written, `spool/AB/ID` when it is whole, AB being the first two digits of the ID.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use restante_deferral::model::BodyId;

use crate::Fatal;

/// The directory of bodies.
#[derive(Clone)]
pub struct Spool {
    root: Arc<Path>,
    /// Told when an fsync failed.
    fatal: Option<Fatal>,
    /// While one of these is set no body is begun.
    is_full: Arc<[Arc<AtomicBool>]>,
}

/// A body that is being written. Dropped before [`BodyWriter::finish`] it leaves nothing.
#[derive(Debug)]
pub struct BodyWriter {
    spool: Spool,
    id: BodyId,
    file: Option<File>,
    size_bytes: u64,
}

impl Spool {
    /// Opens or makes the directory (0700) and removes what was being written when the process ended.
    ///
    /// # Errors
    /// Of the file system.
    pub fn open(root: &Path) -> io::Result<Spool> {
        let mut made = make_directory(root)?;
        let tmp = root.join("tmp");
        made |= make_directory(&tmp)?;
        for entry in std::fs::read_dir(&tmp)? {
            std::fs::remove_file(entry?.path())?;
        }
        // All of them now: one that is made later could be lost with the body that another thread put into it.
        for folder in 0..=u8::MAX {
            made |= make_directory(&root.join(format!("{folder:02x}")))?;
        }
        if made {
            File::open(root)?.sync_all()?;
            if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(Spool { root: root.into(), fatal: None, is_full: Arc::default() })
    }

    /// Has somebody told when an fsync fails with EIO: what is in the directory is not known any more then, and the
    /// process has to end.
    #[must_use]
    pub fn on_lost_sync(self, fatal: Fatal) -> Spool {
        Spool { fatal: Some(fatal), ..self }
    }

    /// Begins no body while one of these is set: its message would be refused, and the last room is not for it.
    pub(crate) fn unless_full(self, is_full: &[Arc<AtomicBool>]) -> Spool {
        Spool { is_full: is_full.into(), ..self }
    }

    /// Begins a body.
    ///
    /// # Errors
    /// Of the file system, and [`io::ErrorKind::StorageFull`] where no message is taken for want of room.
    pub fn create(&self) -> io::Result<BodyWriter> {
        if self.is_full.iter().any(|is_full| is_full.load(Ordering::Relaxed)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut random = [0u8; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let id = BodyId(u128::from_be_bytes(random));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.unfinished(id))?;
        Ok(BodyWriter { spool: self.clone(), id, file: Some(file), size_bytes: 0 })
    }

    /// Opens a body for reading.
    ///
    /// # Errors
    /// Of the file system.
    pub fn read(&self, id: BodyId) -> io::Result<File> {
        File::open(self.finished(id))
    }

    /// Whether there is such a body.
    #[must_use]
    pub fn exists(&self, id: BodyId) -> bool {
        self.finished(id).exists()
    }

    /// Removes a body; one that is gone already is no error.
    ///
    /// # Errors
    /// Of the file system.
    pub fn remove(&self, id: BodyId) -> io::Result<()> {
        match std::fs::remove_file(self.finished(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes every body that is not in `known`; says how many. What is no body stays, whoever put it there.
    ///
    /// # Errors
    /// Of the file system.
    pub fn sweep(&self, known: &HashSet<BodyId>) -> io::Result<usize> {
        let mut removed = 0;
        for folder in 0..=u8::MAX {
            for id in self.bodies_in(folder)?.into_iter().filter(|id| !known.contains(id)) {
                self.remove(id)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Whether there is any body.
    ///
    /// # Errors
    /// Of the file system.
    pub fn is_empty(&self) -> io::Result<bool> {
        for folder in 0..=u8::MAX {
            if !self.bodies_in(folder)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The whole bodies in the folder with this number.
    fn bodies_in(&self, folder: u8) -> io::Result<Vec<BodyId>> {
        let mut bodies = Vec::new();
        for entry in std::fs::read_dir(self.root.join(format!("{folder:02x}")))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let id = name.and_then(|name| u128::from_str_radix(name, 16).ok()).map(BodyId);
            bodies.extend(id.filter(|id| self.finished(*id) == path));
        }
        Ok(bodies)
    }

    /// Passes the result of an fsync on, unless it says that the disk lost something.
    fn checked(&self, result: io::Result<()>) -> io::Result<()> {
        let lost = |error: &io::Error| error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        if let (Err(error), Some(fatal)) = (&result, &self.fatal)
            && lost(error)
        {
            fatal(&format!("a body could not be made durable: {error}"));
        }
        result
    }

    fn unfinished(&self, id: BodyId) -> PathBuf {
        self.root.join("tmp").join(format!("{:032x}", id.0))
    }

    fn finished(&self, id: BodyId) -> PathBuf {
        let name = format!("{:032x}", id.0);
        let folder = name.get(..2).unwrap_or("00").to_owned();
        self.root.join(folder).join(name)
    }
}

impl BodyWriter {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> BodyId {
        self.id
    }

    /// Bytes so far: the end of what was written farthest out.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Writes at a place.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("finished"))?;
        file.write_all_at(bytes, offset)?;
        self.size_bytes = self.size_bytes.max(offset.saturating_add(bytes.len() as u64));
        Ok(())
    }

    /// Writes at the end.
    ///
    /// # Errors
    /// Of the file system.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_at(self.size_bytes, bytes)
    }

    /// Makes it durable: data, then the name. Blocks on the disk.
    ///
    /// # Errors
    /// Of the file system; nothing is left then.
    pub fn finish(mut self) -> io::Result<(BodyId, u64)> {
        let file = self.file.take().ok_or_else(|| io::Error::other("finished"))?;
        let unfinished = self.spool.unfinished(self.id);
        let result = self.spool.checked(file.sync_data()).and_then(|()| self.publish(&unfinished));
        if result.is_err() {
            let _ = std::fs::remove_file(&unfinished);
            let _ = self.spool.remove(self.id);
        }
        result.map(|()| (self.id, self.size_bytes))
    }

    fn publish(&self, unfinished: &Path) -> io::Result<()> {
        let finished = self.spool.finished(self.id);
        let folder = finished.parent().ok_or_else(|| io::Error::other("no folder"))?;
        std::fs::rename(unfinished, &finished)?;
        let folder = File::open(folder)?;
        self.spool.checked(folder.sync_all())
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Spool").field(&self.root).finish()
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(self.spool.unfinished(self.id));
        }
    }
}

/// Whether it was made now.
fn make_directory(path: &Path) -> io::Result<bool> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_body_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("spool");
        let spool = Spool::open(&root).unwrap();
        let mut writer = spool.create().unwrap();
        writer.write_at(3, b"def").unwrap();
        writer.write_at(0, b"abc").unwrap();
        assert!(spool.read(writer.id()).is_err(), "not there before it is finished");
        let (id, size) = writer.finish().unwrap();
        let mut text = String::new();
        spool.read(id).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), size), ("abcdef", 6));

        drop(spool.create().unwrap());
        std::mem::forget(spool.create().unwrap());
        assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 1);
        let spool = Spool::open(&root).unwrap();
        assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);

        assert_eq!((spool.sweep(&HashSet::from([id])).unwrap(), spool.is_empty().unwrap()), (0, false));
        assert_eq!((spool.sweep(&HashSet::new()).unwrap(), spool.is_empty().unwrap()), (1, true));
        spool.remove(id).unwrap();
    }

    #[test]
    fn what_is_no_body_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("lost+found")).unwrap();
        let own = "0123456789abcdef0123456789abcdef";
        let foreign = [
            "lost+found/#12".to_owned(),
            "README".to_owned(),
            "01/notes".to_owned(),
            "01/0123".to_owned(),
            format!("01/{}", own.to_uppercase()),
            format!("02/{own}"),
        ];
        for name in &foreign {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(spool.is_empty().unwrap());
        std::fs::write(folder.path().join("01").join(own), "").unwrap();
        assert_eq!(spool.sweep(&HashSet::new()).unwrap(), 1);
        assert!(foreign.iter().all(|name| folder.path().join(name).exists()));
    }
}
