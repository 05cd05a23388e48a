//! Whoever opens all the sessions that it can leaves room for others.

use std::net::{IpAddr, Ipv4Addr};

use restante_sip::message::{Method, SipMessage};
use restante_tests::{Digest, NameServer, RawMsrp, RawSip, Request, World, setting, until, until_equal};

const BOB: &str = "sip:bob@example.org";

/// A session that stands.
struct Session {
    invite: Request,
    answer: SipMessage,
}

/// An INVITE of a user's, to bring something to Bob.
fn bring(socket: &RawSip, name: &str) -> Request {
    RawMsrp::invitation(socket, BOB).set("From", &format!("<sip:{name}@example.org>;tag=1"))
}

/// An INVITE of a user's, to fetch what waits.
fn fetch(socket: &RawSip, name: &str) -> Request {
    let invite = RawMsrp::invitation(socket, "sip:deferred@example.org");
    let body = String::from_utf8_lossy(&invite.body).replace("a=sendonly", "a=recvonly");
    invite.set("From", &format!("<sip:{name}@example.org>;tag=1")).body("application/sdp", body.into_bytes())
}

/// What a user meets with an INVITE and its password. Acknowledged where it is taken.
async fn with_password(world: &World, socket: &mut RawSip, name: &str, invite: Request) -> Session {
    world.give_password(name).await;
    let challenge = socket.ask(&invite).await;
    assert_eq!(challenge.status(), Some(401), "{:?}", challenge.bytes());
    asked(socket, Digest::of(&challenge, name).authorize(&invite, 1)).await
}

async fn asked(socket: &mut RawSip, invite: Request) -> Session {
    let answer = socket.ask(&invite).await;
    if answer.status() == Some(200) {
        socket.send(&RawMsrp::ack(socket, &invite, &answer).bytes()).await;
    }
    Session { invite, answer }
}

impl Session {
    fn status(&self) -> u16 {
        self.answer.status().expect("a status")
    }

    fn retry_after(&self) -> Option<&str> {
        self.answer.header_by_text("Retry-After")
    }

    async fn end(self, world: &World, socket: &mut RawSip) {
        let left = world.shared().metrics.sessions.get() - 1;
        assert_eq!(socket.ask(&RawMsrp::bye(socket, &self.invite, &self.answer)).await.status(), Some(200));
        until_equal("MSRP sessions", left, || world.shared().metrics.sessions.get()).await;
    }
}

fn refused_for(world: &World, limit: &str) -> u64 {
    world.metric("restante_sender_limits_total", &["tenant=\"example\"", &format!("limit=\"{limit}\"")])
}

#[test]
fn a_user_has_so_many_sessions_open_and_others_have_theirs() {
    setting().demands_passwords().configure(|it| it.limits.max_sessions_per_sender = 2).tell(async |world| {
        let mut socket = world.outside().await;
        let invite = bring(&socket, "alice");
        let first = with_password(world, &mut socket, "alice", invite).await;
        // From anywhere.
        let mut elsewhere = RawSip::udp(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)), world.sip()).await;
        let invite = bring(&elsewhere, "alice");
        let second = with_password(world, &mut elsewhere, "alice", invite).await;
        assert_eq!((first.status(), second.status()), (200, 200));
        for invite in [bring(&socket, "alice"), fetch(&socket, "alice")] {
            let refused = with_password(world, &mut socket, "alice", invite).await;
            assert_eq!((refused.status(), refused.retry_after()), (480, Some("5")));
        }
        let invite = bring(&socket, "carol");
        assert_eq!(with_password(world, &mut socket, "carol", invite).await.status(), 200);
        assert_eq!(refused_for(world, "sessions"), 2);
        first.end(world, &mut socket).await;
        let invite = fetch(&socket, "alice");
        assert_eq!(with_password(world, &mut socket, "alice", invite).await.status(), 200, "there is room again");
    });
}

