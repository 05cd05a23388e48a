//! Kamailio and the server end and are started again in the middle: what was accepted comes out once.

use std::collections::HashSet;

use restante_client::{Behaviour, ClientEvent, LargeMessage, PageMessage, ReceivedMessage, Selection, Source, Storage};
use restante_cpim::imdn::{Disposition, DispositionNotification};
use restante_tests::{Person, pattern, until};

use crate::behind::{Behind, behind};
use crate::kamailio::{Configuration, IN_FRONT, REGISTRAR};

const BOB: &str = "sip:bob@example.org";
/// Everything goes in page mode, one request a message.
const PAGES: &str = "few = 100";
/// Everything goes in sessions.
const SESSIONS: &str = "few = 0";
/// More than can be under way at once, and more than comes before anybody looks.
const LARGE_BYTES: usize = 40_000_000;

#[test]
fn nothing_is_lost_or_repeated_when_both_are_killed_while_messages_come() {
    for name in [REGISTRAR, IN_FRONT] {
        behind(Configuration::of(name), PAGES, async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let mut sent = Vec::new();
            say(&alice, 0..10, &mut sent).await;
            // A message that is under way when the server is gone: Kamailio repeats it until it is there again.
            world.kill_restante();
            let (taken, ()) = tokio::join!(alice.send(BOB, "10"), world.start_restante());
            assert_eq!(taken.answer.status, 202, "{name}");
            sent.push(taken.sha256);
            say(&alice, 11..20, &mut sent).await;
            // And one that is under way when Kamailio is gone: the client repeats it.
            world.kamailio.kill();
            let (taken, ()) = tokio::join!(alice.send(BOB, "20"), async {
                world.kamailio.run().expect("Kamailio starts again");
            });
            assert_eq!(taken.answer.status, 202, "{name}");
            sent.push(taken.sha256);
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

/// What was acknowledged stays delivered, or is recognised; everything else comes in another session.
#[test]
fn nothing_is_lost_when_both_are_killed_in_the_middle_of_a_session() {
    for name in [REGISTRAR, IN_FRONT] {
        behind(Configuration::of(name), SESSIONS, async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let mut sent = Vec::new();
            say(&alice, 0..20, &mut sent).await;
            let picture = LargeMessage::new(BOB, "image/png", Source::Bytes(pattern(300_000)));
            let taken = alice.client.send_large(picture).await.expect("an answer");
            assert!(taken.accepted, "{name}: {taken:?}");
            sent.push(taken.sha256);
            say(&alice, 20..30, &mut sent).await;
            acknowledges(&bob, Some(8)).await;
            bob.register().await;
            let mut came = first(&mut bob, 8).await;
            both_are_killed(world).await;
            acknowledges(&bob, None).await;
            bob.register().await;
            world.until_waiting("nothing", |waiting| waiting == 0).await;
            came.extend(rest(&mut bob));
            count(name, &sent, &came, 8);
        });
    }
}

#[test]
fn a_large_file_comes_whole_when_both_are_killed_while_it_is_on_its_way() {
    for name in [REGISTRAR, IN_FRONT] {
        behind(Configuration::of(name), SESSIONS, async |world| {
            let files = tempfile::tempdir().expect("a temporary directory");
            let alice = world.person("alice").await;
            let mut bob = world.person_with("bob", |it| it.storage = Storage::Directory(files.path().to_owned())).await;
            let file = LargeMessage::new(BOB, "video/mp4", Source::Bytes(pattern(LARGE_BYTES)));
            let taken = alice.client.send_large(file).await.expect("an answer");
            assert!(taken.accepted, "{name}: {taken:?}");
            acknowledges(&bob, Some(0)).await;
            bob.register().await;
            until("some of it", || !bob.wire.received("MSRP").is_empty()).await;
            both_are_killed(world).await;
            acknowledges(&bob, None).await;
            bob.register().await;
            let came = [bob.received().await];
            assert_eq!(came[0].size, LARGE_BYTES as u64, "{name}");
            world.until_waiting("nothing", |waiting| waiting == 0).await;
            count(name, &[taken.sha256], &came, 0);
        });
    }
}

#[test]
fn nothing_is_lost_when_both_are_killed_between_a_notification_and_a_fetch_and_in_the_middle_of_it() {
    for name in [REGISTRAR, IN_FRONT] {
        behind(Configuration::of(name), "delivery = \"pull\"\nfew = 0\nfetch_seconds = 600", async |world| {
            let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let mut sent = Vec::new();
            say(&alice, 0..6, &mut sent).await;
            bob.register().await;
            assert!(bob.summary().await.messages_waiting, "{name}");
            both_are_killed(world).await;
            acknowledges(&bob, Some(2)).await;
            let client = bob.client.clone();
            let (broken, mut came) = tokio::join!(client.fetch(Selection::All), async {
                let came = first(&mut bob, 2).await;
                both_are_killed(world).await;
                came
            });
            assert!(broken.is_ok_and(|fetched| !fetched.orderly), "{name}");
            acknowledges(&bob, None).await;
            let fetched = client.fetch(Selection::All).await.expect("an answer");
            assert_eq!((fetched.answer.status, fetched.orderly), (200, true), "{name}");
            world.until_waiting("nothing", |waiting| waiting == 0).await;
            came.extend(rest(&mut bob));
            count(name, &sent, &came, 2);
        });
    }
}

#[test]
fn a_disposition_comes_to_its_sender_when_both_were_killed_while_it_waited() {
    for name in [REGISTRAR, IN_FRONT] {
        behind(Configuration::of(name), PAGES, async |world| {
            let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
            let notifications = DispositionNotification { positive_delivery: true, ..Default::default() };
            let asked = PageMessage { notifications, ..PageMessage::text(BOB, "did you get it?") };
            let message_id = alice.send_message(asked).await.message_id;
            bob.register().await;
            bob.received().await;
            world.until_metric("restante_messages_stored_total", &[], 2).await;
            world.until_waiting("the disposition alone", |waiting| waiting == 1).await;
            assert_eq!(world.queue().await[0]["kind"], "disposition", "{name}");
            both_are_killed(world).await;
            alice.register().await;
            assert_eq!(alice.disposition().await, (message_id, Disposition::Delivered), "{name}");
            world.until_waiting("nothing", |waiting| waiting == 0).await;
        });
    }
}

async fn both_are_killed(world: &mut Behind) {
    world.kill_restante();
    world.restart_kamailio();
    world.start_restante().await;
}

/// So many messages of a session; none: all.
async fn acknowledges(bob: &Person, acknowledge_only: Option<usize>) {
    let behaviour = Behaviour { acknowledge_only, ..Behaviour::default() };
    bob.client.set_behaviour(behaviour).await.expect("a client that runs");
}

/// Thirty messages, of which the first were received and the rest are under way.
struct GoingOut {
    bob: Person,
    /// SHA-256 of each.
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
        sent.push(alice.send(BOB, &number.to_string()).await.sha256);
    }
}

/// All of it came, once and in order, and nothing waits.
async fn received(world: &Behind, bob: &mut Person, sent: &[String], name: &str) {
    let mut came = first(bob, sent.len()).await;
    world.until_waiting("nothing", |waiting| waiting == 0).await;
    came.extend(rest(bob));
    assert!(came.iter().map(|it| &it.sha256).eq(sent), "{name}: {came:?}");
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
    let different: HashSet<&str> = came.iter().map(|message| message.sha256.as_str()).collect();
    let lost = sent.iter().filter(|sha256| !different.contains(sha256.as_str())).count();
    assert_eq!(different.len(), sent.len().saturating_sub(lost), "{name}: what nobody sent: {came:?}");
    let repeated = came.len() - different.len();
    eprintln!("{name}: sent {}, lost {lost}, repeated {repeated}", sent.len());
    let recognised = came.iter().filter(|message| message.repeated).count();
    assert_eq!((lost, recognised), (0, repeated), "{name}: {came:?}");
    assert!(repeated <= most_repeated, "{name}: {repeated} repeated: {came:?}");
}
