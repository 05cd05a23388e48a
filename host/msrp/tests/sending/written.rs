//! Chunks: how they are cut and interrupted, and how many may be unanswered.

use super::*;

#[test]
fn the_active_side_binds_the_connection_at_once() {
    let mut harness = Harness::new(common::configuration(Role::Active));
    assert_eq!(harness.session.poll_transmit(harness.now), None);
    harness.session.connected(harness.now).unwrap();
    let written = harness.written();
    let (head, length, flag) = chunks(&written).remove(0);
    assert_eq!((head.to_path.to_string().as_str(), head.from_path.to_string().as_str()), (THEIRS, OURS));
    assert_eq!((head.byte_range.unwrap().to_string().as_str(), length, flag), ("1-0/0", 0, b'$'));
    assert_eq!(head.content_type, None);
    assert!(harness.session.is_bound());
}

#[test]
fn with_a_message_to_send_no_empty_one_goes_first() {
    let mut harness = Harness::new(common::configuration(Role::Active));
    harness.session.send_message(harness.now, message("m1", 3)).unwrap();
    assert_eq!(harness.events(), []);
    harness.session.connected(harness.now).unwrap();
    assert_eq!(harness.session.poll_event(), Some(Event::Bound));
    assert_eq!(ranges(&send_all(&mut harness)), ["1-3/3 3$"]);
}

#[test]
fn the_passive_side_waits_to_be_bound() {
    let mut harness = Harness::passive(|_| {});
    harness.session.send_message(harness.now, message("m1", 3)).unwrap();
    assert_eq!(send_all(&mut harness), "");
    harness.receive(&send("tid1", "x", "Byte-Range: 1-0/0", "", '$'));
    assert_eq!(feed(&mut harness), [Event::Bound]);
    let written = harness.written();
    let (answer, sent) = written.split_at(written.find("$\r\n").unwrap() + 3);
    assert!(answer.starts_with("MSRP tid1 200"));
    assert_eq!(ranges(sent), ["1-3/3 3$"]);
}

#[test]
fn the_binding_send_may_end_the_session() {
    for (status, ends) in [(200, false), (400, false), (413, false), (481, true), (506, true)] {
        let mut harness = Harness::new(common::configuration(Role::Active));
        harness.session.connected(harness.now).unwrap();
        let written = harness.written();
        harness.receive(&response_to(&written, status));
        assert_eq!(harness.session.is_ended(), ends, "{status}");
    }
    let mut harness = Harness::new(common::configuration(Role::Active));
    harness.session.connected(harness.now).unwrap();
    harness.written();
    harness.wait(30 * SECOND);
    assert_eq!(harness.events()[1..], [Event::Ended { reason: EndReason::Refused(Status::TIMED_OUT) }]);
}

#[test]
fn a_small_message_is_one_chunk_on_the_wire() {
    let mut harness = Harness::active(|_| {});
    let other_headers = vec![Header { name: "Content-Disposition".into(), value: "render".into() }];
    let sent = OutgoingMessage { success_report: true, other_headers, ..message("m1", 5) };
    let id = harness.session.send_message(harness.now, sent).unwrap();
    assert_eq!(harness.events(), [Event::NeedBody { message: id, offset: 0, max_bytes: 5 }]);
    harness.session.supply(harness.now, id, Bytes::from_static(b"hello")).unwrap();
    let written = harness.written();
    let transaction = chunks(&written)[0].0.transaction_id.as_str().to_owned();
    let expected = format!(
        "MSRP {transaction} SEND\r\nTo-Path: {THEIRS}\r\nFrom-Path: {OURS}\r\nMessage-ID: m1\r\nSuccess-Report: yes\r\n\
         Byte-Range: 1-5/5\r\nContent-Disposition: render\r\nContent-Type: message/cpim\r\n\r\nhello\r\n\
         -------{transaction}$\r\n"
    );
    assert_eq!(written, expected);
    assert!(transaction.len() >= 14);
    harness.receive(&response(&transaction, 200));
    assert_eq!(harness.events(), [settled(id, Outcome::Acknowledged)]);
}

#[test]
fn an_empty_message_is_sent_and_acknowledged() {
    let mut harness = Harness::active(|_| {});
    let id = harness.session.send_message(harness.now, message("m1", 0)).unwrap();
    let written = send_all(&mut harness);
    assert_eq!(ranges(&written), ["1-0/0 0$"]);
    harness.receive(&response_to(&written, 200));
    assert_eq!(harness.events(), [settled(id, Outcome::Acknowledged)]);
}

