//! The schema and its migrations: each step runs once, in order, in a transaction of its own.
//!
//! | table | holds | order |
//! |---|---|---|
//! | `message` | what was stored, never changed but for whose it is | arrival |
//! | `fate` | what became of those that stay | arrival |
//! | `place` | where a message stands in its recipient's queue, see [`QUEUE`], [`EXPIRY`], [`DUE`] | recipient |
//! | `user` | numbers of users | number, and an index by name |
//! | `usage`, `removed`, `moved` | sums, see [`super::users`] | user; arrival; – |
//! | `wake`, `profile`, `registration`, `credential` | of a user | user |
//! | `deduplication_…` | see [`super::deduplication`] | |
//! | `setting` | numbers beside the tables | name |

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;

/// `place.list`: delivery order, by 255 - priority. All of a recipient's lists lie together, so that a message usually
/// costs one page of this table whatever number of lists it is in.
pub(super) const QUEUE: u8 = 0;
/// `place.list`: by time of expiry.
pub(super) const EXPIRY: u8 = 1;
/// `place.list`: by `not_before` or `fetch_deadline`, whichever comes first; only those that have one.
pub(super) const DUE: u8 = 2;

/// The partition a store is made with; its number is in the top eight bits of every message's.
const PARTITIONS: i64 = 1;

enum Step {
    Sql(&'static str),
    Code(fn(&Connection) -> rusqlite::Result<()>),
}

/// Steps; the number of those that ran is the database's `user_version`.
const MIGRATIONS: &[Step] = &[
    // 1: messages in order of arrival; users with what is stored for and of them.
    Step::Sql(
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
    ),
    // 2: what is looked for at start and every second is found without reading every user.
    Step::Sql(
        "CREATE INDEX user_wake ON user (wake_at) WHERE wake_at IS NOT NULL;
         CREATE INDEX user_registered ON user (registered_until) WHERE registered_until IS NOT NULL;",
    ),
    // 3: what changes often leaves the rows that do not, and the queue's three orders lie together.
    Step::Sql(
        "CREATE TABLE usage (
             user INTEGER PRIMARY KEY,
             messages INTEGER NOT NULL,
             size_bytes INTEGER NOT NULL,
             sent_messages INTEGER NOT NULL,
             sent_bytes INTEGER NOT NULL);
         INSERT INTO usage SELECT id, messages, size_bytes, sent_messages, sent_bytes FROM user;
         CREATE TABLE removed (
             seq INTEGER PRIMARY KEY,
             recipient INTEGER NOT NULL,
             sender INTEGER NOT NULL,
             size_bytes INTEGER NOT NULL);
         INSERT INTO setting SELECT 'folded_through', coalesce(max(seq), 0) FROM message;
         CREATE TABLE wake (user INTEGER PRIMARY KEY, at INTEGER NOT NULL);
         INSERT INTO wake SELECT id, wake_at FROM user WHERE wake_at IS NOT NULL;
         CREATE INDEX wake_order ON wake (at);
         CREATE TABLE profile (user INTEGER PRIMARY KEY, profile BLOB NOT NULL);
         INSERT INTO profile SELECT id, profile FROM user WHERE profile IS NOT NULL;
         CREATE TABLE registration (
             user INTEGER PRIMARY KEY,
             registered_until INTEGER NOT NULL,
             bindings BLOB NOT NULL);
         INSERT INTO registration SELECT id, registered_until, registration FROM user WHERE registration IS NOT NULL;
         CREATE TABLE named (
             id INTEGER PRIMARY KEY,
             tenant TEXT NOT NULL,
             address TEXT NOT NULL,
             UNIQUE (tenant, address));
         INSERT INTO named SELECT id, tenant, address FROM user;
         DROP TABLE user;
         ALTER TABLE named RENAME TO user;

         CREATE TABLE fate (
             seq INTEGER PRIMARY KEY,
             expires_at INTEGER NOT NULL,
             due_at INTEGER,
             state BLOB NOT NULL);
         INSERT INTO fate SELECT seq, expires_at, due_at, state FROM message WHERE state IS NOT NULL;
         CREATE TABLE place (
             recipient INTEGER NOT NULL,
             list INTEGER NOT NULL,
             key INTEGER NOT NULL,
             seq INTEGER NOT NULL,
             is_message INTEGER NOT NULL,
             PRIMARY KEY (recipient, list, key, seq)) WITHOUT ROWID;
         INSERT INTO place
             SELECT recipient, 0, 255 - priority, seq, kind = 0 FROM message
             UNION ALL SELECT recipient, 1, expires_at, seq, kind = 0 FROM message
             UNION ALL SELECT recipient, 2, due_at, seq, kind = 0 FROM message WHERE due_at IS NOT NULL
             ORDER BY 1, 2, 3, 4;
         DROP INDEX message_queue;
         ALTER TABLE message DROP COLUMN due_at;
         ALTER TABLE message DROP COLUMN state;
         CREATE INDEX message_body ON message (body_id) WHERE body_id IS NOT NULL;

         CREATE TABLE deduplication_log (id INTEGER PRIMARY KEY, hour INTEGER NOT NULL, keys BLOB NOT NULL);",
    ),
    // 4: deduplication keys in sorted runs instead of a row each.
    Step::Code(super::deduplication::convert_hour_tables),
    // 5: sums follow messages that changed queues.
    Step::Sql("CREATE TABLE moved (user INTEGER NOT NULL, messages INTEGER NOT NULL, size_bytes INTEGER NOT NULL);"),
    // 6: what users authenticate with.
    Step::Sql("CREATE TABLE credential (user INTEGER PRIMARY KEY, credentials BLOB NOT NULL);"),
    // 7: dispositions, which no sum has, are counted at start without reading every message.
    Step::Sql("CREATE INDEX message_disposition ON message (recipient, size_bytes) WHERE kind = 1;"),
];

/// Opens a connection for writing; the schema is as it was, or there is none yet.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    open_beside(path, CacheKibibytes(256 * 1024))
}

/// Whether no schema was ever made.
pub(super) fn is_new(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(version(connection)? == 0)
}

/// Brings the schema up to date.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let name = path.display().to_string();
    let found = version(connection)?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::Newer { path: name, found, known });
    }
    for (index, step) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction()?;
        match step {
            Step::Sql(text) => transaction.execute_batch(text)?,
            Step::Code(code) => code(&transaction)?,
        }
        transaction.pragma_update(None, "user_version", u32::try_from(index + 1).unwrap_or(u32::MAX))?;
        transaction.commit()?;
    }
    connection.execute("INSERT OR IGNORE INTO setting VALUES ('partitions', ?)", [PARTITIONS])?;
    match super::users::setting(connection, "partitions")? {
        PARTITIONS => Ok(()),
        found => Err(StoreError::Partitions { path: name, found }),
    }
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// What a connection keeps of the database in memory.
#[derive(Clone, Copy)]
pub(super) struct CacheKibibytes(pub(super) i64);

/// Opens one more connection.
pub(super) fn open_beside(path: &Path, cache: CacheKibibytes) -> Result<Connection, StoreError> {
    let error = |error| StoreError::Open(path.display().to_string(), error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(error)?;
    configure(&connection, cache).map_err(error)?;
    Ok(connection)
}

fn configure(connection: &Connection, cache: CacheKibibytes) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -cache.0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.busy_timeout(super::BUSY_TIMEOUT)?;
    // Every statement there is, and those that name an hour.
    connection.set_prepared_statement_cache_capacity(192);
    Ok(())
}
