//! Where peers may make us connect to, as the configuration says, and where that would be ourselves.

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use restante_sip::uri::host_address;
use restante_transport::destination::{AllowedTarget, DestinationPolicy};

use crate::configuration::{Configuration, HostPort};

/// Where peers may make us connect to: what the operator wrote, and nothing else. Where nothing is written, a server
/// that nobody but this machine can reach may reach this machine.
///
/// Deviation: loopback without an entry of its own, so that a first try on one machine works. Whoever puts a proxy on
/// the same machine before the server writes `allow_targets`, be it empty: others speak through that proxy.
///
/// # Errors
/// Something is listened for on every address of the machine, and which those are cannot be read: then anybody could
/// have us connect to ourselves.
pub(super) fn destinations(configuration: &Configuration) -> Result<DestinationPolicy> {
    let is_local = open_to_peers(configuration).all(|socket| socket.ip().is_loopback());
    let allowed: Vec<AllowedTarget> = match &configuration.sip.allow_targets {
        Some(targets) => targets.iter().map(|target| target.0).collect(),
        None if is_local => ["127.0.0.0/8", "::1"].into_iter().filter_map(|range| range.parse().ok()).collect(),
        None => Vec::new(),
    };
    let machine = match addresses_of_this_machine() {
        Ok(addresses) => addresses.into_iter().filter(|address| !address.is_loopback()).collect(),
        Err(error) => {
            tracing::warn!(
                %error,
                "cannot list the addresses of this machine; its other services are protected on loopback only"
            );
            Vec::new()
        }
    };
    Ok(DestinationPolicy { own: own_places(configuration, addresses_of_this_machine)?, machine, allowed })
}

/// SIP and MSRP.
fn open_to_peers(configuration: &Configuration) -> impl Iterator<Item = SocketAddr> {
    let sip = configuration.sip.listen.iter();
    sip.chain(&configuration.msrp.listen).chain(&configuration.msrp.web_socket_listen).map(|listen| listen.socket)
}

/// Where our listeners are met: at their own address; at each of the machine's, which is asked only then, where they
/// are on every address; and at what we tell peers.
fn own_places(
    configuration: &Configuration,
    machine: impl FnOnce() -> io::Result<Vec<IpAddr>>,
) -> Result<Vec<SocketAddr>> {
    let admin = configuration.admin.listen;
    let is_everywhere = |socket: &SocketAddr| socket.ip().to_canonical().is_unspecified();
    let machine = match open_to_peers(configuration).chain(admin).find(is_everywhere) {
        Some(everywhere) => machine().with_context(|| {
            format!(
                "cannot list the addresses of this machine, and {everywhere} listens on all of them: peers could make \
                 us connect to our own listeners: expected listeners on single addresses, or permission to list them \
                 (with systemd AF_NETLINK in RestrictAddressFamilies)"
            )
        })?,
        None => Vec::new(),
    };
    let told: Vec<&HostPort> =
        [&configuration.sip.advertise, &configuration.msrp.advertise].into_iter().flatten().collect();
    let mut own = Vec::new();
    // The administration's socket is one of the system's usual ones, where that for IPv6 takes IPv4, too; those of SIP
    // and MSRP do not.
    let peers = open_to_peers(configuration).map(|socket| (socket, false));
    for (socket, takes_both) in peers.chain(admin.map(|socket| (socket, true))) {
        own.push(socket);
        let of_family = |address: &&IpAddr| address.is_ipv6() == socket.is_ipv6() || (takes_both && socket.is_ipv6());
        if is_everywhere(&socket) {
            own.extend(machine.iter().filter(of_family).map(|address| SocketAddr::new(*address, socket.port())));
        }
        let at_told = |place: &&HostPort| Some(SocketAddr::new(host_address(&place.host)?, socket.port()));
        own.extend(told.iter().filter_map(at_told));
    }
    own.extend(told.iter().filter_map(|place| Some(SocketAddr::new(host_address(&place.host)?, place.port?))));
    own.retain(|place| place.port() != 0);
    own.sort_unstable();
    own.dedup();
    Ok(own)
}

