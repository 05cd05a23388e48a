//! `on-pull`: in a session, in page mode, with a copy kept, refused.

use restante_client::{Mode, Selection};
use restante_tests::in_time;

use crate::scripted;

#[test]
fn a_fetch_may_be_answered_in_page_mode() {
    scripted("available = \"hold\"\npull = \"page\"").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        for text in ["one", "two"] {
            alice.send(bob.address(), text).await;
        }
        bob.register().await;
        let fetched = in_time("an answer", bob.client.fetch(Selection::All)).await.expect("an answer");
        assert_eq!((fetched.answer.status, fetched.messages.len(), fetched.orderly), (200, 0, true));
        for text in ["one", "two"] {
            let message = bob.received().await;
            assert_eq!((message.text(), message.mode), (Some(text), Mode::Page));
        }
        world.until_settled().await;
    });
}

#[test]
fn a_copy_that_is_kept_is_there_for_another_device() {
    scripted("available = \"hold\"\npull = \"copy\"").tell(async |world| {
        let alice = world.person("alice").await;
        let (phone, tablet) = (world.person("bob").await, world.person("bob").await);
        alice.send("sip:bob@example.org", "for both").await;
        for (device, expected) in [(&phone, 1), (&tablet, 1)] {
            device.register().await;
            let fetched = in_time("an answer", device.client.fetch(Selection::All)).await.expect("an answer");
            assert_eq!((fetched.answer.status, fetched.messages.len()), (200, expected));
            device.unregister().await;
        }
        world.until_no_session().await;
    });
}

#[test]
fn a_refusal_reaches_the_client_as_the_policy_said() {
    scripted("available = \"hold\"\npull = \"refuse:480\"").tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "not now").await;
        bob.register().await;
        let refused = in_time("an answer", bob.client.fetch(Selection::All)).await.expect("an answer").answer;
        assert_eq!((refused.status, refused.field("Retry-After")), (480, Some("17")));
        assert_eq!(world.queue().len(), 1);
        world.until_no_session().await;
    });
}
