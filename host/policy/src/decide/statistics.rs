//! What policies did, counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use restante_deferral::decision::{Question, Undecided};
use restante_deferral::model::TenantName;
use serde::{Deserialize, Serialize};

use super::breaker::Breaker;

/// A hook that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hook {
    /// `on-incoming`
    #[serde(rename = "on-incoming")]
    Incoming,
    /// `on-available`
    #[serde(rename = "on-available")]
    Available,
    /// `on-pull`
    #[serde(rename = "on-pull")]
    Pull,
    /// `on-failure`
    #[serde(rename = "on-failure")]
    Failure,
    /// `on-expiry`
    #[serde(rename = "on-expiry")]
    Expiry,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Hook; 5] = [Hook::Incoming, Hook::Available, Hook::Pull, Hook::Failure, Hook::Expiry];

    /// Which hook answers this question.
    #[must_use]
    pub fn of(question: &Question) -> Hook {
        match question {
            Question::Incoming(..) => Hook::Incoming,
            Question::Available(..) => Hook::Available,
            Question::Pull(..) => Hook::Pull,
            Question::Failure(..) => Hook::Failure,
            Question::Expiry(..) => Hook::Expiry,
        }
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// Its name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Hook::Incoming => "on-incoming",
            Hook::Available => "on-available",
            Hook::Pull => "on-pull",
            Hook::Failure => "on-failure",
            Hook::Expiry => "on-expiry",
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The server, about a user and messages of its own.
    Server,
    /// Somebody outside, about whatever was said there: that a policy fails at it says nothing of the server's questions.
    Outsider,
}

impl Party {
    /// Both.
    pub(super) const ALL: [Party; 2] = [Party::Server, Party::Outsider];
}

/// What one hook of one tenant's policy did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookStatistics {
    /// Which.
    pub hook: Hook,
    /// Questions that it was asked, those without an answer included.
    pub asked: u64,
    /// Time that it took, in microseconds.
    pub total_micros: u64,
    /// `err`, or no policy at all.
    pub declined: u64,
    /// Traps.
    pub trapped: u64,
    /// Beyond the deadline.
    pub timed_out: u64,
    /// Memory denied.
    pub out_of_memory: u64,
    /// Never asked: too many questions waited.
    pub overloaded: u64,
    /// An answer that cannot be read, or not be carried out.
    pub impossible: u64,
    /// Not asked: it failed too often.
    pub suspended: u64,
    /// Not asked now.
    pub is_suspended: bool,
    /// Not asked now for outsiders.
    pub is_suspended_for_outsiders: bool,
}

/// What one tenant's policy did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantStatistics {
    /// Whose.
    pub tenant: TenantName,
    /// Questions that wait now.
    pub waiting: usize,
    /// Log lines that were dropped.
    pub dropped_lines: u64,
    /// By hook, in the order of [`Hook::ALL`].
    pub hooks: [HookStatistics; 5],
}

/// Counters that many threads raise.
#[derive(Default)]
pub(crate) struct Counters {
    hooks: [HookCounters; 5],
    dropped_lines: AtomicU64,
}

#[derive(Default)]
struct HookCounters {
    asked: AtomicU64,
    total_micros: AtomicU64,
    declined: AtomicU64,
    trapped: AtomicU64,
    timed_out: AtomicU64,
    out_of_memory: AtomicU64,
    overloaded: AtomicU64,
    impossible: AtomicU64,
    suspended: AtomicU64,
    breaker: Breaker,
    breaker_of_outsiders: Breaker,
}

impl Counters {
    /// A question came to an end.
    pub(super) fn decided(&self, hook: Hook, took: Duration, undecided: Option<Undecided>) {
        let counters = self.of(hook);
        add(&counters.asked, 1);
        add(&counters.total_micros, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let failure = match undecided {
            None => return,
            Some(Undecided::Declined) => &counters.declined,
            Some(Undecided::Trapped) => &counters.trapped,
            Some(Undecided::TimedOut) => &counters.timed_out,
            Some(Undecided::OutOfMemory) => &counters.out_of_memory,
            Some(Undecided::Overloaded) => &counters.overloaded,
            Some(Undecided::Impossible) => &counters.impossible,
            Some(Undecided::Suspended) => &counters.suspended,
        };
        add(failure, 1);
    }

    /// An answer that was taken could not be carried out.
    pub(super) fn unusable(&self, hook: Hook) {
        add(&self.of(hook).impossible, 1);
    }

    /// What spares the threads this hook of a policy that keeps failing at a party's questions.
    pub(super) fn breaker(&self, hook: Hook, party: Party) -> &Breaker {
        match party {
            Party::Server => &self.of(hook).breaker,
            Party::Outsider => &self.of(hook).breaker_of_outsiders,
        }
    }

    /// A question was not taken.
    pub(super) fn refused(&self, hook: Hook) {
        self.decided(hook, Duration::ZERO, Some(Undecided::Overloaded));
    }

    /// A guest wrote more than it may.
    pub(super) fn dropped_line(&self) {
        add(&self.dropped_lines, 1);
    }

    pub(super) fn snapshot(&self, tenant: TenantName, waiting: usize) -> TenantStatistics {
        let hooks = Hook::ALL.map(|hook| {
            let counters = self.of(hook);
            let is_suspended = counters.breaker.is_open();
            HookStatistics {
                hook,
                asked: counters.asked.load(Ordering::Relaxed),
                total_micros: counters.total_micros.load(Ordering::Relaxed),
                declined: counters.declined.load(Ordering::Relaxed),
                trapped: counters.trapped.load(Ordering::Relaxed),
                timed_out: counters.timed_out.load(Ordering::Relaxed),
                out_of_memory: counters.out_of_memory.load(Ordering::Relaxed),
                overloaded: counters.overloaded.load(Ordering::Relaxed),
                impossible: counters.impossible.load(Ordering::Relaxed),
                suspended: counters.suspended.load(Ordering::Relaxed),
                is_suspended,
                is_suspended_for_outsiders: is_suspended || counters.breaker_of_outsiders.is_open(),
            }
        });
        TenantStatistics { tenant, waiting, dropped_lines: self.dropped_lines.load(Ordering::Relaxed), hooks }
    }

    fn of(&self, hook: Hook) -> &HookCounters {
        let [incoming, available, pull, failure, expiry] = &self.hooks;
        match hook {
            Hook::Incoming => incoming,
            Hook::Available => available,
            Hook::Pull => pull,
            Hook::Failure => failure,
            Hook::Expiry => expiry,
        }
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
