//! What is looked for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use restante_sip::uri::host_address;

use crate::address::Protocol;

/// Longest name in the DNS (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;
/// The port of MSRP (RFC 4975 §15.4).
const MSRP_PORT: u16 = 2855;

/// A host to send requests to, as a URI or the configuration names it (RFC 3263 §4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    host: String,
    port: Option<u16>,
    protocol: Option<Protocol>,
    is_secure: bool,
    /// A relay of MSRP, and nothing of SIP.
    is_msrp_relay: bool,
    /// See [`Wanted::of_operator`]. The same name of a peer's is another entry.
    is_of_operator: bool,
}

/// A place that requests can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Over what.
    pub protocol: Protocol,
    /// Where.
    pub socket: SocketAddr,
}

impl Wanted {
    /// A host with what was said about port and transport. None when it is neither an address nor a name that the DNS
    /// could know.
    #[must_use]
    pub fn new(host: &str, port: Option<u16>, protocol: Option<Protocol>) -> Option<Wanted> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let address = host_address(host);
        let host = address.map_or_else(|| host.to_ascii_lowercase(), |address| address.to_string());
        let fits = address.is_some() || is_name(&host);
        let is_secure = protocol.is_some_and(Protocol::is_encrypted);
        fits.then_some(Wanted { host, port, protocol, is_secure, is_msrp_relay: false, is_of_operator: false })
    }

    /// A relay of MSRP (RFC 4976 §8), which is encrypted where its URI is `msrps:`.
    #[must_use]
    pub fn msrp_relay(host: &str, port: Option<u16>, is_encrypted: bool) -> Option<Wanted> {
        let protocol = if is_encrypted { Protocol::Tls } else { Protocol::Tcp };
        Wanted::new(host, port, Some(protocol)).map(|wanted| Wanted { is_msrp_relay: true, ..wanted })
    }

    /// Where nothing but an encrypted transport will do, as a `sips:` URI says.
    #[must_use]
    pub fn secure(self) -> Wanted {
        let protocol = self.protocol.filter(|protocol| protocol.is_encrypted());
        Wanted { is_secure: true, protocol, ..self }
    }

    /// Where the configuration names it, and no peer does: what others name takes nothing from it.
    #[must_use]
    pub fn of_operator(self) -> Wanted {
        Wanted { is_of_operator: true, ..self }
    }

    /// The name, or the address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where one was given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The transport, where one was given.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// Whether it must be encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether it is a relay of MSRP.
    #[must_use]
    pub fn is_msrp_relay(&self) -> bool {
        self.is_msrp_relay
    }

    /// Whether the configuration names it.
    #[must_use]
    pub fn is_of_operator(&self) -> bool {
        self.is_of_operator
    }

    /// The place itself, where the host is an address: nobody needs to be asked (RFC 3263 §4.2).
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        Some(self.at(self.host.parse().ok()?))
    }

    /// The place at an address of the host.
    pub(super) fn at(&self, address: IpAddr) -> Place {
        let protocol = self.protocol.unwrap_or(if self.is_secure { Protocol::Tls } else { Protocol::Udp });
        let usual = if self.is_msrp_relay { MSRP_PORT } else { protocol.default_port() };
        Place { protocol, socket: SocketAddr::new(address, self.port.unwrap_or(usual)) }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.protocol, self.port) {
            (Some(protocol), Some(port)) => write!(formatter, "{protocol}:{}:{port}", self.host),
            (Some(protocol), None) => write!(formatter, "{protocol}:{}", self.host),
            (None, Some(port)) => write!(formatter, "{}:{port}", self.host),
            (None, None) => formatter.write_str(&self.host),
        }
    }
}

/// RFC 1123 §2.1, and the underscore that many use.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    host.len() <= MAX_NAME_BYTES && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_places_and_names_are_not() {
        let place = |host, port, protocol| Wanted::new(host, port, protocol).unwrap().place();
        let udp = |text: &str| Some(Place { protocol: Protocol::Udp, socket: text.parse().unwrap() });
        assert_eq!(place("192.0.2.1", None, None), udp("192.0.2.1:5060"));
        assert_eq!(place("[2001:db8::1]", Some(5070), None), udp("[2001:db8::1]:5070"));
        let tcp = Some(Place { protocol: Protocol::Tcp, socket: "192.0.2.1:5060".parse().unwrap() });
        assert_eq!(place("192.0.2.1", None, Some(Protocol::Tcp)), tcp);
        assert_eq!(place("proxy.example.org", Some(5060), Some(Protocol::Udp)), None);
        let tls = Some(Place { protocol: Protocol::Tls, socket: "192.0.2.1:5061".parse().unwrap() });
        assert_eq!(place("192.0.2.1", None, Some(Protocol::Tls)), tls);
        for said in [None, Some(Protocol::Tcp)] {
            assert_eq!(Wanted::new("192.0.2.1", None, said).unwrap().secure().place(), tls);
        }
    }

    #[test]
    fn the_same_name_is_written_in_one_way_and_others_are_refused() {
        let host = |text| Wanted::new(text, None, None).map(|it| it.host);
        assert_eq!(host("Proxy.Example.ORG.").as_deref(), Some("proxy.example.org"));
        assert_eq!(host("kamailio").as_deref(), Some("kamailio"));
        let long = "a.".repeat(127) + "aa";
        for text in ["", ".", "a..b", "-a.example", "a b", "ä.example", "a;b", &"a".repeat(64), &long] {
            assert_eq!(host(text), None, "{text:?}");
        }
    }
}
