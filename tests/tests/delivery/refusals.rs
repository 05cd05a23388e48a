//! Clients that refuse: what ends a message, and what only changes its shape.

use restante_client::{Behaviour, Mode, PageMessage, Scripted};
use restante_cpim::imdn::{Disposition, DispositionNotification};
use restante_sip::message::SipMessage;
use restante_tests::{setting, story, until, until_equal};

#[test]
fn a_client_that_knows_no_page_mode_gets_a_session() {
    for status in [405, 415, 488, 501, 500, 400] {
        story(async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let refuses = Behaviour { every_message: Some(Scripted::Status(status)), ..Behaviour::default() };
            bob.client.set_behaviour(refuses).await.unwrap();
            let sent = alice.send(bob.address(), "another shape").await;
            bob.register().await;
            let message = bob.received().await;
            assert_eq!((message.mode, message.message_id), (Mode::Push, Some(sent.message_id)), "{status}");
            world.until_settled().await;
        });
    }
}

#[test]
fn a_client_that_knows_no_sessions_gets_pages() {
    for status in [405, 415, 488, 501, 500, 400] {
        setting().settings("few = 0").tell(async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let refuses = Behaviour { every_invite: Some(Scripted::Status(status)), ..Behaviour::default() };
            bob.client.set_behaviour(refuses).await.unwrap();
            for text in ["one", "two"] {
                alice.send(bob.address(), text).await;
            }
            bob.register().await;
            for text in ["one", "two"] {
                let message = bob.received().await;
                assert_eq!((message.text(), message.mode), (Some(text), Mode::Page), "{status}");
            }
            world.until_settled().await;
        });
    }
}

#[test]
fn an_answer_without_a_session_description_is_acknowledged_and_ended_and_another_way_is_taken() {
    setting().settings("few = 0").allow_objections().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.client.set_behaviour(Behaviour { answer_without_sdp: true, ..Behaviour::default() }).await.unwrap();
        alice.send(bob.address(), "otherwise").await;
        bob.register().await;
        assert_eq!(bob.received().await.mode, Mode::Page);
        until("ACK and BYE", || !bob.wire.received("ACK").is_empty() && !bob.wire.received("BYE").is_empty()).await;
        world.until_settled().await;
    });
}

#[test]
fn a_session_that_is_declined_keeps_its_messages_for_the_next_registration() {
    setting().settings("few = 0").tell(async |world| {
        let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        alice.register().await;
        let declines = Behaviour { invite_answers: [Scripted::Status(603)].into(), ..Behaviour::default() };
        bob.client.set_behaviour(declines).await.unwrap();
        let notifications = DispositionNotification { negative_delivery: true, ..Default::default() };
        for text in ["one", "two"] {
            alice.send_message(PageMessage { notifications, ..PageMessage::text(bob.address(), text) }).await;
        }
        bob.register().await;
        bob.scripted().await;
        until("it is noted", || world.metric("restante_attempts_failed_total", &["status=\"603\""]) == 1).await;
        world.until_no_session().await;
        world.until_waiting(2).await;
        bob.unregister().await;
        bob.register().await;
        assert_eq!(bob.texts(2).await, ["one", "two"]);
        world.until_settled().await;
        assert_eq!(alice.unread().len(), 0, "nobody is told of a failure that was none");
    });
}

#[test]
fn a_device_that_refuses_a_page_for_good_ends_that_message_and_only_that() {
    for status in [404, 403, 410, 604] {
        story(async |world| {
            let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            alice.register().await;
            let refuses = Behaviour { message_answers: [Scripted::Status(status)].into(), ..Behaviour::default() };
            bob.client.set_behaviour(refuses).await.unwrap();
            let notifications = DispositionNotification { negative_delivery: true, ..Default::default() };
            let refused = PageMessage { notifications, ..PageMessage::text(bob.address(), "refused") };
            let sent = alice.send_message(refused).await;
            alice.send(bob.address(), "taken").await;
            bob.register().await;
            assert_eq!(bob.texts(1).await, ["taken"]);
            assert_eq!(alice.disposition().await, (sent.message_id, Disposition::DeliveryFailed), "{status}");
            world.until_settled().await;
            world.until_counted("restante_messages_given_up_total", 1).await;
        });
    }
}

