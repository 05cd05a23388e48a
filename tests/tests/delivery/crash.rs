//! A server that is killed without a word.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use restante_client::{Behaviour, Client, ClientConfiguration, LargeMessage, PageMessage, Scripted, Source};
use restante_tests::{Person, Program, Recorder, pattern, until};

async fn person(program: &Program, name: &str) -> Person {
    let wire = Arc::<Recorder>::default();
    let mut configuration = ClientConfiguration::new(&format!("sip:{name}@example.org"), program.sip());
    configuration.observer = Some(wire.clone());
    let (client, events) = Client::start(configuration).await.expect("sockets for a client");
    Person::new(client, events, wire)
}

#[tokio::test]
async fn what_was_answered_202_outlives_a_kill() {
    let program = Program::patient("");
    let server = program.serve().await;
    let (alice, mut bob) = (person(&program, "alice").await, person(&program, "bob").await);
    let page = alice.send(bob.address(), "kept").await;
    let message = LargeMessage::new(bob.address(), "application/zip", Source::Bytes(pattern(200_000)));
    let large = alice.client.send_large(message).await.unwrap();
    assert!(large.accepted);
    server.kill();
    let server = program.serve().await;
    bob.register().await;
    let mut expected = [(Some(page.message_id), page.sha256), (Some(large.message_id), large.sha256)];
    let mut received = Vec::new();
    for _ in 0..2 {
        let message = bob.received().await;
        received.push((message.message_id, message.sha256));
    }
    expected.sort();
    received.sort();
    assert_eq!(received, expected);
    assert_eq!(bob.unread_texts(), [""; 0]);
    drop(server);
}

#[tokio::test]
async fn what_was_in_flight_when_it_was_killed_comes_again_under_the_same_message_id_without_a_new_registration() {
    let program = Program::patient("");
    let server = program.serve().await;
    let (alice, mut bob) = (person(&program, "alice").await, person(&program, "bob").await);
    let silent = Behaviour { message_answers: [Scripted::Silence].into(), ..Behaviour::default() };
    bob.client.set_behaviour(silent).await.unwrap();
    bob.register().await;
    let sent = alice.send(bob.address(), "in flight").await;
    bob.scripted().await;
    server.kill();
    let server = program.serve().await;
    let message = bob.received().await;
    assert_eq!((message.text(), message.message_id.as_ref()), (Some("in flight"), Some(&sent.message_id)));
    let copies = bob.wire.received("MESSAGE");
    assert!(copies.iter().all(|copy| copy.exchange == message.call_id), "one Call-ID for one delivery: {copies:#?}");
    drop(server);
}

#[tokio::test]
async fn half_of_a_large_message_leaves_nothing_behind() {
    let program = Program::patient("");
    let server = program.serve().await;
    let alice = person(&program, "alice").await;
    let temporary = program.data().join("spool/tmp");
    let files = || std::fs::read_dir(&temporary).map_or(0, Iterator::count);
    let message = LargeMessage::new("sip:bob@example.org", "application/zip", Source::Bytes(pattern(50_000_000)));
    let client = alice.client.clone();
    let sending = tokio::spawn(async move { client.send_large(message).await });
    until("part of the body is on the disk", || files() > 0).await;
    server.kill();
    sending.abort();
    let mut server = program.serve().await;
    assert_eq!(files(), 0);
    let listed = program.ask(&["queue", "list", "--json"]);
    assert!(listed.stdout.contains("\"messages\": []"), "{listed:?}");
    server.terminate();
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn a_repetition_after_a_kill_is_answered_and_not_stored_again() {
    let program = Program::patient("");
    let server = program.serve().await;
    let mut socket = restante_tests::RawSip::udp(program.sip().ip(), program.sip()).await;
    // Without a Message-ID: what recognises it is the request itself.
    let request = socket.request("MESSAGE", "sip:bob@example.org").text("once");
    assert_eq!(socket.ask(&request).await.status(), Some(202));
    server.kill();
    let server = program.serve().await;
    assert_eq!(socket.ask(&request).await.status(), Some(202), "the server has no transaction for it any more");
    let alice = person(&program, "alice").await;
    let again = PageMessage { message_id: Some("same".into()), ..PageMessage::text("sip:bob@example.org", "once too") };
    alice.send_message(again.clone()).await;
    server.kill();
    let server = program.serve().await;
    alice.send_message(again).await;
    let listed = program.ask(&["queue", "list", "--json"]);
    assert_eq!(listed.stdout.matches("\"id\"").count(), 2, "{}", listed.stdout);
    drop(server);
}

#[tokio::test]
async fn nothing_that_was_accepted_is_missing_after_several_kills() {
    let program = Program::patient("");
    let mut server = program.serve().await;
    let mut bob = person(&program, "bob").await;
    bob.register().await;
    let mut alice = restante_tests::RawSip::udp(program.sip().ip(), program.sip()).await;
    let (mut sent, mut accepted) = (HashMap::new(), HashSet::new());
    for round in 0..4 {
        for number in 0..60 {
            let id = format!("{round}-{number}");
            let message = numbered(&alice, &id);
            sent.insert(message.field("Call-ID").to_owned(), id);
            alice.send(&message.bytes()).await;
        }
        // Deliveries are under way, and most of what was sent is not answered yet.
        for _ in 0..20 {
            let answer = alice.expect("202", |message| message.status().is_some()).await;
            assert_eq!(answer.status(), Some(202));
            let id = answer.call_id().and_then(|call_id| sent.get(call_id)).expect("an answer to one of these");
            accepted.insert(id.clone());
        }
        server.kill();
        server = program.serve().await;
    }
    let mut missing = accepted;
    assert_eq!(missing.len(), 80);
    while !missing.is_empty() {
        let message = bob.received().await;
        missing.remove(message.message_id.as_deref().unwrap_or(""));
    }
    drop(server);
}

fn numbered(socket: &restante_tests::RawSip, id: &str) -> restante_tests::Request {
    let body = format!(
        "From: <sip:alice@example.org>\r\nTo: <sip:bob@example.org>\r\nDateTime: 2024-01-01T00:00:00Z\r\n\
         NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: {id}\r\n\r\nContent-Type: text/plain\r\n\r\n{id}"
    );
    socket.request("MESSAGE", "sip:bob@example.org").body("message/cpim", body)
}
