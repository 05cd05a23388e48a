//! SIP over WebSocket (RFC 7118).

use restante_sip::message::{Method, Name};
use restante_tests::{Digest, Frame, RawSip, Request, setting, until};
use restante_transport::Protocol;

const BOB: &str = "sip:bob@example.org";
const SIP: Option<&str> = Some("sip");

/// As a script in a browser registers, which knows no address of its own (RFC 7118 §5).
fn registration(socket: &RawSip) -> Request {
    let request = socket.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=b"));
    let request = request.set("To", &format!("<{BOB}>"));
    let via = format!("SIP/2.0/{} df7jal23ls0d.invalid;branch=z9hG4bK{}", socket.transport(), request.field("Call-ID"));
    request.set("Via", &via).with("Contact", "<sip:bob@df7jal23ls0d.invalid;transport=ws>")
}

/// Sends what a user with a password sends, and answers the challenge: the address counts for nothing.
async fn ask(socket: &mut RawSip, name: &str, request: &Request) -> Option<u16> {
    let challenged = socket.ask(request).await;
    assert_eq!(challenged.status(), Some(401));
    let request = Digest::of(&challenged, name).authorize(&request.clone().set("CSeq", &next(request)), 1);
    socket.ask(&request).await.status()
}

fn next(request: &Request) -> String {
    request.field("CSeq").replace("1 ", "2 ")
}

async fn register(socket: &mut RawSip) {
    let request = registration(socket);
    assert_eq!(ask(socket, "bob", &request).await, Some(200));
}

#[test]
fn a_page_that_is_open_on_a_trusted_machine_is_trusted_with_nothing() {
    setting().web().tell(async |world| {
        for protocol in [Protocol::Ws, Protocol::Wss] {
            let mut page = world.raw_web(protocol, SIP, Some("https://evil.example")).await.expect("a WebSocket");
            let message = page.request("MESSAGE", BOB).text("from Alice, it says");
            assert_eq!(page.ask(&message).await.status(), Some(403));
            let register = registration(&page);
            assert_eq!(page.ask(&register).await.status(), Some(403));
        }
        // The same machine is trusted otherwise.
        let mut socket = world.tcp().await;
        let message = socket.request("MESSAGE", BOB).text("from Alice");
        assert_eq!(socket.ask(&message).await.status(), Some(202));
    });
}

#[test]
fn a_browser_registers_is_away_comes_back_and_gets_its_messages() {
    for (protocol, ipv6) in [(Protocol::Ws, false), (Protocol::Wss, false), (Protocol::Ws, true), (Protocol::Wss, true)]
    {
        let place = if ipv6 { setting().ipv6() } else { setting() };
        let place = place.demands_passwords().tenant(|tenant| tenant.trust.push("::1".parse().expect("an address")));
        place.web().settings("retry_seconds = [3600]").tell(async |world| {
            world.give_password("bob").await;
            let alice = world.person("alice").await;
            let mut bob = world.raw_web(protocol, SIP, None).await.expect("a WebSocket");
            register(&mut bob).await;
            alice.send(BOB, "at once").await;
            let message = bob.expect("the message", |it| it.method() == Some(Method::Message)).await;
            let via = format!("SIP/2.0/{} {}", protocol.as_str(), world.listener(protocol));
            assert!(message.header(Name::Via).is_some_and(|it| it.starts_with(&via)), "{via}");
            assert!(message.request_uri().is_some_and(|it| it.contains("df7jal23ls0d.invalid")));
            bob.respond(&message, 200).await;
            world.until_settled().await;
            drop(bob);
            until("the connection is over", || world.server().open_connections() == 0).await;
            // Registered still, and nowhere: nothing is tried, and the message waits.
            alice.send(BOB, "for later").await;
            let mut again = world.raw_web(protocol, SIP, None).await.expect("a WebSocket");
            register(&mut again).await;
            let message = again.expect("the message", |it| it.method() == Some(Method::Message)).await;
            again.respond(&message, 200).await;
            world.until_settled().await;
            assert_eq!(world.metric("restante_attempts_failed_total", &[]), 0);
            assert_eq!(world.transport_count("connections_opened"), 0);
        });
    }
}

