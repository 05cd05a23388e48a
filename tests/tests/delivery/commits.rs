//! Nothing is promised before it is durable: commits that are held back hold back the answers that depend on them.

use std::time::Duration;

use restante_deferral::commit::CommitError;
use restante_sip::message::SipMessage;
use restante_tests::{Chunk, MsrpReply, RawMsrp, RawSip, World, setting, until_equal};
use restante_transport::Protocol;

const BOB: &str = "sip:bob@example.org";
const CPIM: &str = "From: <sip:alice@example.org>\r\nTo: <sip:bob@example.org>\r\nDateTime: 2024-01-01T00:00:00Z\r\n\
    NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: held\r\n\r\nContent-Type: text/plain\r\n\r\nheld";

/// What the server would have sent by now has come: it answers this behind everything before.
async fn barrier(socket: &mut RawSip) {
    let options = socket.request("OPTIONS", BOB);
    assert_eq!(socket.ask(&options).await.status(), Some(200));
}

async fn socket(world: &World, transport: Protocol) -> RawSip {
    match transport {
        Protocol::Udp => world.udp().await,
        _ => world.tcp().await,
    }
}

async fn until_held(world: &World, orders: usize) {
    until_equal("orders that are held back", orders, || world.held().waiting()).await;
}

#[test]
fn no_202_before_the_commit_and_one_right_after_it() {
    for transport in [Protocol::Udp, Protocol::Tcp] {
        setting().held().tell(async |world| {
            let mut alice = socket(world, transport).await;
            world.held().hold();
            let message = alice.request("MESSAGE", BOB).text("not before");
            alice.send(&message.bytes()).await;
            until_held(world, 1).await;
            barrier(&mut alice).await;
            assert_eq!((alice.unread(), world.queue().len()), (vec![], 0));
            world.held().release();
            assert_eq!(alice.answer_to(&message).await.status(), Some(202));
            assert_eq!(world.queue().len(), 1);
        });
    }
}

#[test]
fn retransmissions_are_absorbed_while_the_commit_is_held_and_answered_after_it() {
    setting().held().tell(async |world| {
        let mut alice = world.udp().await;
        world.held().hold();
        let message = alice.request("MESSAGE", BOB).text("again and again");
        alice.send(&message.bytes()).await;
        until_held(world, 1).await;
        // Also while the disk is so late that nothing new is taken.
        world.held().pretend_age(Duration::from_secs(60));
        for _ in 0..4 {
            alice.send(&message.bytes()).await;
        }
        barrier(&mut alice).await;
        assert_eq!((alice.unread(), world.held().waiting()), (vec![], 1));
        world.held().release();
        assert_eq!(alice.answer_to(&message).await.status(), Some(202));
        alice.send(&message.bytes()).await;
        assert_eq!(alice.answer_to(&message).await.status(), Some(202), "the transaction answers its retransmissions");
        barrier(&mut alice).await;
        assert_eq!((alice.unread(), world.queue().len()), (vec![], 1));
    });
}

#[test]
fn the_same_message_in_another_transaction_waits_for_the_same_commit() {
    setting().held().tell(async |world| {
        let mut alice = world.udp().await;
        world.held().hold();
        let message = alice.request("MESSAGE", BOB).body("message/cpim", CPIM);
        let again = alice.request("MESSAGE", BOB).body("message/cpim", CPIM);
        alice.send(&message.bytes()).await;
        until_held(world, 1).await;
        alice.send(&again.bytes()).await;
        barrier(&mut alice).await;
        assert_eq!(alice.unread(), [""; 0]);
        world.held().release();
        assert_eq!(alice.answer_to(&message).await.status(), Some(202));
        assert_eq!(alice.answer_to(&again).await.status(), Some(202));
        assert_eq!(world.queue().len(), 1);
    });
}

#[test]
fn a_commit_that_fails_is_an_answer_and_nothing_is_stored() {
    let cases = [
        (CommitError::Overloaded, 503, Some("5")),
        (CommitError::Full, 503, Some("5")),
        (CommitError::Failed, 500, None),
    ];
    for (error, expected, retry_after) in cases {
        setting().held().tell(async |world| {
            let mut alice = world.udp().await;
            world.held().refuse(Some(error));
            let message = alice.request("MESSAGE", BOB).text("no room");
            let answer = alice.ask(&message).await;
            assert_eq!(
                (answer.status(), answer.header_by_text("Retry-After")),
                (Some(expected), retry_after),
                "{error}"
            );
            assert_eq!(world.queue().len(), 0);
            world.held().refuse(None);
            let later = message.new_transaction();
            assert_eq!(alice.ask(&later).await.status(), Some(202), "{error}");
            assert_eq!(world.queue().len(), 1);
        });
    }
}

