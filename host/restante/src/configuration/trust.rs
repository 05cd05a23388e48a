//! Whom a tenant trusts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use super::AddressRange;

/// `ADDRESS`, `ADDRESS/BITS`, or `tls:NAME`: a peer at an address, or one that showed a certificate with that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedPeer {
    /// Whoever sends from there.
    Address(AddressRange),
    /// Whoever has a verified certificate for this domain (RFC 5922 §7), in lower case.
    Name(Box<str>),
}

impl TrustedPeer {
    /// Whether an address is trusted.
    #[must_use]
    pub fn is_at(&self, address: IpAddr) -> bool {
        matches!(self, TrustedPeer::Address(range) if range.contains(address))
    }

    /// Whether whoever has a certificate for these domains is.
    #[must_use]
    pub fn is_one_of(&self, names: &[Box<str>]) -> bool {
        matches!(self, TrustedPeer::Name(trusted) if names.contains(trusted))
    }
}

impl From<AddressRange> for TrustedPeer {
    fn from(range: AddressRange) -> TrustedPeer {
        TrustedPeer::Address(range)
    }
}

impl fmt::Display for TrustedPeer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustedPeer::Address(range) => range.fmt(formatter),
            TrustedPeer::Name(name) => write!(formatter, "tls:{name}"),
        }
    }
}

impl FromStr for TrustedPeer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(name) = text.strip_prefix("tls:") else { return text.parse().map(TrustedPeer::Address) };
        let is_label = |label: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            !label.is_empty() && label.bytes().all(fits)
        };
        // An address is trusted without "tls:"; certificates are looked at for domains alone.
        if name.split('.').all(is_label) && name.parse::<IpAddr>().is_err() {
            Ok(TrustedPeer::Name(name.to_ascii_lowercase().into()))
        } else {
            Err(format!("{text:?}: expected one host name behind \"tls:\", such as \"tls:proxy.example.org\""))
        }
    }
}

impl Serialize for TrustedPeer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TrustedPeer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_trusted_by_address_or_by_name() {
        for text in ["192.0.2.0/24", "::1/128", "tls:proxy.example.org"] {
            assert_eq!(text.parse::<TrustedPeer>().unwrap().to_string(), text);
        }
        let named: TrustedPeer = "tls:Proxy.Example.org".parse().unwrap();
        assert!(named.is_one_of(&["a.example".into(), "proxy.example.org".into()]));
        assert!(!named.is_one_of(&["example.org".into(), "x.proxy.example.org".into()]));
        assert!(!named.is_at("192.0.2.1".parse().unwrap()));
        for wrong in [
            "tls:",
            "tls:*.example.org",
            "tls:a..b",
            "tls:192.0.2.1/24",
            "tls:192.0.2.1",
            "sip:example.org",
            "TLS:a.example",
        ] {
            assert!(wrong.parse::<TrustedPeer>().is_err(), "{wrong}");
        }
    }
}
