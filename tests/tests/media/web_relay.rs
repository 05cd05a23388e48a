//! Clients that cannot be connected to, and the relay that serves them (RFC 7977).

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use restante::configuration::{Configuration, ListenAddress, MsrpOffer};
use restante_client::Content;
use restante_client::{LargeMessage, Source};
use restante_msrp::relay::RelayLimits;
use restante_msrp::sdp::{Fingerprint, MsrpDescription};
use restante_msrp::uri::MsrpUri;
use restante_sip::message::Method;
use restante_tests::{
    Chunk, Cpim, Head, Issued, MsrpReply, RawMsrp, RawSip, Setting, WebMsrp, World, free_tcp_port, free_tcp_port_on,
    in_time, pattern, setting, until_equal,
};
use restante_transport::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use restante_tests::raw_device::{BOB, accept, invited, register};

fn place() -> Setting {
    setting().demands_passwords().settings("few = 0\nretry_seconds = [3600]")
}

/// The server takes MSRP over WebSocket from now on.
async fn relay(world: &mut World, change: impl FnOnce(&mut Configuration)) -> SocketAddr {
    relay_over(world, Protocol::Ws, change).await
}

async fn relay_over(world: &mut World, protocol: Protocol, change: impl FnOnce(&mut Configuration)) -> SocketAddr {
    let socket = free_tcp_port_on(world.sip().ip());
    world
        .restart_with(|it| {
            it.msrp.web_socket_listen = vec![ListenAddress { protocol, socket }];
            change(it);
        })
        .await;
    for name in ["bob", "carol"] {
        world.give_password(name).await;
    }
    socket
}

/// What a client behind the relay says of its media.
fn described(web: &WebMsrp, setup: &str, direction: &str) -> String {
    let session: MsrpUri = web.session.parse().unwrap();
    let host = session.host.to_string();
    let host = host.trim_matches(['[', ']']);
    let family = if host.contains(':') { "IP6" } else { "IP4" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\nm=message {} TCP/MSRP *\r\na=path:{}\r\n\
         a=accept-types:message/cpim\r\na=accept-wrapped-types:*\r\na=setup:{setup}\r\na={direction}\r\n",
        session.port_or_default(),
        web.path()
    )
}

#[test]
fn a_client_on_a_web_socket_receives_a_deferred_large_message_whoever_connects() {
    for (setup, is_ipv6) in [("active", false), ("passive", false), ("active", true), ("passive", true)] {
        place().on_ipv6(is_ipv6).tell(async |world| {
            let socket = relay(world, |_| {}).await;
            let alice = world.person("alice").await;
            let content = pattern(300_000);
            let message = LargeMessage::new(BOB, "application/octet-stream", Source::Bytes(content.clone()));
            assert!(alice.client.send_large(message).await.expect("an answer").accepted);
            world.until_waiting(1).await;
            let mut web = WebMsrp::authorized(socket, "bob").await;
            let mut bob = world.udp().await;
            register(&mut bob).await;
            let (invite, offer) = invited(&mut bob).await;
            accept(&mut bob, &invite, &described(&web, setup, "recvonly")).await;
            if setup == "active" {
                web.connection.to_path = format!("{} {}", web.session, offer.path);
                web.connection.send_empty().await;
            }
            take_a_push(world, &mut web, &mut bob, &offer, &content).await;
        });
    }
}

/// The client takes the one message that is pushed to Bob through it, and reports it.
async fn take_a_push(world: &World, web: &mut WebMsrp, bob: &mut RawSip, offer: &MsrpDescription, content: &[u8]) {
    let mut received = Vec::new();
    let last = loop {
        let Some((head, content)) = web.connection.next_whole().await else { continue };
        assert_eq!(head.to_path.to_string(), web.own, "the relay took itself out");
        assert_eq!(head.from_path.to_string(), format!("{} {}", web.session, offer.path), "and is on the way back");
        web.connection.answer(&head, "200 OK", "").await;
        received.extend(content);
        let total = head.byte_range.and_then(|range| range.total).unwrap_or(0);
        if total > 0 && received.len() as u64 == total {
            break head;
        }
    };
    assert!(received.ends_with(content), "{} bytes", received.len());
    assert_eq!(world.queue().len(), 1, "only its receiver says that it has it");
    let (id, total, back) = (last.message_id.unwrap(), received.len(), last.from_path);
    let report = format!(
        "MSRP rep1 REPORT\r\nTo-Path: {back}\r\nFrom-Path: {}\r\nMessage-ID: {id}\r\n\
         Byte-Range: 1-{total}/{total}\r\nStatus: 000 200 OK\r\n-------rep1$\r\n",
        web.own
    );
    web.connection.send(report.as_bytes()).await;
    world.until_waiting(0).await;
    let bye = bob.expect("a BYE", |it| it.method() == Some(Method::Bye)).await;
    bob.respond(&bye, 200).await;
    world.until_no_session().await;
}

