//! Sessions of the server that go through a relay (RFC 4976); the relay is written by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use restante::configuration::{Configuration, MsrpRelay, RelayUri};
use restante_msrp::framing::{Method, RequestHead};
use restante_msrp::sdp::MsrpDescription;
use restante_sip::authentication::{Algorithm, Credentials, HashOfA1, Subject, response};
use restante_tests::{
    Chunk, Cpim, DeadPlace, Head, NameServer, RawMsrp, RawSip, TlsPeer, World, in_time, pattern, setting, until,
};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout;

use restante_tests::raw_device::{BOB, accept, invited, register, waiting};

const PASSWORD: &str = "secret of the relay";
/// While the relay has not taken the server, attempts fail: there are some left when a machine stood still meanwhile.
const RETRIES: &str = "few = 0\nretry_seconds = [1, 1, 1, 1, 1, 1, 5, 5, 5, 5, 5, 5]";
/// With what a busy machine adds, how long others wait at most because of six sessions that are not read; three seconds
/// for each would be more.
const NOTICED: Duration = Duration::from_secs(12);

/// A relay that takes the server, and the connection between them.
struct Relay {
    listener: TcpListener,
    place: SocketAddr,
}

impl Relay {
    async fn listen(world: &World) -> Relay {
        let listener = TcpListener::bind((world.sip().ip(), 0)).await.unwrap();
        let place = listener.local_addr().unwrap();
        Relay { listener, place }
    }

    async fn start(world: &mut World) -> Relay {
        let relay = Relay::listen(world).await;
        go_through(world, &[format!("msrp://{};tcp", relay.place)], |_| {}).await;
        relay
    }

    async fn connection(&self) -> RawMsrp {
        let (stream, _) = in_time("a connection to the relay", self.listener.accept()).await.unwrap();
        RawMsrp::over(Box::new(stream), "")
    }

    fn uri(&self, session: &str) -> String {
        format!("msrp://{}/{session};tcp", self.place)
    }

    /// Takes the server for so many seconds, under a session.
    async fn grant(&self, connection: &mut RawMsrp, session: &str, expires: u32) {
        take(connection, &format!("msrp://{};tcp", self.place), &self.uri(session), expires).await;
    }
}

/// The server goes through the first of these relays that takes it.
async fn go_through(world: &mut World, uris: &[String], change: impl FnOnce(&mut Configuration)) {
    let password_file = world.directory().join("relay.password");
    std::fs::write(&password_file, format!("{PASSWORD}\n")).unwrap();
    let relay = |uri: &String| {
        let uri = RelayUri::try_from(uri.clone()).unwrap();
        MsrpRelay { uri, username: "restante".to_owned(), password_file: password_file.clone() }
    };
    let relays = uris.iter().map(relay).collect();
    world
        .restart_with(|it| {
            it.msrp.relay = relays;
            change(it);
        })
        .await;
}

/// A relay that is called so takes the server, under this URI.
async fn take(connection: &mut RawMsrp, relay: &str, use_path: &str, expires: u32) {
    let asked = connection.next_request().await;
    assert_eq!((asked.method.clone(), asked.to_path.to_string()), (auth(), relay.to_owned()));
    assert_eq!(field(&asked, "Authorization"), None);
    let challenge = "WWW-Authenticate: Digest realm=\"relay\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"\r\n";
    connection.answer(&asked, "401 Unauthorized", challenge).await;
    let again = connection.next_request().await;
    let credentials = field(&again, "Authorization").expect("credentials");
    let credentials = Credentials::parse(&credentials).unwrap().unwrap();
    let hash = HashOfA1::new(Algorithm::Sha256, "restante", "relay", PASSWORD);
    let subject = Subject { method: "AUTH", uri: relay, nonce: "n1", is_session: false, body: &[] };
    let expected = response(&hash, &subject, credentials.protection.as_ref());
    assert_eq!((credentials.response, credentials.uri), (expected, relay.to_owned()));
    let fields = format!("Use-Path: {use_path}\r\nExpires: {expires}\r\n");
    connection.answer(&again, "200 OK", &fields).await;
}

