//! Addresses as the configuration writes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use restante_sip::uri::host_address;
use restante_transport::destination::AllowedTarget;
use restante_transport::resolution::Wanted;
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

pub use restante_transport::Protocol;

/// Bits of IPv6 that say that the rest is an address of IPv4 (RFC 4291 §2.5.5.2).
const IPV4_WITHIN_IPV6_BITS: u8 = 96;

/// `PROTOCOL:HOST:PORT`, the protocol `udp`, `tcp`, `tls`, `ws` or `wss`, the host a number, IPv6 in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    /// Over what.
    pub protocol: Protocol,
    /// Where.
    pub socket: SocketAddr,
}

/// `udp:HOST`, `tcp:HOST`, `tls:HOST` or one of them with `:PORT`: where requests go, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Over what.
    pub protocol: Protocol,
    /// Where; a name is looked for as RFC 3263 says.
    pub place: HostPort,
}

/// A host name or address, with a port or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, IPv6 in brackets.
    pub host: String,
    /// Port, when one was given.
    pub port: Option<u16>,
}

/// `ADDRESS` or `ADDRESS/BITS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    network: IpAddr,
    bits: u8,
}

/// A place that may be connected to: `ADDRESS`, `ADDRESS/BITS` or `ADDRESS:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(pub AllowedTarget);

impl ListenAddress {
    /// On 127.0.0.1.
    #[must_use]
    pub const fn loopback(protocol: Protocol, port: u16) -> ListenAddress {
        ListenAddress { protocol, socket: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port) }
    }
}

impl NextHop {
    /// What is looked for to get there. None: no such name can be.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        Wanted::new(&self.place.host, self.place.port, Some(self.protocol)).map(Wanted::of_operator)
    }
}

impl From<ListenAddress> for NextHop {
    fn from(address: ListenAddress) -> NextHop {
        let host = match address.socket.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        NextHop { protocol: address.protocol, place: HostPort { host, port: Some(address.socket.port()) } }
    }
}

impl FromStr for NextHop {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?}: expected \"udp:HOST:PORT\", \"tcp:HOST:PORT\" or \"tls:HOST:PORT\" with an address or a name, such as \"udp:192.0.2.1:5060\" or \"tls:proxy.example.org\""
            )
        };
        let (protocol, rest) = protocol_and_rest(text).ok_or_else(expected)?;
        let hop = NextHop { protocol, place: rest.parse().map_err(|_| expected())? };
        if hop.wanted().is_some() && !protocol.is_web_socket() { Ok(hop) } else { Err(expected()) }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.protocol, self.socket)
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?}: expected \"udp:HOST:PORT\", or the same with tcp, tls, ws or wss, and a numeric host, such as \"udp:127.0.0.1:5060\" or \"tcp:[::1]:5060\""
            )
        };
        let (protocol, rest) = protocol_and_rest(text).ok_or_else(expected)?;
        Ok(ListenAddress { protocol, socket: rest.parse().map_err(|_| expected())? })
    }
}

/// `PROTOCOL:REST`.
fn protocol_and_rest(text: &str) -> Option<(Protocol, &str)> {
    let (protocol, rest) = text.split_once(':')?;
    Some((protocol.parse().ok()?, rest))
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?}: expected HOST or HOST:PORT, IPv6 in brackets");
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().map_err(|_| expected())?)),
            _ => (text, None),
        };
        let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-');
        let valid = match host.starts_with('[') {
            true => host_address(host).is_some(),
            false => !host.is_empty() && host.chars().all(fits),
        };
        if valid { Ok(HostPort { host: host.to_owned(), port }) } else { Err(expected()) }
    }
}

impl AddressRange {
    /// 127.0.0.0/8
    #[must_use]
    pub const fn loopback_v4() -> AddressRange {
        AddressRange { network: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), bits: 8 }
    }

    /// `::1`
    #[must_use]
    pub const fn loopback_v6() -> AddressRange {
        AddressRange { network: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 }
    }

    /// Whether `address` lies inside; an IPv4 address mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.bits)
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = |most: u8| {
            format!("{text:?}: expected ADDRESS or ADDRESS/BITS with BITS from 0 to {most}, such as \"127.0.0.0/8\"")
        };
        let (network, bits) = match text.split_once('/') {
            Some((network, bits)) => (network, Some(bits)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().map_err(|_| expected(32))?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(|| expected(most))?,
            None => most,
        };
        // Peers are looked at as what they are without the mapping.
        match network.to_canonical() {
            IpAddr::V4(mapped) if network.is_ipv6() => {
                let bits = bits.checked_sub(IPV4_WITHIN_IPV6_BITS).ok_or_else(|| {
                    format!("{text:?}: expected at least {IPV4_WITHIN_IPV6_BITS} bits of IPv4 within IPv6")
                })?;
                Ok(AddressRange { network: mapped.into(), bits })
            }
            network => Ok(AddressRange { network, bits }),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Target).map_err(|_| {
            format!(
                "{text:?}: expected ADDRESS, ADDRESS/BITS or ADDRESS:PORT, such as \"10.0.0.0/8\" or \"127.0.0.1:2855\""
            )
        })
    }
}

macro_rules! deserialize_from_text {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

impl Serialize for AddressRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

deserialize_from_text!(ListenAddress, NextHop, HostPort, AddressRange, Target);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_what_they_should() {
        for (range, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "192.0.2.2", false),
            ("::ffff:192.0.2.0/120", "192.0.2.255", true),
            ("::ffff:192.0.2.0/120", "::ffff:192.0.2.9", true),
            ("::ffff:192.0.2.0/120", "192.0.3.1", false),
            ("::ffff:0.0.0.0/96", "203.0.113.7", true),
            ("::/0", "2001:db8::1", true),
            ("::1", "::1", true),
            ("::1", "127.0.0.1", false),
        ] {
            let range: AddressRange = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), inside, "{range:?} {address}");
        }
    }

    #[test]
    fn a_range_of_mapped_addresses_is_one_of_ipv4_or_none() {
        let range: AddressRange = "::ffff:192.0.2.0/120".parse().unwrap();
        assert_eq!(range.to_string(), "192.0.2.0/24");
        let refused = "::ffff:192.0.2.0/24".parse::<AddressRange>().unwrap_err();
        assert!(refused.contains("at least 96 bits"), "{refused}");
    }

    #[test]
    fn host_and_port_are_told_apart() {
        let parsed = |text: &str| text.parse::<HostPort>().map(|it| (it.host, it.port)).ok();
        assert_eq!(parsed("sip.example.org"), Some(("sip.example.org".into(), None)));
        assert_eq!(parsed("192.0.2.1:5062"), Some(("192.0.2.1".into(), Some(5062))));
        assert_eq!(parsed("[2001:db8::1]"), Some(("[2001:db8::1]".into(), None)));
        assert_eq!(parsed("[2001:db8::1]:1"), Some(("[2001:db8::1]".into(), Some(1))));
        for wrong in ["", "a b", "host:", "host:70000", "2001:db8::1", "a;b", "[::1"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
