//! Somebody who has a password, or none, and wants to be somebody else.

use restante_client::{PageMessage, Selection};
use restante_sip::header::ICSI_LARGE_MESSAGE;
use restante_sip::message::{Name, SipMessage};
use restante_tests::{Digest, RawMsrp, RawSip, Request, Setting, World, setting};

const ALICE: &str = "sip:alice@example.org";
const BOB: &str = "sip:bob@example.org";
const CAROL: &str = "sip:carol@example.org";

/// Alice's answer to a challenge for a request.
async fn as_alice(world: &World, socket: &mut RawSip, request: &Request) -> SipMessage {
    world.give_password("alice").await;
    let challenge = socket.ask(request).await;
    assert_eq!(challenge.status(), Some(401), "{:?}", challenge.bytes());
    let request = Digest::of(&challenge, "alice").authorize(request, 1);
    let cseq = next_cseq(&request);
    socket.ask(&request.set("CSeq", &cseq)).await
}

fn next_cseq(request: &Request) -> String {
    request.field("CSeq").replacen('1', "2", 1)
}

fn register(socket: &RawSip, from: &str, to: &str) -> Request {
    socket
        .request("REGISTER", "sip:example.org")
        .set("From", &format!("<{from}>;tag=1"))
        .set("To", &format!("<{to}>"))
        .with("Contact", &format!("<sip:x@{}>", socket.local()))
}

fn pull(socket: &RawSip, from: &str) -> Request {
    let invite = RawMsrp::invitation(socket, "sip:deferred@example.org");
    let body = String::from_utf8_lossy(&invite.body).replace("a=sendonly", "a=recvonly");
    invite.set("From", &format!("<{from}>;tag=pull")).body("application/sdp", body.into_bytes())
}

/// Beside a tenant that trusts whoever is outside for the tenant of the stories.
fn beside_a_trusting_tenant() -> Setting {
    setting().demands_passwords().beside_a_trusting_tenant()
}

#[test]
fn a_spoofed_from_is_refused() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        for from in [BOB, CAROL, "sip:alice@elsewhere.net", "tel:+15550100"] {
            for request in [socket.request("MESSAGE", BOB).text("x"), RawMsrp::invitation(&socket, BOB)] {
                let request = request.set("From", &format!("<{from}>;tag=spoofed"));
                let answer = as_alice(world, &mut socket, &request).await;
                assert_eq!(answer.status(), Some(403), "{from}");
            }
        }
        assert_eq!((world.queue().len(), world.authentications("other-identity")), (0, 8));
    });
}

#[test]
fn an_alias_of_ones_own_is_no_spoof() {
    let place = setting().demands_passwords().tenant(|tenant| {
        tenant.numbers = vec!["+1555".to_owned()];
        tenant.aliases.insert("tel:+15550100".to_owned(), ALICE.to_owned());
    });
    place.tell(async |world| {
        let mut socket = world.outside().await;
        let message = socket.request("MESSAGE", BOB).text("x").set("From", "<tel:+1-555-0100>;tag=1");
        assert_eq!(as_alice(world, &mut socket, &message).await.status(), Some(202));
        let register = register(&socket, "tel:+15550100", ALICE);
        assert_eq!(as_alice(world, &mut socket, &register).await.status(), Some(200));
        assert_eq!(world.queue()[0].message.envelope.sender.address.to_string(), ALICE);
    });
}

#[test]
fn a_spoofed_p_asserted_identity_counts_for_nothing() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        let message = socket
            .request("MESSAGE", BOB)
            .with("P-Asserted-Identity", &format!("<{CAROL}>"))
            .with("P-Preferred-Identity", &format!("<{CAROL}>"))
            .with("P-Asserted-Service", "urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg")
            .text("x");
        assert_eq!(as_alice(world, &mut socket, &message).await.status(), Some(202));
        let stored = world.queue().remove(0).message.envelope;
        assert_eq!((stored.sender.address.to_string().as_str(), stored.sender.uri.as_str()), (ALICE, ALICE));
        assert!(stored.headers.iter().all(|(name, _)| !name.starts_with("P-Asserted")), "{:?}", stored.headers);
        let mut bob = world.person("bob").await;
        bob.register().await;
        let received = bob.received().await;
        assert_eq!(received.sip_field("P-Asserted-Identity"), Some("<sip:alice@example.org>"));
        assert_eq!(received.sip_field("Authorization"), None, "credentials go no further");
        world.until_settled().await;
    });
}

#[test]
fn a_spoofed_service_makes_no_large_message_of_a_chat() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        for (name, expected) in [("P-Asserted-Service", 480), ("P-Preferred-Service", 200)] {
            let chat = RawMsrp::invitation(&socket, BOB).with(name, ICSI_LARGE_MESSAGE);
            let description = String::from_utf8_lossy(&chat.body).replace("a=sendonly\r\n", "");
            let chat = chat.body("application/sdp", description.into_bytes());
            assert_eq!(as_alice(world, &mut socket, &chat).await.status(), Some(expected), "{name}");
        }
    });
}

