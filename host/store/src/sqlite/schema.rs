//! The schema and its migrations: each step runs once, in order, in a transaction of its own.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;

/// Steps; the number of those that ran is the database's `user_version`.
const MIGRATIONS: &[&str] = &[
    // 1: messages in order of arrival; users with what is stored for and of them.
    "CREATE TABLE setting (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
     CREATE TABLE user (
         id INTEGER PRIMARY KEY,
         tenant TEXT NOT NULL,
         address TEXT NOT NULL,
         waiting INTEGER NOT NULL DEFAULT 0,
         messages INTEGER NOT NULL DEFAULT 0,
         size_bytes INTEGER NOT NULL DEFAULT 0,
         sent_messages INTEGER NOT NULL DEFAULT 0,
         sent_bytes INTEGER NOT NULL DEFAULT 0,
         wake_at INTEGER,
         profile BLOB,
         registration BLOB,
         registered_until INTEGER,
         UNIQUE (tenant, address));
     CREATE TABLE message (
         seq INTEGER PRIMARY KEY,
         recipient INTEGER NOT NULL,
         sender INTEGER NOT NULL,
         deduplication BLOB NOT NULL,
         kind INTEGER NOT NULL,
         priority INTEGER NOT NULL,
         received_at INTEGER NOT NULL,
         expires_at INTEGER NOT NULL,
         expiry_source INTEGER NOT NULL,
         due_at INTEGER,
         size_bytes INTEGER NOT NULL,
         envelope BLOB NOT NULL,
         state BLOB,
         body_id BLOB,
         body BLOB);
     CREATE INDEX message_queue ON message (recipient, priority DESC, seq, expires_at, due_at);",
    // 2: what is looked for at start and every second is found without reading every user.
    "CREATE INDEX user_wake ON user (wake_at) WHERE wake_at IS NOT NULL;
     CREATE INDEX user_registered ON user (registered_until) WHERE registered_until IS NOT NULL;",
];

/// Opens a connection for writing, brings the schema up to date.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path)?;
    configure(&connection, 256 * 1024)?;
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::Newer { path: path.display().to_string(), found, known });
    }
    for (index, step) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", u32::try_from(index + 1).unwrap_or(u32::MAX))?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// Opens a connection that only reads, or only copies the WAL.
pub(super) fn open_beside(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection, 16 * 1024)?;
    Ok(connection)
}

fn configure(connection: &Connection, cache_kib: i64) -> Result<(), StoreError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}
