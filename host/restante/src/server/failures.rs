//! Sources that fail too often, within a window that begins with the first failure.
//!
//! | remembered | a further source's failures are counted |
//! |---|---|
//! | fewer sources than [`MAX_SOURCES`] | by themselves; where there are too many, those that may still try are forgotten first |
//! | as many, and all of them are kept out | together with those of its network, which is kept out as a whole |
//! | as many networks, too | the same, and the tenth of them with the fewest failures is forgotten |
//!
//! So whatever comes is counted, and a flood of sources lets nobody go on.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use restante_deferral::model::Timestamp;
use restante_sip::authentication::Origin;

/// Sources remembered.
const MAX_SOURCES: usize = 10_000;
/// So long sources are not looked through again when hardly any of them could go.
const FULL_MILLISECONDS: u64 = 1_000;
/// Networks remembered.
const MAX_NETWORKS: usize = 16_384;

/// Who fails.
pub(super) trait Source: Copy + Eq + Hash {
    /// What it belongs to.
    type Network: Copy + Eq + Hash;

    /// Of IPv4 the first 16 bits, of IPv6 the first 32: what one provider has.
    fn network(self) -> Self::Network;
}

impl Source for IpAddr {
    type Network = IpAddr;

    fn network(self) -> IpAddr {
        match self {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & 0xffff_0000)),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 96 << 96)),
        }
    }
}

impl Source for Origin {
    type Network = u32;

    fn network(self) -> u32 {
        Origin::network(self)
    }
}

/// Failures of each source within one window, which begins with the first of them.
pub(super) struct Failures<S: Source> {
    max_failures: u64,
    window_milliseconds: u64,
    sources: HashMap<S, Failing>,
    /// Until then there is no room and nothing to forget.
    full_until: u64,
    networks: HashMap<S::Network, Failing>,
}

#[derive(Clone, Copy, Default)]
struct Failing {
    since: u64,
    failures: u64,
    /// What was tried last.
    guess: Option<u64>,
}

impl<S: Source> Failures<S> {
    pub(super) fn new(max_failures: u64, window_milliseconds: u64) -> Failures<S> {
        let (sources, networks) = (HashMap::new(), HashMap::new());
        Failures { max_failures, window_milliseconds, sources, full_until: 0, networks }
    }

    /// For how many seconds a source that failed too often is to wait; none: it may try.
    pub(super) fn wait_seconds(&self, source: S, now: Timestamp) -> Option<u32> {
        let failing = self.sources.get(&source).or_else(|| self.networks.get(&source.network()));
        let failing = failing.filter(|it| it.failures >= self.max_failures)?;
        let left = failing.since.saturating_add(self.window_milliseconds).saturating_sub(now.0);
        // A clock that was set back keeps nobody out longer than one window.
        let left = left.min(self.window_milliseconds);
        Some(u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX)).filter(|seconds| *seconds > 0)
    }

    /// A source failed. How often it did in its window, or its network did, where it is counted with that.
    pub(super) fn note(&mut self, source: S, now: Timestamp) -> u64 {
        let window = self.window_milliseconds;
        self.failing(source, now).add(now, window)
    }

    /// A source failed with this. The same once more is no further guess: none, where it was counted already.
    pub(super) fn note_guess(&mut self, source: S, guess: u64, now: Timestamp) -> Option<u64> {
        let window = self.window_milliseconds;
        let failing = self.failing(source, now);
        if failing.guess == Some(guess) && !failing.is_over(now, window) {
            return None;
        }
        let failures = failing.add(now, window);
        failing.guess = Some(guess);
        Some(failures)
    }

    /// What a source failed with just now was right elsewhere: it was no failure.
    pub(super) fn withdraw(&mut self, source: S, guess: u64) {
        let failing = match self.sources.get_mut(&source) {
            Some(failing) => Some(failing),
            None => self.networks.get_mut(&source.network()),
        };
        if let Some(failing) = failing.filter(|it| it.guess == Some(guess)) {
            failing.failures = failing.failures.saturating_sub(1);
            failing.guess = None;
        }
    }

    /// What a source is counted with.
    fn failing(&mut self, source: S, now: Timestamp) -> &mut Failing {
        let begins = Failing { since: now.0, ..Failing::default() };
        if self.sources.contains_key(&source) || self.has_room(now) {
            return self.sources.entry(source).or_insert(begins);
        }
        let network = source.network();
        if self.networks.len() >= MAX_NETWORKS && !self.networks.contains_key(&network) {
            self.forget_networks(now);
        }
        self.networks.entry(network).or_insert(begins)
    }

    /// Whether one more source can be remembered.
    fn has_room(&mut self, now: Timestamp) -> bool {
        let (window, most) = (self.window_milliseconds, self.max_failures);
        if self.sources.len() < MAX_SOURCES {
            return true;
        }
        if now.0 < self.full_until && self.full_until - now.0 <= window {
            return false;
        }
        self.sources.retain(|_, failing| !failing.is_over(now, window));
        if self.sources.len() >= MAX_SOURCES {
            self.sources.retain(|_, failing| failing.failures >= most);
        }
        if self.sources.len() < MAX_SOURCES {
            // Where there is hardly any room, it is not looked for it again for every further source.
            if self.sources.len() > MAX_SOURCES / 10 * 9 {
                self.full_until = now.0.saturating_add(FULL_MILLISECONDS.min(window));
            }
            return true;
        }
        let first = self.sources.values().map(|failing| failing.since).min().unwrap_or(now.0);
        self.full_until = first.saturating_add(window);
        false
    }

    fn forget_networks(&mut self, now: Timestamp) {
        let window = self.window_milliseconds;
        let rank = |it: &Failing| (!it.is_over(now, window), it.failures, it.since);
        let mut ranks: Vec<_> = self.networks.values().map(rank).collect();
        // A share at a time: looking for the least takes long.
        let share = ranks.len() / 10;
        if share < ranks.len() {
            let (_, most, _) = ranks.select_nth_unstable(share);
            let most = *most;
            let mut left = share.max(1);
            self.networks.retain(|_, it| {
                let goes = left > 0 && rank(it) <= most;
                left -= usize::from(goes);
                !goes
            });
        }
    }
}