#[test]
fn an_asserted_identity_instead_of_credentials_is_challenged() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        let asserted = socket.request("MESSAGE", BOB).with("P-Asserted-Identity", &format!("<{ALICE}>")).text("x");
        assert_eq!(socket.ask(&asserted).await.status(), Some(401));
    });
}

#[test]
fn a_third_party_register_from_outside_is_refused() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        let core = register(&socket, "sip:scscf.example.org", BOB).with("Event", "registration");
        assert_eq!(socket.ask(&core.clone()).await.status(), Some(401), "without credentials");
        let cases = [
            core.new_transaction().set("Call-ID", "core"),
            register(&socket, ALICE, BOB),
            register(&socket, BOB, BOB),
            register(&socket, BOB, ALICE),
            register(&socket, ALICE, BOB).set("Contact", "*").with("Expires", "0"),
        ];
        for request in cases {
            let answer = as_alice(world, &mut socket, &request).await;
            assert_eq!(answer.status(), Some(403), "{request:?}");
        }
        // What a core may say of a user's names is nothing that a user may say of itself.
        let names = register(&socket, ALICE, ALICE).with("P-Associated-URI", &format!("<{CAROL}>"));
        assert_eq!(as_alice(world, &mut socket, &names).await.status(), Some(200));
        assert_eq!(world.recipient(CAROL).address.to_string(), CAROL);
        // Nobody is registered as Bob.
        let message = socket.request("MESSAGE", BOB).text("for bob");
        assert_eq!(as_alice(world, &mut socket, &message).await.status(), Some(202));
        world.until_waiting(1).await;
        assert_eq!(world.metric("restante_attempts_total", &[]), 0);
    });
}

#[test]
fn nobody_fetches_anothers_messages() {
    setting().demands_passwords().tell(async |world| {
        let sender = world.person("dave").await;
        sender.send(BOB, "private").await;
        let mut socket = world.outside().await;
        let without = pull(&socket, BOB);
        assert_eq!(socket.ask(&without).await.status(), Some(401));
        let as_bob = pull(&socket, BOB);
        assert_eq!(as_alice(world, &mut socket, &as_bob).await.status(), Some(403));
        let preferring = pull(&socket, ALICE).with("P-Preferred-Identity", &format!("<{BOB}>"));
        let preferring = preferring.with("P-Asserted-Identity", &format!("<{BOB}>"));
        let answer = as_alice(world, &mut socket, &preferring).await;
        assert_eq!(answer.status(), Some(200), "her own queue, which is empty");
        assert_eq!(world.queue().len(), 1);
        let mut alice = world.outsider("alice").await;
        let fetched = alice.client.fetch(Selection::All).await.unwrap();
        assert!(fetched.answer.is_success() && fetched.messages.is_empty());
        assert_eq!(alice.unread_texts(), [""; 0]);
        assert_eq!(world.queue().len(), 1);
    });
}

#[test]
fn whom_another_tenant_trusts_fetches_nothing_of_this_one() {
    beside_a_trusting_tenant().tell(async |world| {
        let sender = world.person("dave").await;
        sender.send(BOB, "private").await;
        let mut socket = world.outside().await;
        let line = "INVITE sip:deferred@other.example SIP/2.0";
        let of_bob = pull(&socket, BOB).with("P-Asserted-Identity", &format!("<{BOB}>"));
        let answer = socket.ask(&Request { line: line.to_owned(), ..of_bob }).await;
        assert_eq!(answer.status(), Some(403));
        let own = "sip:erin@other.example";
        let answer = socket.ask(&Request { line: line.to_owned(), ..pull(&socket, own) }).await;
        assert_eq!(answer.status(), Some(200), "its own users it may speak for");
        assert_eq!(world.queue().len(), 1);
    });
}

#[test]
fn whom_another_tenant_trusts_sends_nobody_of_this_one_anything_under_our_name() {
    beside_a_trusting_tenant().tell(async |world| {
        let mut bob = world.person("bob").await;
        bob.register().await;
        world.person("dave").await.send(BOB, "seen by the other tenant's core").await;
        let ours = bob.received().await.call_id;
        let mut socket = world.outside().await;
        let forged = socket.request("MESSAGE", BOB).set("Call-ID", &ours).text("forged");
        assert_eq!(socket.ask(&forged).await.status(), Some(403));
        world.until_settled().await;
        assert_eq!(bob.unread_texts(), [""; 0]);
    });
}