#[test]
fn another_sub_protocol_or_page_is_refused() {
    const PAGE: &str = "https://phone.example.org";
    setting().web().configure(|it| it.sip.web_origins = Some(vec![PAGE.to_owned()])).tell(async |world| {
        for protocol in [Protocol::Ws, Protocol::Wss] {
            for (sub_protocol, origin, expected) in [
                (None, Some(PAGE), Some(400)),
                (Some("chat"), Some(PAGE), Some(400)),
                (SIP, None, Some(403)),
                (SIP, Some("https://evil.example"), Some(403)),
                (SIP, Some("https://phone.example.org.evil.example"), Some(403)),
                (SIP, Some(PAGE), None),
            ] {
                let refused = world.raw_web(protocol, sub_protocol, origin).await.err();
                assert_eq!(refused, expected, "{protocol} {sub_protocol:?} {origin:?}");
            }
        }
        assert_eq!((world.transport_count("web_sockets"), world.transport_count("web_sockets_refused")), (2, 10));
    });
}

#[test]
fn each_frame_is_a_message_whatever_its_kind_and_keep_alives_are_answered() {
    setting().web().demands_passwords().tell(async |world| {
        world.give_password("alice").await;
        world.give_password("bob").await;
        let mut socket = world.raw_web(Protocol::Ws, SIP, None).await.expect("a WebSocket");
        // Binary, and without Content-Length: the frame says where the message ends (RFC 7118 §5.4).
        let options = socket.request("OPTIONS", "sip:example.org");
        let text = String::from_utf8(options.bytes().to_vec()).unwrap().replace("Content-Length: 0\r\n", "");
        socket.send_frame(Frame::binary(text.into_bytes())).await;
        assert!(socket.answer_to(&options).await.status().is_some());
        socket.send_frame(Frame::text("\r\n\r\n")).await;
        assert_eq!(socket.next_frame().await, Some(Frame::text("\r\n")));
        socket.send_frame(Frame::Ping(b"still there?".as_slice().into())).await;
        assert_eq!(socket.next_frame().await, Some(Frame::Pong(b"still there?".as_slice().into())));
        // What is no text goes in a binary frame, byte for byte.
        let alice = socket.request("MESSAGE", BOB).body("text/plain;charset=ISO-8859-1", b"gr\xfc\xdfe".to_vec());
        assert_eq!(ask(&mut socket, "alice", &alice).await, Some(202));
        register(&mut socket).await;
        let message = socket.expect("the message", |it| it.method() == Some(Method::Message)).await;
        assert!(message.body().ends_with(b"gr\xfc\xdfe"), "{:?}", message.body());
        socket.respond(&message, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn what_is_no_message_or_too_large_ends_the_connection_and_nobody_elses() {
    let place = setting().web().configure(|it| {
        it.limits.max_sip_header_bytes = 8 * 1024;
        it.limits.max_sip_message_bytes = 32 * 1024;
    });
    place.tell(async |world| {
        let mut other = world.raw_web(Protocol::Ws, SIP, None).await.expect("a WebSocket");
        for frame in
            [Frame::text("no SIP at all"), Frame::binary(vec![0xff; 100]), Frame::binary(vec![b'a'; 32 * 1024 + 1])]
        {
            let mut socket = world.raw_web(Protocol::Ws, SIP, None).await.expect("a WebSocket");
            socket.send_frame(frame).await;
            socket.until_closed().await;
        }
        let options = other.request("OPTIONS", "sip:example.org");
        assert!(other.ask(&options).await.status().is_some());
        assert_eq!(world.transport_count("streams_unreadable"), 3);
        // What is no WebSocket at all.
        let mut plain = RawSip::tcp(world.listener(Protocol::Ws)).await;
        plain.send(b"OPTIONS sip:example.org SIP/2.0\r\n\r\n").await;
        plain.until_closed().await;
        assert_eq!(world.transport_count("web_sockets_refused"), 1);
    });
}

#[test]
fn the_client_speaks_web_socket_too() {
    for protocol in [Protocol::Ws, Protocol::Wss] {
        setting().web().demands_passwords().tell(async |world| {
            let alice = world.person_over("alice", protocol).await;
            let mut bob = world.person_over("bob", protocol).await;
            alice.send(BOB, "for later").await;
            bob.register().await;
            assert_eq!(bob.texts(1).await, ["for later"]);
            bob.unregister().await;
            world.until_settled().await;
            assert_eq!(world.transport_count("web_sockets"), 2);
        });
    }
}