#[test]
fn a_client_on_an_encrypted_web_socket_has_an_encrypted_path_and_receives_and_sends() {
    for setup in ["active", "passive"] {
        place().encrypted_media().tell(async |world| {
            let socket = relay_over(world, Protocol::Wss, |_| {}).await;
            // What is not encrypted gets no WebSocket.
            let mut plain = TcpStream::connect(socket).await.unwrap();
            plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
            let mut said = Vec::new();
            _ = in_time("an end", plain.read_to_end(&mut said)).await;
            assert!(!said.starts_with(b"HTTP"), "{said:?}");
            let mut web = WebMsrp::authorized_encrypted(socket, world.authority(), "bob").await;
            assert!(web.session.starts_with("msrps://"), "{}", web.session);
            let alice = world.person_over_tls("alice").await;
            let content = pattern(300_000);
            let message = LargeMessage::new(BOB, "application/octet-stream", Source::Bytes(content.clone()));
            assert!(alice.client.send_large(message).await.expect("an answer").accepted);
            world.until_waiting(1).await;
            let mut bob = world.raw_tls(None).await;
            register(&mut bob).await;
            let (invite, offer) = invited(&mut bob).await;
            assert!(offer.secure && offer.path.to_string().starts_with("msrps://"), "{}", offer.path);
            let answer = described(&web, setup, "recvonly").replace(" TCP/MSRP ", " TCP/TLS/MSRP ");
            accept(&mut bob, &invite, &answer).await;
            if setup == "active" {
                web.connection.to_path = format!("{} {}", web.session, offer.path);
                web.connection.send_empty().await;
            }
            take_a_push(world, &mut web, &mut bob, &offer, &content).await;
            // And the other way, for somebody else.
            let mut sip = world.raw_tls(None).await;
            let contact = format!("<sip:bob@{};transport=tls>", sip.local());
            let invite = RawMsrp::invitation(&sip, "sip:carol@example.org").set("Contact", &contact);
            let offer = described(&web, "active", "sendonly").replace(" TCP/MSRP ", " TCP/TLS/MSRP ");
            let invite = invite.body("application/sdp", offer.into_bytes());
            let answer = sip.ask(&invite).await;
            assert_eq!(answer.status(), Some(200), "{:?}", answer.bytes());
            sip.send(&RawMsrp::ack(&sip, &invite, &answer).bytes()).await;
            let theirs = MsrpDescription::parse(&answer.body(), true).unwrap().path;
            web.connection.to_path = format!("{} {theirs}", web.session);
            let transaction = web.connection.send_chunk(Chunk::whole("m", &cpim(100_000))).await;
            assert_eq!(until_response(&mut web.connection).await, (transaction, 200));
            world.until_waiting(1).await;
        });
    }
}

/// The next response, past what binds the connection.
async fn until_response(connection: &mut RawMsrp) -> (String, u16) {
    loop {
        match connection.next().await {
            MsrpReply::Response(transaction, status) => return (transaction, status),
            MsrpReply::Request(..) => {}
            MsrpReply::Closed => panic!("closed"),
        }
    }
}

fn cpim(length: usize) -> Vec<u8> {
    let of_bob = Cpim { from: "sip:bob@example.org", to: "sip:carol@example.org", id: Some("web"), ..Cpim::default() };
    of_bob.with(pattern(length))
}

