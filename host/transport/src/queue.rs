//! From a receiver to a shard: bounded in items and bytes, with a lane of its own for what load must not starve.
//!
//! Many threads push without waiting; one task, on a runtime of its own in another thread, takes batches. A push wakes
//! the taker only when it sleeps, so that a burst costs one wake-up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::permit::lock;

/// Bounds of one queue, each lane having its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Items in the ordinary lane; more are [`RejectReason::Full`].
    pub max_ordinary_items: usize,
    /// Bytes of them.
    pub max_ordinary_bytes: usize,
    /// Items in the priority lane; more are [`RejectReason::Full`].
    pub max_priority_items: usize,
    /// Bytes of them.
    pub max_priority_bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        QueueLimits {
            max_ordinary_items: 8_192,
            max_ordinary_bytes: 32 * 1024 * 1024,
            max_priority_items: 8_192,
            max_priority_bytes: 32 * 1024 * 1024,
        }
    }
}

/// Which way an item goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What the taker itself ordered and what comes back of it: never refused, since there is only as much as was ordered.
    Ordered,
    /// What ends work or keeps users reachable: responses, ACK, BYE, REGISTER, failures of sockets.
    Priority,
    /// What begins work.
    Ordinary,
}

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The lane is full.
    Full,
    /// Nobody takes any more.
    Closed,
}

/// An item that was not taken, given back.
#[derive(Debug)]
pub struct Rejected<T> {
    /// The item.
    pub item: T,
    /// Why.
    pub reason: RejectReason,
}

/// The end that pushes.
#[derive(Debug)]
pub struct QueueSender<T> {
    shared: Arc<Shared<T>>,
}

/// The end that takes.
#[derive(Debug)]
pub struct QueueReceiver<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    limits: QueueLimits,
    lanes: Mutex<Lanes<T>>,
    wake: Notify,
    senders: AtomicUsize,
}

#[derive(Debug)]
struct Lanes<T> {
    ordered: LaneQueue<T>,
    priority: LaneQueue<T>,
    ordinary: LaneQueue<T>,
    /// The taker found nothing and waits.
    sleeping: bool,
    closed: bool,
}

#[derive(Debug)]
struct LaneQueue<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

/// Items for which an empty lane keeps room: what a crowd once took is given back.
const KEPT_ITEMS: usize = 512;

/// A queue.
#[must_use]
pub fn channel<T>(limits: QueueLimits) -> (QueueSender<T>, QueueReceiver<T>) {
    let lanes = Lanes {
        ordered: LaneQueue::new(),
        priority: LaneQueue::new(),
        ordinary: LaneQueue::new(),
        sleeping: false,
        closed: false,
    };
    let shared =
        Arc::new(Shared { limits, lanes: Mutex::new(lanes), wake: Notify::new(), senders: AtomicUsize::new(1) });
    (QueueSender { shared: Arc::clone(&shared) }, QueueReceiver { shared })
}

