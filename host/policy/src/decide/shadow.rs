//! A candidate that is asked what the active generation was asked, and changes nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use restante_deferral::decision::{Question, Undecided};

use crate::generation::Generation;
use crate::record::{Comparison, Outcome, feasible};

/// Examples that are kept of each kind of difference.
const MAX_EXAMPLES: usize = 3;

/// A candidate, and how it compares with the active generation.
pub struct Shadow {
    candidate: Arc<Generation>,
    sample_permille: u32,
    turn: AtomicU64,
    skipped: AtomicU64,
    asked: AtomicU64,
    micros: AtomicU64,
    comparison: Mutex<Comparison>,
}

/// How often a candidate was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// Questions that it was asked.
    pub asked: u64,
    /// Questions that it was not asked: not in the sample, or there was no time.
    pub skipped: u64,
    /// Time that it took in all, in microseconds.
    pub micros: u64,
}

impl Shadow {
    /// A candidate that sees so many of a thousand decisions.
    #[must_use]
    pub fn new(candidate: Arc<Generation>, sample_permille: u32) -> Shadow {
        Shadow {
            candidate,
            sample_permille: sample_permille.min(1000),
            turn: AtomicU64::default(),
            skipped: AtomicU64::default(),
            asked: AtomicU64::default(),
            micros: AtomicU64::default(),
            comparison: Mutex::new(Comparison::new(MAX_EXAMPLES)),
        }
    }

    /// The candidate.
    #[must_use]
    pub fn candidate(&self) -> &Arc<Generation> {
        &self.candidate
    }

    /// How often it was asked.
    #[must_use]
    pub fn counts(&self) -> ShadowCounts {
        ShadowCounts {
            asked: self.asked.load(Ordering::Acquire),
            skipped: self.skipped.load(Ordering::Relaxed),
            micros: self.micros.load(Ordering::Relaxed),
        }
    }

    /// How it compares, as far as it was asked.
    #[must_use]
    pub fn comparison(&self) -> Comparison {
        self.comparison.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the next decision is in the sample.
    pub(super) fn samples(&self) -> bool {
        let is_sampled = in_sample(&self.turn, self.sample_permille);
        if !is_sampled {
            self.skip();
        }
        is_sampled
    }

    /// It was not asked.
    pub(super) fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Both were asked. An answer that could not be carried out counts as none, as it would.
    pub(super) fn note(&self, question: &Question, active: Outcome, candidate: Outcome, micros: u64) {
        let judged = |outcome: Outcome| match outcome {
            Ok(answer) if feasible(question, &answer, self.candidate.host()).is_err() => Err(Undecided::Impossible),
            outcome => outcome,
        };
        let (active, candidate) = (judged(active), judged(candidate));
        self.comparison.lock().unwrap_or_else(PoisonError::into_inner).add(question, &active, &candidate);
        // Last: who sees it counted finds it compared.
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.asked.fetch_add(1, Ordering::Release);
    }
}

/// Whether the next of many is in a sample of so many of a thousand: spread evenly, not by chance.
#[must_use]
pub fn in_sample(turn: &AtomicU64, permille: u32) -> bool {
    // Before it wraps, the sun has burnt out.
    let turn = turn.fetch_add(1, Ordering::Relaxed) % 1000;
    let share = u64::from(permille.min(1000));
    (turn + 1) * share / 1000 != turn * share / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_as_large_as_was_asked_and_spread() {
        for permille in [0, 1, 10, 333, 500, 999, 1000] {
            let turn = AtomicU64::default();
            let sampled: Vec<bool> = (0..2000).map(|_| in_sample(&turn, permille)).collect();
            assert_eq!(sampled.iter().filter(|it| **it).count(), permille as usize * 2, "{permille}");
            let first_hundred = sampled.iter().take(100).filter(|it| **it).count();
            assert!(first_hundred.abs_diff(permille as usize / 10) <= 1, "{permille}: {first_hundred}");
        }
    }
}
