//! What operators look at: messages in order of arrival, without their bodies.

use restante_deferral::model::{MessageId, RecipientKey, StoredMessage, TenantName};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, ToSql, named_params};

use super::reader::read_message;
use super::schema::QUEUE;
use super::users::{self, key_of};
use super::{message_id, seq_of};
use crate::{Filter, StoreError};

const COLUMNS: &str = "message.seq, deduplication, message.priority, received_at,
    coalesce(fate.expires_at, message.expires_at), expiry_source, size_bytes, envelope, state, body_id,
    user.tenant, user.address";

/// Messages without their bodies, with the size of each body.
pub(super) fn list(
    connection: &Connection,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
    let after = filter.after.map_or(-1, seq_of);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    match (&filter.recipient, &filter.tenant) {
        (Some(key), tenant) if tenant.as_ref().is_none_or(|tenant| *tenant == key.tenant) => {
            of_recipient(connection, key, after, limit)
        }
        (Some(_), _) => Ok(Vec::new()),
        (None, tenant) => of_tenant(connection, tenant.as_ref(), after, limit),
    }
}

/// One message without its body.
pub(super) fn show(connection: &Connection, id: MessageId) -> Result<Option<(StoredMessage, u64)>, StoreError> {
    let Some(before) = seq_of(id).checked_sub(1).filter(|before| *before >= 0) else { return Ok(None) };
    let filter = Filter { after: Some(message_id(before)), ..Filter::default() };
    Ok(list(connection, &filter, 1)?.into_iter().find(|(message, _)| message.id == id))
}

fn of_recipient(
    connection: &Connection,
    key: &RecipientKey,
    after: i64,
    limit: i64,
) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
    let Some(recipient) = users::find(connection, key)? else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT {COLUMNS} FROM (SELECT seq FROM place WHERE recipient = :recipient AND list = :queue AND seq > :after
             ORDER BY seq LIMIT :limit) AS wanted
         CROSS JOIN message ON message.seq = wanted.seq JOIN user ON user.id = message.recipient
         LEFT JOIN fate ON fate.seq = message.seq ORDER BY wanted.seq"
    );
    let queue = QUEUE;
    read(connection, &sql, named_params! {":recipient": recipient, ":queue": queue, ":after": after, ":limit": limit})
}

fn of_tenant(
    connection: &Connection,
    tenant: Option<&TenantName>,
    after: i64,
    limit: i64,
) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM message CROSS JOIN user ON user.id = message.recipient
         LEFT JOIN fate ON fate.seq = message.seq
         WHERE message.seq > :after AND (:tenant IS NULL OR user.tenant = :tenant)
         ORDER BY message.seq LIMIT :limit"
    );
    let tenant = tenant.map(|tenant| &*tenant.0);
    read(connection, &sql, named_params! {":after": after, ":tenant": tenant, ":limit": limit})
}

fn read(
    connection: &Connection,
    sql: &str,
    parameters: &[(&str, &dyn ToSql)],
) -> Result<Vec<(StoredMessage, u64)>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        messages.push(without_body(row)?);
    }
    Ok(messages)
}

fn without_body(row: &Row<'_>) -> Result<(StoredMessage, u64), StoreError> {
    let size: i64 = row.get(6)?;
    let message = read_message(row, key_of(row.get(10)?, row.get(11)?), ValueRef::Null)?;
    Ok((message, size.max(0).unsigned_abs()))
}
