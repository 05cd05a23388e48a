//! The writer: one thread that takes whatever waits into one transaction, commits it, and tells everybody at once.
//!
//! | what goes wrong | what is done |
//! |---|---|
//! | one order cannot be carried out (its body is missing, it is too big) | the batch is begun again, each order within a savepoint: that one fails, the others do not |
//! | one order meets a damaged page, after which SQLite takes nothing more in a transaction | the batch is begun again without it |
//! | no room on the disk | the reserve is lent and the WAL copied back; what settles deliveries and keeps users reachable is tried again without the rest, which fails as [`CommitError::Full`] until there is room |
//! | no room within the bound of the database | the same with a little more than the bound, and the disk is left alone |
//! | an fsync fails | the process ends: what is on the disk is not known any more |
//! | anything else | the whole batch fails |

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use restante_deferral::commit::CommitError;
use restante_deferral::model::{BodyId, Timestamp};
use rusqlite::Connection;

use super::Clock;
use super::bound::{SizeBound, free_bytes_within};
use super::changes::{Effects, Tables};
use super::problem::Problem;
use super::reserve::{Demand, Reserve};
use super::users::Users;
use super::wal::WalKeeper;
use super::write_queue::{Order, Waiting, WriteQueue};
use crate::spool::Spool;
use crate::{Completion, Fatal, Outcome, Sink, Ticket};

/// The thread's own state.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) queue: Arc<WriteQueue>,
    pub(super) users: Arc<Users>,
    pub(super) tables: Tables,
    pub(super) sink: Sink,
    pub(super) clock: Clock,
    pub(super) wal: WalKeeper,
    pub(super) remover: BodyRemover,
    pub(super) reserve: Reserve,
    pub(super) bound: SizeBound,
    pub(super) left_out: LeftOut,
    pub(super) fatal: Fatal,
}

/// Files of bodies are removed on a thread of their own: it can take long.
pub(super) struct BodyRemover {
    pub(super) spool: Spool,
    pub(super) queue: SyncSender<BodyId>,
}

/// Orders of a batch that met damaged pages; more of them, and the whole batch fails.
const MAX_LEFT_OUT: usize = 16;

/// Which these are, by their places in the batch.
#[derive(Default)]
pub(super) struct LeftOut {
    places: Vec<usize>,
    /// The order that is being carried out.
    current: Option<usize>,
}

/// How the orders of a batch are carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// All of them, or none.
    Together,
    /// Each within a savepoint.
    Apart,
    /// The same, and only those that may use the last room.
    LastRoom,
}

impl Writer {
    /// Runs until told to stop, or until an fsync failed.
    pub(super) fn run(mut self) {
        let _end = End(self.queue.clone());
        loop {
            let mut batch = self.queue.take();
            let stop = batch.iter().position(|waiting| matches!(waiting.order, Order::Stop));
            batch.truncate(stop.unwrap_or(batch.len()));
            if !batch.is_empty() && self.commit(&batch).is_err() {
                return;
            }
            if stop.is_some() {
                return;
            }
            self.wal.keep_small(&self.connection, &self.queue.limits, !self.reserve.is_kept());
        }
    }

    /// An error means that nothing can be trusted any more.
    fn commit(&mut self, batch: &[Waiting]) -> Result<(), ()> {
        let now = (self.clock)();
        if self.tables.deduplication.wants_seal_of_an_hour(now) {
            self.keep_house(now)?;
        }
        let manner = if self.has_room_for(batch) { Manner::Together } else { Manner::LastRoom };
        self.left_out.places.clear();
        let mut result = self.try_commit(batch, now, manner);
        if manner == Manner::Together && matches!(&result, Err(problem) if problem.is_of_one_order()) {
            result = self.try_commit(batch, now, Manner::Apart);
        }
        while let (Err(problem), Some(place)) = (&result, self.left_out.current)
            && problem.is_damaged_page()
            && self.left_out.places.len() < MAX_LEFT_OUT
        {
            tracing::error!(%problem, "an order failed: the database is damaged, restore it from a backup");
            self.left_out.places.push(place);
            let manner = if manner == Manner::Together { Manner::Apart } else { manner };
            result = self.try_commit(batch, now, manner);
        }
        if let Err(problem) = result {
            result =
                if problem.is_want_of_room() { self.commit_without_room(batch, now, problem) } else { Err(problem) };
        }
        match result {
            Ok((outcomes, effects)) => {
                self.tables.deduplication.committed(now);
                self.users.publish(effects.changed, effects.messages);
                self.tell(batch, outcomes);
                self.remover.remove(effects.bodies_to_remove);
            }
            Err(problem) if problem.is_lost_sync() => return self.give_up(&problem),
            Err(problem) => {
                let error = problem.as_commit_error();
                tracing::error!(orders = batch.len(), %problem, "a commit failed");
                self.tell(batch, batch.iter().map(|waiting| failed(&waiting.order, error)).collect());
            }
        }
        if self.tables.deduplication.wants_seal(now) || self.users.wants_fold() {
            self.keep_house(now)?;
        }
        Ok(())
    }