/// What a client takes of a message for it, answering each chunk; and what is answered to its own chunks.
async fn converse(web: &mut WebMsrp, peer: &str, own: &[u8], theirs: usize) -> Vec<u8> {
    web.connection.to_path = format!("{} {peer}", web.session);
    let mut received = Vec::new();
    let (mut sent, mut answered, mut is_waiting) = (0, 0, false);
    while received.len() < theirs || answered < own.len() {
        if sent < own.len() && !is_waiting {
            let last = own.len().min(sent + 100_000);
            let flag = if last == own.len() { '$' } else { '+' };
            let chunk = Chunk {
                message_id: "m",
                first: sent + 1,
                total: own.len(),
                content: &own[sent..last],
                flag,
                fields: "",
            };
            web.connection.send_chunk(chunk).await;
            (sent, is_waiting) = (last, true);
        }
        match web.connection.next_said().await.expect("the relay is there") {
            (Head::Request(head), content) => {
                assert_eq!((head.method.as_str(), head.to_path.to_string()), ("SEND", web.own.clone()));
                assert_eq!(head.from_path.to_string(), format!("{} {peer}", web.session));
                web.connection.answer(&head, "200 OK", "").await;
                received.extend(content);
            }
            (Head::Response(said), _) => {
                assert_eq!(said.status.code(), 200, "this hop has it");
                (answered, is_waiting) = (sent, false);
            }
        }
    }
    received
}

#[test]
fn two_clients_on_web_sockets_send_to_each_other_at_the_same_time() {
    for is_encrypted in [false, true] {
        let place = if is_encrypted { place().encrypted_media() } else { place() };
        place.tell(async |world| {
            let protocol = if is_encrypted { Protocol::Wss } else { Protocol::Ws };
            let socket = relay_over(world, protocol, |_| {}).await;
            let (mut bob, mut carol) = match is_encrypted {
                true => (
                    WebMsrp::authorized_encrypted(socket, world.authority(), "bob").await,
                    WebMsrp::authorized_encrypted(socket, world.authority(), "carol").await,
                ),
                false => (WebMsrp::authorized(socket, "bob").await, WebMsrp::authorized(socket, "carol").await),
            };
            let (path_of_bob, path_of_carol) = (bob.path(), carol.path());
            let (from_bob, from_carol) = (pattern(3_000_000), pattern(2_000_000));
            let (at_bob, at_carol) = tokio::join!(
                converse(&mut bob, &path_of_carol, &from_bob, from_carol.len()),
                converse(&mut carol, &path_of_bob, &from_carol, from_bob.len()),
            );
            assert!(at_bob == from_carol && at_carol == from_bob);
            // What one refuses the other learns by a REPORT; who is gone, too.
            bob.connection.to_path = format!("{} {path_of_carol}", bob.session);
            bob.connection.send_chunk(Chunk::whole("no", b"not wanted")).await;
            let (head, _) = carol.connection.next_whole().await.unwrap();
            carol.connection.answer(&head, "413 Stop", "").await;
            assert_eq!(until_reported(&mut bob).await, 413);
            drop(carol);
            bob.connection.send_chunk(Chunk::whole("gone", b"x")).await;
            let status = until_reported(&mut bob).await;
            assert!(matches!(status, 403 | 408 | 481), "{status}");
        });
    }
}

/// The status that is reported to it next.
async fn until_reported(web: &mut WebMsrp) -> u16 {
    loop {
        match web.connection.next_head().await.expect("an answer") {
            Head::Response(said) => assert_eq!(said.status.code(), 200, "this hop has it"),
            Head::Request(report) => return report.status.expect("a status").status.code(),
        }
    }
}

