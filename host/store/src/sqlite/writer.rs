//! The writer: one thread that takes whatever waits into one transaction, commits it, and tells everybody at once.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use restante_deferral::commit::{Applied, Change, CommitError, MessageState, Transaction};
use restante_deferral::model::{Body, BodyId, MessageId, MessageKind, NewMessage, RecipientKey, Timestamp};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::deduplication::Deduplication;
use super::users::{Delta, Users};
use crate::codec;
use crate::spool::Spool;
use crate::{Completion, Outcome, Record, Sink, Ticket};

/// Numbers reserved at once, so that none is ever used again although the highest rows were removed.
const RESERVED_NUMBERS: i64 = 1_000_000;

/// Bounds of the queue in front of the writer.
#[derive(Clone, Copy, Debug)]
pub struct WriteLimits {
    /// Orders that wait.
    pub max_waiting: usize,
    /// Bytes of their bodies.
    pub max_waiting_bytes: usize,
    /// Orders beyond `max_waiting` that settle deliveries, so that a full queue cannot stop what would empty it.
    pub reserved_for_settling: usize,
    /// Orders in one commit.
    pub max_batch: usize,
    /// Pages (4 KiB) in the WAL at which it is copied back.
    pub checkpoint_pages: u64,
}

impl Default for WriteLimits {
    fn default() -> Self {
        WriteLimits {
            max_waiting: 16_384,
            max_waiting_bytes: 128 * 1024 * 1024,
            reserved_for_settling: 4_096,
            max_batch: 2_048,
            checkpoint_pages: 40_000,
        }
    }
}

/// What is written.
pub(super) enum Order {
    Transaction(Transaction),
    Record(RecipientKey, Record),
    /// The thread ends when everything before this is done.
    Stop,
}

struct Waiting {
    ticket: Ticket,
    order: Order,
    since: Instant,
    bytes: usize,
}

/// Between those who order and the writer.
pub(super) struct WriteQueue {
    limits: WriteLimits,
    inner: Mutex<(VecDeque<Waiting>, usize)>,
    ready: Condvar,
}

impl WriteQueue {
    pub(super) fn new(limits: WriteLimits) -> WriteQueue {
        WriteQueue { limits, inner: Mutex::default(), ready: Condvar::new() }
    }

