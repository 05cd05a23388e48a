//! Sources that fail too often, within a window that begins with the first failure.
//!
//! | remembered | a further source's failures are counted |
//! |---|---|
//! | fewer sources than [`MAX_SOURCES`] | by themselves; where there are too many, those that may still try are forgotten first |
//! | as many, and all of them are kept out | together with those of its network, which is kept out as a whole |
//! | as many networks, too | the same, and the tenth of them with the fewest failures is forgotten |
//!
//! So whatever comes is counted, and a flood of sources lets nobody go on.
//!
//! Who has one IPv6 network has many as a rule: each failure is counted with its site, too, of which [`SOURCES_PER_SITE`] times
//! as many are too many.

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
/// Sites remembered.
const MAX_SITES: usize = 16_384;
/// So many sources that fail too often make a site that does. Providers give each of many telephones a network of one site.
const SOURCES_PER_SITE: u64 = 64;

/// Who fails.
pub(super) trait Source: Copy + Eq + Hash {
    /// What it belongs to.
    type Network: Copy + Eq + Hash;
    /// See [`Source::site`].
    type Site: Copy + Eq + Hash;

    /// Of IPv4 the first 16 bits, of IPv6 the first 32: what one provider has.
    fn network(self) -> Self::Network;

    /// Of IPv6 the first 48 bits: what one customer has as a rule (RFC 6177). IPv4 has no such thing: the address.
    fn site(self) -> Self::Site;
}

impl Source for IpAddr {
    type Network = IpAddr;
    type Site = IpAddr;

    fn network(self) -> IpAddr {
        match self {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & 0xffff_0000)),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 96 << 96)),
        }
    }

    fn site(self) -> IpAddr {
        match self {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 80 << 80)),
            address => address,
        }
    }
}

impl Source for Origin {
    type Network = u32;
    type Site = u64;

    fn network(self) -> u32 {
        Origin::network(self)
    }

    fn site(self) -> u64 {
        Origin::site(self)
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
    sites: HashMap<S::Site, Failing>,
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
        let (sources, networks, sites) = (HashMap::new(), HashMap::new(), HashMap::new());
        Failures { max_failures, window_milliseconds, sources, full_until: 0, networks, sites }
    }

    /// For how many seconds a source that failed too often is to wait; none: it may try.
    pub(super) fn wait_seconds(&self, source: S, now: Timestamp) -> Option<u32> {
        let failing = self.sources.get(&source).or_else(|| self.networks.get(&source.network()));
        let wait = |failing: &Failing, most: u64| {
            let left = failing.since.saturating_add(self.window_milliseconds).saturating_sub(now.0);
            // A clock that was set back keeps nobody out longer than one window.
            let left = left.min(self.window_milliseconds);
            let seconds = u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX);
            (failing.failures >= most && seconds > 0).then_some(seconds)
        };
        let site = || wait(self.sites.get(&source.site())?, self.max_of_site());
        failing.and_then(|failing| wait(failing, self.max_failures)).or_else(site)
    }

    /// A source failed. How often it did in its window, or its network did, where it is counted with that; as often as is too
    /// often where its site did.
    pub(super) fn note(&mut self, source: S, now: Timestamp) -> u64 {
        let window = self.window_milliseconds;
        let failures = self.failing(source, now).add(now, window);
        if self.note_site(source, now) >= self.max_of_site() { failures.max(self.max_failures) } else { failures }
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
        self.note_site(source, now);
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
            if let Some(site) = self.sites.get_mut(&source.site()) {
                site.failures = site.failures.saturating_sub(1);
            }
        }
    }

    fn max_of_site(&self) -> u64 {
        self.max_failures.saturating_mul(SOURCES_PER_SITE)
    }

    /// How often a site failed.
    fn note_site(&mut self, source: S, now: Timestamp) -> u64 {
        let (window, site) = (self.window_milliseconds, source.site());
        if self.sites.len() >= MAX_SITES && !self.sites.contains_key(&site) {
            forget_least(&mut self.sites, now, window);
        }
        self.sites.entry(site).or_insert(Failing { since: now.0, ..Failing::default() }).add(now, window)
    }

    /// What a source is counted with.
    fn failing(&mut self, source: S, now: Timestamp) -> &mut Failing {
        let begins = Failing { since: now.0, ..Failing::default() };
        if self.sources.contains_key(&source) || self.has_room(now) {
            return self.sources.entry(source).or_insert(begins);
        }
        let network = source.network();
        if self.networks.len() >= MAX_NETWORKS && !self.networks.contains_key(&network) {
            forget_least(&mut self.networks, now, self.window_milliseconds);
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
}

/// Forgets the tenth with the fewest failures.
fn forget_least<K: Eq + Hash>(known: &mut HashMap<K, Failing>, now: Timestamp, window_milliseconds: u64) {
    let rank = |it: &Failing| (!it.is_over(now, window_milliseconds), it.failures, it.since);
    let mut ranks: Vec<_> = known.values().map(rank).collect();
    // A share at a time: looking for the least takes long.
    let share = ranks.len() / 10;
    if share < ranks.len() {
        let (_, most, _) = ranks.select_nth_unstable(share);
        let most = *most;
        let mut left = share.max(1);
        known.retain(|_, it| {
            let goes = left > 0 && rank(it) <= most;
            left -= usize::from(goes);
            !goes
        });
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
    fn a_site_that_fails_from_all_of_its_networks_is_kept_out_as_a_whole() {
        let mut failures = Failures::new(2, 10_000);
        let of_site =
            |site: u128, network: u128| IpAddr::V6(Ipv6Addr::from_bits(0x2001 << 112 | site << 80 | network << 64));
        for network in 0..SOURCES_PER_SITE as u128 {
            assert_eq!(failures.wait_seconds(of_site(7, 5_000 + network), NOW), None);
            failures.note_guess(of_site(7, network), 1, NOW);
            failures.note_guess(of_site(7, network), 1, NOW);
            failures.note_guess(of_site(7, network), 2, NOW);
        }
        assert!(failures.wait_seconds(of_site(7, 5_000), NOW).is_some(), "it guessed as often as may be");
        assert_eq!(failures.note(of_site(7, 5_001), NOW), 2, "the first is one too many");
        assert_eq!(failures.wait_seconds(of_site(8, 0), NOW), None, "another site of the same provider");
        assert_eq!(failures.note(of_site(8, 0), NOW), 1);
        let later = Timestamp(NOW.0 + 10_000);
        assert_eq!(failures.wait_seconds(of_site(7, 5_000), later), None);
        assert_eq!(failures.note(of_site(7, 5_000), later), 1);
        for site in 0..2 * MAX_SITES as u128 {
            failures.note(of_site(100 + site, 0), later);
        }
        assert!(failures.sites.len() <= MAX_SITES);
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
