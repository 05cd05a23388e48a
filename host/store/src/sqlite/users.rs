//! What is stored for and of each user.
//!
//! A sum per user that were written with every commit would cost two pages somewhere else for every message. So the sums
//! in the table `usage` are those of the last *fold*, and what was added and taken since is in memory. A fold adds it up
//! for all users at once, in order of their numbers, every [`FOLD_AFTER`] messages. After a crash the difference is found
//! again: messages with a number above `folded_through` were added since, rows of `removed` are older ones taken since,
//! rows of `moved` are what older ones brought to a user, or took from it, that came to another queue since.
//!
//! Dispositions are in none of these. A tenant's are counted in memory alone, and at start by an index that has nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use restante_deferral::model::{CanonicalAddress, RecipientKey, TenantName};
use rusqlite::{Connection, OptionalExtension, params};

use crate::Totals;

/// Messages added and taken between two folds; also what a start after a crash has to add up.
const FOLD_AFTER: usize = 16_384;

/// A change of one user's sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) messages: i64,
    pub(super) size_bytes: i64,
    pub(super) sent_messages: i64,
    pub(super) sent_bytes: i64,
}

/// Changes by user, and of tenants as a whole: messages and bytes.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) users: HashMap<i64, Delta>,
    pub(super) tenants: HashMap<TenantName, (i64, i64)>,
    /// The same of dispositions.
    pub(super) dispositions: HashMap<TenantName, (i64, i64)>,
}

/// What both the writer and those who ask see.
#[derive(Debug)]
pub(super) struct Users {
    max_known: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Folds so far: which state of `usage` the maps below add to.
    folds: i64,
    unfolded: HashMap<i64, Delta>,
    /// What a fold under way is writing. It belongs to what the table says until the table's own number says otherwise.
    folding: HashMap<i64, Delta>,
    /// Messages in `unfolded`.
    waiting_for_fold: usize,
    known: HashMap<RecipientKey, (i64, Delta)>,
    numbers: HashMap<i64, RecipientKey>,
    tenants: HashMap<TenantName, Totals>,
    dispositions: HashMap<TenantName, Totals>,
}

impl Users {
    /// Adds up what was not folded when the store was closed, and reads the tenants' sums.
    pub(super) fn open(connection: &mut Connection, max_known: usize) -> rusqlite::Result<Users> {
        let folds = setting(connection, "folds")?;
        recover(connection, folds)?;
        let (tenants, dispositions) = (tenants(connection)?, dispositions(connection)?);
        let inner = Inner { folds: folds + 1, tenants, dispositions, ..Inner::default() };
        Ok(Users { max_known, inner: Mutex::new(inner) })
    }

    /// What is stored for a user and what it sent, if that is in memory.
    pub(super) fn known(&self, key: &RecipientKey) -> Option<(Totals, Totals)> {
        self.lock().known.get(key).map(|(_, sums)| sums.totals())
    }

    /// The same, from memory after the first time. The connection is in no transaction: one that began before a fold that
    /// is known by now would never see it.
    pub(super) fn sums(&self, connection: &Connection, key: &RecipientKey) -> rusqlite::Result<(Totals, Totals)> {
        loop {
            if let Some(sums) = self.known(key) {
                return Ok(sums);
            }
            let Some((user, folded, folds)) = read(connection, key)? else { return Ok(Default::default()) };
            let mut inner = self.lock();
            let inner = &mut *inner;
            // A fold may have become durable before the row was read, and may be known to be so only now, or not yet.
            let since = |deltas: &HashMap<i64, Delta>| deltas.get(&user).copied().unwrap_or_default();
            let sums = match folds - inner.folds {
                0 => folded.plus(since(&inner.folding)).plus(since(&inner.unfolded)),
                1 => folded.plus(since(&inner.unfolded)),
                _ => continue,
            };
            if inner.known.len() >= self.max_known {
                inner.known.clear();
                inner.numbers.clear();
            }
            inner.known.insert(key.clone(), (user, sums));
            inner.numbers.insert(user, key.clone());
            return Ok(sums.totals());
        }
    }

    pub(super) fn tenant(&self, tenant: &TenantName) -> Totals {
        self.lock().tenants.get(tenant).copied().unwrap_or_default()
    }

