//! Deduplication keys in a table per hour: what is written stays near together, and what is old goes table by table.
//!
//! A filter in memory for each hour answers "certainly not here" for nearly every new key, so that an arrival does not
//! cost a look into every hour's table.

use std::collections::BTreeMap;

use restante_deferral::model::{DeduplicationKey, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

const MILLISECONDS_PER_HOUR: u64 = 3_600_000;
/// Bits of a filter: 2 MiB, below one wrong "maybe" in a hundred up to 1.7 million keys an hour.
const FILTER_BITS: u64 = 16 * 1024 * 1024;
/// Probes per key.
const PROBES: u64 = 7;

/// The hours' tables.
#[derive(Debug)]
pub(super) struct Deduplication {
    window_hours: u64,
    hours: BTreeMap<u64, Filter>,
}

impl Deduplication {
    /// Reads the tables that are there.
    pub(super) fn open(connection: &Connection, window_hours: u64) -> rusqlite::Result<Deduplication> {
        let mut tables =
            connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'seen_%'")?;
        let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut hours = BTreeMap::new();
        for hour in names.iter().filter_map(|name| name.strip_prefix("seen_")?.parse::<u64>().ok()) {
            let mut filter = Filter::new();
            let mut keys = connection.prepare(&format!("SELECT key FROM seen_{hour}"))?;
            let mut rows = keys.query([])?;
            while let Some(row) = rows.next()? {
                filter.insert(&row.get::<_, [u8; 16]>(0)?);
            }
            hours.insert(hour, filter);
        }
        Ok(Deduplication { window_hours, hours })
    }

    /// The number of the message that was stored with this key within the window, if any.
    pub(super) fn find(
        &self,
        connection: &Connection,
        now: Timestamp,
        key: DeduplicationKey,
    ) -> rusqlite::Result<Option<i64>> {
        let oldest = hour_of(now).saturating_sub(self.window_hours);
        for (hour, filter) in self.hours.range(oldest..).rev() {
            if filter.may_contain(&key.0) {
                let mut find = connection.prepare_cached(&format!("SELECT seq FROM seen_{hour} WHERE key = ?"))?;
                if let Some(seq) = find.query_row([key.0], |row| row.get(0)).optional()? {
                    return Ok(Some(seq));
                }
            }
        }
        Ok(None)
    }

    /// Notes a key in the table of the current hour, making that when it is missing.
    pub(super) fn insert(
        &mut self,
        connection: &Connection,
        now: Timestamp,
        key: DeduplicationKey,
        seq: i64,
    ) -> rusqlite::Result<()> {
        let hour = hour_of(now);
        if !self.hours.contains_key(&hour) {
            connection.execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS seen_{hour} (key BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID"
            ))?;
            self.hours.insert(hour, Filter::new());
        }
        connection
            .prepare_cached(&format!("INSERT OR REPLACE INTO seen_{hour} VALUES (?, ?)"))?
            .execute(params![key.0, seq])?;
        if let Some(filter) = self.hours.get_mut(&hour) {
            filter.insert(&key.0);
        }
        Ok(())
    }

    /// Drops the tables whose hour has left the window; at most one a call, because dropping a large one takes time.
    pub(super) fn expire(&mut self, connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        let oldest = hour_of(now).saturating_sub(self.window_hours);
        let Some(hour) = self.hours.keys().next().copied().filter(|hour| *hour < oldest) else { return Ok(()) };
        connection.execute_batch(&format!("DROP TABLE IF EXISTS seen_{hour}"))?;
        self.hours.remove(&hour);
        Ok(())
    }

    /// After a transaction that was rolled back: the current hour's table may be gone with it. Its filter stays: it may
    /// say "maybe" for keys that were not stored, never "no" for one that was.
    pub(super) fn recover(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut exists = connection.prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = ?")?;
        let mut gone = Vec::new();
        for hour in self.hours.keys() {
            if !exists.exists([format!("seen_{hour}")])? {
                gone.push(*hour);
            }
        }
        for hour in gone {
            self.hours.remove(&hour);
        }
        Ok(())
    }
}

fn hour_of(now: Timestamp) -> u64 {
    now.0 / MILLISECONDS_PER_HOUR
}

/// A Bloom filter. Keys are digests already, so that their own bytes serve as hashes.
#[derive(Debug)]
struct Filter {
    bits: Vec<u64>,
}

impl Filter {
    fn new() -> Filter {
        Filter { bits: vec![0; (FILTER_BITS / 64) as usize] }
    }

    fn insert(&mut self, key: &[u8; 16]) {
        for probe in probes(key) {
            if let Some(word) = self.bits.get_mut((probe / 64) as usize) {
                *word |= 1 << (probe % 64);
            }
        }
    }

    fn may_contain(&self, key: &[u8; 16]) -> bool {
        probes(key)
            .all(|probe| self.bits.get((probe / 64) as usize).is_some_and(|word| word & (1 << (probe % 64)) != 0))
    }
}

fn probes(key: &[u8; 16]) -> impl Iterator<Item = u64> {
    let whole = u128::from_be_bytes(*key);
    let (one, other) = ((whole >> 64) as u64, whole as u64 | 1);
    (0..PROBES).map(move |probe| one.wrapping_add(other.wrapping_mul(probe)) % FILTER_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> DeduplicationKey {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        bytes[8..].copy_from_slice(&number.wrapping_mul(0xD134_2543_DE82_EF95).to_be_bytes());
        DeduplicationKey(bytes)
    }

    #[test]
    fn keys_are_known_for_the_window_and_not_longer() {
        let connection = Connection::open_in_memory().unwrap();
        let mut seen = Deduplication::open(&connection, 2).unwrap();
        let at = |hour: u64| Timestamp(hour * MILLISECONDS_PER_HOUR);
        seen.insert(&connection, at(10), key(1), 7).unwrap();
        for (hour, found) in [(10, Some(7)), (12, Some(7)), (13, None)] {
            assert_eq!(seen.find(&connection, at(hour), key(1)).unwrap(), found, "{hour}");
        }
        assert_eq!(seen.find(&connection, at(10), key(2)).unwrap(), None);
        let reopened = Deduplication::open(&connection, 2).unwrap();
        assert_eq!(reopened.find(&connection, at(11), key(1)).unwrap(), Some(7));
        seen.expire(&connection, at(13)).unwrap();
        assert_eq!(Deduplication::open(&connection, 9).unwrap().find(&connection, at(13), key(1)).unwrap(), None);
    }

    #[test]
    fn the_filter_is_seldom_wrong() {
        let mut filter = Filter::new();
        (0..200_000).for_each(|number| filter.insert(&key(number).0));
        assert!((0..200_000).all(|number| filter.may_contain(&key(number).0)));
        let wrong = (1_000_000..1_100_000).filter(|number| filter.may_contain(&key(*number).0)).count();
        assert!(wrong < 100, "{wrong}");
    }
}
