//! What Kamailio hands over, and what it does not.

use restante_client::{Behaviour, LargeMessage, Mode, PageMessage, Scripted, Source};
use restante_tests::{Person, Request, pattern};

use crate::behind::{Behind, behind};
use crate::kamailio::{Configuration, IN_FRONT, REGISTRAR};

const BOB: &str = "sip:bob@example.org";
const STORED: &str = "restante_messages_stored_total";

fn registrar() -> Option<Configuration> {
    Configuration::of(REGISTRAR)
}

/// With little patience for devices that say nothing.
fn impatient_registrar() -> Option<Configuration> {
    Some(registrar()?.define("DEVICE_MILLISECONDS=500").define("RINGING_MILLISECONDS=5000"))
}

#[test]
fn a_message_for_a_device_that_answers_is_not_deferred() {
    behind(registrar(), "", async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        let answer = alice.try_send(PageMessage::text(BOB, "hello")).await.answer;
        assert_eq!(answer.status, 200, "the device's own answer");
        assert_eq!(bob.texts(1).await, ["hello"]);
        let behaviour = Behaviour { message_answers: [Scripted::Status(603)].into(), ..Behaviour::default() };
        bob.client.set_behaviour(behaviour).await.expect("a client that runs");
        let answer = alice.try_send(PageMessage::text(BOB, "again")).await.answer;
        assert_eq!(answer.status, 603, "the device's own refusal");
        assert_eq!(world.metric(STORED, &[]).await, 0);
    });
}

#[test]
fn a_message_that_a_device_cannot_take_now_is_deferred_under_the_address_that_the_sender_wrote() {
    for scripted in [Scripted::Status(404), Scripted::Status(408), Scripted::Status(503), Scripted::Silence] {
        let configuration = if scripted == Scripted::Silence { impatient_registrar() } else { registrar() };
        behind(configuration, "", async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            bob.register().await;
            // A repetition of what is not answered is not answered either.
            let answers = if scripted == Scripted::Silence { 4 } else { 2 };
            let behaviour = Behaviour { message_answers: vec![scripted; answers].into(), ..Behaviour::default() };
            bob.client.set_behaviour(behaviour).await.expect("a client that runs");
            alice.send(BOB, "later, then").await;
            assert_eq!(world.metric(STORED, &[]).await, 1, "{scripted:?}");
            bob.client.set_behaviour(Behaviour::default()).await.expect("a client that runs");
            bob.register().await;
            assert_eq!(bob.texts(1).await, ["later, then"], "{scripted:?}");
            world.until_waiting("nothing", |waiting| waiting == 0).await;
        });
    }
}

#[test]
fn a_large_message_that_a_device_cannot_take_now_is_deferred() {
    for status in [404, 408, 480, 500, 503] {
        behind(registrar(), "", async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            bob.register().await;
            let behaviour = Behaviour { invite_answers: [Scripted::Status(status)].into(), ..Behaviour::default() };
            bob.client.set_behaviour(behaviour).await.expect("a client that runs");
            large_message_is_deferred(world, &alice, &mut bob, async |_| {}).await;
        });
    }
}

/// An INVITE waits for as long as Kamailio does, which is longer than for a MESSAGE.
#[test]
fn a_large_message_that_a_device_says_nothing_to_is_deferred() {
    behind(impatient_registrar(), "", async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        // What is kept goes to him again as soon as it is kept.
        let behaviour = Behaviour { invite_answers: [Scripted::Silence].into(), ..Behaviour::default() };
        bob.client.set_behaviour(behaviour).await.expect("a client that runs");
        large_message_is_deferred(world, &alice, &mut bob, async |bob| bob.register().await).await;
    });
}

/// Restante takes it when the device did not, and the device gets it when it is `back`.
async fn large_message_is_deferred(
    world: &mut Behind,
    alice: &Person,
    bob: &mut Person,
    back: impl AsyncFnOnce(&mut Person),
) {
    let message = LargeMessage::new(BOB, "image/png", Source::Bytes(pattern(300_000)));
    let sent = alice.client.send_large(message).await.expect("an answer");
    assert!(sent.accepted, "{sent:?}");
    assert_eq!(world.metric(STORED, &[]).await, 1);
    back(bob).await;
    let received = bob.received().await;
    assert_eq!((received.mode, &received.sha256), (Mode::Push, &sent.sha256));
    world.until_waiting("nothing", |waiting| waiting == 0).await;
    assert_eq!(world.metric(STORED, &[]).await, 1);
}

/// What the client's REGISTER says that it can do reaches Restante in Kamailio's.
#[test]
fn a_device_that_takes_no_sessions_gets_many_messages_in_page_mode() {
    behind(registrar(), "few = 1", async |world| {
        let alice = world.person("alice").await;
        let mut bob = world.person_with("bob", |bob| bob.features.large = false).await;
        let texts = ["one", "two", "three", "four"];
        for text in texts {
            alice.send(BOB, text).await;
        }
        bob.register().await;
        assert_eq!(bob.texts(texts.len()).await, texts);
        world.until_waiting("nothing", |waiting| waiting == 0).await;
        assert_eq!(bob.wire.received("INVITE").len(), 0);
    });
}

#[test]
fn what_is_not_for_keeping_is_refused_as_without_restante() {
    behind(registrar(), "", async |world| {
        let mut alice = world.udp().await;
        let composing = "<isComposing><state>active</state></isComposing>";
        let typing = alice.request("MESSAGE", BOB).body("application/im-iscomposing+xml", composing);
        let offer = |media: &str| {
            format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n{media}\
                 a=path:msrp://127.0.0.1:9/abc;tcp\r\na=accept-types:*\r\n"
            )
        };
        let contact = format!("<sip:alice@{}>", alice.local());
        let invite = |alice: &restante_tests::RawSip, media: &str| -> Request {
            alice.request("INVITE", BOB).with("Contact", &contact).body("application/sdp", offer(media))
        };
        let call = invite(&alice, "m=audio 9 RTP/AVP 0\r\n");
        let chat = invite(&alice, "m=message 9 TCP/MSRP *\r\na=sendrecv\r\n");
        for (what, request, status) in [("typing", typing, 480), ("a call", call, 480), ("a chat", chat, 480)] {
            assert_eq!(alice.ask(&request).await.status(), Some(status), "{what}");
        }
        assert_eq!(world.metric(STORED, &[]).await, 0);
    });
}

#[test]
fn nobody_is_who_he_only_says_that_he_is() {
    for name in [REGISTRAR, IN_FRONT] {
        behind(Configuration::of(name), "", async |world| {
            let mut mallory = world.udp().await;
            let forged = mallory.request("MESSAGE", BOB).text("send me money");
            let forged = forged
                .set("From", "<sip:mallory@example.org>;tag=m")
                .with("P-Asserted-Identity", "<sip:alice@example.org>");
            assert_eq!(mallory.ask(&forged).await.status(), Some(202), "{name}");
            let queue = world.queue().await;
            assert_eq!(queue[0]["from"], "sip:mallory@example.org", "{name}: {queue:?}");
            let routed = mallory.request("MESSAGE", BOB).text("a way of my own");
            let routed = routed.with("Route", "<sip:192.0.2.7;lr>");
            assert_eq!(mallory.ask(&routed).await.status(), Some(403), "{name}");
        });
    }
}
