//! MSRP over TLS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use restante_client::{Content, LargeMessage, Source};
use restante_msrp::sdp::{Fingerprint, MsrpDescription};
use restante_sip::header::ICSI_LARGE_MESSAGE;
use restante_sip::message::{Method, Name, SipMessage};
use restante_sip::writer::Builder;
use restante_tests::{
    Authority, Chunk, Cpim, Issued, MsrpReply, RawMsrp, RawSip, Request, TlsPeer, World, connect_tls, in_time, pattern,
    setting, until,
};
use tokio::net::TcpListener;

const BOB: &str = "sip:bob@example.org";
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn cpim(length: usize) -> Vec<u8> {
    Cpim::default().with(pattern(length))
}

/// An INVITE of Alice, who will connect herself and show this certificate.
fn invitation(sip: &RawSip, shown: Option<&Issued>) -> Request {
    let fingerprint =
        shown.map(|it| format!("a=fingerprint:{}\r\n", Fingerprint::sha256(&it.der()))).unwrap_or_default();
    let host = sip.local().ip();
    let (family, uri_host) = if host.is_ipv6() { ("IP6", format!("[{host}]")) } else { ("IP4", host.to_string()) };
    let description = format!(
        "v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\n\
         m=message 9 TCP/TLS/MSRP *\r\na=path:msrps://{uri_host}:9/story;tcp\r\na=accept-types:message/cpim\r\n\
         a=accept-wrapped-types:*\r\na=setup:active\r\n{fingerprint}a=sendonly\r\n"
    );
    let contact = format!("<sip:alice@{};transport=tls>", sip.local());
    sip.request("INVITE", BOB).with("Contact", &contact).body("application/sdp", description.into_bytes())
}

/// Invites; gives what the server answered of its media.
async fn invite(sip: &mut RawSip, shown: Option<&Issued>) -> MsrpDescription {
    let invite = invitation(sip, shown);
    let answer = sip.ask(&invite).await;
    assert_eq!(answer.status(), Some(200), "{:?}", answer.bytes());
    sip.send(&RawMsrp::ack(sip, &invite, &answer).bytes()).await;
    MsrpDescription::parse(&answer.body(), true).expect("a session description")
}

/// Connects to the place in a description, whose fingerprint must be of what is shown there.
async fn connect(world: &World, described: &MsrpDescription, own: Option<&Issued>) -> RawMsrp {
    let place = described.connection_places()[0].socket_address().unwrap();
    let stream = in_time("a handshake", connect_tls(place, world.authority(), own)).await.expect("TLS");
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert!(described.secure && described.path.first().secure);
    assert!(described.fingerprints.iter().any(|it| it.matches(&certificate)), "{described:?}");
    RawMsrp::over(Box::new(stream), &described.path.to_string())
}

#[test]
fn a_large_message_comes_over_tls_from_whom_its_fingerprint_names() {
    for ipv6 in [false, true] {
        let place = if ipv6 { setting().ipv6() } else { setting() };
        place.encrypted_media().tell(async |world| {
            let (own, mut sip, message) = (Issued::by_itself(), world.raw_tls(None).await, cpim(300_000));
            let described = invite(&mut sip, Some(&own)).await;
            let mut connection = connect(world, &described, Some(&own)).await;
            let transaction = connection.send_chunk(Chunk::whole("large", &message)).await;
            assert_eq!(connection.next().await, MsrpReply::Response(transaction, 200));
            world.until_waiting(1).await;
        });
    }
}

/// The server's certificate is another one from now on, signed by somebody else.
async fn replace_certificate(world: &World) -> (Authority, Issued) {
    let next = Authority::new("the next authority");
    let issued = next.issue(&["sip.example.org", "127.0.0.1"]);
    issued.write(world.directory(), "server");
    until("the new certificate is live", || world.server().certificates().status().reloads == 1).await;
    (next, issued)
}

