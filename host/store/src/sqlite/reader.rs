//! Readers: threads with connections of their own that load windows of queues.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use restante_deferral::commit::{CommitError, LoadRequest, Select, Window};
use restante_deferral::model::{
    Body, BodyId, DeduplicationKey, MessageId, NewMessage, Profile, QueueTotals, RecipientKey, StoredMessage, Timestamp,
};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::schema::{DUE, EXPIRY, QUEUE};
use super::users::{self, Users};
use super::write_queue::{Order, WriteQueue};
use super::{message_id, seq_of, time, timestamp};
use crate::codec;
use crate::{Completion, Outcome, Sink, StoreError, Ticket};

/// Between those who ask and the readers.
pub(super) struct ReadQueue {
    max_waiting: usize,
    inner: Mutex<Inner>,
    ready: Condvar,
}

struct Load {
    ticket: Ticket,
    recipient: RecipientKey,
    request: LoadRequest,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Load>,
    stopped: bool,
}

impl ReadQueue {
    pub(super) fn new(max_waiting: usize) -> ReadQueue {
        ReadQueue { max_waiting, inner: Mutex::default(), ready: Condvar::new() }
    }

    pub(super) fn push(
        &self,
        ticket: Ticket,
        recipient: RecipientKey,
        request: LoadRequest,
    ) -> Result<(), CommitError> {
        let mut inner = self.lock();
        if inner.waiting.len() >= self.max_waiting {
            return Err(CommitError::Overloaded);
        }
        inner.waiting.push_back(Load { ticket, recipient, request });
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.ready.notify_all();
    }

    fn take(&self) -> Option<Load> {
        let mut inner = self.lock();
        loop {
            if inner.stopped {
                return None;
            }
            if let Some(load) = inner.waiting.pop_front() {
                return Some(load);
            }
            inner = self.ready.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until the queue is stopped.
pub(super) fn run(connection: &Connection, queue: &ReadQueue, writes: &WriteQueue, users: &Users, sink: &Sink) {
    while let Some(Load { ticket, recipient, request }) = queue.take() {
        let mut unreadable = Vec::new();
        let window = load(connection, users, &recipient, &request, &mut unreadable).map(Box::new).map_err(|error| {
            tracing::error!(%error, "a queue cannot be read");
            CommitError::Failed
        });
        for id in unreadable {
            // What is refused now is found again.
            let _ = writes.push(Ticket { shard: 0, token: 0 }, Order::SetAside(recipient.clone(), id));
        }
        sink(ticket.shard, vec![Completion { token: ticket.token, outcome: Outcome::Loaded(window) }]);
    }
}

fn load(
    connection: &Connection,
    users: &Users,
    recipient: &RecipientKey,
    request: &LoadRequest,
    unreadable: &mut Vec<MessageId>,
) -> Result<Window, StoreError> {
    // Before the transaction: see there.
    let (sums, _) = users.sums(connection, recipient)?;
    // One read transaction, so that everything else is of the same moment.
    let snapshot = connection.unchecked_transaction()?;
    let Some(user) = users::find(&snapshot, recipient)? else { return Ok(Window::default()) };
    let mut window = Window {
        messages: Vec::new(),
        more: false,
        totals: QueueTotals {
            messages: sums.messages,
            size_bytes: sums.size_bytes,
            oldest_received_at: oldest_received_at(&snapshot, user)?,
        },
        earliest_expiry: earliest(&snapshot, user, EXPIRY)?,
        earliest_due: earliest(&snapshot, user, DUE)?,
        profile: profile(&snapshot, user)?,
        wake_at: snapshot
            .prepare_cached("SELECT at FROM wake WHERE user = ?")?
            .query_row([user], |row| row.get(0).map(timestamp))
            .optional()?,
    };
    let wanted = request.max_messages as usize;
    let mut body_bytes = 0u64;
    let selected = select(&snapshot, user, request)?;
    let is_cut = selected.len() > wanted;
    for seq in selected {
        if window.messages.len() >= wanted {
            window.more = true;
            break;
        }
        let message = match message(&snapshot, recipient, user, seq) {
            Err(error) if error.is_of_one_row() => {
                unreadable.push(message_id(seq));
                continue;
            }
            message => message?,
        };
        let Some(message) = message else { continue };
        if let Body::Inline(bytes) = &message.message.body {
            body_bytes = body_bytes.saturating_add(bytes.len() as u64);
        }
        if !window.messages.is_empty() && body_bytes > request.max_body_bytes {
            window.more = true;
            break;
        }
        window.messages.push(message);
    }
    window.more |= is_cut && !unreadable.is_empty();
    window.messages.sort_unstable_by_key(|message| (std::cmp::Reverse(message.message.priority), message.id));
    Ok(window)
}

/// The numbers of the wanted rows, one more than wanted so that `more` is known: in delivery order, but what is expired
/// or due in the order in which it became so.
fn select(connection: &Connection, user: i64, request: &LoadRequest) -> rusqlite::Result<Vec<i64>> {
    let limit = i64::from(request.max_messages).saturating_add(1);
    let read = |row: &Row<'_>| row.get::<_, i64>(0);
    let until = |list: u8, at: Timestamp| -> rusqlite::Result<Vec<i64>> {
        connection
            .prepare_cached(
                "SELECT seq FROM place WHERE recipient = ? AND list = ? AND key <= ? ORDER BY key, seq LIMIT ?",
            )?
            .query_map(params![user, list, time(at), limit], read)?
            .collect()
    };
    match &request.select {
        Select::After(after) => {
            let (order, seq) = after.map_or((-1, 0), |(priority, id)| (i64::from(u8::MAX - priority), seq_of(id)));
            connection
                .prepare_cached(
                    "SELECT seq FROM place WHERE recipient = ? AND list = ? AND (key, seq) > (?, ?)
                     ORDER BY key, seq LIMIT ?",
                )?
                .query_map(params![user, QUEUE, order, seq, limit], read)?
                .collect()
        }
        Select::ExpiredAt(at) => until(EXPIRY, *at),
        Select::DueAt(at) => until(DUE, *at),
        Select::Listed(ids) => {
            let mut find = connection.prepare_cached("SELECT priority FROM message WHERE seq = ? AND recipient = ?")?;
            let mut found = Vec::new();
            for seq in ids.iter().map(|id| seq_of(*id)) {
                let priority: Option<u8> = find.query_row(params![seq, user], |row| row.get(0)).optional()?;
                found.extend(priority.map(|priority| (std::cmp::Reverse(priority), seq)));
            }
            found.sort_unstable();
            found.dedup();
            Ok(found.into_iter().map(|(_, seq)| seq).collect())
        }
    }
}

fn earliest(connection: &Connection, user: i64, list: u8) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached("SELECT key FROM place WHERE recipient = ? AND list = ? ORDER BY key LIMIT 1")?
        .query_row(params![user, list], |row| row.get(0).map(timestamp))
        .optional()
}

/// Of messages, not of dispositions: the first of each priority is looked at.
fn oldest_received_at(connection: &Connection, user: i64) -> rusqlite::Result<Option<Timestamp>> {
    let mut next_priority = connection
        .prepare_cached("SELECT key FROM place WHERE recipient = ? AND list = ? AND key > ? ORDER BY key LIMIT 1")?;
    let mut first = connection.prepare_cached(
        "SELECT seq FROM place WHERE recipient = ? AND list = ? AND key = ? AND is_message ORDER BY seq LIMIT 1",
    )?;
    let (mut key, mut oldest) = (-1i64, None::<i64>);
    while let Some(next) = next_priority.query_row(params![user, QUEUE, key], |row| row.get(0)).optional()? {
        key = next;
        let seq: Option<i64> = first.query_row(params![user, QUEUE, key], |row| row.get(0)).optional()?;
        oldest = [oldest, seq].into_iter().flatten().min();
    }
    let Some(seq) = oldest else { return Ok(None) };
    connection
        .prepare_cached("SELECT received_at FROM message WHERE seq = ?")?
        .query_row([seq], |row| row.get(0).map(timestamp))
        .optional()
}

/// A user's profile.
pub(super) fn profile(connection: &Connection, user: i64) -> Result<Profile, StoreError> {
    let bytes: Option<Vec<u8>> = connection
        .prepare_cached("SELECT profile FROM profile WHERE user = ?")?
        .query_row([user], |row| row.get(0))
        .optional()?;
    bytes.as_deref().map_or(Ok(Profile::default()), codec::read_profile)
}

fn message(
    connection: &Connection,
    recipient: &RecipientKey,
    user: i64,
    seq: i64,
) -> Result<Option<StoredMessage>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT message.seq, deduplication, priority, received_at, coalesce(fate.expires_at, message.expires_at),
             expiry_source, size_bytes, envelope, state, body_id, body
         FROM message LEFT JOIN fate ON fate.seq = message.seq WHERE message.seq = ? AND recipient = ?",
    )?;
    let mut rows = statement.query(params![seq, user])?;
    rows.next()?.map(|row| read_message(row, recipient.clone(), row.get_ref(10)?)).transpose()
}

