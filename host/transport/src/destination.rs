//! Where peers may make us connect to: an MSRP path, a Contact, a Path name places of the peer's choice.
//!
//! By default only the address that the signalling came from. Loopback and link-local addresses need an entry in the
//! operator's list even then, because signalling that a proxy on the same machine passed on may name any service of this
//! machine, at whatever address of it; our own listeners need an entry that names the port.
//!
//! | target | entry that allows it |
//! |---|---|
//! | one of our own listeners | with its port |
//! | loopback: 127.0.0.0/8, `::1` | of nothing but such addresses |
//! | link-local: 169.254.0.0/16, fe80::/10 | of nothing but such addresses |
//! | another address of this machine | that is this address alone; or none, as below, for where the signalling itself came from and for the usual ports of SIP and MSRP |
//! | any other address | that contains it; or none, where the signalling came from there |

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

use crate::address::AddressError;

/// Ports where SIP and MSRP are spoken and nothing else is listened for: a proxy on the same machine is reached there.
const USUAL_PORTS: [u16; 3] = [5060, 5061, 2855];

/// What the operator allows, and what is ours.
#[derive(Clone, Debug, Default)]
pub struct DestinationPolicy {
    /// Our own listeners, SIP and MSRP and administration.
    pub own: Vec<SocketAddr>,
    /// The addresses of this machine, as far as they are not loopback or link-local.
    pub machine: Vec<IpAddr>,
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
    /// Some other service of this machine.
    #[error("an address of this machine that is not allowed")]
    ThisMachine,
    /// Neither where the signalling came from nor allowed.
    #[error("neither the address the signalling came from nor one that is allowed")]
    Foreign,
}

impl DestinationPolicy {
    /// Whether `target`, which a peer named in signalling that came from `signalled_from`, may be connected to. Where it is not
    /// known from which port the signalling came, that is 0.
    ///
    /// # Errors
    /// [`RefusedTarget`]
    pub fn check(&self, target: SocketAddr, signalled_from: SocketAddr) -> Result<(), RefusedTarget> {
        let address = target.ip().to_canonical();
        if target.port() == 0 || is_no_place(address) {
            return Err(RefusedTarget::NoPlace);
        }
        let mut entries = self.allowed.iter().filter(|entry| entry.contains(address, target.port()));
        if self.is_own(address, target.port()) {
            return if entries.any(|entry| entry.port.is_some()) { Ok(()) } else { Err(RefusedTarget::OwnListener) };
        }
        // Whoever opens the whole world, or half of it, means other machines.
        if let Some((range_bits, refused)) = kept_apart(address) {
            return if entries.any(|entry| entry.prefix_bits >= range_bits) { Ok(()) } else { Err(refused) };
        }
        let signalled_from = SocketAddr::new(signalled_from.ip().to_canonical(), signalled_from.port());
        if self.machine.contains(&address) && !USUAL_PORTS.contains(&target.port()) {
            let is_allowed = signalled_from == SocketAddr::new(address, target.port())
                || entries.any(|entry| entry.prefix_bits == all_bits(address));
            return if is_allowed { Ok(()) } else { Err(RefusedTarget::ThisMachine) };
        }
        let is_allowed = address == signalled_from.ip() || entries.next().is_some();
        if is_allowed { Ok(()) } else { Err(RefusedTarget::Foreign) }
    }

    /// A listener on every address is met by loopback; the addresses that the machine has besides stand in the list
    /// themselves.
    fn is_own(&self, address: IpAddr, port: u16) -> bool {
        self.own.iter().any(|own| {
            let ip = own.ip().to_canonical();
            own.port() == port && (ip == address || (ip.is_unspecified() && address.is_loopback()))
        })
    }
}

