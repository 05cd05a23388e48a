//! Writes a tenant's decisions down, within bounds.
//!
//! ```text
//! records/NAME/records.jsonl           being written
//! records/NAME/records.1.jsonl         full: half of what a tenant's records may take; the one before it is gone
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Take, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use restante_deferral::model::Timestamp;
use restante_policy::record::{RecordSource, write_record};
use restante_policy::{Decision, Recorder, in_sample};
use restante_store::sqlite::Clock;

use super::library::Recording;

/// Files of a tenant's records, the oldest first.
pub const FILES: [&str; 2] = ["records.1.jsonl", "records.jsonl"];

/// What is looked at at once for the end of a line.
const BLOCK_BYTES: usize = 64 << 10;
/// Between two lines of the log that say that nothing can be recorded.
const WARNING_MILLISECONDS: u64 = 60_000;

/// See the module.
pub struct FileRecorder {
    source: RecordSource,
    settings: Recording,
    clock: Clock,
    turn: AtomicU64,
    skipped: AtomicU64,
    written: AtomicU64,
    /// When that it cannot be was said last; [`u64::MAX`]: never.
    warned_at: AtomicU64,
    directory: PathBuf,
    file: Mutex<Option<(File, u64)>>,
}

impl FileRecorder {
    /// Records into this directory; what is there is gone on with.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(
        source: RecordSource,
        settings: Recording,
        directory: PathBuf,
        clock: Clock,
    ) -> io::Result<FileRecorder> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(FileRecorder {
            source,
            settings,
            clock,
            turn: AtomicU64::default(),
            skipped: AtomicU64::default(),
            written: AtomicU64::default(),
            warned_at: AtomicU64::new(u64::MAX),
            directory,
            file: Mutex::default(),
        })
    }

    /// How many decisions were recorded, and how many left out, since it began.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.skipped.load(Ordering::Relaxed))
    }

    /// Removes what was recorded; goes on in a new file.
    ///
    /// # Errors
    /// The operating system's.
    pub fn delete(&self) -> io::Result<()> {
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        *open = None;
        delete(&self.directory)
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut file, mut length) = match open.take() {
            Some(open) => open,
            None => open_file(&self.directory)?,
        };
        let length_then = length.saturating_add(line.len() as u64);
        if length > 0 && length_then > self.settings.max_bytes / 2 {
            let [full, current] = FILES.map(|name| self.directory.join(name));
            fs::rename(current, full)?;
            (file, length) = open_file(&self.directory)?;
        }
        if let Err(error) = file.write_all(line) {
            // What came of the line would make one with the next. Where it cannot be cut, the next opening does.
            if file.set_len(length).is_ok() {
                *open = Some((file, length));
            }
            return Err(error);
        }
        *open = Some((file, length.saturating_add(line.len() as u64)));
        Ok(())
    }

    /// One line for all of them that come within a while: a full disk fails every decision.
    fn warn(&self, error: &io::Error) {
        let Timestamp(now) = (self.clock)();
        let is_due = |at: u64| at.checked_add(WARNING_MILLISECONDS).is_none_or(|next| now >= next).then_some(now);
        if self.warned_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_due).is_ok() {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "decisions cannot be recorded; they are left out and counted");
        }
    }
}

impl Recorder for FileRecorder {
    fn samples(&self) -> bool {
        in_sample(&self.turn, self.settings.sample_permille)
    }

    fn record(&self, decision: &Decision<'_>) {
        let record = self.source.record(decision.question, decision.outcome, (self.clock)(), decision.micros);
        let mut line = Vec::new();
        match write_record(&mut line, &record).and_then(|()| self.write(&line)) {
            Ok(()) => _ = self.written.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                self.warn(&error);
                self.skip();
            }
        }
    }

    fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }
}

/// The records of a directory, the oldest first, each line whole: what was there when this was opened.
pub struct Records(Vec<Take<File>>);

impl Records {
    /// Opens what is there; nothing is read but the ends.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(directory: &Path) -> io::Result<Records> {
        let mut known = Vec::new();
        let mut files = Vec::new();
        // The one that is being written first: when it is full meanwhile, it is found again under the name of the other.
        for name in FILES.iter().rev() {
            let mut file = match File::open(directory.join(name)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let metadata = file.metadata()?;
            if known.contains(&metadata.ino()) {
                continue;
            }
            known.push(metadata.ino());
            // The last line may be being written.
            let whole = end_of_lines(&mut file)?;
            file.rewind()?;
            files.push(file.take(whole));
        }
        // The last is read first.
        Ok(Records(files))
    }
}

impl Read for Records {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(file) = self.0.last_mut() {
            let read = file.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.0.pop();
        }
        Ok(0)
    }
}

/// Removes the records of a directory.
///
/// # Errors
/// The operating system's.
pub fn delete(directory: &Path) -> io::Result<()> {
    for name in FILES {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Opens the file that is being written, without what an earlier process began of a line and did not end.
fn open_file(directory: &Path) -> io::Result<(File, u64)> {
    let path = directory.join(FILES[1]);
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let length = end_of_lines(&mut file)?;
    if file.metadata()?.len() > length {
        file.set_len(length)?;
    }
    Ok((file, length))
}

/// Where the last whole line of a file ends.
fn end_of_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; BLOCK_BYTES];
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES as u64);
        file.seek(SeekFrom::Start(start))?;
        let block = block.get_mut(..usize::try_from(end.saturating_sub(start)).unwrap_or(0)).unwrap_or_default();
        file.read_exact(block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start.saturating_add(at as u64).saturating_add(1));
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_of(directory: &Path) -> String {
        let mut text = String::new();
        Records::open(directory).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_line_that_was_not_ended_is_left_out_and_does_not_become_part_of_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let [full, current] = FILES.map(|name| directory.path().join(name));
        assert_eq!(all_of(directory.path()), "");
        fs::write(&full, "one\n").unwrap();
        let long = "x".repeat(3 * BLOCK_BYTES);
        fs::write(&current, format!("two\n{long}")).unwrap();
        assert_eq!(all_of(directory.path()), "one\ntwo\n");
        let (mut file, length) = open_file(directory.path()).unwrap();
        assert_eq!(length, 4);
        file.write_all(b"three\n").unwrap();
        assert_eq!(all_of(directory.path()), "one\ntwo\nthree\n");
        fs::write(&current, long).unwrap();
        assert_eq!((all_of(directory.path()).as_str(), open_file(directory.path()).unwrap().1), ("one\n", 0));
        delete(directory.path()).unwrap();
        assert_eq!(all_of(directory.path()), "");
    }
}