/// What its interfaces have now. An address that comes later is not known.
fn addresses_of_this_machine() -> io::Result<Vec<IpAddr>> {
    Ok(if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use restante_transport::destination::RefusedTarget;

    use super::*;

    fn configured(change: impl FnOnce(&mut Configuration)) -> Configuration {
        let mut configuration = Configuration::default();
        change(&mut configuration);
        configuration
    }

    #[test]
    fn a_listener_on_every_address_is_our_own_at_each_that_the_machine_has_or_we_tell() {
        let machine = ["127.0.0.1", "10.1.2.3", "172.17.0.1", "::1", "2001:db8::7", "fe80::7"];
        let machine: Vec<IpAddr> = machine.iter().map(|text| text.parse().unwrap()).collect();
        let configuration = configured(|it| {
            it.sip.listen = vec!["udp:0.0.0.0:5060".parse().unwrap(), "tcp:10.1.2.3:5070".parse().unwrap()];
            it.sip.advertise = Some("203.0.113.1:6060".parse().unwrap());
            it.msrp.listen = vec!["tcp:[::]:2855".parse().unwrap()];
            it.msrp.web_socket_listen = vec!["ws:0.0.0.0:8080".parse().unwrap()];
            it.msrp.advertise = Some("[2001:db8:1::1]".parse().unwrap());
            it.admin.listen = Some("[::]:8085".parse().unwrap());
        });
        let everywhere = ["0.0.0.0/0", "::/0", "127.0.0.0/8", "::1", "fe80::/10"];
        let policy = DestinationPolicy {
            own: own_places(&configuration, || Ok(machine)).unwrap(),
            allowed: everywhere.iter().map(|text| text.parse().unwrap()).collect(),
            ..DestinationPolicy::default()
        };
        for (target, is_own) in [
            ("127.0.0.1:5060", true),
            ("127.9.9.9:5060", true),
            ("10.1.2.3:5060", true),
            ("[::ffff:10.1.2.3]:5060", true),
            ("172.17.0.1:5060", true),
            ("10.1.2.4:5060", false),
            ("10.1.2.3:5061", false),
            ("[2001:db8::7]:5060", false),
            ("10.1.2.3:5070", true),
            ("172.17.0.1:5070", false),
            ("203.0.113.1:5060", true),
            ("203.0.113.1:5070", true),
            ("203.0.113.1:6060", true),
            ("203.0.113.1:6061", false),
            ("[2001:db8::7]:2855", true),
            ("[fe80::7]:2855", true),
            ("[::1]:2855", true),
            ("[2001:db8:1::1]:2855", true),
            // Sockets of IPv6 for SIP and MSRP take nothing of IPv4.
            ("10.1.2.3:2855", false),
            ("10.1.2.3:8080", true),
            ("[2001:db8::7]:8085", true),
            ("10.1.2.3:8085", true),
            ("10.1.2.4:8085", false),
        ] {
            let target: SocketAddr = target.parse().unwrap();
            let expected = if is_own { Err(RefusedTarget::OwnListener) } else { Ok(()) };
            assert_eq!(policy.check(target, target), expected, "{target}");
        }
    }

    #[test]
    fn the_machine_is_not_asked_where_every_listener_has_an_address() {
        let configuration = configured(|it| {
            it.sip.listen = vec!["udp:127.0.0.1:5060".parse().unwrap(), "tcp:127.0.0.1:0".parse().unwrap()];
            it.sip.advertise = Some("sip.example.org:5060".parse().unwrap());
        });
        let own = own_places(&configuration, || panic!("nobody listens on every address")).unwrap();
        let expected = ["127.0.0.1:2855", "127.0.0.1:5060"].map(|text| text.parse::<SocketAddr>().unwrap());
        assert_eq!(own, expected);
    }

    #[test]
    fn a_server_on_every_address_does_not_start_where_it_is_not_told_which_those_are() {
        let forbidden = || Err(io::ErrorKind::PermissionDenied.into());
        for listen in ["udp:0.0.0.0:5060", "udp:[::]:5060"] {
            let configuration = configured(|it| it.sip.listen = vec![listen.parse().unwrap()]);
            let refused = format!("{:#}", own_places(&configuration, forbidden).unwrap_err());
            assert!(refused.contains("AF_NETLINK") && refused.contains(":5060"), "{refused}");
        }
        let admin = configured(|it| it.admin.listen = Some("0.0.0.0:8085".parse().unwrap()));
        assert!(own_places(&admin, forbidden).is_err());
    }

    #[test]
    fn what_this_machine_can_bind_to_it_does_not_connect_to() {
        let addresses = addresses_of_this_machine().unwrap();
        assert!(addresses.iter().any(IpAddr::is_loopback), "{addresses:?}");
        let policy = destinations(&configured(|it| {
            it.sip.listen = vec!["udp:0.0.0.0:5060".parse().unwrap(), "udp:[::]:5060".parse().unwrap()];
            it.sip.allow_targets = Some(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
        }))
        .unwrap();
        for address in addresses {
            // A link-local address is one only with the interface that it is of.
            let is_bound = UdpSocket::bind((address, 0)).is_ok();
            assert!(is_bound || matches!(address, IpAddr::V6(it) if it.is_unicast_link_local()), "{address}");
            let at = |port| SocketAddr::new(address, port);
            assert_eq!(policy.check(at(5060), at(5080)), Err(RefusedTarget::OwnListener), "{address}");
            // Nor to what else listens on it.
            let other = policy.check(at(6379), at(5080));
            use RefusedTarget::{LinkLocal, Loopback, ThisMachine};
            assert!(matches!(other, Err(ThisMachine | Loopback | LinkLocal)), "{address}: {other:?}");
        }
    }
}