#[test]
fn an_empty_message_waits_for_its_turn_too() {
    let mut harness = Harness::active(|_| {});
    harness.session.send_message(harness.now, message("m1", 3)).unwrap();
    harness.session.send_message(harness.now, message("m2", 0)).unwrap();
    let written = send_all(&mut harness);
    assert_eq!(ranges(&written), ["1-3/3 3$"]);
    harness.receive(&response_to(&written, 200));
    feed(&mut harness);
    assert_eq!(ranges(&harness.written()), ["1-0/0 0$"]);
}

#[test]
fn a_large_message_goes_in_chunks_that_can_be_interrupted() {
    let mut harness = Harness::active(|configuration| configuration.limits.max_chunk_bytes = 3000);
    let id = harness.session.send_message(harness.now, message("m1", 8000)).unwrap();
    let written = send_all(&mut harness);
    // The last is small enough to say its end.
    assert_eq!(ranges(&written), ["1-*/8000 3000+", "3001-*/8000 3000+", "6001-8000/8000 2000$"]);
    harness.receive(&response_to(&written, 200));
    assert_eq!(harness.events(), [settled(id, Outcome::Acknowledged)]);
}

#[test]
fn an_answer_does_not_wait_for_the_end_of_a_chunk() {
    let mut harness = Harness::active(|configuration| {
        configuration.limits.max_chunk_bytes = 10_000;
        configuration.limits.max_write_bytes = 4000;
    });
    let id = harness.session.send_message(harness.now, message("m1", 12_000)).unwrap();
    assert_eq!(feed(&mut harness), []);
    let mut written = harness.session.poll_transmit(harness.now).unwrap().to_vec();
    harness.receive(&send("theirs", "x", "Byte-Range: 1-0/0", "", '$'));
    let end = harness.session.poll_transmit(harness.now).unwrap();
    assert!(end.starts_with(b"\r\n-------") && end.ends_with(b"+\r\n"));
    written.extend_from_slice(&end);
    let answer = harness.session.poll_transmit(harness.now).unwrap();
    assert!(answer.starts_with(b"MSRP theirs 200 OK"));
    written.extend_from_slice(send_all(&mut harness).as_bytes());
    let written = String::from_utf8(written).unwrap();
    assert_eq!(ranges(&written), ["1-*/12000 4000+", "4001-*/12000 6000+", "10001-12000/12000 2000$"]);
    harness.receive(&response_to(&written, 200));
    assert_eq!(harness.events(), [settled(id, Outcome::Acknowledged)]);
}

#[test]
fn a_small_chunk_is_not_interrupted() {
    let mut harness = Harness::active(|configuration| configuration.limits.max_write_bytes = 500);
    harness.session.send_message(harness.now, message("m1", 2048)).unwrap();
    feed(&mut harness);
    let first = harness.session.poll_transmit(harness.now).unwrap();
    harness.receive(&send("theirs", "x", "Byte-Range: 1-0/0", "", '$'));
    let rest = harness.written();
    assert!(rest.ends_with("-------theirs$\r\n"));
    let whole = String::from_utf8(first.to_vec()).unwrap() + rest.split("MSRP theirs").next().unwrap();
    assert_eq!(ranges(&whole), ["1-2048/2048 2048$"]);
}

#[test]
fn unanswered_chunks_are_bounded_by_the_window() {
    let mut harness = Harness::active(|configuration| {
        configuration.limits.max_chunk_bytes = 100;
        configuration.limits.chunk_window = 3;
    });
    harness.session.send_message(harness.now, message("m1", 1000)).unwrap();
    let written = send_all(&mut harness);
    assert_eq!(chunks(&written).len(), 3);
    let first = chunks(&written)[0].0.transaction_id.as_str().to_owned();
    harness.receive(&response(&first, 200));
    assert_eq!(ranges(&send_all(&mut harness)), ["301-400/1000 100+"]);
}

#[test]
fn one_message_at_a_time_unless_told_otherwise() {
    for (window, expected) in [(1, 1), (2, 2)] {
        let mut harness = Harness::active(|configuration| configuration.limits.message_window = window);
        let first = harness.session.send_message(harness.now, message("m1", 10)).unwrap();
        harness.session.send_message(harness.now, message("m2", 10)).unwrap();
        harness.session.send_message(harness.now, message("m3", 10)).unwrap();
        let written = send_all(&mut harness);
        assert_eq!(chunks(&written).len(), expected);
        let (head, ..) = chunks(&written).remove(0);
        harness.receive(&response(head.transaction_id.as_str(), 200));
        assert_eq!(feed(&mut harness), [settled(first, Outcome::Acknowledged)]);
        assert_eq!(chunks(&harness.written()).len(), 1);
    }
}
