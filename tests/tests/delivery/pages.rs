//! Messages pushed one by one, each in a MESSAGE.

use restante_client::{Behaviour, Features, Mode, PageMessage, Scripted};
use restante_cpim::imdn::{Disposition, DispositionNotification};
use restante_tests::{setting, story, until_equal};
use restante_transport::Protocol;

#[test]
fn a_message_for_somebody_who_is_away_is_delivered_on_registration() {
    for (ipv6, transport) in [(false, Protocol::Udp), (false, Protocol::Tcp), (true, Protocol::Udp)] {
        let place = if ipv6 { setting().ipv6() } else { setting() };
        place.tell(async |world| {
            let alice = world.person_with("alice", |it| it.transport = transport).await;
            let mut bob = world.person_with("bob", |it| it.transport = transport).await;
            let sent = alice.send(bob.address(), "See you at six").await;
            world.until_waiting(1).await;
            bob.register().await;
            let message = bob.received().await;
            assert_eq!((message.text(), message.mode), (Some("See you at six"), Mode::Page));
            assert_eq!((message.sender.as_str(), message.message_id), (alice.address(), Some(sent.message_id)));
            assert_eq!(message.sha256, sent.sha256);
            world.until_settled().await;
            world.until_counted("restante_messages_delivered_total", 1).await;
        });
    }
}

#[test]
fn a_message_for_somebody_who_is_there_is_stored_and_delivered_at_once() {
    story(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        alice.send(bob.address(), "Hello").await;
        assert_eq!(bob.texts(1).await, ["Hello"]);
        world.until_settled().await;
        assert_eq!(world.metric("restante_messages_stored_total", &[]), 1);
    });
}

#[test]
fn a_few_messages_come_one_by_one_and_in_order_whoever_sent_them() {
    story(async |world| {
        let (alice, carol, mut bob) =
            (world.person("alice").await, world.person("carol").await, world.person("bob").await);
        alice.send(bob.address(), "first").await;
        carol.send(bob.address(), "second").await;
        alice.send(bob.address(), "third").await;
        bob.register().await;
        assert_eq!(bob.texts(3).await, ["first", "second", "third"]);
        assert_eq!(bob.wire.received("INVITE").len(), 0);
        world.until_settled().await;
    });
}

#[test]
fn what_is_delivered_is_reported_to_a_sender_who_asked_also_when_the_sender_is_away() {
    story(async |world| {
        let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let notifications = DispositionNotification { positive_delivery: true, ..Default::default() };
        let message = PageMessage { notifications, ..PageMessage::text(bob.address(), "Did you get it?") };
        let sent = alice.send_message(message).await;
        bob.register().await;
        bob.received().await;
        // The report is a deferred message itself.
        world.until_waiting(1).await;
        alice.register().await;
        assert_eq!(alice.disposition().await, (sent.message_id, Disposition::Delivered));
        world.until_settled().await;
    });
}

#[test]
fn processing_is_reported_when_the_message_is_stored_and_not_again_for_a_repetition() {
    story(async |world| {
        let mut alice = world.person("alice").await;
        alice.register().await;
        let notifications = DispositionNotification { processing: true, ..Default::default() };
        let message = PageMessage { notifications, ..PageMessage::text("sip:bob@example.org", "Keep this") };
        let message = PageMessage { message_id: Some("kept-once".into()), ..message };
        alice.send_message(message.clone()).await;
        assert_eq!(alice.disposition().await, ("kept-once".to_owned(), Disposition::Stored));
        alice.send_message(message).await;
        alice.send(alice.address(), "nothing came in between").await;
        assert_eq!(alice.texts(1).await, ["nothing came in between"]);
        assert_eq!(alice.unread().len(), 0);
    });
}

#[test]
fn every_name_of_a_recipient_reaches_one_queue() {
    let place = setting().tenant(|tenant| {
        tenant.numbers.push("+1555".to_owned());
        tenant.aliases.insert("tel:+1-555-0001".to_owned(), "sip:bob@example.org".to_owned());
    });
    place.tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let names = ["sip:bob@EXAMPLE.ORG;transport=tcp", "tel:+15550001", "sip:+1-555-0001@example.org;user=phone"];
        for name in names {
            alice.send(name, name).await;
        }
        assert_eq!(world.queue().iter().filter(|it| it.message.recipient == world.recipient(bob.address())).count(), 3);
        bob.register().await;
        assert_eq!(bob.texts(3).await, names);
        world.until_settled().await;
    });
}

#[test]
fn one_request_is_in_flight_to_a_contact_and_the_order_holds_behind_it() {
    story(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "first").await;
        alice.send(bob.address(), "second").await;
        let silent = Behaviour { message_answers: [Scripted::Silence].into(), ..Behaviour::default() };
        bob.client.set_behaviour(silent).await.unwrap();
        bob.register().await;
        bob.scripted().await;
        // Retransmissions of the first: 0.5 s, 1.5 s. The second would have come before them.
        until_equal("copies of the first MESSAGE", true, || bob.wire.received("MESSAGE").len() >= 3).await;
        let messages = bob.wire.received("MESSAGE");
        let call_id = &messages[0].exchange;
        assert!(messages.iter().all(|message| message.exchange == *call_id), "{messages:#?}");
        world.until_waiting(2).await;
    });
}

