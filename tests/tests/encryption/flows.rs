//! Flows that clients open and keep alive (RFC 5626).

use restante_sip::message::{Method, Name, SipMessage};
use restante_tests::{RawSip, Request, TlsPeer, World, in_time, setting, until};
use tokio::net::{TcpSocket, UdpSocket};

const BOB: &str = "sip:bob@example.org";

/// A REGISTER for a flow of Bob's device.
fn registration(socket: &RawSip, instance: u32, reg_id: u32) -> Request {
    let contact = format!(
        "<sip:bob@{};transport={}>;reg-id={reg_id};+sip.instance=\"<urn:uuid:{instance}>\"",
        socket.local(),
        socket.transport().to_ascii_lowercase()
    );
    let request = socket.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=b"));
    request.set("To", &format!("<{BOB}>")).with("Contact", &contact).with("Supported", "path, outbound")
}

/// Registers a flow of Bob's device.
async fn register(socket: &mut RawSip, instance: u32, reg_id: u32) -> SipMessage {
    let request = registration(socket, instance, reg_id);
    let answer = socket.ask(&request).await;
    assert_eq!(answer.status(), Some(200));
    answer
}

async fn gets(socket: &mut RawSip, status: u16) {
    let message = socket.expect("the message", |it| it.method() == Some(Method::Message)).await;
    socket.respond(&message, status).await;
}

async fn contacts(world: &World) -> usize {
    let mut socket = world.udp().await;
    let request = socket.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=b"));
    let answer = socket.ask(&request.set("To", &format!("<{BOB}>"))).await;
    answer.headers(Name::Contact).count()
}

#[test]
fn a_flow_is_agreed_on_and_replaced_by_the_same_instance_and_reg_id() {
    setting().encrypted().tell(async |world| {
        let (mut old, mut new) = (world.raw_tls(None).await, world.raw_tls(None).await);
        let answer = register(&mut old, 1, 1).await;
        assert_eq!(answer.header(Name::Require), Some("outbound"));
        assert!(answer.header_by_text("Flow-Timer").is_some_and(|it| it.parse::<u32>().is_ok()));
        register(&mut new, 1, 1).await;
        assert_eq!(contacts(world).await, 1);
        world.person("alice").await.send(BOB, "one").await;
        gets(&mut new, 200).await;
        world.until_settled().await;
        assert_eq!(old.unread_by_now().await, [""; 0]);
    });
}

#[test]
fn several_flows_lead_to_one_device_which_gets_a_message_once() {
    setting().encrypted().tell(async |world| {
        let (mut one, mut two) = (world.raw_tls(None).await, world.tcp().await);
        register(&mut one, 1, 1).await;
        register(&mut two, 1, 2).await;
        assert_eq!(contacts(world).await, 2);
        let alice = world.person("alice").await;
        alice.send(BOB, "once").await;
        // Whichever flow is taken.
        let by_one = tokio::select! {
            () = gets(&mut one, 200) => true,
            () = gets(&mut two, 200) => false,
        };
        world.until_settled().await;
        world.until_counted("restante_messages_delivered_total", 1).await;
        // That flow dies, and the other one is left.
        let mut left = if by_one {
            drop(one);
            two
        } else {
            drop(two);
            one
        };
        until("the connection is over", || world.server().open_connections() == 1).await;
        alice.send(BOB, "on the other").await;
        gets(&mut left, 200).await;
        world.until_settled().await;
        assert_eq!(world.metric("restante_attempts_failed_total", &[]), 0);
    });
}

#[test]
fn a_dead_flow_is_not_looked_for_at_its_contact_and_its_messages_wait() {
    setting().encrypted().settings("retry_seconds = [1, 1, 1]").tell(async |world| {
        // One whose address can be had again at once.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        let stream = in_time("a connection", socket.connect(world.sip())).await.unwrap();
        let place = stream.local_addr().unwrap();
        let mut bob = RawSip::over(Box::new(stream), "TCP", place, world.sip());
        register(&mut bob, 1, 1).await;
        drop(bob);
        until("the connection is over", || world.server().open_connections() == 0).await;
        // Somebody else has the address by now.
        let other = tokio::net::TcpListener::bind(place).await.expect("the address is free");
        world.person("alice").await.send(BOB, "for Bob alone").await;
        let mut again = world.tcp().await;
        register(&mut again, 1, 1).await;
        gets(&mut again, 200).await;
        world.until_settled().await;
        assert_eq!(world.transport_count("connections_opened"), 0, "nothing was sent to whoever is there now");
        drop(other);
    });
}

#[test]
fn where_sips_was_dialled_our_record_route_is_sips_on_both_sides() {
    setting().encrypted().tell(async |world| {
        let (mut bob, mut alice) = (world.raw_tls(None).await, world.raw_tls(None).await);
        register(&mut bob, 1, 1).await;
        for dialled in [BOB, "sips:bob@example.org"] {
            let invite = alice.request("INVITE", dialled).with("Contact", "<sips:alice@192.0.2.1>");
            let invite =
                invite.body("application/sdp", "v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n");
            alice.send(&invite.bytes()).await;
            let came = bob.expect("INVITE", |it| it.method() == Some(Method::Invite)).await;
            let routes: Vec<&str> = came.list(Name::RecordRoute).collect();
            assert!(!routes.is_empty(), "{dialled}");
            for route in routes {
                let (is_sips, says_transport) = (route.starts_with("<sips:rr!"), route.contains(";transport="));
                assert_eq!((is_sips, says_transport), (dialled != BOB, dialled == BOB), "{dialled}: {route}");
            }
            bob.respond(&came, 486).await;
            assert_eq!(alice.answer_to(&invite).await.status(), Some(486));
        }
    });
}

