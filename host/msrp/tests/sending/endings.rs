//! What the end of a session, of a connection or of a message leaves; and what is refused before it is begun.

use super::*;

#[test]
fn a_lost_connection_says_what_was_sent() {
    let mut harness = Harness::active(|configuration| {
        configuration.limits.max_chunk_bytes = 10;
        configuration.limits.chunk_window = 2;
        configuration.limits.message_window = 2;
    });
    let first = harness.session.send_message(harness.now, message("m1", 100)).unwrap();
    let second = harness.session.send_message(harness.now, message("m2", 10)).unwrap();
    let written = send_all(&mut harness);
    let (head, ..) = chunks(&written).remove(0);
    harness.receive(&response(head.transaction_id.as_str(), 200));
    send_all(&mut harness);
    harness.session.disconnected();
    let partial = Outcome::Partial { sent_bytes: 30, acknowledged_bytes: 10 };
    let reason = EndReason::Disconnected;
    assert_eq!(harness.events(), [settled(first, partial), settled(second, Outcome::Unsent), Event::Ended { reason }]);
}

#[test]
fn all_sent_and_not_acknowledged_is_still_partial() {
    let mut harness = Harness::active(|_| {});
    let id = harness.session.send_message(harness.now, message("m1", 10)).unwrap();
    send_all(&mut harness);
    harness.session.close();
    let partial = Outcome::Partial { sent_bytes: 10, acknowledged_bytes: 0 };
    assert_eq!(harness.events(), [settled(id, partial), Event::Ended { reason: EndReason::Closed }]);
}

#[test]
fn a_bye_lets_late_answers_count() {
    let mut harness = Harness::active(|configuration| configuration.receives = false);
    let first = harness.session.send_message(harness.now, message("m1", 10)).unwrap();
    let second = harness.session.send_message(harness.now, message("m2", 10)).unwrap();
    let written = send_all(&mut harness);
    harness.session.drain(harness.now, 2 * SECOND);
    assert_eq!(harness.events(), [settled(second, Outcome::Unsent)]);
    assert_eq!(harness.session.send_message(harness.now, message("m3", 1)), Err(SendError::SessionEnded));
    harness.receive(&response_to(&written, 200));
    // Nothing more can come, so the session need not wait.
    let ended = Event::Ended { reason: EndReason::Drained };
    assert_eq!(harness.events(), [settled(first, Outcome::Acknowledged), ended]);
}

#[test]
fn a_bye_in_the_middle_leaves_the_message_partial() {
    let mut harness = Harness::active(|configuration| {
        configuration.limits.max_chunk_bytes = 3000;
        configuration.limits.chunk_window = 1;
        configuration.receives = false;
    });
    let id = harness.session.send_message(harness.now, message("m1", 9000)).unwrap();
    let written = send_all(&mut harness);
    harness.receive(&response_to(&written, 200));
    harness.session.drain(harness.now, 2 * SECOND);
    let partial = Outcome::Partial { sent_bytes: 3000, acknowledged_bytes: 3000 };
    let events = harness.events();
    assert_eq!(events.last(), Some(&settled(id, partial)));
    // The peer is told that no more will come.
    assert_eq!(ranges(&harness.written()), ["3001-3000/9000 0#"]);
    assert_eq!(harness.events(), [Event::Ended { reason: EndReason::Drained }]);
}

#[test]
fn the_host_gives_a_message_up() {
    let mut harness = Harness::active(|configuration| configuration.limits.max_write_bytes = 4000);
    let first = harness.session.send_message(harness.now, message("m1", 50_000)).unwrap();
    let second = harness.session.send_message(harness.now, message("m2", 10)).unwrap();
    feed(&mut harness);
    let begun = String::from_utf8(harness.session.poll_transmit(harness.now).unwrap().to_vec()).unwrap();
    harness.session.abort_message(harness.now, second);
    harness.session.abort_message(harness.now, first);
    assert_eq!(harness.events(), [settled(second, Outcome::Aborted), settled(first, Outcome::Aborted)]);
    assert_eq!(ranges(&(begun + &harness.written())), ["1-*/50000 4000#"]);
}

