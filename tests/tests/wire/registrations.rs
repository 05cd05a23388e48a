//! REGISTER.

use restante_sip::message::{Method, Name, SipMessage};
use restante_tests::{RawSip, Request, World, free_udp_port_on, in_time, setting, story};

const BOB: &str = "sip:bob@example.org";

fn register(socket: &RawSip, contact: &str) -> Request {
    socket
        .request("REGISTER", "sip:example.org")
        .set("From", "<sip:bob@example.org>;tag=1")
        .set("To", "<sip:bob@example.org>")
        .with("Contact", contact)
}

fn contacts(answer: &SipMessage) -> Vec<String> {
    let mut uris: Vec<String> =
        answer.contacts().expect("contacts").into_iter().map(|it| it.address.uri.to_string()).collect();
    uris.sort();
    uris
}

/// The next request of a registration: same Call-ID, higher CSeq.
fn next(register: &Request, cseq: u32) -> Request {
    register.clone().new_transaction().set("CSeq", &format!("{cseq} REGISTER"))
}

#[test]
fn the_answer_says_what_clients_look_for() {
    story(async |world| {
        let mut bob = world.udp().await;
        let contact = format!("<sip:bob@{}>;+sip.instance=\"<urn:uuid:1>\";q=0.7;expires=600", bob.local());
        let register = register(&bob, &contact).with("Path", "<sip:192.0.2.9;lr>").with("Supported", "path");
        let answer = bob.ask(&register).await;
        assert_eq!(answer.status(), Some(200));
        let first = answer.header(Name::Contact).expect("a Contact");
        let granted = answer.contacts().expect("contacts")[0].expires_seconds().expect("expires");
        assert!((598..=600).contains(&granted), "{first}");
        assert!(first.contains("+sip.instance"), "{first}");
        assert!(answer.header(Name::PAssociatedUri).is_some_and(|it| it.contains(BOB)), "{:?}", answer.bytes());
        assert!(answer.header_by_text("Path").is_some_and(|path| path.contains("192.0.2.9")), "{:?}", answer.bytes());
        assert!(answer.header_by_text("Date").is_some());
    });
}

#[test]
fn too_short_is_refused_with_what_would_do() {
    setting().configure(|it| it.limits.min_registration_seconds = 60).tell(async |world| {
        let mut bob = world.udp().await;
        let place = bob.local();
        for (seconds, expected) in [(59, 423), (60, 200), (1, 423), (0, 200)] {
            let register = register(&bob, &format!("<sip:bob@{place}>;expires={seconds}"));
            let answer = bob.ask(&register).await;
            assert_eq!(answer.status(), Some(expected), "{seconds}");
            assert_eq!(answer.header_by_text("Min-Expires"), (expected == 423).then_some("60"), "{seconds}");
        }
    });
}

#[test]
fn too_long_is_shortened_and_said_so() {
    setting().configure(|it| it.limits.max_registration_seconds = 100).tell(async |world| {
        let mut bob = world.udp().await;
        let register = register(&bob, &format!("<sip:bob@{}>;expires=100000", bob.local()));
        let answer = bob.ask(&register).await;
        let granted = answer.contacts().expect("contacts")[0].expires_seconds();
        assert_eq!((answer.status(), granted), (Some(200), Some(100)));
    });
}

#[test]
fn contacts_come_are_listed_and_go() {
    story(async |world| {
        let mut bob = world.udp().await;
        let place = bob.local();
        let uri = |user: &str| format!("sip:{user}@{place}");
        let both = format!("<{}>;expires=600, <{}>;expires=900", uri("phone"), uri("tablet"));
        let first = register(&bob, &both);
        assert_eq!(contacts(&bob.ask(&first).await), [uri("phone"), uri("tablet")]);
        let query = next(&first, 2).without("Contact");
        assert_eq!(contacts(&bob.ask(&query).await), [uri("phone"), uri("tablet")]);
        let away = next(&first, 3).set("Contact", &format!("<{}>;expires=0", uri("phone")));
        assert_eq!(contacts(&bob.ask(&away).await), [uri("tablet")]);
        // A request that was overtaken changes nothing (RFC 3261 §10.3 step 7).
        let overtaken = next(&first, 2);
        assert_ne!(bob.ask(&overtaken).await.status(), Some(200));
        let all = next(&first, 4).set("Contact", "*").with("Expires", "0");
        let answer = bob.ask(&all).await;
        assert_eq!((answer.status(), contacts(&answer)), (Some(200), vec![]));
    });
}

#[test]
fn there_is_a_limit_to_the_contacts_of_a_user() {
    setting().configure(|it| it.limits.max_contacts = 2).tell(async |world| {
        let mut bob = world.udp().await;
        for (user, expected) in [("one", 200), ("two", 200), ("three", 403)] {
            let register = register(&bob, &format!("<sip:{user}@{}>;expires=600", bob.local()));
            assert_eq!(bob.ask(&register).await.status(), Some(expected), "{user}");
        }
    });
}

