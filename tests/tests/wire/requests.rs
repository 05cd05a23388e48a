//! Every kind of request and its answer.

use std::net::UdpSocket;

use bytes::Bytes;
use restante_tests::{Cpim, RawMsrp, RawSip, Request, setting, story};

const BOB: &str = "sip:bob@example.org";

fn cpim(content_type: &str, content: &str) -> Bytes {
    Cpim { content_type, ..Cpim::default() }.with(content).into()
}

fn invite(socket: &RawSip, description: &str) -> Request {
    let head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n";
    RawMsrp::invitation(socket, BOB).body("application/sdp", format!("{head}{description}"))
}

const AUDIO: &str = "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";
const MSRP: &str = "m=message 9 TCP/MSRP *\r\na=path:msrp://127.0.0.1:9/x;tcp\r\na=accept-types:message/cpim\r\n";

/// A request and what it is answered: the status, and a field that must name something.
type Case = (&'static str, fn(&RawSip) -> Request, u16, Option<(&'static str, &'static str)>);

const CASES: &[Case] = &[
    ("OPTIONS", |it| it.request("OPTIONS", BOB), 200, Some(("Allow", "MESSAGE"))),
    ("OPTIONS says which events", |it| it.request("OPTIONS", BOB), 200, Some(("Allow-Events", "message-summary"))),
    ("a method nobody knows", |it| it.request("FROBNICATE", BOB), 501, Some(("Allow", "MESSAGE"))),
    ("a method that is not for us", |it| it.request("UPDATE", BOB), 405, Some(("Allow", "MESSAGE"))),
    (
        "an extension nobody knows",
        |it| it.request("MESSAGE", BOB).text("x").with("Require", "frobnication"),
        420,
        Some(("Unsupported", "frobnication")),
    ),
    ("no extension at all", |it| it.request("MESSAGE", BOB).text("x").with("Require", "a\r\n b"), 400, None),
    ("the same of proxies", |it| invite(it, AUDIO).with("Proxy-Require", "a\0b"), 400, None),
    ("a scheme nobody knows", |it| it.request("MESSAGE", "frob:x").set("To", "<sip:x@y.org>"), 416, None),
    ("BYE of no dialog", |it| it.request("BYE", BOB), 481, None),
    ("NOTIFY of no subscription", |it| it.request("NOTIFY", BOB).with("Event", "reg"), 481, None),
    ("CANCEL of nothing", |it| it.request("CANCEL", BOB), 481, None),
    (
        "in a dialog that is not there",
        |it| it.request("MESSAGE", BOB).text("x").set("To", "<sip:bob@example.org>;tag=gone"),
        481,
        None,
    ),
    ("for a domain of others", |it| it.request("MESSAGE", "sip:bob@elsewhere.net").text("x"), 404, None),
    ("for a number of others", |it| it.request("MESSAGE", "tel:+4412345").text("x"), 404, None),
    ("INVITE for a domain of others", |it| RawMsrp::invitation(it, "sip:bob@elsewhere.net"), 404, None),
    ("typing", |it| it.request("MESSAGE", BOB).body("application/im-iscomposing+xml", "<isComposing/>"), 415, None),
    (
        "typing, wrapped",
        |it| it.request("MESSAGE", BOB).body("message/cpim", cpim("application/im-iscomposing+xml", "<isComposing/>")),
        415,
        None,
    ),
    ("CPIM that is none", |it| it.request("MESSAGE", BOB).body("message/cpim", "no header at all"), 400, None),
    ("a page that is a book", |it| it.request("MESSAGE", BOB).text(&"x".repeat(3_000)), 413, None),
    ("a call to nobody who is there", |it| invite(it, AUDIO), 480, None),
    ("a call with messages", |it| invite(it, &format!("{MSRP}a=sendonly\r\n{AUDIO}")), 480, None),
    ("an offer to receive only", |it| invite(it, &format!("{MSRP}a=recvonly\r\n")), 480, None),
    (
        "no offer",
        |it| RawMsrp::invitation(it, BOB).without("Content-Type").body("x", "").without("Content-Type"),
        480,
        None,
    ),
    (
        "an offer that is none",
        |it| RawMsrp::invitation(it, BOB).body("text/plain", "call me"),
        415,
        Some(("Accept", "application/sdp")),
    ),
    ("a description that is none", |it| RawMsrp::invitation(it, BOB).body("application/sdp", "v=1"), 480, None),
    ("no answer would do", |it| RawMsrp::invitation(it, BOB).with("Accept", "text/html"), 406, None),
    ("no hop is left, but none is needed", |it| it.request("OPTIONS", BOB).set("Max-Forwards", "0"), 200, None),
];

#[test]
fn each_request_gets_its_answer_over_udp_and_tcp() {
    let place = setting().configure(|it| it.limits.max_page_body_bytes = 2_000);
    place.tell(async |world| {
        for mut socket in [world.udp().await, world.tcp().await] {
            for (name, request, expected, field) in CASES {
                let answer = socket.ask(&request(&socket)).await;
                assert_eq!(answer.status(), Some(*expected), "{name} over {}", socket.transport());
                if let Some((field, content)) = field {
                    let value = answer.header_by_text(field).unwrap_or("");
                    assert!(value.contains(content), "{name}: {field}: {value:?} without {content:?}");
                }
            }
        }
        assert_eq!(world.queue().len(), 0);
        world.until_no_session().await;
    });
}

#[test]
fn a_peer_that_is_not_trusted_is_refused_whatever_it_wants() {
    let place = setting().tenant(|tenant| tenant.trust = vec!["192.0.2.0/24".parse().expect("a range")]);
    place.tell(async |world| {
        let mut socket = world.udp().await;
        let contact = format!("<sip:alice@{}>", socket.local());
        let requests = [
            socket.request("MESSAGE", BOB).text("x"),
            RawMsrp::invitation(&socket, BOB),
            RawMsrp::invitation(&socket, "sip:deferred@example.org"),
            socket
                .request("REGISTER", "sip:example.org")
                .set("To", "<sip:alice@example.org>")
                .with("Contact", &contact),
            socket
                .request("SUBSCRIBE", "sip:alice@example.org")
                .with("Event", "message-summary")
                .with("Contact", &contact),
        ];
        for request in requests {
            assert_eq!(socket.ask(&request).await.status(), Some(403), "{}", request.line);
        }
        assert_eq!(world.queue().len(), 0);
    });
}

#[test]
fn over_quota_is_a_refusal_that_says_so_and_other_recipients_do_not_feel_it() {
    for (setting_of, status) in [("", 403), ("quota_status = 480", 480)] {
        let settings = format!("{setting_of}\nrecipient_quota = {{ messages = 2 }}");
        setting().settings(&settings).tell(async |world| {
            let mut alice = world.udp().await;
            for expected in [202, 202, status, status] {
                let message = alice.request("MESSAGE", BOB).text("one more");
                let answer = alice.ask(&message).await;
                assert_eq!((answer.status(), answer.header_by_text("Retry-After")), (Some(expected), None));
            }
            let message = alice.request("MESSAGE", "sip:carol@example.org").text("for another one");
            assert_eq!(alice.ask(&message).await.status(), Some(202));
            let invitation = RawMsrp::invitation(&alice, BOB);
            assert_eq!(alice.ask(&invitation).await.status(), Some(status));
            assert_eq!(world.queue().len(), 3);
            world.until_no_session().await;
        });
    }
}

#[test]
fn what_bob_gets_makes_room_for_more() {
    setting().settings("recipient_quota = { messages = 1 }").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "one").await;
        let refused = restante_client::PageMessage::text(bob.address(), "two");
        assert_eq!(alice.try_send(refused.clone()).await.answer.status, 403);
        bob.register().await;
        assert_eq!(bob.texts(1).await, ["one"]);
        world.until_settled().await;
        assert_eq!(alice.try_send(refused).await.answer.status, 202);
        assert_eq!(bob.texts(1).await, ["two"]);
    });
}

