//! Datagrams over real sockets on loopback.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use restante_transport::{
    Flow, Intake, Protocol, SendFailure, Target, Transport, TransportEvent, TransportLimits, Unreadable,
};
use support::{PATIENCE, request, start};
use tokio::net::UdpSocket;

#[tokio::test]
async fn a_message_comes_with_its_flow_and_the_flow_leads_back() {
    for (listen, bind) in [("udp:127.0.0.1:0", "127.0.0.1:0"), ("udp:[::1]:0", "[::1]:0")] {
        let mut fixture = start(&[listen], TransportLimits::default()).await;
        let peer = UdpSocket::bind(bind).await.unwrap();
        peer.send_to(&request("hello", b"\0\xff"), fixture.address(0)).await.unwrap();
        let (message, flow) = fixture.message().await;
        assert_eq!((message.call_id(), message.body().as_ref()), (Some("hello"), b"\0\xff".as_slice()));
        assert_eq!(
            (flow.protocol, flow.local, flow.remote),
            (Protocol::Udp, fixture.address(0), peer.local_addr().unwrap())
        );

        fixture.transport.sender().send(&Target::Flow(flow), Bytes::from_static(b"back"), None).unwrap();
        let mut buffer = [0; 100];
        let (length, from) = peer.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (b"back".as_slice(), fixture.address(0)), "from the port it was sent to");
    }
}

#[tokio::test]
async fn garbage_is_told_and_keep_alives_are_not() {
    let limits = TransportLimits { max_datagram_bytes: 2_000, ..TransportLimits::default() };
    let mut fixture = start(&["udp:127.0.0.1:0"], limits).await;
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let too_large = request("large", &[b'x'; 2_000]);
    let datagrams: [&[u8]; 7] =
        [b"\r\n\r\n", b"\0\0\0\0", b"", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 500], &too_large, &request("end", b"")];
    for datagram in datagrams {
        peer.send_to(datagram, fixture.address(0)).await.unwrap();
    }
    for expected in [datagrams[3], datagrams[4]] {
        let (bytes, reason) = fixture.unreadable().await;
        assert_eq!(bytes, expected);
        assert!(matches!(reason, Unreadable::Datagram(_)), "{reason:?}");
    }
    let (bytes, reason) = fixture.unreadable().await;
    assert_eq!((bytes.as_ref(), reason), (&too_large[..2_001], Unreadable::Truncated));
    assert_eq!(fixture.message().await.0.call_id(), Some("end"));
    assert_eq!((fixture.count("datagrams_keep_alive"), fixture.count("datagrams_received")), (3, 7));
}

#[tokio::test]
async fn stun_is_answered_as_often_as_flows_need_it_and_sip_goes_on() {
    let limits = TransportLimits { max_connections_per_source: 2, ..TransportLimits::default() };
    let mut fixture = start(&["udp:127.0.0.1:0"], limits).await;
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], b"transaction!"].concat();
    let peers = [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
    for _ in 0..5 {
        for peer in &peers {
            peer.send_to(&binding, fixture.address(0)).await.unwrap();
        }
    }
    peers[0].send_to(&request("after", b""), fixture.address(0)).await.unwrap();
    assert_eq!(fixture.message().await.0.call_id(), Some("after"));
    assert_eq!((fixture.count("datagrams_stun"), fixture.count("datagrams_stun_refused")), (4, 6));
    let other = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    other.send_to(&binding, fixture.address(0)).await.unwrap();
    fixture.until_count("datagrams_stun", 5).await;
}

