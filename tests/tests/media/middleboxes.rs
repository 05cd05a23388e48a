//! Middleboxes that change `c=` and `m=` and leave paths alone (RFC 6714).

use std::net::{Ipv4Addr, SocketAddr};

use restante_client::{ClientConfiguration, Content, LargeMessage, SetupChoice, Source};
use restante_msrp::sdp::Fingerprint;
use restante_tests::{
    DeadPlace, Issued, Middlebox, MsrpReply, RawMsrp, TlsPeer, World, in_time, pattern, setting, until,
};
use tokio::net::TcpListener;

use restante_tests::raw_device::{BOB, accept, invited, register, waiting};

/// Where nobody is, and we may not connect to.
const ELSEWHERE: &str = "192.0.2.55:2855";

#[test]
fn a_large_message_goes_through_the_middleboxes_of_both_ends_whoever_connects() {
    let (active, passive) = (SetupChoice::Active, SetupChoice::Passive);
    for (setup, is_ipv6) in [(active, false), (passive, false), (active, true), (passive, true)] {
        // That c= and m= name another place than the path is what clients object to otherwise.
        setting().on_ipv6(is_ipv6).allow_objections().tell(async |world| {
            let (before_alice, before_bob) = (Middlebox::start(world.sip()).await, Middlebox::start(world.sip()).await);
            let behind = |middlebox: &Middlebox| {
                let server = middlebox.address();
                move |it: &mut ClientConfiguration| (it.server, it.setup) = (server, setup)
            };
            let alice = world.person_with("alice", behind(&before_alice)).await;
            let mut bob = world.person_with("bob", behind(&before_bob)).await;
            let content = pattern(300_000);
            let message = LargeMessage::new(BOB, "application/octet-stream", Source::Bytes(content.clone()));
            assert!(alice.client.send_large(message).await.expect("an answer").accepted);
            world.until_waiting(1).await;
            assert_eq!(before_alice.anchored(), 1, "{setup:?}: through the middlebox of Alice");
            bob.register().await;
            assert_eq!(bob.received().await.content, Content::Memory(content));
            assert_eq!(before_bob.anchored(), 1, "{setup:?}: through the middlebox of Bob");
            world.until_settled().await;
        });
    }
}

/// Bob's answer names `place` in c= and m= and this path; whether the message goes there.
async fn is_sent_to(world: &mut World, path: &str, lines: &str) -> bool {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let place = listener.local_addr().unwrap();
    world.person("alice").await.send(BOB, "in a session").await;
    let mut bob = world.udp().await;
    register(&mut bob).await;
    let (invite, offer) = invited(&mut bob).await;
    assert!(offer.msrp_cema, "we say that we know it");
    let path = path.replace("PLACE", &place.to_string());
    accept(&mut bob, &invite, &waiting("TCP/MSRP", ("127.0.0.1", place.port()), &path, lines)).await;
    let over = until("the session is over", || world.shared().metrics.sessions.get() == 0);
    tokio::select! {
        came = listener.accept() => {
            let mut connection = RawMsrp::over(Box::new(came.unwrap().0), "");
            let said = connection.next_request().await;
            // Whatever was connected to, the path is the one of the description.
            assert_eq!(said.to_path.to_string(), path);
            true
        }
        () = over => false,
    }
}

#[test]
fn we_connect_to_c_and_m_where_the_other_side_knows_of_it_or_its_path_is_not_reached() {
    let place = DeadPlace::take();
    let dead = place.address().to_string();
    for (authority, lines, expected) in [
        (ELSEWHERE, "a=msrp-cema\r\n", true),
        (&*dead, "a=msrp-cema\r\n", true),
        ("PLACE", "a=msrp-cema\r\n", true),
        ("PLACE", "", true),
        // Its path may not be connected to, or nobody is there.
        (ELSEWHERE, "", true),
        (&*dead, "", true),
        // Behind a relay the path counts.
        ("192.0.2.56:2855/relay;tcp msrp://PLACE", "", false),
    ] {
        setting().settings("few = 0\nretry_seconds = [3600]").tell(async |world| {
            let path = format!("msrp://{authority}/bob;tcp");
            assert_eq!(is_sent_to(world, &path, lines).await, expected, "{path} {lines:?}");
        });
    }
}

#[test]
fn a_path_where_somebody_says_nothing_leaves_time_for_the_place_behind_it() {
    setting()
        .encrypted_media()
        // Half of it for each place: more than a machine stands still.
        .configure(|it| it.limits.max_session_setup_seconds = 12)
        .settings("few = 0\nretry_seconds = [3600]")
        .tell(async |world| {
            world.person_over_tls("alice").await.send(BOB, "in a session").await;
            let mut bob = world.raw_tls(None).await;
            register(&mut bob).await;
            let (invite, _) = invited(&mut bob).await;
            // It takes connections and never shakes hands.
            let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let own = Issued::by_itself();
            let peer = TlsPeer::start(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), &own, None).await;
            let path = format!("msrps://{}/bob;tcp", silent.local_addr().unwrap());
            let lines = format!("a=fingerprint:{}\r\n", Fingerprint::sha256(&own.der()));
            let described = ("127.0.0.1", peer.address().port());
            accept(&mut bob, &invite, &waiting("TCP/TLS/MSRP", described, &path, &lines)).await;
            let stream = in_time("a connection", peer.accept_stream()).await.expect("TLS");
            let said = RawMsrp::over(Box::new(stream), "").next().await;
            assert!(matches!(said, MsrpReply::Request(..)), "{said:?}");
        });
}

#[test]
fn over_tls_the_other_end_is_believed_and_not_the_middlebox() {
    for (case, is_sent) in [
        ("by its fingerprint", true),
        ("by the name of its path", true),
        ("by the address of c=", false),
        ("by the address of its path", true),
        ("by the address of c=, with another in its path", false),
    ] {
        setting().encrypted_media().settings("few = 0\nretry_seconds = [3600]").tell(async |world| {
            let names = match case {
                "by the name of its path" => vec!["media.example.net"],
                "by the address of its path" => vec!["192.0.2.55"],
                _ => vec!["127.0.0.1"],
            };
            let signed = world.authority().issue(&names);
            let own = if case == "by its fingerprint" { Issued::by_itself() } else { signed };
            let lines = match case {
                "by its fingerprint" => format!("a=fingerprint:{}\r\n", Fingerprint::sha256(&own.der())),
                _ => String::new(),
            };
            world.person_over_tls("alice").await.send(BOB, "in a session").await;
            let mut bob = world.raw_tls(None).await;
            register(&mut bob).await;
            let (invite, _) = invited(&mut bob).await;
            let peer = TlsPeer::start(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), &own, None).await;
            let place: SocketAddr = peer.address();
            let described = ("127.0.0.1", place.port());
            let host =
                if case.contains("path") && case.contains("address") { "192.0.2.55" } else { "media.example.net" };
            let path = &*format!("msrps://{host}:2855/bob;tcp");
            let lines = format!("{lines}a=msrp-cema\r\n");
            accept(&mut bob, &invite, &waiting("TCP/TLS/MSRP", described, path, &lines)).await;
            let said = match in_time("a connection", peer.accept_stream()).await {
                Ok(stream) => RawMsrp::over(Box::new(stream), "").next().await,
                Err(_) => MsrpReply::Closed,
            };
            assert_eq!(matches!(said, MsrpReply::Request(..)), is_sent, "{case}: {said:?}");
        });
    }
}