    pub(super) fn push(&self, ticket: Ticket, order: Order) -> Result<(), CommitError> {
        let settles = match &order {
            Order::Transaction(transaction) => transaction.settles,
            Order::Record(..) | Order::Stop => true,
        };
        let bytes = size_of_order(&order);
        let mut inner = self.lock();
        let (queue, total) = &mut *inner;
        let room = self.limits.max_waiting + if settles { self.limits.reserved_for_settling } else { 0 };
        if !matches!(order, Order::Stop)
            && (queue.len() >= room || (!settles && *total + bytes > self.limits.max_waiting_bytes))
        {
            return Err(CommitError::Overloaded);
        }
        *total += bytes;
        queue.push_back(Waiting { ticket, order, since: Instant::now(), bytes });
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    pub(super) fn oldest_age(&self) -> Duration {
        self.lock().0.front().map_or(Duration::ZERO, |waiting| waiting.since.elapsed())
    }

    fn take(&self) -> Vec<Waiting> {
        let mut inner = self.lock();
        while inner.0.is_empty() {
            inner = self.ready.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let (queue, total) = &mut *inner;
        let batch: Vec<Waiting> = queue.drain(..queue.len().min(self.limits.max_batch)).collect();
        *total = total.saturating_sub(batch.iter().map(|waiting| waiting.bytes).sum());
        batch
    }

    fn lock(&self) -> MutexGuard<'_, (VecDeque<Waiting>, usize)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of_order(order: &Order) -> usize {
    let Order::Transaction(transaction) = order else { return 256 };
    let size = |change: &Change| match change {
        Change::Insert(message) => match &message.body {
            Body::Inline(bytes) => bytes.len() + 512,
            Body::Spooled { .. } => 512,
        },
        _ => 128,
    };
    transaction.changes.iter().map(size).sum()
}

/// The thread's own state.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) queue: Arc<WriteQueue>,
    pub(super) users: Arc<Users>,
    pub(super) deduplication: Deduplication,
    pub(super) spool: Spool,
    pub(super) sink: Sink,
    pub(super) wal: PathBuf,
    pub(super) clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub(super) next_seq: i64,
    pub(super) reserved_until: i64,
    /// Set by the checkpointer when it copied what it could.
    pub(super) restart_wanted: Arc<AtomicBool>,
    pub(super) checkpoint: std::sync::mpsc::SyncSender<()>,
    pub(super) fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

/// What a batch changes outside of the database, done after the commit.
#[derive(Default)]
struct After {
    deltas: HashMap<i64, (RecipientKey, Delta)>,
    bodies_to_remove: Vec<BodyId>,
}

impl Writer {
    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        loop {
            let mut batch = self.queue.take();
            let stop = batch.iter().position(|waiting| matches!(waiting.order, Order::Stop));
            if let Some(stop) = stop {
                batch.truncate(stop);
            }
            if !batch.is_empty() {
                self.commit(batch);
                self.keep_wal_small();
            }
            if stop.is_some() {
                return;
            }
        }
    }

    fn commit(&mut self, batch: Vec<Waiting>) {
        let now = (self.clock)();
        let mut after = After::default();
        let result = self.try_commit(&batch, now, &mut after);
        let completions = match result {
            Ok(outcomes) => {
                self.users.publish(std::mem::take(&mut after.deltas));
                for id in after.bodies_to_remove {
                    if let Err(error) = self.spool.remove(id) {
                        tracing::warn!(%error, "a body file could not be removed; it goes at the next start");
                    }
                }
                batch.iter().map(|waiting| waiting.ticket).zip(outcomes).collect()
            }
            Err(error) => self.roll_back(&batch, &error),
        };
        self.tell(completions);
    }

    fn try_commit(&mut self, batch: &[Waiting], now: Timestamp, after: &mut After) -> rusqlite::Result<Vec<Outcome>> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        self.reserve_numbers(batch.len())?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for waiting in batch {
            outcomes.push(match &waiting.order {
                Order::Transaction(transaction) => Outcome::Written(self.apply(transaction, now, after)?),
                Order::Record(user, record) => {
                    self.save(user, record)?;
                    Outcome::Saved(Ok(()))
                }
                Order::Stop => continue,
            });
        }
        Users::write(&self.connection, &after.deltas)?;
        self.deduplication.expire(&self.connection, now)?;
        self.connection.execute_batch("COMMIT")?;
        Ok(outcomes)
    }

    /// Numbers that were handed out are never used again, whatever rows remain.
    fn reserve_numbers(&mut self, orders: usize) -> rusqlite::Result<()> {
        // An order inserts few messages: itself, reports.
        let wanted = i64::try_from(orders.saturating_mul(64)).unwrap_or(i64::MAX);
        if self.next_seq.saturating_add(wanted) > self.reserved_until {
            let until = self.next_seq.saturating_add(wanted).saturating_add(RESERVED_NUMBERS);
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO setting VALUES ('reserved_until', ?)")?
                .execute([until])?;
            self.reserved_until = until;
        }
        Ok(())
    }

    /// Errors of the database itself end the whole batch; there are no others: every change either applies or finds
    /// nothing to do.
    fn apply(
        &mut self,
        transaction: &Transaction,
        now: Timestamp,
        after: &mut After,
    ) -> rusqlite::Result<Result<Vec<Applied>, CommitError>> {
        let mut applied = Vec::with_capacity(transaction.changes.len());
        for change in &transaction.changes {
            applied.push(match change {
                Change::Insert(message) => self.insert(message, now, after)?,
                Change::Remove { recipient, id } => self.remove(recipient, *id, after)?,
                Change::Update { recipient, id, state } => self.update(recipient, *id, state)?,
                Change::WakeAt { recipient, at } => {
                    let user = self.users.number(&self.connection, recipient)?;
                    self.connection
                        .prepare_cached("UPDATE user SET wake_at = ? WHERE id = ?")?
                        .execute(params![at.map(time), user])?;
                    Applied::Done
                }
            });
        }
        Ok(Ok(applied))
    }

