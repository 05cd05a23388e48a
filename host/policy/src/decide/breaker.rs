//! Spares the threads a policy that keeps failing.
//!
//! One breaker per tenant, hook and party, so that what outsiders ask suspends nothing of the server's own. A failure
//! is the guest's own: a trap, too much time or memory, an answer that cannot be used. `err` is an answer of a working
//! policy like any other. What counts is the difference: each answer cancels one failure, down to none. That an answer
//! cannot be carried out is learnt after it counted as an answer, so it weighs two.
//!
//! | state | event | state |
//! |---|---|---|
//! | closed | failures exceed answers by [`MAX_FAILURES`] | open, for the first pause |
//! | open | the pause is over | half open: one question is a trial, the others are spared still |
//! | half open | the trial is answered | closed, one failure from open |
//! | half open | the trial fails | open, for twice as long, [`MAX_PAUSE`] at most |
//! | closed again | fails before it was forgiven everything | as if the trial had failed |
//! | any | the tenant gets another generation | closed |

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many more failures than answers open it.
const MAX_FAILURES: u32 = 5;
/// How long a policy is spared first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long it is spared at most.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `pause`: the last one, zero once it is forgiven.
    Closed {
        failures: u32,
        pause: Duration,
    },
    Open {
        until: Instant,
        pause: Duration,
    },
    HalfOpen {
        since: Instant,
        pause: Duration,
    },
}

impl Default for State {
    fn default() -> Self {
        State::Closed { failures: 0, pause: Duration::ZERO }
    }
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With an answer, `err` included.
    Answered,
    /// By the guest's own failure.
    Failed,
    /// The answer, noted before, could not be carried out.
    Unusable,
}

impl Breaker {
    /// Whether the policy may be asked now. After true, [`Self::note`] follows.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => true,
            State::Open { until, pause } if now >= until => {
                *state = State::HalfOpen { since: now, pause };
                true
            }
            // A trial whose end was never told (its thread is gone) does not keep the breaker open for ever.
            State::HalfOpen { since, pause } if now >= since + MAX_PAUSE => {
                *state = State::HalfOpen { since: now, pause };
                true
            }
            State::Open { .. } | State::HalfOpen { .. } => false,
        }
    }

    /// How a question ended that the policy was asked.
    pub(super) fn note(&self, now: Instant, ended: Ended) {
        let mut state = self.lock();
        let opened = |pause: Duration| {
            let pause = pause.saturating_mul(2).clamp(FIRST_PAUSE, MAX_PAUSE);
            State::Open { until: now + pause, pause }
        };
        *state = match (*state, ended) {
            (State::Open { .. }, _) => return,
            (State::HalfOpen { pause, .. }, Ended::Answered) => State::Closed { failures: MAX_FAILURES - 1, pause },
            (State::HalfOpen { pause, .. }, _) => opened(pause),
            (State::Closed { failures: 0 | 1, .. }, Ended::Answered) => State::default(),
            (State::Closed { failures, pause }, Ended::Answered) => State::Closed { failures: failures - 1, pause },
            (State::Closed { failures, pause }, failed) => {
                match failures.saturating_add(if failed == Ended::Unusable { 2 } else { 1 }) {
                    failures if failures < MAX_FAILURES => State::Closed { failures, pause },
                    _ => opened(pause),
                }
            }
        };
    }

    /// Another generation begins without a past.
    pub(super) fn reset(&self) {
        *self.lock() = State::default();
    }

    /// Questions are answered without the policy now.
    pub(super) fn is_open(&self) -> bool {
        !matches!(*self.lock(), State::Closed { .. })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(breaker: &Breaker, now: Instant, times: u32) {
        for _ in 0..times {
            assert!(breaker.admits(now));
            breaker.note(now, Ended::Failed);
        }
    }

    #[test]
    fn more_failures_than_answers_open_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        failing(&breaker, now, MAX_FAILURES - 1);
        breaker.note(now, Ended::Answered);
        failing(&breaker, now, 1);
        assert!(!breaker.is_open());
        failing(&breaker, now, 1);
        assert!(breaker.is_open() && !breaker.admits(now));
    }

    #[test]
    fn answers_that_cannot_be_carried_out_open_it_too() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let mut asked = 0;
        while breaker.admits(now) {
            breaker.note(now, Ended::Answered);
            breaker.note(now, Ended::Unusable);
            asked += 1;
        }
        assert!((2..=MAX_FAILURES).contains(&asked), "{asked}");
        let now = now + FIRST_PAUSE;
        assert!(breaker.admits(now));
        breaker.note(now, Ended::Answered);
        assert!(!breaker.is_open(), "so it seems");
        breaker.note(now, Ended::Unusable);
        assert!(!breaker.admits(now + FIRST_PAUSE), "the pause doubled");
    }

    #[test]
    fn one_trial_at_a_time_decides_and_pauses_double_up_to_their_bound() {
        let breaker = Breaker::default();
        let mut now = Instant::now();
        failing(&breaker, now, MAX_FAILURES);
        let mut pause = FIRST_PAUSE;
        for _ in 0..10 {
            assert!(!breaker.admits(now + pause - Duration::from_millis(1)), "{pause:?}");
            now += pause;
            assert!(breaker.admits(now), "the trial");
            assert!(!breaker.admits(now), "one is enough");
            breaker.note(now, Ended::Failed);
            pause = (pause * 2).min(MAX_PAUSE);
        }
        now += MAX_PAUSE;
        for _ in 0..MAX_FAILURES {
            assert!(breaker.admits(now));
            breaker.note(now, Ended::Answered);
        }
        failing(&breaker, now, MAX_FAILURES);
        assert!(breaker.admits(now + FIRST_PAUSE), "all was forgiven");
    }

    #[test]
    fn answers_to_questions_asked_before_do_not_close_it_and_a_lost_trial_is_repeated() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        failing(&breaker, now, MAX_FAILURES);
        breaker.note(now, Ended::Answered);
        assert!(breaker.is_open());
        assert!(breaker.admits(now + FIRST_PAUSE));
        assert!(breaker.admits(now + FIRST_PAUSE + MAX_PAUSE));
        breaker.reset();
        assert!(breaker.admits(now));
    }
}
