//! What Restante delivers is not deferred again, whoever brings it back.

use restante_client::{Behaviour, Scripted};

use crate::behind::behind;
use crate::kamailio::Configuration;

const REGISTRAR: &str = "kamailio-registrar";
const BOB: &str = "sip:bob@example.org";
const STORED: &str = "restante_messages_stored_total";
const FAILED: &str = "restante_attempts_failed_total";

#[test]
fn a_delivery_that_the_device_refuses_comes_back_as_an_answer_and_not_as_a_message() {
    behind(Configuration::of(REGISTRAR), "", async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        // Once to Alice's message, once to Restante's delivery of it.
        let behaviour = Behaviour {
            message_answers: [Scripted::Status(480), Scripted::Status(480)].into(),
            ..Behaviour::default()
        };
        bob.client.set_behaviour(behaviour).await.expect("a client that runs");
        alice.send(BOB, "again, please").await;
        world.until_metric(FAILED, &["attempt=\"page\"", "status=\"480\"", "origin=\"core\""], 1).await;
        assert_eq!((world.queue().await.len(), world.metric(STORED, &[]).await), (1, 1));
        bob.register().await;
        assert_eq!(bob.texts(1).await, ["again, please"]);
        world.until_waiting("nothing", |waiting| waiting == 0).await;
        assert_eq!((world.metric(STORED, &[]).await, bob.unread_texts().len()), (1, 0));
    });
}

/// Deliveries go to Kamailio's other side by mistake, where it takes them for anybody's, and hands them back: Restante knows
/// its own.
#[test]
fn a_delivery_that_kamailio_hands_back_is_not_stored_again() {
    behind(Configuration::of(REGISTRAR), "", async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        world.restart_restante_towards(world.kamailio.clients()).await;
        bob.register().await;
        world.until_registered(BOB).await;
        // Kamailio knows nobody any more, Restante knows Bob.
        world.restart_kamailio();
        alice.send(BOB, "round and round").await;
        world.until_metric(FAILED, &["attempt=\"page\"", "origin=\"core\""], 1).await;
        assert_eq!((world.queue().await.len(), world.metric(STORED, &[]).await), (1, 1));
        bob.register().await;
        assert_eq!(bob.texts(1).await, ["round and round"]);
        world.until_waiting("nothing", |waiting| waiting == 0).await;
        assert_eq!((world.metric(STORED, &[]).await, bob.unread_texts().len()), (1, 0));
    });
}
