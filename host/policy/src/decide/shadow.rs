//! A candidate that is asked what the active generation was asked, and changes nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use restante_deferral::decision::{Answer, Question, Undecided};
use serde::Serialize;

use super::Hook;
use crate::generation::Generation;

/// Differences that are remembered per hook: the first ones.
const MAX_DIFFERENCES: usize = 20;
/// Questions with more messages than this are not remembered whole: a difference keeps its question.
const MAX_REMEMBERED_MESSAGES: usize = 200;

/// A candidate, and how it compares with the active generation.
pub struct Shadow {
    candidate: Arc<Generation>,
    sample_permille: u32,
    turn: AtomicU64,
    hooks: [ShadowHook; 5],
}

#[derive(Default)]
struct ShadowHook {
    compared: AtomicU64,
    agreed: AtomicU64,
    skipped: AtomicU64,
    micros: AtomicU64,
    differences: Mutex<VecDeque<Difference>>,
}

/// One question that the two answered in different ways.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The question.
    pub question: Question,
    /// What the active generation said, and what was done.
    pub active: Result<Answer, Undecided>,
    /// What the candidate says.
    pub candidate: Result<Answer, Undecided>,
}

/// How one hook of a candidate compares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShadowCounts {
    /// The hook.
    pub hook: &'static str,
    /// Questions that both answered.
    pub compared: u64,
    /// Those that both answered in the same way.
    pub agreed: u64,
    /// Questions that the candidate was not asked: not in the sample, or there was no time.
    pub skipped: u64,
    /// Time that the candidate took in all, in microseconds.
    pub micros: u64,
}

impl Shadow {
    /// A candidate that sees so many of a thousand decisions.
    #[must_use]
    pub fn new(candidate: Arc<Generation>, sample_permille: u32) -> Shadow {
        let hooks = std::array::from_fn(|_| ShadowHook::default());
        Shadow { candidate, sample_permille: sample_permille.min(1000), turn: AtomicU64::new(0), hooks }
    }

    /// The candidate.
    #[must_use]
    pub fn candidate(&self) -> &Arc<Generation> {
        &self.candidate
    }

    /// How many of a thousand decisions it sees.
    #[must_use]
    pub fn sample_permille(&self) -> u32 {
        self.sample_permille
    }

    /// By hook, in the order of [`Hook::ALL`].
    #[must_use]
    pub fn counts(&self) -> Vec<ShadowCounts> {
        let counts = |hook: Hook| {
            let of = self.of(hook);
            ShadowCounts {
                hook: hook.name(),
                compared: of.compared.load(Ordering::Relaxed),
                agreed: of.agreed.load(Ordering::Relaxed),
                skipped: of.skipped.load(Ordering::Relaxed),
                micros: of.micros.load(Ordering::Relaxed),
            }
        };
        Hook::ALL.into_iter().map(counts).collect()
    }

    /// The first differences of this hook.
    #[must_use]
    pub fn differences(&self, hook: Hook) -> Vec<Difference> {
        self.of(hook).differences.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether the next decision is in the sample. Spread evenly, not by chance.
    pub(super) fn samples(&self, hook: Hook) -> bool {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let share = u64::from(self.sample_permille);
        let before = turn.wrapping_mul(share) / 1000;
        let is_sampled = turn.wrapping_add(1).wrapping_mul(share) / 1000 != before;
        if !is_sampled {
            self.skip(hook);
        }
        is_sampled
    }

    /// The candidate was not asked.
    pub(super) fn skip(&self, hook: Hook) {
        self.of(hook).skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Both were asked.
    pub(super) fn note(&self, hook: Hook, micros: u64, difference: impl FnOnce() -> Option<Difference>) {
        let of = self.of(hook);
        of.compared.fetch_add(1, Ordering::Relaxed);
        of.micros.fetch_add(micros, Ordering::Relaxed);
        let Some(difference) = difference() else {
            of.agreed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut differences = of.differences.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = crate::convert::message_count(&difference.question) <= MAX_REMEMBERED_MESSAGES;
        if differences.len() < MAX_DIFFERENCES && fits {
            differences.push_back(difference);
        }
    }

    fn of(&self, hook: Hook) -> &ShadowHook {
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
