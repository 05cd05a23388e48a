//! Where peers may make us connect to: an MSRP path, a Contact, a Path name places of the peer's choice.
//!
//! By default only the address that the signalling came from. Loopback and link-local addresses need an entry in the
//! operator's list even then, because signalling that a proxy on the same machine passed on may name any service of this
//! machine; our own listeners need an entry that names the port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

use crate::address::AddressError;

/// What the operator allows, and what is ours.
#[derive(Clone, Debug, Default)]
pub struct DestinationPolicy {
    /// Our own listeners, SIP and MSRP and administration.
    pub own: Vec<SocketAddr>,
    /// Further places that may be connected to.
    pub allowed: Vec<AllowedTarget>,
}

/// `ADDRESS`, `ADDRESS/BITS` or `ADDRESS:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedTarget {
    network: IpAddr,
    prefix_bits: u8,
    port: Option<u16>,
}

/// Why a place may not be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RefusedTarget {
    /// Unspecified, multicast or broadcast, or port 0: no place at all.
    #[error("not an address that can be connected to")]
    NoPlace,
    /// One of our own listeners.
    #[error("one of this server's own listeners")]
    OwnListener,
    /// A loopback address.
    #[error("a loopback address that is not allowed")]
    Loopback,
    /// A link-local address.
    #[error("a link-local address that is not allowed")]
    LinkLocal,
    /// Neither where the signalling came from nor allowed.
    #[error("neither the address the signalling came from nor one that is allowed")]
    Foreign,
}

impl DestinationPolicy {
    /// Whether `target`, which a peer named in signalling that came from `signalled_from`, may be connected to.
    ///
    /// # Errors
    /// [`RefusedTarget`]
    pub fn check(&self, target: SocketAddr, signalled_from: IpAddr) -> Result<(), RefusedTarget> {
        let address = target.ip().to_canonical();
        if target.port() == 0 || is_no_place(address) {
            return Err(RefusedTarget::NoPlace);
        }
        let allowed = |with_port: bool| {
            self.allowed
                .iter()
                .any(|entry| (entry.port.is_some() || !with_port) && entry.contains(address, target.port()))
        };
        if self.is_own(address, target.port()) {
            return if allowed(true) { Ok(()) } else { Err(RefusedTarget::OwnListener) };
        }
        if allowed(false) {
            return Ok(());
        }
        if address.is_loopback() {
            return Err(RefusedTarget::Loopback);
        }
        if is_link_local(address) {
            return Err(RefusedTarget::LinkLocal);
        }
        if address == signalled_from.to_canonical() { Ok(()) } else { Err(RefusedTarget::Foreign) }
    }

    /// A listener on every address is met at least by loopback and by its own address; which others the machine has is
    /// not asked here.
    fn is_own(&self, address: IpAddr, port: u16) -> bool {
        self.own.iter().any(|own| {
            let ip = own.ip().to_canonical();
            own.port() == port && (ip == address || (ip.is_unspecified() && address.is_loopback()))
        })
    }
}

fn is_no_place(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

impl AllowedTarget {
    /// A network, or one address with all its bits.
    ///
    /// # Errors
    /// When `prefix_bits` is more than the address has.
    pub fn network(network: IpAddr, prefix_bits: u8) -> Result<AllowedTarget, AddressError> {
        let network = network.to_canonical();
        let most = if network.is_ipv4() { 32 } else { 128 };
        if prefix_bits > most {
            return Err(AddressError { text: format!("{network}/{prefix_bits}"), expected: "at most 32 or 128 bits" });
        }
        Ok(AllowedTarget { network, prefix_bits, port: None })
    }

    fn contains(&self, address: IpAddr, port: u16) -> bool {
        let bits = u32::from(self.prefix_bits);
        let inside = match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32u32.saturating_sub(bits)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        };
        inside && self.port.is_none_or(|only| only == port)
    }
}