impl Failing {
    fn is_over(&self, now: Timestamp, window_milliseconds: u64) -> bool {
        self.since.abs_diff(now.0) >= window_milliseconds
    }

    fn add(&mut self, now: Timestamp, window_milliseconds: u64) -> u64 {
        if self.is_over(now, window_milliseconds) {
            *self = Failing { since: now.0, ..Failing::default() };
        }
        self.failures = self.failures.saturating_add(1);
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    /// Of one network, as many as are wanted.
    fn source(network: u8, number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(u32::from(network) << 24 | number & 0xffff))
    }

    /// As many as are remembered, which are all kept out.
    fn full(max_failures: u64) -> Failures<IpAddr> {
        let mut failures = Failures::new(max_failures, 10_000);
        for number in 0..MAX_SOURCES as u32 {
            for _ in 0..max_failures {
                failures.note(source(10, number), Timestamp(NOW.0 + u64::from(number % 2)));
            }
        }
        failures
    }

    #[test]
    fn who_fails_too_often_waits_until_the_window_ends() {
        let mut failures = Failures::new(2, 10_000);
        let source = source(10, 1);
        assert_eq!(failures.note(source, NOW), 1);
        assert_eq!(failures.wait_seconds(source, NOW), None);
        assert_eq!(failures.note(source, Timestamp(NOW.0 + 1)), 2);
        assert_eq!(failures.wait_seconds(source, NOW), Some(10));
        assert_eq!(failures.wait_seconds(source, Timestamp(NOW.0 + 9_999)), Some(1));
        assert_eq!(failures.wait_seconds(source, Timestamp(0)), Some(10));
        assert_eq!(failures.wait_seconds(source, Timestamp(NOW.0 + 10_000)), None);
        assert_eq!(failures.wait_seconds("192.0.2.1".parse().unwrap(), NOW), None);
        assert_eq!(failures.note(source, Timestamp(NOW.0 + 10_000)), 1, "it begins anew");
        assert_eq!(failures.wait_seconds(source, Timestamp(NOW.0 + 10_000)), None);
    }

    #[test]
    fn the_same_guess_counts_once_and_not_at_all_where_it_turns_out_right() {
        let mut failures = Failures::new(3, 10_000);
        let source = source(10, 1);
        assert_eq!(failures.note_guess(source, 7, NOW), Some(1));
        assert_eq!(failures.note_guess(source, 7, NOW), None);
        assert_eq!(failures.note_guess(source, 8, NOW), Some(2));
        failures.withdraw(source, 7);
        failures.withdraw(source, 8);
        failures.withdraw(source, 8);
        assert_eq!(failures.note_guess(source, 9, NOW), Some(2));
        assert_eq!(failures.note_guess(source, 9, Timestamp(NOW.0 + 10_000)), Some(1), "in another window");
    }

    #[test]
    fn where_all_are_kept_out_others_are_counted_by_network_until_the_first_window_ends() {
        let mut failures = full(3);
        let (one, other, elsewhere) = (source(20, 1), source(20, 2), source(30, 1));
        for (at, failed) in [(5_000, one), (5_001, other), (9_999, one)].into_iter().enumerate() {
            assert_eq!(failures.note(failed.1, Timestamp(NOW.0 + failed.0)), at as u64 + 1);
        }
        assert_eq!(failures.wait_seconds(other, Timestamp(NOW.0 + 9_999)), Some(6), "its network failed three times");
        assert_eq!(failures.wait_seconds(elsewhere, Timestamp(NOW.0 + 9_999)), None);
        assert_eq!(failures.note(elsewhere, Timestamp(NOW.0 + 10_000)), 1, "there is room again");
        assert!(failures.sources.contains_key(&elsewhere));
    }

    #[test]
    fn networks_are_bounded_and_those_that_are_kept_out_stay_so() {
        let mut failures = full(2);
        let network = |number: u32| IpAddr::V6(Ipv6Addr::from_bits(u128::from(0x2000_0000 + number) << 96 | 1));
        for _ in 0..2 {
            failures.note(network(0), NOW);
        }
        for number in 1..MAX_NETWORKS as u32 + 100 {
            assert_eq!(failures.note(network(number), NOW), 1, "everybody is counted");
        }
        assert!((MAX_NETWORKS / 10 * 9..=MAX_NETWORKS).contains(&failures.networks.len()));
        assert!(failures.wait_seconds(network(0), NOW).is_some());
        assert_eq!(failures.sources.len(), MAX_SOURCES);
    }

    #[test]
    fn a_flood_of_sources_lets_nobody_out_who_is_kept_out() {
        let mut failures = Failures::new(2, 10_000);
        for _ in 0..2 {
            failures.note(source(10, 0), NOW);
        }
        for number in 1..=2 * MAX_SOURCES as u32 {
            failures.note(source(10, number), NOW);
        }
        assert!(failures.wait_seconds(source(10, 0), NOW).is_some());
        assert!(failures.sources.len() <= MAX_SOURCES);
    }
}
