//! Certificates that change, and peers that are trusted by theirs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use restante::configuration::{AskedCertificates, Configuration, ListenAddress};
use restante_sip::message::{Method, Name, SipMessage};
use restante_tests::{
    Authority, Issued, NameServer, OUTSIDE, RawSip, TlsPeer, World, client_config, connect_tls, connect_tls_again,
    free_tcp_port, in_time, is_asked_for_a_certificate, setting, until, until_equal,
};
use restante_transport::{Protocol, Reloaded};
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

const BOB: &str = "sip:bob@example.org";
/// How often it is tried whether a name is known.
const LOOK_EVERY: Duration = Duration::from_millis(5);

async fn says_that_alice_sends(socket: &mut RawSip) -> SipMessage {
    let asserted = socket.request("MESSAGE", BOB).with("P-Asserted-Identity", "<sip:alice@example.org>");
    socket.ask(&asserted.text("from a peer")).await
}

fn problem(world: &World) -> Option<String> {
    world.server().certificates().status().problem
}

/// Whether the server shows a certificate that this authority signed.
async fn is_signed_by(world: &World, authority: &Authority) -> bool {
    in_time("a handshake", connect_tls(world.tls(), authority, None)).await.is_ok()
}

#[test]
fn new_certificates_are_taken_and_what_is_open_stays() {
    setting().web().administered().tell(async |world| {
        let (mut before, other) = (world.raw_tls(None).await, Authority::new("the next authority"));
        let mut page = world.raw_web(Protocol::Wss, Some("sip"), None).await.expect("a WebSocket");
        let directory = world.directory().to_owned();
        // A key that does not fit its certificate yet: nothing changes, and why is said.
        let next = other.issue(&["sip.example.org", "127.0.0.1"]);
        std::fs::write(directory.join("server.key"), &next.key).unwrap();
        until("the problem is said", || problem(world).is_some_and(|it| it.contains("does not fit"))).await;
        assert!(is_signed_by(world, world.authority()).await);
        let health = world.administration("/health").await;
        assert!(health.body.contains("does not fit") && health.body.contains("sip.example.org"), "{}", health.body);
        next.write(&directory, "server");
        until("the new certificate is live", || problem(world).is_none()).await;
        assert!(is_signed_by(world, &other).await && !is_signed_by(world, world.authority()).await);
        // The connection that began before goes on.
        assert_eq!(says_that_alice_sends(&mut before).await.status(), Some(202));
        let options = page.request("OPTIONS", BOB);
        assert!(page.ask(&options).await.status().is_some());
        let web = world.listener(Protocol::Wss);
        assert!(
            connect_tls(web, &other, None).await.is_ok() && connect_tls(web, world.authority(), None).await.is_err()
        );
        let metrics = world.administration("/metrics").await;
        let metric = |name: &str| restante_tests::metric_in(&metrics.body, name, &[]);
        assert!(metric("restante_tls_certificate_expires_timestamp_seconds") > 1_700_000_000, "{}", metrics.body);
        assert!(metrics.body.contains("restante_tls_reloads_total{outcome=\"taken\"} 1"), "{}", metrics.body);
    });
}

#[test]
fn bad_files_leave_the_old_certificate_and_say_why() {
    setting().encrypted().tell(async |world| {
        let path = world.directory().join("server.pem");
        let good = std::fs::read(&path).unwrap();
        for (bad, expected) in [
            (&b""[..], "no certificate in it"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "server.key: it does not fit"),
            (b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "not readable as PEM"),
            (&good[..good.len() / 2], "not readable as PEM"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = world.server().certificates().reload().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(is_signed_by(world, world.authority()).await);
        }
        std::fs::remove_file(&path).unwrap();
        let error = world.server().certificates().reload().unwrap_err().to_string();
        assert!(error.contains("server.pem: No such file"), "{error}");
        std::fs::write(&path, good).unwrap();
        assert_eq!(world.server().certificates().reload().unwrap(), Reloaded::Unchanged);
        assert_eq!(problem(world), None);
    });
}

#[test]
fn a_certificate_behind_links_is_watched() {
    setting().encrypted().tell(async |world| {
        let directory = world.directory().to_owned();
        let releases = ["one", "two"].map(|name| directory.join(name));
        let (first, other) = (world.authority().issue(&["127.0.0.1"]), Authority::new("the next authority"));
        for (release, issued) in releases.iter().zip([&first, &other.issue(&["127.0.0.1"])]) {
            std::fs::create_dir(release).unwrap();
            issued.write(release, "server");
        }
        let live = directory.join("live");
        std::os::unix::fs::symlink(&releases[0], &live).unwrap();
        world
            .restart_with(|it| {
                it.tls.certificate = Some(live.join("server.pem"));
                it.tls.key = Some(live.join("server.key"));
            })
            .await;
        assert!(is_signed_by(world, world.authority()).await);
        std::os::unix::fs::symlink(&releases[1], directory.join("next")).unwrap();
        std::fs::rename(directory.join("next"), &live).unwrap();
        until("the new certificate is live", || world.server().certificates().status().reloads == 1).await;
        assert!(is_signed_by(world, &other).await);
    });
}

fn trusting(names: &'static [&'static str], asked: AskedCertificates) -> restante_tests::Setting {
    let place = setting().encrypted().configure(move |it| it.tls.client_certificates = asked);
    place.tenant(|tenant| tenant.trust = names.iter().map(|name| name.parse().expect("a peer")).collect())
}

