//! `on-incoming`: relay, reject, discard, hand over, and how messages are kept.

use bytes::Bytes;
use restante_client::{Behaviour, Client, ClientConfiguration, LargeMessage, Mode, PageMessage, Scripted, Source};
use restante_sip::message::{Method, SipMessage};
use restante_sip::writer::Builder;
use restante_tests::{Person, RawSip, Recorder, World, in_time, pattern, until, until_equal};

use crate::{scripted, with_target};

/// Somebody at an address that is known before there is a server, a target of a hand-over: on a thread of its own, which
/// lives as long as the tests do.
fn target() -> (Person, std::net::SocketAddr) {
    let (started, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let nowhere = "127.0.0.1:9".parse().expect("an address");
            let wire = std::sync::Arc::<Recorder>::default();
            let mut configuration = ClientConfiguration::new("sip:gateway@gateway.example", nowhere);
            configuration.observer = Some(wire.clone());
            let (client, events) = Client::start(configuration).await.expect("sockets");
            let address = client.sip_address();
            started.send((Person::new(client, events, wire), address)).expect("somebody waits");
            std::future::pending::<()>().await;
        });
    });
    wait.recv().expect("a target")
}

/// Bob's device as a bare socket.
async fn device_of_bob(world: &World) -> RawSip {
    let mut device = world.udp().await;
    let contact = format!("<sip:bob@{}>", device.local());
    let register = device.request("REGISTER", "sip:example.org");
    let register = register.set("From", "<sip:bob@example.org>;tag=device").set("To", "<sip:bob@example.org>");
    let register = register.set("Contact", &contact).set("Expires", "600");
    assert_eq!(device.ask(&register).await.status(), Some(200));
    device
}

#[test]
fn a_relayed_message_gets_the_devices_own_answer() {
    // No sender is kept waiting for longer than three seconds, whatever the policy says: where the machine stands still
    // for as long, a message is kept, and the story is told again.
    for _ in 0..3 {
        let mut is_late = false;
        scripted("incoming = \"relay:3000\"").tell(async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            bob.register().await;
            let sent = alice.try_send(PageMessage::text(bob.address(), "hello")).await.answer.status;
            assert_eq!(bob.texts(1).await, ["hello"]);
            let behaviour = Behaviour { message_answers: [Scripted::Status(603)].into(), ..Behaviour::default() };
            bob.client.set_behaviour(behaviour).await.expect("a client that runs");
            let refused = alice.try_send(PageMessage::text(bob.address(), "again")).await.answer.status;
            is_late = sent == 202 || refused == 202;
            if !is_late {
                assert_eq!((sent, refused), (200, 603), "the device's own word");
                let stored = world.metric("restante_messages_stored_total", &[]);
                assert_eq!((world.queue().len(), stored), (0, 0), "it is with the device, not in the store");
            }
        });
        if !is_late {
            return;
        }
    }
    panic!("no answer of the device came in time");
}

#[test]
fn a_relayed_message_that_the_core_refuses_is_kept() {
    scripted("incoming = \"relay:3000\"\nfailure = \"retry:1000\"").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        let behaviour = Behaviour { message_answers: [Scripted::Status(408)].into(), ..Behaviour::default() };
        bob.client.set_behaviour(behaviour).await.expect("a client that runs");
        alice.send(bob.address(), "kept").await;
        assert_eq!(bob.texts(1).await, ["kept"]);
        world.until_settled().await;
    });
}

#[test]
fn a_device_that_answers_late_has_the_message_once() {
    scripted("incoming = \"relay:300\"\nfailure = \"retry:1000\"").tell(async |world| {
        let alice = world.person("alice").await;
        // A device that takes the message and answers when the server has long said 202.
        let mut device = device_of_bob(world).await;
        let sending = alice.try_send(PageMessage::text("sip:bob@example.org", "slowly"));
        let is_message = |message: &SipMessage| message.method() == Some(Method::Message);
        let (sent, request) = tokio::join!(sending, device.expect("a relayed MESSAGE", is_message));
        assert_eq!(sent.answer.status, 202);
        world.until_waiting(1).await;
        let answer = Builder::response(&request, 200, "OK", None, Some("device")).finish().expect("an answer");
        device.send(&answer).await;
        world.until_waiting(0).await;
        until_equal("deliveries", 1, || world.metric("restante_messages_delivered_total", &[])).await;
    });
}

