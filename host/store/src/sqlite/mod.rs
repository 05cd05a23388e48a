//! The store in SQLite.
//!
//! Messages lie in order of arrival and are not changed; what is keyed otherwise is narrow, or written seldom and for
//! many at once: see the tables in `schema`, the keys in `deduplication`, the sums in `users`. That keeps what is
//! written near together however much is queued.
//!
//! There is one partition, number 0. Its number is in the top bits of every [`MessageId`] and how many there are is
//! kept in the store, so that more can come without changing ids; a directory made with several is refused until they
//! exist.

mod adoption;
mod bound;
mod changes;
mod deduplication;
mod filter;
mod opening;
mod operator;
mod problem;
mod reader;
mod reserve;
mod schema;
mod users;
mod wal;
mod write_queue;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use restante_deferral::commit::{CommitError, LoadRequest, Transaction};
use restante_deferral::model::{MessageId, Profile, RecipientKey, StoredMessage, TenantName, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use self::bound::SizeBound;
use self::changes::Tables;
use self::deduplication::Deduplication;
use self::opening::Opened;
use self::reader::ReadQueue;
use self::reserve::Reserve;
use self::schema::CacheKibibytes;
use self::users::{Users, key_of};
use self::wal::{WalKeeper, WalState};
use self::write_queue::{Order, WriteQueue};
use self::writer::{BodyRemover, LeftOut, Writer};
use crate::codec;
use crate::spool::Spool;
use crate::{Fatal, Filter, Record, SavedRegistration, Sink, Store, StoreError, Ticket, Totals, UserCredentials};

pub use self::reserve::FreeBytes;
pub use self::write_queue::WriteLimits;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How long a connection waits for another one's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// What each connection that reads keeps in memory.
const READER_CACHE: CacheKibibytes = CacheKibibytes(16 * 1024);
/// What connections keep that look at few pages.
const SMALL_CACHE: CacheKibibytes = CacheKibibytes(2 * 1024);
/// Of the connection that single pages are read with, most of them once.
const LOOKUP_CACHE: CacheKibibytes = CacheKibibytes(256);
/// Bodies that wait to be removed; beyond, the writer removes them itself.
const MAX_BODIES_TO_REMOVE: usize = 65_536;

/// How a store is opened.
pub struct OpenOptions {
    /// Directory of the database and the bodies; made (0700) when missing.
    pub directory: PathBuf,
    /// Bounds of writing.
    pub limits: WriteLimits,
    /// Hours for which deduplication keys are kept; the last one begun is kept whole.
    pub deduplication_hours: u64,
    /// Users whose numbers and sums are kept in memory.
    pub max_known_users: usize,
    /// Threads that read.
    pub readers: usize,
    /// Loads that wait.
    pub max_waiting_loads: usize,
    /// The time.
    pub clock: Clock,
    /// What the disk has left.
    pub free_bytes: FreeBytes,
    /// Told when an fsync failed. It must end the process: the store says nothing about what it was writing and takes
    /// nothing more.
    pub fatal: Fatal,
}

impl OpenOptions {
    /// With defaults for the bounds.
    #[must_use]
    pub fn new(directory: &Path, clock: Clock, fatal: Fatal) -> OpenOptions {
        OpenOptions {
            directory: directory.to_owned(),
            limits: WriteLimits::default(),
            deduplication_hours: 24,
            max_known_users: 250_000,
            readers: 2,
            max_waiting_loads: 65_536,
            clock,
            free_bytes: Arc::new(reserve::free_bytes),
            fatal,
        }
    }
}

/// The store.
pub struct SqliteStore {
    queue: Arc<WriteQueue>,
    reads: Arc<ReadQueue>,
    users: Arc<Users>,
    spool: Spool,
    /// For short questions of the shards: sums of users who were not met yet, whether anything waits for somebody.
    sums: Mutex<Connection>,
    /// For what operators look at, and whatever else is asked seldom.
    side: Mutex<Connection>,
    /// For alarms, which wait for no operator.
    alarms: Mutex<Alarms>,
    /// No message is taken for want of room: on the disk, within the bound.
    is_full: [Arc<AtomicBool>; 2],
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held while the store is open.
    _lock: File,
}

struct Alarms {
    connection: Connection,
    /// Where [`Store::due`] goes on.
    after: Option<(i64, i64)>,
}

impl SqliteStore {
    /// Opens or makes a store and starts its threads. Whoever has messages and is registered is due at once.
    /// Registrations that ended while nobody watched are forgotten.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn open(options: OpenOptions, sink: Sink) -> Result<SqliteStore, StoreError> {
        let (directory, fatal) = (options.directory.clone(), options.fatal.clone());
        let file_error = |error| StoreError::File(directory.display().to_string(), error);
        opening::make_private_directory(&directory).map_err(file_error)?;
        let lock = opening::lock(&directory)?;
        // On a full disk this is what there is for opening.
        Reserve::lend_to_start(&directory);
        let path = directory.join("messages.sqlite");
        let now = (options.clock)();
        let Opened { mut connection, spool, users } = opening::open(&options, &path, now)?;
        let OpenOptions { limits, clock, .. } = options;
        let bound = SizeBound::open(&connection, limits.max_database_bytes)?;
        let users = Arc::new(users);
        let deduplication = Deduplication::open(&connection, options.deduplication_hours, now)?
            .read_runs_with(schema::open_beside(&path, LOOKUP_CACHE)?);
        let tables = Tables::open(&connection, deduplication, spool.clone(), options.max_known_users)?;
        let queue = Arc::new(WriteQueue::new(limits));
        let reads = Arc::new(ReadQueue::new(options.max_waiting_loads));
        let state = Arc::new(WalState::default());
        state.watch(&mut connection)?;
        let (wanted, checkpoints) = sync_channel(1);
        let (to_remove, removals) = sync_channel(MAX_BODIES_TO_REMOVE);
        let mut threads = Vec::new();
        {
            let (beside, state, fatal) = (schema::open_beside(&path, SMALL_CACHE)?, state.clone(), fatal.clone());
            let run = move || wal::run(&beside, &checkpoints, &state, &fatal);
            threads.push(spawn("store-checkpoint", &directory, &options.fatal, run)?);
        }
        let remover = BodyRemover { spool: spool.clone(), queue: to_remove };
        let removed_from = spool.clone();
        let run = move || removals.iter().for_each(|id| writer::remove_body(&removed_from, id));
        threads.push(spawn("store-remover", &directory, &options.fatal, run)?);
        for _ in 0..options.readers.max(1) {
            let connection = schema::open_beside(&path, READER_CACHE)?;
            let (reads, queue, users, sink) = (reads.clone(), queue.clone(), users.clone(), sink.clone());
            threads.push(spawn("store-reader", &directory, &options.fatal, move || {
                reader::run(&connection, &reads, &queue, &users, &sink)
            })?);
        }
        let sums = Mutex::new(schema::open_beside(&path, SMALL_CACHE)?);
        let side = Mutex::new(schema::open_beside(&path, READER_CACHE)?);
        let alarms = Mutex::new(Alarms { connection: schema::open_beside(&path, SMALL_CACHE)?, after: None });
        let (queued, known) = (queue.clone(), users.clone());
        let wal = WalKeeper { state, wanted, fatal: fatal.clone(), retry_at: 0 };
        let reserve = Reserve::open(&directory, options.free_bytes);
        let is_full = [reserve.lent_flag(), bound.reached_flag()];
        let writer = Writer {
            connection,
            queue: queued,
            users: known,
            tables,
            sink,
            clock,
            wal,
            remover,
            reserve,
            bound,
            left_out: LeftOut::default(),
            fatal,
        };
        threads.push(spawn("store-writer", &directory, &options.fatal, move || writer.run())?);
        let (threads, spool) = (Mutex::new(threads), spool.unless_full(&is_full));
        Ok(SqliteStore { queue, reads, users, spool, sums, side, alarms, is_full, threads, _lock: lock })
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
        // The writer is last and owns the others' channels: joined in reverse, each finds its end.
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

    fn is_full(&self) -> bool {
        self.is_full.iter().any(|is_full| is_full.load(Ordering::Relaxed))
    }

    fn totals(&self, user: &RecipientKey) -> (Totals, Totals) {
        if let Some(sums) = self.users.known(user) {
            return sums;
        }
        let connection = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        self.users.sums(&connection, user).unwrap_or_else(|error| {
            tracing::error!(%error, "a user's sums cannot be read");
            Default::default()
        })
    }

    fn tenant_totals(&self, tenant: &TenantName) -> Totals {
        self.users.tenant(tenant)
    }

    fn tenant_dispositions(&self, tenant: &TenantName) -> Totals {
        self.users.dispositions(tenant)
    }

    fn all_totals(&self) -> (Totals, Totals) {
        self.users.all()
    }

    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecipientKey>, StoreError> {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        let Alarms { connection, after } = &mut *alarms;
        let mut statement = connection.prepare_cached(
            "SELECT at, user, tenant, address FROM wake JOIN user ON user.id = wake.user
             WHERE at <= ? AND (at, user) > (?, ?) ORDER BY at, user LIMIT ?",
        )?;
        let (at, user) = after.unwrap_or((-1, -1));
        let mut rows = statement.query(params![time(now), at, user, i64::try_from(limit).unwrap_or(i64::MAX)])?;
        let (mut due, mut last) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            last = Some((row.get(0)?, row.get(1)?));
            due.push(key_of(row.get(2)?, row.get(3)?));
        }
        *after = last.filter(|_| due.len() >= limit);
        Ok(due)
    }

    fn recipients(&self, after: Option<u64>, limit: usize) -> Result<Vec<(u64, RecipientKey)>, StoreError> {
        let side = self.side();
        // As in `wake_the_reachable`.
        let mut statement = side.prepare_cached(
            "WITH RECURSIVE waiting (recipient) AS (
                 SELECT min(recipient) FROM place WHERE recipient > ?1
                 UNION ALL
                 SELECT (SELECT min(place.recipient) FROM place WHERE place.recipient > waiting.recipient)
                 FROM waiting WHERE waiting.recipient IS NOT NULL LIMIT ?2)
             SELECT id, tenant, address FROM waiting JOIN user ON user.id = recipient ORDER BY id",
        )?;
        let after = after.map_or(-1, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let rows = statement.query_map(params![after, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), key_of(row.get(1)?, row.get(2)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn has_messages(&self, user: &RecipientKey) -> bool {
        // Not that of the operators' questions, which can be long: shards ask this.
        let connection = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let found = users::find(&connection, user).and_then(|id| match id {
            Some(id) => connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM place WHERE recipient = ?)")?
                .query_row([id], |row| row.get(0)),
            None => Ok(false),
        });
        found.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot tell whether anything waits for a user");
            true
        })
    }

    fn registrations(
        &self,
        now: Timestamp,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, RecipientKey, SavedRegistration)>, StoreError> {
        let side = self.side();
        let mut statement = side.prepare_cached(
            "SELECT id, tenant, address, bindings, registered_until FROM registration JOIN user ON user.id = user
             WHERE registration.user > ? AND registered_until > ? ORDER BY registration.user LIMIT ?",
        )?;
        let after = after.map_or(-1, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let rows = statement.query_map(params![after, time(now), i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            let id: i64 = row.get(0)?;
            let registration = SavedRegistration { bytes: row.get(3)?, expires_at: timestamp(row.get(4)?) };
            Ok((id.unsigned_abs(), key_of(row.get(1)?, row.get(2)?), registration))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn registration(&self, user: &RecipientKey) -> Result<Option<SavedRegistration>, StoreError> {
        let side = self.side();
        let Some(user) = users::find(&side, user)? else { return Ok(None) };
        let found = side
            .prepare_cached("SELECT bindings, registered_until FROM registration WHERE user = ?")?
            .query_row([user], |row| Ok(SavedRegistration { bytes: row.get(0)?, expires_at: timestamp(row.get(1)?) }))
            .optional()?;
        Ok(found)
    }

    fn profiles(&self) -> Result<Vec<(RecipientKey, Profile)>, StoreError> {
        let side = self.side();
        let mut statement =
            side.prepare_cached("SELECT tenant, address, profile FROM profile JOIN user ON user.id = user")?;
        let rows = statement.query_map([], |row| Ok((key_of(row.get(0)?, row.get(1)?), row.get::<_, Vec<u8>>(2)?)))?;
        rows.map(|row| row.map_err(StoreError::from).and_then(|(key, bytes)| Ok((key, codec::read_profile(&bytes)?))))
            .collect()
    }

    fn credentials(&self) -> Result<Vec<(RecipientKey, UserCredentials)>, StoreError> {
        let side = self.side();
        let mut statement =
            side.prepare_cached("SELECT tenant, address, credentials FROM credential JOIN user ON user.id = user")?;
        let rows = statement.query_map([], |row| Ok((key_of(row.get(0)?, row.get(1)?), row.get::<_, Vec<u8>>(2)?)))?;
        let read = |(key, bytes): (RecipientKey, Vec<u8>)| Ok((key, codec::read_credentials(&bytes)?));
        rows.map(|row| row.map_err(StoreError::from).and_then(read)).collect()
    }

    fn profile(&self, user: &RecipientKey) -> Result<Profile, StoreError> {
        let side = self.side();
        users::find(&side, user)?.map_or(Ok(Profile::default()), |user| reader::profile(&side, user))
    }

    fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
        let waiting = |tenant| {
            let (messages, dispositions) = (self.users.tenant(tenant), self.users.dispositions(tenant));
            messages.messages.saturating_add(dispositions.messages)
        };
        let is_small = filter.tenant.as_ref().is_some_and(|tenant| waiting(tenant) <= operator::FEW);
        operator::list(|| self.side(), filter, is_small, limit)
    }

    fn show(&self, id: MessageId) -> Result<Option<(StoredMessage, u64)>, StoreError> {
        operator::show(&self.side(), id)
    }

    fn recipient_of(&self, id: MessageId) -> Result<Option<RecipientKey>, StoreError> {
        operator::recipient_of(&self.side(), id)
    }
}

/// Starts a thread without which the store cannot go on.
fn spawn(
    name: &'static str,
    directory: &Path,
    fatal: &Fatal,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    let needed = Needed { name, fatal: fatal.clone() };
    let run = move || {
        let _needed = needed;
        run();
    };
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map_err(|error| StoreError::File(directory.display().to_string(), error))
}

/// Nobody waits for a thread that failed.
struct Needed {
    name: &'static str,
    fatal: Fatal,
}

impl Drop for Needed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.fatal)(&format!("the thread {} failed", self.name));
        }
    }
}

/// Partition 0: the top eight bits are clear.
fn message_id(seq: i64) -> MessageId {
    MessageId(seq.unsigned_abs())
}

fn seq_of(id: MessageId) -> i64 {
    i64::try_from(id.0).unwrap_or(i64::MAX)
}

/// Times beyond what a column holds are "never".
fn time(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

fn timestamp(value: i64) -> Timestamp {
    if value == i64::MAX { Timestamp::NEVER } else { Timestamp(value.max(0).unsigned_abs()) }
}