#[test]
fn a_row_of_refusals_for_good_behind_one_address_is_the_addresss_and_ends_no_more_messages() {
    story(async |world| {
        let (mut alice, mut gateway) = (world.udp().await, world.udp().await);
        let users: Vec<String> = (1..=6).map(|number| format!("sip:user{number}@example.org")).collect();
        for user in &users {
            assert_eq!(alice.ask(&alice.request("MESSAGE", user).text("hello")).await.status(), Some(202));
        }
        for (user, number) in users.iter().zip(1..) {
            let register = gateway.request("REGISTER", "sip:example.org").set("From", &format!("<{user}>;tag=g"));
            let contact = user.replace("example.org", &gateway.local().to_string());
            let register = register.set("To", &format!("<{user}>")).with("Contact", &format!("<{contact}>"));
            assert_eq!(gateway.ask(&register.with("Expires", "600")).await.status(), Some(200));
            let is_for_user = |it: &SipMessage| it.is_request() && it.request_uri() == Some(&contact);
            let message = gateway.expect("a MESSAGE", is_for_user).await;
            gateway.respond(&message, 404).await;
            // Users are on several shards, which do not wait for each other.
            let refusals = || world.metric("restante_attempts_failed_total", &["status=\"404\""]);
            until_equal("refusals", number, refusals).await;
        }
        world.until_waiting(2).await;
        let waiting: Vec<String> = world.queue().iter().map(|it| it.message.recipient.address.to_string()).collect();
        assert_eq!(waiting, users[4..]);
        world.until_counted("restante_messages_given_up_total", 4).await;
        assert_eq!(world.shared().disbelieved_hops(), 1);
    });
}

#[test]
fn one_message_of_a_session_that_is_not_taken_does_not_take_the_others_with_it() {
    setting().settings("few = 0\nretry_seconds = [1, 1]").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        for text in ["one", "two", "three"] {
            alice.send(bob.address(), text).await;
        }
        let picky = Behaviour { message_verdicts: [200, 413].into(), ..Behaviour::default() };
        bob.client.set_behaviour(picky).await.unwrap();
        bob.register().await;
        let mut texts = bob.texts(3).await;
        texts.sort();
        assert_eq!(texts, ["one", "three", "two"]);
        world.until_settled().await;
        assert_eq!(bob.unread_texts(), [""; 0]);
    });
}

#[test]
fn a_device_is_not_told_who_wants_to_be_private() {
    for (few, wrap) in [(3, true), (0, true), (0, false)] {
        setting().settings(&format!("few = {few}")).tell(async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let private = vec![
                ("Privacy".to_owned(), "id".to_owned()),
                ("P-Asserted-Identity".to_owned(), "<sip:alice@example.org>".to_owned()),
            ];
            let message = PageMessage {
                fields: private,
                from: Some("sip:anonymous@anonymous.invalid".to_owned()),
                wrap,
                ..PageMessage::text(bob.address(), "guess who")
            };
            alice.send_message(message).await;
            bob.register().await;
            let received = bob.received().await;
            let said = format!("{:?}", received.sip_fields);
            assert!(!said.contains("alice"), "few = {few}: {said}");
            // In a session it is the CPIM that says who sent it, and the server's where none came.
            assert_eq!(received.sender, "sip:anonymous@anonymous.invalid", "few = {few}, wrap = {wrap}");
            assert_eq!(received.sip_field("P-Asserted-Identity"), None);
            assert_eq!(received.sip_field("Referred-By"), None);
            world.until_settled().await;
        });
    }
}