    pub(super) fn dispositions(&self, tenant: &TenantName) -> Totals {
        self.lock().dispositions.get(tenant).copied().unwrap_or_default()
    }

    /// Messages and dispositions of all tenants.
    pub(super) fn all(&self) -> (Totals, Totals) {
        let inner = self.lock();
        let sum = |of: &HashMap<TenantName, Totals>| {
            of.values().fold(Totals::default(), |sum, it| Totals {
                messages: sum.messages.saturating_add(it.messages),
                size_bytes: sum.size_bytes.saturating_add(it.size_bytes),
            })
        };
        (sum(&inner.tenants), sum(&inner.dispositions))
    }

    /// Takes over what a commit changed, once it is durable.
    pub(super) fn publish(&self, changed: Changed, messages: usize) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.waiting_for_fold = inner.waiting_for_fold.saturating_add(messages);
        for (all, changes) in [(&mut inner.tenants, changed.tenants), (&mut inner.dispositions, changed.dispositions)] {
            for (tenant, (messages, size_bytes)) in changes {
                let sums = all.entry(tenant).or_default();
                *sums = totals(
                    i64::from(sums.messages).saturating_add(messages),
                    i64::try_from(sums.size_bytes).unwrap_or(i64::MAX).saturating_add(size_bytes),
                );
            }
        }
        for (user, delta) in changed.users {
            let sum = inner.unfolded.entry(user).or_default();
            *sum = sum.plus(delta);
            if let Some((_, sums)) = inner.numbers.get(&user).and_then(|key| inner.known.get_mut(key)) {
                *sums = sums.plus(delta);
            }
        }
    }

    pub(super) fn wants_fold(&self) -> bool {
        self.lock().waiting_for_fold >= FOLD_AFTER
    }

    /// Adds up, in a transaction of the caller's that makes `through` the last message that is in the sums.
    pub(super) fn fold(&self, connection: &Connection, through: i64) -> rusqlite::Result<()> {
        let (deltas, folds) = {
            let mut inner = self.lock();
            let inner = &mut *inner;
            for (user, delta) in inner.unfolded.drain() {
                let sum = inner.folding.entry(user).or_default();
                *sum = sum.plus(delta);
            }
            inner.waiting_for_fold = 0;
            (inner.folding.clone(), inner.folds)
        };
        write(connection, &deltas, folds + 1, through)
    }

    /// That transaction is durable, or was rolled back.
    pub(super) fn folded(&self, durable: bool) {
        let mut inner = self.lock();
        if durable {
            inner.folds += 1;
            inner.folding.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delta {
    pub(super) fn plus(self, other: Delta) -> Delta {
        Delta {
            messages: self.messages.saturating_add(other.messages),
            size_bytes: self.size_bytes.saturating_add(other.size_bytes),
            sent_messages: self.sent_messages.saturating_add(other.sent_messages),
            sent_bytes: self.sent_bytes.saturating_add(other.sent_bytes),
        }
    }

    /// Received and sent.
    fn totals(self) -> (Totals, Totals) {
        (totals(self.messages, self.size_bytes), totals(self.sent_messages, self.sent_bytes))
    }
}

/// The number of a user, and its name.
pub(super) fn key_of(tenant: String, address: String) -> RecipientKey {
    RecipientKey { tenant: TenantName(tenant.into()), address: CanonicalAddress(address.into()) }
}

/// A user's number, if the database knows the user.
pub(super) fn find(connection: &Connection, key: &RecipientKey) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM user WHERE tenant = ? AND address = ?")?
        .query_row(params![&*key.tenant.0, &*key.address.0], |row| row.get(0))
        .optional()
}

/// A user's number, made when it is new.
pub(super) fn find_or_make(connection: &Connection, key: &RecipientKey) -> rusqlite::Result<i64> {
    if let Some(user) = find(connection, key)? {
        return Ok(user);
    }
    connection
        .prepare_cached("INSERT INTO user (tenant, address) VALUES (?, ?)")?
        .execute(params![&*key.tenant.0, &*key.address.0])?;
    Ok(connection.last_insert_rowid())
}

/// A number that is kept beside the tables; zero when it is not there.
pub(super) fn setting(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let value = connection
        .prepare_cached("SELECT value FROM setting WHERE name = ?")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(value.unwrap_or(0))
}

pub(super) fn set_setting(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT OR REPLACE INTO setting VALUES (?, ?)")?.execute(params![name, value])?;
    Ok(())
}

fn totals(messages: i64, size_bytes: i64) -> Totals {
    Totals {
        messages: u32::try_from(messages.max(0)).unwrap_or(u32::MAX),
        size_bytes: size_bytes.max(0).unsigned_abs(),
    }
}

/// A user's number and sums of the last fold, and that fold's number, all of one moment.
fn read(connection: &Connection, key: &RecipientKey) -> rusqlite::Result<Option<(i64, Delta, i64)>> {
    connection
        .prepare_cached(
            "SELECT user.id, coalesce(messages, 0), coalesce(size_bytes, 0), coalesce(sent_messages, 0),
                 coalesce(sent_bytes, 0), coalesce((SELECT value FROM setting WHERE name = 'folds'), 0)
             FROM user LEFT JOIN usage ON usage.user = user.id WHERE tenant = ? AND address = ?",
        )?
        .query_row(params![&*key.tenant.0, &*key.address.0], |row| {
            let sums = Delta {
                messages: row.get(1)?,
                size_bytes: row.get(2)?,
                sent_messages: row.get(3)?,
                sent_bytes: row.get(4)?,
            };
            Ok((row.get(0)?, sums, row.get(5)?))
        })
        .optional()
}

fn write(connection: &Connection, deltas: &HashMap<i64, Delta>, folds: i64, through: i64) -> rusqlite::Result<()> {
    let mut in_order: Vec<(i64, Delta)> = deltas.iter().map(|(user, delta)| (*user, *delta)).collect();
    in_order.sort_unstable_by_key(|(user, _)| *user);
    let mut add = connection.prepare_cached(
        "INSERT INTO usage VALUES (?, ?, ?, ?, ?) ON CONFLICT (user) DO UPDATE SET
             messages = messages + excluded.messages, size_bytes = size_bytes + excluded.size_bytes,
             sent_messages = sent_messages + excluded.sent_messages, sent_bytes = sent_bytes + excluded.sent_bytes",
    )?;
    let mut remove = connection.prepare_cached(
        "DELETE FROM usage WHERE user = ? AND messages = 0 AND size_bytes = 0 AND sent_messages = 0 AND sent_bytes = 0",
    )?;
    for (user, delta) in in_order.into_iter().filter(|(_, delta)| *delta != Delta::default()) {
        let Delta { messages, size_bytes, sent_messages, sent_bytes } = delta;
        add.execute(params![user, messages, size_bytes, sent_messages, sent_bytes])?;
        // Who neither has anything nor sent any of what waits is not kept here.
        if messages.min(size_bytes).min(sent_messages).min(sent_bytes) < 0 {
            remove.execute([user])?;
        }
    }
    connection.execute("DELETE FROM removed", [])?;
    connection.execute("DELETE FROM moved", [])?;
    set_setting(connection, "folds", folds)?;
    set_setting(connection, "folded_through", through)
}

/// Adds up what was added and taken since the last fold.
fn recover(connection: &mut Connection, folds: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let through = setting(&transaction, "folded_through")?;
    let mut deltas: HashMap<i64, Delta> = HashMap::new();
    let mut last = through;
    {
        let mut added = transaction
            .prepare("SELECT seq, recipient, sender, kind = 0, size_bytes FROM message WHERE seq > ? ORDER BY seq")?;
        let mut rows = added.query([through])?;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            if row.get(3)? {
                note(&mut deltas, row.get(1)?, row.get(2)?, 1, row.get(4)?);
            }
        }
        let mut removed = transaction.prepare("SELECT recipient, sender, size_bytes FROM removed")?;
        let mut rows = removed.query([])?;
        while let Some(row) = rows.next()? {
            let size: i64 = row.get(2)?;
            note(&mut deltas, row.get(0)?, row.get(1)?, -1, size.saturating_neg());
        }
        let mut moved = transaction.prepare("SELECT user, messages, size_bytes FROM moved")?;
        let mut rows = moved.query([])?;
        while let Some(row) = rows.next()? {
            note_received(&mut deltas, row.get(0)?, row.get(1)?, row.get(2)?);
        }
    }
    write(&transaction, &deltas, folds + 1, last)?;
    transaction.commit()
}

