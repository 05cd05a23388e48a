//! The bound of the database's size.
//!
//! | state | on | does | goes to |
//! |---|---|---|---|
//! | open | a batch does not fit | what settles deliveries and keeps users reachable may go a little beyond the bound | reached |
//! | reached | some of what it had then is gone | the bound is as before | open |
//!
//! While it is reached no message is stored. That has nothing to do with the disk: no room is lent, and the WAL is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

/// Pages beyond the bound for orders that empty the store.
const LAST_ROOM_PAGES: u32 = 4_096;
/// What has to be gone before messages are taken again, as a part of the bound, and in pages at most.
const STEP_PART: u32 = 256;
const MAX_STEP_PAGES: u32 = 256;
/// More cannot be said to SQLite.
const MAX_PAGES: u32 = u32::MAX - 1;

/// The bound, and whether it is reached.
pub(super) struct SizeBound {
    max_pages: u32,
    page_bytes: u64,
    /// Pages in use when it was reached.
    reached_with: Option<u32>,
    is_reached: Arc<AtomicBool>,
}

impl SizeBound {
    /// Sets it for this connection.
    pub(super) fn open(connection: &Connection, max_bytes: u64) -> rusqlite::Result<SizeBound> {
        let page_bytes = u64::from(pragma(connection, "page_size")?).max(1);
        let max_pages = u32::try_from(max_bytes / page_bytes).unwrap_or(MAX_PAGES).min(MAX_PAGES);
        set_max_pages(connection, max_pages)?;
        Ok(SizeBound { max_pages, page_bytes, reached_with: None, is_reached: Arc::default() })
    }

    /// For those who want to know whether messages are taken.
    pub(super) fn reached_flag(&self) -> Arc<AtomicBool> {
        self.is_reached.clone()
    }

    /// Whether it is reached still.
    pub(super) fn is_reached(&mut self, connection: &Connection) -> bool {
        let Some(before) = self.reached_with else { return false };
        let step = (self.max_pages / STEP_PART).clamp(1, MAX_STEP_PAGES);
        match used_pages(connection) {
            Ok(used) if used <= before.saturating_sub(step) => {
                self.reached_with = None;
                self.set(connection, self.max_pages);
                self.is_reached.store(false, Ordering::Relaxed);
                tracing::info!("the database is below max_database_bytes again: messages are accepted");
                false
            }
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "the size of the database cannot be read");
                true
            }
        }
    }

    /// Whether this bound is why a batch, which adds so many bytes at most, did not fit. It is reached then.
    pub(super) fn explains_full(&mut self, connection: &Connection, batch_bytes: u64) -> bool {
        if self.reached_with.is_some() {
            return false;
        }
        let batch_pages = u32::try_from(batch_bytes / self.page_bytes).unwrap_or(u32::MAX);
        let Ok(used) = used_pages(connection) else { return false };
        if used.saturating_add(batch_pages) < self.max_pages {
            return false;
        }
        self.reached_with = Some(used);
        self.set(connection, self.max_pages.saturating_add(LAST_ROOM_PAGES).min(MAX_PAGES));
        self.is_reached.store(true, Ordering::Relaxed);
        tracing::error!(
            "the database has reached max_database_bytes: messages are refused until some are delivered, \
             discarded or expired; to allow more, raise the limit and restart"
        );
        true
    }

    fn set(&self, connection: &Connection, max_pages: u32) {
        if let Err(error) = set_max_pages(connection, max_pages) {
            tracing::warn!(%error, "the size limit of the database cannot be set");
        }
    }
}

/// Bytes of the database's pages that hold nothing.
pub(super) fn free_bytes_within(connection: &Connection) -> u64 {
    let free = |connection| {
        Ok::<_, rusqlite::Error>((pragma(connection, "freelist_count")?, pragma(connection, "page_size")?))
    };
    free(connection).map_or(0, |(pages, page_bytes)| u64::from(pages).saturating_mul(u64::from(page_bytes)))
}

fn used_pages(connection: &Connection) -> rusqlite::Result<u32> {
    Ok(pragma(connection, "page_count")?.saturating_sub(pragma(connection, "freelist_count")?))
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<u32> {
    connection.prepare_cached(&format!("PRAGMA {name}"))?.query_row([], |row| row.get(0))
}

fn set_max_pages(connection: &Connection, pages: u32) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}