#[test]
fn who_is_no_registrar_takes_registrations_of_the_core_only() {
    setting().tenant(|tenant| tenant.registrar = false).tell(async |world| {
        let mut core = world.udp().await;
        let contact = format!("<sip:{}>;expires=600", core.local());
        let device = register(&core, &contact);
        assert_eq!(core.ask(&device).await.status(), Some(403));
        let third_party =
            register(&core, &contact).set("From", "<sip:scscf.example.org>;tag=1").with("Event", "registration");
        assert_eq!(core.ask(&third_party).await.status(), Some(200));
        let stranger = register(&core, &contact).set("To", "<sip:bob@elsewhere.net>");
        assert_eq!(core.ask(&stranger).await.status(), Some(404));
    });
}

#[test]
fn a_registration_outlives_a_restart_and_ends_in_its_time() {
    setting().configure(|it| it.limits.min_registration_seconds = 1).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        let mut brief = world.udp().await;
        let contact = format!("<sip:carol@{}>;expires=1", brief.local());
        let carol = register(&brief, &contact)
            .set("From", "<sip:carol@example.org>;tag=1")
            .set("To", "<sip:carol@example.org>");
        assert_eq!(brief.ask(&carol).await.status(), Some(200));
        world.restart().await;
        alice.send(bob.address(), "still there").await;
        assert_eq!(bob.texts(1).await, ["still there"]);
        until_gone(world, "sip:carol@example.org").await;
        alice.send("sip:carol@example.org", "not any more").await;
        world.until_waiting(1).await;
        assert_eq!(brief.unread_by_now().await, [""; 0]);
    });
}

#[test]
fn a_path_is_the_way_to_a_contact() {
    story(async |world| {
        let alice = world.person("alice").await;
        let (mut bob, mut edge) = (world.udp().await, world.udp().await);
        let path = format!("<sip:edge@{};lr>", edge.local());
        let register =
            register(&bob, "<sip:bob@192.0.2.77:5099>;expires=600").with("Path", &path).with("Supported", "path");
        assert_eq!(bob.ask(&register).await.status(), Some(200));
        alice.send(BOB, "by the edge").await;
        let message = edge.expect("MESSAGE", |it| it.method() == Some(Method::Message)).await;
        assert_eq!(message.request_uri(), Some("sip:bob@192.0.2.77:5099"));
        assert_eq!(message.header_by_text("Route"), Some(path.as_str()));
        edge.respond(&message, 200).await;
        world.until_settled().await;
    });
}

/// Until nobody is registered under that name.
async fn until_gone(world: &World, address: &str) {
    let mut socket = world.udp().await;
    loop {
        let query = socket.request("REGISTER", "sip:example.org").set("To", &format!("<{address}>"));
        let answer = socket.ask(&query.set("From", &format!("<{address}>;tag=1"))).await;
        if contacts(&answer).is_empty() {
            return;
        }
    }
}

#[test]
fn a_contact_says_over_what_it_is_reached() {
    story(async |world| {
        let mut bob = world.udp().await;
        let listener = tokio::net::TcpListener::bind((bob.local().ip(), 0)).await.expect("a listener");
        let place = listener.local_addr().expect("an address");
        let register = register(&bob, &format!("<sip:bob@{place};transport=tcp>"));
        assert_eq!(bob.ask(&register).await.status(), Some(200));
        let mut alice = world.udp().await;
        assert_eq!(alice.ask(&alice.request("MESSAGE", BOB).text("over TCP")).await.status(), Some(202));
        let (mut stream, _) = in_time("a connection", listener.accept()).await.expect("a connection");
        let mut buffer = vec![0; 4_096];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer);
        let length = in_time("a MESSAGE", read).await.expect("bytes");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(text.starts_with("MESSAGE sip:bob@") && text.contains("Via: SIP/2.0/TCP"), "{text}");
    });
}

#[test]
fn who_registered_with_one_of_several_listeners_hears_from_no_other() {
    story(async |world| {
        let server = free_udp_port_on(world.sip().ip());
        world.restart_with(|it| it.sip.listen.push(format!("udp:{server}").parse().expect("a listener"))).await;
        let mut bob = RawSip::udp_behind_nat(server.ip(), server).await;
        // As behind an address translation: nobody else knows the address that it names.
        let registered = bob.ask(&register(&bob, "<sip:bob@10.0.0.7:5060>")).await;
        assert_eq!(registered.status(), Some(200));
        let mut alice = world.udp().await;
        for (text, restart) in [("as it is known", false), ("as it was kept", true)] {
            if restart {
                world.restart().await;
            }
            assert_eq!(alice.ask(&alice.request("MESSAGE", BOB).text(text)).await.status(), Some(202));
            let message = bob.expect("the message", |it| it.method() == Some(Method::Message)).await;
            let via = message.header(Name::Via).expect("a Via").to_owned();
            assert!(via.contains(&server.to_string()), "{via}");
            bob.respond(&message, 200).await;
            world.until_settled().await;
        }
    });
}