#[test]
fn a_peer_is_trusted_by_the_name_in_its_certificate_and_nobody_else_is() {
    trusting(&["tls:core.example.net"], AskedCertificates::Request).tell(async |world| {
        let authority = world.authority();
        let trusted = [
            authority.issue(&["core.example.net"]),
            authority.issue(&["CORE.example.net"]),
            authority.issue(&["host7.example.net", "sip:core.example.net"]),
        ];
        for own in &trusted {
            let mut core = world.raw_tls(Some(own)).await;
            assert_eq!(says_that_alice_sends(&mut core).await.status(), Some(202));
        }
        let others = [
            None,
            Some(authority.issue(&["other.example.net"])),
            Some(authority.issue(&["*.example.net"])),
            Some(authority.issue(&["x.core.example.net", "core.example.net.example"])),
            // A certificate for another SIP domain, whose host happens to be called like the trusted one (RFC 5922 §7.1).
            Some(authority.issue(&["core.example.net", "sip:other.example.net"])),
        ];
        for own in &others {
            let mut outsider = world.raw_tls(own.as_ref()).await;
            assert_eq!(says_that_alice_sends(&mut outsider).await.status(), Some(403), "{own:?}");
        }
        // Without TLS the name counts for nothing, and the address does not either.
        assert_eq!(says_that_alice_sends(&mut world.tcp().await).await.status(), Some(403));
        assert_eq!(says_that_alice_sends(&mut world.udp().await).await.status(), Some(403));
        assert_eq!(world.queue().len(), trusted.len());
    });
}