#[test]
fn an_address_has_so_many_sessions_open_whatever_its_users_are_called() {
    setting().demands_passwords().configure(|it| it.limits.max_sessions_per_source = 2).tell(async |world| {
        let mut socket = world.outside().await;
        let mut statuses = Vec::new();
        for name in ["alice", "carol", "dora"] {
            let invite = bring(&socket, name);
            statuses.push(with_password(world, &mut socket, name, invite).await.status());
        }
        assert_eq!(statuses, [200, 200, 480]);
        assert_eq!(refused_for(world, "source-sessions"), 1);
        let mut elsewhere = RawSip::udp(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)), world.sip()).await;
        let invite = bring(&elsewhere, "dora");
        assert_eq!(with_password(world, &mut elsewhere, "dora", invite).await.status(), 200);
    });
}

#[test]
fn a_trusted_peer_speaks_for_many_and_each_of_them_has_its_own() {
    let place = setting().configure(|it| {
        it.limits.max_sessions_per_sender = 1;
        it.limits.max_sessions_per_source = 1;
    });
    place.tell(async |world| {
        let mut proxy = world.udp().await;
        let asserted = |socket: &RawSip, who: &str| bring(socket, "alice").with("P-Asserted-Identity", who);
        let mut statuses = Vec::new();
        for who in ["<sip:app@elsewhere.net>", "<sip:app@elsewhere.net>", "<tel:+15550100>", "<sip:dora@example.org>"] {
            let invite = asserted(&proxy, who);
            statuses.push(asked(&mut proxy, invite).await.status());
        }
        assert_eq!(statuses, [200, 480, 200, 200]);
        // Those whom it names nobody for are one to us.
        let nobody = "<sip:anonymous@anonymous.invalid>;tag=1";
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let invite = bring(&proxy, "alice").set("From", nobody);
            statuses.push(asked(&mut proxy, invite).await.status());
        }
        assert_eq!(statuses, [200, 480]);
        let invite = asserted(&proxy, "<sip:erin@example.org>").set("From", nobody);
        assert_eq!(asked(&mut proxy, invite).await.status(), 200);
    });
}

async fn expect(socket: &mut RawSip, method: Method) {
    let request = socket.expect(method.as_str(), |it| it.method() == Some(method.clone())).await;
    socket.respond(&request, 200).await;
}

#[test]
fn names_that_an_outsider_records_or_registers_take_no_questions_from_next_hops() {
    let place = setting().demands_passwords().configure(|it| it.limits.max_session_setup_seconds = 1);
    place.tell(async |world| {
        let names = NameServer::start().await;
        let server = names.address();
        world.restart_with(|it| it.sip.name_servers = vec![server]).await;
        let (mut outsider, mut core) = (world.outside().await, world.udp().await);
        // Sessions that nobody connects for end with a request in their dialogs.
        let invite = bring(&outsider, "alice").with("Record-Route", "<sip:recorded.example.net;lr>");
        let session = with_password(world, &mut outsider, "alice", invite).await;
        assert_eq!(session.answer.status(), Some(200));
        expect(&mut outsider, Method::Bye).await;
        let contact = format!("<sip:alice@{};maddr=maddr.example.net>", outsider.local());
        let register = outsider.request("REGISTER", "sip:example.org").set("From", "<sip:alice@example.org>;tag=1");
        let register = register.set("To", "<sip:alice@example.org>").with("Contact", &contact);
        let challenge = outsider.ask(&register).await;
        let register = Digest::of(&challenge, "alice").authorize(&register, 1).set("CSeq", "2 REGISTER");
        assert_eq!(outsider.ask(&register).await.status(), Some(200));
        let message = core.request("MESSAGE", "sip:alice@example.org").text("text");
        assert_eq!(core.ask(&message).await.status(), Some(202));
        expect(&mut outsider, Method::Message).await;
        // Whoever is trusted may name its hosts.
        let invite = RawMsrp::invitation(&core, BOB).with("Record-Route", "<sip:core.example.net;lr>");
        let session = asked(&mut core, invite).await;
        assert_eq!(session.answer.status(), Some(200));
        expect(&mut core, Method::Bye).await;
        let is_asked = |host: &str| names.asked().iter().any(|it| it.contains(host));
        until("the core's name is looked for", || is_asked("core.example.net")).await;
        assert!(!is_asked("recorded.example.net") && !is_asked("maddr.example.net"), "{:?}", names.asked());
    });
}
