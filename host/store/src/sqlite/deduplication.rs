//! Deduplication keys: written one after the other, found without reading what is unrelated, forgotten by the hour.
//!
//! A table with the keys as its own order would cost a page somewhere else for every message. Instead:
//!
//! | where | written | asked |
//! |---|---|---|
//! | `deduplication_log` | one row per commit with its keys in order of arrival | a map in memory holds the same |
//! | `deduplication_HOUR` | when the log has [`RUN_KEYS`] keys, is [`RUN_MILLISECONDS`] old, or the hour changes: a *run*, its keys sorted, 168 to a row | a filter in memory says "certainly not here" for nearly every new key; else one row is read |
//!
//! A row of a run has as its number the run's number (15 bits) and the first 48 bits of its first key, so that the row that
//! could hold a key is the last one that is not beyond it. Hours that left the window are removed in small bites.

use std::collections::{BTreeMap, HashMap};

use restante_deferral::model::{DeduplicationKey, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::filter::Filter;

const MILLISECONDS_PER_HOUR: u64 = 3_600_000;
/// Runs of an hour: what their numbers have room for in a row's.
const MAX_RUNS: u16 = 0x7fff;
/// Keys in a run, and in memory beside the log (48 bytes each).
const RUN_KEYS: usize = 128 * 1024;
/// After so long the log becomes a run however few its keys are: what they take beside it then depends on the rate alone and
/// not on the minute of the hour.
const RUN_MILLISECONDS: u64 = 60_000;
/// Room for keys that are sorted is made in such steps.
const SORTED_STEP: usize = 1_024;
/// Bytes of a key and its message's number in a row.
const ENTRY_BYTES: usize = 24;
/// Entries in a row: what fits a page of the database.
const ROW_ENTRIES: usize = 168;
/// Keys that share a filter, when there are so many.
const MAX_FILTER_KEYS: usize = 1_250_000;
/// Keys that the first filters of an hour are made for, in whole runs; a later one is for a quarter of what the hour has. So
/// there is room for hardly more keys than there are, and what filters take grows with them and not in leaps.
const MIN_FILTER_KEYS: usize = 16_384;
/// Runs of so many keys at most share filters of just [`MIN_FILTER_KEYS`], which are of one size and serve again.
const SMALL_RUN_KEYS: usize = MIN_FILTER_KEYS / 8;
/// Filters of that size that are made at the start, 24 KiB each: where the window has a quarter of a million keys or fewer, what
/// filters take is the same from the first message on.
const FILTERS_IN_STOCK: usize = 16;
/// Rows of an hour that left the window removed with one commit.
const ROWS_PER_BITE: i64 = 512;
/// A run that could not be written is tried again after so many more keys.
const RETRY_AFTER_KEYS: usize = 16_384;

/// A key and the number of its message.
type Entry = (u128, i64);

/// What was stored within the window.
#[derive(Debug)]
pub(super) struct Deduplication {
    window_hours: u64,
    /// What runs are read with: a filter's wrong "maybe" reads a page that is not wanted again, which is to be no page in the
    /// writer's cache. None: the writer's own connection.
    lookups: Option<Connection>,
    hours: BTreeMap<u64, Hour>,
    stock: Stock,
    /// What the log holds.
    recent: HashMap<u128, i64>,
    /// The last hour that put something into the log: after a clock that was ahead and is not any more, what the log holds
    /// counts to the hour that it showed, and is kept for so much longer. Nought when the log is empty.
    recent_hour: u64,
    /// When the first of it was put there, or read.
    recent_since: Timestamp,
    seal_at: usize,
    /// Where they are sorted for a run: kept from one run to the next, so that there are no large pieces of memory that come
    /// and go for as long as the server runs.
    sorted: Vec<Entry>,
    /// Of the transaction under way.
    pending: Vec<Entry>,
    pending_by_key: HashMap<u128, i64>,
    /// Hours that left the window and are not all removed.
    dying: Vec<u64>,
}

/// What became of the log, not committed.
pub(super) struct Sealed {
    /// The hour and number of the run that was written; none: the keys had left the window.
    run: Option<(u64, u16)>,
}

#[derive(Debug, Default)]
struct Hour {
    runs: u16,
    keys: usize,
    segments: Vec<Segment>,
}

/// Filters for [`MIN_FILTER_KEYS`] that nothing uses.
#[derive(Debug)]
struct Stock(Vec<Filter>);

/// Runs that share a filter.
#[derive(Debug)]
struct Segment {
    filter: Filter,
    capacity: usize,
    keys: usize,
    runs: std::ops::RangeInclusive<u16>,
}

impl Deduplication {
    /// Reads what is kept.
    pub(super) fn open(connection: &Connection, window_hours: u64, now: Timestamp) -> rusqlite::Result<Deduplication> {
        let mut seen = Deduplication {
            window_hours,
            lookups: None,
            hours: BTreeMap::new(),
            stock: Stock::full(),
            recent: HashMap::new(),
            recent_hour: 0,
            recent_since: now,
            seal_at: RUN_KEYS,
            sorted: Vec::new(),
            pending: Vec::new(),
            pending_by_key: HashMap::new(),
            dying: Vec::new(),
        };
        let oldest = seen.oldest(now);
        for hour in numbered_tables(connection, "deduplication_")? {
            if hour < oldest {
                seen.dying.push(hour);
            } else {
                let hour_read = Hour::read(connection, hour, &mut seen.stock)?;
                seen.hours.insert(hour, hour_read);
            }
        }
        let mut log = connection.prepare("SELECT hour, keys FROM deduplication_log ORDER BY id")?;
        let mut rows = log.query([])?;
        while let Some(row) = rows.next()? {
            seen.recent_hour = seen.recent_hour.max(row.get::<_, i64>(0)?.unsigned_abs());
            seen.recent.extend(row.get_ref(1)?.as_blob()?.chunks_exact(ENTRY_BYTES).map(entry));
        }
        Ok(seen)
    }

    /// Lets runs be read with another connection to the same database.
    pub(super) fn read_runs_with(self, lookups: Connection) -> Deduplication {
        Deduplication { lookups: Some(lookups), ..self }
    }

    /// The number of the message that was stored with this key within the window, if any.
    pub(super) fn find(
        &self,
        connection: &Connection,
        now: Timestamp,
        key: DeduplicationKey,
    ) -> rusqlite::Result<Option<i64>> {
        let key = u128::from_be_bytes(key.0);
        let oldest = self.oldest(now);
        if let Some(seq) = self.pending_by_key.get(&key) {
            return Ok(Some(*seq));
        }
        if self.recent_hour >= oldest
            && let Some(seq) = self.recent.get(&key)
        {
            return Ok(Some(*seq));
        }
        let connection = self.lookups.as_ref().unwrap_or(connection);
        for (hour, kept) in self.hours.range(oldest..).rev() {
            for segment in kept.segments.iter().rev().filter(|segment| segment.filter.may_contain(key)) {
                for run in segment.runs.clone().rev() {
                    if let Some(seq) = find_in_run(connection, *hour, run, key)? {
                        return Ok(Some(seq));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Notes a key in the transaction under way.
    pub(super) fn insert(&mut self, key: DeduplicationKey, seq: i64) {
        let key = u128::from_be_bytes(key.0);
        self.pending.push((key, seq));
        self.pending_by_key.insert(key, seq);
    }

    /// How much the transaction under way noted.
    pub(super) fn mark(&self) -> usize {
        self.pending.len()
    }

    /// Takes back what it noted after the mark.
    pub(super) fn roll_back_to(&mut self, mark: usize) {
        for (key, _) in self.pending.drain(mark.min(self.pending.len())..) {
            self.pending_by_key.remove(&key);
        }
    }

    /// Writes what the transaction under way noted, and removes a bite of what left the window.
    pub(super) fn write(&mut self, connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        if !self.pending.is_empty() {
            connection
                .prepare_cached("INSERT INTO deduplication_log (hour, keys) VALUES (?, ?)")?
                .execute(params![number(hour_of(now)), bytes_of(&self.pending)])?;
        }
        let oldest = self.oldest(now);
        while let Some(first) = self.hours.first_entry().filter(|first| *first.key() < oldest) {
            let (hour, gone) = first.remove_entry();
            self.stock.take_back(gone);
            // Twice in the list it would be looked for when it is gone.
            if !self.dying.contains(&hour) {
                self.dying.push(hour);
            }
        }
        if let Some(hour) = self.dying.last().copied() {
            // Nobody's order fails because there is nothing to remove.
            if !has_table(connection, hour)? {
                self.dying.pop();
                return Ok(());
            }
            let removed = connection
                .prepare_cached(&format!(
                    "DELETE FROM deduplication_{hour} WHERE id IN
                     (SELECT id FROM deduplication_{hour} ORDER BY id LIMIT {ROWS_PER_BITE})"
                ))?
                .execute([])?;
            if i64::try_from(removed).unwrap_or(i64::MAX) < ROWS_PER_BITE {
                connection.execute_batch(&format!("DROP TABLE deduplication_{hour}"))?;
                // If this is rolled back, the next start finds the table again.
                self.dying.pop();
            }
        }
        Ok(())
    }

    /// The transaction under way is durable.
    pub(super) fn committed(&mut self, now: Timestamp) {
        if !self.pending.is_empty() {
            self.recent_hour = self.recent_hour.max(hour_of(now));
            if self.recent.is_empty() {
                self.recent_since = now;
            }
            self.recent.extend(self.pending.drain(..));
            self.pending_by_key.clear();
        }
    }

    /// The log is long or old enough for a run, or of an hour that is over.
    pub(super) fn wants_seal(&self, now: Timestamp) -> bool {
        let is_old = now.since(self.recent_since).0 >= RUN_MILLISECONDS && self.may_seal_early();
        self.recent.len() >= self.seal_at || is_old || self.wants_seal_of_an_hour(now)
    }

    /// The log is of an hour that is over, or to come: the clock was set back.
    pub(super) fn wants_seal_of_an_hour(&self, now: Timestamp) -> bool {
        self.recent_hour != hour_of(now) && self.may_seal_early()
    }

    /// The log became old before it became long.
    pub(super) fn is_quiet(&self) -> bool {
        self.recent.len() < RUN_KEYS
    }

    /// There is something, and it did not fail lately.
    fn may_seal_early(&self) -> bool {
        !self.recent.is_empty() && self.seal_at <= RUN_KEYS
    }

    /// Writes the log as a run, in a transaction of the caller's. Keys that left the window, because nothing came for so
    /// long, are forgotten instead.
    pub(super) fn seal(&mut self, connection: &Connection, now: Timestamp) -> rusqlite::Result<Sealed> {
        self.sorted.clear();
        let run = if self.recent_hour < self.oldest(now) { None } else { Some(self.write_log_as_run(connection)?) };
        connection.execute("DELETE FROM deduplication_log", [])?;
        Ok(Sealed { run })
    }

    /// The hour and the number of the run.
    fn write_log_as_run(&mut self, connection: &Connection) -> rusqlite::Result<(u64, u16)> {
        // After a clock that was ahead and is not any more, the hour may be one that is being removed; or it is one that does
        // not end, and has all the runs that can be told apart. Then its keys are kept with the next one's, a little longer.
        let runs = |hour: &u64| self.hours.get(hour).map_or(0, |kept| kept.runs);
        let has_room = |hour: &u64| !self.dying.contains(hour) && runs(hour) < MAX_RUNS;
        let hour = (self.recent_hour..).find(has_room).unwrap_or(self.recent_hour);
        let run = self.hours.get(&hour).map_or(0, |kept| kept.runs);
        self.sorted.reserve_exact(self.recent.len().next_multiple_of(SORTED_STEP));
        self.sorted.extend(self.recent.iter().map(|(key, seq)| (*key, *seq)));
        self.sorted.sort_unstable();
        write_run(connection, hour, run, &self.sorted)?;
        Ok((hour, run))
    }

    /// That transaction is durable.
    pub(super) fn sealed(&mut self, sealed: Sealed) {
        if let Some((hour, run)) = sealed.run {
            self.hours.entry(hour).or_default().add_run(run, &self.sorted, &mut self.stock);
        }
        self.sorted.clear();
        self.recent.clear();
        self.recent_hour = 0;
        self.seal_at = RUN_KEYS;
    }

    /// That transaction failed.
    pub(super) fn not_sealed(&mut self) {
        self.seal_at = self.recent.len().saturating_add(RETRY_AFTER_KEYS);
    }

    /// The first hour of the window.
    fn oldest(&self, now: Timestamp) -> u64 {
        hour_of(now).saturating_sub(self.window_hours)
    }
}

/// Turns tables of an older form (`seen_HOUR`, a row per key) into runs.
pub(super) fn convert_hour_tables(connection: &Connection) -> rusqlite::Result<()> {
    for hour in numbered_tables(connection, "seen_")? {
        let mut keys = connection.prepare(&format!("SELECT key, seq FROM seen_{hour} ORDER BY key"))?;
        let mut rows = keys.query([])?;
        let mut entries = Vec::new();
        let mut run = 0;
        while let Some(row) = rows.next()? {
            entries.push((u128::from_be_bytes(row.get(0)?), row.get(1)?));
            if entries.len() == RUN_KEYS {
                write_run(connection, hour, run, &entries)?;
                entries.clear();
                run += 1;
            }
        }
        write_run(connection, hour, run, &entries)?;
        drop(rows);
        drop(keys);
        connection.execute_batch(&format!("DROP TABLE seen_{hour}"))?;
    }
    Ok(())
}

impl Hour {
    fn read(connection: &Connection, hour: u64, stock: &mut Stock) -> rusqlite::Result<Hour> {
        let mut kept = Hour::default();
        let mut statement = connection.prepare(&format!("SELECT id, keys FROM deduplication_{hour} ORDER BY id"))?;
        let mut rows = statement.query([])?;
        let mut current: (u16, Vec<Entry>) = (0, Vec::new());
        while let Some(row) = rows.next()? {
            let run = run_of(row.get(0)?);
            if run != current.0 {
                kept.add_run(current.0, &current.1, stock);
                current.0 = run;
                current.1.clear();
            }
            current.1.extend(row.get_ref(1)?.as_blob()?.chunks_exact(ENTRY_BYTES).map(entry));
        }
        kept.add_run(current.0, &current.1, stock);
        Ok(kept)
    }

    fn add_run(&mut self, run: u16, entries: &[Entry], stock: &mut Stock) {
        if entries.is_empty() {
            return;
        }
        self.runs = run.saturating_add(1);
        let room = |segment: &&mut Segment| segment.keys.saturating_add(entries.len()) <= segment.capacity;
        let segment = match self.segments.last_mut().filter(room) {
            Some(segment) => segment,
            None => {
                let wanted = (self.keys / 4).clamp(MIN_FILTER_KEYS, MAX_FILTER_KEYS);
                let (filter, capacity) = if wanted == MIN_FILTER_KEYS && entries.len() <= SMALL_RUN_KEYS {
                    (stock.filter(), wanted)
                } else {
                    let capacity = wanted.div_ceil(entries.len()).saturating_mul(entries.len());
                    (Filter::new(capacity), capacity)
                };
                self.segments.push(Segment { filter, capacity, keys: 0, runs: run..=run });
                let Some(segment) = self.segments.last_mut() else { return };
                segment
            }
        };
        entries.iter().for_each(|(key, _)| segment.filter.insert(*key));
        segment.keys = segment.keys.saturating_add(entries.len());
        self.keys = self.keys.saturating_add(entries.len());
        segment.runs = *segment.runs.start()..=run;
    }
}

impl Stock {
    fn full() -> Stock {
        Stock((0..FILTERS_IN_STOCK).map(|_| Filter::new(MIN_FILTER_KEYS)).collect())
    }

    /// One out of it, or a new one.
    fn filter(&mut self) -> Filter {
        self.0.pop().unwrap_or_else(|| Filter::new(MIN_FILTER_KEYS))
    }

    /// Takes back the filters of an hour that left the window, as far as there is room.
    fn take_back(&mut self, hour: Hour) {
        for mut segment in hour.segments {
            if segment.capacity == MIN_FILTER_KEYS && self.0.len() < FILTERS_IN_STOCK {
                segment.filter.clear();
                self.0.push(segment.filter);
            }
        }
    }
}

fn write_run(connection: &Connection, hour: u64, run: u16, entries: &[Entry]) -> rusqlite::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS deduplication_{hour} (id INTEGER PRIMARY KEY, keys BLOB NOT NULL)"
    ))?;
    let mut insert = connection.prepare(&format!("INSERT INTO deduplication_{hour} VALUES (?, ?)"))?;
    let mut rest = entries;
    while let Some((first, _)) = rest.first() {
        // Keys that begin alike stay in one row, or the row that could hold a key would not be one.
        let mut end = rest.len().min(ROW_ENTRIES);
        while let (Some(last), Some(next)) = (end.checked_sub(1).and_then(|last| rest.get(last)), rest.get(end))
            && beginning(last.0) == beginning(next.0)
        {
            end += 1;
        }
        let (row, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        insert.execute(params![row_id(run, *first), bytes_of(row)])?;
        rest = after;
    }
    Ok(())
}

fn find_in_run(connection: &Connection, hour: u64, run: u16, key: u128) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(&format!(
            "SELECT keys FROM deduplication_{hour} WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1"
        ))?
        .query_row([row_id(run, 0), row_id(run, key)], |row| {
            let (entries, _) = row.get_ref(0)?.as_blob()?.as_chunks::<ENTRY_BYTES>();
            let found = entries.binary_search_by_key(&key, |bytes| entry(bytes).0).ok();
            Ok(found.and_then(|index| entries.get(index)).map(|bytes| entry(bytes).1))
        })
        .optional()
        .map(Option::flatten)
}

fn has_table(connection: &Connection, hour: u64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?)")?
        .query_row([format!("deduplication_{hour}")], |row| row.get(0))
}

/// The hours for which there is a table.
fn numbered_tables(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<u64>> {
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names.iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect())
}

fn bytes_of(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|(key, seq)| key.to_be_bytes().into_iter().chain(seq.to_be_bytes())).collect()
}

fn entry(bytes: &[u8]) -> Entry {
    let (key, seq) = bytes.split_at_checked(16).unwrap_or_default();
    (key.try_into().map_or(0, u128::from_be_bytes), seq.try_into().map_or(0, i64::from_be_bytes))
}

/// The first 48 bits.
fn beginning(key: u128) -> i64 {
    (key >> 80) as i64
}

fn row_id(run: u16, first: u128) -> i64 {
    i64::from(run & 0x7fff) << 48 | beginning(first)
}

fn run_of(id: i64) -> u16 {
    (id >> 48) as u16
}

fn hour_of(now: Timestamp) -> u64 {
    now.0 / MILLISECONDS_PER_HOUR
}

fn number(hour: u64) -> i64 {
    i64::try_from(hour).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
