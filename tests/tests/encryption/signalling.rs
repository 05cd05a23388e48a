//! SIP over TLS.

use std::net::{IpAddr, Ipv4Addr};

use restante_sip::message::{Method, Name};
use restante_tests::{Authority, Issued, NameServer, RawSip, TlsPeer, World, in_time, setting, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BOB: &str = "sip:bob@example.org";
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_message_sent_over_tls_waits_and_is_pushed_on_the_clients_own_connection() {
    for ipv6 in [false, true] {
        let place = if ipv6 { setting().ipv6() } else { setting() };
        place.encrypted().tell(async |world| {
            let alice = world.person_over_tls("alice").await;
            let mut bob = world.person_over_tls("bob").await;
            alice.send(BOB, "for later").await;
            bob.register().await;
            assert_eq!(bob.texts(1).await, ["for later"]);
            alice.send(BOB, "at once").await;
            assert_eq!(bob.texts(1).await, ["at once"]);
            world.until_settled().await;
            // One connection each, all the way: the server opened none.
            assert_eq!(world.transport_count("tls_handshakes"), 2);
            assert_eq!(world.transport_count("connections_opened"), 0);
        });
    }
}

/// Registers Bob at the other end of a socket.
async fn register_bob(socket: &mut RawSip) {
    let contact = format!("<sip:bob@{};transport={}>", socket.local(), socket.transport().to_ascii_lowercase());
    let request = socket.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=b"));
    let answer = socket.ask(&request.set("To", &format!("<{BOB}>")).with("Contact", &contact)).await;
    assert_eq!(answer.status(), Some(200));
}

#[test]
fn a_session_goes_over_tls_and_its_requests_say_so() {
    setting().encrypted().settings("few = 0").tell(async |world| {
        world.person_over_tls("alice").await.send(BOB, "in a session").await;
        let mut bob = world.raw_tls(None).await;
        register_bob(&mut bob).await;
        let invite = bob.expect("an INVITE", |it| it.method() == Some(Method::Invite)).await;
        let contact = format!("<sip:{};transport=tls>", world.tls());
        assert_eq!(invite.header(Name::Contact), Some(contact.as_str()));
        assert!(invite.header(Name::Via).is_some_and(|via| via.starts_with(&format!("SIP/2.0/TLS {}", world.tls()))));
        bob.respond(&invite, 486).await;
        bob.expect("an ACK", |it| it.method() == Some(Method::Ack)).await;
    });
}

#[test]
fn what_goes_to_a_sips_contact_has_one_itself() {
    setting().encrypted().settings("few = 0").tell(async |world| {
        world.person_over_tls("alice").await.send(BOB, "in a session").await;
        let mut bob = world.raw_tls(None).await;
        let request = bob.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=b"));
        let request = request.set("To", &format!("<{BOB}>")).with("Contact", &format!("<sips:bob@{}>", bob.local()));
        assert_eq!(bob.ask(&request).await.status(), Some(200));
        let invite = bob.expect("an INVITE", |it| it.method() == Some(Method::Invite)).await;
        assert_eq!(invite.header(Name::Contact), Some(format!("<sips:{}>", world.tls()).as_str()));
        bob.respond(&invite, 486).await;
        bob.expect("an ACK", |it| it.method() == Some(Method::Ack)).await;
    });
}

#[test]
fn a_client_whose_connection_is_gone_gets_its_messages_on_the_next() {
    setting().encrypted().settings("retry_seconds = [3600]").tell(async |world| {
        let mut bob = world.raw_tls(None).await;
        register_bob(&mut bob).await;
        drop(bob);
        until("the connection is over", || world.server().open_connections() == 0).await;
        world.person("alice").await.send(BOB, "for later").await;
        let mut again = world.raw_tls(None).await;
        register_bob(&mut again).await;
        let message = again.expect("the message", |it| it.method() == Some(Method::Message)).await;
        again.respond(&message, 200).await;
        world.until_settled().await;
    });
}

/// Messages go through `tls:core.example.net`, which is at this peer.
async fn look_for_core(world: &mut World, names: &NameServer, peer: &TlsPeer) {
    names.set_services("_sips._tcp.core.example.net", &[(1, peer.address().port(), "one.example.net")]);
    names.set_addresses("one.example.net", &[Ipv4Addr::LOCALHOST]);
    let server = names.address();
    let change = move |it: &mut restante::configuration::Configuration| {
        it.sip.name_servers = vec![server];
        it.sip.outbound = Some("tls:core.example.net".parse().expect("a next hop"));
    };
    world.restart_with(change).await;
}

#[test]
fn a_proxy_that_shows_the_name_that_was_asked_for_gets_the_message() {
    // Its own host name alone would not do: the domain was asked for (RFC 5922 §7.2).
    for shown in [&["core.example.net"][..], &["one.example.net", "sip:core.example.net"]] {
        setting().encrypted().settings("retry_seconds = [1, 1, 1]").tell(async |world| {
            let names = NameServer::start().await;
            let issued = world.authority().issue(shown);
            let peer = TlsPeer::start(LOCALHOST, &issued, Some(world.authority())).await;
            look_for_core(world, &names, &peer).await;
            world.person("alice").await.send(BOB, "through the core").await;
            register_bob(&mut world.udp().await).await;
            // It demands a certificate and is shown ours.
            let mut core = in_time("a connection", peer.accept()).await.expect("TLS");
            let message = core.expect("the message", |it| it.method() == Some(Method::Message)).await;
            assert!(message.header(Name::Via).is_some_and(|via| via.starts_with("SIP/2.0/TLS ")));
            core.respond(&message, 200).await;
            world.until_settled().await;
        });
    }
}

#[test]
fn a_proxy_that_is_not_believed_gets_nothing() {
    let stranger = Authority::new("a stranger");
    let cases: [fn(&Authority, &Authority) -> Issued; 6] = [
        |_, stranger| stranger.issue(&["core.example.net"]),
        |authority, _| authority.issue(&["other.example.net"]),
        |authority, _| authority.issue(&["one.example.net", "127.0.0.1"]),
        |authority, _| authority.issue(&["*.example.net"]),
        |authority, _| authority.issue(&["core.example.net", "sip:other.example.net"]),
        |authority, _| authority.issue_expired(&["core.example.net"]),
    ];
    // One attempt a case is enough, and a busy machine takes some more.
    setting().encrypted().settings(&format!("retry_seconds = {:?}", [1; 32])).tell(async |world| {
        world.person("alice").await.send(BOB, "for one only").await;
        register_bob(&mut world.udp().await).await;
        for (case, issue) in cases.iter().enumerate() {
            let names = NameServer::start().await;
            let peer = TlsPeer::start(LOCALHOST, &issue(world.authority(), &stranger), None).await;
            look_for_core(world, &names, &peer).await;
            // With TLS 1.3 the server's side may be done before it learns that it was not believed; then nothing comes.
            if let Ok(mut core) = in_time("a connection", peer.accept()).await {
                core.until_closed().await;
            }
            until("a handshake failed", || world.transport_count("tls_handshakes_failed") > 0).await;
            assert_eq!(world.transport_count("tls_handshakes"), 0, "case {case}");
        }
        assert_eq!(world.queue().len(), 1, "the message waits");
    });
}

#[test]
fn what_is_no_tls_is_closed_and_answered_with_nothing_but_an_alert() {
    setting().encrypted().tell(async |world| {
        let mut stream = TcpStream::connect(world.tls()).await.unwrap();
        stream.write_all(b"MESSAGE sip:bob@example.org SIP/2.0\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = in_time("the server closes the stream", stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty() || rest[0] == 21, "a TLS alert: {rest:?}");
        assert_eq!(world.transport_count("tls_handshakes_failed"), 1);
        assert_eq!(world.queue().len(), 0);
    });
}