#[test]
fn whom_another_tenant_trusts_sends_a_core_nothing_in_the_name_of_this_ones_users() {
    beside_a_trusting_tenant().tell(async |world| {
        let (mut core, mut socket) = (world.udp().await, world.outside().await);
        let (own, stranger) = ("sip:erin@other.example", "sip:ceo@elsewhere.net");
        let here = format!("<sip:{};lr>", world.sip());
        let served =
            |request: Request| request.with("Route", &here).with("P-Served-User", &format!("<{own}>;sescase=orig"));
        let marked = |request: Request| request.with("Route", &here.replace(";lr", ";lr;orig"));
        for (from, to, passes) in [(BOB, own, false), (BOB, BOB, false), (stranger, BOB, false), (own, BOB, true)] {
            for said in [&served as &dyn Fn(Request) -> Request, &marked] {
                let request = said(socket.request("MESSAGE", to)).with("Route", &format!("<sip:{};lr>", core.local()));
                let request = request.with("P-Asserted-Identity", &format!("<{from}>")).text("by our word");
                socket.send(&request.bytes()).await;
                if passes {
                    let came = core.expect("MESSAGE", |it| it.is_request()).await;
                    assert_eq!(came.header(Name::PAssertedIdentity), Some(&*format!("<{from}>")));
                    core.respond(&came, 200).await;
                }
                let expected = if passes { 200 } else { 403 };
                assert_eq!(socket.answer_to(&request).await.status(), Some(expected), "{from} to {to}");
            }
        }
        assert_eq!((core.unread_by_now().await, world.queue().len()), (Vec::new(), 0));
    });
}

#[test]
fn whom_another_tenant_trusts_sends_no_call_of_this_one_along_a_route() {
    beside_a_trusting_tenant().tell(async |world| {
        let (mut core, mut socket) = (world.udp().await, world.outside().await);
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
        let call = socket.request("INVITE", BOB).with("Contact", &format!("<sip:alice@{}>", socket.local()));
        let call = call.with("Route", &format!("<sip:{};lr>", world.sip()));
        let call = call.with("Route", &format!("<sip:{};lr>", core.local()));
        let call = call.with("P-Asserted-Identity", &format!("<{CAROL}>")).body("application/sdp", sdp);
        assert_eq!(as_alice(world, &mut socket, &call).await.status(), Some(403));
        assert_eq!(core.unread_by_now().await, [""; 0]);
    });
}

#[test]
fn a_path_with_a_name_is_for_proxies_that_are_trusted() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        for (path, status) in [
            ("<sip:proxy.attacker.example;lr>", 403),
            ("<sip:127.0.0.2;maddr=proxy.attacker.example;lr>", 403),
            ("<sip:127.0.0.2:5099;lr>", 200),
        ] {
            let register = register(&socket, ALICE, ALICE).with("Path", path).with("Supported", "path");
            assert_eq!(as_alice(world, &mut socket, &register).await.status(), Some(status), "{path}");
        }
    });
}

#[test]
fn nobody_subscribes_to_what_waits_for_another() {
    setting().demands_passwords().tell(async |world| {
        let mut socket = world.outside().await;
        for from in [ALICE, BOB] {
            let subscribe = socket
                .request("SUBSCRIBE", BOB)
                .set("From", &format!("<{from}>;tag=1"))
                .with("Contact", &format!("<sip:x@{}>", socket.local()))
                .with("Event", "message-summary");
            assert_eq!(as_alice(world, &mut socket, &subscribe).await.status(), Some(403), "{from}");
        }
    });
}

#[test]
fn a_stolen_authorization_serves_nobody_elses_name() {
    setting().demands_passwords().tell(async |world| {
        world.give_password("alice").await;
        let mut alice = world.outside().await;
        let challenge = alice.ask(&alice.request("MESSAGE", BOB).text("x")).await;
        // Somebody sees what Alice is about to send, and is first.
        let stolen = Digest::of(&challenge, "alice").authorize(&alice.request("MESSAGE", BOB).text("x"), 1);
        let mut thief = RawSip::udp("127.0.0.3".parse().unwrap(), world.sip()).await;
        let via = thief.request("MESSAGE", BOB).field("Via").to_owned();
        let as_carol = stolen.clone().set("Via", &via).set("From", &format!("<{CAROL}>;tag=thief"));
        assert_eq!(thief.ask(&as_carol).await.status(), Some(403));
        let as_alice = stolen.clone().set("Via", &via).new_transaction();
        assert_eq!(thief.ask(&as_alice).await.status(), Some(401), "it is used up");
        // Alice only needs a new nonce.
        let again = alice.ask(&stolen).await;
        let again = Digest::of(&again, "alice").authorize(&alice.request("MESSAGE", BOB).text("x"), 1);
        assert_eq!(alice.ask(&again).await.status(), Some(202));
        assert!(again.field(Name::Authorization.as_str()).contains("nc=00000001"));
    });
}

#[test]
fn where_no_password_is_asked_for_outsiders_are_refused_as_before() {
    let trusting = setting().tenant(|tenant| tenant.trust = vec!["127.0.0.1".parse().expect("an address")]);
    trusting.tell(async |world| {
        let alice = world.outsider("alice").await;
        assert_eq!(alice.try_send(PageMessage::text(BOB, "x")).await.answer.status, 403);
        assert_eq!(alice.client.register(600).await.unwrap().status, 403);
        assert_eq!(alice.client.fetch(Selection::All).await.unwrap().answer.status, 403);
    });
}
