//! The queue in front of the writer: bounded, with room that only some may use.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use restante_deferral::commit::{Change, CommitError, Transaction};
use restante_deferral::model::{Body, MessageId, RecipientKey};

use crate::{Record, Ticket};

/// Bounds of writing.
#[derive(Clone, Copy, Debug)]
pub struct WriteLimits {
    /// Orders that wait.
    pub max_waiting: usize,
    /// Bytes of the orders that wait, what is reserved apart.
    pub max_waiting_bytes: usize,
    /// Orders beyond `max_waiting` that keep records of users.
    pub reserved_for_records: usize,
    /// Orders beyond those that settle deliveries, so that a full queue cannot stop what would empty it.
    pub reserved_for_settling: usize,
    /// Orders in one commit.
    pub max_batch: usize,
    /// Pages (4 KiB) in the WAL at which it is copied back.
    pub checkpoint_pages: u64,
    /// Pages in the WAL at which the writer itself copies it back, whoever has to wait meanwhile.
    pub max_wal_pages: u64,
    /// Bytes that the database may have, bodies in files apart; what does not fit is refused as if the disk were full.
    pub max_database_bytes: u64,
}

impl Default for WriteLimits {
    fn default() -> Self {
        WriteLimits {
            max_waiting: 16_384,
            max_waiting_bytes: 128 * 1024 * 1024,
            reserved_for_records: 2_048,
            reserved_for_settling: 4_096,
            max_batch: 2_048,
            checkpoint_pages: 50_000,
            max_wal_pages: 110_000,
            max_database_bytes: 1 << 40,
        }
    }
}

/// Bytes of the WAL that an order takes beside its own: pages of several tables, each of them whole.
const PAGES_OF_AN_ORDER_BYTES: u64 = 16 * 1024;
/// Adoptions in one commit: each may move a thousand messages, and nobody's order is to wait long behind them.
const MAX_ADOPTIONS: usize = 8;

/// What is written.
pub(super) enum Order {
    Transaction(Transaction),
    Record(RecipientKey, Record),
    /// This message cannot be read: it is not to be looked for any more. Nobody is told.
    SetAside(RecipientKey, MessageId),
    /// The thread ends when everything before this is done.
    Stop,
}

/// An order that waits.
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) order: Order,
    since: Instant,
    bytes: usize,
}

/// Between those who order and the writer.
pub(super) struct WriteQueue {
    pub(super) limits: WriteLimits,
    inner: Mutex<Inner>,
    ready: Condvar,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The oldest order of the batch that the writer works on.
    oldest_in_work: Option<Instant>,
    closed: bool,
}

impl Order {
    /// It empties the store, or keeps users reachable, without whom it could not be emptied.
    pub(super) fn may_use_the_last_room(&self) -> bool {
        match self {
            Order::Transaction(transaction) => transaction.settles,
            // An adoption makes room for nobody and rewrites what it moves.
            Order::Record(..) => !self.is_adoption(),
            Order::SetAside(..) => true,
            Order::Stop => false,
        }
    }

    fn is_adoption(&self) -> bool {
        matches!(self, Order::Record(_, Record::Adoption(_)))
    }

    pub(super) fn insertions(&self) -> usize {
        let Order::Transaction(transaction) = self else { return 0 };
        transaction.changes.iter().filter(|change| matches!(change, Change::Insert(_))).count()
    }
}

impl Waiting {
    /// What it adds to the WAL at most, about.
    pub(super) fn wal_bytes(&self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(PAGES_OF_AN_ORDER_BYTES)
    }
}

impl WriteQueue {
    pub(super) fn new(limits: WriteLimits) -> WriteQueue {
        WriteQueue { limits, inner: Mutex::default(), ready: Condvar::new() }
    }

