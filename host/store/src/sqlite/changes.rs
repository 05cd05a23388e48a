//! What each change does to the tables.

use std::collections::HashMap;

use restante_deferral::commit::{Applied, Change, MessageState};
use restante_deferral::model::{
    Body, BodyId, MessageId, MessageKind, NewMessage, Profile, ProfileChange, RecipientKey, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params};

use super::deduplication::Deduplication;
use super::problem::Problem;
use super::schema::{DUE, EXPIRY, QUEUE};
use super::users::{self, Changed};
use super::write_queue::Order;
use super::{message_id, reader, seq_of, time};
use crate::spool::Spool;
use crate::{Outcome, Record, Saved, StoreError, codec};

/// Numbers reserved at once, so that none is ever used again although the highest rows were removed.
const RESERVED_NUMBERS: i64 = 1_000_000;

/// What follows from a commit outside of the database, once it is durable.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) changed: Changed,
    /// Messages added and taken.
    pub(super) messages: usize,
    pub(super) bodies_to_remove: Vec<BodyId>,
}

/// The writer's knowledge of the tables.
pub(super) struct Tables {
    pub(super) deduplication: Deduplication,
    spool: Spool,
    /// Numbers of users that were met.
    numbers: HashMap<RecipientKey, i64>,
    max_known: usize,
    next_seq: i64,
    reserved_until: i64,
    /// The last message that is in the folded sums.
    pub(super) folded_through: i64,
}

impl Effects {
    /// Adds what another order led to.
    pub(super) fn add(&mut self, other: Effects) {
        for (user, delta) in other.changed.users {
            let sum = self.changed.users.entry(user).or_default();
            *sum = sum.plus(delta);
        }
        for (tenant, (messages, bytes)) in other.changed.tenants {
            let sum = self.changed.tenants.entry(tenant).or_default();
            *sum = (sum.0.saturating_add(messages), sum.1.saturating_add(bytes));
        }
        for (tenant, (dispositions, bytes)) in other.changed.dispositions {
            let sum = self.changed.dispositions.entry(tenant).or_default();
            *sum = (sum.0.saturating_add(dispositions), sum.1.saturating_add(bytes));
        }
        self.messages = self.messages.saturating_add(other.messages);
        self.bodies_to_remove.extend(other.bodies_to_remove);
    }

    /// Messages came from one user's queue to another's of the same tenant.
    pub(super) fn note_moved(&mut self, from: i64, to: i64, messages: i64, size_bytes: i64) {
        self.messages = self.messages.saturating_add(1);
        users::note_received(&mut self.changed.users, from, messages.saturating_neg(), size_bytes.saturating_neg());
        users::note_received(&mut self.changed.users, to, messages, size_bytes);
    }

    /// Dispositions were added to or taken from somebody's queue.
    fn note_dispositions(&mut self, key: &RecipientKey, dispositions: i64, size_bytes: i64) {
        let sum = self.changed.dispositions.entry(key.tenant.clone()).or_default();
        *sum = (sum.0.saturating_add(dispositions), sum.1.saturating_add(size_bytes));
    }

    fn note(&mut self, key: &RecipientKey, recipient: i64, sender: i64, messages: i64, size_bytes: i64) {
        self.messages = self.messages.saturating_add(1);
        users::note(&mut self.changed.users, recipient, sender, messages, size_bytes);
        let tenant = match self.changed.tenants.get_mut(&key.tenant) {
            Some(tenant) => tenant,
            None => self.changed.tenants.entry(key.tenant.clone()).or_default(),
        };
        *tenant = (tenant.0.saturating_add(messages), tenant.1.saturating_add(size_bytes));
    }
}

impl Tables {
    pub(super) fn open(
        connection: &Connection,
        deduplication: Deduplication,
        spool: Spool,
        max_known: usize,
    ) -> rusqlite::Result<Tables> {
        Ok(Tables {
            deduplication,
            spool,
            numbers: HashMap::new(),
            max_known,
            next_seq: users::setting(connection, "reserved_until")?.saturating_add(1),
            reserved_until: 0,
            folded_through: users::setting(connection, "folded_through")?,
        })
    }

    /// The number that the next message gets.
    pub(super) fn next_seq(&self) -> i64 {
        self.next_seq
    }

    /// Numbers that were handed out are never used again, whatever rows remain.
    pub(super) fn reserve_numbers(&mut self, connection: &Connection, insertions: usize) -> rusqlite::Result<()> {
        let wanted = self.next_seq.saturating_add(i64::try_from(insertions).unwrap_or(i64::MAX));
        if wanted > self.reserved_until {
            let until = wanted.saturating_add(RESERVED_NUMBERS);
            users::set_setting(connection, "reserved_until", until)?;
            self.reserved_until = until;
        }
        Ok(())
    }