fn auth() -> Method {
    Method::Other("AUTH".to_owned())
}

fn field(head: &RequestHead, name: &str) -> Option<String> {
    head.other_headers.iter().find(|it| it.name == name).map(|it| it.value.clone())
}

fn cpim(length: usize, id: &str) -> Vec<u8> {
    Cpim { id: Some(id), ..Cpim::default() }.with(pattern(length))
}

/// Alice invites, once the server is taken by its relay; what the server says of its media.
async fn invite(sip: &mut RawSip) -> MsrpDescription {
    let invite = RawMsrp::invitation(sip, BOB);
    let answer = sip.ask(&invite).await;
    assert_eq!(answer.status(), Some(200), "{:?}", answer.bytes());
    sip.send(&RawMsrp::ack(sip, &invite, &answer).bytes()).await;
    MsrpDescription::parse(&answer.body(), true).unwrap()
}

async fn until_granted(sip: &mut RawSip) {
    loop {
        let probe = RawMsrp::invitation(sip, BOB);
        let answer = sip.ask(&probe).await;
        if answer.status() == Some(200) {
            sip.send(&RawMsrp::ack(sip, &probe, &answer).bytes()).await;
            let bye = RawMsrp::bye(sip, &probe, &answer);
            assert_eq!(sip.ask(&bye).await.status(), Some(200));
            return;
        }
        assert_eq!(answer.status(), Some(480), "only for now");
    }
}

#[test]
fn large_messages_of_several_sessions_come_through_the_one_connection_to_the_relay() {
    for is_ipv6 in [false, true] {
        setting().on_ipv6(is_ipv6).tell(several_sessions);
    }
}

async fn several_sessions(world: &mut World) {
    let relay = Relay::start(world).await;
    let mut connection = relay.connection().await;
    let (mut one, mut two) = (world.udp().await, world.udp().await);
    relay.grant(&mut connection, "granted", 900).await;
    until_granted(&mut one).await;
    let described = [invite(&mut one).await, invite(&mut two).await];
    for (number, described) in described.iter().enumerate() {
        let uris: Vec<String> = described.path.iter().map(ToString::to_string).collect();
        assert_eq!((uris.len(), uris[0].as_str()), (2, &*relay.uri("granted")), "{number}: the relay stands first");
        assert_eq!(described.connection_places()[0].socket_address(), Some(relay.place));
        assert!(!described.msrp_cema, "a relay compares whole URIs");
    }
    // Chunks of both in turn.
    let messages = [cpim(40_000, "one"), cpim(40_000, "two")];
    for (first, last) in [(0, 20_000), (20_000, messages[0].len())] {
        for (number, message) in messages.iter().enumerate() {
            connection.to_path = described[number].path.last().to_string();
            let flag = if last == message.len() { '$' } else { '+' };
            let (content, total) = (&message[first..last], message.len());
            let chunk = Chunk { message_id: "m", first: first + 1, total, content, flag, fields: "" };
            let transaction = connection.send_chunk(chunk).await;
            let Some(Head::Response(said)) = connection.next_head().await else { panic!("no response") };
            assert_eq!((said.transaction_id.as_str(), said.status.code()), (&*transaction, 200));
        }
    }
    world.until_waiting(2).await;
    // A session that nobody has.
    connection.to_path = "msrp://127.0.0.1:1/nobody;tcp".to_owned();
    // Who wants to hear nothing hears nothing.
    connection.send_chunk(Chunk { fields: "Failure-Report: no\r\n", ..Chunk::whole("m", b"x") }).await;
    let transaction = connection.send_chunk(Chunk::whole("m", b"x")).await;
    let Some(Head::Response(said)) = connection.next_head().await else { panic!("no response") };
    assert_eq!((said.transaction_id.as_str(), said.status.code()), (&*transaction, 481));
}

