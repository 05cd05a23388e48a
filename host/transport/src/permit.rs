//! Counted admission of connections, and of handshakes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Sources that can be kept out at once.
const MAX_SHUT_OUT: usize = 10_000;
/// Of an IPv6 address what is one source, and what is one site of sources, which has no more than a /48 as a rule (RFC 6177).
const SOURCE_BITS: u8 = 64;
const SITE_BITS: u8 = 48;
/// Of what one source may have, so many times as much for all of a site.
const SOURCES_PER_SITE: usize = 4;
/// Of the connections of one listener, the part that one source may have, and one site: others come, too. But at least so many.
const LISTENER_SHARE: usize = 4;
const LEAST_SHARE: usize = 16;

/// Locks even when another thread panicked while it held the lock: what is kept under our locks is valid at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections by source, shared by all listeners. A source is an IPv4 address or the /64 network of an IPv6 address,
/// which is what one host usually has to itself. Who has many of those is of one /48 network as a rule, which is counted, too.
#[derive(Debug)]
pub(crate) struct Sources {
    most_per_source: usize,
    counts: Mutex<Counts>,
    shut_out: Mutex<HashMap<IpAddr, Instant>>,
}

/// An address and the bits of it that count.
pub(crate) type Network = (IpAddr, u8);

/// How many there are of each network.
#[derive(Debug, Default)]
struct Counts(HashMap<Network, usize>);

/// Connections of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    most: usize,
    open: Arc<Open>,
    sources: Arc<Sources>,
}

#[derive(Debug, Default)]
struct Open {
    all: AtomicUsize,
    counts: Mutex<Counts>,
}

/// The right to keep one connection; it ends when this is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    source: IpAddr,
    open: Arc<Open>,
    sources: Arc<Sources>,
}

impl Counts {
    fn of(&self, network: Network) -> usize {
        self.0.get(&network).copied().unwrap_or(0)
    }

    fn raise(&mut self, source: IpAddr) {
        for (network, _) in networks_of(source) {
            let count = self.0.entry(network).or_default();
            *count = count.saturating_add(1);
        }
    }

    fn lower(&mut self, source: IpAddr) {
        for (network, _) in networks_of(source) {
            match self.0.get_mut(&network) {
                Some(count) if *count > 1 => *count -= 1,
                _ => _ = self.0.remove(&network),
            }
        }
    }
}

impl Sources {
    pub(crate) fn new(most_per_source: usize) -> Arc<Sources> {
        Arc::new(Sources { most_per_source, counts: Mutex::default(), shut_out: Mutex::default() })
    }

    /// Admits a source no more until then. Whether it was admitted up to now. Where as many are kept out as can be remembered,
    /// the one whose time is over first is let in for it.
    pub(crate) fn shut_out(&self, source: IpAddr, now: Instant, until: Instant) -> bool {
        let mut shut_out = lock(&self.shut_out);
        let source = source_of(source);
        if shut_out.len() >= MAX_SHUT_OUT && !shut_out.contains_key(&source) {
            shut_out.retain(|_, until| *until > now);
            if shut_out.len() >= MAX_SHUT_OUT
                && let Some(first) = shut_out.iter().min_by_key(|(_, until)| **until).map(|(source, _)| *source)
            {
                shut_out.remove(&first);
            }
        }
        shut_out.insert(source, until).is_none_or(|until| until <= now)
    }

    fn is_shut_out(&self, source: IpAddr, now: Instant) -> bool {
        let mut shut_out = lock(&self.shut_out);
        match shut_out.get(&source) {
            Some(until) if *until > now => true,
            Some(_) => {
                shut_out.remove(&source);
                false
            }
            None => false,
        }
    }
}

impl Admission {
    pub(crate) fn new(most: usize, sources: Arc<Sources>) -> Admission {
        Admission { most, open: Arc::default(), sources }
    }

    /// None when the listener or the source has too many, or the source is shut out.
    pub(crate) fn admit(&self, source: IpAddr) -> Option<ConnectionPermit> {
        let source = source_of(source);
        if self.sources.is_shut_out(source, Instant::now()) {
            return None;
        }
        // Only ever raised under the locks, so that the check holds.
        let (mut everywhere, mut here) = (lock(&self.sources.counts), lock(&self.open.counts));
        let share = self.most.div_ceil(LISTENER_SHARE).max(LEAST_SHARE);
        let has_all = networks_of(source).any(|(network, times)| {
            let most = self.sources.most_per_source.saturating_mul(times);
            everywhere.of(network) >= most || here.of(network) >= share
        });
        if has_all || self.open.all.load(Ordering::Relaxed) >= self.most {
            return None;
        }
        everywhere.raise(source);
        here.raise(source);
        self.open.all.fetch_add(1, Ordering::Relaxed);
        Some(ConnectionPermit { source, open: Arc::clone(&self.open), sources: Arc::clone(&self.sources) })
    }
}

/// An address as sources are counted: an IPv4 address as it is, also where it is written as one of IPv6, and the /64 network
/// of an IPv6 address.
#[must_use]
pub fn source_of(address: IpAddr) -> IpAddr {
    first_bits(address.to_canonical(), SOURCE_BITS)
}

/// An IPv6 address without its last bits.
pub(crate) fn first_bits(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        address => address,
    }
}

/// What a source is counted in, and how many times as much as one source may have each of it may.
pub(crate) fn networks_of(source: IpAddr) -> impl Iterator<Item = (Network, usize)> {
    let site = source.is_ipv6().then(|| ((first_bits(source, SITE_BITS), SITE_BITS), SOURCES_PER_SITE));
    [((source, SOURCE_BITS), 1)].into_iter().chain(site)
}