    /// After a transaction or a savepoint that was rolled back: what was read or made in it is not known any more.
    pub(super) fn forget(&mut self) {
        self.numbers.clear();
        self.reserved_until = 0;
    }

    /// Carries out one order. After an error its changes must be rolled back.
    pub(super) fn apply(
        &mut self,
        connection: &Connection,
        order: &Order,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Problem> {
        match order {
            Order::Transaction(transaction) => {
                let mut applied = Vec::with_capacity(transaction.changes.len());
                for change in &transaction.changes {
                    applied.push(self.change(connection, change, now, effects)?);
                }
                Ok(Outcome::Written(Ok(applied)))
            }
            Order::Record(user, record) => Ok(Outcome::Saved(Ok(self.save(connection, user, record, effects)?))),
            Order::SetAside(user, id) => {
                self.set_aside(connection, user, *id)?;
                Ok(Outcome::Saved(Ok(Saved::Kept)))
            }
            Order::Stop => Ok(Outcome::Saved(Ok(Saved::Kept))),
        }
    }

    fn change(
        &mut self,
        connection: &Connection,
        change: &Change,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Applied, Problem> {
        match change {
            Change::Insert(message) => return self.insert(connection, message, now, effects),
            Change::Remove { recipient, id } => self.remove(connection, recipient, *id, effects)?,
            Change::Update { recipient, id, state } => self.update(connection, recipient, *id, state)?,
            Change::WakeAt { recipient, at } => self.wake_at(connection, recipient, *at)?,
        }
        Ok(Applied::Done)
    }

    fn insert(
        &mut self,
        connection: &Connection,
        message: &NewMessage,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Applied, Problem> {
        let keys = || [Some(message.deduplication), message.deduplication_as_written].into_iter().flatten();
        let mut stored_before = None;
        for key in keys() {
            stored_before = self.deduplication.find(connection, now, key)?;
            if stored_before.is_some() {
                break;
            }
        }
        if let Some(seq) = stored_before {
            let body = connection
                .prepare_cached("SELECT body_id FROM message WHERE seq = ?")?
                .query_row([seq], |row| row.get::<_, Option<[u8; 16]>>(0))
                .optional()?;
            let kept = body.flatten().map(|id| BodyId(u128::from_be_bytes(id)));
            if let Body::Spooled { id, .. } = message.body
                && Some(id) != kept
            {
                effects.bodies_to_remove.push(id);
            }
            return Ok(Applied::Duplicate(body.is_some().then(|| message_id(seq))));
        }
        if let Body::Spooled { id, .. } = message.body
            && !self.spool.exists(id)
        {
            return Err(Problem::NoBody);
        }
        let recipient = self.number(connection, &message.recipient)?;
        let sender_key =
            RecipientKey { tenant: message.recipient.tenant.clone(), address: message.envelope.sender.address.clone() };
        let sender = self.number(connection, &sender_key)?;
        let seq = self.next_seq;
        self.next_seq = self.next_seq.saturating_add(1);
        let size_bytes = i64::try_from(message.body.size_bytes()).unwrap_or(i64::MAX);
        insert_row(connection, message, seq, (recipient, sender), size_bytes)?;
        let is_message = message.envelope.kind == MessageKind::Message;
        let order = i64::from(u8::MAX - message.priority);
        for (list, key) in [(QUEUE, order), (EXPIRY, time(message.expires_at))] {
            insert_place(connection, recipient, list, key, seq, is_message)?;
        }
        if message.hand_over_to.is_some() {
            write_fate(connection, seq, &initial_state(message))?;
        }
        keys().for_each(|key| self.deduplication.insert(key, seq));
        match is_message {
            true => effects.note(&message.recipient, recipient, sender, 1, size_bytes),
            false => effects.note_dispositions(&message.recipient, 1, size_bytes),
        }
        Ok(Applied::Inserted(message_id(seq)))
    }

    fn remove(
        &mut self,
        connection: &Connection,
        key: &RecipientKey,
        id: MessageId,
        effects: &mut Effects,
    ) -> rusqlite::Result<()> {
        let seq = seq_of(id);
        let recipient = self.number(connection, key)?;
        let row = connection
            .prepare_cached(
                "DELETE FROM message WHERE seq = ? AND recipient = ?
                 RETURNING sender, kind, size_bytes, body_id, priority, expires_at",
            )?
            .query_row(params![seq, recipient], |row| {
                let body: Option<[u8; 16]> = row.get(3)?;
                let kind = codec::kind_of(row.get(1)?).unwrap_or(MessageKind::Message);
                Ok((row.get::<_, i64>(0)?, kind, row.get::<_, i64>(2)?, body, row.get::<_, u8>(4)?, row.get(5)?))
            })
            .optional()?;
        let Some((sender, kind, size_bytes, body_id, priority, expires_at)) = row else { return Ok(()) };
        let fate: Option<(i64, Option<i64>)> = connection
            .prepare_cached("DELETE FROM fate WHERE seq = ? RETURNING expires_at, due_at")?
            .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (expires_at, due_at) = fate.unwrap_or((expires_at, None));
        delete_place(connection, recipient, QUEUE, i64::from(u8::MAX - priority), seq)?;
        delete_place(connection, recipient, EXPIRY, expires_at, seq)?;
        if let Some(due_at) = due_at {
            delete_place(connection, recipient, DUE, due_at, seq)?;
        }
        if kind == MessageKind::Message {
            effects.note(key, recipient, sender, -1, size_bytes.saturating_neg());
            if seq <= self.folded_through {
                connection
                    .prepare_cached("INSERT INTO removed VALUES (?, ?, ?, ?)")?
                    .execute(params![seq, recipient, sender, size_bytes])?;
            }
        } else {
            effects.note_dispositions(key, -1, size_bytes.saturating_neg());
        }
        effects.bodies_to_remove.extend(body_id.map(|id| BodyId(u128::from_be_bytes(id))));
        Ok(())
    }

    fn update(
        &mut self,
        connection: &Connection,
        key: &RecipientKey,
        id: MessageId,
        state: &MessageState,
    ) -> rusqlite::Result<()> {
        let seq = seq_of(id);
        let recipient = self.number(connection, key)?;
        let before = connection
            .prepare_cached(
                "SELECT kind, coalesce(fate.expires_at, message.expires_at), due_at
                 FROM message LEFT JOIN fate ON fate.seq = message.seq WHERE message.seq = ? AND recipient = ?",
            )?
            .query_row(params![seq, recipient], |row| {
                Ok((row.get::<_, u8>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?))
            })
            .optional()?;
        let Some((kind, expires_before, due_before)) = before else { return Ok(()) };
        let is_message = kind == codec::kind_number(MessageKind::Message);
        let places =
            [(EXPIRY, Some(expires_before), Some(time(state.expires_at))), (DUE, due_before, due_at(state).map(time))];
        for (list, before, after) in places.into_iter().filter(|(_, before, after)| before != after) {
            if let Some(before) = before {
                delete_place(connection, recipient, list, before, seq)?;
            }
            if let Some(after) = after {
                insert_place(connection, recipient, list, after, seq, is_message)?;
            }
        }
        write_fate(connection, seq, state)
    }

    fn wake_at(&mut self, connection: &Connection, key: &RecipientKey, at: Option<Timestamp>) -> rusqlite::Result<()> {
        let user = self.number(connection, key)?;
        match at {
            Some(at) => connection
                .prepare_cached(
                    "INSERT INTO wake VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET at = excluded.at
                     WHERE at <> excluded.at",
                )?
                .execute(params![user, time(at)])?,
            None => connection.prepare_cached("DELETE FROM wake WHERE user = ?")?.execute([user])?,
        };
        Ok(())
    }

    /// Takes a message that cannot be read out of its recipient's queue; its row stays for who can make something of it.
    fn set_aside(&mut self, connection: &Connection, key: &RecipientKey, id: MessageId) -> rusqlite::Result<()> {
        let recipient = self.number(connection, key)?;
        let places = connection
            .prepare_cached("DELETE FROM place WHERE recipient = ? AND seq = ?")?
            .execute(params![recipient, seq_of(id)])?;
        if places > 0 {
            tracing::error!(
                number = id.0,
                "a message cannot be read and is set aside; discard its number to remove it"
            );
        }
        Ok(())
    }

    fn save(
        &mut self,
        connection: &Connection,
        key: &RecipientKey,
        record: &Record,
        effects: &mut Effects,
    ) -> Result<Saved, Problem> {
        match record {
            Record::Registration(Some(registration)) => {
                let user = self.number(connection, key)?;
                connection.prepare_cached("INSERT OR REPLACE INTO registration VALUES (?, ?, ?)")?.execute(params![
                    user,
                    time(registration.expires_at),
                    registration.bytes
                ])?;
            }
            Record::Registration(None) => {
                if let Some(user) = users::find(connection, key)? {
                    connection.prepare_cached("DELETE FROM registration WHERE user = ?")?.execute([user])?;
                }
            }
            Record::Profile(profile) => {
                let user = self.number(connection, key)?;
                write_profile(connection, user, profile)?;
            }
            Record::ProfileChange(change) => {
                return self.change_profile(connection, key, change).map(Saved::Profile);
            }
            Record::Takeover(takeover) => {
                for (other, loss) in takeover.losses() {
                    self.change_profile(connection, other, &loss)?;
                }
                return self.change_profile(connection, key, &takeover.change).map(Saved::Profile);
            }
            Record::Credentials(Some(credentials)) => {
                let user = self.number(connection, key)?;
                connection
                    .prepare_cached("INSERT OR REPLACE INTO credential VALUES (?, ?)")?
                    .execute(params![user, codec::write_credentials(credentials)])?;
            }
            Record::Credentials(None) => {
                if let Some(user) = users::find(connection, key)? {
                    connection.prepare_cached("DELETE FROM credential WHERE user = ?")?.execute([user])?;
                }
            }
            Record::Adoption(adoption) => return self.adopt(connection, key, adoption, effects).map(Saved::Adopted),
        }
        Ok(Saved::Kept)
    }

    fn change_profile(
        &mut self,
        connection: &Connection,
        key: &RecipientKey,
        change: &ProfileChange,
    ) -> Result<Profile, Problem> {
        let user = self.number(connection, key)?;
        let mut profile = read_profile(connection, user)?;
        profile.change(change);
        write_profile(connection, user, &profile)?;
        Ok(profile)
    }

    /// A user's number, made when it is new.
    pub(super) fn number(&mut self, connection: &Connection, key: &RecipientKey) -> rusqlite::Result<i64> {
        if let Some(user) = self.numbers.get(key) {
            return Ok(*user);
        }
        let user = users::find_or_make(connection, key)?;
        if self.numbers.len() >= self.max_known {
            self.numbers.clear();
        }
        self.numbers.insert(key.clone(), user);
        Ok(user)
    }
}

/// A user's profile. One that cannot be read is not taken for an empty one: that would lose it.
pub(super) fn read_profile(connection: &Connection, user: i64) -> Result<Profile, Problem> {
    reader::profile(connection, user).map_err(|error| match error {
        StoreError::Database(error) => Problem::Database(error),
        error => Problem::Damaged(error.to_string()),
    })
}

pub(super) fn write_profile(connection: &Connection, user: i64, profile: &Profile) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO profile VALUES (?, ?)")?
        .execute(params![user, codec::write_profile(profile)])?;
    Ok(())
}

/// What became of a message that was just stored.
pub(super) fn initial_state(message: &NewMessage) -> MessageState {
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

fn due_at(state: &MessageState) -> Option<Timestamp> {
    [state.not_before, state.fetch_deadline].into_iter().flatten().min()
}

fn insert_row(
    connection: &Connection,
    message: &NewMessage,
    seq: i64,
    (recipient, sender): (i64, i64),
    size_bytes: i64,
) -> rusqlite::Result<()> {
    let (body_id, body) = match &message.body {
        Body::Inline(bytes) => (None, Some(bytes.as_ref())),
        Body::Spooled { id, .. } => (Some(id.0.to_be_bytes()), None),
    };
    connection
        .prepare_cached(
            "INSERT INTO message (seq, recipient, sender, deduplication, kind, priority, received_at, expires_at,
                 expiry_source, size_bytes, envelope, body_id, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            seq,
            recipient,
            sender,
            message.deduplication.0,
            codec::kind_number(message.envelope.kind),
            message.priority,
            time(message.received_at),
            time(message.expires_at),
            codec::source_number(message.expiry_source),
            size_bytes,
            codec::write_envelope(&message.envelope),
            body_id,
            body,
        ])?;
    Ok(())
}

fn insert_place(
    connection: &Connection,
    recipient: i64,
    list: u8,
    key: i64,
    seq: i64,
    is_message: bool,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO place VALUES (?, ?, ?, ?, ?)")?
        .execute(params![recipient, list, key, seq, is_message])?;
    Ok(())
}

fn delete_place(connection: &Connection, recipient: i64, list: u8, key: i64, seq: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM place WHERE recipient = ? AND list = ? AND key = ? AND seq = ?")?
        .execute(params![recipient, list, key, seq])?;
    Ok(())
}

fn write_fate(connection: &Connection, seq: i64, state: &MessageState) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT OR REPLACE INTO fate VALUES (?, ?, ?, ?)")?.execute(params![
        seq,
        time(state.expires_at),
        due_at(state).map(time),
        codec::write_state(state)
    ])?;
    Ok(())
}
