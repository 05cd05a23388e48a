//! Sources that fail too often, within a window that begins with the first failure.

use std::collections::HashMap;
use std::hash::Hash;

use restante_deferral::model::Timestamp;

/// Sources remembered. When there are more, those that may still try are forgotten; if none may, further ones are not noted.
const MAX_SOURCES: usize = 10_000;

/// Failures of each source within one window, which begins with the first of them.
pub(super) struct Failures<S> {
    max_failures: u64,
    window_milliseconds: u64,
    sources: HashMap<S, Failing>,
    /// Until then there is no room and nothing to forget.
    full_until: u64,
}

struct Failing {
    since: u64,
    failures: u64,
}

impl<S: Copy + Eq + Hash> Failures<S> {
    pub(super) fn new(max_failures: u64, window_milliseconds: u64) -> Failures<S> {
        Failures { max_failures, window_milliseconds, sources: HashMap::new(), full_until: 0 }
    }

    /// For how many seconds a source that failed too often is to wait; none: it may try.
    pub(super) fn wait_seconds(&self, source: S, now: Timestamp) -> Option<u32> {
        let failing = self.sources.get(&source).filter(|it| it.failures >= self.max_failures)?;
        let left = failing.since.saturating_add(self.window_milliseconds).saturating_sub(now.0);
        // A clock that was set back keeps nobody out longer than one window.
        let left = left.min(self.window_milliseconds);
        Some(u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX)).filter(|seconds| *seconds > 0)
    }

    /// A source failed. How often it did in its window; 0 when there is no room to note it.
    pub(super) fn note(&mut self, source: S, now: Timestamp) -> u64 {
        let (window, most) = (self.window_milliseconds, self.max_failures);
        let is_over = |failing: &Failing| failing.since.abs_diff(now.0) >= window;
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            if now.0 < self.full_until && self.full_until - now.0 <= window {
                return 0;
            }
            self.sources.retain(|_, failing| !is_over(failing));
            if self.sources.len() >= MAX_SOURCES {
                self.sources.retain(|_, failing| failing.failures >= most);
            }
            if self.sources.len() >= MAX_SOURCES {
                let first = self.sources.values().map(|failing| failing.since).min().unwrap_or(now.0);
                self.full_until = first.saturating_add(window);
                return 0;
            }
        }
        let failing = self.sources.entry(source).or_insert(Failing { since: now.0, failures: 0 });
        if is_over(failing) {
            *failing = Failing { since: now.0, failures: 0 };
        }
        failing.failures = failing.failures.saturating_add(1);
        failing.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_waits_until_the_window_ends() {
        let mut failures = Failures::new(2, 10_000);
        let (source, now) = (1, Timestamp(1_000_000));
        assert_eq!(failures.note(source, now), 1);
        assert_eq!(failures.wait_seconds(source, now), None);
        assert_eq!(failures.note(source, Timestamp(now.0 + 1)), 2);
        assert_eq!(failures.wait_seconds(source, now), Some(10));
        assert_eq!(failures.wait_seconds(source, Timestamp(now.0 + 9_999)), Some(1));
        assert_eq!(failures.wait_seconds(source, Timestamp(0)), Some(10));
        assert_eq!(failures.wait_seconds(source, Timestamp(now.0 + 10_000)), None);
        assert_eq!(failures.wait_seconds(2, now), None);
        assert_eq!(failures.note(source, Timestamp(now.0 + 10_000)), 1, "it begins anew");
        assert_eq!(failures.wait_seconds(source, Timestamp(now.0 + 10_000)), None);
    }

    #[test]
    fn where_all_are_kept_out_there_is_room_again_when_the_first_window_ends() {
        let mut failures = Failures::new(1, 10_000);
        let now = Timestamp(1_000_000);
        for source in 0..MAX_SOURCES as u64 {
            failures.note(source, Timestamp(now.0 + source % 2));
        }
        let further = MAX_SOURCES as u64;
        assert_eq!(failures.note(further, Timestamp(now.0 + 5_000)), 0);
        assert_eq!(failures.note(further, Timestamp(now.0 + 9_999)), 0);
        assert_eq!(failures.note(further, Timestamp(now.0 + 10_000)), 1);
    }

    #[test]
    fn a_flood_of_sources_lets_nobody_out_who_is_kept_out() {
        let mut failures = Failures::new(2, 10_000);
        let now = Timestamp(1_000_000);
        for _ in 0..2 {
            failures.note(0, now);
        }
        for source in 1..=2 * MAX_SOURCES as u64 {
            failures.note(source, now);
        }
        assert!(failures.wait_seconds(0, now).is_some());
        assert!(failures.sources.len() <= MAX_SOURCES);
    }
}
