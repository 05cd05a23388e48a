//! Two clients and nothing in between.

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use restante_client::{
    Behaviour, ClientError, ClientEvent, Content, LargeMessage, Mode, PageMessage, Scripted, SessionSummary,
    SetupChoice, Source, Storage, WireProtocol,
};
use restante_cpim::imdn::{Disposition, DispositionNotification};
use restante_transport::Protocol;
use support::{ALICE, BOB, next, pair, received};

fn pattern(length: usize) -> Bytes {
    (0..length).map(|at| (at * 31 % 251) as u8).collect::<Vec<u8>>().into()
}

fn large(content: &Bytes) -> LargeMessage {
    LargeMessage::new(BOB, "application/octet-stream", Source::Bytes(content.clone()))
}

#[tokio::test]
async fn a_message_in_page_mode_arrives_as_it_was_sent_and_its_delivery_is_reported() {
    for transport in [Protocol::Udp, Protocol::Tcp] {
        let mut pair = pair(|alice, bob| (alice.transport, bob.transport) = (transport, transport)).await;
        let notifications = DispositionNotification { positive_delivery: true, ..Default::default() };
        let message =
            PageMessage {
                notifications, subject: Some("A \\ subject".into()), ..PageMessage::text(BOB, "Grüße\r\n")
            };
        let outcome = pair.alice.send(message).await.unwrap();
        assert_eq!((outcome.answer.status, outcome.answer.reason.as_str()), (200, "OK"));
        let message = received(&mut pair.bob_events).await;
        assert_eq!((message.text(), message.sender.as_str(), message.mode), (Some("Grüße\r\n"), ALICE, Mode::Page));
        assert_eq!((message.sha256.as_str(), message.repeated), (outcome.sha256.as_str(), false));
        assert_eq!(
            (message.message_id, message.subject),
            (Some(outcome.message_id.clone()), Some("A \\ subject".into()))
        );
        match next(&mut pair.alice_events).await {
            ClientEvent::Disposition { message_id, disposition, from, .. } => {
                assert_eq!((message_id, disposition, from.as_str()), (outcome.message_id, Disposition::Delivered, BOB));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pair.alice.violations(), [""; 0]);
        assert_eq!(pair.bob.violations(), [""; 0]);
        let lines = pair.wire.lines(WireProtocol::Sip);
        assert_eq!(lines[0], "Sent MESSAGE sip:bob@example.org SIP/2.0");
        // What is not answered soon is sent again, as happens on a busy machine.
        assert_eq!(lines.iter().collect::<HashSet<_>>().len(), 4, "{lines:?}");
        assert!(
            lines.contains(&"Received SIP/2.0 200 OK".to_owned()) && lines.contains(&"Sent SIP/2.0 200 OK".to_owned())
        );
    }
}

#[tokio::test]
async fn what_is_too_large_for_udp_goes_over_tcp() {
    let mut pair = pair(|_, _| {}).await;
    let text = "x".repeat(2_000);
    assert_eq!(pair.alice.send(PageMessage::text(BOB, &text)).await.unwrap().answer.status, 200);
    assert_eq!(received(&mut pair.bob_events).await.text(), Some(text.as_str()));
    assert_eq!(pair.bob.violations(), [""; 0]);
}

#[tokio::test]
async fn a_repetition_is_noted_and_not_dropped() {
    let mut pair = pair(|_, _| {}).await;
    for repeated in [false, true] {
        let message = PageMessage { message_id: Some("same".into()), ..PageMessage::text(BOB, "twice") };
        pair.alice.send(message).await.unwrap();
        assert_eq!(received(&mut pair.bob_events).await.repeated, repeated);
    }
}

#[tokio::test]
async fn a_large_message_arrives_whole_whoever_connects() {
    for (alice_setup, bob_setup) in [
        (SetupChoice::Active, SetupChoice::Active),
        (SetupChoice::Active, SetupChoice::Passive),
        (SetupChoice::Passive, SetupChoice::Active),
    ] {
        let mut pair = pair(|alice, bob| (alice.setup, bob.setup) = (alice_setup, bob_setup)).await;
        let content = pattern(300_000);
        let outcome = pair.alice.send_large(large(&content)).await.unwrap();
        assert!(outcome.accepted, "{outcome:?}");
        let message = received(&mut pair.bob_events).await;
        assert_eq!((message.content, message.mode), (Content::Memory(content), Mode::Push));
        assert_eq!((message.sha256, message.sender.as_str()), (outcome.sha256, ALICE));
        match next(&mut pair.bob_events).await {
            ClientEvent::SessionEnded { summary, .. } => {
                let expected = SessionSummary { call_id: outcome.call_id, fetched: false, messages: 1, orderly: true };
                assert_eq!(summary, expected);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!((pair.alice.violations(), pair.bob.violations()), (vec![], vec![]), "{alice_setup:?} {bob_setup:?}");
        let msrp = pair.wire.lines(WireProtocol::Msrp);
        assert!(msrp.iter().any(|line| line.starts_with("Sent MSRP ") && line.ends_with(" SEND")), "{msrp:?}");
        assert!(msrp.iter().any(|line| line.starts_with("Received MSRP ") && line.contains(" REPORT")), "{msrp:?}");
    }
}

#[tokio::test]
async fn twenty_megabytes_go_from_file_to_file_and_the_progress_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let content = pattern(20 * 1024 * 1024);
    let source = directory.path().join("../evil name.txt");
    let source = source.file_name().map(|name| directory.path().join(name)).unwrap();
    std::fs::write(&source, &content).unwrap();
    let inbox = directory.path().join("inbox");
    std::fs::create_dir(&inbox).unwrap();
    let mut pair = pair(|_, bob| bob.storage = Storage::Directory(inbox.clone())).await;
    let told = Arc::new(AtomicU64::new(0));
    let progress = Arc::clone(&told);
    let message = LargeMessage {
        progress: Some(Arc::new(move |sent, total| {
            assert!(sent <= total && sent > progress.swap(sent, Ordering::Relaxed), "it only grows");
        })),
        ..LargeMessage::new(BOB, "image/jpeg", Source::File(source))
    };
    let outcome = pair.alice.send_large(message).await.unwrap();
    assert!(outcome.accepted, "{outcome:?}");
    let message = received(&mut pair.bob_events).await;
    assert_eq!((message.size, message.sha256), (content.len() as u64, outcome.sha256));
    assert!(told.load(Ordering::Relaxed) > message.size, "CPIM included");
    let Content::File(path) = message.content else { panic!() };
    assert!(std::fs::read(&path).unwrap() == content);
    assert_eq!((path.parent(), path.extension().and_then(|it| it.to_str())), (Some(inbox.as_path()), Some("jpg")));
    assert_eq!(std::fs::read_dir(&inbox).unwrap().count(), 1);
}

#[tokio::test]
async fn a_message_larger_than_the_other_side_takes_is_not_sent() {
    let pair = pair(|_, bob| bob.limits.max_memory_bytes = 1_000).await;
    let outcome = pair.alice.send_large(large(&pattern(100_000))).await.unwrap();
    assert!(!outcome.accepted);
    assert_eq!(outcome.answer.status, 200);
}

#[tokio::test]
async fn a_script_is_followed() {
    let mut pair = pair(|_, _| {}).await;
    let behaviour = Behaviour {
        message_answers: [Scripted::Status(480), Scripted::Status(200), Scripted::Status(603)].into(),
        invite_answers: [Scripted::Status(486)].into(),
        ..Behaviour::default()
    };
    pair.bob.set_behaviour(behaviour).await.unwrap();
    for status in [480, 200, 603, 200] {
        assert_eq!(pair.alice.send(PageMessage::text(BOB, "a")).await.unwrap().answer.status, status);
        match next(&mut pair.bob_events).await {
            ClientEvent::Scripted { status: Some(scripted), method, message_id: Some(_), .. } => {
                assert_eq!((scripted, method.as_str()), (status, "MESSAGE"));
            }
            ClientEvent::Received(_) => assert_eq!(status, 200),
            other => panic!("{other:?}"),
        }
    }
    let outcome = pair.alice.send_large(large(&pattern(10))).await.unwrap();
    assert_eq!((outcome.answer.status, outcome.accepted), (486, false));
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_the_message_unaccepted() {
    for by_receiver in [true, false] {
        let mut pair = pair(|_, _| {}).await;
        let mut message = large(&pattern(500_000));
        if by_receiver {
            let behaviour = Behaviour { break_after_bytes: Some(100_000), ..Behaviour::default() };
            pair.bob.set_behaviour(behaviour).await.unwrap();
        } else {
            message.break_after_bytes = Some(100_000);
        }
        let outcome = pair.alice.send_large(message).await.unwrap();
        assert!(!outcome.accepted && outcome.detail.starts_with("the session ended after"), "{outcome:?}");
        match next(&mut pair.bob_events).await {
            ClientEvent::SessionEnded { summary, .. } => assert_eq!(summary.messages, 0),
            other => panic!("{other:?}"),
        }
        // The script was for one session.
        assert!(pair.alice.send_large(large(&pattern(500_000))).await.unwrap().accepted);
    }
}

#[tokio::test]
async fn a_message_can_be_refused_inside_its_session() {
    let pair = pair(|_, _| {}).await;
    let behaviour = Behaviour { message_verdicts: [415].into(), ..Behaviour::default() };
    pair.bob.set_behaviour(behaviour).await.unwrap();
    let outcome = pair.alice.send_large(large(&pattern(10))).await.unwrap();
    assert!(!outcome.accepted && outcome.detail.contains("415"), "{outcome:?}");
}

#[tokio::test]
async fn an_answer_without_a_description_ends_the_session() {
    let mut pair = pair(|_, _| {}).await;
    pair.bob.set_behaviour(Behaviour { answer_without_sdp: true, ..Behaviour::default() }).await.unwrap();
    let error = pair.alice.send_large(large(&pattern(10))).await.unwrap_err();
    assert!(matches!(error, ClientError::Session(_)), "{error}");
    match next(&mut pair.bob_events).await {
        ClientEvent::SessionEnded { summary, .. } => assert!(summary.orderly),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_said_before_anything_is_sent() {
    let pair = pair(|_, _| {}).await;
    let message = LargeMessage::new(BOB, "text/plain", Source::File("/nonexistent/file".into()));
    assert!(matches!(pair.alice.send_large(message).await, Err(ClientError::Source(_))));
    assert!(pair.wire.records().is_empty());
}

#[tokio::test]
async fn nobody_there_is_told_apart_from_a_refusal() {
    let pair = pair(|alice, _| alice.transport = Protocol::Tcp).await;
    pair.alice.set_server(support::nowhere()).await.unwrap();
    assert!(matches!(pair.alice.send(PageMessage::text(BOB, "a")).await, Err(ClientError::Unreachable)));
    pair.alice.stop().await;
    assert!(matches!(pair.alice.send(PageMessage::text(BOB, "a")).await, Err(ClientError::Stopped)));
}

#[tokio::test]
async fn the_longest_text_of_page_mode_fits_one_datagram_and_one_byte_more_does_not() {
    let pair = pair(|_, _| {}).await;
    let mut fitting = 0;
    for length in 1..1_300 {
        if pair.alice.fits_page_mode(&PageMessage::text(BOB, &"x".repeat(length))).await.unwrap() {
            fitting = length;
        }
    }
    assert!((100..1_000).contains(&fitting), "{fitting}");
    assert_eq!(pair.alice.send(PageMessage::text(BOB, &"x".repeat(fitting))).await.unwrap().answer.status, 200);
    let sent = pair.wire.records().into_iter().find(|record| record.line.starts_with("MESSAGE")).unwrap();
    // How long the port, the branch and the like are written is a matter of a few bytes.
    assert!((1_290..=1_300).contains(&sent.bytes), "{}", sent.bytes);
}
