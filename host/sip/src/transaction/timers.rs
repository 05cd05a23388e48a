//! Timer values (RFC 3261 table 4) and the queue of those that run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// T1, T2, T4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerValues {
    /// Round trip estimate.
    pub t1: Duration,
    /// Longest interval between retransmissions.
    pub t2: Duration,
    /// How long a message may stay in the network.
    pub t4: Duration,
}

impl Default for TimerValues {
    fn default() -> Self {
        TimerValues { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl TimerValues {
    /// 64·T1: Timers B, F, H, J, L and M.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.t1.saturating_mul(64)
    }
}

/// Which timer of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A, E, G, and the 2xx of RFC 3261 §13.3.1.4.
    Retransmit,
    /// B, F, H: nothing came in time.
    Timeout,
    /// D, I, J, K, L, M: late messages were absorbed long enough.
    End,
}

/// Which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Client,
    Server,
}

/// Running timers. A timer that is not wanted any more stays until its time and is then ignored by its owner, who
/// compares `at` with what it set last.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    heap: BinaryHeap<Reverse<(Instant, Side, u64, Timer)>>,
}

impl TimerQueue {
    pub(super) fn set(&mut self, at: Instant, side: Side, transaction: u64, timer: Timer) {
        self.heap.push(Reverse((at, side, transaction, timer)));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Side, u64, Timer)> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