impl FromStr for AllowedTarget {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError {
            text: text.to_owned(),
            expected: "ADDRESS, ADDRESS/BITS or ADDRESS:PORT, IPv6 in brackets with a port",
        };
        if let Ok(place) = text.parse::<SocketAddr>() {
            let network = place.ip().to_canonical();
            let prefix_bits = if network.is_ipv4() { 32 } else { 128 };
            return Ok(AllowedTarget { network, prefix_bits, port: Some(place.port()) });
        }
        let (network, bits) = match text.split_once('/') {
            Some((network, bits)) => (network, Some(bits.parse::<u8>().map_err(|_| error())?)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().map_err(|_| error())?;
        let all = if network.is_ipv4() { 32 } else { 128 };
        AllowedTarget::network(network, bits.unwrap_or(all)).map_err(|_| error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_judged_by_where_the_signalling_came_from_and_what_is_allowed() {
        use RefusedTarget::{Foreign, LinkLocal, Loopback, NoPlace, OwnListener};
        let own = ["198.51.100.1:5060", "0.0.0.0:2855", "127.0.0.1:8085"];
        let lists: [&[&str]; 3] =
            [&[], &["127.0.0.0/8", "203.0.113.0/24"], &["127.0.0.1:2855", "[fe80::7]:5060", "192.0.2.77"]];
        for (list, target, from, expected) in [
            (0, "192.0.2.1:5060", "192.0.2.1", Ok(())),
            (0, "192.0.2.1:1", "192.0.2.1", Ok(())),
            (0, "[::ffff:192.0.2.1]:5060", "192.0.2.1", Ok(())),
            (0, "[2001:db8::1]:5060", "2001:db8::1", Ok(())),
            (0, "192.0.2.2:5060", "192.0.2.1", Err(Foreign)),
            (0, "192.0.2.1:0", "192.0.2.1", Err(NoPlace)),
            (0, "0.0.0.0:5060", "0.0.0.0", Err(NoPlace)),
            (0, "[::]:5060", "::", Err(NoPlace)),
            (0, "224.0.1.75:5060", "224.0.1.75", Err(NoPlace)),
            (0, "255.255.255.255:5060", "255.255.255.255", Err(NoPlace)),
            (0, "127.0.0.1:22", "127.0.0.1", Err(Loopback)),
            (0, "[::1]:22", "::1", Err(Loopback)),
            (0, "[::ffff:127.0.0.1]:22", "127.0.0.1", Err(Loopback)),
            (0, "169.254.169.254:80", "169.254.169.254", Err(LinkLocal)),
            (0, "[fe80::1]:80", "fe80::1", Err(LinkLocal)),
            (0, "198.51.100.1:5060", "198.51.100.1", Err(OwnListener)),
            (0, "198.51.100.1:5062", "198.51.100.1", Ok(())),
            (1, "127.0.0.1:22", "192.0.2.1", Ok(())),
            (1, "127.0.0.1:8085", "127.0.0.1", Err(OwnListener)),
            (1, "127.0.0.9:2855", "127.0.0.1", Err(OwnListener)),
            (1, "203.0.113.200:9", "192.0.2.1", Ok(())),
            (1, "203.0.114.1:9", "192.0.2.1", Err(Foreign)),
            (2, "127.0.0.1:2855", "192.0.2.1", Ok(())),
            (2, "127.0.0.1:2856", "192.0.2.1", Err(Loopback)),
            (2, "[fe80::7]:5060", "192.0.2.1", Ok(())),
            (2, "[fe80::7]:5061", "192.0.2.1", Err(LinkLocal)),
            (2, "192.0.2.77:5061", "192.0.2.1", Ok(())),
        ] {
            let policy = DestinationPolicy {
                own: own.iter().map(|text| text.parse().unwrap()).collect(),
                allowed: lists[list].iter().map(|text| text.parse().unwrap()).collect(),
            };
            assert_eq!(
                policy.check(target.parse().unwrap(), from.parse().unwrap()),
                expected,
                "{list} {target} from {from}"
            );
        }
    }

    #[test]
    fn entries_that_mean_nothing_are_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/x", "example.org", "10.0.0.1:99999", "10.0.0.0/8:5060"] {
            assert!(text.parse::<AllowedTarget>().is_err(), "{text}");
        }
        assert!("0.0.0.0/0".parse::<AllowedTarget>().unwrap().contains("192.0.2.1".parse().unwrap(), 1));
    }
}
