//! Large messages that are passed on first, and taken over when nobody takes them.

use restante_client::{Behaviour, Content, LargeMessage, Mode, Scripted, Source};
use restante_sip::message::Name;
use restante_tests::{Chunk, MsrpReply, RawMsrp, pattern};

use crate::{BOB, answer, answered, asked, cancel_of, device, give_up, refused, scripted};

fn large(to: &str, content: &bytes::Bytes) -> LargeMessage {
    LargeMessage::new(to, "application/octet-stream", Source::Bytes(content.clone()))
}

#[test]
fn a_device_that_is_there_gets_it_from_the_sender_itself() {
    scripted("incoming = \"relay:5000\"").tell(async |world| {
        let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
        bob.register().await;
        let content = pattern(300_000);
        let outcome = alice.client.send_large(large(bob.address(), &content)).await.unwrap();
        assert!(outcome.accepted, "{outcome:?}");
        let received = bob.received().await;
        assert_eq!(received.content, Content::Memory(content));
        world.until_no_session().await;
        assert_eq!((world.queue().len(), world.metric("restante_messages_stored_total", &[])), (0, 0));
        assert_eq!(world.spooled(), 0, "no byte of it came here");
    });
}

#[test]
fn what_a_device_refuses_or_does_not_answer_is_taken_over_and_delivered_later() {
    for (scripted_answer, deadline) in
        [(Scripted::Status(486), 10_000), (Scripted::Status(603), 10_000), (Scripted::Silence, 300)]
    {
        scripted(&format!("incoming = \"relay:{deadline}\"\navailable = \"session\"\nfailure = \"retry:1000\"")).tell(
            async |world| {
                let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
                bob.register().await;
                let behaviour = Behaviour { invite_answers: [scripted_answer].into(), ..Behaviour::default() };
                bob.client.set_behaviour(behaviour).await.unwrap();
                let content = pattern(200_000);
                let outcome = alice.client.send_large(large(bob.address(), &content)).await.unwrap();
                assert!(outcome.accepted, "{outcome:?}");
                assert_eq!(world.metric("restante_take_overs_total", &[]), 1);
                let received = bob.received().await;
                assert_eq!((received.content, received.mode), (Content::Memory(content), Mode::Push));
                world.until_settled().await;
            },
        );
    }
}

#[test]
fn the_take_over_comes_after_every_device_was_cancelled_with_a_tag_of_our_own() {
    scripted("incoming = \"relay:2000\"").tell(async |world| {
        let (mut phone, mut silent) = (device(world, "1.0").await, device(world, "1.0").await);
        let mut alice = world.udp().await;
        let invite = RawMsrp::invitation(&alice, BOB);
        let started = std::time::Instant::now();
        alice.send(&invite.bytes()).await;
        answered(&mut alice, 100).await;
        let to_phone = asked(&mut phone, "INVITE").await;
        let to_silent = asked(&mut silent, "INVITE").await;
        phone.respond(&to_phone, 180).await;
        answered(&mut alice, 180).await;
        give_up(&mut phone, &to_phone).await;
        let taken = answered(&mut alice, 200).await;
        assert!(started.elapsed() < std::time::Duration::from_secs(15), "long before the core's Timer B");
        let tag = taken.to().unwrap().tag().unwrap().to_owned();
        assert!(tag != "story" && taken.list(Name::Via).count() == 1, "{:?}", taken.bytes());
        alice.send(&RawMsrp::ack(&alice, &invite, &taken).bytes()).await;
        // The silent one wakes up: it is let go.
        answer(&mut silent, &to_silent, 200, "late").await;
        let ack = asked(&mut silent, "ACK").await;
        assert_eq!(ack.to().unwrap().tag(), Some("late"));
        let bye = asked(&mut silent, "BYE").await;
        silent.respond(&bye, 200).await;
        // And the message comes here.
        let mut msrp = RawMsrp::connect(&taken).await;
        let message = format!(
            "From: <sip:alice@example.org>\r\nTo: <{BOB}>\r\nDateTime: 2024-01-01T00:00:00Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
             imdn.Message-ID: raw\r\n\r\nContent-Type: text/plain\r\n\r\nlarge"
        );
        let transaction = msrp.send_chunk(Chunk::whole("m", message.as_bytes())).await;
        assert_eq!(msrp.next().await, MsrpReply::Response(transaction, 200));
        world.until_waiting(1).await;
        let unread = alice.unread_by_now().await;
        assert!(!unread.iter().any(|line| line.contains("200")), "one 200: {unread:?}");
    });
}

#[test]
fn what_may_not_be_passed_on_any_further_is_taken_over_and_its_session_ends() {
    scripted("incoming = \"relay:5000\"").tell(async |world| {
        let _phone = device(world, "1.0").await;
        let mut alice = world.udp().await;
        for (name, value) in [("Max-Breadth", "0"), ("Max-Forwards", "0")] {
            let invite = RawMsrp::invitation(&alice, BOB).set(name, value);
            alice.send(&invite.bytes()).await;
            let taken = alice.answer_to(&invite).await;
            assert_eq!(taken.status(), Some(200), "{name}: it may be kept where it may not be passed on");
            alice.send(&RawMsrp::ack(&alice, &invite, &taken).bytes()).await;
            let bye = RawMsrp::bye(&alice, &invite, &taken);
            assert_eq!(alice.ask(&bye).await.status(), Some(200));
            world.until_no_session().await;
        }
    });
}

#[test]
fn a_caller_who_gives_up_just_before_is_not_taken_over() {
    scripted("incoming = \"relay:2000\"").tell(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut alice = world.udp().await;
        let invite = RawMsrp::invitation(&alice, BOB);
        alice.send(&invite.bytes()).await;
        let to_phone = asked(&mut phone, "INVITE").await;
        phone.respond(&to_phone, 180).await;
        answered(&mut alice, 180).await;
        // Its time is over: the device is being cancelled, and the caller gives up in that moment.
        let cancel = asked(&mut phone, "CANCEL").await;
        assert_eq!(alice.ask(&cancel_of(&invite)).await.status(), Some(200));
        phone.respond(&cancel, 200).await;
        phone.respond(&to_phone, 487).await;
        assert_eq!(refused(&mut alice, &invite).await.status(), Some(487));
        world.until_no_session().await;
        assert_eq!(world.metric("restante_take_overs_total", &[]), 0);
    });
}

#[test]
fn a_device_that_takes_it_while_it_is_cancelled_has_it() {
    scripted("incoming = \"relay:2000\"").tell(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut alice = world.udp().await;
        let invite = RawMsrp::invitation(&alice, BOB);
        alice.send(&invite.bytes()).await;
        let to_phone = asked(&mut phone, "INVITE").await;
        phone.respond(&to_phone, 180).await;
        let cancel = asked(&mut phone, "CANCEL").await;
        answer(&mut phone, &to_phone, 200, "phone").await;
        phone.respond(&cancel, 200).await;
        assert_eq!(answered(&mut alice, 200).await.to().unwrap().tag(), Some("phone"));
        world.until_no_session().await;
        assert_eq!(world.metric("restante_take_overs_total", &[]), 0);
    });
}
