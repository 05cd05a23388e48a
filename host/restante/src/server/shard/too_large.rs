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
    sent: HashMap<ClientTransactionId, SocketAddr>,
    without_tcp: BTreeMap<SocketAddr, Instant>,
}

impl TooLarge {
    /// A request went over TCP for its size alone.
    pub(super) fn note_sent(&mut self, client: ClientTransactionId, place: SocketAddr) {
        self.sent.insert(client, place);
    }

    /// It was answered, or is given up.
    pub(super) fn forget(&mut self, client: ClientTransactionId) {
        self.sent.remove(&client);
    }

    /// It could not be sent. True: that was so for its size alone, and it goes over UDP when it is sent again.
    pub(super) fn note_not_sent(&mut self, now: Instant, client: ClientTransactionId) -> bool {
        let Some(place) = self.sent.remove(&client) else { return false };
        self.without_tcp.retain(|_, until| *until > now);
        if self.without_tcp.len() >= MAX_PLACES
            && let Some(first) = self.without_tcp.iter().min_by_key(|(_, until)| **until).map(|(place, _)| *place)
        {
            self.without_tcp.remove(&first);
        }
        self.without_tcp.insert(place, now + BELIEVED_FOR);
        true
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
        too_large.note_sent(client(1), place(1));
        too_large.forget(client(1));
        assert!(!too_large.note_not_sent(now, client(1)), "it was answered");
        for port in 0..=u16::try_from(MAX_PLACES).unwrap() {
            too_large.note_sent(client(2), place(port));
            assert!(too_large.note_not_sent(now + Duration::from_millis(u64::from(port)), client(2)));
        }
        assert!(!too_large.takes_no_tcp(now, place(0)) && too_large.takes_no_tcp(now, place(1)));
        assert!(!too_large.takes_no_tcp(now + BELIEVED_FOR + Duration::from_secs(2), place(1)));
    }
}
