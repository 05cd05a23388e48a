//! Requests that are too large for UDP, towards places that take no TCP (RFC 3261 §18.1.1): such a request goes over TCP first,
//! and over UDP after all where no connection can be made.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use restante_sip::transaction::ClientTransactionId;

/// How long it is believed of a place that it takes no TCP.
const BELIEVED_FOR: Duration = Duration::from_secs(600);
/// Places of which this is known; the one whose time ends first is forgotten.
const MAX_PLACES: usize = 1_000;

/// What was sent over TCP for its size, and where no connection came of it.
#[derive(Default)]
pub(super) struct TooLarge {
    /// Without a final answer yet.
    sent: HashMap<ClientTransactionId, Sent>,
    without_tcp: BTreeMap<SocketAddr, Instant>,
}

struct Sent {
    place: SocketAddr,
    /// The place was known to take no TCP, but there was no other way: nothing of this size goes over UDP at all.
    was_known: bool,
    /// Connecting failed. What breaks later, or for our own bounds, says nothing about the place.
    is_refused: bool,
}

impl TooLarge {
    /// A request went over TCP for its size alone.
    pub(super) fn note_sent(&mut self, now: Instant, client: ClientTransactionId, place: SocketAddr) {
        let was_known = self.takes_no_tcp(now, place);
        self.sent.insert(client, Sent { place, was_known, is_refused: false });
    }

    /// It was answered, or is given up.
    pub(super) fn forget(&mut self, client: ClientTransactionId) {
        self.sent.remove(&client);
    }

    /// Nobody takes connections where a request was to go.
    pub(super) fn note_refused(&mut self, client: ClientTransactionId) {
        if let Some(sent) = self.sent.get_mut(&client) {
            sent.is_refused = true;
        }
    }

    /// It could not be sent. True: that was so for its size alone, and it goes over UDP when it is sent again.
    pub(super) fn note_not_sent(&mut self, now: Instant, client: ClientTransactionId) -> bool {
        let Some(sent) = self.sent.remove(&client).filter(|sent| sent.is_refused) else { return false };
        self.without_tcp.retain(|_, until| *until > now);
        if self.without_tcp.len() >= MAX_PLACES
            && let Some(first) = self.without_tcp.iter().min_by_key(|(_, until)| **until).map(|(place, _)| *place)
        {
            self.without_tcp.remove(&first);
        }
        self.without_tcp.insert(sent.place, now + BELIEVED_FOR);
        !sent.was_known
    }

    /// Whether a place is known to take no TCP.
    pub(super) fn takes_no_tcp(&self, now: Instant, place: SocketAddr) -> bool {
        self.without_tcp.get(&place).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_believed_for_its_time_and_so_many_are_remembered() {
        let (mut too_large, now) = (TooLarge::default(), Instant::now());
        let place = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let client = |number: u64| ClientTransactionId(number);
        assert!(!too_large.note_not_sent(now, client(1)), "it went over TCP for another reason");
        too_large.note_sent(now, client(1), place(1));
        too_large.forget(client(1));
        too_large.note_refused(client(1));
        assert!(!too_large.note_not_sent(now, client(1)), "it was answered");
        for port in 0..=u16::try_from(MAX_PLACES).unwrap() {
            too_large.note_sent(now, client(2), place(port));
            too_large.note_refused(client(2));
            assert!(too_large.note_not_sent(now + Duration::from_millis(u64::from(port)), client(2)));
        }
        assert!(!too_large.takes_no_tcp(now, place(0)) && too_large.takes_no_tcp(now, place(1)));
        assert!(!too_large.takes_no_tcp(now + BELIEVED_FOR + Duration::from_secs(2), place(1)));
    }

    #[test]
    fn a_connection_that_breaks_says_nothing_about_the_place() {
        let (mut too_large, now) = (TooLarge::default(), Instant::now());
        let (place, client) = (SocketAddr::from(([127, 0, 0, 1], 1)), ClientTransactionId(1));
        too_large.note_sent(now, client, place);
        assert!(!too_large.note_not_sent(now, client));
        assert!(!too_large.takes_no_tcp(now, place));
    }

    #[test]
    fn what_went_over_tcp_although_that_was_known_to_fail_is_not_sent_once_more() {
        let (mut too_large, now) = (TooLarge::default(), Instant::now());
        let (place, client) = (SocketAddr::from(([127, 0, 0, 1], 1)), ClientTransactionId(1));
        for is_sent_again in [true, false] {
            too_large.note_sent(now, client, place);
            too_large.note_refused(client);
            assert_eq!(too_large.note_not_sent(now, client), is_sent_again);
            assert!(too_large.takes_no_tcp(now, place));
        }
    }
}