#[test]
fn a_client_on_a_web_socket_sends_a_large_message() {
    place().tell(async |world| {
        let socket = relay(world, |_| {}).await;
        let mut web = WebMsrp::authorized(socket, "bob").await;
        let mut carol = world.person("carol").await;
        let mut sip = world.udp().await;
        let invite = RawMsrp::invitation(&sip, "sip:carol@example.org");
        let invite = invite.body("application/sdp", described(&web, "active", "sendonly").into_bytes());
        let answer = sip.ask(&invite).await;
        assert_eq!(answer.status(), Some(200), "{:?}", answer.bytes());
        sip.send(&RawMsrp::ack(&sip, &invite, &answer).bytes()).await;
        let theirs = MsrpDescription::parse(&answer.body(), false).unwrap().path;
        web.connection.to_path = format!("{} {theirs}", web.session);
        let content = pattern(400_000);
        let head = "From: <sip:alice@example.org>\r\nTo: <sip:carol@example.org>\r\nDateTime: 2026-01-01T00:00:00Z\r\n\
                    NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: web\r\n\r\nContent-Type: application/octet-stream\r\n\r\n";
        let message = [head.as_bytes(), &content].concat();
        for first in (0..message.len()).step_by(100_000) {
            let last = message.len().min(first + 100_000);
            let flag = if last == message.len() { '$' } else { '+' };
            let (content, total) = (&message[first..last], message.len());
            let chunk = Chunk { message_id: "m", first: first + 1, total, content, flag, fields: "" };
            let transaction = web.connection.send_chunk(chunk).await;
            assert_eq!(web.connection.next().await, MsrpReply::Response(transaction, 200));
        }
        world.until_waiting(1).await;
        let bye = RawMsrp::bye(&sip, &invite, &answer);
        assert_eq!(sip.ask(&bye).await.status(), Some(200));
        carol.register().await;
        assert_eq!(carol.received().await.content, Content::Memory(content));
        world.until_settled().await;
    });
}

#[test]
fn whoever_has_the_session_uri_is_passed_on_to_the_client_and_answered_on_its_connection() {
    place().tell(async |world| {
        let socket = relay(world, |_| {}).await;
        let mut web = WebMsrp::authorized(socket, "bob").await;
        let session: MsrpUri = web.session.parse().unwrap();
        let mut peer = RawMsrp::connect_to(session.socket_address().unwrap(), &web.path()).await;
        let sent = peer.send_chunk(Chunk::whole("m1", b"to the browser")).await;
        assert_eq!(peer.next().await, MsrpReply::Response(sent, 200));
        let (head, content) = web.connection.next_whole().await.unwrap();
        assert_eq!((head.to_path.to_string(), &content[..]), (web.own.clone(), &b"to the browser"[..]));
        // The client refuses it, which its sender learns by a REPORT.
        web.connection.answer(&head, "413 Stop", "").await;
        let report = peer.next_request().await;
        assert_eq!((report.method.as_str(), report.status.unwrap().status.code()), ("REPORT", 413));
        web.connection.to_path = format!("{} {}", web.session, peer.from_path);
        web.connection.send_chunk(Chunk::whole("m2", b"from the browser")).await;
        let (head, content) = peer.next_whole().await.unwrap();
        assert_eq!((head.from_path.to_string(), &content[..]), (web.path(), &b"from the browser"[..]));
        drop(web);
        assert_eq!(until_closed(&mut peer).await, MsrpReply::Closed, "its peers go with the client");
        let mut late = RawMsrp::connect_to(session.socket_address().unwrap(), &format!("{session} x")).await;
        late.to_path = session.to_string();
        let sent = late.send_chunk(Chunk::whole("m3", b"too late")).await;
        assert_eq!(late.next().await, MsrpReply::Response(sent, 481));
    });
}

#[test]
fn strangers_who_say_nothing_go_for_those_who_do_and_for_whom_the_client_sends_to() {
    place().tell(async |world| {
        let socket = relay(world, |_| {}).await;
        let mut web = WebMsrp::authorized(socket, "bob").await;
        let session: MsrpUri = web.session.parse().unwrap();
        let (place, half) = (session.socket_address().unwrap(), RelayLimits::default().max_legs / 2);
        let mut strangers = VecDeque::new();
        for number in 0..=2 * half {
            let mut stranger = RawMsrp::connect_to(place, &web.path()).await;
            let from = format!("msrp://192.0.2.9:2855/s{number};tcp");
            let head = format!("MSRP s{number}x SEND\r\nTo-Path: {}\r\nFrom-Path: {from}\r\n", web.path());
            stranger.send(head.as_bytes()).await;
            strangers.push_back(stranger);
            if strangers.len() > half {
                assert_eq!(strangers.pop_front().unwrap().next().await, MsrpReply::Closed, "{number}");
            }
        }
        let mut peer = RawMsrp::connect_to(place, &web.path()).await;
        let sent = peer.send_chunk(Chunk::whole("m1", b"hello")).await;
        assert_eq!(peer.next().await, MsrpReply::Response(sent, 200));
        assert_eq!(web.connection.next_whole().await.unwrap().1, b"hello");
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        web.connection.to_path = format!("{} msrp://{}/peer;tcp", web.session, listener.local_addr().unwrap());
        web.connection.send_chunk(Chunk::whole("m2", b"hello")).await;
        in_time("a connection", listener.accept()).await.unwrap();
        assert_eq!(world.metric("restante_dropped_total", &["silent-relay-peer"]), half as u64 + 2);
    });
}

