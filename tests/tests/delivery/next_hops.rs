//! Next hops that have names are looked for as RFC 3263 says, and nobody who serves waits for a name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use restante_sip::message::{Method, Name};
use restante_tests::{DeadPlace, NameServer, RawSip, World, guest, setting, until};
use restante_transport::Protocol;

/// Next hops are looked for there from now on, with this outbound proxy.
async fn look_for(world: &mut World, names: &NameServer, outbound: &str) {
    let (server, outbound) = (names.address(), outbound.parse().expect("a next hop"));
    world
        .restart_with(|it| {
            it.sip.name_servers = vec![server];
            it.sip.outbound = Some(outbound);
        })
        .await;
}

#[test]
fn an_outbound_proxy_is_found_by_its_name() {
    for is_ipv6 in [false, true] {
        // An attempt that does not wait for the name would be made again much too late.
        let place = setting().on_ipv6(is_ipv6).behind_proxy(Protocol::Udp).settings("retry_seconds = [3600]");
        place.tell(by_its_name);
    }
}

async fn by_its_name(world: &mut World) {
    let names = NameServer::start().await;
    names.set_time_to_live(60);
    let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let proxy = world.proxy().sip_address();
    names.set_services("_sip._udp.core.example.net", &[(1, proxy.port(), "one.example.net")]);
    names.set_addresses("one.example.net", &[proxy.ip()]);
    look_for(world, &names, "udp:core.example.net").await;
    world.proxy().register(bob.address(), 3_600).await.unwrap();
    let of_hosts = || names.asked().iter().filter(|asked| *asked == "SRV _sip._udp.core.example.net").count();
    alice.send(bob.address(), "one").await;
    assert_eq!(bob.texts(1).await, ["one"]);
    // Once, unless the answer was late.
    let known = of_hosts();
    assert!(known >= 1, "{:?}", names.asked());
    for text in ["two", "three"] {
        alice.send(bob.address(), text).await;
        assert_eq!(bob.texts(1).await, [text]);
    }
    world.until_settled().await;
    assert_eq!(of_hosts(), known, "what is known is not asked again: {:?}", names.asked());
}

#[test]
fn an_address_that_no_listener_reaches_is_left_for_the_one_behind_it() {
    let place = setting().behind_proxy(Protocol::Udp).settings("retry_seconds = [3600]");
    place.tell(async |world| {
        let names = NameServer::start().await;
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let proxy = world.proxy().sip_address();
        names.set_services("_sip._udp.core.example.net", &[(1, proxy.port(), "one.example.net")]);
        names.set_addresses("one.example.net", &[IpAddr::from(Ipv6Addr::LOCALHOST), proxy.ip()]);
        look_for(world, &names, "udp:core.example.net").await;
        world.proxy().register(bob.address(), 3_600).await.unwrap();
        alice.send(bob.address(), "at once").await;
        assert_eq!(bob.texts(1).await, ["at once"]);
        world.until_settled().await;
    });
}

#[test]
fn a_place_that_does_not_work_is_followed_by_the_next() {
    let place = setting().behind_proxy(Protocol::Tcp).settings("retry_seconds = [1, 1, 1, 1, 1]");
    place.tell(async |world| {
        let names = NameServer::start().await;
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let (dead, proxy) = (DeadPlace::take(), world.proxy().sip_address());
        let places = [(1, dead.address().port(), "one.example.net"), (2, proxy.port(), "one.example.net")];
        names.set_services("_sip._tcp.core.example.net", &places);
        names.set_addresses("one.example.net", &[Ipv4Addr::LOCALHOST]);
        look_for(world, &names, "tcp:core.example.net").await;
        alice.send(bob.address(), "at last").await;
        world.proxy().register(bob.address(), 3_600).await.unwrap();
        assert_eq!(bob.texts(1).await, ["at last"]);
        world.until_settled().await;
        world.until_counted("restante_messages_delivered_total", 1).await;
    });
}