#[test]
fn a_push_goes_through_the_relay_and_counts_when_its_receiver_reports_it() {
    setting().settings(RETRIES).tell(async |world| {
        let relay = Relay::start(world).await;
        let mut connection = relay.connection().await;
        relay.grant(&mut connection, "granted", 900).await;
        world.person("alice").await.send(BOB, "through the relay").await;
        let mut bob = world.udp().await;
        register(&mut bob).await;
        for round in ["the connection to the relay breaks", "it arrives"] {
            let (invite, offer) = invited(&mut bob).await;
            let own = offer.path.last().to_string();
            let path = "msrp://192.0.2.99:2855/bob;tcp";
            accept(&mut bob, &invite, &waiting("TCP/MSRP", ("192.0.2.99", 2855), path, "")).await;
            // What binds the connection comes first.
            let mut send = connection.next_request().await;
            while send.content_type.is_none() {
                connection.answer(&send, "200 OK", "").await;
                send = connection.next_request().await;
            }
            assert_eq!(send.to_path.to_string(), format!("{} {path}", relay.uri("granted")));
            assert_eq!(send.from_path.to_string(), own);
            if round == "it arrives" {
                assert!(send.success_report, "the relay's 200 says nothing of Bob");
                connection.answer(&send, "200 OK", "").await;
                let (id, range) = (send.message_id.clone().unwrap(), send.byte_range.unwrap());
                let total = range.total.unwrap();
                assert_eq!(world.queue().len(), 1, "not yet");
                let report = format!(
                    "MSRP rep1 REPORT\r\nTo-Path: {own}\r\nFrom-Path: {} {path}\r\nMessage-ID: {id}\r\n\
                     Byte-Range: 1-{total}/{total}\r\nStatus: 000 200 OK\r\n-------rep1$\r\n",
                    relay.uri("granted")
                );
                connection.send(report.as_bytes()).await;
                world.until_waiting(0).await;
                let bye = bob.expect("a BYE", |it| it.method() == Some(restante_sip::message::Method::Bye)).await;
                bob.respond(&bye, 200).await;
                world.until_no_session().await;
                return;
            }
            drop(connection);
            let bye = bob.expect("a BYE", |it| it.method() == Some(restante_sip::message::Method::Bye)).await;
            bob.respond(&bye, 200).await;
            connection = relay.connection().await;
            relay.grant(&mut connection, "granted", 900).await;
        }
    });
}

#[test]
fn a_relay_that_does_not_take_the_server_holds_sessions_up_and_loses_nothing() {
    setting().settings(RETRIES).tell(async |world| {
        let relay = Relay::start(world).await;
        let mut connection = relay.connection().await;
        let asked = connection.next_request().await;
        connection.answer(&asked, "403 Forbidden", "").await;
        let mut sip = world.udp().await;
        let refused = sip.ask(&RawMsrp::invitation(&sip, BOB)).await;
        assert_eq!((refused.status(), refused.header_by_text("Retry-After").is_some()), (Some(480), true));
        world.person("alice").await.send(BOB, "waits for the relay").await;
        let mut bob = world.udp().await;
        register(&mut bob).await;
        // It asks again by itself, and then the message goes.
        relay.grant(&mut connection, "granted", 900).await;
        let (_, offer) = invited(&mut bob).await;
        assert_eq!(offer.path.first().to_string(), relay.uri("granted"));
        until("the message waits", || world.queue().len() == 1).await;
    });
}

