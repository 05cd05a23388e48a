//! Kamailio and the server end and are started again in the middle: what was accepted comes out once.

use std::collections::HashSet;

use restante_client::{ClientEvent, ReceivedMessage};
use restante_tests::Person;

use crate::behind::{Behind, behind};
use crate::kamailio::Configuration;

const REGISTRAR: &str = "kamailio-registrar";
const IN_FRONT: &str = "kamailio-in-front";
const BOB: &str = "sip:bob@example.org";
/// Everything goes in page mode, one request a message.
const PAGES: &str = "few = 100";

#[test]
fn nothing_is_lost_or_repeated_when_both_are_killed_while_messages_come() {
    for name in [REGISTRAR, IN_FRONT] {
        behind(Configuration::of(name), PAGES, async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let mut sent = Vec::new();
            say(&alice, 0..10, &mut sent).await;
            // A message that is under way when the server is gone: Kamailio repeats it until it is there again.
            world.kill_restante();
            sent.push("10".to_owned());
            let (taken, ()) = tokio::join!(alice.send(BOB, "10"), world.start_restante());
            assert_eq!(taken.answer.status, 202, "{name}");
            say(&alice, 11..20, &mut sent).await;
            // And one that is under way when Kamailio is gone: the client repeats it.
            world.kamailio.kill();
            sent.push("20".to_owned());
            let (taken, ()) = tokio::join!(alice.send(BOB, "20"), async {
                world.kamailio.run().expect("Kamailio starts again");
            });
            assert_eq!(taken.answer.status, 202, "{name}");
            say(&alice, 21..30, &mut sent).await;
            assert_eq!(world.queue().await.len(), 30, "{name}");
            world.kill_restante();
            world.restart_kamailio();
            world.start_restante().await;
            bob.register().await;
            received(world, &mut bob, &sent, name).await;
        });
    }
}

#[test]
fn nothing_is_lost_when_kamailio_is_killed_while_messages_go_out() {
    for name in [REGISTRAR, IN_FRONT] {
        behind(Configuration::of(name), PAGES, async |world| {
            let GoingOut { mut bob, sent, mut came } = going_out(world).await;
            world.restart_kamailio();
            // Where Kamailio keeps registrations in memory, Bob is not there for it before he registers again.
            bob.register().await;
            world.until_waiting("nothing", |waiting| waiting == 0).await;
            came.extend(rest(&mut bob));
            count(name, &sent, &came, 1);
        });
    }
}

#[test]
fn nothing_is_lost_when_the_server_is_killed_while_messages_go_out() {
    for name in [REGISTRAR, IN_FRONT] {
        behind(Configuration::of(name), PAGES, async |world| {
            let GoingOut { mut bob, sent, mut came } = going_out(world).await;
            world.kill_restante();
            world.start_restante().await;
            world.until_waiting("nothing", |waiting| waiting == 0).await;
            came.extend(rest(&mut bob));
            // What was acknowledged and not off the disk yet comes again, and is recognised: on a slow disk some.
            count(name, &sent, &came, sent.len());
        });
    }
}

/// A registration that comes while the server is away is told to it when it is back.
#[test]
fn kamailio_tells_again_who_is_there_until_the_server_heard_it() {
    behind(Configuration::of(REGISTRAR), PAGES, async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let mut sent = Vec::new();
        say(&alice, 0..3, &mut sent).await;
        world.kill_restante();
        bob.register().await;
        world.start_restante().await;
        received(world, &mut bob, &sent, REGISTRAR).await;
    });
}

/// Thirty messages, of which the first were received and the rest are under way.
struct GoingOut {
    bob: Person,
    sent: Vec<String>,
    came: Vec<ReceivedMessage>,
}

async fn going_out(world: &mut Behind) -> GoingOut {
    let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let mut sent = Vec::new();
    say(&alice, 0..30, &mut sent).await;
    bob.register().await;
    let came = first(&mut bob, 5).await;
    GoingOut { bob, sent, came }
}

async fn say(alice: &Person, numbers: std::ops::Range<usize>, sent: &mut Vec<String>) {
    for number in numbers {
        let text = number.to_string();
        alice.send(BOB, &text).await;
        sent.push(text);
    }
}

/// All of it came, once and in order, and nothing waits.
async fn received(world: &Behind, bob: &mut Person, sent: &[String], name: &str) {
    let mut came = first(bob, sent.len()).await;
    world.until_waiting("nothing", |waiting| waiting == 0).await;
    came.extend(rest(bob));
    assert!(came.iter().map(|it| it.text()).eq(sent.iter().map(|text| Some(text.as_str()))), "{name}: {came:?}");
    count(name, sent, &came, 0);
}

async fn first(bob: &mut Person, count: usize) -> Vec<ReceivedMessage> {
    let mut came = Vec::new();
    for _ in 0..count {
        came.push(bob.received().await);
    }
    came
}

fn rest(bob: &mut Person) -> Vec<ReceivedMessage> {
    let message = |event| match event {
        ClientEvent::Received(message) => Some(*message),
        _ => None,
    };
    bob.unread().into_iter().filter_map(message).collect()
}

/// Nothing is lost; what came twice the client could tell, by its Message-ID, and it is no more than this.
fn count(name: &str, sent: &[String], came: &[ReceivedMessage], most_repeated: usize) {
    let different: HashSet<&str> = came.iter().filter_map(ReceivedMessage::text).collect();
    let lost = sent.iter().filter(|text| !different.contains(text.as_str())).count();
    let repeated = came.len() - different.len();
    eprintln!("{name}: sent {}, lost {lost}, repeated {repeated}", sent.len());
    let recognised = came.iter().filter(|message| message.repeated).count();
    assert_eq!((lost, recognised), (0, repeated), "{name}: {came:?}");
    assert!(repeated <= most_repeated, "{name}: {repeated} repeated: {came:?}");
}
