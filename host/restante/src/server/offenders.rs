//! Sources of what nobody can read, and of guesses: slowed first, then shut out for a while.
//!
//! | what it sent within `limits.garbage_seconds` | what follows |
//! |---|---|
//! | up to a tenth of `limits.max_garbage` | answers, at once: to SIP what RFC 3261 §8.2 wants, 481 to a guess over MSRP |
//! | more | none, and the waits below |
//! | `limits.max_garbage`, over connections | its connection is closed, and it gets no other one until the window is over |
//!
//! | of whoever gets no answers | waits |
//! |---|---|
//! | a SIP request that cannot be processed | it is dropped: nobody who reads answers sends so many |
//! | a guess at a session of MSRP, what is no MSRP of a client of the relay | its connection stays open for [`SLOWED`], unread, counted as one of its source |
//! | bytes that are no SIP, no MSRP, or nothing in time | none: there is nothing to answer, and the connection is closed |
//!
//! Datagrams and connections are counted apart, and nobody is shut out for datagrams: their source may be forged, and whoever
//! forges it would shut out somebody else. A source is an IPv4 address or the /64 network of an IPv6 address; peers that a
//! tenant trusts are none. Where a peer is that some tenant trusts for its certificate, or was within an hour, nobody is shut out:
//! its calls come from there, and so may what is said over MSRP, where no certificate vouches for anybody.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use restante_deferral::model::Timestamp;
use restante_transport::{ConnectionId, PeerNames, source_of};

use super::Shared;
use super::directory::Peer;
use super::failures::Failures;
use crate::configuration::Limits;

/// Of what is too much, what is answered.
const ANSWERED_PART: u64 = 10;
/// For how long it is remembered where a trusted peer was.
const VOUCHED_MILLISECONDS: u64 = 3_600_000;
/// For how long the connection is kept open, unread, of who is answered no more.
const SLOWED: Duration = Duration::from_secs(5);
/// Such places remembered; beyond it the oldest is forgotten.
const MAX_VOUCHED: usize = 1_000;

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
    /// Where connections were that a tenant trusts for their certificate, and when they ended.
    vouched: Mutex<HashMap<IpAddr, Timestamp>>,
}

impl Offenders {
    pub(super) fn new(limits: &Limits) -> Offenders {
        let window = Duration::from_secs(limits.garbage_seconds);
        let failures = || Mutex::new(Failures::new(limits.max_garbage, limits.garbage_seconds.saturating_mul(1000)));
        Offenders {
            max_garbage: limits.max_garbage,
            window,
            datagrams: failures(),
            connections: failures(),
            vouched: Mutex::default(),
        }
    }

    /// A connection of a peer that is trusted for its certificate ended.
    fn vouch(&self, source: IpAddr, now: Timestamp) {
        let mut vouched = lock(&self.vouched);
        vouched.insert(source_of(source), now);
        if vouched.len() > MAX_VOUCHED
            && let Some(oldest) = vouched.iter().min_by_key(|(_, at)| **at).map(|(source, _)| *source)
        {
            vouched.remove(&oldest);
        }
    }

    fn is_vouched(&self, source: IpAddr, now: Timestamp) -> bool {
        let at = lock(&self.vouched).get(&source_of(source)).copied();
        at.is_some_and(|at| at.0.abs_diff(now.0) < VOUCHED_MILLISECONDS)
    }

    /// A source sent something that cannot be read or processed.
    pub(super) fn note(&self, source: IpAddr, over_a_connection: bool, now: Timestamp) -> Standing {
        let failures = if over_a_connection { &self.connections } else { &self.datagrams };
        let count = lock(failures).note(source_of(source), now);
        if over_a_connection && count >= self.max_garbage {
            Standing::ShutOut(self.window)
        } else if count > self.max_garbage.div_ceil(ANSWERED_PART) {
            Standing::Ignored
        } else {
            Standing::Answered
        }
    }
}

