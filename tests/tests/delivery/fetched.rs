//! Clients that ask for their messages.

use restante_client::{Behaviour, ClientConfiguration, Selection};
use restante_tests::{Person, World, setting, story};

const HOLD: &str = "delivery = \"hold\"";

async fn fetch(bob: &Person, selection: Selection) -> (u16, bool, Vec<String>) {
    let outcome = bob.client.fetch(selection).await.expect("an answer to INVITE");
    let texts = outcome.messages.iter().map(|it| it.text().unwrap_or("(no text)").to_owned()).collect();
    (outcome.answer.status, outcome.orderly, texts)
}

async fn bob_with(world: &mut World, change: impl FnOnce(&mut ClientConfiguration)) -> Person {
    world.person_with("bob", change).await
}

#[test]
fn a_user_who_wants_messages_held_gets_them_when_asking() {
    setting().settings(HOLD).tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        for text in ["one", "two", "three", "four"] {
            alice.send(bob.address(), text).await;
        }
        bob.register().await;
        assert_eq!(fetch(&bob, Selection::All).await, (200, true, vec_of(["one", "two", "three", "four"])));
        world.until_settled().await;
        assert_eq!(bob.texts(4).await, ["one", "two", "three", "four"], "each once");
        assert_eq!(bob.unread_texts(), [""; 0]);
    });
}

#[test]
fn a_client_that_is_not_registered_may_ask_too() {
    story(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "one").await;
        assert_eq!(fetch(&bob, Selection::All).await, (200, true, vec_of(["one"])));
        world.until_settled().await;
    });
}

#[test]
fn nothing_waiting_is_an_answer_and_a_bye() {
    story(async |world| {
        let bob = world.person("bob").await;
        assert_eq!(fetch(&bob, Selection::All).await, (200, true, Vec::new()));
        world.until_no_session().await;
    });
}

#[test]
fn the_users_own_address_with_the_deferred_service_fetches_too() {
    setting().settings(HOLD).tell(async |world| {
        let alice = world.person("alice").await;
        let bob = bob_with(world, |it| it.deferred_uri = Some("sip:bob@example.org".to_owned())).await;
        alice.send(bob.address(), "one").await;
        bob.register().await;
        assert_eq!(fetch(&bob, Selection::All).await, (200, true, vec_of(["one"])));
        world.until_settled().await;
    });
}

#[test]
fn the_uri_to_fetch_from_is_the_operators_choice() {
    setting().tenant(|tenant| tenant.deferred_user = "mailbox".to_owned()).tell(async |world| {
        let alice = world.person("alice").await;
        let bob = bob_with(world, |it| it.deferred_uri = Some("sip:mailbox@example.org".to_owned())).await;
        alice.send(bob.address(), "one").await;
        assert_eq!(fetch(&bob, Selection::All).await, (200, true, vec_of(["one"])));
        world.until_settled().await;
    });
}

#[test]
fn what_is_not_there_is_left_out_of_what_was_asked_for() {
    setting().settings(HOLD).tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        alice.send(bob.address(), "one").await;
        alice.send("sip:carol@example.org", "not for bob").await;
        let ids: Vec<String> = world.queue().iter().map(|it| it.id.0.to_string()).collect();
        let unknown = Selection::Ids(vec!["999999".into(), "no-number".into(), ids[1].clone()]);
        assert_eq!(fetch(&bob, unknown).await, (200, true, Vec::new()));
        let mixed = Selection::Ids(vec!["999999".into(), ids[0].clone(), ids[1].clone()]);
        assert_eq!(fetch(&bob, mixed).await, (200, true, vec_of(["one"])));
        world.until_waiting(1).await;
        assert_eq!(&*world.queue()[0].message.recipient.address.0, "sip:carol@example.org");
    });
}

#[test]
fn what_a_client_breaks_off_can_be_fetched_again() {
    setting().settings(HOLD).allow_objections().tell(async |world| {
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        for text in ["one", "two", "three"] {
            alice.send(bob.address(), text).await;
        }
        let part = Behaviour { acknowledge_only: Some(1), ..Behaviour::default() };
        bob.client.set_behaviour(part).await.unwrap();
        // Its connection stays without answers until the server gives up; the client ends it before that.
        let (client, bob_fetches) = (bob.client.clone(), bob.client.fetch(Selection::All));
        let first = tokio::join!(bob_fetches, async {
            world.until_waiting(2).await;
            client.stop().await;
        });
        drop(first);
        world.until_no_session().await;
        let again = world.person("bob").await;
        assert_eq!(fetch(&again, Selection::All).await, (200, true, vec_of(["two", "three"])));
        world.until_settled().await;
    });
}

fn vec_of<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}