#[test]
fn an_answer_goes_to_the_port_it_came_from_where_that_was_asked_for_and_else_to_the_one_named() {
    story(async |world| {
        let mut asked = world.udp().await;
        let nowhere = asked.request("OPTIONS", BOB).set("Via", "SIP/2.0/UDP 192.0.2.1:9;branch=z9hG4bKnowhere;rport");
        let answer = asked.ask(&nowhere).await;
        let via = answer.header_by_text("Via").expect("a Via").to_owned();
        let (address, port) = (asked.local().ip(), asked.local().port());
        assert!(via.contains(&format!("received={address}")) && via.contains(&format!("rport={port}")), "{via}");
        // Without rport: to the address it came from, at the port that the Via names (RFC 3261 §18.2.2).
        let mut named = world.udp().await;
        let elsewhere = format!("SIP/2.0/UDP 192.0.2.1:{};branch=z9hG4bKnamed", named.local().port());
        let request = asked.request("OPTIONS", BOB).set("Via", &elsewhere);
        asked.send(&request.bytes()).await;
        assert_eq!(named.answer_to(&request).await.status(), Some(200));
    });
}

#[test]
fn no_parameter_of_a_via_aims_our_answers_at_somebody_else() {
    story(async |world| {
        let mut named = world.udp().await;
        // Somebody else's machine, at the same port.
        let victim = UdpSocket::bind(("127.0.0.9", named.local().port())).expect("a socket");
        victim.set_nonblocking(true).expect("a socket that does not wait");
        let place = victim.local_addr().expect("a bound socket");
        let mut asked = world.udp().await;
        for (number, host) in [place.to_string(), format!("192.0.2.1:{}", place.port())].into_iter().enumerate() {
            for (method, fields) in [("OPTIONS", "1 OPTIONS"), ("OPTIONS", "1 MESSAGE"), ("MESSAGE", "1 MESSAGE")] {
                let via = format!(
                    "SIP/2.0/UDP {host};maddr=127.0.0.9;received=127.0.0.9;ttl=1;branch=z9hG4bKaimed{number}{}",
                    fields.replace(' ', method)
                );
                let request = asked.request(method, BOB).set("Via", &via).set("CSeq", fields);
                asked.send(&request.bytes()).await;
                // At the address that it came from, at the port that it names.
                let answer = named.answer_to(&request).await;
                let via = answer.header_by_text("Via").expect("a Via");
                assert!(via.contains("received=127.0.0.1") && !via.contains("received=127.0.0.9"), "{via}");
            }
            let mut here = asked.request("OPTIONS", BOB);
            here = here.clone().set("Via", &format!("{};maddr=127.0.0.9;received=127.0.0.9", here.field("Via")));
            assert_eq!(asked.ask(&here).await.status(), Some(200), "and with rport at the port it came from");
        }
        assert!(victim.recv(&mut [0; 2_000]).is_err(), "somebody else is told nothing");
    });
}