    /// Whether messages may be stored; if not, there is room for what empties the store alone.
    fn has_room_for(&mut self, batch: &[Waiting]) -> bool {
        if self.bound.is_reached(&self.connection) {
            return false;
        }
        let demand = Demand { wal_bytes: self.wal.bytes(), batch_bytes: wal_bytes_of(batch) };
        if self.reserve.suffices(demand, || free_bytes_within(&self.connection)) {
            return true;
        }
        if !self.reserve.is_kept() {
            return false;
        }
        let is_enough = self.empty_wal_with_reserve(batch);
        if !is_enough {
            self.reserve.lend("there is no room for a longer WAL");
        }
        is_enough
    }

    /// What the reserve is kept for: its room serves to copy the WAL back, and with an empty WAL it need not be so long.
    /// Whether it is kept on.
    fn empty_wal_with_reserve(&mut self, batch: &[Waiting]) -> bool {
        let before = self.reserve.set_aside();
        let is_empty = self.wal.empty(&self.connection);
        let demand = Demand { wal_bytes: self.wal.bytes(), batch_bytes: wal_bytes_of(batch) };
        // Where somebody still reads the WAL as it was, the next commit tries it again.
        self.reserve.suffices(demand, || 0) || (!is_empty && self.reserve.put_back(before))
    }

    /// A commit failed for want of room.
    fn commit_without_room(
        &mut self,
        batch: &[Waiting],
        now: Timestamp,
        problem: Problem,
    ) -> Result<(Vec<Outcome>, Effects), Problem> {
        let has_more = batch.iter().any(|waiting| waiting.order.may_use_the_last_room());
        if problem.is_full() && self.bound.explains_full(&self.connection, wal_bytes_of(batch)) {
            if !has_more {
                return Err(problem);
            }
            match self.try_commit(batch, now, Manner::LastRoom) {
                // It was the disk after all.
                Err(problem) if problem.is_want_of_room() => {}
                result => return result,
            }
        }
        // It may be the WAL alone that has no room.
        let may_go_on = match self.reserve.is_kept() {
            true => self.empty_wal_with_reserve(batch),
            false => self.reserve.is_within() && self.wal.empty(&self.connection),
        };
        if may_go_on {
            match self.try_commit(batch, now, Manner::Apart) {
                Err(problem) if problem.is_want_of_room() => {}
                result => return result,
            }
        }
        self.reserve.lend(&problem.to_string());
        // First the room, then what needs it: afterwards the WAL begins anew.
        self.wal.empty(&self.connection);
        if has_more { self.try_commit(batch, now, Manner::LastRoom) } else { Err(problem) }
    }

    /// One transaction with the batch; rolled back when there is an error.
    fn try_commit(
        &mut self,
        batch: &[Waiting],
        now: Timestamp,
        manner: Manner,
    ) -> Result<(Vec<Outcome>, Effects), Problem> {
        let result = self.write_batch(batch, now, manner);
        if result.is_err() {
            // Some errors have rolled it back already.
            let _ = self.connection.execute_batch("ROLLBACK");
            self.tables.forget();
            self.tables.deduplication.roll_back_to(0);
        }
        result
    }

    fn write_batch(
        &mut self,
        batch: &[Waiting],
        now: Timestamp,
        manner: Manner,
    ) -> Result<(Vec<Outcome>, Effects), Problem> {
        self.left_out.current = None;
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let insertions = batch.iter().map(|waiting| waiting.order.insertions()).sum();
        self.tables.reserve_numbers(&self.connection, insertions)?;
        let mut effects = Effects::default();
        let mut outcomes = Vec::with_capacity(batch.len());
        for (place, Waiting { order, .. }) in batch.iter().enumerate() {
            self.left_out.current = Some(place);
            outcomes.push(match manner {
                _ if self.left_out.places.contains(&place) => failed(order, CommitError::Failed),
                Manner::Together => self.tables.apply(&self.connection, order, now, &mut effects)?,
                Manner::LastRoom if !order.may_use_the_last_room() => failed(order, CommitError::Full),
                Manner::Apart | Manner::LastRoom => self.apply_apart(order, now, &mut effects)?,
            });
        }
        self.left_out.current = None;
        self.tables.deduplication.write(&self.connection, now)?;
        self.connection.execute_batch("COMMIT")?;
        Ok((outcomes, effects))
    }

