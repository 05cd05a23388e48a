//! Users by number, and what is stored for and of them: in memory for all that were met since start, so that a decision
//! needs no disk; changes of a batch are folded into one update per user.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use restante_deferral::model::{CanonicalAddress, RecipientKey, TenantName};
use rusqlite::{Connection, OptionalExtension, params};

use crate::Totals;

/// Users kept in memory; beyond this those without changes are forgotten.
const MAX_KNOWN: usize = 1_000_000;

/// One user.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct User {
    pub(super) id: i64,
    /// Rows that wait, dispositions included.
    pub(super) waiting: i64,
    pub(super) received: Totals,
    pub(super) sent: Totals,
}

/// Changes of one user within a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delta {
    pub(super) waiting: i64,
    pub(super) messages: i64,
    pub(super) size_bytes: i64,
    pub(super) sent_messages: i64,
    pub(super) sent_bytes: i64,
}

/// What both the writer and those who ask see.
#[derive(Debug, Default)]
pub(super) struct Users {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_key: HashMap<RecipientKey, User>,
    tenants: HashMap<TenantName, Totals>,
}

impl Users {
    /// Reads the tenants' sums.
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Users> {
        let mut sums = connection.prepare("SELECT tenant, sum(messages), sum(size_bytes) FROM user GROUP BY tenant")?;
        let rows = sums
            .query_map([], |row| Ok((TenantName(row.get::<_, String>(0)?.into()), totals(row.get(1)?, row.get(2)?))))?;
        let tenants = rows.collect::<Result<_, _>>()?;
        Ok(Users { inner: Mutex::new(Inner { by_key: HashMap::new(), tenants }) })
    }

    pub(super) fn get(&self, key: &RecipientKey) -> Option<User> {
        self.lock().by_key.get(key).copied()
    }

    pub(super) fn tenant(&self, tenant: &TenantName) -> Totals {
        self.lock().tenants.get(tenant).copied().unwrap_or_default()
    }

    /// Reads a user that may be unknown to the database.
    pub(super) fn read(&self, connection: &Connection, key: &RecipientKey) -> rusqlite::Result<Option<User>> {
        if let Some(user) = self.get(key) {
            return Ok(Some(user));
        }
        let user = connection
            .prepare_cached(
                "SELECT id, waiting, messages, size_bytes, sent_messages, sent_bytes FROM user WHERE tenant = ? AND address = ?",
            )?
            .query_row(params![&*key.tenant.0, &*key.address.0], |row| {
                Ok(User {
                    id: row.get(0)?,
                    waiting: row.get(1)?,
                    received: totals(row.get(2)?, row.get(3)?),
                    sent: totals(row.get(4)?, row.get(5)?),
                })
            })
            .optional()?;
        if let Some(user) = user {
            let mut inner = self.lock();
            if inner.by_key.len() >= MAX_KNOWN {
                inner.by_key.clear();
            }
            // The writer may have been faster; what it knows is newer.
            return Ok(Some(*inner.by_key.entry(key.clone()).or_insert(user)));
        }
        Ok(None)
    }

    /// A user's number, made when it is new. For the writer.
    pub(super) fn number(&self, connection: &Connection, key: &RecipientKey) -> rusqlite::Result<i64> {
        if let Some(user) = self.read(connection, key)? {
            return Ok(user.id);
        }
        connection
            .prepare_cached("INSERT INTO user (tenant, address) VALUES (?, ?)")?
            .execute(params![&*key.tenant.0, &*key.address.0])?;
        let user = User { id: connection.last_insert_rowid(), ..User::default() };
        self.lock().by_key.insert(key.clone(), user);
        Ok(user.id)
    }

    /// Applies a batch's changes to the database.
    pub(super) fn write(connection: &Connection, deltas: &HashMap<i64, (RecipientKey, Delta)>) -> rusqlite::Result<()> {
        let mut update = connection.prepare_cached(
            "UPDATE user SET waiting = waiting + ?2, messages = messages + ?3, size_bytes = size_bytes + ?4,
                 sent_messages = sent_messages + ?5, sent_bytes = sent_bytes + ?6 WHERE id = ?1",
        )?;
        for (id, (_, delta)) in deltas {
            let Delta { waiting, messages, size_bytes, sent_messages, sent_bytes } = delta;
            update.execute(params![id, waiting, messages, size_bytes, sent_messages, sent_bytes])?;
        }
        Ok(())
    }

    /// Applies them in memory, once they are durable.
    pub(super) fn publish(&self, deltas: HashMap<i64, (RecipientKey, Delta)>) {
        let mut inner = self.lock();
        for (id, (key, delta)) in deltas {
            let tenant = inner.tenants.entry(key.tenant.clone()).or_default();
            *tenant = changed(*tenant, delta.messages, delta.size_bytes);
            if let Some(user) = inner.by_key.get_mut(&key).filter(|user| user.id == id) {
                user.waiting += delta.waiting;
                user.received = changed(user.received, delta.messages, delta.size_bytes);
                user.sent = changed(user.sent, delta.sent_messages, delta.sent_bytes);
            }
        }
    }

    /// After a transaction that was rolled back: users that were made in it are gone.
    pub(super) fn forget(&self) {
        self.lock().by_key.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A user by its number.
pub(super) fn key_of(tenant: String, address: String) -> RecipientKey {
    RecipientKey { tenant: TenantName(tenant.into()), address: CanonicalAddress(address.into()) }
}

pub(super) fn totals(messages: i64, size_bytes: i64) -> Totals {
    Totals {
        messages: u32::try_from(messages.max(0)).unwrap_or(u32::MAX),
        size_bytes: size_bytes.max(0).unsigned_abs(),
    }
}

fn changed(before: Totals, messages: i64, size_bytes: i64) -> Totals {
    totals(
        i64::from(before.messages).saturating_add(messages),
        i64::try_from(before.size_bytes).unwrap_or(i64::MAX).saturating_add(size_bytes),
    )
}