impl ConnectionPermit {
    /// For what never left this process and counts nowhere.
    #[must_use]
    pub fn uncounted() -> ConnectionPermit {
        ConnectionPermit {
            source: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            open: Arc::new(Open { all: AtomicUsize::new(1), ..Open::default() }),
            sources: Sources::new(1),
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let (mut everywhere, mut here) = (lock(&self.sources.counts), lock(&self.open.counts));
        self.open.all.fetch_sub(1, Ordering::Relaxed);
        everywhere.lower(self.source);
        here.lower(self.source);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_is_shut_out_is_admitted_again_when_its_time_is_over() {
        let sources = Sources::new(2);
        let admission = Admission::new(3, Arc::clone(&sources));
        let (now, near) = (Instant::now(), "192.0.2.1".parse().unwrap());
        assert!(sources.shut_out(near, now, now + Duration::from_secs(3600)));
        assert!(!sources.shut_out(near, now, now + Duration::from_secs(3600)), "it was out already");
        assert!(admission.admit(near).is_none() && admission.admit("192.0.2.2".parse().unwrap()).is_some());
        sources.shut_out(near, now, now);
        assert!(admission.admit(near).is_some());
        assert!(lock(&sources.shut_out).is_empty());
    }

    #[test]
    fn whoever_is_one_too_many_is_shut_out_in_place_of_who_is_let_in_first() {
        let sources = Sources::new(1);
        let (now, at) = (Instant::now(), |number: usize| IpAddr::V4(std::net::Ipv4Addr::from_bits(number as u32)));
        for number in 0..=MAX_SHUT_OUT {
            assert!(sources.shut_out(at(number), now, now + Duration::from_secs(60 + number as u64)));
        }
        assert!(!sources.is_shut_out(at(0), now));
        assert!(sources.is_shut_out(at(1), now) && sources.is_shut_out(at(MAX_SHUT_OUT), now));
        assert_eq!(lock(&sources.shut_out).len(), MAX_SHUT_OUT);
        assert!(!sources.shut_out(at(MAX_SHUT_OUT), now, now + Duration::from_secs(60)), "it was out already");
        assert!(sources.is_shut_out(at(1), now), "which costs nobody a place");
    }

    #[test]
    fn permits_are_counted_by_listener_and_by_source() {
        let sources = Sources::new(2);
        let (one, other) = (Admission::new(3, Arc::clone(&sources)), Admission::new(3, Arc::clone(&sources)));
        let (near, far): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let held = [one.admit(near), other.admit("::ffff:192.0.2.1".parse().unwrap())];
        assert!(held.iter().all(Option::is_some));
        assert!(one.admit(near).is_none(), "the source has two, whichever listener they came to");
        let more = [one.admit(far), one.admit(far)];
        assert!(more.iter().all(Option::is_some));
        assert!(one.admit("192.0.2.3".parse().unwrap()).is_none(), "the listener has three");
        drop(held);
        assert!(one.admit(near).is_some());
        drop(more);
        let network = [one.admit("2001:db8::1".parse().unwrap()), one.admit("2001:db8::2".parse().unwrap())];
        assert!(one.admit("2001:db8::3".parse().unwrap()).is_none(), "a /64 network is one source");
        drop(network);
        assert!(lock(&sources.counts).0.is_empty(), "nothing is remembered about who is gone");
    }

    #[test]
    fn a_site_has_a_few_times_as_much_as_one_source_however_many_networks_it_has() {
        let sources = Sources::new(2);
        let admission = Admission::new(100, Arc::clone(&sources));
        let from = |text: &str| admission.admit(text.parse().unwrap());
        // The first network of the site is not taken for the site.
        let mut held: Vec<_> = [0, 0, 1, 1, 2, 3, 4].map(|it| from(&format!("2001:db8:7:{it}::1"))).into();
        held.push(from("2001:db8:7:ffff::1"));
        assert!(held.iter().all(Option::is_some), "eight of six networks");
        assert!(from("2001:db8:7:5::1").is_none(), "the site has eight");
        let others = [from("2001:db8:8::1"), from("192.0.2.1"), from("192.0.2.2")];
        assert!(others.iter().all(Option::is_some));
        held.pop();
        assert!(from("2001:db8:7:5::1").is_some());
        assert!(from("2001:db8:7:0::2").is_none(), "a network has two");
        drop((held, others));
        assert!(lock(&sources.counts).0.is_empty(), "nothing is remembered about who is gone");
    }

    #[test]
    fn neither_a_source_nor_a_site_has_more_than_a_quarter_of_a_listener() {
        let sources = Sources::new(1_000);
        let (small, other) = (Admission::new(100, Arc::clone(&sources)), Admission::new(100, Arc::clone(&sources)));
        let at = |text: String| text.parse::<IpAddr>().unwrap();
        let source: Vec<_> = (0..25).map(|_| small.admit(at("192.0.2.1".to_owned()))).collect();
        assert!(source.iter().all(Option::is_some));
        assert!(small.admit(at("192.0.2.1".to_owned())).is_none(), "it has a quarter");
        assert!(other.admit(at("192.0.2.1".to_owned())).is_some(), "of that listener");
        let site: Vec<_> = (0..25).map(|network| small.admit(at(format!("2001:db8:7:{network}::1")))).collect();
        assert!(site.iter().all(Option::is_some));
        assert!(small.admit(at("2001:db8:7:77::1".to_owned())).is_none(), "however many networks it has");
        assert!(small.admit(at("2001:db8:8::1".to_owned())).is_some());
        drop((source, site));
        assert!(lock(&small.open.counts).0.is_empty() && lock(&sources.counts).0.is_empty());
        assert_eq!(small.open.all.load(Ordering::Relaxed), 0);
    }
}