#[test]
fn a_flow_that_breaks_while_its_registration_is_written_is_dead() {
    setting().encrypted().held().settings("retry_seconds = [3600]").tell(async |world| {
        let mut bob = world.tcp().await;
        register(&mut bob, 1, 1).await;
        world.held().hold();
        let request = registration(&bob, 1, 1);
        bob.send(&request.bytes()).await;
        until("the registration is being written", || world.held().waiting() == 1).await;
        drop(bob);
        until("the connection is over", || world.server().open_connections() == 0).await;
        world.held().release();
        until("it is written", || world.held().waiting() == 0).await;
        world.person("alice").await.send(BOB, "for Bob's next flow").await;
        let mut again = world.tcp().await;
        register(&mut again, 1, 1).await;
        gets(&mut again, 200).await;
        world.until_settled().await;
        assert_eq!(world.metric("restante_attempts_failed_total", &[]), 0, "nothing was tried on the dead flow");
    });
}

#[test]
fn what_a_client_agreed_on_is_not_what_its_contact_says() {
    setting().encrypted().tell(async |world| {
        let mut bob = world.tcp().await;
        let contact = format!("<sip:bob@{};transport=udp>;reg-id=1;+sip.instance=\"<urn:uuid:1>\"", bob.local());
        let request = registration(&bob, 1, 1).set("Contact", &contact);
        assert_eq!(bob.ask(&request).await.status(), Some(200));
        world.person("alice").await.send(BOB, "on the flow").await;
        gets(&mut bob, 200).await;
        world.until_settled().await;
    });
}

/// Registers Bob under a Contact.
async fn register_at(socket: &mut RawSip, contact: &str) {
    let request = registration(socket, 1, 1).set("Contact", contact);
    assert_eq!(socket.ask(&request).await.status(), Some(200));
}

#[test]
fn a_sips_contact_is_reached_over_tls_or_not_at_all() {
    setting().encrypted().settings("retry_seconds = [3600]").tell(async |world| {
        let alice = world.person("alice").await;
        // Where it was seen is in the clear, and what it names is over TLS.
        let issued = world.authority().issue(&["127.0.0.1"]);
        let peer = TlsPeer::start(world.sip().ip(), &issued, None).await;
        let contact = format!("<sips:bob@{}>", peer.address());
        register_at(&mut world.udp().await, &contact).await;
        alice.send(BOB, "over TLS").await;
        let mut bob = in_time("a connection", peer.accept()).await.expect("TLS");
        gets(&mut bob, 200).await;
        world.until_settled().await;
    });
    for by_udp in [true, false] {
        setting().encrypted().settings("retry_seconds = [3600]").tell(async |world| {
            let mut bob = if by_udp { world.udp().await } else { world.tcp().await };
            for parameters in ["", ";reg-id=1;+sip.instance=\"<urn:uuid:1>\""] {
                let contact = format!("<sips:bob@{}>{parameters}", bob.local());
                register_at(&mut bob, &contact).await;
            }
            world.person("alice").await.send(BOB, "not in the clear").await;
            until("it is tried", || world.metric("restante_attempts_failed_total", &[]) > 0).await;
            assert_eq!((bob.unread_by_now().await, world.queue().len()), (Vec::new(), 1));
        });
    }
    setting().encrypted().tell(async |world| {
        let mut bob = world.raw_tls(None).await;
        let contact = format!("<sips:bob@{}>", bob.local());
        register_at(&mut bob, &contact).await;
        world.person("alice").await.send(BOB, "on its own connection").await;
        gets(&mut bob, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn stun_keeps_a_flow_alive_beside_sip() {
    for ipv6 in [false, true] {
        let place = if ipv6 { setting().ipv6() } else { setting() };
        place.tell(async |world| {
            let socket = UdpSocket::bind((world.sip().ip(), 0)).await.unwrap();
            let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], b"transaction!"].concat();
            socket.send_to(&request, world.sip()).await.unwrap();
            let mut buffer = [0; 200];
            let (length, from) = in_time("an answer", socket.recv_from(&mut buffer)).await.unwrap();
            let port = socket.local_addr().unwrap().port() ^ 0x2112;
            assert_eq!((from, &buffer[..2], &buffer[8..20]), (world.sip(), &[1, 1][..], &b"transaction!"[..]));
            assert_eq!((&buffer[20..22], &buffer[26..28]), (&[0, 0x20][..], &port.to_be_bytes()[..]));
            assert_eq!(length, if ipv6 { 44 } else { 32 });
            // What cannot be answered is dropped, and is no SIP.
            socket.send_to(&request[..19], world.sip()).await.unwrap();
            socket.send_to(&request, world.sip()).await.unwrap();
            in_time("an answer", socket.recv_from(&mut buffer)).await.unwrap();
            assert_eq!(
                (world.transport_count("datagrams_stun"), world.transport_count("datagrams_unreadable")),
                (2, 0)
            );
        });
    }
}
