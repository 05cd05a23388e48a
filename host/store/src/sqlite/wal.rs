//! Keeps the WAL small.
//!
//! A second connection copies the WAL back (PASSIVE) while the writer writes; that never begins the WAL anew, because
//! there is always something in it that was not copied yet. So when little is left the writer itself, between two
//! commits, copies the rest and begins anew (RESTART). Where the disk is nearly full it does so early, and gives what the WAL
//! took back to the disk (TRUNCATE).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use rusqlite::Connection;

use super::BUSY_TIMEOUT;
use super::problem::is_lost_sync;
use super::write_queue::WriteLimits;
use crate::Fatal;

/// Passes of the second connection; each copies what was written during the one before.
const MAX_PASSES: u32 = 4;
/// Pages that may be left to the writer; also what it lets come together where room is short.
const LEFT_TO_WRITER: u64 = 2_000;
/// Bytes of a page.
const PAGE_BYTES: u64 = 4_096;
/// How long the writer waits for readers that look at the WAL as it was.
const PATIENCE: Duration = Duration::from_millis(20);
/// The same when the WAL has reached its bound.
const PATIENCE_AT_BOUND: Duration = Duration::from_secs(2);
/// After it waited in vain: pages until it tries again.
const RETRY_AFTER_PAGES: u64 = 2_000;

const IDLE: u8 = 0;
const COPYING: u8 = 1;
const COPIED: u8 = 2;

/// Between the two connections.
#[derive(Debug, Default)]
pub(super) struct WalState {
    /// Pages in the WAL after the last commit.
    pub(super) pages: AtomicU64,
    phase: AtomicU8,
}

/// The writer's part.
pub(super) struct WalKeeper {
    pub(super) state: Arc<WalState>,
    pub(super) wanted: SyncSender<()>,
    pub(super) fatal: Fatal,
    /// Pages at which it tries again after waiting in vain.
    pub(super) retry_at: u64,
}

impl WalState {
    /// Has the connection that writes say how long the WAL is.
    pub(super) fn watch(self: &Arc<Self>, connection: &mut Connection) -> rusqlite::Result<()> {
        let state = self.clone();
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            state.pages.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))
    }
}

impl WalKeeper {
    /// Bytes of what may have to be copied back.
    pub(super) fn bytes(&self) -> u64 {
        self.state.pages.load(Ordering::Relaxed).saturating_mul(PAGE_BYTES)
    }

    /// To be called between two commits.
    pub(super) fn keep_small(&mut self, connection: &Connection, limits: &WriteLimits, is_room_short: bool) {
        let pages = self.state.pages.load(Ordering::Relaxed);
        let at_bound = pages > limits.max_wal_pages;
        match self.state.phase.load(Ordering::Acquire) {
            IDLE | COPIED if is_room_short && pages > LEFT_TO_WRITER => self.restart(connection, pages, PATIENCE),
            IDLE if pages > limits.checkpoint_pages && pages >= self.retry_at && !at_bound => {
                self.state.phase.store(COPYING, Ordering::Release);
                if self.wanted.try_send(()).is_err() {
                    self.state.phase.store(IDLE, Ordering::Release);
                }
            }
            COPIED => self.restart(connection, pages, PATIENCE),
            _ if at_bound && pages >= self.retry_at => self.restart(connection, pages, PATIENCE_AT_BOUND),
            _ => {}
        }
    }

    /// Copies everything and has the next commit begin at the start of the WAL.
    fn restart(&mut self, connection: &Connection, pages: u64, patience: Duration) {
        self.begin_anew(connection, "RESTART", pages, patience);
    }

    /// The same, and what the WAL took is the disk's again. Whether it came to that.
    pub(super) fn empty(&mut self, connection: &Connection) -> bool {
        let pages = self.state.pages.load(Ordering::Relaxed);
        self.begin_anew(connection, "TRUNCATE", pages, PATIENCE_AT_BOUND)
    }

    fn begin_anew(&mut self, connection: &Connection, mode: &str, pages: u64, patience: Duration) -> bool {
        let result = connection.busy_timeout(patience).and_then(|()| checkpoint(connection, mode));
        let _ = connection.busy_timeout(BUSY_TIMEOUT);
        self.retry_at = pages.saturating_add(RETRY_AFTER_PAGES);
        let is_done = matches!(result, Ok(Checkpoint { is_busy: false, .. }));
        match result {
            Ok(Checkpoint { is_busy: false, .. }) => {
                self.retry_at = 0;
                self.state.pages.store(0, Ordering::Relaxed);
            }
            Ok(_) => tracing::debug!(pages, "somebody still reads the old WAL"),
            Err(error) => report(&error, &self.fatal),
        }
        let _ = self.state.phase.compare_exchange(COPIED, IDLE, Ordering::AcqRel, Ordering::Acquire);
        is_done
    }
}

/// The second connection's thread: runs until the writer is gone.
pub(super) fn run(connection: &Connection, wanted: &Receiver<()>, state: &WalState, fatal: &Fatal) {
    while wanted.recv().is_ok() {
        for _ in 0..MAX_PASSES {
            match checkpoint(connection, "PASSIVE") {
                Ok(result) if result.pages.saturating_sub(result.copied) < LEFT_TO_WRITER.cast_signed() => break,
                Ok(_) => {}
                Err(error) => {
                    report(&error, fatal);
                    break;
                }
            }
        }
        // Also after an error: the writer's own attempt decides when there is another one.
        state.phase.store(COPIED, Ordering::Release);
    }
}

/// Copies everything back before anybody else has the database, and gives what the WAL took to the disk.
pub(super) fn empty_at_start(connection: &Connection) -> rusqlite::Result<()> {
    checkpoint(connection, "TRUNCATE").map(|_| ())
}

struct Checkpoint {
    is_busy: bool,
    pages: i64,
    copied: i64,
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Checkpoint> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok(Checkpoint { is_busy: row.get::<_, i64>(0)? != 0, pages: row.get(1)?, copied: row.get(2)? })
    })
}

fn report(error: &rusqlite::Error, fatal: &Fatal) {
    if is_lost_sync(error) {
        fatal(&format!("the database could not be made durable: {error}"));
    } else {
        tracing::warn!(%error, "the write-ahead log could not be checkpointed");
    }
}
