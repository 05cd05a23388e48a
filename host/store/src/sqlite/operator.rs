//! What operators look at: messages in order of arrival, without their bodies.
//!
//! Who asks for one tenant's may have to go through everybody's. That is done in steps: no step holds others up that ask with
//! the same connection, nor keeps the WAL from beginning anew for longer than it reads [`STEP`] rows. Where the tenant has few
//! users, and few messages wait for them, they are looked at instead, one after the other.

use std::ops::Deref;

use restante_deferral::model::{MessageId, RecipientKey, StoredMessage, TenantName};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params};

use super::reader::read_message;
use super::schema::QUEUE;
use super::seq_of;
use super::users::{self, key_of};
use crate::{Filter, StoreError};

const COLUMNS: &str = "message.seq, deduplication, message.priority, received_at,
    coalesce(fate.expires_at, message.expires_at), expiry_source, size_bytes, envelope, state, body_id,
    user.tenant, user.address";

/// Rows that a step looks at.
const STEP: i64 = 1_000;

/// So many users or messages are few.
pub(super) const FEW: u32 = 10_000;

/// Messages without their bodies, with the size of each body. `connect` is asked for a connection for each step.
/// `is_small`: few messages wait for the tenant.
pub(super) fn list<Held: Deref<Target = Connection>>(
    connect: impl Fn() -> Held,
    filter: &Filter,
    is_small: bool,
    limit: usize,
) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
    let mut after = filter.after.map_or(-1, seq_of);
    if let (None, Some(tenant), true) = (&filter.recipient, &filter.tenant, is_small) {
        let connection = connect();
        if has_few_users(&connection, tenant)? {
            return of_small_tenant(&connection, tenant, after, limit);
        }
    }
    match (&filter.recipient, &filter.tenant) {
        (Some(key), tenant) if tenant.as_ref().is_none_or(|tenant| *tenant == key.tenant) => {
            of_recipient(&connect(), key, after, limit)
        }
        (Some(_), _) => Ok(Vec::new()),
        (None, tenant) => {
            let mut found = Vec::new();
            while found.len() < limit {
                let connection = connect();
                let Some(until) = end_of_step(&connection, after)? else { break };
                let wanted = limit.saturating_sub(found.len());
                found.extend(of_tenant(&connection, tenant.as_ref(), after, until, wanted)?);
                after = until;
            }
            Ok(found)
        }
    }
}

/// One message without its body; an error where it cannot be read.
pub(super) fn show(connection: &Connection, id: MessageId) -> Result<Option<(StoredMessage, u64)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM message CROSS JOIN user ON user.id = message.recipient
         LEFT JOIN fate ON fate.seq = message.seq WHERE message.seq = :seq"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! {":seq": seq_of(id)})?;
    rows.next()?.map(without_body).transpose()
}

/// Whose message this is.
pub(super) fn recipient_of(connection: &Connection, id: MessageId) -> Result<Option<RecipientKey>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT tenant, address FROM message CROSS JOIN user ON user.id = message.recipient WHERE message.seq = ?",
        )?
        .query_row([seq_of(id)], |row| Ok(key_of(row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found)
}

/// The last message of the next step; none when there is no message.
fn end_of_step(connection: &Connection, after: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT max(seq) FROM (SELECT seq FROM message WHERE seq > ? ORDER BY seq LIMIT ?)")?
        .query_row([after, STEP], |row| row.get(0))
}

fn of_recipient(
    connection: &Connection,
    key: &RecipientKey,
    after: i64,
    limit: usize,
) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
    let Some(recipient) = users::find(connection, key)? else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT {COLUMNS} FROM (SELECT seq FROM place WHERE recipient = :recipient AND list = :queue AND seq > :after
             ORDER BY seq) AS wanted
         CROSS JOIN message ON message.seq = wanted.seq JOIN user ON user.id = message.recipient
         LEFT JOIN fate ON fate.seq = message.seq ORDER BY wanted.seq"
    );
    let queue = QUEUE;
    read(connection, &sql, named_params! {":recipient": recipient, ":queue": queue, ":after": after}, limit)
}

fn has_few_users(connection: &Connection, tenant: &TenantName) -> rusqlite::Result<bool> {
    let counted = connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM user WHERE tenant = ? LIMIT ?)")?
        .query_row(params![&*tenant.0, FEW + 1], |row| row.get::<_, u32>(0))?;
    Ok(counted <= FEW)
}

fn of_small_tenant(
    connection: &Connection,
    tenant: &TenantName,
    after: i64,
    limit: usize,
) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM (SELECT place.seq FROM user CROSS JOIN place ON place.recipient = user.id
             WHERE user.tenant = :tenant AND place.list = :queue AND place.seq > :after ORDER BY place.seq) AS wanted
         CROSS JOIN message ON message.seq = wanted.seq JOIN user ON user.id = message.recipient
         LEFT JOIN fate ON fate.seq = message.seq ORDER BY wanted.seq"
    );
    let tenant = &*tenant.0;
    read(connection, &sql, named_params! {":tenant": tenant, ":queue": QUEUE, ":after": after}, limit)
}

