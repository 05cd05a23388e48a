//! Names of places: listeners, flows, connections.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use restante_sip::uri::host_address;
use thiserror::Error;

/// What SIP is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS.
    Wss,
}

/// A text that is no address of the expected form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?}: expected {expected}")]
pub struct AddressError {
    /// What was written.
    pub text: String,
    /// What was expected instead.
    pub expected: &'static str,
}

/// A host name or address, with a port or without.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or address, IPv6 in brackets.
    pub host: String,
    /// Port, when one was given.
    pub port: Option<u16>,
}

/// Where to listen, and what to call that place towards peers: behind an address translation the two differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Over what.
    pub protocol: Protocol,
    /// Where; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// What Via, Contact and MSRP paths name; default: the bound address.
    pub advertise: Option<HostPort>,
}

/// A listener of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

/// A connection of this process; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A host that requests were to go to before it was looked up, as [`crate::Tls::name`] numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameId(pub u64);

/// Where a message came from, which is also the way back to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Over what.
    pub protocol: Protocol,
    /// The listener it came to; none on a connection that we opened.
    pub listener: Option<ListenerId>,
    /// Our end.
    pub local: SocketAddr,
    /// Their end.
    pub remote: SocketAddr,
    /// The connection, where there are connections.
    pub connection: Option<ConnectionId>,
}

impl Protocol {
    /// As it stands in a Via.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Udp => "UDP",
            Protocol::Tcp => "TCP",
            Protocol::Tls => "TLS",
            Protocol::Ws => "WS",
            Protocol::Wss => "WSS",
        }
    }

    /// Whether there are connections.
    #[must_use]
    pub const fn is_stream(self) -> bool {
        !matches!(self, Protocol::Udp)
    }

    /// Whether others on the way can read along.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Protocol::Tls | Protocol::Wss)
    }

    /// Whether messages come in frames of WebSocket.
    #[must_use]
    pub const fn is_web_socket(self) -> bool {
        matches!(self, Protocol::Ws | Protocol::Wss)
    }

    /// The port of SIP where none is said (RFC 3261 §19.1.2, RFC 7118 §5.5).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Protocol::Udp | Protocol::Tcp => 5060,
            Protocol::Tls => 5061,
            Protocol::Ws => 80,
            Protocol::Wss => 443,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
            Protocol::Ws => "ws",
            Protocol::Wss => "wss",
        })
    }
}

impl FromStr for Protocol {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text {
            "udp" => Ok(Protocol::Udp),
            "tcp" => Ok(Protocol::Tcp),
            "tls" => Ok(Protocol::Tls),
            "ws" => Ok(Protocol::Ws),
            "wss" => Ok(Protocol::Wss),
            _ => Err(AddressError { text: text.to_owned(), expected: "\"udp\", \"tcp\", \"tls\", \"ws\" or \"wss\"" }),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(formatter, ":{port}"),
            None => Ok(()),
        }
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError { text: text.to_owned(), expected: "HOST or HOST:PORT, IPv6 in brackets" };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().map_err(|_| error())?)),
            _ => (text, None),
        };
        let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-');
        let valid = match host.starts_with('[') {
            true => host_address(host).is_some(),
            false => !host.is_empty() && host.chars().all(fits),
        };
        if valid { Ok(HostPort { host: host.to_owned(), port }) } else { Err(error()) }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        HostPort { host, port: Some(address.port()) }
    }
}

impl Listener {
    /// One that is called what it is bound to.
    #[must_use]
    pub const fn new(protocol: Protocol, bind: SocketAddr) -> Listener {
        Listener { protocol, bind, advertise: None }
    }

    /// What peers are told, once the bound address is known.
    #[must_use]
    pub fn advertised(&self, local: SocketAddr) -> HostPort {
        match &self.advertise {
            Some(name) => HostPort { host: name.host.clone(), port: name.port.or(Some(local.port())) },
            None => HostPort::from(local),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.protocol, self.bind)
    }
}

impl FromStr for Listener {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError {
            text: text.to_owned(),
            expected: "PROTOCOL:HOST:PORT with udp, tcp, tls, ws or wss and a numeric host, IPv6 in brackets",
        };
        let (protocol, bind) = text.split_once(':').ok_or_else(error)?;
        let protocol = protocol.parse().map_err(|_| error())?;
        Ok(Listener::new(protocol, bind.parse().map_err(|_| error())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_as_they_are_written() {
        for text in [
            "udp:127.0.0.1:5060",
            "tcp:[::1]:5060",
            "tcp:0.0.0.0:0",
            "tls:[::1]:5061",
            "ws:[::1]:80",
            "wss:127.0.0.1:443",
        ] {
            assert_eq!(text.parse::<Listener>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "udp",
            "udp:",
            "udp:127.0.0.1",
            "sctp:127.0.0.1:5060",
            "tcp:::1:5060",
            "udp:host:5060",
            "udp:127.0.0.1:99999",
        ] {
            assert!(wrong.parse::<Listener>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_advertised_has_a_port_always() {
        let local = "10.0.0.7:5070".parse().unwrap();
        for (advertise, expected) in [
            (None, "10.0.0.7:5070"),
            (Some("sip.example.org"), "sip.example.org:5070"),
            (Some("[2001:db8::1]:5060"), "[2001:db8::1]:5060"),
        ] {
            let listener = Listener {
                protocol: Protocol::Udp,
                bind: local,
                advertise: advertise.map(|text| text.parse().unwrap()),
            };
            assert_eq!(listener.advertised(local).to_string(), expected);
        }
        assert_eq!(HostPort::from("[::1]:5060".parse::<SocketAddr>().unwrap()).to_string(), "[::1]:5060");
        for wrong in ["", "a b", "host:", "host:70000", "2001:db8::1", "a;b", "[::1"] {
            assert!(wrong.parse::<HostPort>().is_err(), "{wrong}");
        }
    }
}
