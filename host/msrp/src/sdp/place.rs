//! Where the active side connects to: the path of RFC 4975 §5.4, or `c=` and `m=`, which middleboxes change and paths not (RFC 6714).
//!
//! | `a=msrp-cema` of the other side | its `c=` and `m=` | relays in its path | connect to |
//! |---|---|---|---|
//! | yes | a place | none | that place alone |
//! | yes | no place (port 9, no address) | any | the path |
//! | yes | a hop of its path | some | the path: no middlebox is in between (§4.2) |
//! | yes | another place | some | that place alone: a middlebox stands before the relay |
//! | no | what the path says | any | the path (RFC 4975) |
//! | no | another place | none | the path, and where nobody is met there that place |
//! | no | another place | some | the path |
//!
//! Who says nothing of CEMA and whose `c=` names another place than the path is behind a middlebox, or a middlebox dropped the
//! attribute that it did not know. The path is what such a peer expects to be used, so it comes first; an address behind a
//! translator is not met, or may not be connected to.
//!
//! Deviation: whichever it is, a session is known by its session id alone, where RFC 4975 §7.3 compares the whole URI: see
//! [`crate::session`].
//!
//! Deviation: where `c=` is another place and CEMA is not said, RFC 6714 §4.3 has an answerer refuse (488 or port 0) and §4.2 an
//! offerer offer anew without CEMA. The place of `c=` is tried where the path fails, as clients of operators expect.

use std::net::SocketAddr;

use super::MsrpDescription;
use crate::uri::{DEFAULT_PORT, Host, MsrpUri};

/// The port of who connects and is not connected to (RFC 4145 §4.1).
pub(super) const DISCARD_PORT: u16 = 9;

/// A host, by address or name, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionPlace {
    /// Where.
    pub host: Host,
    /// The port; never 0 in what [`MsrpDescription::connection_places`] takes from `c=` and `m=`.
    pub port: u16,
}

impl ConnectionPlace {
    fn of(uri: &MsrpUri) -> ConnectionPlace {
        ConnectionPlace { host: uri.host.clone(), port: uri.port.unwrap_or(DEFAULT_PORT) }
    }

    /// The address to connect to, unless the host is a name.
    #[must_use]
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(address) => Some(SocketAddr::new(address, self.port)),
            Host::Name(_) => None,
        }
    }

    fn same_as(&self, other: &ConnectionPlace) -> bool {
        self.port == other.port && self.host.same_as(&other.host)
    }
}

impl MsrpDescription {
    /// Where to connect to when we are active, in the order to be tried: see the table of the module. Never empty.
    #[must_use]
    pub fn connection_places(&self) -> Vec<ConnectionPlace> {
        let path = ConnectionPlace::of(self.path.first());
        let names_a_hop = |place: &ConnectionPlace| self.path.iter().any(|uri| ConnectionPlace::of(uri).same_as(place));
        match self.described_place() {
            Some(described) if self.msrp_cema && !(self.path.has_relays() && names_a_hop(&described)) => {
                vec![described]
            }
            Some(described) if !self.path.has_relays() && !described.same_as(&path) => vec![path, described],
            _ => vec![path],
        }
    }

    /// The host by which the other side is believed over TLS where it named no fingerprint: the one of its path, whatever
    /// place is connected to. A middlebox that passes bytes on has no part in the TLS of the two ends (RFC 6714 §6.5, §7.4).
    #[must_use]
    pub fn believed_host(&self) -> String {
        match &self.path.first().host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// What `c=` and `m=` name, where that is a place.
    fn described_place(&self) -> Option<ConnectionPlace> {
        let host = Host::of_connection_address(self.connection_address.as_deref()?)?;
        let is_place = !matches!(&host, Host::Address(address) if address.is_unspecified());
        (is_place && ![0, DISCARD_PORT].contains(&self.port)).then_some(ConnectionPlace { host, port: self.port })
    }
}