#[test]
fn a_place_that_answers_503_is_followed_by_the_next() {
    let place = setting().behind_proxy(Protocol::Udp).settings("retry_seconds = [1, 1, 1, 1, 1]");
    place.tell(async |world| {
        let names = NameServer::start().await;
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let (mut overloaded, proxy) = (world.udp().await, world.proxy().sip_address());
        let places = [(1, overloaded.local().port(), "one.example.net"), (2, proxy.port(), "one.example.net")];
        names.set_services("_sip._udp.core.example.net", &places);
        names.set_addresses("one.example.net", &[Ipv4Addr::LOCALHOST]);
        look_for(world, &names, "udp:core.example.net").await;
        alice.send(bob.address(), "elsewhere").await;
        world.proxy().register(bob.address(), 3_600).await.unwrap();
        let refusing = async {
            loop {
                let message = overloaded.expect("MESSAGE", |it| it.method() == Some(Method::Message)).await;
                overloaded.respond(&message, 503).await;
            }
        };
        tokio::select! {
            texts = bob.texts(1) => assert_eq!(texts, ["elsewhere"]),
            () = refusing => {}
        }
        world.until_settled().await;
    });
}

#[test]
fn a_name_server_that_says_nothing_holds_up_nobody_who_is_reached_without_it() {
    setting().tell(async |world| {
        let names = NameServer::start().await;
        names.set_silent(true);
        let server = names.address();
        world.restart_with(|it| it.sip.name_servers = vec![server]).await;
        let (alice, mut carol) = (world.person("alice").await, world.person("carol").await);
        carol.register().await;
        let mut edge = world.udp().await;
        register_behind(&mut edge, "sip:dave@example.org", "edge.example.net").await;
        alice.send("sip:dave@example.org", "waits for a name").await;
        until("the name is asked for", || names.asked().iter().any(|asked| asked == "A edge.example.net")).await;
        for number in 0..20 {
            let text = number.to_string();
            alice.send(carol.address(), &text).await;
            assert_eq!(carol.texts(1).await, [text.as_str()]);
        }
        world.until_waiting(1).await;
    });
}

#[test]
fn a_path_is_followed_by_its_name() {
    setting().tell(async |world| {
        let names = NameServer::start().await;
        names.set_addresses("edge.example.net", &[Ipv4Addr::LOCALHOST]);
        let server = names.address();
        world.restart_with(|it| it.sip.name_servers = vec![server]).await;
        let alice = world.person("alice").await;
        let mut edge = world.udp().await;
        let elsewhere = register_behind(&mut edge, "sip:dave@example.org", "edge.example.net").await;
        let mut path = RawSip::udp_on(elsewhere, world.sip());
        alice.send("sip:dave@example.org", "by the path").await;
        let message = path.expect("the message", |it| it.method() == Some(Method::Message)).await;
        let route = message.header(Name::Route).expect("a route").to_owned();
        assert!(route.contains("edge.example.net"), "{route}");
        path.respond(&message, 200).await;
        world.until_settled().await;
        assert_eq!(edge.unread_by_now().await, [""; 0], "not back to where the registration came from");
    });
}

#[test]
fn a_target_of_the_operators_is_found_by_its_name() {
    let policy = |it: &mut restante::configuration::Tenant| {
        it.policy = guest("scripted");
        it.settings.insert("incoming".to_owned(), "hand-over:elsewhere".into());
        it.hand_over.insert("elsewhere".to_owned(), "sip:gateway.example.net".to_owned());
    };
    setting().tenant(policy).tell(async |world| {
        let names = NameServer::start().await;
        let mut gateway = world.udp().await;
        names.set_pointers("gateway.example.net", &[(1, "SIP+D2U", "_sip._udp.gateway.example.net")]);
        names.set_services("_sip._udp.gateway.example.net", &[(1, gateway.local().port(), "host.example.net")]);
        names.set_addresses("host.example.net", &[Ipv4Addr::LOCALHOST]);
        let server = names.address();
        world.restart_with(|it| it.sip.name_servers = vec![server]).await;
        let alice = world.person("alice").await;
        alice.send("sip:bob@example.org", "for the gateway").await;
        let message = gateway.expect("the message", |it| it.is_request()).await;
        gateway.respond(&message, 200).await;
        world.until_settled().await;
    });
}

/// Registers a user with a Path that names a host, and the port of a socket.
async fn register_behind(edge: &mut RawSip, user: &str, host: &str) -> UdpSocket {
    let elsewhere = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let port = elsewhere.local_addr().expect("a bound socket").port();
    let register = edge
        .request("REGISTER", "sip:example.org")
        .set("From", &format!("<{user}>;tag=1"))
        .set("To", &format!("<{user}>"))
        .with("Contact", "<sip:dave@192.0.2.77>")
        .with("Supported", "path")
        .with("Path", &format!("<sip:{host}:{port};lr>"));
    assert_eq!(edge.ask(&register).await.status(), Some(200));
    elsewhere
}