#[test]
fn who_sends_to_sessions_that_did_not_begin_holds_up_nobody_else() {
    setting().tell(async |world| {
        let relay = Relay::start(world).await;
        let mut connection = relay.connection().await;
        let mut sip = world.udp().await;
        relay.grant(&mut connection, "granted", 900).await;
        until_granted(&mut sip).await;
        // Sessions without an ACK, in which the server would be the one to connect: nobody reads them yet.
        let message = cpim(150_000, "flood");
        for _ in 0..6 {
            let mut stranger = world.udp().await;
            let path = "msrp://192.0.2.99:2855/stranger;tcp";
            let offer = waiting("TCP/MSRP", ("192.0.2.99", 2855), path, "").replace("a=recvonly", "a=sendonly");
            let invite = RawMsrp::invitation(&stranger, BOB).body("application/sdp", offer.into_bytes());
            let answer = stranger.ask(&invite).await;
            assert_eq!(answer.status(), Some(200), "{:?}", answer.bytes());
            let theirs = MsrpDescription::parse(&answer.body(), true).unwrap();
            connection.to_path = theirs.path.last().to_string();
            connection.send_chunk(Chunk::whole("flood", &message)).await;
        }
        let described = invite(&mut sip).await;
        connection.to_path = described.path.last().to_string();
        let transaction = connection.send_chunk(Chunk::whole("m", &cpim(1_000, "one"))).await;
        let said = timeout(NOTICED, connection.next_head()).await.expect("soon");
        let Some(Head::Response(said)) = said else { panic!("no response") };
        assert_eq!((said.transaction_id.as_str(), said.status.code()), (&*transaction, 200));
        world.until_waiting(1).await;
    });
}

#[test]
fn a_relay_that_says_nothing_is_left_and_connected_to_again() {
    setting().tell(async |world| {
        let relay = Relay::start(world).await;
        let mut silent = relay.connection().await;
        assert_eq!(silent.next_request().await.method, auth());
        // After the time for an answer, half a minute.
        let mut connection = relay.connection().await;
        relay.grant(&mut connection, "granted", 900).await;
        until_granted(&mut world.udp().await).await;
        assert!(silent.next_head().await.is_none(), "the first is closed");
    });
}

#[test]
fn a_relay_named_by_its_domain_is_found_by_its_service_where_somebody_is() {
    setting().encrypted_media().settings(RETRIES).tell(async |world| {
        let names = NameServer::start().await;
        // Believed by the name of the domain, and not by that of the host.
        let shown = world.authority().issue(&["example.net"]);
        let peer = TlsPeer::start(Ipv4Addr::LOCALHOST.into(), &shown, None).await;
        let (dead, port) = (DeadPlace::take(), peer.address().port());
        let places = [(2, port, "two.example.net"), (1, dead.address().port(), "one.example.net")];
        names.set_services("_msrps._tcp.example.net", &places);
        for host in ["one.example.net", "two.example.net"] {
            names.set_addresses(host, &[Ipv4Addr::LOCALHOST]);
        }
        let server = names.address();
        go_through(world, &["msrps://example.net;tcp".to_owned()], |it| it.sip.name_servers = vec![server]).await;
        let stream = in_time("a connection", peer.accept_stream()).await.expect("the name of the domain is believed");
        let mut connection = RawMsrp::over(Box::new(stream), "");
        let use_path = format!("msrps://two.example.net:{port}/granted;tcp");
        take(&mut connection, "msrps://example.net;tcp", &use_path, 900).await;
        let mut alice = world.udp().await;
        let message = alice.request("MESSAGE", BOB).text("through the relay");
        assert_eq!(alice.ask(&message).await.status(), Some(202));
        let mut bob = world.raw_tls(None).await;
        register(&mut bob).await;
        let (_, offer) = invited(&mut bob).await;
        assert_eq!(offer.path.first().to_string(), use_path);
        let asked = names.asked();
        assert!(asked.iter().any(|it| it == "SRV _msrps._tcp.example.net"), "{asked:?}");
        assert!(!asked.iter().any(|it| it.contains("_sip") || it.starts_with("NAPTR")), "{asked:?}");
    });
}

