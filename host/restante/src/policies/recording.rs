//! Writes a tenant's decisions down, within bounds.
//!
//! ```text
//! records/NAME/records.jsonl           being written
//! records/NAME/records.1.jsonl         full: half of what a tenant's records may take; the one before it is gone
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use restante_policy::record::{RecordSource, write_record};
use restante_policy::{Decision, Recorder, in_sample};
use restante_store::sqlite::Clock;

use super::library::Recording;

/// Files of a tenant's records, the oldest first.
pub const FILES: [&str; 2] = ["records.1.jsonl", "records.jsonl"];

/// See the module.
pub struct FileRecorder {
    source: RecordSource,
    settings: Recording,
    clock: Clock,
    turn: AtomicU64,
    skipped: AtomicU64,
    written: AtomicU64,
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
            directory,
            file: Mutex::default(),
        })
    }

    /// How many decisions were recorded, and how many left out, since it began.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.skipped.load(Ordering::Relaxed))
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
        file.write_all(line)?;
        *open = Some((file, length.saturating_add(line.len() as u64)));
        Ok(())
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
                tracing::warn!(directory = %self.directory.display(), %error, "a decision cannot be recorded");
                self.skip();
            }
        }
    }

    fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }
}

/// The records of a directory, the oldest first, each line whole.
///
/// # Errors
/// The operating system's.
pub fn read(directory: &Path) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for name in FILES {
        match fs::read(directory.join(name)) {
            Ok(bytes) => {
                // The last line may be being written.
                let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1));
                all.extend_from_slice(bytes.get(..whole).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn open_file(directory: &Path) -> io::Result<(File, u64)> {
    let path = directory.join(FILES[1]);
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}
