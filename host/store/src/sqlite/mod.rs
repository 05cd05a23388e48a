//! The store in SQLite.
//!
//! Messages lie in order of arrival with one index by recipient; deduplication keys in a table per hour; sums per user
//! are folded into one row per user and batch. That keeps what is written near together however much is queued.
//!
//! There is one partition, number 0. Its number is in the top bits of every [`MessageId`], so that more can come
//! without changing ids; a directory made with several is refused until they exist.

mod deduplication;
mod reader;
mod schema;
mod users;
mod writer;

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use restante_deferral::commit::{CommitError, LoadRequest, Transaction};
use restante_deferral::model::{BodyId, MessageId, Profile, RecipientKey, StoredMessage, TenantName, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use self::deduplication::Deduplication;
use self::reader::ReadQueue;
use self::users::{Users, key_of};
use self::writer::{Order, WriteQueue, Writer, time};
use crate::codec;
use crate::spool::Spool;
use crate::{Filter, Record, SavedRegistration, Sink, Store, StoreError, Ticket, Totals};

pub use self::writer::WriteLimits;

/// Threads that read.
const READERS: usize = 2;
/// Loads that wait.
const MAX_WAITING_LOADS: usize = 65_536;

/// How a store is opened.
pub struct OpenOptions {
    /// Directory of the database and the bodies; made (0700) when missing.
    pub directory: PathBuf,
    /// Bounds of writing.
    pub limits: WriteLimits,
    /// Hours for which deduplication keys are kept.
    pub deduplication_hours: u64,
    /// The time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Told when the disk cannot be trusted any more. It must end the process: the store goes no further.
    pub fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

impl OpenOptions {
    /// With defaults: the system's clock; the process ends on a failed fsync.
    #[must_use]
    pub fn new(directory: &Path) -> OpenOptions {
        OpenOptions {
            directory: directory.to_owned(),
            limits: WriteLimits::default(),
            deduplication_hours: 24,
            clock: Arc::new(|| {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }),
            fatal: Arc::new(|text| {
                tracing::error!("{text}");
                eprintln!("restante: {text}");
                std::process::exit(74);
            }),
        }
    }
}

/// The store.
pub struct SqliteStore {
    queue: Arc<WriteQueue>,
    reads: Arc<ReadQueue>,
    users: Arc<Users>,
    spool: Spool,
    /// For what operators look at.
    side: Mutex<Connection>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held while the store is open.
    _lock: File,
}

impl SqliteStore {
    /// Opens or makes a store and starts its threads.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn open(options: OpenOptions, sink: Sink) -> Result<SqliteStore, StoreError> {
        let directory = &options.directory;
        let file_error = |error| StoreError::File(directory.display().to_string(), error);
        make_private_directory(directory).map_err(file_error)?;
        let lock = lock(directory)?;
        let path = directory.join("messages.sqlite");
        let connection = schema::open(&path)?;
        let now = (options.clock)();
        let spool = Spool::open(&directory.join("spool")).map_err(file_error)?;
        let removed = spool.sweep(&known_bodies(&connection)?).map_err(file_error)?;
        if removed > 0 {
            tracing::info!(removed, "bodies without a message were removed");
        }
        wake_the_reachable(&connection, now)?;
        let users = Arc::new(Users::open(&connection)?);
        let queue = Arc::new(WriteQueue::new(options.limits));
        let reads = Arc::new(ReadQueue::new(MAX_WAITING_LOADS));
        let restart_wanted = Arc::new(AtomicBool::new(false));
        let (checkpoint, checkpoints) = std::sync::mpsc::sync_channel(1);
        let mut threads = Vec::new();
        let writer = Writer {
            deduplication: Deduplication::open(&connection, options.deduplication_hours)?,
            next_seq: next_seq(&connection)?,
            reserved_until: 0,
            queue: queue.clone(),
            users: users.clone(),
            spool: spool.clone(),
            sink: sink.clone(),
            wal: directory.join("messages.sqlite-wal"),
            clock: options.clock,
            restart_wanted: restart_wanted.clone(),
            checkpoint,
            fatal: options.fatal,
            connection,
        };
        let beside = schema::open_beside(&path)?;
        threads
            .push(spawn("store-checkpoint", directory, move || checkpointer(&beside, &checkpoints, &restart_wanted))?);
        for _ in 0..READERS {
            let (connection, reads, users, sink) =
                (schema::open_beside(&path)?, reads.clone(), users.clone(), sink.clone());
            threads.push(spawn("store-reader", directory, move || reader::run(&connection, &reads, &users, &sink))?);
        }
        threads.push(spawn("store-writer", directory, move || writer.run())?);
        let side = Mutex::new(schema::open_beside(&path)?);
        Ok(SqliteStore { queue, reads, users, spool, side, threads: Mutex::new(threads), _lock: lock })
    }

    /// Where large bodies are.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    fn side(&self) -> MutexGuard<'_, Connection> {
        self.side.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SqliteStore {
    /// Writes what waits, then ends the threads.
    fn drop(&mut self) {
        let _ = self.queue.push(Ticket { shard: 0, token: 0 }, Order::Stop);
        self.reads.stop();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // The writer is last and owns the checkpointer's channel: joined in reverse, each finds its end.
        for thread in threads.into_iter().rev() {
            let _ = thread.join();
        }
    }
}

impl Store for SqliteStore {
    fn write(&self, ticket: Ticket, transaction: Transaction) -> Result<(), CommitError> {
        self.queue.push(ticket, Order::Transaction(transaction))
    }

    fn save(&self, ticket: Ticket, user: RecipientKey, record: Record) -> Result<(), CommitError> {
        self.queue.push(ticket, Order::Record(user, record))
    }

    fn load(&self, ticket: Ticket, recipient: RecipientKey, request: LoadRequest) -> Result<(), CommitError> {
        self.reads.push(ticket, recipient, request)
    }

    fn oldest_write_age(&self) -> Duration {
        self.queue.oldest_age()
    }

    fn totals(&self, user: &RecipientKey) -> (Totals, Totals) {
        let known = self.users.get(user);
        let known = known.or_else(|| self.users.read(&self.side(), user).ok().flatten()).unwrap_or_default();
        (known.received, known.sent)
    }

    fn tenant_totals(&self, tenant: &TenantName) -> Totals {
        self.users.tenant(tenant)
    }

    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecipientKey>, StoreError> {
        let side = self.side();
        let mut statement =
            side.prepare_cached("SELECT tenant, address FROM user WHERE wake_at <= ? ORDER BY wake_at LIMIT ?")?;
        let rows = statement.query_map(params![time(now), i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(key_of(row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn registrations(
        &self,
        now: Timestamp,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, RecipientKey, SavedRegistration)>, StoreError> {
        let side = self.side();
        let mut statement = side.prepare_cached(
            "SELECT id, tenant, address, registration, registered_until FROM user
             WHERE id > ? AND registered_until > ? ORDER BY id LIMIT ?",
        )?;
        let after = after.map_or(-1, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let rows = statement.query_map(params![after, time(now), i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            let id: i64 = row.get(0)?;
            let registration = SavedRegistration { bytes: row.get(3)?, expires_at: reader::timestamp(row.get(4)?) };
            Ok((id.unsigned_abs(), key_of(row.get(1)?, row.get(2)?), registration))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn profiles(&self) -> Result<Vec<(RecipientKey, Profile)>, StoreError> {
        let side = self.side();
        let mut statement =
            side.prepare_cached("SELECT tenant, address, profile FROM user WHERE profile IS NOT NULL")?;
        let rows = statement.query_map([], |row| Ok((key_of(row.get(0)?, row.get(1)?), row.get::<_, Vec<u8>>(2)?)))?;
        rows.map(|row| row.map_err(StoreError::from).and_then(|(key, bytes)| Ok((key, codec::read_profile(&bytes)?))))
            .collect()
    }

    fn profile(&self, user: &RecipientKey) -> Result<Profile, StoreError> {
        let side = self.side();
        let bytes: Option<Option<Vec<u8>>> = side
            .prepare_cached("SELECT profile FROM user WHERE tenant = ? AND address = ?")?
            .query_row(params![&*user.tenant.0, &*user.address.0], |row| row.get(0))
            .optional()?;
        bytes.flatten().as_deref().map_or(Ok(Profile::default()), codec::read_profile)
    }

    fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
        reader::list(&self.side(), filter, limit)
    }

    fn show(&self, id: MessageId) -> Result<Option<(StoredMessage, u64)>, StoreError> {
        reader::show(&self.side(), id)
    }
}

fn spawn(name: &str, directory: &Path, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map_err(|error| StoreError::File(directory.display().to_string(), error))
}

/// Copies the WAL back while others write; what is left the writer copies itself.
fn checkpointer(connection: &Connection, wanted: &std::sync::mpsc::Receiver<()>, restart: &AtomicBool) {
    while wanted.recv().is_ok() {
        match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(0)) {
            Ok(_) => restart.store(true, Ordering::Release),
            Err(error) => tracing::warn!(%error, "the WAL could not be copied back"),
        }
    }
}

fn make_private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let file_error = |error| StoreError::File(path.display().to_string(), error);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(file_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(directory.display().to_string())),
        Err(std::fs::TryLockError::Error(error)) => Err(file_error(error)),
    }
}

fn known_bodies(connection: &Connection) -> rusqlite::Result<HashSet<BodyId>> {
    let mut statement = connection.prepare("SELECT body_id FROM message WHERE body_id IS NOT NULL")?;
    let rows = statement.query_map([], |row| Ok(BodyId(u128::from_be_bytes(row.get(0)?))))?;
    rows.collect()
}

/// After a start nobody is being delivered to: whoever has messages and a registration is looked at.
fn wake_the_reachable(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE user SET wake_at = ?1 WHERE waiting > 0 AND (registered_until > ?1 OR wake_at IS NULL)",
        [time(now)],
    )?;
    Ok(())
}

fn next_seq(connection: &Connection) -> rusqlite::Result<i64> {
    let reserved: Option<i64> = connection
        .query_row("SELECT value FROM setting WHERE name = 'reserved_until'", [], |row| row.get(0))
        .optional()?;
    Ok(reserved.unwrap_or(0) + 1)
}