#[test]
fn a_peer_that_stops_reading_is_left() {
    let mut harness = Harness::active(|_| {});
    harness.session.send_message(harness.now, message("m1", 10)).unwrap();
    feed(&mut harness);
    assert_eq!(harness.session.next_wake(), Some(harness.now + 60 * SECOND));
    harness.wait(60 * SECOND);
    assert!(matches!(harness.events().last(), Some(Event::Ended { reason: EndReason::Stalled })));
}

#[test]
fn what_cannot_be_sent_is_not_queued() {
    let mut harness = Harness::active(|configuration| {
        configuration.limits.max_outgoing_messages = 1;
        configuration.remote_max_bytes = Some(100);
    });
    let header = |name: &str, value: &str| vec![Header { name: name.into(), value: value.into() }];
    for (refused, error) in [
        (message("m1", 101), SendError::TooLargeForPeer),
        (message("", 1), SendError::InvalidHeader),
        (message("a b", 1), SendError::InvalidHeader),
        (message("a\r\nb", 1), SendError::InvalidHeader),
        (OutgoingMessage { content_type: String::new(), ..message("m1", 1) }, SendError::InvalidHeader),
        (OutgoingMessage { content_type: "a/b\r\nX: y".into(), ..message("m1", 1) }, SendError::InvalidHeader),
        (OutgoingMessage { other_headers: header("To-Path", "x"), ..message("m1", 1) }, SendError::InvalidHeader),
        (OutgoingMessage { other_headers: header("X", "a\r\nb"), ..message("m1", 1) }, SendError::InvalidHeader),
        (OutgoingMessage { other_headers: header("-------x", "a"), ..message("m1", 1) }, SendError::InvalidHeader),
    ] {
        assert_eq!(harness.session.send_message(harness.now, refused), Err(error));
    }
    harness.session.send_message(harness.now, message("m1", 1)).unwrap();
    assert_eq!(harness.session.send_message(harness.now, message("m2", 1)), Err(SendError::QueueFull));
    let mut harness = Harness::active(|configuration| configuration.sends = false);
    assert_eq!(harness.session.send_message(harness.now, message("m1", 1)), Err(SendError::NotSending));
    let mut harness = Harness::active(|_| {});
    harness.session.send_message(harness.now, message("m1", 1)).unwrap();
    assert_eq!(harness.session.send_message(harness.now, message("m1", 1)), Err(SendError::RepeatedMessageId));
}

#[test]
fn content_is_taken_only_as_asked() {
    let mut harness = Harness::active(|configuration| configuration.limits.max_chunk_bytes = 4);
    let id = harness.session.send_message(harness.now, message("m1", 10)).unwrap();
    let mut supply = |bytes: &'static [u8]| harness.session.supply(harness.now, id, Bytes::from_static(bytes));
    assert_eq!(supply(b""), Err(SupplyError::WrongSize));
    assert_eq!(supply(b"01234"), Err(SupplyError::WrongSize));
    assert_eq!(supply(b"012"), Ok(()));
    assert_eq!(supply(b"3"), Err(SupplyError::NotAsked));
    assert_eq!(ranges(&harness.written()), ["1-3/10 3+"]);
    let asked = Event::NeedBody { message: id, offset: 3, max_bytes: 4 };
    assert_eq!(harness.events().last(), Some(&asked));
}

#[test]
fn content_that_looks_like_our_end_line_is_told_apart() {
    let mut first = Harness::active(|_| {});
    first.session.send_message(first.now, message("m1", 3)).unwrap();
    let id = chunks(&send_all(&mut first))[0].0.transaction_id.as_str().to_owned();
    // The same randomness makes the same id, unless the content holds it.
    let mut second = Harness::active(|_| {});
    let content = format!("x\r\n-------{id}$\r\ny");
    let message = second.session.send_message(second.now, message("m1", content.len() as u64)).unwrap();
    second.session.supply(second.now, message, Bytes::from(content.clone())).unwrap();
    let (head, length, flag) = chunks(&second.written()).remove(0);
    assert_ne!(head.transaction_id.as_str(), id);
    assert_eq!((length, flag), (content.len(), b'$'));
}