#[test]
fn a_retry_keeps_its_call_id_and_raises_cseq() {
    setting().settings("retry_seconds = [1, 1]").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "again").await;
        let busy = Behaviour { message_answers: [Scripted::Status(486)].into(), ..Behaviour::default() };
        bob.client.set_behaviour(busy).await.unwrap();
        bob.register().await;
        assert_eq!(bob.texts(1).await, ["again"]);
        let messages = bob.wire.received_once("MESSAGE");
        let names: Vec<&str> = messages.iter().filter_map(|it| it.detail.split(' ').next()).collect();
        assert_eq!((messages.len(), names), (2, vec!["1", "2"]));
        assert_eq!(messages[0].exchange, messages[1].exchange);
        world.until_settled().await;
    });
}

#[test]
fn a_device_that_is_gone_does_not_hold_up_another_one() {
    story(async |world| {
        let alice = world.person("alice").await;
        let tablet = world.person_with("bob", |it| it.transport = Protocol::Tcp).await;
        tablet.register().await;
        tablet.client.stop().await;
        let mut phone = world.person("bob").await;
        phone.register().await;
        alice.send(phone.address(), "first").await;
        alice.send(phone.address(), "second").await;
        assert_eq!(phone.texts(2).await, ["first", "second"]);
        world.until_settled().await;
    });
}

#[test]
fn a_message_reaches_one_of_several_devices_once() {
    story(async |world| {
        let alice = world.person("alice").await;
        let (mut phone, mut tablet) = (world.person("bob").await, world.person("bob").await);
        phone.register().await;
        tablet.register().await;
        alice.send(phone.address(), "to either").await;
        world.until_settled().await;
        assert_eq!([phone.unread_texts(), tablet.unread_texts()].concat(), ["to either"]);
    });
}

#[test]
fn a_client_that_registers_no_methods_for_messages_is_left_alone_until_one_comes_that_does() {
    story(async |world| {
        let alice = world.person("alice").await;
        let nothing = Features { page: false, large: false, cpm_deferred: false, accepts_summary: false };
        let mut meter = world.person_with("bob", |it| it.features = nothing).await;
        meter.register().await;
        alice.send(meter.address(), "for a phone").await;
        let mut phone = world.person("bob").await;
        phone.register().await;
        assert_eq!(phone.texts(1).await, ["for a phone"]);
        world.until_settled().await;
        assert_eq!(meter.unread_texts(), [""; 0]);
    });
}

#[test]
fn a_message_is_what_it_was_also_when_it_is_no_cpim() {
    story(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let bytes: Vec<u8> = (0..=255).collect();
        let message = PageMessage::new(bob.address(), "application/octet-stream", bytes.into());
        let sent = alice.send_message(PageMessage { wrap: false, ..message }).await;
        bob.register().await;
        let received = bob.received().await;
        assert_eq!((received.content_type.as_str(), received.sha256), ("application/octet-stream", sent.sha256));
        world.until_settled().await;
    });
}

#[test]
fn a_client_behind_an_address_translation_is_reached_on_the_connection_it_opened() {
    story(async |world| {
        let alice = world.person("alice").await;
        let mut bob = world.person_with("bob", |it| it.transport = Protocol::Tcp).await;
        bob.register().await;
        alice.send(bob.address(), "the way you came").await;
        assert_eq!(bob.texts(1).await, ["the way you came"]);
        assert_eq!(bob.wire.received("MESSAGE")[0].remote, world.sip(), "not from a connection that the server opened");
        world.until_settled().await;
    });
}

#[test]
fn nothing_is_pushed_before_a_client_had_time_to_take_its_200() {
    setting().configure(|it| it.limits.registration_delay_milliseconds = 1_000).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "in a moment").await;
        bob.register().await;
        assert_eq!(bob.texts(1).await, ["in a moment"]);
        let (registered, came) = (&bob.wire.sent("REGISTER")[0], &bob.wire.received("MESSAGE")[0]);
        let waited = came.at.duration_since(registered.at).expect("the clock goes forward");
        assert!(waited >= std::time::Duration::from_millis(950), "{waited:?}");
        world.until_settled().await;
    });
}

#[test]
fn many_recipients_each_get_their_own_in_order() {
    story(async |world| {
        let alice = world.person("alice").await;
        let mut people = Vec::new();
        for number in 0..30 {
            people.push(world.person(&format!("user{number}")).await);
        }
        let texts = ["one", "two", "three"];
        for text in texts {
            let sending = people.iter().map(|person| (person.address().to_owned(), alice.client.clone()));
            let sending: Vec<_> = sending
                .map(|(to, client)| tokio::spawn(async move { client.send(PageMessage::text(&to, text)).await }))
                .collect();
            for sent in sending {
                assert_eq!(sent.await.unwrap().unwrap().answer.status, 202);
            }
        }
        for person in &people {
            person.register().await;
        }
        for person in &mut people {
            assert_eq!(person.texts(3).await, texts, "{}", person.address());
        }
        world.until_settled().await;
        world.until_counted("restante_messages_delivered_total", 90).await;
        for person in &mut people {
            assert_eq!(person.unread_texts(), [""; 0], "{}", person.address());
        }
    });
}