async fn until_closed(peer: &mut RawMsrp) -> MsrpReply {
    loop {
        let said = peer.next().await;
        if said == MsrpReply::Closed {
            return said;
        }
    }
}

#[test]
fn nobody_is_relayed_for_who_did_not_show_who_it_is() {
    place().tell(async |world| {
        let socket = relay(world, |it| it.limits.max_failed_authentications = 3).await;
        for sub_protocol in [None, Some("sip"), Some("MSRP")] {
            assert_eq!(WebMsrp::open(socket, sub_protocol, "bob").await.err(), Some(400), "{sub_protocol:?}");
        }
        let mut bob = WebMsrp::authorized(socket, "bob").await;
        let mut stranger = WebMsrp::open(socket, Some("msrp"), "stranger").await.unwrap();
        for session in [bob.session.clone(), bob.session.replace("/r", "/q")] {
            stranger.connection.to_path = format!("{session} {}", bob.own);
            let sent = stranger.connection.send_chunk(Chunk::whole("m", b"x")).await;
            assert_eq!(stranger.connection.next().await, MsrpReply::Response(sent, 481), "{session}");
        }
        // Another user's session is no session of theirs.
        let mut carol = WebMsrp::authorized(socket, "carol").await;
        carol.connection.to_path = format!("{} {}", bob.session, bob.own);
        let sent = carol.connection.send_chunk(Chunk::whole("m", b"x")).await;
        assert_eq!(carol.connection.next().await, MsrpReply::Response(sent, 481));
        // Guesses are counted, and then nothing is computed any more.
        for expected in [401, 401, 401, 403] {
            assert_eq!(stranger.authenticate("bob", "wrong").await.status.code(), expected);
        }
        assert_eq!(bob.ask("").await.status.code(), 403, "of everybody at that address");
    });
}

/// Sends a whole message there; the status that the relay reports of it.
async fn reported_of(web: &mut WebMsrp, target: &str) -> u16 {
    web.connection.to_path = format!("{} {target}", web.session);
    web.connection.send_chunk(Chunk::whole("m", b"x")).await;
    until_reported(web).await
}

#[test]
fn a_session_of_somebody_else_is_not_open_to_the_clients_of_the_relay() {
    place().encrypted_media().tell(async |world| {
        let socket = relay(world, |_| {}).await;
        let mut bob = WebMsrp::authorized(socket, "bob").await;
        let carol = WebMsrp::authorized(socket, "carol").await;
        let own = Issued::by_itself();
        let fingerprint = format!("a=fingerprint:{}\r\na=sendonly", Fingerprint::sha256(&own.der()));
        let direct = described(&carol, "active", "sendonly")
            .replace(&carol.path(), "msrps://127.0.0.1:9/story;tcp")
            .replace("a=sendonly", &fingerprint);
        // One session names the certificate that is to be shown, the other goes through the relay for Carol.
        for description in [direct, described(&carol, "active", "sendonly")] {
            let mut sip = world.raw_tls(None).await;
            let invite = RawMsrp::invitation(&sip, BOB);
            let contact = format!("<sip:alice@{};transport=tls>", sip.local());
            let description = description.replace(" TCP/MSRP ", " TCP/TLS/MSRP ");
            let invite = invite.set("Contact", &contact).body("application/sdp", description.into_bytes());
            let answer = sip.ask(&invite).await;
            assert_eq!(answer.status(), Some(200), "{:?}", answer.bytes());
            sip.send(&RawMsrp::ack(&sip, &invite, &answer).bytes()).await;
            let theirs = MsrpDescription::parse(&answer.body(), true).unwrap().path.to_string();
            assert_eq!(reported_of(&mut bob, &theirs).await, 403);
        }
        assert_eq!(world.metric("restante_dropped_total", &["forbidden-msrp-connection"]), 2);
    });
}

