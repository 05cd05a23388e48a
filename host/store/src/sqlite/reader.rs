//! Readers: threads with connections of their own that load windows of queues, and what operators look at.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use restante_deferral::commit::{CommitError, LoadRequest, MessageState, Select, Window};
use restante_deferral::model::{
    Body, BodyId, DeduplicationKey, MessageId, NewMessage, Profile, QueueTotals, RecipientKey, StoredMessage, Timestamp,
};
use rusqlite::{Connection, Row, params};

use super::users::{Users, key_of};
use super::writer::{message_id, seq_of, time};
use crate::codec;
use crate::{Completion, Filter, Outcome, Sink, StoreError, Ticket};

/// Between those who ask and the readers.
pub(super) struct ReadQueue {
    max_waiting: usize,
    inner: Mutex<(VecDeque<(Ticket, RecipientKey, LoadRequest)>, bool)>,
    ready: Condvar,
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
        if inner.0.len() >= self.max_waiting {
            return Err(CommitError::Overloaded);
        }
        inner.0.push_back((ticket, recipient, request));
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.lock().1 = true;
        self.ready.notify_all();
    }

    fn take(&self) -> Option<(Ticket, RecipientKey, LoadRequest)> {
        let mut inner = self.lock();
        loop {
            if inner.1 {
                return None;
            }
            if let Some(order) = inner.0.pop_front() {
                return Some(order);
            }
            inner = self.ready.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, (VecDeque<(Ticket, RecipientKey, LoadRequest)>, bool)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until the queue is stopped.
pub(super) fn run(connection: &Connection, queue: &ReadQueue, users: &Users, sink: &Sink) {
    while let Some((ticket, recipient, request)) = queue.take() {
        let window = load(connection, users, &recipient, &request).map(Box::new).map_err(|error| {
            tracing::error!(%error, "a queue cannot be read");
            CommitError::Failed
        });
        sink(ticket.shard, vec![Completion { token: ticket.token, outcome: Outcome::Loaded(window) }]);
    }
}

const COLUMNS: &str = "message.seq, deduplication, priority, received_at, message.expires_at, expiry_source,
    message.size_bytes, envelope, state, body_id";

fn load(
    connection: &Connection,
    users: &Users,
    recipient: &RecipientKey,
    request: &LoadRequest,
) -> Result<Window, StoreError> {
    // One read transaction, so that messages and sums are of the same moment.
    let snapshot = connection.unchecked_transaction()?;
    let Some(user) = users.read(&snapshot, recipient)?.map(|user| user.id) else { return Ok(Window::default()) };
    let mut window = Window::default();
    let (profile, messages, size_bytes, wake_at): (Option<Vec<u8>>, i64, i64, Option<i64>) = snapshot
        .prepare_cached("SELECT profile, messages, size_bytes, wake_at FROM user WHERE id = ?")?
        .query_row([user], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    window.profile = profile.as_deref().map_or(Ok(Profile::default()), codec::read_profile)?;
    window.wake_at = wake_at.map(timestamp);
    let (earliest, due, oldest): (Option<i64>, Option<i64>, Option<i64>) = snapshot
        .prepare_cached("SELECT min(expires_at), min(due_at), min(seq) FROM message WHERE recipient = ?")?
        .query_row([user], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    window.earliest_expiry = earliest.map(timestamp);
    window.earliest_due = due.map(timestamp);
    let sums = super::users::totals(messages, size_bytes);
    let oldest_received_at = match oldest {
        Some(seq) => Some(
            snapshot
                .prepare_cached("SELECT received_at FROM message WHERE seq = ?")?
                .query_row([seq], |row| row.get(0))?,
        ),
        None => None,
    };
    window.totals = QueueTotals {
        messages: sums.messages,
        size_bytes: sums.size_bytes,
        oldest_received_at: oldest_received_at.map(timestamp),
    };
    let rows = select(&snapshot, user, request)?;
    let wanted = request.max_messages as usize;
    let mut body_bytes = 0u64;
    for seq in rows {
        if window.messages.len() >= wanted || (!window.messages.is_empty() && body_bytes >= request.max_body_bytes) {
            window.more = true;
            break;
        }
        let message = row(&snapshot, recipient, seq, true)?;
        if let Body::Inline(bytes) = &message.message.body {
            body_bytes = body_bytes.saturating_add(bytes.len() as u64);
        }
        window.messages.push(message);
    }
    Ok(window)
}

/// The numbers of the wanted rows in delivery order, one more than wanted so that `more` is known.
fn select(connection: &Connection, user: i64, request: &LoadRequest) -> Result<Vec<i64>, StoreError> {
    let limit = i64::from(request.max_messages).saturating_add(1);
    let read = |row: &Row<'_>| row.get::<_, i64>(0);
    let rows = match &request.select {
        Select::After(None) => connection
            .prepare_cached("SELECT seq FROM message WHERE recipient = ? ORDER BY priority DESC, seq LIMIT ?")?
            .query_map(params![user, limit], read)?
            .collect::<Result<Vec<_>, _>>()?,
        Select::After(Some((priority, id))) => connection
            .prepare_cached(
                "SELECT seq FROM message WHERE recipient = ?1 AND (priority < ?2 OR (priority = ?2 AND seq > ?3))
                 ORDER BY priority DESC, seq LIMIT ?4",
            )?
            .query_map(params![user, priority, seq_of(*id), limit], read)?
            .collect::<Result<Vec<_>, _>>()?,
        Select::ExpiredAt(at) => connection
            .prepare_cached(
                "SELECT seq FROM message WHERE recipient = ? AND expires_at <= ? ORDER BY priority DESC, seq LIMIT ?",
            )?
            .query_map(params![user, time(*at), limit], read)?
            .collect::<Result<Vec<_>, _>>()?,
        Select::DueAt(at) => connection
            .prepare_cached(
                "SELECT seq FROM message WHERE recipient = ? AND due_at <= ? ORDER BY priority DESC, seq LIMIT ?",
            )?
            .query_map(params![user, time(*at), limit], read)?
            .collect::<Result<Vec<_>, _>>()?,
        Select::Listed(ids) => {
            let mut found = Vec::new();
            let mut find = connection.prepare_cached("SELECT priority FROM message WHERE seq = ? AND recipient = ?")?;
            for id in ids {
                let seq = seq_of(*id);
                let priority: Option<u8> =
                    rusqlite::OptionalExtension::optional(find.query_row(params![seq, user], |row| row.get(0)))?;
                found.extend(priority.map(|priority| (std::cmp::Reverse(priority), seq)));
            }
            found.sort_unstable();
            found.dedup();
            found.into_iter().map(|(_, seq)| seq).collect()
        }
    };
    Ok(rows)
}

/// One message; the body only when wanted.
fn row(
    connection: &Connection,
    recipient: &RecipientKey,
    seq: i64,
    with_body: bool,
) -> Result<StoredMessage, StoreError> {
    let body = if with_body { "body" } else { "NULL" };
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS}, {body} FROM message WHERE seq = ?"))?;
    let mut rows = statement.query([seq])?;
    let row = rows.next()?.ok_or(StoreError::Damaged("a row vanished"))?;
    read_message(row, recipient.clone())
}

fn read_message(row: &Row<'_>, recipient: RecipientKey) -> Result<StoredMessage, StoreError> {
    let state: Option<Vec<u8>> = row.get(8)?;
    let state = state.as_deref().map(codec::read_state).transpose()?;
    let body_id: Option<[u8; 16]> = row.get(9)?;
    let size_bytes: i64 = row.get(6)?;
    let body = match body_id {
        Some(id) => Body::Spooled { id: BodyId(u128::from_be_bytes(id)), size_bytes: size_bytes.max(0).unsigned_abs() },
        None => Body::Inline(row.get::<_, Option<Vec<u8>>>(10)?.map_or_else(Bytes::new, Bytes::from)),
    };
    let message = NewMessage {
        recipient,
        deduplication: DeduplicationKey(row.get(1)?),
        envelope: codec::read_envelope(&row.get::<_, Vec<u8>>(7)?)?,
        body,
        received_at: timestamp(row.get(3)?),
        expires_at: timestamp(row.get(4)?),
        expiry_source: codec::source_of(row.get(5)?)?,
        priority: row.get(2)?,
        hand_over_to: state.as_ref().and_then(|state| state.hand_over_to.clone()),
    };
    let MessageState {
        attempts,
        not_before,
        last_failure,
        page_refused,
        large_refused,
        notified_at,
        fetch_deadline,
        push_after_deadline,
        expires_at: _,
        hand_over_to: _,
        devices,
    } = state.unwrap_or_else(|| super::writer::fresh_state(&message));
    Ok(StoredMessage {
        id: message_id(row.get(0)?),
        message,
        attempts,
        not_before,
        last_failure,
        page_refused,
        large_refused,
        notified_at,
        fetch_deadline,
        push_after_deadline,
        devices,
    })
}

/// For operators: messages in order of arrival without their bodies, with the size in the body's place.
pub(super) fn list(
    connection: &Connection,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS}, NULL, user.tenant, user.address FROM message JOIN user ON user.id = message.recipient
         WHERE message.seq > ?1 AND (?2 IS NULL OR user.tenant = ?2) AND (?3 IS NULL OR user.address = ?3)
         ORDER BY message.seq LIMIT ?4"
    ))?;
    let tenant = filter.recipient.as_ref().map(|key| &key.tenant).or(filter.tenant.as_ref());
    let address = filter.recipient.as_ref().map(|key| &*key.address.0);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows =
        statement.query(params![filter.after.map_or(-1, seq_of), tenant.map(|it| &*it.0), address, limit])?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        let size: i64 = row.get(6)?;
        messages.push((read_message(row, key_of(row.get(11)?, row.get(12)?))?, size.max(0).unsigned_abs()));
    }
    Ok(messages)
}

/// For operators: one message without its body.
pub(super) fn show(connection: &Connection, id: MessageId) -> Result<Option<(StoredMessage, u64)>, StoreError> {
    let Some(before) = seq_of(id).checked_sub(1) else { return Ok(None) };
    let filter = Filter { after: Some(message_id(before)), ..Filter::default() };
    if before < 0 {
        return Ok(None);
    }
    Ok(list(connection, &filter, 1)?.into_iter().find(|(message, _)| message.id == id))
}

pub(super) fn timestamp(value: i64) -> Timestamp {
    if value == i64::MAX { Timestamp::NEVER } else { Timestamp(value.max(0).unsigned_abs()) }
}
