//! What waits under one name of a user comes to the user's queue.

use restante_deferral::model::{MessageKind, Profile, RecipientKey};
use rusqlite::{Connection, OptionalExtension, params};

use super::changes::{Effects, Tables, read_profile, write_profile};
use super::problem::Problem;
use super::schema::{DUE, EXPIRY, QUEUE};
use super::{time, users};
use crate::{Adopted, Adoption, codec};

/// Messages that moved, dispositions apart, and their bytes.
#[derive(Default)]
struct Sum {
    messages: i64,
    size_bytes: i64,
}

impl Sum {
    fn add(&mut self, size_bytes: i64) {
        self.messages = self.messages.saturating_add(1);
        self.size_bytes = self.size_bytes.saturating_add(size_bytes);
    }
}

impl Tables {
    /// Carries out an [`Adoption`]. After an error its changes must be rolled back.
    pub(super) fn adopt(
        &mut self,
        connection: &Connection,
        owner: &RecipientKey,
        adoption: &Adoption,
        effects: &mut Effects,
    ) -> Result<Adopted, Problem> {
        let alias = RecipientKey { tenant: owner.tenant.clone(), address: adoption.alias.clone() };
        let Some(from) = users::find(connection, &alias)?.filter(|_| alias != *owner) else {
            return Ok(Adopted::default());
        };
        if !adoption.is_configured && !is_alias(connection, owner, &adoption.alias.0)? {
            return Ok(Adopted::default());
        }
        let to = self.number(connection, owner)?;
        let (moved, more) = self.move_messages(connection, from, to, effects)?;
        if moved > 0 {
            connection
                .prepare_cached(
                    "INSERT INTO wake VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET at = min(at, excluded.at)",
                )?
                .execute(params![to, time(adoption.wake_at)])?;
        }
        if more {
            return Ok(Adopted { messages: moved, more, changes_profile: false });
        }
        connection.prepare_cached("DELETE FROM wake WHERE user = ?")?.execute([from])?;
        let changes_profile = merge_profiles(connection, owner, from, to)?;
        Ok(Adopted { messages: moved, more, changes_profile })
    }

    /// How many went, and whether some are left.
    fn move_messages(
        &mut self,
        connection: &Connection,
        from: i64,
        to: i64,
        effects: &mut Effects,
    ) -> rusqlite::Result<(usize, bool)> {
        let limit = i64::try_from(Adoption::MAX_MESSAGES).unwrap_or(i64::MAX);
        let mut found: Vec<(i64, i64)> = connection
            .prepare_cached("SELECT key, seq FROM place WHERE recipient = ? AND list = ? ORDER BY key, seq LIMIT ?")?
            .query_map(params![from, QUEUE, limit.saturating_add(1)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let more = found.len() > Adoption::MAX_MESSAGES;
        found.truncate(Adoption::MAX_MESSAGES);
        let (mut all, mut folded) = (Sum::default(), Sum::default());
        for (order, seq) in &found {
            let (kind, size_bytes, expires_at, due_at) = give(connection, *seq, from, to)?;
            let places = [(QUEUE, Some(*order)), (EXPIRY, Some(expires_at)), (DUE, due_at)];
            for (list, key) in places.into_iter().filter_map(|(list, key)| Some((list, key?))) {
                connection
                    .prepare_cached(
                        "UPDATE place SET recipient = ? WHERE recipient = ? AND list = ? AND key = ? AND seq = ?",
                    )?
                    .execute(params![to, from, list, key, seq])?;
            }
            if kind == MessageKind::Message {
                all.add(size_bytes);
                if *seq <= self.folded_through {
                    folded.add(size_bytes);
                }
            }
        }
        if all.messages > 0 {
            effects.note_moved(from, to, all.messages, all.size_bytes);
        }
        if folded.messages > 0 {
            let mut note = connection.prepare_cached("INSERT INTO moved VALUES (?, ?, ?)")?;
            note.execute(params![from, folded.messages.saturating_neg(), folded.size_bytes.saturating_neg()])?;
            note.execute(params![to, folded.messages, folded.size_bytes])?;
        }
        Ok((found.len(), more))
    }
}

/// Makes a message another user's: its kind, size, expiry, and when it is due.
fn give(
    connection: &Connection,
    seq: i64,
    from: i64,
    to: i64,
) -> rusqlite::Result<(MessageKind, i64, i64, Option<i64>)> {
    let (kind, size_bytes, expires_at) = connection
        .prepare_cached(
            "UPDATE message SET recipient = ? WHERE seq = ? AND recipient = ? RETURNING kind, size_bytes, expires_at",
        )?
        .query_row(params![to, seq, from], |row| {
            Ok((codec::kind_of(row.get(0)?).unwrap_or(MessageKind::Message), row.get(1)?, row.get(2)?))
        })?;
    let fate = connection
        .prepare_cached("SELECT expires_at, due_at FROM fate WHERE seq = ?")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (expires_at, due_at) = fate.unwrap_or((expires_at, None));
    Ok((kind, size_bytes, expires_at, due_at))
}

fn is_alias(connection: &Connection, owner: &RecipientKey, alias: &str) -> Result<bool, Problem> {
    match users::find(connection, owner)? {
        Some(user) => Ok(read_profile(connection, user)?.aliases.iter().any(|known| known == alias)),
        None => Ok(false),
    }
}

/// The owner takes over what the name's own profile says. Whether that changed the owner's.
fn merge_profiles(connection: &Connection, owner: &RecipientKey, from: i64, to: i64) -> Result<bool, Problem> {
    let other = read_profile(connection, from)?;
    if other == Profile::default() {
        return Ok(false);
    }
    connection.prepare_cached("DELETE FROM profile WHERE user = ?")?.execute([from])?;
    let before = read_profile(connection, to)?;
    let mut profile = before.clone();
    profile.merge(&other);
    profile.aliases.retain(|alias| **alias != *owner.address.0);
    profile.registered.retain(|alias| **alias != *owner.address.0);
    if profile == before {
        return Ok(false);
    }
    write_profile(connection, to, &profile)?;
    Ok(true)
}
