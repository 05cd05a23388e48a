//! A core in front of the server: an outbound proxy, third-party registrations, and what the core says in a user's place.

use restante_client::proxy::Passage;
use restante_client::{Mode, PageMessage};
use restante_tests::{setting, until};
use restante_transport::Protocol;

#[test]
fn a_message_for_a_number_is_delivered_once_through_a_core_that_brings_it_back_once() {
    for transport in [Protocol::Udp, Protocol::Tcp] {
        let place = setting().behind_proxy(transport).tenant(|tenant| tenant.numbers.push("+1555".to_owned()));
        place.tell(async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("tel:+15550001").await);
            let sent = alice.send("tel:+15550001", "looped").await;
            world.proxy().loop_back(1);
            let answer = world.proxy().register("tel:+15550001", 3_600).await.unwrap();
            assert_eq!(answer.status, 200);
            let message = bob.received().await;
            assert_eq!((message.text(), message.message_id.as_ref()), (Some("looped"), Some(&sent.message_id)));
            assert_eq!((message.sender.as_str(), message.mode), (alice.address(), Mode::Page));
            world.until_settled().await;
            let mut passages: Vec<Passage> = world
                .proxy()
                .passed()
                .into_iter()
                .filter(|it| it.method == "MESSAGE" && it.call_id == message.call_id)
                .map(|it| it.passage)
                .collect();
            // What is not answered soon is sent again, as happens on a busy machine.
            passages.dedup();
            assert_eq!(passages, [Passage::LoopedBack, Passage::ToUser]);
            assert_eq!(bob.unread_texts(), [""; 0]);
            assert_eq!(world.metric("restante_messages_stored_total", &[]), 1);
        });
    }
}

#[test]
fn a_session_goes_through_a_core_too() {
    setting().behind_proxy(Protocol::Tcp).settings("few = 0").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "one").await;
        alice.send(bob.address(), "two").await;
        world.proxy().register(bob.address(), 3_600).await.unwrap();
        assert_eq!(bob.texts(2).await, ["one", "two"]);
        assert!(bob.session_ended().await.orderly);
        world.until_settled().await;
    });
}

#[test]
fn a_core_that_refuses_everything_loses_nothing() {
    for status in [404, 403, 480, 603] {
        let place = setting()
            .behind_proxy(Protocol::Udp)
            .settings("retry_seconds = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]");
        place.tell(async |world| {
            let alice = world.person("alice").await;
            let names = ["b1", "b2", "b3", "b4", "b5", "b6"];
            let mut people = Vec::new();
            world.proxy().answer_all(Some(status));
            for name in names {
                let person = world.person(name).await;
                alice.send(person.address(), name).await;
                alice.send(person.address(), "second").await;
                world.proxy().register(person.address(), 3_600).await.unwrap();
                people.push(person);
            }
            let refused = |it: &restante_client::proxy::Passed| it.passage == Passage::Answered(status);
            let proxy = world.proxy();
            until("each was refused", || proxy.passed().iter().filter(|it| refused(it)).count() >= names.len()).await;
            world.until_waiting(2 * names.len()).await;
            world.proxy().answer_all(None);
            for (person, name) in people.iter_mut().zip(names) {
                assert_eq!(person.texts(2).await, [name, "second"], "{status}");
            }
            world.until_settled().await;
            assert_eq!(world.metric("restante_messages_given_up_total", &[]), 0);
        });
    }
}

#[test]
fn a_trusted_core_is_told_who_sent_what_is_private_and_that_it_is() {
    setting().behind_proxy(Protocol::Udp).settings("few = 100").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let rows = [("id", "id"), ("user", "user;id"), ("header; session", "header;session"), ("none", "none")];
        for (asked, _) in rows {
            let private = vec![("Privacy".to_owned(), asked.to_owned())];
            alice.send_message(PageMessage { fields: private, ..PageMessage::text(bob.address(), "hush") }).await;
        }
        world.proxy().register(bob.address(), 3_600).await.unwrap();
        for (asked, told) in rows {
            let message = bob.received().await;
            assert_eq!(message.sip_field("P-Asserted-Identity"), Some("<sip:alice@example.org>"), "{asked}");
            // Nobody takes anything of it away (RFC 3323 §4.2).
            assert_eq!(message.sip_field("Privacy"), Some(told), "{asked}");
            let is_named = !message.sip_field("From").unwrap().contains("anonymous");
            assert_eq!(is_named, !told.contains("id"), "{asked}: {:?}", message.sip_fields);
        }
    });
}

#[test]
fn an_asserted_identity_is_the_sender_whatever_from_says() {
    setting().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let asserted = vec![("P-Asserted-Identity".to_owned(), "<sip:carol@example.org>".to_owned())];
        alice.send_message(PageMessage { fields: asserted, ..PageMessage::text(bob.address(), "who") }).await;
        assert_eq!(&*world.queue()[0].message.envelope.sender.address.0, "sip:carol@example.org");
        bob.register().await;
        assert_eq!(bob.received().await.sender, "sip:carol@example.org");
        world.until_settled().await;
    });
}
