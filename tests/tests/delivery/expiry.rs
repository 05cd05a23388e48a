//! Messages whose time is up.

use std::time::{Duration, SystemTime};

use restante_client::PageMessage;
use restante_cpim::imdn::{Disposition, DispositionNotification};
use restante_tests::{setting, story};

/// A message that is kept for a few seconds from when it comes: what has a Date and comes late may not wait any more.
fn brief(text: &str) -> PageMessage {
    let fields = vec![("Expires".to_owned(), "4".to_owned())];
    PageMessage { fields, ..PageMessage::text("sip:bob@example.org", text) }
}

#[test]
fn a_sender_who_asked_is_told_that_nobody_came_in_time() {
    story(async |world| {
        let mut alice = world.person("alice").await;
        alice.register().await;
        let notifications = DispositionNotification { negative_delivery: true, ..Default::default() };
        let sent = alice.send_message(PageMessage { notifications, ..brief("now or never") }).await;
        assert_eq!(alice.disposition().await, (sent.message_id, Disposition::DeliveryFailed));
        world.until_settled().await;
        world.until_counted("restante_messages_expired_total", 1).await;
        // Who comes too late gets nothing.
        let mut bob = world.person("bob").await;
        bob.register().await;
        alice.send(bob.address(), "late").await;
        assert_eq!(bob.texts(1).await, ["late"]);
    });
}

#[test]
fn a_sender_who_did_not_ask_is_told_nothing() {
    story(async |world| {
        let mut alice = world.person("alice").await;
        alice.register().await;
        alice.send_message(brief("brief")).await;
        world.until_waiting(0).await;
        alice.send(alice.address(), "nothing came in between").await;
        assert_eq!(alice.texts(1).await, ["nothing came in between"]);
        assert_eq!(alice.unread().len(), 0);
    });
}

#[test]
fn the_senders_wish_is_cut_by_the_operator_and_filled_in_where_there_is_none() {
    setting().settings("default_keep_seconds = 100\nmax_keep_seconds = 1000").tell(async |world| {
        let alice = world.person("alice").await;
        for (asked, expected) in [(Some(500), 500), (Some(5_000), 1_000), (None, 100)] {
            let message =
                PageMessage { expires_seconds: asked, ..PageMessage::text("sip:bob@example.org", "how long") };
            alice.send_message(message).await;
            let stored = world.queue().pop().expect("it waits");
            let kept = stored.message.expires_at.since(stored.message.received_at);
            let kept = Duration::from_millis(kept.0).as_secs();
            // Date has whole seconds, and a busy machine takes some to send.
            assert!((expected - 30..=expected).contains(&kept), "{asked:?}: {kept} s instead of {expected} s");
        }
    });
}

#[test]
fn what_may_not_wait_is_tried_now_or_refused() {
    story(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let now =
            |text: &str| PageMessage { expires_seconds: Some(0), ..PageMessage::text("sip:bob@example.org", text) };
        assert_eq!(alice.try_send(now("nobody is there")).await.answer.status, 480);
        assert_eq!(world.queue().len(), 0);
        bob.register().await;
        // The device's own answer; again where the machine stood still for longer than a sender is kept waiting.
        let mut status = 480;
        for _ in 0..3 {
            if status == 480 {
                status = alice.try_send(now("somebody is")).await.answer.status;
                assert_eq!(bob.texts(1).await, ["somebody is"]);
            }
        }
        assert_eq!(status, 200);
        assert_eq!(world.queue().len(), 0);
    });
}

#[test]
fn a_delivered_message_says_what_is_left_of_its_life() {
    story(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let message = PageMessage { expires_seconds: Some(600), ..PageMessage::text(bob.address(), "ten minutes") };
        alice.send_message(message).await;
        bob.register().await;
        let received = bob.received().await;
        let expires: u64 = received.sip_field("Expires").expect("Expires").parse().expect("a number");
        let date = restante_sip::header::parse_date(received.sip_field("Date").expect("Date")).expect("a date");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        assert!((now - 60..=now).contains(&date), "{date} at {now}");
        assert!((500..=600).contains(&expires), "{expires}");
        world.until_settled().await;
    });
}