#[test]
fn of_several_relays_the_next_is_taken_where_one_is_not_there_or_does_not_take_the_server() {
    setting().tell(async |world| {
        let dead = DeadPlace::take();
        let (first, second) = (Relay::listen(world).await, Relay::listen(world).await);
        let uris = [dead.address(), first.place, second.place].map(|place| format!("msrp://{place};tcp"));
        go_through(world, &uris, |_| {}).await;
        let mut refusing = first.connection().await;
        let asked = refusing.next_request().await;
        refusing.answer(&asked, "403 Forbidden", "").await;
        let mut connection = second.connection().await;
        second.grant(&mut connection, "granted", 900).await;
        assert!(refusing.next_head().await.is_none(), "it is left");
        let mut sip = world.udp().await;
        until_granted(&mut sip).await;
        assert_eq!(invite(&mut sip).await.path.first().to_string(), second.uri("granted"));
        // It is lost: from the first on again.
        drop(connection);
        let mut connection = first.connection().await;
        first.grant(&mut connection, "again", 900).await;
        until_granted(&mut sip).await;
        assert_eq!(invite(&mut sip).await.path.first().to_string(), first.uri("again"));
    });
}

#[test]
fn a_relay_that_is_not_there_says_nothing_of_the_next_hops_of_sip() {
    setting().settings("retry_seconds = [3600]").tell(async |world| {
        let names = NameServer::start().await;
        // At one number SIP is spoken over UDP, and nobody takes MSRP over TCP.
        let (first, second) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let places = [&first, &second].map(|socket| socket.local_addr().unwrap());
        names.set_services(
            "_sip._udp.core.example.net",
            &[(1, places[0].port(), "one.example.net"), (2, places[1].port(), "one.example.net")],
        );
        names.set_addresses("one.example.net", &[Ipv4Addr::LOCALHOST]);
        let relay = Relay::listen(world).await;
        let uris = [places[0], relay.place].map(|place| format!("msrp://{place};tcp"));
        let (server, outbound) = (names.address(), "udp:core.example.net".parse().unwrap());
        go_through(world, &uris, |it| {
            it.sip.name_servers = vec![server];
            it.sip.outbound = Some(outbound);
        })
        .await;
        // By now the first was tried.
        relay.grant(&mut relay.connection().await, "granted", 900).await;
        world.person("alice").await.send(BOB, "the usual way").await;
        let mut bob = world.udp().await;
        register(&mut bob).await;
        let (mut one, mut two) = (vec![0; 2_000], vec![0; 2_000]);
        let came = async {
            tokio::select! {
                _ = first.recv_from(&mut one) => "first",
                _ = second.recv_from(&mut two) => "second",
            }
        };
        assert_eq!(in_time("a MESSAGE", came).await, "first");
    });
}

#[test]
fn sessions_that_stand_and_are_not_read_hold_up_nobody_else() {
    setting().held().tell(async |world| {
        let relay = Relay::start(world).await;
        let mut connection = relay.connection().await;
        let mut sip = world.udp().await;
        relay.grant(&mut connection, "granted", 900).await;
        until_granted(&mut sip).await;
        let described = invite(&mut sip).await;
        let mut strangers = Vec::new();
        for _ in 0..6 {
            strangers.push(invite(&mut world.udp().await).await);
        }
        // What they sent waits for the store: their sessions read no more until it is there.
        world.held().hold();
        for (number, stranger) in strangers.iter().enumerate() {
            connection.to_path = stranger.path.last().to_string();
            for message in 0..16 {
                let id = format!("m{number}-{message}");
                connection.send_chunk(Chunk::whole(&id, &cpim(100, &id))).await;
            }
        }
        until("they wait for the store", || world.held().waiting() >= 96).await;
        let flood = cpim(600_000, "flood");
        for stranger in &strangers {
            connection.to_path = stranger.path.last().to_string();
            connection.send_chunk(Chunk::whole("flood", &flood)).await;
        }
        connection.to_path = described.path.last().to_string();
        let (content, total) = (&cpim(40_000, "one")[..20_000], 40_000);
        let chunk = Chunk { message_id: "m", first: 1, total, content, flag: '+', fields: "" };
        let transaction = connection.send_chunk(chunk).await;
        let said = timeout(NOTICED, connection.next_head()).await.expect("soon");
        let Some(Head::Response(said)) = said else { panic!("no response") };
        assert_eq!((said.transaction_id.as_str(), said.status.code()), (&*transaction, 200));
        world.held().release();
    });
}