impl<T> QueueSender<T> {
    /// Adds an item that stands for `bytes`; an empty lane takes one of any size, so that none is stuck for ever.
    ///
    /// # Errors
    /// The item comes back when its lane is full or nobody takes any more.
    pub fn try_push(&self, lane: Lane, item: T, bytes: usize) -> Result<(), Rejected<T>> {
        let limits = &self.shared.limits;
        let mut lanes = lock(&self.shared.lanes);
        if lanes.closed {
            return Err(Rejected { item, reason: RejectReason::Closed });
        }
        let (queue, most_items, most_bytes) = match lane {
            Lane::Ordered => (&mut lanes.ordered, usize::MAX, usize::MAX),
            Lane::Priority => (&mut lanes.priority, limits.max_priority_items, limits.max_priority_bytes),
            Lane::Ordinary => (&mut lanes.ordinary, limits.max_ordinary_items, limits.max_ordinary_bytes),
        };
        let total = queue.bytes.saturating_add(bytes);
        if queue.items.len() >= most_items || (total > most_bytes && !queue.items.is_empty()) {
            return Err(Rejected { item, reason: RejectReason::Full });
        }
        queue.items.push_back((item, bytes));
        queue.bytes = total;
        let wake = std::mem::replace(&mut lanes.sleeping, false);
        drop(lanes);
        if wake {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Items that wait in a lane.
    #[must_use]
    pub fn len(&self, lane: Lane) -> usize {
        lock(&self.shared.lanes).lane(lane).items.len()
    }

    /// Whether a lane is empty.
    #[must_use]
    pub fn is_empty(&self, lane: Lane) -> bool {
        self.len(lane) == 0
    }

    /// Bytes that wait in a lane.
    #[must_use]
    pub fn bytes(&self, lane: Lane) -> usize {
        lock(&self.shared.lanes).lane(lane).bytes
    }
}

impl<T> QueueReceiver<T> {
    /// Waits until something is there, then moves at most `most` items to the end of `into`: what was ordered first, then the
    /// priority lane, but a quarter of the batch is the ordinary lane's if it has as many, and a quarter the priority lane's. False when nothing is left and every
    /// sender is gone. Dropping the future loses nothing.
    pub async fn pop_batch(&mut self, into: &mut Vec<T>, most: usize) -> bool {
        loop {
            {
                let mut lanes = lock(&self.shared.lanes);
                if lanes.take(into, most.max(1)) {
                    return true;
                }
                if self.shared.senders.load(Ordering::Acquire) == 0 {
                    return false;
                }
                lanes.sleeping = true;
            }
            self.shared.wake.notified().await;
        }
    }

    /// What is there now, without waiting; as [`QueueReceiver::pop_batch`] otherwise.
    pub fn try_pop_batch(&mut self, into: &mut Vec<T>, most: usize) -> bool {
        lock(&self.shared.lanes).take(into, most.max(1))
    }
}

impl<T> Lanes<T> {
    fn lane(&self, lane: Lane) -> &LaneQueue<T> {
        match lane {
            Lane::Ordered => &self.ordered,
            Lane::Priority => &self.priority,
            Lane::Ordinary => &self.ordinary,
        }
    }

    fn take(&mut self, into: &mut Vec<T>, most: usize) -> bool {
        let before = into.len();
        let kept_for_ordinary = (most / 4).min(self.ordinary.items.len());
        let kept_for_priority = (most / 4).min(self.priority.items.len());
        let mut left = most;
        left -= self.ordered.take(into, left.saturating_sub(kept_for_ordinary).saturating_sub(kept_for_priority));
        left -= self.priority.take(into, left.saturating_sub(kept_for_ordinary));
        self.ordinary.take(into, left);
        into.len() > before
    }
}

impl<T> LaneQueue<T> {
    const fn new() -> LaneQueue<T> {
        LaneQueue { items: VecDeque::new(), bytes: 0 }
    }

    fn take(&mut self, into: &mut Vec<T>, most: usize) -> usize {
        let count = most.min(self.items.len());
        for (item, bytes) in self.items.drain(..count) {
            self.bytes = self.bytes.saturating_sub(bytes);
            into.push(item);
        }
        if self.items.is_empty() && self.items.capacity() > KEPT_ITEMS {
            self.items.shrink_to(KEPT_ITEMS);
        }
        count
    }
}

impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        QueueSender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for QueueSender<T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.wake.notify_one();
        }
    }
}

