//! Sources that fail too often are refused for a while.

use std::collections::HashMap;

use restante_deferral::model::Timestamp;
use restante_sip::authentication::Origin;

use super::Unauthenticated;

/// Sources remembered. When there are more, those that may still try are forgotten; if none may, further ones are not noted.
const MAX_SOURCES: usize = 10_000;

/// Failures of each source within one window, which begins with the first of them.
pub(super) struct Failures {
    max_failures: u64,
    window_milliseconds: u64,
    sources: HashMap<Origin, Failing>,
}

struct Failing {
    since: u64,
    failures: u64,
}

impl Failures {
    pub(super) fn new(max_failures: u64, window_milliseconds: u64) -> Failures {
        Failures { max_failures, window_milliseconds, sources: HashMap::new() }
    }

    /// Whether a source may try.
    pub(super) fn check(&self, source: Origin, now: Timestamp) -> Result<(), Unauthenticated> {
        let Some(failing) = self.sources.get(&source).filter(|it| it.failures >= self.max_failures) else {
            return Ok(());
        };
        let left = failing.since.saturating_add(self.window_milliseconds).saturating_sub(now.0);
        // A clock that was set back keeps nobody out longer than one window.
        let left = left.min(self.window_milliseconds);
        match u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX) {
            0 => Ok(()),
            retry_after_seconds => Err(Unauthenticated::SlowDown { retry_after_seconds }),
        }
    }

    /// A source failed. Whether that was the last time that it might.
    pub(super) fn note(&mut self, source: Origin, now: Timestamp) -> bool {
        let (window, most) = (self.window_milliseconds, self.max_failures);
        let is_over = |failing: &Failing| failing.since.abs_diff(now.0) >= window;
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            self.sources.retain(|_, failing| !is_over(failing));
            if self.sources.len() >= MAX_SOURCES {
                self.sources.retain(|_, failing| failing.failures >= most);
            }
            if self.sources.len() >= MAX_SOURCES {
                return false;
            }
        }
        let failing = self.sources.entry(source).or_insert(Failing { since: now.0, failures: 0 });
        if is_over(failing) {
            *failing = Failing { since: now.0, failures: 0 };
        }
        failing.failures = failing.failures.saturating_add(1);
        failing.failures == most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_waits_until_the_window_ends() {
        let mut failures = Failures::new(2, 10_000);
        let (source, now) = (Origin(1), Timestamp(1_000_000));
        assert!(!failures.note(source, now));
        assert_eq!(failures.check(source, now), Ok(()));
        assert!(failures.note(source, Timestamp(now.0 + 1)));
        let wait = |seconds| Err(Unauthenticated::SlowDown { retry_after_seconds: seconds });
        assert_eq!(failures.check(source, now), wait(10));
        assert_eq!(failures.check(source, Timestamp(now.0 + 9_999)), wait(1));
        assert_eq!(failures.check(source, Timestamp(0)), wait(10));
        assert_eq!(failures.check(source, Timestamp(now.0 + 10_000)), Ok(()));
        assert_eq!(failures.check(Origin(2), now), Ok(()));
        failures.note(source, Timestamp(now.0 + 10_000));
        assert_eq!(failures.check(source, Timestamp(now.0 + 10_000)), Ok(()), "it begins anew");
    }

    #[test]
    fn a_flood_of_sources_lets_nobody_out_who_is_kept_out() {
        let mut failures = Failures::new(2, 10_000);
        let now = Timestamp(1_000_000);
        for _ in 0..2 {
            failures.note(Origin(0), now);
        }
        for source in 1..=2 * MAX_SOURCES as u64 {
            failures.note(Origin(source), now);
        }
        assert!(failures.check(Origin(0), now).is_err());
        assert!(failures.sources.len() <= MAX_SOURCES);
    }
}