#[test]
fn more_header_fields_than_are_read_are_refused_however_short() {
    story(async |world| {
        let flood = |socket: &RawSip, count: usize| {
            (0..count).fold(socket.request("OPTIONS", BOB), |request, _| request.with("X", "y"))
        };
        let mut udp = world.udp().await;
        for (count, expected) in [(300, 513), (1_000, 513), (200, 200)] {
            let request = flood(&udp, count);
            assert_eq!(udp.ask(&request).await.status(), Some(expected), "{count} over UDP");
        }
        let mut tcp = world.tcp().await;
        let request = flood(&tcp, 300);
        assert_eq!(tcp.ask(&request).await.status(), Some(513));
        tcp.until_closed().await;
        let mut tcp = world.tcp().await;
        let request = flood(&tcp, 200);
        assert_eq!(tcp.ask(&request).await.status(), Some(200));
    });
}

#[test]
fn keep_alives_and_empty_lines_between_messages_disturb_nobody() {
    story(async |world| {
        let mut udp = world.udp().await;
        udp.send(b"\r\n\r\n").await;
        udp.send(b"\0").await;
        let request = udp.request("OPTIONS", BOB);
        assert_eq!(udp.ask(&request).await.status(), Some(200));
        let mut tcp = world.tcp().await;
        tcp.send(b"\r\n\r\n\r\n").await;
        for _ in 0..2 {
            let request = tcp.request("OPTIONS", BOB);
            let (first, second) = (request.bytes(), Bytes::from_static(b"\r\n"));
            // In two pieces, as a stream may bring it.
            let (head, rest) = first.split_at(20);
            tcp.send(head).await;
            tcp.send(rest).await;
            tcp.send(&second).await;
            assert_eq!(tcp.answer_to(&request).await.status(), Some(200));
        }
    });
}

