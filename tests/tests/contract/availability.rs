//! `on-available`, `on-failure`: every step of a plan and every action after a failure.

use restante_client::{Behaviour, Mode, PageMessage, Scripted};
use restante_cpim::imdn::{Disposition, DispositionNotification};
use restante_tests::{in_time, until, until_equal};

use crate::scripted;

fn asking(to: &str, text: &str) -> PageMessage {
    let notifications = DispositionNotification { negative_delivery: true, ..DispositionNotification::default() };
    PageMessage { notifications, ..PageMessage::text(to, text) }
}

#[test]
fn one_session_carries_what_the_plan_says_in_its_order() {
    scripted("available = \"session\"").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        for text in ["one", "two", "three"] {
            alice.send(bob.address(), text).await;
        }
        bob.register().await;
        for text in ["one", "two", "three"] {
            let message = bob.received().await;
            assert_eq!((message.text(), message.mode), (Some(text), Mode::Push));
        }
        assert_eq!(bob.session_ended().await.messages, 3);
        world.until_settled().await;
    });
}

#[test]
fn a_step_may_name_the_contact() {
    scripted("available = \"session-to-worst\"").tell(async |world| {
        let alice = world.person("alice").await;
        let (mut first, mut second) = (world.person("bob").await, world.person("bob").await);
        first.register().await;
        second.register().await;
        alice.send("sip:bob@example.org", "to the one that comes last").await;
        assert_eq!(second.texts(1).await, ["to the one that comes last"]);
        world.until_settled().await;
        assert_eq!(first.unread_texts(), [""; 0]);
    });
}

#[test]
fn an_announcement_that_is_not_followed_becomes_a_push() {
    scripted("available = \"notify:1500\"").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "announced").await;
        bob.register().await;
        assert_eq!(bob.summary().await.messages.len(), 1);
        assert_eq!(bob.texts(1).await, ["announced"]);
        world.until_settled().await;
    });
}

#[test]
fn what_a_plan_discards_is_reported_to_who_asked() {
    scripted("available = \"discard\"").tell(async |world| {
        let (mut alice, bob) = (world.person("alice").await, world.person("bob").await);
        let sent = alice.send_message(asking(bob.address(), "unwanted")).await;
        alice.send(bob.address(), "unwanted, and nobody asked").await;
        bob.register().await;
        until_equal("discarded", 2, || world.metric("restante_messages_discarded_total", &[])).await;
        world.until_waiting(1).await;
        // One report, of the message whose sender asked. A plan of hers would discard it as well: it is fetched.
        let fetched =
            in_time("an answer", alice.client.fetch(restante_client::Selection::All)).await.expect("an answer");
        assert_eq!(fetched.answer.status, 200);
        assert_eq!(alice.disposition().await, (sent.message_id, Disposition::DeliveryFailed));
        world.until_settled().await;
        world.until_counted("restante_reports_total", 1).await;
        assert_eq!(alice.unread_texts(), [""; 0]);
    });
}

#[test]
fn what_is_held_stays_until_it_is_asked_for() {
    scripted("available = \"hold\"").tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "held").await;
        bob.register().await;
        until("the policy was asked", || {
            world
                .shared()
                .policies()
                .is_some_and(|host| host.host().statistics().iter().any(|tenant| tenant.hooks[1].asked > 0))
        })
        .await;
        assert_eq!(world.queue().len(), 1);
        let fetched = bob.client.fetch(restante_client::Selection::All).await.expect("an answer");
        assert_eq!((fetched.answer.status, fetched.messages.len()), (200, 1));
        world.until_settled().await;
    });
}

#[test]
fn giving_up_is_believed_after_the_devices_own_word_only() {
    scripted("failure = \"give-up\"").tell(async |world| {
        let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        alice.register().await;
        let behaviour = Behaviour {
            message_answers: [Scripted::Status(486), Scripted::Status(404)].into(),
            ..Behaviour::default()
        };
        bob.client.set_behaviour(behaviour).await.expect("a client that runs");
        let sent = alice.send_message(asking(bob.address(), "given up")).await;
        assert_eq!(bob.scripted().await, ("MESSAGE".to_owned(), Some(486)));
        until("the wrong verdict is counted", || {
            world.metric("restante_policy_fallbacks_total", &["on-failure", "impossible"]) == 1
        })
        .await;
        assert_eq!(world.queue().len(), 1, "a busy device refuses nothing for good");
        bob.unregister().await;
        bob.register().await;
        assert_eq!(bob.scripted().await, ("MESSAGE".to_owned(), Some(404)));
        assert_eq!(alice.disposition().await, (sent.message_id, Disposition::DeliveryFailed));
        world.until_settled().await;
    });
}
