//! Sources of what nobody can read, and of guesses: slowed first, then shut out for a while.
//!
//! | what it sent within `limits.garbage_seconds` | what follows |
//! |---|---|
//! | up to a tenth of `limits.max_garbage` | requests that cannot be processed are answered, as RFC 3261 §8.2 wants |
//! | more | they are dropped: nobody who reads answers sends so many |
//! | `limits.max_garbage`, over connections | its connection is closed, and it gets no other one until the window is over |
//!
//! Datagrams and connections are counted apart, and nobody is shut out for datagrams: their source may be forged, and whoever
//! forges it would shut out somebody else. A source is an IPv4 address or the /64 network of an IPv6 address; peers that a
//! tenant trusts are none.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use restante_deferral::model::Timestamp;

use super::failures::Failures;
use crate::configuration::Limits;

/// Of what is too much, what is answered.
const ANSWERED_PART: u64 = 10;

/// What a source that sent something wrong is to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// An answer.
    Answered,
    /// Silence.
    Ignored,
    /// A closed door for so long.
    ShutOut(Duration),
}

/// Who sent what cannot be read.
pub(super) struct Offenders {
    max_garbage: u64,
    window: Duration,
    datagrams: Mutex<Failures<IpAddr>>,
    connections: Mutex<Failures<IpAddr>>,
}

impl Offenders {
    pub(super) fn new(limits: &Limits) -> Offenders {
        let window = Duration::from_secs(limits.garbage_seconds);
        let failures = || Mutex::new(Failures::new(limits.max_garbage, limits.garbage_seconds.saturating_mul(1000)));
        Offenders { max_garbage: limits.max_garbage, window, datagrams: failures(), connections: failures() }
    }

    /// A source sent something that cannot be read or processed.
    pub(super) fn note(&self, source: IpAddr, over_a_connection: bool, now: Timestamp) -> Standing {
        let failures = if over_a_connection { &self.connections } else { &self.datagrams };
        let count = failures.lock().unwrap_or_else(PoisonError::into_inner).note(network(source), now);
        if over_a_connection && count >= self.max_garbage {
            Standing::ShutOut(self.window)
        } else if count > self.max_garbage.div_ceil(ANSWERED_PART) {
            Standing::Ignored
        } else {
            Standing::Answered
        }
    }
}

/// What one host usually has to itself.
pub(super) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standings(offenders: &Offenders, source: &str, over_a_connection: bool, count: usize) -> Vec<Standing> {
        let source = source.parse().unwrap();
        (0..count).map(|_| offenders.note(source, over_a_connection, Timestamp(1_000))).collect()
    }

    #[test]
    fn a_source_is_slowed_and_then_shut_out_and_never_for_datagrams() {
        let limits = Limits { max_garbage: 20, garbage_seconds: 60, ..Limits::default() };
        let offenders = Offenders::new(&limits);
        let out = Standing::ShutOut(Duration::from_secs(60));
        let seen = standings(&offenders, "192.0.2.1", true, 21);
        assert_eq!(seen[..2], [Standing::Answered; 2]);
        assert_eq!(seen[2..19], [Standing::Ignored; 17]);
        assert_eq!(seen[19..], [out; 2]);
        assert_eq!(standings(&offenders, "192.0.2.1", false, 30)[2..], [Standing::Ignored; 28]);
        assert_eq!(standings(&offenders, "192.0.2.2", true, 1), [Standing::Answered]);
        // One host has a whole network.
        standings(&offenders, "2001:db8::1", true, 19);
        assert_eq!(standings(&offenders, "2001:db8::2", true, 1), [out]);
        assert_eq!(offenders.note("192.0.2.1".parse().unwrap(), true, Timestamp(61_001)), Standing::Answered);
    }
}