fn of_tenant(
    connection: &Connection,
    tenant: Option<&TenantName>,
    after: i64,
    until: i64,
    limit: usize,
) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM message CROSS JOIN user ON user.id = message.recipient
         LEFT JOIN fate ON fate.seq = message.seq
         WHERE message.seq > :after AND message.seq <= :until AND (:tenant IS NULL OR user.tenant = :tenant)
         ORDER BY message.seq"
    );
    let tenant = tenant.map(|tenant| &*tenant.0);
    read(connection, &sql, named_params! {":after": after, ":until": until, ":tenant": tenant}, limit)
}

/// So many of those that can be read.
fn read(
    connection: &Connection,
    sql: &str,
    parameters: &[(&str, &dyn ToSql)],
    limit: usize,
) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut messages = Vec::new();
    while messages.len() < limit
        && let Some(row) = rows.next()?
    {
        match without_body(row) {
            Err(error) if error.is_of_one_row() => {
                let number: i64 = row.get(0)?;
                tracing::warn!(
                    number,
                    %error,
                    "a message cannot be read and is not listed; discard its number to remove it"
                );
            }
            message => messages.push(message?),
        }
    }
    Ok(messages)
}

fn without_body(row: &Row<'_>) -> Result<(StoredMessage, u64), StoreError> {
    let size: i64 = row.get(6)?;
    let message = read_message(row, key_of(row.get(10)?, row.get(11)?), ValueRef::Null)?;
    Ok((message, size.max(0).unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_small_tenant_is_found_among_a_large_ones_messages() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE user (id INTEGER PRIMARY KEY, tenant TEXT, address TEXT);
                 INSERT INTO user VALUES (1, 'large', 'a'), (2, 'small', 'b');
                 CREATE TABLE fate (seq INTEGER PRIMARY KEY, expires_at INTEGER, state BLOB);
                 CREATE TABLE place (recipient, list, key, seq, PRIMARY KEY (recipient, list, key, seq));
                 CREATE TABLE message (seq INTEGER PRIMARY KEY, recipient, deduplication, priority, received_at,
                     expires_at, expiry_source, size_bytes, envelope, body_id);
                 WITH RECURSIVE number (it) AS (SELECT 1 UNION ALL SELECT it + 1 FROM number WHERE it < 10500)
                 INSERT INTO message (seq, recipient) SELECT it * 100, 1 FROM number;
                 UPDATE message SET recipient = 2, deduplication = zeroblob(16), priority = 1, received_at = 0,
                     expires_at = 0, expiry_source = 0, size_bytes = 0 WHERE seq IN (700, 900000, 1050000);
                 INSERT INTO place SELECT recipient, 0, seq % 7, seq FROM message;
                 INSERT INTO place SELECT recipient, 1, 5, seq FROM message;",
            )
            .unwrap();
        let envelope = crate::codec::write_envelope(&envelope());
        connection.execute("UPDATE message SET envelope = ? WHERE recipient = 2", [envelope]).unwrap();
        let steps = Cell::new(0);
        let of = |is_small: bool, after: u64, limit: usize| {
            let filter =
                Filter { tenant: Some(TenantName("small".into())), after: Some(MessageId(after)), ..Filter::default() };
            steps.set(0);
            let connect = || {
                steps.set(steps.get() + 1);
                &connection
            };
            let found = super::list(connect, &filter, is_small, limit).unwrap();
            found.iter().map(|(message, _)| message.id.0).collect::<Vec<_>>()
        };
        for (after, limit, found) in [
            (0, 9, vec![700, 900_000, 1_050_000]),
            (0, 2, vec![700, 900_000]),
            (700, 1, vec![900_000]),
            (1_050_000, 1, vec![]),
        ] {
            assert_eq!((of(true, after, limit), steps.get()), (found, 1));
        }
        // Where it is not known to be small everybody's messages are gone through, in steps.
        let list = |after, limit| of(false, after, limit);
        assert_eq!((list(0, 9), steps.get()), (vec![700, 900_000, 1_050_000], 12));
        assert_eq!((list(0, 2), steps.get()), (vec![700, 900_000], 9));
        assert_eq!((list(700, 1), steps.get()), (vec![900_000], 9));
        assert_eq!((list(1_050_000, 1), steps.get()), (vec![], 1));
        assert_eq!(show(&connection, MessageId(700)).unwrap().unwrap().0.id, MessageId(700));
        assert_eq!(show(&connection, MessageId(701)).unwrap(), None);
    }

    fn envelope() -> restante_deferral::model::Envelope {
        use restante_deferral::model::*;
        Envelope {
            kind: MessageKind::Message,
            mode: Mode::Page,
            sender: Sender {
                address: CanonicalAddress("sip:alice@example.org".into()),
                uri: "sip:alice@example.org".into(),
                verification: Verification::TrustedPeer,
                private: false,
            },
            request_uri: "sip:bob@example.org".into(),
            headers: vec![],
            content_type: "text/plain".into(),
            wrapped_type: None,
            imdn: None,
            page_base_bytes: None,
        }
    }
}