impl<T> Drop for QueueReceiver<T> {
    fn drop(&mut self) {
        let mut lanes = lock(&self.shared.lanes);
        lanes.closed = true;
        let left = (
            std::mem::take(&mut lanes.ordered.items),
            std::mem::take(&mut lanes.priority.items),
            std::mem::take(&mut lanes.ordinary.items),
        );
        drop(lanes);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QueueLimits =
        QueueLimits { max_ordinary_items: 3, max_ordinary_bytes: 100, max_priority_items: 2, max_priority_bytes: 100 };

    fn is_full<T>(result: Result<(), Rejected<T>>) -> bool {
        matches!(result, Err(Rejected { reason: RejectReason::Full, .. }))
    }

    #[test]
    fn each_lane_is_bounded_in_items_and_in_bytes() {
        let (sender, mut receiver) = channel(LIMITS);
        for item in 0..3 {
            sender.try_push(Lane::Ordinary, item, 1).unwrap();
        }
        assert!(is_full(sender.try_push(Lane::Ordinary, 3, 1)), "three items");
        sender.try_push(Lane::Priority, 10, 60).unwrap();
        assert!(is_full(sender.try_push(Lane::Priority, 11, 41)), "101 bytes");
        sender.try_push(Lane::Priority, 11, 40).unwrap();
        assert_eq!((sender.bytes(Lane::Priority), sender.len(Lane::Ordinary)), (100, 3));

        let mut batch = Vec::new();
        assert!(receiver.try_pop_batch(&mut batch, 10));
        assert_eq!(batch, [10, 11, 0, 1, 2]);
        assert_eq!((sender.bytes(Lane::Priority), sender.bytes(Lane::Ordinary)), (0, 0));
        sender.try_push(Lane::Ordinary, 4, 1_000).unwrap();
        assert!(is_full(sender.try_push(Lane::Ordinary, 5, 0)));
        drop(receiver);
        assert!(matches!(
            sender.try_push(Lane::Ordinary, 5, 0),
            Err(Rejected { reason: RejectReason::Closed, item: 5 })
        ));
    }

    #[test]
    fn neither_lane_starves_the_other() {
        let (sender, mut receiver) = channel(QueueLimits::default());
        for item in 0..100 {
            sender.try_push(Lane::Ordinary, item, 0).unwrap();
            sender.try_push(Lane::Priority, item + 1_000, 0).unwrap();
        }
        let mut batch = Vec::new();
        receiver.try_pop_batch(&mut batch, 8);
        assert_eq!(batch, [1_000, 1_001, 1_002, 1_003, 1_004, 1_005, 0, 1]);
    }

    #[test]
    fn what_was_ordered_is_never_refused_and_comes_first() {
        let (sender, mut receiver) = channel(LIMITS);
        for item in 0..20 {
            sender.try_push(Lane::Ordered, item, 1_000).unwrap();
        }
        sender.try_push(Lane::Priority, 100, 1).unwrap();
        sender.try_push(Lane::Ordinary, 200, 1).unwrap();
        let mut batch = Vec::new();
        receiver.try_pop_batch(&mut batch, 8);
        assert_eq!(batch, [0, 1, 2, 3, 4, 5, 100, 200]);
    }

    #[test]
    fn a_burst_wakes_the_taker_in_another_thread_and_the_end_is_seen() {
        let (sender, mut receiver) = channel(QueueLimits::default());
        let taker = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async move {
                let mut all = Vec::new();
                let mut batches = 0;
                while receiver.pop_batch(&mut all, 512).await {
                    batches += 1;
                }
                (all, batches)
            })
        });
        let pushers: Vec<_> = (0..4)
            .map(|thread| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for number in 0..1_000 {
                        let mut item = thread * 1_000 + number;
                        while let Err(rejected) = sender.try_push(Lane::Ordinary, item, 10) {
                            item = rejected.item;
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        drop(sender);
        let (mut all, batches) = taker.join().unwrap();
        assert!(batches <= 4_000);
        for thread in 0..4 {
            let of_thread: Vec<i32> = all.iter().copied().filter(|item| item / 1_000 == thread).collect();
            assert!(of_thread.is_sorted() && of_thread.len() == 1_000, "each pusher's order is kept");
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4_000);
    }

    #[test]
    fn the_room_of_a_crowd_is_given_back() {
        let (sender, mut receiver) = channel(QueueLimits::default());
        for item in 0..2 * KEPT_ITEMS + 1 {
            sender.try_push(Lane::Ordinary, item, 1).unwrap();
        }
        let room = |receiver: &QueueReceiver<usize>| lock(&receiver.shared.lanes).ordinary.items.capacity();
        let mut batch = Vec::new();
        assert!(receiver.try_pop_batch(&mut batch, KEPT_ITEMS));
        assert!(room(&receiver) > 2 * KEPT_ITEMS, "some are left");
        assert!(receiver.try_pop_batch(&mut batch, 2 * KEPT_ITEMS));
        assert_eq!(batch.len(), 2 * KEPT_ITEMS + 1);
        assert!(room(&receiver) <= KEPT_ITEMS, "{}", room(&receiver));
    }
}
