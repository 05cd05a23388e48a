//! Large messages that are passed on first, and taken over when nobody takes them.

use restante_client::{Behaviour, Content, LargeMessage, Mode, Scripted, Source};
use restante_sip::message::{Name, SipMessage};
use restante_tests::{Chunk, MsrpReply, RawMsrp, RawSip, Request, pattern};

use crate::{BOB, TRIES, ack_of_refusal, answer, answered, asked, cancel_of, device, give_up, scripted};

fn large(to: &str, content: &bytes::Bytes) -> LargeMessage {
    LargeMessage::new(to, "application/octet-stream", Source::Bytes(content.clone()))
}

/// Acknowledges what was taken over, and ends its session.
async fn end_taken_over(alice: &mut RawSip, invite: &Request, taken: &SipMessage) {
    assert_eq!(taken.status(), Some(200));
    alice.send(&RawMsrp::ack(alice, invite, taken).bytes()).await;
    let bye = RawMsrp::bye(alice, invite, taken);
    assert_eq!(alice.ask(&bye).await.status(), Some(200));
}

#[test]
fn a_device_that_is_there_gets_it_from_the_sender_itself() {
    scripted("incoming = \"relay:15000\"").tell(async |world| {
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
        // No other 200 came before the answer to this; the one may have come twice where its ACK was late.
        let options = alice.request("OPTIONS", BOB);
        alice.send(&options.bytes()).await;
        let call_id = options.field("Call-ID");
        let is_foreign = |it: &SipMessage| it.status() == Some(200) && it.to().unwrap().tag() != Some(tag.as_str());
        let next = alice.expect("an answer", |it| it.call_id() == Some(call_id) || is_foreign(it)).await;
        assert_eq!(next.call_id(), Some(call_id), "one 200: {:?}", next.bytes());
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
        let mut missed = 0;
        loop {
            let invite = RawMsrp::invitation(&alice, BOB);
            alice.send(&invite.bytes()).await;
            let to_phone = asked(&mut phone, "INVITE").await;
            phone.respond(&to_phone, 180).await;
            // Its time is over: the device is being cancelled, and the caller gives up in that moment.
            let cancel = asked(&mut phone, "CANCEL").await;
            assert_eq!(alice.ask(&cancel_of(&invite)).await.status(), Some(200));
            phone.respond(&cancel, 200).await;
            phone.respond(&to_phone, 487).await;
            let answer = alice.answer_to(&invite).await;
            if answer.status() == Some(487) {
                alice.send(&ack_of_refusal(&invite, &answer).bytes()).await;
                break;
            }
            // It lasts for half a second, and a machine stood still.
            end_taken_over(&mut alice, &invite, &answer).await;
            missed += 1;
            assert!(missed < TRIES, "taken over each time");
        }
        world.until_no_session().await;
        assert_eq!(world.metric("restante_take_overs_total", &[]), missed);
    });
}

#[test]
fn a_device_that_takes_it_while_it_is_cancelled_has_it() {
    scripted("incoming = \"relay:2000\"").tell(async |world| {
        let mut phone = device(world, "1.0").await;
        let mut alice = world.udp().await;
        let mut missed = 0;
        loop {
            let invite = RawMsrp::invitation(&alice, BOB);
            alice.send(&invite.bytes()).await;
            let to_phone = asked(&mut phone, "INVITE").await;
            phone.respond(&to_phone, 180).await;
            let cancel = asked(&mut phone, "CANCEL").await;
            answer(&mut phone, &to_phone, 200, "phone").await;
            phone.respond(&cancel, 200).await;
            let taken = alice.answer_to(&invite).await;
            assert_eq!(taken.status(), Some(200));
            if taken.to().unwrap().tag() == Some("phone") {
                break;
            }
            // It has half a second for that, and a machine stood still.
            end_taken_over(&mut alice, &invite, &taken).await;
            let bye = asked(&mut phone, "BYE").await;
            phone.respond(&bye, 200).await;
            missed += 1;
            assert!(missed < TRIES, "taken over each time");
        }
        world.until_no_session().await;
        assert_eq!(world.metric("restante_take_overs_total", &[]), missed);
    });
}