#[test]
fn sessions_that_named_a_certificate_before_it_was_replaced_go_on_with_it() {
    setting().encrypted_media().tell(async |world| {
        let (own, message) = (Issued::by_itself(), cpim(300_000));
        let (mut first, mut second) = (world.raw_tls(None).await, world.raw_tls(None).await);
        // One is in the middle of a chunk, the other was only answered.
        let amid = invite(&mut first, Some(&own)).await;
        let mut connection = connect(world, &amid, Some(&own)).await;
        let chunk = Chunk { total: message.len(), flag: '+', ..Chunk::whole("large", &message[..100_000]) };
        let transaction = connection.send_chunk(chunk).await;
        assert_eq!(connection.next().await, MsrpReply::Response(transaction, 200));
        let head = format!(
            "MSRP amid0001 SEND\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: large\r\nByte-Range: 100001-*/{}\r\n\
             Content-Type: message/cpim\r\n\r\n",
            connection.to_path,
            connection.from_path,
            message.len()
        );
        connection.send(&[head.as_bytes(), &message[100_000..150_000]].concat()).await;
        let answered = invite(&mut second, Some(&own)).await;
        let (next, issued) = replace_certificate(world).await;
        let mut late = connect(world, &answered, Some(&own)).await;
        let transaction = late.send_chunk(Chunk::whole("large", &cpim(10_000))).await;
        assert_eq!(late.next().await, MsrpReply::Response(transaction, 200));
        connection.send(&[&message[150_000..], b"\r\n-------amid0001$\r\n"].concat()).await;
        assert_eq!(connection.next().await, MsrpReply::Response("amid0001".to_owned(), 200));
        world.until_waiting(2).await;
        // Who is answered now may be shown either.
        let mut third = RawSip::tls(world.tls(), &next, None).await;
        let described = invite(&mut third, Some(&own)).await;
        assert_eq!(described.fingerprints.len(), 2);
        assert!(described.fingerprints[1].matches(&issued.der()), "{described:?}");
        connect(world, &described, Some(&own)).await;
    });
}

#[test]
fn a_certificate_that_was_replaced_is_not_shown_for_longer_than_a_session_takes_to_begin() {
    let place = setting().encrypted_media().configure(|it| it.limits.max_session_setup_seconds = 1);
    place.tell(async |world| {
        let (next, issued) = replace_certificate(world).await;
        let media = world.server().msrp()[0].1;
        in_time("the new certificate is shown", async { while connect_tls(media, &next, None).await.is_err() {} })
            .await;
        let (own, mut sip) = (Issued::by_itself(), RawSip::tls(world.tls(), &next, None).await);
        let described = invite(&mut sip, Some(&own)).await;
        assert_eq!(described.fingerprints.len(), 1);
        assert!(described.fingerprints[0].matches(&issued.der()), "{described:?}");
    });
}

#[test]
fn a_large_file_goes_from_client_to_client_over_tls() {
    setting().encrypted_media().tell(async |world| {
        let alice = world.person_over_tls("alice").await;
        let mut bob = world.person_over_tls("bob").await;
        let content = pattern(2_000_000);
        let source = Source::Bytes(content.clone());
        let sent = alice.client.send_large(LargeMessage::new(BOB, "application/octet-stream", source)).await.unwrap();
        assert!(sent.accepted, "{sent:?}");
        bob.register().await;
        assert!(matches!(bob.received().await.content, Content::Memory(bytes) if bytes == content));
        world.until_settled().await;
        // Two for SIP, two for MSRP.
        assert_eq!(world.transport_count("tls_handshakes"), 4);
    });
}

#[test]
fn whoever_shows_another_certificate_than_was_named_is_refused_and_the_right_one_is_not() {
    setting().encrypted_media().tell(async |world| {
        let (own, other, mut sip) = (Issued::by_itself(), Issued::by_itself(), world.raw_tls(None).await);
        let described = invite(&mut sip, Some(&own)).await;
        for shown in [Some(&other), None] {
            let mut connection = connect(world, &described, shown).await;
            let transaction = connection.send_empty().await;
            assert_eq!(connection.next().await, MsrpReply::Response(transaction, 403));
            assert_eq!(connection.next().await, MsrpReply::Closed);
        }
        let mut connection = connect(world, &described, Some(&own)).await;
        let transaction = connection.send_chunk(Chunk::whole("large", &cpim(10_000))).await;
        assert_eq!(connection.next().await, MsrpReply::Response(transaction, 200));
        world.until_waiting(1).await;
    });
}

#[test]
fn who_names_no_certificate_needs_none_and_who_does_not_encrypt_is_not_acceptable() {
    setting().encrypted_media().tell(async |world| {
        let mut sip = world.raw_tls(None).await;
        let described = invite(&mut sip, None).await;
        let mut connection = connect(world, &described, None).await;
        let transaction = connection.send_chunk(Chunk::whole("large", &cpim(10_000))).await;
        assert_eq!(connection.next().await, MsrpReply::Response(transaction, 200));
        let plain = RawMsrp::invitation(&sip, BOB);
        assert_eq!(sip.ask(&plain).await.status(), Some(488));
    });
    setting().encrypted().tell(async |world| {
        let mut sip = world.raw_tls(None).await;
        // Without its service it might be a call, which is passed on.
        let service = format!("*;+g.3gpp.icsi-ref=\"{}\"", ICSI_LARGE_MESSAGE.replace(':', "%3A"));
        let encrypted = invitation(&sip, None).with("Accept-Contact", &service);
        assert_eq!(sip.ask(&encrypted).await.status(), Some(488), "nothing listens for it");
    });
}

