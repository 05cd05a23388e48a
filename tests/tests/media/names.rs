//! Hosts of MSRP paths that are names are looked for, and each address is held against the bounds.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use restante::configuration::ListenAddress;
use restante_tests::{
    Chunk, MsrpReply, NameServer, RawMsrp, WebMsrp, World, free_tcp_port_on, in_time, setting, until,
};
use restante_transport::Protocol;
use tokio::net::TcpListener;

use restante_tests::raw_device::{BOB, accept, invited, register, waiting};

/// A message that waits for Bob, and what names lead to.
async fn with_names(world: &mut World) -> NameServer {
    let names = NameServer::start().await;
    let server = names.address();
    world.restart_with(|it| it.sip.name_servers = vec![server]).await;
    world.person("alice").await.send(BOB, "in a session").await;
    names
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let place = listener.local_addr().unwrap();
    (listener, place)
}

#[test]
fn a_path_that_names_a_host_is_followed_to_the_addresses_that_are_allowed() {
    setting().settings("few = 0\nretry_seconds = [3600]").tell(async |world| {
        let names = with_names(world).await;
        // A link-local address and a foreign one are no places of Bob's; the third is where he calls from.
        let addresses = [Ipv4Addr::new(169, 254, 1, 1), Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::LOCALHOST];
        names.set_addresses("media.example.net", &addresses);
        let (listener, place) = listener().await;
        let mut bob = world.udp().await;
        register(&mut bob).await;
        let (invite, _) = invited(&mut bob).await;
        let path = format!("msrp://Media.Example.net:{}/bob;tcp", place.port());
        accept(&mut bob, &invite, &waiting("TCP/MSRP", ("media.example.net", place.port()), &path, "")).await;
        let (stream, _) = in_time("a connection", listener.accept()).await.unwrap();
        let said = RawMsrp::over(Box::new(stream), "").next().await;
        assert!(matches!(said, MsrpReply::Request(ref method, _) if method == "SEND"), "{said:?}");
        let asked = names.asked();
        assert!(asked.iter().all(|it| it.starts_with("A ") || it.starts_with("AAAA ")), "no SRV, no NAPTR: {asked:?}");
        assert!(world.metric("restante_dropped_total", &["forbidden-msrp-path"]) <= 2);
    });
}

#[test]
fn a_path_that_names_a_host_of_ipv6_is_followed() {
    setting().ipv6().settings("few = 0\nretry_seconds = [3600]").tell(async |world| {
        let names = with_names(world).await;
        let trap: Ipv6Addr = "fe80::1".parse().unwrap();
        names.set_addresses("media.example.net", &[trap, Ipv6Addr::LOCALHOST]);
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut bob = world.udp().await;
        register(&mut bob).await;
        let (invite, _) = invited(&mut bob).await;
        let path = format!("msrp://media.example.net:{port}/bob;tcp");
        accept(&mut bob, &invite, &waiting("TCP/MSRP", ("::1", port), &path, "")).await;
        let (stream, _) = in_time("a connection", listener.accept()).await.unwrap();
        let said = RawMsrp::over(Box::new(stream), "").next().await;
        assert!(matches!(said, MsrpReply::Request(ref method, _) if method == "SEND"), "{said:?}");
        assert!(names.asked().iter().any(|it| it == "AAAA media.example.net"), "{:?}", names.asked());
    });
}

#[test]
fn a_name_that_leads_out_of_bounds_or_nowhere_ends_the_attempt_and_the_message_waits() {
    for case in ["foreign", "ours", "nowhere"] {
        setting().settings("few = 0\nretry_seconds = [3600]").tell(async |world| {
            let names = with_names(world).await;
            let port = if case == "ours" { world.sip().port() } else { 2855 };
            match case {
                "foreign" => names.set_addresses("trap.example.net", &[Ipv4Addr::new(192, 0, 2, 9)]),
                "ours" => names.set_addresses("trap.example.net", &[Ipv4Addr::LOCALHOST]),
                _ => {}
            }
            let mut bob = world.udp().await;
            register(&mut bob).await;
            let (invite, _) = invited(&mut bob).await;
            let path = format!("msrp://trap.example.net:{port}/bob;tcp");
            accept(&mut bob, &invite, &waiting("TCP/MSRP", ("trap.example.net", port), &path, "")).await;
            let bye = bob.expect("a BYE", |it| it.method() == Some(restante_sip::message::Method::Bye)).await;
            bob.respond(&bye, 200).await;
            world.until_no_session().await;
            assert_eq!(world.queue().len(), 1, "{case}: the message waits");
            let refused = if case == "nowhere" { 0 } else { 1 };
            let dropped = world.metric("restante_dropped_total", &["forbidden-msrp-path"]);
            assert_eq!(dropped, refused, "{case}");
        });
    }
}

#[test]
fn nobody_else_waits_for_a_name() {
    setting().settings("few = 0\nretry_seconds = [3600]").tell(async |world| {
        let names = with_names(world).await;
        let alice = world.person("alice").await;
        let mut carol = world.person("carol").await;
        names.set_silent(true);
        let mut bob = world.udp().await;
        register(&mut bob).await;
        let (invite, _) = invited(&mut bob).await;
        let path = "msrp://silent.example.net:2855/bob;tcp";
        accept(&mut bob, &invite, &waiting("TCP/MSRP", ("silent.example.net", 2855), path, "")).await;
        until("the name is asked for", || names.asked().iter().any(|it| it == "A silent.example.net")).await;
        carol.register().await;
        for number in 0..5 {
            let text = number.to_string();
            alice.send(carol.address(), &text).await;
            assert_eq!(carol.texts(1).await, [text.as_str()]);
        }
    });
}

#[test]
fn hosts_that_a_client_of_the_relay_makes_up_take_no_question_from_next_hops() {
    setting().demands_passwords().settings("few = 0\nretry_seconds = [3600]").tell(async |world| {
        let names = NameServer::start().await;
        names.set_silent(true);
        let (server, socket) = (names.address(), free_tcp_port_on(world.sip().ip()));
        world
            .restart_with(|it| {
                it.sip.name_servers = vec![server];
                it.msrp.web_socket_listen = vec![ListenAddress { protocol: Protocol::Ws, socket }];
            })
            .await;
        world.give_password("bob").await;
        let mut edge = world.udp().await;
        let register = edge
            .request("REGISTER", "sip:example.org")
            .set("From", "<sip:dave@example.org>;tag=1")
            .set("To", "<sip:dave@example.org>")
            .with("Contact", "<sip:dave@192.0.2.77>")
            .with("Supported", "path")
            .with("Path", "<sip:edge.example.net:5099;lr>");
        assert_eq!(edge.ask(&register).await.status(), Some(200));
        let mut clients = Vec::new();
        for client in 0..3 {
            let mut web = WebMsrp::authorized(socket, "bob").await;
            for host in 0..32 {
                web.connection.to_path = format!("{} msrp://h{client}-{host}.evil.example:2855/x;tcp", web.session);
                web.connection.send_chunk(Chunk::whole("m", b"x")).await;
            }
            clients.push(web);
        }
        let made_up = || {
            let asked = names.asked();
            let hosts = asked.iter().filter_map(|it| it.split_once(' ')).map(|(_, host)| host);
            hosts.filter(|host| host.ends_with(".evil.example")).collect::<HashSet<_>>().len()
        };
        until("as many questions as there may be are asked for the client", || made_up() >= 64).await;
        world.person("alice").await.send("sip:dave@example.org", "waits for a name").await;
        until("the next hop is asked for", || names.asked().iter().any(|it| it == "A edge.example.net")).await;
    });
}