/// Keeps what is held for a connection until whoever is answered no more may come again; must be called on a runtime.
pub(super) fn slow_down(held: impl Send + 'static) {
    drop(tokio::spawn(async move {
        tokio::time::sleep(SLOWED).await;
        drop(held);
    }));
}

impl Shared {
    /// Notes that a source sent what cannot be read or processed, or guessed. What it is to meet; its connections are closed
    /// here where that is so.
    pub(super) fn note_garbage(
        &self,
        remote: SocketAddr,
        connection: Option<ConnectionId>,
        over_a_connection: bool,
    ) -> Standing {
        let names = connection.zip(self.sender()).and_then(|(id, sender)| sender.peer_names(id));
        if self.directory.is_trusted(&Peer { address: Some(remote.ip()), names: names.unwrap_or_default() }) {
            return Standing::Answered;
        }
        let now = (self.clock)();
        match self.offenders.note(remote.ip(), over_a_connection, now) {
            Standing::Answered => Standing::Answered,
            Standing::ShutOut(duration) if !self.is_of_trusted_peer(remote.ip(), now) => {
                let Some(sender) = self.sender() else { return Standing::ShutOut(duration) };
                if sender.shut_out(remote.ip(), duration) {
                    tracing::warn!(source = %remote.ip(), "blocked for a while: it sent too much unreadable input");
                    self.metrics.count_dropped("source-shut-out");
                }
                if let Some(connection) = connection {
                    sender.close(connection);
                }
                Standing::ShutOut(duration)
            }
            Standing::Ignored | Standing::ShutOut(_) => {
                self.metrics.count_dropped("unanswered-garbage");
                Standing::Ignored
            }
        }
    }

    /// A connection ended: where a peer was that is trusted for its certificate is remembered.
    pub(super) fn note_closed(&self, remote: SocketAddr, connection: ConnectionId) {
        let names = self.sender().and_then(|sender| sender.peer_names(connection));
        if names.is_some_and(|names| self.trusts_name(names)) {
            self.offenders.vouch(remote.ip(), (self.clock)());
        }
    }

    fn is_of_trusted_peer(&self, source: IpAddr, now: Timestamp) -> bool {
        let names = self.sender().map(|sender| sender.names_at(source)).unwrap_or_default();
        names.into_iter().any(|names| self.trusts_name(names)) || self.offenders.is_vouched(source, now)
    }

    fn trusts_name(&self, names: PeerNames) -> bool {
        !names.is_empty() && self.directory.is_trusted(&Peer { address: None, names })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn places_of_trusted_peers_are_remembered_for_a_while_and_bounded() {
        let offenders = Offenders::new(&Limits::default());
        let at = |number: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(0xc000_0000 + number));
        let most = MAX_VOUCHED as u32;
        for number in 0..=most {
            offenders.vouch(at(number), Timestamp(u64::from(number)));
        }
        let is_vouched = |number, now| offenders.is_vouched(at(number), Timestamp(now));
        assert!(!is_vouched(0, 0), "the oldest is forgotten");
        assert!(is_vouched(1, VOUCHED_MILLISECONDS) && !is_vouched(1, VOUCHED_MILLISECONDS + 1));
        assert!(!is_vouched(most + 1, 0));
        offenders.vouch("2001:db8::1".parse().unwrap(), Timestamp(9_000));
        assert!(offenders.is_vouched("2001:db8::2".parse().unwrap(), Timestamp(9_000)), "as it would be shut out");
    }

    #[test]
    fn whoever_comes_when_all_places_are_taken_is_counted_too() {
        let limits = Limits { max_garbage: 2, garbage_seconds: 60, ..Limits::default() };
        let offenders = Offenders::new(&limits);
        for number in 0..10_000_u32 {
            let source = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number));
            (0..2).for_each(|_| _ = offenders.note(source, true, Timestamp(1)));
        }
        let late = "192.0.2.1".parse().unwrap();
        let seen: Vec<_> = (0..2).map(|_| offenders.note(late, true, Timestamp(2))).collect();
        assert_eq!(seen, [Standing::Answered, Standing::ShutOut(Duration::from_secs(60))]);
    }
}
