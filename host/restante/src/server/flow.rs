//! Between the transport's words and the transactions'.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use restante_sip::transaction::{ConnectionId, Flow, NameId, Transport};
use restante_sip::uri::{SipUri, host_address};
use restante_transport::{Flow as SocketFlow, Protocol, Target};

/// What the transactions call a protocol of the transport's.
#[must_use]
pub fn transport_of(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Udp => Transport::Udp,
        Protocol::Tcp => Transport::Tcp,
        Protocol::Tls => Transport::Tls,
        Protocol::Ws => Transport::Ws,
        Protocol::Wss => Transport::Wss,
    }
}

/// The other way about.
#[must_use]
pub fn protocol_of(transport: Transport) -> Protocol {
    match transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
        Transport::Tls => Protocol::Tls,
        Transport::Ws => Protocol::Ws,
        Transport::Wss => Protocol::Wss,
    }
}

/// What a message came over, for the transactions.
#[must_use]
pub fn from_socket(flow: &SocketFlow) -> Flow {
    Flow {
        transport: transport_of(flow.protocol),
        local: flow.local,
        remote: flow.remote,
        connection: flow.connection.map(|id| ConnectionId(id.0)),
        name: None,
    }
}

/// Where bytes of a transaction go: the connection they belong to, or the address; over UDP from our end of the flow.
#[must_use]
pub fn to_target(flow: &Flow) -> Target {
    let protocol = protocol_of(flow.transport);
    let connection = flow.connection.map(|id| restante_transport::ConnectionId(id.0));
    match connection {
        _ if connection.is_some() || protocol == Protocol::Udp => {
            Target::Flow(SocketFlow { protocol, listener: None, local: flow.local, remote: flow.remote, connection })
        }
        _ => {
            let name = flow.name.map(|NameId(id)| restante_transport::NameId(id));
            Target::Address { protocol, remote: flow.remote, listener: None, name }
        }
    }
}

/// To an address, from wherever fits.
#[must_use]
pub fn towards(transport: Transport, remote: SocketAddr) -> Flow {
    let any = match remote {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Flow { transport, local: SocketAddr::new(any, 0), remote, connection: None, name: None }
}

/// To another address, from the same end of ours where that leads there.
#[must_use]
pub fn beside(flow: &Flow, transport: Transport, remote: SocketAddr) -> Flow {
    let leads_there = flow.transport == transport && flow.remote.ip() == remote.ip();
    let local = Some(flow.local).filter(|_| leads_there && transport == Transport::Udp);
    let other = towards(transport, remote);
    Flow { local: local.unwrap_or(other.local), ..other }
}

/// A flow as text, kept with a registration: `tcp 192.0.2.1:5060 7`, with `relayed` behind it where a proxy passed the
/// REGISTER on. Over UDP also our end: `udp 192.0.2.1:5060 0 at 192.0.2.9:5060`.
#[must_use]
pub fn write(flow: &Flow, relayed: bool) -> String {
    let transport = protocol_of(flow.transport);
    let connection = flow.connection.map_or(0, |id| id.0);
    let relayed = if relayed { " relayed" } else { "" };
    let is_known = flow.transport == Transport::Udp && flow.local.port() != 0;
    let local = if is_known { format!(" at {}", flow.local) } else { String::new() };
    format!("{transport} {} {connection}{relayed}{local}", flow.remote)
}

/// Reads it back. Connections do not outlive the process that had them: `alive` says whether this one may be meant.
#[must_use]
pub fn read(text: &str, alive: bool) -> Option<(Flow, bool)> {
    let mut parts = text.split(' ');
    let transport = transport_of(parts.next()?.parse().ok()?);
    let remote = parts.next()?.parse().ok()?;
    let connection: u64 = parts.next()?.parse().ok()?;
    let connection = (alive && connection != 0).then_some(ConnectionId(connection));
    let mut flow = Flow { connection, ..towards(transport, remote) };
    let mut next = parts.next();
    let relayed = next == Some("relayed");
    if relayed {
        next = parts.next();
    }
    if next == Some("at") {
        flow.local = parts.next()?.parse().ok()?;
    }
    Some((flow, relayed))
}

/// The address in a SIP URI whose host is one.
#[must_use]
pub fn socket_of(uri: &SipUri) -> Option<SocketAddr> {
    Some(SocketAddr::new(host_address(&uri.host)?, uri.port_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read_as_it_was_written_but_for_dead_connections() {
        for (text, connection, relayed) in [
            ("udp 192.0.2.1:5060 0", None, false),
            ("tcp [2001:db8::1]:5060 7 relayed", Some(ConnectionId(7)), true),
            ("tls [2001:db8::1]:40001 8", Some(ConnectionId(8)), false),
            ("ws 192.0.2.1:40001 9", Some(ConnectionId(9)), false),
            ("wss 192.0.2.1:40001 10 relayed", Some(ConnectionId(10)), true),
        ] {
            let (flow, was_relayed) = read(text, true).unwrap();
            assert_eq!((flow.connection, was_relayed), (connection, relayed));
            assert_eq!(write(&flow, was_relayed), text);
            assert_eq!(read(text, false).unwrap().0.connection, None);
        }
        assert!(read("sctp 192.0.2.1:5060 0", true).is_none() && read("", true).is_none());
    }

    #[test]
    fn our_end_of_a_flow_over_udp_is_kept() {
        for (text, local, relayed) in [
            ("udp 192.0.2.1:5060 0 at 192.0.2.9:5070", "192.0.2.9:5070", false),
            ("udp [2001:db8::1]:5060 0 relayed at [2001:db8::9]:5060", "[2001:db8::9]:5060", true),
            ("udp 192.0.2.1:5060 0", "0.0.0.0:0", false),
        ] {
            let (flow, was_relayed) = read(text, false).unwrap();
            assert_eq!((flow.local.to_string().as_str(), was_relayed), (local, relayed));
            assert_eq!(write(&flow, was_relayed), text);
        }
        assert!(read("udp 192.0.2.1:5060 0 at nowhere", true).is_none());
        let local: SocketAddr = "192.0.2.9:5070".parse().unwrap();
        let seen = Flow { local, ..towards(Transport::Udp, "192.0.2.1:40000".parse().unwrap()) };
        let same = beside(&seen, Transport::Udp, "192.0.2.1:5060".parse().unwrap());
        assert_eq!((same.local, same.remote.port()), (local, 5060));
        for (transport, remote) in [(Transport::Udp, "192.0.2.2:5060"), (Transport::Tcp, "192.0.2.1:5060")] {
            let remote = remote.parse().unwrap();
            assert_eq!(beside(&seen, transport, remote), towards(transport, remote));
        }
    }
}