/// Adds a message to, or takes it from, what its recipient received and its sender sent.
pub(super) fn note(deltas: &mut HashMap<i64, Delta>, recipient: i64, sender: i64, messages: i64, size_bytes: i64) {
    let received = Delta { messages, size_bytes, ..Delta::default() };
    let sent = Delta { sent_messages: messages, sent_bytes: size_bytes, ..Delta::default() };
    for (user, delta) in [(recipient, received), (sender, sent)] {
        let sum = deltas.entry(user).or_default();
        *sum = sum.plus(delta);
    }
}

/// Adds to what a user received alone.
pub(super) fn note_received(deltas: &mut HashMap<i64, Delta>, user: i64, messages: i64, size_bytes: i64) {
    let sum = deltas.entry(user).or_default();
    *sum = sum.plus(Delta { messages, size_bytes, ..Delta::default() });
}

fn tenants(connection: &Connection) -> rusqlite::Result<HashMap<TenantName, Totals>> {
    let mut sums = connection.prepare(
        "SELECT tenant, sum(messages), sum(size_bytes) FROM usage JOIN user ON user.id = usage.user GROUP BY tenant",
    )?;
    let rows =
        sums.query_map([], |row| Ok((TenantName(row.get::<_, String>(0)?.into()), totals(row.get(1)?, row.get(2)?))))?;
    rows.collect()
}

