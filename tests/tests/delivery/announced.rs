//! Messages that are announced, and fetched or not.

use restante_client::{Features, Mode, PageMessage, Selection};
use restante_tests::setting;

/// Everything is announced.
const PULL: &str = "delivery = \"pull\"\nfew = 0\nfetch_seconds = 600";

#[test]
fn a_client_is_told_what_waits_and_fetches_two_of_three() {
    setting().settings(PULL).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let mut sent = Vec::new();
        for text in ["one", "two", "three"] {
            let message =
                PageMessage { subject: Some(format!("about {text}")), ..PageMessage::text(bob.address(), text) };
            sent.push(alice.send_message(message).await.message_id);
        }
        bob.register().await;
        let summary = bob.summary().await;
        assert!(summary.messages_waiting);
        let listed: Vec<&str> = summary.messages.iter().map(|it| it.from.as_str()).collect();
        assert_eq!(listed, ["<sip:alice@example.org>"; 3], "{summary:#?}");
        assert_eq!(bob.wire.received("INVITE").len(), 0, "nothing is pushed");
        let chosen = [0, 2].map(|at: usize| summary.messages[at].message_id.clone());
        let fetched = bob.client.fetch(Selection::Ids(chosen.to_vec())).await.unwrap();
        assert_eq!((fetched.answer.status, fetched.orderly), (200, true));
        let texts: Vec<_> = fetched.messages.iter().map(|it| it.text().unwrap().to_owned()).collect();
        assert_eq!(texts, ["one", "three"]);
        assert!(fetched.messages.iter().all(|it| it.mode == Mode::Fetch));
        world.until_waiting(1).await;
        world.until_no_session().await;
        let rest = bob.client.fetch(Selection::All).await.unwrap();
        assert_eq!(rest.messages.len(), 1);
        assert_eq!(rest.messages[0].message_id.as_ref(), Some(&sent[1]));
        world.until_settled().await;
    });
}

#[test]
fn a_few_messages_come_directly_also_to_a_client_that_pulls() {
    setting().settings("delivery = \"pull\"").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        for text in ["one", "two", "three"] {
            alice.send(bob.address(), text).await;
        }
        bob.register().await;
        for text in ["one", "two", "three"] {
            let message = bob.received().await;
            assert_eq!((message.text(), message.mode), (Some(text), Mode::Page));
        }
        world.until_settled().await;
        assert_eq!(bob.unread().len(), 0, "no summary");
    });
}

#[test]
fn a_client_that_was_told_and_never_fetches_is_sent_the_messages_in_the_end() {
    setting().settings("delivery = \"pull\"\nfetch_seconds = 1").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        for text in ["one", "two", "three", "four"] {
            alice.send(bob.address(), text).await;
        }
        bob.register().await;
        assert_eq!(bob.summary().await.messages.len(), 4);
        for text in ["one", "two", "three", "four"] {
            let message = bob.received().await;
            assert_eq!((message.text(), message.mode), (Some(text), Mode::Push));
        }
        world.until_settled().await;
    });
}

#[test]
fn a_client_that_takes_no_announcement_is_sent_the_messages() {
    setting().settings(PULL).tell(async |world| {
        let alice = world.person("alice").await;
        let features = Features { accepts_summary: false, ..Features::default() };
        let mut bob = world.person_with("bob", |it| it.features = features).await;
        alice.send(bob.address(), "without a word").await;
        bob.register().await;
        assert_eq!(bob.received().await.mode, Mode::Push);
        world.until_settled().await;
    });
}

#[test]
fn a_subscriber_is_told_the_state_at_once_and_what_comes_in_a_notify() {
    setting().settings(PULL).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        let answer = bob.client.subscribe_message_summary(600).await.unwrap();
        assert_eq!(answer.status, 200);
        let first = bob.summary().await;
        assert!(!first.messages_waiting);
        alice.send(bob.address(), "in a while").await;
        let (summary, by_notify, subscribed) = bob
            .expect("a summary", |event| match event {
                restante_client::ClientEvent::Summary { summary, by_notify, subscribed, .. } => {
                    Some((summary.clone(), *by_notify, *subscribed))
                }
                _ => None,
            })
            .await;
        assert_eq!((by_notify, subscribed, summary.messages.len()), (true, true, 1));
        assert_eq!(bob.wire.received("MESSAGE").len(), 0);
        let ended = bob.client.subscribe_message_summary(0).await.unwrap();
        assert_eq!(ended.status, 200);
        bob.expect("the end of the subscription", |event| {
            matches!(event, restante_client::ClientEvent::SubscriptionEnded { .. }).then_some(())
        })
        .await;
        // Without it the next one is told by MESSAGE.
        alice.send(bob.address(), "another").await;
        bob.expect("a summary by MESSAGE", |event| match event {
            restante_client::ClientEvent::Summary { by_notify: false, summary, .. } => Some(summary.clone()),
            _ => None,
        })
        .await;
    });
}

#[test]
fn a_notify_outside_of_a_subscription_is_sent_only_where_the_operator_says_so() {
    let place = setting().settings(PULL).tenant(|tenant| tenant.unsolicited_notify = true);
    place.tell(async |world| {
        let alice = world.person("alice").await;
        let features = Features { accepts_summary: false, ..Features::default() };
        let mut bob = world.person_with("bob", |it| it.features = features).await;
        alice.send(bob.address(), "told anyway").await;
        bob.register().await;
        assert_eq!(bob.summary().await.messages.len(), 1);
        assert_eq!((bob.wire.received_once("NOTIFY").len(), bob.wire.received("MESSAGE").len()), (1, 0));
    });
}

#[test]
fn a_summary_does_not_tell_who_wants_to_be_private() {
    setting().settings(PULL).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let private = vec![("Privacy".to_owned(), "id".to_owned())];
        alice.send_message(PageMessage { fields: private, ..PageMessage::text(bob.address(), "guess who") }).await;
        alice.send(bob.address(), "it was me").await;
        bob.register().await;
        let summary = bob.summary().await;
        let from: Vec<&str> = summary.messages.iter().map(|it| it.from.as_str()).collect();
        assert_eq!(from, ["", "<sip:alice@example.org>"]);
    });
}

#[test]
fn what_the_user_prefers_wins_unless_the_operator_says_otherwise() {
    for (precedence, expected) in [("user", Mode::Page), ("operator", Mode::Fetch)] {
        let settings = format!("{PULL}\nprecedence = {precedence:?}");
        setting().settings(&settings).tell(async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let push = restante_deferral::model::ProfileChange {
                delivery: Some(Some(restante_deferral::model::Delivery::Push)),
                ..Default::default()
            };
            world.shared().change_profile(&world.recipient(bob.address()), push, None).await.unwrap();
            alice.send(bob.address(), "how").await;
            bob.register().await;
            if expected == Mode::Fetch {
                bob.summary().await;
                assert_eq!(bob.client.fetch(Selection::All).await.unwrap().messages.len(), 1);
            } else {
                assert_eq!(bob.received().await.mode, Mode::Push);
            }
            world.until_settled().await;
        });
    }
}