#[test]
fn the_last_chunk_of_a_large_message_is_not_acknowledged_before_the_commit() {
    setting().held().tell(async |world| {
        let mut alice = world.udp().await;
        let (mut msrp, ..) = RawMsrp::establish(&mut alice, BOB).await;
        let content = [CPIM.as_bytes(), &b"x".repeat(200_000)].concat();
        let (first, last) = content.split_at(150_000);
        world.held().hold();
        let chunk = |first, content, flag| Chunk {
            message_id: "large",
            first,
            total: 200_000 + CPIM.len(),
            content,
            flag,
            fields: "Success-Report: yes\r\n",
        };
        let transaction = msrp.send_chunk(chunk(1, first, '+')).await;
        assert_eq!(msrp.next().await, MsrpReply::Response(transaction, 200), "a chunk that is not the last");
        let last = msrp.send_chunk(chunk(150_001, last, '$')).await;
        until_held(world, 1).await;
        assert_eq!(world.spooled(), 1, "the file is durable before its row");
        // This is answered behind whatever was said before.
        let empty = msrp.send_empty().await;
        assert_eq!(msrp.next().await, MsrpReply::Response(empty, 200));
        assert_eq!(world.queue().len(), 0);
        world.held().release();
        assert_eq!(msrp.next().await, MsrpReply::Response(last, 200));
        assert_eq!(msrp.next().await, MsrpReply::Request("REPORT".to_owned(), Some("large".to_owned())));
        world.until_waiting(1).await;
    });
}

#[test]
fn a_large_message_whose_commit_fails_is_refused_and_leaves_no_file() {
    for error in [CommitError::Full, CommitError::Failed] {
        setting().held().tell(async |world| {
            let mut alice = world.udp().await;
            let (mut msrp, invite, answer) = RawMsrp::establish(&mut alice, BOB).await;
            world.held().refuse(Some(error));
            let content = [CPIM.as_bytes(), &b"x".repeat(200_000)].concat();
            let transaction = msrp.send_chunk(Chunk::whole("large", &content)).await;
            match msrp.next().await {
                MsrpReply::Response(id, status) => assert!(id == transaction && status >= 400, "{error}: {status}"),
                other => panic!("{error}: {other:?}"),
            }
            until_equal("body files", 0, || world.spooled()).await;
            assert_eq!(world.queue().len(), 0);
            let bye = RawMsrp::bye(&alice, &invite, &answer);
            assert_eq!(alice.ask(&bye).await.status(), Some(200));
            drop(msrp);
            world.until_no_session().await;
        });
    }
}

#[test]
fn a_registration_is_not_confirmed_before_its_commit() {
    setting().held().tell(async |world| {
        let mut bob = world.udp().await;
        world.held().hold();
        let register = bob
            .request("REGISTER", "sip:example.org")
            .set("From", "<sip:bob@example.org>;tag=1")
            .set("To", "<sip:bob@example.org>")
            .with("Contact", &format!("<sip:bob@{}>;expires=600", bob.local()));
        bob.send(&register.bytes()).await;
        until_held(world, 1).await;
        barrier(&mut bob).await;
        assert_eq!(bob.unread(), [""; 0]);
        world.held().release();
        assert_eq!(bob.answer_to(&register).await.status(), Some(200));
        world.held().refuse(Some(CommitError::Full));
        let refresh = register.new_transaction().set("CSeq", "2 REGISTER");
        let answer: SipMessage = bob.ask(&refresh).await;
        assert_eq!((answer.status(), answer.header_by_text("Retry-After")), (Some(503), Some("5")));
    });
}

#[test]
fn a_delivery_begins_after_the_commit_also_for_somebody_who_is_there() {
    setting().held().tell(async |world| {
        let mut bob = world.person("bob").await;
        bob.register().await;
        let mut alice = world.udp().await;
        world.held().hold();
        let message = alice.request("MESSAGE", BOB).text("store first");
        alice.send(&message.bytes()).await;
        until_held(world, 1).await;
        barrier(&mut alice).await;
        assert_eq!(bob.wire.received("MESSAGE").len(), 0);
        world.held().release();
        assert_eq!(bob.texts(1).await, ["store first"]);
        world.until_settled().await;
    });
}

#[test]
fn a_server_whose_disk_is_late_says_so_at_once() {
    setting().held().tell(async |world| {
        let mut alice = world.udp().await;
        world.held().pretend_age(Duration::from_secs(60));
        let message = alice.request("MESSAGE", BOB).text("too much");
        let answer = alice.ask(&message).await;
        assert_eq!((answer.status(), answer.header_by_text("Retry-After")), (Some(503), Some("5")));
        // Who can be reached is still taken note of: it is what empties the queues.
        let register = alice
            .request("REGISTER", "sip:example.org")
            .set("To", "<sip:alice@example.org>")
            .with("Contact", &format!("<sip:alice@{}>;expires=600", alice.local()));
        assert_eq!(alice.ask(&register).await.status(), Some(200));
        world.held().pretend_age(Duration::ZERO);
        assert_eq!(alice.ask(&message.new_transaction()).await.status(), Some(202));
    });
}