#[test]
fn who_does_not_encrypt_is_not_acceptable_where_it_is_connected_to_either() {
    setting().encrypted_media().tell(async |world| {
        world.person_over_tls("alice").await.send("sip:alice@example.org", "for a pull").await;
        world.until_waiting(1).await;
        let (listener, mut sip) = (TcpListener::bind((LOCALHOST, 0)).await.unwrap(), world.raw_tls(None).await);
        let place = listener.local_addr().unwrap();
        for (to, direction) in [(BOB, "sendonly"), ("sip:deferred@example.org", "recvonly")] {
            let invite = RawMsrp::invitation(&sip, to);
            let offer = String::from_utf8(invite.body.to_vec()).unwrap();
            let path = offer.lines().find(|line| line.starts_with("a=path:")).unwrap();
            let offer = offer.replace(path, &format!("a=path:msrp://{place}/alice;tcp"));
            let offer =
                offer.replace("a=setup:active", "a=setup:passive").replace("a=sendonly", &format!("a={direction}"));
            let offer = offer.replace("m=message 9 ", &format!("m=message {} ", place.port()));
            let invite = invite.body("application/sdp", offer.into_bytes());
            assert_eq!(sip.ask(&invite).await.status(), Some(488), "{to}");
        }
        // Connections are accepted as they came, and this is the first.
        let own = tokio::net::TcpStream::connect(place).await.unwrap();
        let (_, first) = in_time("a connection", listener.accept()).await.unwrap();
        assert_eq!(first, own.local_addr().unwrap(), "nobody else connects in the clear");
    });
}

async fn invited(bob: &mut RawSip) -> SipMessage {
    let contact = format!("<sip:bob@{};transport=tls>", bob.local());
    let request = bob.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=b"));
    let answer = bob.ask(&request.set("To", &format!("<{BOB}>")).with("Contact", &contact)).await;
    assert_eq!(answer.status(), Some(200));
    bob.expect("an INVITE", |it| it.method() == Some(Method::Invite)).await
}

/// Answers that the server shall connect to this place, where a certificate with these fingerprints is shown.
async fn answer(bob: &mut RawSip, invite: &SipMessage, place: SocketAddr, fingerprints: &[Fingerprint]) {
    let lines: String = fingerprints.iter().map(|it| format!("a=fingerprint:{it}\r\n")).collect();
    let description = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=message {} TCP/TLS/MSRP *\r\na=path:msrps://{place}/bob;tcp\r\na=accept-types:message/cpim\r\n\
         a=accept-wrapped-types:*\r\na=setup:passive\r\n{lines}a=recvonly\r\n",
        place.port()
    );
    let contact = format!("<sip:bob@{};transport=tls>", bob.local());
    let response = Builder::response(invite, 200, "OK", None, Some("bob")).field("Contact", &contact);
    let response = response.field("Content-Type", "application/sdp").finish_with_body(description.as_bytes());
    bob.send(&response.unwrap()).await;
    bob.expect("an ACK", |it| it.method() == Some(Method::Ack)).await;
}

#[test]
fn a_push_goes_to_whom_the_answer_names_and_to_nobody_else() {
    for (case, is_sent) in [("named", true), ("named beside others", true), ("believed by name", true)]
        .into_iter()
        .chain([("another", false), ("by a hash that is broken", false), ("nobody believes it", false)])
    {
        setting().encrypted_media().settings("few = 0\nretry_seconds = [3600]").tell(async |world| {
            let signed = world.authority().issue(&["127.0.0.1"]);
            let own = if case == "believed by name" { signed } else { Issued::by_itself() };
            let named = Fingerprint::sha256(&own.der());
            let other = Fingerprint::sha256(b"another");
            let broken = "sha-1 AA:BB".parse::<Fingerprint>().unwrap();
            let fingerprints = match case {
                "named" => vec![named],
                "named beside others" => vec![broken, other, named],
                "another" => vec![other],
                "by a hash that is broken" => vec![broken],
                _ => vec![],
            };
            world.person_over_tls("alice").await.send(BOB, "in a session").await;
            let mut bob = world.raw_tls(None).await;
            let invite = invited(&mut bob).await;
            let offer = MsrpDescription::parse(&invite.body(), true).unwrap();
            assert!(offer.secure && !offer.fingerprints.is_empty(), "{:?}", invite.header(Name::ContentType));
            let peer = TlsPeer::start(LOCALHOST, &own, None).await;
            answer(&mut bob, &invite, peer.address(), &fingerprints).await;
            let came = in_time("a connection", peer.accept_stream()).await;
            let said = match came {
                Ok(stream) => RawMsrp::over(Box::new(stream), "").next().await,
                Err(_) => MsrpReply::Closed,
            };
            assert_eq!(matches!(said, MsrpReply::Request(..)), is_sent, "{case}: {said:?}");
            if !is_sent {
                until("the session is over", || world.shared().metrics.sessions.get() == 0).await;
                assert_eq!(world.queue().len(), 1, "{case}: the message waits");
            }
        });
    }
}
