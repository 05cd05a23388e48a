//! How Restante hears who is there, other than by a third-party REGISTER.

use restante_client::{Behaviour, Scripted};
use restante_tests::free_tcp_port;

use crate::behind::{Behind, behind_with};
use crate::kamailio::{Configuration, REGISTRAR, events_database};

const BOB: &str = "sip:bob@example.org";
const TOKEN: &str = "a token of the story";
const FAILED: &str = "restante_attempts_failed_total";

/// A message waits; Bob comes and gets it, leaves, and is known to be gone.
async fn a_message_is_delivered_upon_register(world: &mut Behind) {
    let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    alice.send(BOB, "while you were away").await;
    world.until_waiting("one message", |waiting| waiting == 1).await;
    bob.register().await;
    assert_eq!(bob.texts(1).await, ["while you were away"]);
    world.until_waiting("nothing", |waiting| waiting == 0).await;
    world.until_registered(BOB).await;
    // A delivery that comes to nothing is tried again with the next news.
    let behaviour = Behaviour { every_message: Some(Scripted::Status(480)), ..Behaviour::default() };
    bob.client.set_behaviour(behaviour).await.expect("a client that runs");
    alice.send(BOB, "again").await;
    // Not before it came to nothing: whoever is gone refuses nothing himself.
    world.until_metric(FAILED, &["attempt=\"page\"", "status=\"480\""], 1).await;
    bob.unregister().await;
    world.until_gone(BOB).await;
    bob.client.set_behaviour(Behaviour::default()).await.expect("a client that runs");
    bob.register().await;
    assert_eq!(bob.texts(1).await, ["again"]);
    world.until_waiting("nothing", |waiting| waiting == 0).await;
}

#[test]
fn a_register_is_told_by_a_request_to_the_administration() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (place, file) = (free_tcp_port(), directory.path().join("token"));
    std::fs::write(&file, TOKEN).expect("a token");
    let configuration = Configuration::of(REGISTRAR).map(|it| {
        it.define("TELL_BY_HTTP")
            .define(&format!("ADMIN_URL=\"http://{place}\""))
            .define(&format!("ADMIN_TOKEN=\"{TOKEN}\""))
    });
    let further = |_: &_| format!("[admin]\nlisten = \"{place}\"\ntoken_file = {:?}\n", file.display().to_string());
    behind_with(configuration, "", further, a_message_is_delivered_upon_register);
}

#[test]
fn a_register_is_told_by_registration_events() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let configuration = Configuration::of(REGISTRAR);
    let configuration = configuration.map(|it| it.define("TELL_BY_REGINFO").define(&events_database(directory.path())));
    let further = |kamailio: &crate::kamailio::Kamailio| {
        format!("[tenants.example.registration_events]\nvia = \"sip:{}\"\n", kamailio.inside())
    };
    behind_with(configuration, "", further, a_message_is_delivered_upon_register);
}