    fn apply_apart(&mut self, order: &Order, now: Timestamp, effects: &mut Effects) -> Result<Outcome, Problem> {
        self.connection.execute_batch("SAVEPOINT apart")?;
        let mark = self.tables.deduplication.mark();
        let mut own = Effects::default();
        let outcome = match self.tables.apply(&self.connection, order, now, &mut own) {
            Ok(outcome) => {
                effects.add(own);
                outcome
            }
            Err(problem) if problem.is_of_one_order() => {
                tracing::error!(%problem, "an order failed");
                self.connection.execute_batch("ROLLBACK TO apart")?;
                self.tables.forget();
                self.tables.deduplication.roll_back_to(mark);
                failed(order, CommitError::Failed)
            }
            Err(problem) => return Err(problem),
        };
        self.connection.execute_batch("RELEASE apart")?;
        Ok(outcome)
    }

    /// Between two batches: sorts deduplication keys into a run, folds the users' sums.
    fn keep_house(&mut self, now: Timestamp) -> Result<(), ()> {
        let through = self.tables.next_seq().saturating_sub(1);
        let folds = self.users.wants_fold();
        let seals = self.tables.deduplication.wants_seal(now);
        let connection = &self.connection;
        let result = (|| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            if folds {
                self.users.fold(connection, through)?;
            }
            let sealed = if seals { Some(self.tables.deduplication.seal(connection, now)?) } else { None };
            connection.execute_batch("COMMIT")?;
            Ok(sealed)
        })();
        if folds {
            self.users.folded(result.is_ok());
        }
        match result {
            Ok(sealed) => {
                if folds {
                    self.tables.folded_through = through;
                }
                if let Some(sealed) = sealed {
                    // A run is written once and hardly ever read: where there is no haste, its pages are not to fill the
                    // cache in the course of days.
                    if self.tables.deduplication.is_quiet() {
                        let _ = self.connection.execute_batch("PRAGMA shrink_memory");
                    }
                    self.tables.deduplication.sealed(sealed);
                }
                Ok(())
            }
            Err(error) => {
                let _ = self.connection.execute_batch("ROLLBACK");
                if seals {
                    self.tables.deduplication.not_sealed();
                }
                let problem = Problem::Database(error);
                if problem.is_lost_sync() {
                    return self.give_up(&problem);
                }
                tracing::warn!(%problem, "sums and deduplication keys could not be compacted; will be tried again");
                Ok(())
            }
        }
    }

    /// What the kernel dropped after a failed fsync cannot be known any more: nothing is said about this batch, and
    /// nothing is written after it.
    fn give_up(&self, problem: &Problem) -> Result<(), ()> {
        (self.fatal)(&format!("the database could not be made durable: {problem}"));
        Err(())
    }

    fn tell(&self, batch: &[Waiting], outcomes: Vec<Outcome>) {
        let mut shards: HashMap<usize, Vec<Completion>> = HashMap::new();
        let has_asked = |(waiting, _): &(&Waiting, Outcome)| !matches!(waiting.order, Order::SetAside(..));
        for (waiting, outcome) in batch.iter().zip(outcomes).filter(has_asked) {
            let Ticket { shard, token } = waiting.ticket;
            shards.entry(shard).or_default().push(Completion { token, outcome });
        }
        for (shard, completions) in shards {
            (self.sink)(shard, completions);
        }
    }
}

impl BodyRemover {
    fn remove(&self, bodies: Vec<BodyId>) {
        for id in bodies {
            if let Err(TrySendError::Full(id) | TrySendError::Disconnected(id)) = self.queue.try_send(id) {
                remove_body(&self.spool, id);
            }
        }
    }
}

/// Removes a body that has no row any more.
pub(super) fn remove_body(spool: &Spool, id: BodyId) {
    if let Err(error) = spool.remove(id) {
        tracing::warn!(%error, "a body file could not be removed; the next start will remove it");
    }
}

/// What a batch adds to the WAL at most, about.
fn wal_bytes_of(batch: &[Waiting]) -> u64 {
    batch.iter().map(Waiting::wal_bytes).fold(0, u64::saturating_add)
}

fn failed(order: &Order, error: CommitError) -> Outcome {
    match order {
        Order::Record(..) | Order::SetAside(..) => Outcome::Saved(Err(error)),
        Order::Transaction(_) | Order::Stop => Outcome::Written(Err(error)),
    }
}

/// However the thread ends, nothing is ordered afterwards.
struct End(Arc<WriteQueue>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.close();
    }
}