/// Connects from there with the URI of an MSRP session that there is not.
async fn guess_session(place: SocketAddr, from: IpAddr, number: u64) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(from, 0)).expect("an address");
    let mut stream = socket.connect(place).await.expect("the system accepts");
    let guess = format!(
        "MSRP a{number}bc SEND\r\nTo-Path: msrp://{place}/r00{number};tcp\r\nFrom-Path: msrp://192.0.2.1:9/x;tcp\r\n\
         Message-ID: {number}\r\nByte-Range: 1-0/0\r\n-------a{number}bc$\r\n"
    );
    if stream.write_all(guess.as_bytes()).await.is_ok() {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// All at once: who is slowed waits some seconds for each.
async fn guess_sessions(world: &World, from: IpAddr, numbers: Range<u64>) {
    let place = msrp_listener(world);
    let guesses: JoinSet<()> = numbers.map(|number| guess_session(place, from, number)).collect();
    guesses.join_all().await;
}

fn msrp_listener(world: &World) -> SocketAddr {
    let (_, place) = *world.server().msrp().first().expect("a listener for MSRP");
    place
}

#[test]
fn a_core_that_its_certificate_names_is_not_shut_out_for_what_is_guessed_from_its_address() {
    let place = trusting(&["tls:core.example.net"], AskedCertificates::Request);
    let place = place.configure(|it| {
        it.limits.max_garbage = 4;
        it.limits.garbage_seconds = 3600;
    });
    place.tell(async |world| {
        let own = world.authority().issue(&["core.example.net"]);
        let mut core = world.raw_tls(Some(&own)).await;
        assert_eq!(says_that_alice_sends(&mut core).await.status(), Some(202));
        let is_shut_out = |world: &World| world.metric("restante_dropped_total", &["reason=\"source-shut-out\""]) > 0;
        let address = core.local().ip();
        guess_sessions(world, address, 0..10).await;
        assert!(is_served(world, Some(&own)).await);
        // While it connects anew, too.
        drop(core);
        until_equal("connections", 0, || world.server().open_connections()).await;
        guess_sessions(world, address, 10..20).await;
        assert!(!is_shut_out(world) && is_served(world, Some(&own)).await);
        for number in 0..4 {
            guess_session(msrp_listener(world), OUTSIDE, number).await;
        }
        assert!(is_shut_out(world), "who is somewhere else is");
    });
}

#[test]
fn a_delivery_of_ours_is_passed_on_for_a_core_that_its_certificate_names() {
    trusting(&["tls:core.example.net"], AskedCertificates::Request).tell(async |world| {
        let mut core = world.raw_tls(Some(&world.authority().issue(&["core.example.net"]))).await;
        let contact = format!("<sip:bob@{};transport=tls>", core.local());
        let register = core.request("REGISTER", "sip:example.org").set("From", &format!("<{BOB}>;tag=b"));
        let register = register.set("To", &format!("<{BOB}>")).with("Contact", &contact);
        assert_eq!(core.ask(&register).await.status(), Some(200));
        assert_eq!(says_that_alice_sends(&mut core).await.status(), Some(202));
        let ours = core.expect("the delivery", |it| it.method() == Some(Method::Message)).await;
        let brought_back = |socket: &RawSip| {
            let message = socket.request("MESSAGE", BOB).set("Call-ID", ours.call_id().unwrap());
            message.body(ours.header(Name::ContentType).unwrap(), ours.body())
        };
        // Whoever else learnt its Call-ID.
        let mut outsider = world.raw_tls(None).await;
        let request = brought_back(&outsider);
        assert_eq!(outsider.ask(&request).await.status(), Some(403));
        let request = brought_back(&core);
        core.send(&request.bytes()).await;
        let passed_on = |it: &SipMessage| it.method() == Some(Method::Message) && it.list(Name::Via).count() == 2;
        let message = core.expect("what was brought back", passed_on).await;
        core.respond(&message, 200).await;
        assert_eq!(core.answer_to(&request).await.status(), Some(200));
        core.respond(&ours, 200).await;
        world.until_settled().await;
    });
}

#[test]
fn what_stays_among_those_who_trust_each_other_stays_with_a_core_that_its_certificate_names() {
    trusting(&["tls:core.example.net"], AskedCertificates::Request).tell(async |world| {
        let names = NameServer::start().await;
        names.set_addresses("core.example.net", &[Ipv4Addr::LOCALHOST]);
        names.set_addresses("other.example.net", &[Ipv4Addr::LOCALHOST]);
        let server = names.address();
        world.restart_with(|it| it.sip.name_servers = vec![server]).await;
        let own = world.authority().issue(&["core.example.net", "other.example.net", "127.0.0.1"]);
        let mut core = world.raw_tls(Some(&own)).await;
        for host in ["core.example.net", "127.0.0.1"] {
            let next = TlsPeer::start(Ipv4Addr::LOCALHOST.into(), &own, None).await;
            let route = format!("<sip:{host}:{};transport=tls;lr>", next.address().port());
            let came = until_passed_to(world, &mut core, &next, &route).await;
            assert_eq!(came.header(Name::PChargingVector), Some("icid-value=\"1\""), "{host}");
        }
        // From where an address is all that is trusted, only who has that address or that name is told.
        world.restart_with(trust_outside).await;
        let mut edge = world.outside().await;
        for (host, told) in [("core.example.net", 1), ("other.example.net", 0)] {
            let next = TlsPeer::start(Ipv4Addr::LOCALHOST.into(), &own, None).await;
            let route = format!("<sip:{host}:{};transport=tls;lr>", next.address().port());
            let came = until_passed_to(world, &mut edge, &next, &route).await;
            assert_eq!(came.count(Name::PChargingVector), told, "{host}");
        }
    });
}

fn trust_outside(configuration: &mut Configuration) {
    configuration
        .tenants
        .values_mut()
        .for_each(|tenant| tenant.trust.push(OUTSIDE.to_string().parse().expect("a peer")));
}

/// A user of the core's sends along a Route, until it leads to where its name does, and not back while that is looked up.
async fn until_passed_to(world: &World, core: &mut RawSip, next: &TlsPeer, route: &str) -> SipMessage {
    let here = format!("<sip:{};transport=tls;lr;orig>", world.tls());
    let tried = async {
        loop {
            let request = core.request("MESSAGE", "sip:dave@elsewhere.net").with("Route", &here).with("Route", route);
            core.send(&request.with("P-Charging-Vector", "icid-value=\"1\"").text("to elsewhere").bytes()).await;
            let passed_on = |it: &SipMessage| it.is_request() && it.list(Name::Via).count() == 2;
            let back = async {
                let came = core.expect("it comes back", passed_on).await;
                core.respond(&came, 200).await;
            };
            let there = async {
                let mut next = next.accept().await.expect("a handshake");
                let came = next.expect("it comes there", passed_on).await;
                next.respond(&came, 200).await;
                came
            };
            tokio::select! {
                () = back => {}
                came = there => return came,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    in_time("it comes there", tried).await
}

/// Whether the server answers who shows this.
async fn is_served(world: &World, own: Option<&Issued>) -> bool {
    let Ok(stream) = in_time("a handshake", connect_tls(world.tls(), world.authority(), own)).await else {
        return false;
    };
    let local = stream.get_ref().0.local_addr().unwrap();
    let mut socket = RawSip::over(Box::new(stream), "TLS", local, world.tls());
    let request = socket.request("OPTIONS", "sip:example.org");
    socket.try_ask(&request).await.is_some()
}

#[test]
fn a_certificate_that_is_asked_for_must_be_good() {
    let stranger = Authority::new("a stranger");
    for (asked, served) in [(AskedCertificates::Request, true), (AskedCertificates::Require, false)] {
        trusting(&["tls:core.example.net"], asked).tell(async |world| {
            assert!(is_served(world, Some(&world.authority().issue(&["core.example.net"]))).await);
            assert_eq!(is_served(world, None).await, served);
            assert!(!is_served(world, Some(&stranger.issue(&["core.example.net"]))).await);
            assert!(!is_served(world, Some(&world.authority().issue_expired(&["core.example.net"]))).await);
        });
    }
}

#[test]
fn a_page_is_asked_for_no_certificate_but_where_every_client_needs_one() {
    use AskedCertificates::{None, Request, Require};
    for (asked, over_tls, of_pages) in [(None, false, false), (Request, true, false), (Require, true, true)] {
        trusting(&[], asked).web().encrypted_media().tell(async |world| {
            let web = ListenAddress { protocol: Protocol::Wss, socket: free_tcp_port() };
            world.restart_with(|it| it.msrp.web_socket_listen = vec![web]).await;
            let (_, msrp) = *world.server().msrp().first().expect("a listener for MSRP");
            for (place, expected) in [
                (world.tls(), over_tls),
                (world.listener(Protocol::Wss), of_pages),
                // Sessions name the certificates of both their ends there.
                (msrp, true),
                (web.socket, false),
            ] {
                let is_asked = in_time("TLS", is_asked_for_a_certificate(place, world.authority())).await;
                assert_eq!(is_asked, expected, "{asked:?} {place}");
            }
        });
    }
}

#[test]
fn a_certificate_is_looked_at_again_on_each_connection() {
    // Where none is asked for, a client may go on with its session.
    for (asked, goes_on) in
        [(AskedCertificates::None, true), (AskedCertificates::Request, false), (AskedCertificates::Require, false)]
    {
        trusting(&["tls:core.example.net"], asked).tell(async |world| {
            let own = world.authority().issue(&["core.example.net"]);
            let config = client_config(world.authority(), Some(&own));
            let mut went_on = false;
            for _ in 0..2 {
                let stream = in_time("a handshake", connect_tls_again(world.tls(), &config)).await.expect("TLS");
                went_on = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                let local = stream.get_ref().0.local_addr().unwrap();
                let mut socket = RawSip::over(Box::new(stream), "TLS", local, world.tls());
                // What a server lets go on comes before its first answer.
                let request = socket.request("OPTIONS", "sip:example.org");
                assert_eq!(socket.ask(&request).await.status(), Some(200));
            }
            assert_eq!(went_on, goes_on, "{asked:?}");
        });
    }
}

#[test]
fn a_next_hop_shows_its_certificate_on_each_connection() {
    setting().encrypted().tell(async |world| {
        let next_hop = world.authority().issue(&["127.0.0.1"]);
        let core = TlsPeer::start(world.tls().ip(), &next_hop, None).await;
        let outbound = format!("tls:{}", core.address()).parse().expect("a next hop");
        world.restart_with(|it| it.sip.outbound = Some(outbound)).await;
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        for _ in 0..2 {
            alice.send(BOB, "over TLS").await;
            let stream = in_time("a connection", core.accept_stream()).await.expect("TLS");
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            let remote = stream.get_ref().0.peer_addr().unwrap();
            let mut socket = RawSip::over(Box::new(stream), "TLS", core.address(), remote);
            let message = socket.expect("the message", |it| it.method() == Some(Method::Message)).await;
            socket.respond(&message, 200).await;
            world.until_settled().await;
        }
    });
}
