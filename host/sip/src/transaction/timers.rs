//! Timer values (RFC 3261 table 4) and the queue of those that run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Shortest interval between retransmissions, whatever T1 is: a T1 of zero must not repeat for ever at one instant.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// T1, T2, T4, and the bounds that RFC 3261 leaves to the transaction user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerValues {
    /// Round trip estimate.
    pub t1: Duration,
    /// Longest interval between retransmissions.
    pub t2: Duration,
    /// How long a message may stay in the network.
    pub t4: Duration,
    /// How long our INVITE may ring before it is cancelled: as Timer C of a proxy (RFC 3261 §16.6 item 11).
    pub ringing: Duration,
    /// How long an INVITE may wait for our final answer before it gets 500.
    pub unanswered_invite: Duration,
}

impl Default for TimerValues {
    fn default() -> Self {
        TimerValues {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            ringing: Duration::from_secs(180),
            unanswered_invite: Duration::from_secs(180),
        }
    }
}

impl TimerValues {
    /// 64·T1: Timers B, F, H, J, L and M, and D over an unreliable transport.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.t1.saturating_mul(64)
    }
}

/// A retransmission that is due some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeat {
    pub(super) at: Instant,
    interval: Duration,
}

impl Repeat {
    pub(super) fn after(now: Instant, interval: Duration) -> Repeat {
        let interval = interval.max(MIN_INTERVAL);
        Repeat { at: now + interval, interval }
    }

    /// After twice the interval.
    pub(super) fn doubled(self, now: Instant) -> Repeat {
        Repeat::after(now, self.interval.saturating_mul(2))
    }

    /// After twice the interval, but at most `longest`.
    pub(super) fn doubled_up_to(self, now: Instant, longest: Duration) -> Repeat {
        Repeat::after(now, self.interval.saturating_mul(2).min(longest))
    }
}

/// The earlier of a retransmission and a deadline.
pub(super) fn earlier(repeat: Option<Repeat>, deadline: Instant) -> Instant {
    repeat.map_or(deadline, |repeat| repeat.at.min(deadline))
}

/// Which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Client,
    Server,
}

/// When to look at which transaction. A transaction has one entry that counts, the one whose time it remembers; an
/// entry that does not count any more stays until its time and is then passed over.
#[derive(Debug)]
pub(super) struct TimerQueue {
    heap: BinaryHeap<Reverse<(Instant, Side, u64)>>,
}

impl TimerQueue {
    /// An empty one with room for so many entries.
    pub(super) fn with_capacity(entries: usize) -> TimerQueue {
        TimerQueue { heap: BinaryHeap::with_capacity(entries) }
    }

    /// Makes sure that the transaction is looked at no later than `next`.
    pub(super) fn schedule(&mut self, scheduled: &mut Option<Instant>, next: Instant, side: Side, transaction: u64) {
        if scheduled.is_none_or(|at| next < at) {
            *scheduled = Some(next);
            self.heap.push(Reverse((next, side, transaction)));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Side, u64)> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