#[test]
fn who_comes_in_the_clear_for_an_encrypted_session_uri_is_refused() {
    place().encrypted_media().tell(async |world| {
        let plain = free_tcp_port();
        let socket = relay(world, |it| {
            it.msrp.listen.push(ListenAddress { protocol: Protocol::Tcp, socket: plain });
            it.msrp.offer = Some(MsrpOffer::Tls);
        })
        .await;
        let web = WebMsrp::authorized(socket, "bob").await;
        assert!(web.session.starts_with("msrps:"), "{}", web.session);
        let mut peer = RawMsrp::connect_to(plain, &web.path()).await;
        let sent = peer.send_chunk(Chunk::whole("m1", b"in the clear")).await;
        assert_eq!(peer.next().await, MsrpReply::Response(sent, 403));
        assert_eq!(peer.next().await, MsrpReply::Closed);
    });
}

#[test]
fn a_relay_goes_where_the_operator_allows_and_nowhere_else() {
    place().tell(async |world| {
        let socket = relay(world, |_| {}).await;
        let mut web = WebMsrp::authorized(socket, "bob").await;
        let own_listener = format!("msrp://{}/x;tcp", world.sip());
        let guessed = format!("msrp://{}/s0000-{};tcp", world.server().msrp()[0].1, "0".repeat(32));
        for target in ["msrp://192.0.2.9:2855/x;tcp", &own_listener, &guessed] {
            web.connection.to_path = format!("{} {target}", web.session);
            web.connection.send_chunk(Chunk::whole("m", b"x")).await;
            let (mut is_answered, mut status) = (false, None);
            while !is_answered || status.is_none() {
                match web.connection.next_head().await.expect("an answer") {
                    Head::Response(said) => is_answered = said.status.code() == 200,
                    Head::Request(report) => status = report.status.map(|it| it.status.code()),
                }
            }
            let expected = if target == guessed { 481 } else { 403 };
            assert_eq!(status, Some(expected), "{target}");
        }
        assert_eq!(world.metric("restante_dropped_total", &["forbidden-msrp-path"]), 2);
        // On loopback a server that is reached from there alone may go anywhere else.
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = format!("msrp://{}/peer;tcp", listener.local_addr().unwrap());
        web.connection.to_path = format!("{} {target}", web.session);
        web.connection.send_chunk(Chunk::whole("m", b"hello")).await;
        let (stream, _) = restante_tests::in_time("a connection", listener.accept()).await.unwrap();
        let (head, content) = RawMsrp::over(Box::new(stream), "").next_whole().await.unwrap();
        assert_eq!((head.to_path.to_string(), &content[..]), (target, &b"hello"[..]));
    });
}

#[test]
fn a_user_has_a_bounded_number_of_clients_and_garbage_ends_one() {
    place().tell(async |world| {
        let socket = relay(world, |it| it.limits.max_relay_clients_per_user = 1).await;
        let mut first = WebMsrp::authorized(socket, "bob").await;
        let mut second = WebMsrp::open(socket, Some("msrp"), "bob").await.unwrap();
        assert_eq!(second.authenticate("bob", "bob").await.status.code(), 403);
        // What it has it may renew.
        let again = first.authenticate("bob", "bob").await;
        assert!(again.other_headers.iter().any(|it| it.name == "Use-Path" && it.value == first.session), "{again:?}");
        first.connection.send(b"GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(first.connection.next().await, MsrpReply::Closed);
        let taken = until_equal("the place of the first is free", true, || {
            world.metric("restante_dropped_total", &["relay-client"]) >= 1
        });
        taken.await;
        let third = loop {
            let answer = second.authenticate("bob", "bob").await;
            if answer.status.code() == 200 {
                break answer;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(third.status.code(), 200);
    });
}