fn dispositions(connection: &Connection) -> rusqlite::Result<HashMap<TenantName, Totals>> {
    let mut sums = connection.prepare(
        "SELECT tenant, count(*), sum(size_bytes) FROM message INDEXED BY message_disposition
             JOIN user ON user.id = message.recipient WHERE kind = 1 GROUP BY tenant",
    )?;
    let rows =
        sums.query_map([], |row| Ok((TenantName(row.get::<_, String>(0)?.into()), totals(row.get(1)?, row.get(2)?))))?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_right_at_every_moment_of_a_fold() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages.sqlite");
        let mut connection = super::super::schema::open(&path).unwrap();
        super::super::schema::migrate(&mut connection, &path).unwrap();
        let key = key_of("t".into(), "sip:bob@example.org".into());
        let user = find_or_make(&connection, &key).unwrap();
        let users = Users::open(&mut connection, 10).unwrap();
        let add = |messages: i64| {
            let mut changed = Changed::default();
            note(&mut changed.users, user, user, messages, messages * 10);
            users.publish(changed, 1);
        };
        let sums = |connection: &Connection, cached: bool| {
            if !cached {
                users.lock().known.clear();
            }
            let (received, sent) = users.sums(connection, &key).unwrap();
            assert_eq!((received, received.size_bytes), (sent, u64::from(received.messages) * 10));
            received.messages
        };
        add(3);
        assert_eq!((sums(&connection, false), sums(&connection, true)), (3, 3), "not folded");

        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        users.fold(&connection, 1).unwrap();
        connection.execute_batch("ROLLBACK").unwrap();
        users.folded(false);
        add(1);
        assert_eq!((sums(&connection, true), sums(&connection, false)), (4, 4), "a fold failed");

        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        users.fold(&connection, 1).unwrap();
        connection.execute_batch("COMMIT").unwrap();
        add(1);
        assert_eq!((sums(&connection, true), sums(&connection, false)), (5, 5), "folded, and not known to be");
        users.folded(true);
        assert_eq!((sums(&connection, true), sums(&connection, false)), (5, 5), "folded");
        add(-2);
        assert_eq!((sums(&connection, true), sums(&connection, false)), (3, 3), "and more since");

        let fold = |connection: &Connection| {
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            users.fold(connection, 1).unwrap();
            connection.execute_batch("COMMIT").unwrap();
            users.folded(true);
            connection.query_row("SELECT count(*) FROM usage", [], |row| row.get::<_, u32>(0)).unwrap()
        };
        assert_eq!(fold(&connection), 1);
        add(-3);
        assert_eq!((fold(&connection), sums(&connection, false)), (0, 0), "nothing is kept of who has nothing");
        add(2);
        assert_eq!((fold(&connection), sums(&connection, false)), (1, 2), "and is again");
    }
}