#[test]
fn a_rejection_reaches_the_sender_as_the_policy_said() {
    scripted("incoming = \"reject:480\"").tell(async |world| {
        let alice = world.person("alice").await;
        let refused = alice.try_send(PageMessage::text("sip:bob@example.org", "no")).await.answer;
        assert_eq!(
            (refused.status, refused.reason.as_str(), refused.field("Retry-After")),
            (480, "As Scripted", Some("17"))
        );
        let large = LargeMessage::new("sip:bob@example.org", "text/plain", Source::Bytes(pattern(100_000)));
        let refused = in_time("an answer", alice.client.send_large(large)).await.expect("an answer");
        assert_eq!(refused.answer.status, 480);
        assert_eq!(world.queue().len(), 0);
    });
}

#[test]
fn what_is_discarded_is_accepted_and_gone() {
    scripted("incoming = \"discard\"").tell(async |world| {
        let alice = world.person("alice").await;
        alice.send("sip:bob@example.org", "into the void").await;
        let large = LargeMessage::new("sip:bob@example.org", "text/plain", Source::Bytes(pattern(100_000)));
        let sent = in_time("an answer", alice.client.send_large(large)).await.expect("an answer");
        assert!(sent.accepted, "{sent:?}");
        world.until_no_session().await;
        until("the body is removed", || world.spooled() == 0).await;
        assert_eq!(world.queue().len(), 0);
        until_equal("messages discarded", 2, || world.metric("restante_messages_discarded_total", &[])).await;
    });
}

#[test]
fn messages_of_both_modes_are_handed_to_a_named_target() {
    let (mut gateway, address) = target();
    with_target("incoming = \"hand-over:elsewhere\"", address).tell(async |world| {
        let alice = world.person("alice").await;
        alice.send("sip:bob@example.org", "by SMS, please").await;
        let page = gateway.received().await;
        assert_eq!((page.text(), page.mode), (Some("by SMS, please"), Mode::Page));
        assert_eq!(page.sender, alice.address());
        for body in [pattern(3_000), pattern(200_000)] {
            let large = LargeMessage::new("sip:bob@example.org", "application/octet-stream", Source::Bytes(body));
            let sent = in_time("an answer", alice.client.send_large(large)).await.expect("an answer");
            let received = gateway.received().await;
            assert_eq!((received.sha256, received.mode), (sent.sha256, Mode::Push));
        }
        world.until_settled().await;
        until_equal("messages handed over", 3, || world.metric("restante_messages_handed_over_total", &[])).await;
    });
}

#[test]
fn a_target_that_refuses_keeps_the_message_waiting() {
    let (mut gateway, address) = target();
    with_target("incoming = \"hand-over:elsewhere\"\nfailure = \"retry:1000\"", address).tell(async |world| {
        let alice = world.person("alice").await;
        let behaviour = Behaviour {
            message_answers: [Scripted::Status(404)].into(),
            message_verdicts: [413].into(),
            ..Behaviour::default()
        };
        gateway.client.set_behaviour(behaviour).await.expect("a client that runs");
        alice.send("sip:bob@example.org", "again").await;
        assert_eq!(gateway.scripted().await, ("MESSAGE".to_owned(), Some(404)));
        assert_eq!(gateway.texts(1).await, ["again"]);
        let large = LargeMessage::new("sip:bob@example.org", "text/plain", Source::Bytes(pattern(100_000)));
        let sent = in_time("an answer", alice.client.send_large(large)).await.expect("an answer");
        assert_eq!(gateway.received().await.sha256, sent.sha256);
        world.until_settled().await;
    });
}

#[test]
fn higher_priority_goes_first_and_equals_keep_their_order() {
    scripted("available = \"page\"\npriority = \"size\"").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let plain = |text: &str| PageMessage {
            wrap: false,
            ..PageMessage::new(bob.address(), "text/plain", Bytes::copy_from_slice(text.as_bytes()))
        };
        for text in ["a", "bb", "c", "dddd", "ee"] {
            alice.send_message(plain(text)).await;
        }
        bob.register().await;
        assert_eq!(bob.texts(5).await, ["dddd", "bb", "ee", "a", "c"]);
        world.until_settled().await;
    });
}

#[test]
fn an_operators_expiry_may_be_extended_and_a_senders_may_not() {
    scripted("keep_milliseconds = 1000\nexpiry = \"extend:600000\"").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let mut carol = world.person("carol").await;
        alice.send(bob.address(), "extended").await;
        // To somebody else: an answer that extends a sender's expiry counts for none of the messages it is about. It is
        // the sender's although the policy shortens it, and so long that the message may wait whenever it comes.
        let own = PageMessage { expires_seconds: Some(20), ..PageMessage::text(carol.address(), "the sender's word") };
        alice.send_message(own).await;
        world.until_counted("restante_messages_expired_total", 1).await;
        bob.register().await;
        carol.register().await;
        assert_eq!(bob.texts(1).await, ["extended"]);
        world.until_settled().await;
        assert_eq!(carol.unread_texts(), [""; 0]);
    });
}