/// A row with the columns of [`message`] up to `body_id`.
pub(super) fn read_message(
    row: &Row<'_>,
    recipient: RecipientKey,
    inline: ValueRef<'_>,
) -> Result<StoredMessage, StoreError> {
    let state = row.get_ref(8)?.as_blob_or_null().map_err(|_| StoreError::Damaged("a state is no blob"))?;
    let state = state.map(codec::read_state).transpose()?;
    let body_id: Option<[u8; 16]> = row.get(9)?;
    let size_bytes: i64 = row.get(6)?;
    let body = match body_id {
        Some(id) => Body::Spooled { id: BodyId(u128::from_be_bytes(id)), size_bytes: size_bytes.max(0).unsigned_abs() },
        None => Body::Inline(match inline {
            ValueRef::Blob(bytes) => Bytes::copy_from_slice(bytes),
            _ => Bytes::new(),
        }),
    };
    let envelope = row.get_ref(7)?.as_blob().map_err(|_| StoreError::Damaged("an envelope is no blob"))?;
    let new = NewMessage {
        recipient,
        deduplication: DeduplicationKey(row.get(1)?),
        deduplication_as_written: None,
        envelope: codec::read_envelope(envelope)?,
        body,
        received_at: timestamp(row.get(3)?),
        expires_at: timestamp(row.get(4)?),
        expiry_source: codec::source_of(row.get(5)?)?,
        priority: row.get(2)?,
        hand_over_to: None,
    };
    let mut message = StoredMessage::new(message_id(row.get(0)?), new);
    if let Some(state) = state {
        crate::apply_state(&mut message, state);
    }
    Ok(message)
}