    fn insert(&mut self, message: &NewMessage, now: Timestamp, after: &mut After) -> rusqlite::Result<Applied> {
        if let Some(seq) = self.deduplication.find(&self.connection, now, message.deduplication)? {
            let waits = self.connection.prepare_cached("SELECT 1 FROM message WHERE seq = ?")?.exists([seq])?;
            if let Body::Spooled { id, .. } = message.body {
                after.bodies_to_remove.push(id);
            }
            return Ok(Applied::Duplicate(waits.then_some(message_id(seq))));
        }
        let recipient = self.users.number(&self.connection, &message.recipient)?;
        let sender_key =
            RecipientKey { tenant: message.recipient.tenant.clone(), address: message.envelope.sender.address.clone() };
        let sender = self.users.number(&self.connection, &sender_key)?;
        let seq = self.next_seq;
        let size = i64::try_from(message.body.size_bytes()).unwrap_or(i64::MAX);
        let (body_id, body) = match &message.body {
            Body::Inline(bytes) => (None, Some(bytes.as_ref())),
            Body::Spooled { id, .. } => (Some(id.0.to_be_bytes()), None),
        };
        let state = message.hand_over_to.as_ref().map(|_| codec::write_state(&fresh_state(message)));
        self.connection.prepare_cached("INSERT INTO message VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")?.execute(
            params![
                seq,
                recipient,
                sender,
                message.deduplication.0,
                codec::kind_number(message.envelope.kind),
                message.priority,
                time(message.received_at),
                time(message.expires_at),
                codec::source_number(message.expiry_source),
                None::<i64>,
                size,
                codec::write_envelope(&message.envelope),
                state,
                body_id,
                body,
            ],
        )?;
        self.next_seq += 1;
        self.deduplication.insert(&self.connection, now, message.deduplication, seq)?;
        let counted = i64::from(message.envelope.kind == MessageKind::Message);
        note(after, recipient, &message.recipient, 1, counted, size, false);
        note(after, sender, &sender_key, 0, counted, size, true);
        Ok(Applied::Inserted(message_id(seq)))
    }

