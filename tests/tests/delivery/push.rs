//! Messages that are sent to a client when it becomes available.

use restante_client::Mode;
use restante_tests::story;

#[test]
fn a_message_for_somebody_who_is_away_is_delivered_on_registration() {
    story(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let sent = alice.send(bob.address(), "See you at six").await;
        world.until_waiting(1).await;
        bob.register().await;
        let message = bob.received().await;
        assert_eq!((message.text(), message.mode), (Some("See you at six"), Mode::Page));
        assert_eq!((message.sender.as_str(), message.message_id), (alice.address(), Some(sent.message_id)));
        world.until_settled().await;
    });
}
