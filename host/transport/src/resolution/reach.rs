//! Where this server can send anything to.

use std::net::SocketAddr;

use super::wanted::Place;
use crate::address::Protocol;

/// What listeners reach: UDP goes out from one of its family, and no family is known to lead anywhere that nothing listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    listeners: Vec<(Protocol, SocketAddr)>,
}

impl Reach {
    /// That of these listeners; of none everything.
    #[must_use]
    pub fn of(listeners: impl IntoIterator<Item = (Protocol, SocketAddr)>) -> Reach {
        Reach { listeners: listeners.into_iter().collect() }
    }

    /// Whether something sent there can arrive.
    #[must_use]
    pub fn has(&self, place: &Place) -> bool {
        let fits = |(protocol, local): &(Protocol, SocketAddr)| {
            let carries = place.protocol.is_stream() || !protocol.is_stream();
            carries && local.is_ipv4() == place.socket.is_ipv4()
        };
        self.listeners.is_empty() || self.listeners.iter().any(fits)
    }
}