    fn remove(&mut self, recipient: &RecipientKey, id: MessageId, after: &mut After) -> rusqlite::Result<Applied> {
        let seq = seq_of(id);
        let user = self.users.number(&self.connection, recipient)?;
        let row = self
            .connection
            .prepare_cached(
                "DELETE FROM message WHERE seq = ? AND recipient = ? RETURNING sender, kind, size_bytes, body_id",
            )?
            .query_row(params![seq, user], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, u8>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, Option<[u8; 16]>>(3)?,
                ))
            })
            .optional()?;
        let Some((sender, kind, size, body_id)) = row else { return Ok(Applied::Done) };
        let counted = i64::from(kind == codec::kind_number(MessageKind::Message));
        note(after, user, recipient, -1, -counted, -size, false);
        let sender_key = self
            .connection
            .prepare_cached("SELECT tenant, address FROM user WHERE id = ?")?
            .query_row([sender], |row| Ok(super::users::key_of(row.get(0)?, row.get(1)?)))?;
        note(after, sender, &sender_key, 0, -counted, -size, true);
        if let Some(id) = body_id {
            after.bodies_to_remove.push(BodyId(u128::from_be_bytes(id)));
        }
        Ok(Applied::Done)
    }

    fn update(&mut self, recipient: &RecipientKey, id: MessageId, state: &MessageState) -> rusqlite::Result<Applied> {
        let user = self.users.number(&self.connection, recipient)?;
        let due = [state.not_before, state.fetch_deadline].into_iter().flatten().min();
        self.connection
            .prepare_cached("UPDATE message SET state = ?, expires_at = ?, due_at = ? WHERE seq = ? AND recipient = ?")?
            .execute(params![codec::write_state(state), time(state.expires_at), due.map(time), seq_of(id), user])?;
        Ok(Applied::Done)
    }

    fn save(&mut self, user: &RecipientKey, record: &Record) -> rusqlite::Result<()> {
        let id = self.users.number(&self.connection, user)?;
        match record {
            Record::Registration(registration) => self
                .connection
                .prepare_cached("UPDATE user SET registration = ?, registered_until = ? WHERE id = ?")?
                .execute(params![
                    registration.as_ref().map(|it| &it.bytes),
                    registration.as_ref().map(|it| time(it.expires_at)),
                    id
                ])?,
            Record::Profile(profile) => self
                .connection
                .prepare_cached("UPDATE user SET profile = ? WHERE id = ?")?
                .execute(params![codec::write_profile(profile), id])?,
        };
        Ok(())
    }

    fn roll_back(&mut self, batch: &[Waiting], error: &rusqlite::Error) -> Vec<(Ticket, Outcome)> {
        if is_lost_sync(error) {
            // What the kernel dropped after a failed fsync cannot be known any more: nothing may be acknowledged.
            (self.fatal)(&format!("the database could not be made durable: {error}"));
        }
        let _ = self.connection.execute_batch("ROLLBACK");
        self.users.forget();
        self.reserved_until = self.next_seq;
        if let Err(error) = self.deduplication.recover(&self.connection) {
            tracing::error!(%error, "deduplication tables cannot be read");
        }
        let error = commit_error(error);
        tracing::error!(orders = batch.len(), %error, "a commit failed");
        batch
            .iter()
            .map(|waiting| {
                let outcome = match waiting.order {
                    Order::Record(..) => Outcome::Saved(Err(error)),
                    _ => Outcome::Written(Err(error)),
                };
                (waiting.ticket, outcome)
            })
            .collect()
    }

    fn tell(&self, completions: Vec<(Ticket, Outcome)>) {
        let mut shards: HashMap<usize, Vec<Completion>> = HashMap::new();
        for (ticket, outcome) in completions {
            shards.entry(ticket.shard).or_default().push(Completion { token: ticket.token, outcome });
        }
        for (shard, completions) in shards {
            (self.sink)(shard, completions);
        }
    }

    /// A second connection copies the WAL back while this one writes; then this one, between two commits, copies the
    /// rest and begins the WAL anew, which the second connection could not do under load.
    fn keep_wal_small(&mut self) {
        if self.restart_wanted.swap(false, Ordering::AcqRel) {
            let restarted = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, i64>(0));
            if let Err(error) = restarted {
                tracing::warn!(%error, "the WAL could not be begun anew");
            }
            return;
        }
        let pages = std::fs::metadata(&self.wal).map_or(0, |metadata| metadata.len() / 4096);
        if pages > self.queue.limits.checkpoint_pages {
            // Full: a copy is under way already.
            let _ = self.checkpoint.try_send(());
        }
    }
}

fn note(after: &mut After, id: i64, key: &RecipientKey, waiting: i64, messages: i64, size: i64, sent: bool) {
    let (_, delta) = after.deltas.entry(id).or_insert_with(|| (key.clone(), Delta::default()));
    delta.waiting += waiting;
    // Dispositions count in no quota.
    let size = if messages == 0 { 0 } else { size };
    if sent {
        delta.sent_messages += messages;
        delta.sent_bytes += size;
    } else {
        delta.messages += messages;
        delta.size_bytes += size;
    }
}

pub(super) fn fresh_state(message: &NewMessage) -> MessageState {
    MessageState {
        attempts: 0,
        not_before: None,
        last_failure: None,
        page_refused: false,
        large_refused: false,
        notified_at: None,
        fetch_deadline: None,
        push_after_deadline: false,
        expires_at: message.expires_at,
        hand_over_to: message.hand_over_to.clone(),
        devices: Vec::new(),
    }
}

fn commit_error(error: &rusqlite::Error) -> CommitError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => CommitError::Full,
        _ => CommitError::Failed,
    }
}

/// An fsync that failed: the pages may be gone although a later fsync succeeds.
fn is_lost_sync(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC};
    error.sqlite_error().is_some_and(|error| matches!(error.extended_code, SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC))
}

/// Partition 0: the top eight bits are clear.
pub(super) fn message_id(seq: i64) -> MessageId {
    MessageId(seq.unsigned_abs())
}

pub(super) fn seq_of(id: MessageId) -> i64 {
    i64::try_from(id.0).unwrap_or(i64::MAX)
}

/// Times beyond what a column holds are "never".
pub(super) fn time(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}
