//! What works with a password.

use restante_client::{ClientCredentials, Content, LargeMessage, PageMessage, Selection, Source};
use restante_deferral::model::Verification;
use restante_tests::{pattern, setting, until_equal};

const BOB: &str = "sip:bob@example.org";

#[test]
fn a_message_waits_for_its_recipient_and_both_show_who_they_are() {
    setting().demands_passwords().tell(async |world| {
        let alice = world.outsider("alice").await;
        let mut bob = world.outsider("bob").await;
        alice.send(BOB, "for later").await;
        let stored = &world.queue()[0].message.envelope.sender;
        assert_eq!(stored.address.to_string(), "sip:alice@example.org");
        assert_eq!(stored.verification, Verification::Authenticated);
        bob.register().await;
        assert_eq!(bob.texts(1).await, ["for later"]);
        // What is sent next answers the same challenge, with the next count.
        alice.send(BOB, "at once").await;
        assert_eq!(bob.texts(1).await, ["at once"]);
        bob.unregister().await;
        world.until_settled().await;
        assert_eq!((world.authentications("challenged"), world.authentications("accepted")), (2, 4));
    });
}

#[test]
fn a_client_subscribes_and_fetches_with_its_password() {
    setting().demands_passwords().settings("delivery = \"pull\"").tell(async |world| {
        let alice = world.outsider("alice").await;
        let mut bob = world.outsider("bob").await;
        for text in ["one", "two"] {
            alice.send(BOB, text).await;
        }
        assert!(bob.client.subscribe_message_summary(600).await.unwrap().is_success());
        assert_eq!(bob.summary().await.classes[0].1.new, 2);
        let fetched = bob.client.fetch(Selection::All).await.unwrap();
        assert!(fetched.answer.is_success() && fetched.orderly, "{:?}", fetched.answer);
        assert_eq!(bob.texts(2).await, ["one", "two"]);
        // It subscribes again inside of its dialog, and ends that.
        assert!(bob.client.subscribe_message_summary(0).await.unwrap().is_success());
        world.until_settled().await;
    });
}

#[test]
fn a_large_message_goes_in_with_a_password_and_out_to_who_registered_with_one() {
    setting().demands_passwords().tell(async |world| {
        let alice = world.outsider("alice").await;
        let mut bob = world.outsider("bob").await;
        let content = pattern(200_000);
        let message = LargeMessage::new(BOB, "application/zip", Source::Bytes(content.clone()));
        let outcome = alice.client.send_large(message).await.unwrap();
        assert!(outcome.accepted, "{outcome:?}");
        bob.register().await;
        assert_eq!(bob.received().await.content, Content::Memory(content));
        world.until_settled().await;
        until_equal("body files", 0, || world.spooled()).await;
    });
}

#[test]
fn whoever_comes_from_a_trusted_address_needs_none() {
    setting().demands_passwords().tell(async |world| {
        let alice = world.person("alice").await;
        let mut bob = world.person("bob").await;
        let asserted = ("P-Asserted-Identity".to_owned(), "<sip:carol@example.org>".to_owned());
        let message = PageMessage { fields: vec![asserted], ..PageMessage::text(BOB, "asserted") };
        alice.send_message(message).await;
        assert_eq!(world.queue()[0].message.envelope.sender.address.to_string(), "sip:carol@example.org");
        bob.register().await;
        assert_eq!(bob.texts(1).await, ["asserted"]);
        world.until_settled().await;
        assert_eq!(world.metric("restante_authentications_total", &[]), 0);
    });
}

#[test]
fn somebody_may_stay_unnamed_to_the_recipient_but_not_to_the_server() {
    setting().demands_passwords().tell(async |world| {
        let alice = world.outsider("alice").await;
        let mut bob = world.outsider("bob").await;
        let from = Some("sip:anonymous@anonymous.invalid".to_owned());
        alice.send_message(PageMessage { from, ..PageMessage::text(BOB, "guess who") }).await;
        let sender = &world.queue()[0].message.envelope.sender;
        assert_eq!((sender.address.to_string().as_str(), sender.private), ("sip:alice@example.org", true));
        bob.register().await;
        let received = bob.received().await;
        assert_eq!(received.sip_field("P-Asserted-Identity"), None);
        assert!(received.sip_field("From").unwrap().contains("anonymous.invalid"));
        world.until_settled().await;
    });
}

#[test]
fn a_wrong_password_is_one_failure_for_each_request() {
    setting().demands_passwords().configure(|it| it.limits.max_failed_authentications = 3).tell(async |world| {
        world.give_password("bob").await;
        let wrong = ClientCredentials { username: "bob".to_owned(), password: "wrong".to_owned() };
        let bob = world.outsider_with("bob", |it| it.credentials = Some(wrong)).await;
        for failures in 1..=3 {
            assert_eq!(bob.client.register(600).await.unwrap().status, 401);
            assert_eq!(world.authentications("wrong"), failures);
        }
        assert_eq!(bob.client.register(600).await.unwrap().status, 480);
    });
}

#[test]
fn who_was_right_before_shows_its_password_again_where_the_server_forgot_its_nonce() {
    setting().demands_passwords().tell(async |world| {
        let alice = world.outsider("alice").await;
        alice.send(BOB, "before").await;
        world.restart().await;
        for text in ["after", "and after that"] {
            alice.send(BOB, text).await;
        }
        assert_eq!((world.queue().len(), world.authentications("wrong")), (3, 0));
    });
}

#[test]
fn credentials_outlive_the_server_and_nonces_do_not() {
    setting().demands_passwords().tell(async |world| {
        let alice = world.outsider("alice").await;
        alice.send(BOB, "before").await;
        world.restart().await;
        alice.send(BOB, "after").await;
        assert_eq!((world.authentications("stale"), world.authentications("challenged")), (1, 0));
        assert_eq!(world.queue().len(), 2);
    });
}