    pub(super) fn push(&self, ticket: Ticket, order: Order) -> Result<(), CommitError> {
        let bytes = size_of_order(&order);
        let limits = &self.limits;
        let mut inner = self.lock();
        if inner.closed {
            return Err(CommitError::Failed);
        }
        let with_records = limits.max_waiting.saturating_add(limits.reserved_for_records);
        let (room, bytes_count) = match &order {
            Order::Transaction(transaction) if transaction.settles => {
                (with_records.saturating_add(limits.reserved_for_settling), false)
            }
            Order::Transaction(_) => (limits.max_waiting, true),
            Order::Record(..) | Order::SetAside(..) => (with_records, false),
            Order::Stop => (usize::MAX, false),
        };
        let total = inner.bytes.saturating_add(bytes);
        if inner.waiting.len() >= room || (bytes_count && total > limits.max_waiting_bytes) {
            return Err(CommitError::Overloaded);
        }
        inner.bytes = total;
        inner.waiting.push_back(Waiting { ticket, order, since: Instant::now(), bytes });
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    pub(super) fn oldest_age(&self) -> Duration {
        let inner = self.lock();
        let oldest = inner.oldest_in_work.or_else(|| inner.waiting.front().map(|waiting| waiting.since));
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What waits, as far as it goes into one batch; the batch before is done.
    pub(super) fn take(&self) -> Vec<Waiting> {
        let mut inner = self.lock();
        inner.oldest_in_work = None;
        while inner.waiting.is_empty() {
            inner = self.ready.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let mut adoptions = 0;
        let is_within = |waiting: &&Waiting| {
            adoptions += usize::from(waiting.order.is_adoption());
            adoptions <= MAX_ADOPTIONS
        };
        let length = inner.waiting.iter().take(self.limits.max_batch.max(1)).take_while(is_within).count();
        let batch: Vec<Waiting> = inner.waiting.drain(..length).collect();
        let bytes = batch.iter().map(|waiting| waiting.bytes).sum();
        inner.bytes = inner.bytes.saturating_sub(bytes);
        inner.oldest_in_work = batch.first().map(|waiting| waiting.since);
        batch
    }

    /// Nothing is taken any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of_order(order: &Order) -> usize {
    let size = |change: &Change| match change {
        Change::Insert(message) => match &message.body {
            Body::Inline(bytes) => bytes.len().saturating_add(1_024),
            Body::Spooled { .. } => 1_024,
        },
        _ => 256,
    };
    match order {
        Order::Transaction(transaction) => transaction.changes.iter().map(size).sum(),
        Order::Record(_, Record::Registration(Some(registration))) => registration.bytes.len().saturating_add(256),
        Order::Record(..) | Order::SetAside(..) | Order::Stop => 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queues_still_take_what_empties_them() {
        let limits =
            WriteLimits { max_waiting: 2, reserved_for_records: 1, reserved_for_settling: 1, ..WriteLimits::default() };
        let queue = WriteQueue::new(limits);
        let ticket = Ticket { shard: 0, token: 0 };
        let arrival = || Order::Transaction(Transaction::default());
        let settling = || Order::Transaction(Transaction { settles: true, ..Transaction::default() });
        let record = || {
            let user = RecipientKey {
                tenant: restante_deferral::model::TenantName("t".into()),
                address: restante_deferral::model::CanonicalAddress("a".into()),
            };
            Order::Record(user, Record::Registration(None))
        };
        let results: Vec<bool> =
            [arrival(), arrival(), arrival(), record(), record(), settling(), settling(), Order::Stop]
                .into_iter()
                .map(|order| queue.push(ticket, order).is_ok())
                .collect();
        assert_eq!(results, [true, true, false, true, false, true, false, true]);
        assert_eq!(queue.take().len(), 5);
        assert!(queue.push(ticket, arrival()).is_ok());
        queue.close();
        assert_eq!(queue.push(ticket, arrival()), Err(CommitError::Failed));
    }

    #[test]
    fn a_batch_has_few_adoptions() {
        let queue = WriteQueue::new(WriteLimits::default());
        let ticket = Ticket { shard: 0, token: 0 };
        let user = RecipientKey {
            tenant: restante_deferral::model::TenantName("t".into()),
            address: restante_deferral::model::CanonicalAddress("a".into()),
        };
        for _ in 0..20 {
            let adoption = crate::Adoption {
                alias: restante_deferral::model::CanonicalAddress("b".into()),
                is_configured: true,
                wake_at: restante_deferral::model::Timestamp(0),
            };
            let adoption = Order::Record(user.clone(), Record::Adoption(adoption));
            assert!(!adoption.may_use_the_last_room());
            assert!(queue.push(ticket, adoption).is_ok());
            assert!(queue.push(ticket, Order::Transaction(Transaction::default())).is_ok());
        }
        let sizes = [(); 3].map(|()| queue.take().len());
        assert_eq!(sizes, [16, 16, 8], "each is followed by another order");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let limits = WriteLimits { max_waiting_bytes: 2_500, ..WriteLimits::default() };
        let queue = WriteQueue::new(limits);
        let order = |settles| {
            let remove = Change::WakeAt {
                recipient: RecipientKey {
                    tenant: restante_deferral::model::TenantName("t".into()),
                    address: restante_deferral::model::CanonicalAddress("a".into()),
                },
                at: None,
            };
            Order::Transaction(Transaction { changes: vec![remove; 5], settles })
        };
        let ticket = Ticket { shard: 0, token: 0 };
        assert!(queue.push(ticket, order(false)).is_ok());
        assert_eq!(queue.push(ticket, order(false)), Err(CommitError::Overloaded));
        assert!(queue.push(ticket, order(true)).is_ok());
        queue.take();
        assert!(queue.push(ticket, order(false)).is_ok());
    }
}