#[tokio::test]
async fn a_flood_keeps_its_order_and_stops_nobody() {
    let listeners = ["udp:127.0.0.1:0", "udp:127.0.0.1:0"].map(|text| text.parse().unwrap());
    let (seen, mut events) = tokio::sync::mpsc::unbounded_channel();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    // Every datagram brings the next before the receiver looks again: it never finds its socket empty.
    let handler = move |event| {
        let TransportEvent::Received { message, flow } = event else { panic!() };
        let name = message.call_id().unwrap().to_owned();
        if let Ok(number @ ..20_000) = name.parse::<u32>() {
            socket.send_to(&request(&(number + 1).to_string(), b""), flow.local).unwrap();
        }
        seen.send(name).unwrap();
        Intake::Open
    };
    let transport = Transport::start(&listeners, TransportLimits::default(), Arc::new(handler)).await.unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    peer.send_to(&request("0", b""), transport.listeners()[0].local).await.unwrap();
    assert_eq!(events.recv().await.as_deref(), Some("0"));
    peer.send_to(&request("other", b""), transport.listeners()[1].local).await.unwrap();
    for number in 1.. {
        let name = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        if name == "other" {
            break;
        }
        assert_eq!(name, number.to_string(), "in order");
        assert!(number < 20_000, "the other listener had to wait for the whole flood");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_said_at_once() {
    let fixture = start(&["udp:127.0.0.1:0"], TransportLimits::default()).await;
    let sender = fixture.transport.sender();
    let to = |remote: &str| Target::Address {
        protocol: Protocol::Udp,
        remote: remote.parse().unwrap(),
        listener: None,
        name: None,
    };
    assert_eq!(sender.send(&to("[::1]:9"), Bytes::from_static(b"x"), None), Err(SendFailure::NoListener));
    assert_eq!(sender.send(&to("127.0.0.1:9"), vec![0; 65_536].into(), None), Err(SendFailure::TooLarge));
    assert_eq!(fixture.count("datagrams_not_sent"), 1);
}

#[tokio::test]
async fn the_listener_that_reaches_the_target_is_chosen() {
    let fixture =
        start(&["udp:0.0.0.0:0", "udp:127.0.0.1:0", "udp:[::1]:0", "tcp:127.0.0.1:0"], TransportLimits::default())
            .await;
    let sender = fixture.transport.sender();
    for (protocol, remote, listener, expected) in [
        (Protocol::Udp, "192.0.2.1:5060", None, Some(0)),
        (Protocol::Udp, "127.0.0.1:5060", None, Some(0)),
        (Protocol::Udp, "127.0.0.1:5060", Some(fixture.transport.listeners()[1].id), Some(1)),
        (Protocol::Udp, "[2001:db8::1]:5060", None, Some(2)),
        (Protocol::Tcp, "192.0.2.1:5060", None, Some(3)),
        (Protocol::Tcp, "[::1]:5060", None, None),
    ] {
        let target = Target::Address { protocol, remote: remote.parse().unwrap(), listener, name: None };
        let chosen = sender.listener_towards(&target).map(|bound| usize::from(bound.id.0));
        assert_eq!(chosen, expected, "{target:?}");
    }
}

#[tokio::test]
async fn what_came_to_a_listener_is_answered_from_there() {
    let fixture = start(
        &["udp:127.0.0.1:0", "udp:127.0.0.1:0", "tcp:127.0.0.1:0", "tcp:127.0.0.1:0"],
        TransportLimits::default(),
    )
    .await;
    let sender = fixture.transport.sender();
    let listeners = fixture.transport.listeners();
    for (index, protocol) in [(1, Protocol::Udp), (3, Protocol::Tcp), (0, Protocol::Udp), (2, Protocol::Tcp)] {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (local, remote) = (listeners[index].local, peer.local_addr().unwrap());
        // As it is known where the number of the listener was not kept.
        let target = Target::Flow(Flow { protocol, listener: None, local, remote, connection: None });
        assert_eq!(sender.listener_towards(&target), Some(&listeners[index]));
        if protocol == Protocol::Udp {
            sender.send(&target, Bytes::from_static(b"answer"), None).unwrap();
            let (_, from) = peer.recv_from(&mut [0; 100]).await.unwrap();
            assert_eq!(from, local);
        }
    }
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let target = Flow { protocol: Protocol::Udp, listener: None, local: nowhere, remote: nowhere, connection: None };
    assert_eq!(sender.listener_towards(&Target::Flow(target)), Some(&listeners[0]), "it is gone, another one fits");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let fixture = start(&["udp:127.0.0.1:0", "tcp:127.0.0.1:0"], TransportLimits::default()).await;
    for index in 0..2 {
        let bound = &fixture.transport.listeners()[index];
        let listener = restante_transport::Listener::new(bound.protocol, bound.local);
        let handler = std::sync::Arc::new(|_| restante_transport::Intake::Open);
        let error =
            restante_transport::Transport::start(std::slice::from_ref(&listener), TransportLimits::default(), handler)
                .await
                .err()
                .expect("the address is taken");
        assert!(error.to_string().contains(&listener.to_string()), "{error}");
    }
}