fn all_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_no_place(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// For an address that wider entries say nothing of: the bits of the range that it is in, and why it is refused.
fn kept_apart(address: IpAddr) -> Option<(u8, RefusedTarget)> {
    match address {
        IpAddr::V4(address) if address.is_loopback() => Some((8, RefusedTarget::Loopback)),
        IpAddr::V4(address) if address.is_link_local() => Some((16, RefusedTarget::LinkLocal)),
        IpAddr::V6(address) if address.is_loopback() => Some((128, RefusedTarget::Loopback)),
        IpAddr::V6(address) if address.is_unicast_link_local() => Some((10, RefusedTarget::LinkLocal)),
        _ => None,
    }
}

impl AllowedTarget {
    /// A network, or one address with all its bits. IPv4 within IPv6 (`::ffff:0:0/96`) is that of IPv4.
    ///
    /// # Errors
    /// When `prefix_bits` is more than the address has, or less than says that it is IPv4.
    pub fn network(network: IpAddr, prefix_bits: u8) -> Result<AllowedTarget, AddressError> {
        let error = |expected| AddressError { text: format!("{network}/{prefix_bits}"), expected };
        let most = if network.is_ipv4() { 32 } else { 128 };
        if prefix_bits > most {
            return Err(error("at most 32 or 128 bits"));
        }
        let canonical = network.to_canonical();
        let before = if canonical.is_ipv4() { most.saturating_sub(32) } else { 0 };
        let prefix_bits =
            prefix_bits.checked_sub(before).ok_or_else(|| error("at least 96 bits of IPv4 within IPv6"))?;
        Ok(AllowedTarget { network: canonical, prefix_bits, port: None })
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
            let prefix_bits = all_bits(network);
            return Ok(AllowedTarget { network, prefix_bits, port: Some(place.port()) });
        }
        let (network, bits) = match text.split_once('/') {
            Some((network, bits)) => (network, Some(bits.parse::<u8>().map_err(|_| error())?)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().map_err(|_| error())?;
        AllowedTarget::network(network, bits.unwrap_or(all_bits(network))).map_err(|_| error())
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
                ..DestinationPolicy::default()
            };
            assert_eq!(
                policy.check(target.parse().unwrap(), SocketAddr::new(from.parse().unwrap(), 5060)),
                expected,
                "{list} {target} from {from}"
            );
        }
    }

    #[test]
    fn loopback_and_link_local_are_allowed_by_what_names_nothing_else() {
        use RefusedTarget::{LinkLocal, Loopback};
        let world: &[&str] = &["0.0.0.0/0", "::/0", "::ffff:0:0/96"];
        let halves: &[&str] = &["126.0.0.0/7", "169.254.0.0/15", "::/127", "fe80::/9"];
        let ranges: &[&str] = &["127.0.0.0/8", "169.254.0.0/16", "::1", "fe80::/10"];
        let parts: &[&str] = &["127.0.0.0/24", "169.254.169.254", "::1/128", "fe80::/64"];
        let mapped: &[&str] = &["::ffff:127.0.0.0/104", "::ffff:169.254.169.254"];
        for (target, refused, allowing) in [
            ("127.0.0.1:22", Loopback, [ranges, parts, mapped].as_slice()),
            ("127.7.7.7:22", Loopback, &[ranges, mapped]),
            ("[::1]:22", Loopback, &[ranges, parts]),
            ("[::ffff:127.0.0.1]:22", Loopback, &[ranges, parts, mapped]),
            ("169.254.169.254:80", LinkLocal, &[ranges, parts, mapped]),
            ("169.254.7.7:80", LinkLocal, &[ranges]),
            ("[::ffff:169.254.169.254]:80", LinkLocal, &[ranges, parts, mapped]),
            ("[fe80::1]:80", LinkLocal, &[ranges, parts]),
            ("[fe80:0:0:1::1]:80", LinkLocal, &[ranges]),
        ] {
            for list in [world, halves, ranges, parts, mapped] {
                let allowed = list.iter().map(|text| text.parse().unwrap()).collect();
                let policy = DestinationPolicy { allowed, ..DestinationPolicy::default() };
                let target: SocketAddr = target.parse().unwrap();
                let expected = if allowing.contains(&list) { Ok(()) } else { Err(refused) };
                for from in [target, "192.0.2.1:5060".parse().unwrap()] {
                    assert_eq!(policy.check(target, from), expected, "{target} from {from} with {list:?}");
                }
            }
        }
        let allowed = world.iter().map(|text| text.parse().unwrap()).collect();
        let policy = DestinationPolicy { allowed, ..DestinationPolicy::default() };
        for target in ["203.0.113.7:80", "[2001:db8::7]:80", "[::ffff:203.0.113.7]:80"] {
            assert_eq!(policy.check(target.parse().unwrap(), "192.0.2.1:5060".parse().unwrap()), Ok(()), "{target}");
        }
    }

    #[test]
    fn other_services_of_this_machine_are_not_for_whoever_speaks_through_a_proxy_on_it() {
        use RefusedTarget::{OwnListener, ThisMachine};
        let lists: [&[&str]; 4] =
            [&[], &["0.0.0.0/0", "::/0", "192.0.2.0/24"], &["192.0.2.10:6379"], &["192.0.2.10", "2001:db8::10"]];
        for (list, target, from, expected) in [
            (0, "192.0.2.10:6379", "192.0.2.10:5060", Err(ThisMachine)),
            (0, "[::ffff:192.0.2.10]:6379", "192.0.2.10:5060", Err(ThisMachine)),
            (0, "[2001:db8::10]:6379", "[2001:db8::10]:5060", Err(ThisMachine)),
            // What the proxy sends from, and what is spoken there.
            (0, "192.0.2.10:5080", "192.0.2.10:5080", Ok(())),
            (0, "192.0.2.10:5080", "192.0.2.10:0", Err(ThisMachine)),
            (0, "192.0.2.10:5060", "192.0.2.10:43210", Ok(())),
            (0, "192.0.2.10:2855", "192.0.2.10:0", Ok(())),
            (0, "192.0.2.10:5070", "192.0.2.10:5070", Err(OwnListener)),
            (0, "192.0.2.11:6379", "192.0.2.11:5060", Ok(())),
            (1, "192.0.2.10:6379", "192.0.2.10:5060", Err(ThisMachine)),
            (1, "192.0.2.11:6379", "192.0.2.10:5060", Ok(())),
            (2, "192.0.2.10:6379", "198.51.100.1:5060", Ok(())),
            (2, "192.0.2.10:6380", "192.0.2.10:5060", Err(ThisMachine)),
            (3, "192.0.2.10:6380", "198.51.100.1:5060", Ok(())),
            (3, "[2001:db8::10]:6379", "198.51.100.1:5060", Ok(())),
        ] {
            let policy = DestinationPolicy {
                own: vec!["192.0.2.10:5070".parse().unwrap()],
                machine: ["192.0.2.10", "2001:db8::10"].map(|text| text.parse().unwrap()).into(),
                allowed: lists[list].iter().map(|text| text.parse().unwrap()).collect(),
            };
            let found = policy.check(target.parse().unwrap(), from.parse().unwrap());
            assert_eq!(found, expected, "{list} {target} from {from}");
        }
    }

    #[test]
    fn entries_that_mean_nothing_are_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "::ffff:10.0.0.0/8",
            "10.0.0.0/x",
            "example.org",
            "10.0.0.1:99999",
            "10.0.0.0/8:5060",
        ] {
            assert!(text.parse::<AllowedTarget>().is_err(), "{text}");
        }
        assert!("0.0.0.0/0".parse::<AllowedTarget>().unwrap().contains("192.0.2.1".parse().unwrap(), 1));
    }
}
