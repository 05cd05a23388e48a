//! Large messages, in and out by INVITE and MSRP.

use bytes::Bytes;
use restante_client::{Behaviour, Content, LargeMessage, Mode, SetupChoice, Source, Storage};
use restante_tests::{Person, World, pattern, setting, story};
use restante_transport::Protocol;

fn large(to: &str, content: &Bytes) -> LargeMessage {
    LargeMessage::new(to, "application/octet-stream", Source::Bytes(content.clone()))
}

async fn send_large(sender: &Person, message: LargeMessage) -> restante_client::LargeOutcome {
    let outcome = sender.client.send_large(message).await.expect("an answer to INVITE");
    assert!(outcome.accepted, "{outcome:?}");
    outcome
}

#[test]
fn twenty_megabytes_go_from_file_to_file() {
    story(async |world| {
        let (source, inbox) = (world.directory().join("source"), world.directory().join("inbox"));
        std::fs::write(&source, pattern(20_000_000)).unwrap();
        std::fs::create_dir(&inbox).unwrap();
        let alice = world.person("alice").await;
        let mut bob = world.person_with("bob", |it| it.storage = Storage::Directory(inbox)).await;
        let message = LargeMessage::new(bob.address(), "video/mp4", Source::File(source));
        let sent = send_large(&alice, message).await;
        world.until_waiting(1).await;
        assert_eq!(world.spooled(), 1);
        bob.register().await;
        let received = bob.received().await;
        assert_eq!((received.sha256, received.size, received.mode), (sent.sha256, 20_000_000, Mode::Push));
        assert_eq!((received.message_id, received.content_type.as_str()), (Some(sent.message_id), "video/mp4"));
        world.until_settled().await;
        restante_tests::until_equal("body files", 0, || world.spooled()).await;
    });
}

#[test]
fn a_large_message_arrives_whoever_connects() {
    let sides = [SetupChoice::Active, SetupChoice::Passive];
    for (from, to, transport) in [
        (sides[0], sides[0], Protocol::Udp),
        (sides[0], sides[1], Protocol::Tcp),
        (sides[1], sides[0], Protocol::Tcp),
        (sides[1], sides[1], Protocol::Udp),
    ] {
        story(async |world| {
            let alice = world
                .person_with("alice", |it| {
                    it.setup = from;
                    it.transport = transport;
                })
                .await;
            let mut bob = world
                .person_with("bob", |it| {
                    it.setup = to;
                    it.transport = transport;
                })
                .await;
            let content = pattern(300_000);
            send_large(&alice, large(bob.address(), &content)).await;
            bob.register().await;
            let received = bob.received().await;
            assert_eq!(received.content, Content::Memory(content), "{from:?} {to:?}");
            world.until_settled().await;
        });
    }
}

#[test]
fn what_came_in_a_session_and_is_small_goes_out_in_page_mode() {
    story(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let message = LargeMessage::new(bob.address(), "text/plain", Source::Bytes(Bytes::from_static(b"small")));
        send_large(&alice, message).await;
        assert_eq!(world.spooled(), 0);
        bob.register().await;
        let received = bob.received().await;
        assert_eq!((received.text(), received.mode), (Some("small"), Mode::Page));
        world.until_settled().await;
    });
}

#[test]
fn a_large_message_that_the_client_breaks_off_comes_again_whole() {
    setting().settings("retry_seconds = [1, 1, 1]").allow_objections().tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        let content = pattern(500_000);
        let sent = send_large(&alice, large(bob.address(), &content)).await;
        let breaks = Behaviour { break_after_bytes: Some(100_000), ..Behaviour::default() };
        bob.client.set_behaviour(breaks).await.unwrap();
        bob.register().await;
        let received = bob.received().await;
        assert_eq!((received.sha256, received.message_id), (sent.sha256, Some(sent.message_id)));
        world.until_settled().await;
        let invites = bob.wire.received_once("INVITE");
        assert!(invites.len() >= 2);
        assert!(invites.iter().all(|it| it.exchange == received.call_id), "one Call-ID for one delivery: {invites:#?}");
        for (invite, number) in invites.iter().zip(1..) {
            assert!(invite.detail.starts_with(&format!("{number} INVITE")), "CSeq rises: {invites:#?}");
        }
    });
}

#[test]
fn a_large_message_that_its_sender_breaks_off_is_not_stored() {
    story(async |world| {
        let alice = world.person("alice").await;
        let message = large("sip:bob@example.org", &pattern(500_000));
        let outcome =
            alice.client.send_large(LargeMessage { break_after_bytes: Some(200_000), ..message }).await.unwrap();
        assert_eq!((outcome.answer.status, outcome.accepted), (200, false));
        world.until_no_session().await;
        restante_tests::until_equal("body files", 0, || world.spooled()).await;
        assert_eq!(world.queue().len(), 0);
        // Sent again it is taken.
        send_large(&alice, large("sip:bob@example.org", &pattern(500_000))).await;
        world.until_waiting(1).await;
    });
}

#[test]
fn the_same_large_message_sent_twice_is_stored_once() {
    story(async |world: &mut World| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        for _ in 0..2 {
            let message = large(bob.address(), &pattern(200_000));
            send_large(&alice, LargeMessage { message_id: Some("same".into()), ..message }).await;
        }
        world.until_waiting(1).await;
        restante_tests::until_equal("body files", 1, || world.spooled()).await;
        bob.register().await;
        bob.received().await;
        world.until_settled().await;
        assert_eq!(bob.unread_texts(), [""; 0]);
    });
}

#[test]
fn the_time_of_an_invitation_is_not_that_of_its_message() {
    setting().settings("default_keep_seconds = 5000").tell(async |world| {
        let alice = world.person("alice").await;
        let message = large("sip:bob@example.org", &pattern(100_000));
        let message = LargeMessage { fields: vec![("Expires".to_owned(), "30".to_owned())], ..message };
        send_large(&alice, message).await;
        world.until_waiting(1).await;
        let stored = world.queue().remove(0).message;
        let kept = stored.expires_at.since(stored.received_at).0 / 1000;
        assert!((4_000..=5_000).contains(&kept), "{kept} s");
    });
}