#[test]
fn two_requests_in_one_piece_are_two_requests() {
    story(async |world| {
        let mut tcp = world.tcp().await;
        let (one, two) = (tcp.request("MESSAGE", BOB).text("one"), tcp.request("MESSAGE", BOB).text("two"));
        tcp.send(&[one.bytes(), two.bytes()].concat()).await;
        assert_eq!(tcp.answer_to(&one).await.status(), Some(202));
        assert_eq!(tcp.answer_to(&two).await.status(), Some(202));
        assert_eq!(world.queue().len(), 2);
    });
}

#[test]
fn a_stream_that_is_no_sip_is_closed_and_others_go_on() {
    story(async |world| {
        let mut other = world.tcp().await;
        let mut garbage = world.tcp().await;
        garbage.send(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n").await;
        garbage.until_closed().await;
        let request = other.request("OPTIONS", BOB);
        assert_eq!(other.ask(&request).await.status(), Some(200));
    });
}

#[test]
fn what_is_advertised_stands_in_requests_and_paths_whatever_is_listened_on() {
    let place = setting().configure(|it| {
        it.sip.advertise = Some("sip.example.org:5099".parse().expect("a host and port"));
        it.msrp.advertise = Some("msrp.example.org:2899".parse().expect("a host and port"));
    });
    place.tell(async |world| {
        let mut socket = world.udp().await;
        let invite = RawMsrp::invitation(&socket, BOB);
        let answer = socket.ask(&invite).await;
        assert_eq!(answer.header_by_text("Contact"), Some("<sip:sip.example.org:5099>"));
        let description = String::from_utf8_lossy(&answer.body()).into_owned();
        assert!(description.contains("a=path:msrp://msrp.example.org:2899/"), "{description}");
        assert!(description.contains("c=IN IP4 msrp.example.org\r\nt=0 0\r\nm=message 2899 TCP/MSRP"), "{description}");
        let cancel = RawMsrp::ack(&socket, &invite, &answer);
        socket.send(&cancel.bytes()).await;
        let mut bob = world.person("bob").await;
        bob.register().await;
        let message = socket.request("MESSAGE", BOB).text("from afar");
        assert_eq!(socket.ask(&message).await.status(), Some(202));
        let via = bob.received().await.sip_field("Via").expect("a Via").to_owned();
        assert!(via.starts_with("SIP/2.0/UDP sip.example.org:5099;"), "{via}");
        let bye = RawMsrp::bye(&socket, &invite, &answer);
        assert_eq!(socket.ask(&bye).await.status(), Some(200));
        world.until_settled().await;
    });
}

#[test]
fn there_is_a_limit_to_the_connections_of_one_source() {
    setting().configure(|it| it.limits.max_connections_per_source = 2).tell(async |world| {
        let mut taken = [world.tcp().await, world.tcp().await];
        for socket in &mut taken {
            let request = socket.request("OPTIONS", BOB);
            assert_eq!(socket.ask(&request).await.status(), Some(200));
        }
        world.tcp().await.until_closed().await;
        let [first, mut second] = taken;
        drop(first);
        // There is room again as soon as the server has seen that one go.
        loop {
            let mut socket = world.tcp().await;
            let request = socket.request("OPTIONS", BOB);
            if socket.try_ask(&request).await.is_some_and(|answer| answer.status() == Some(200)) {
                break;
            }
        }
        let request = second.request("OPTIONS", BOB);
        assert_eq!(second.ask(&request).await.status(), Some(200));
    });
}

#[test]
fn more_header_or_body_than_is_read_is_refused() {
    let place = setting().configure(|it| {
        it.limits.max_sip_header_bytes = 4_000;
        it.limits.max_sip_message_bytes = 8_000;
        it.limits.max_page_body_bytes = 4_000;
    });
    place.tell(async |world| {
        for (header, body, expected) in [(5_000, 10, 513), (10, 7_000, 413), (10, 1_000, 202)] {
            let mut socket = world.tcp().await;
            let padding = "x".repeat(header);
            let request = socket.request("MESSAGE", BOB).with("X-Padding", &padding).text(&"x".repeat(body));
            let answer = socket.ask(&request).await;
            assert_eq!(answer.status(), Some(expected), "{header} {body}");
        }
        assert_eq!(world.queue().len(), 1);
    });
}
