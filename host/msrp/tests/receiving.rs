//! The receiving half of a session: what is answered, when, and what the host hears.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Harness, OURS, Request, THEIRS, report, send};
use restante_msrp::framing::{FailureReport, FramingError};
use restante_msrp::sdp::AcceptTypes;
use restante_msrp::session::{AbortReason, EndReason, Event, IncomingId, Role, VerdictError};
use restante_msrp::status::Status;

/// Events in a few words.
fn told(harness: &mut Harness) -> Vec<String> {
    let tell = |event| match event {
        Event::Bound => "bound".to_owned(),
        Event::IncomingMessage { message_id, total_bytes, .. } => format!("begin {message_id} {total_bytes:?}"),
        Event::IncomingData { offset, bytes, .. } => format!("{offset}:{}", String::from_utf8_lossy(&bytes)),
        Event::IncomingComplete { total_bytes, .. } => format!("complete {total_bytes}"),
        Event::IncomingAborted { reason, .. } => format!("aborted {reason:?}"),
        Event::Ended { reason } => format!("ended {reason:?}"),
        other => format!("{other:?}"),
    };
    harness.events().into_iter().map(tell).collect()
}

/// The message that is complete now.
fn completed(harness: &mut Harness) -> IncomingId {
    let complete = |event: &Event| match event {
        Event::IncomingComplete { message, .. } => Some(*message),
        _ => None,
    };
    harness.events().iter().find_map(complete).expect("a complete message")
}

#[test]
fn the_last_answer_waits_for_the_commit() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-4/8", "abcd", '+'));
    assert_eq!(harness.answers(), ["tid1 200"]);
    harness.receive(&send("tid2", "m", "Byte-Range: 5-8/8", "efgh", '$'));
    assert_eq!(told(&mut harness), ["bound", "begin m Some(8)", "0:abcd", "4:efgh", "complete 8"]);
    assert_eq!(harness.written(), "");
    harness.wait(Duration::from_secs(20));
    assert_eq!(harness.written(), "");
    harness.receive(&send("tid3", "other", "Byte-Range: 1-2/2", "xy", '$'));
    assert_eq!(harness.written(), "");
    assert_eq!(harness.session.awaiting_verdict(), 2);
    let other = completed(&mut harness);
    harness.session.accept(harness.now, other).unwrap();
    assert_eq!(harness.answers(), ["tid3 200"]);
}

#[test]
fn the_answer_goes_back_to_where_the_request_came_from() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-4/8", "abcd", '+'));
    let expected = format!("MSRP tid1 200 OK\r\nTo-Path: {THEIRS}\r\nFrom-Path: {OURS}\r\n-------tid1$\r\n");
    assert_eq!(harness.written(), expected);
}

#[test]
fn a_success_report_follows_the_commit() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-4/4\nSuccess-Report: yes", "abcd", '$'));
    let message = completed(&mut harness);
    assert_eq!(harness.written(), "");
    harness.session.accept(harness.now, message).unwrap();
    let written = harness.written();
    let (response, report) = written.split_at(written.find("$\r\n").unwrap() + 3);
    assert!(response.starts_with("MSRP tid1 200 OK\r\n"));
    let (start, rest) = report.split_once("\r\n").unwrap();
    let id = start.strip_prefix("MSRP ").unwrap().strip_suffix(" REPORT").unwrap();
    let expected = format!(
        "To-Path: {THEIRS}\r\nFrom-Path: {OURS}\r\nMessage-ID: m\r\nByte-Range: 1-4/4\r\nStatus: 000 200 OK\r\n\
         -------{id}$\r\n"
    );
    assert_eq!(rest, expected);
}

/// Failure-Report × Success-Report: what is written for a first chunk, for the last when accepted, when refused.
#[test]
fn each_report_value_gets_what_it_asks_for() {
    type Answers = &'static [&'static str];
    let cases: [(&str, &str, Answers, Answers, Answers); 6] = [
        ("yes", "no", &["tid1 200"], &["tid2 200"], &["tid2 413"]),
        ("partial", "no", &[], &[], &["tid2 413"]),
        ("no", "no", &[], &[], &[]),
        ("yes", "yes", &["tid1 200"], &["tid2 200", "REPORT"], &["tid2 413"]),
        ("partial", "yes", &[], &["REPORT"], &["tid2 413"]),
        ("no", "yes", &[], &["REPORT"], &[]),
    ];
    for (failure, success, first, accepted, refused) in cases {
        for accepts in [true, false] {
            let mut harness = Harness::passive(|_| {});
            let reports = format!("Failure-Report: {failure}\nSuccess-Report: {success}");
            harness.receive(&send("tid1", "m", &format!("Byte-Range: 1-4/8\n{reports}"), "abcd", '+'));
            assert_eq!(harness.answers(), first, "{failure} {success}");
            harness.receive(&send("tid2", "m", &format!("Byte-Range: 5-8/8\n{reports}"), "efgh", '$'));
            assert_eq!(harness.answers(), [""; 0], "{failure} {success}");
            let message = completed(&mut harness);
            if accepts {
                harness.session.accept(harness.now, message).unwrap();
            } else {
                harness.session.reject(harness.now, message, Status::STOP_SENDING).unwrap();
            }
            assert_eq!(harness.answers(), if accepts { accepted } else { refused }, "{failure} {success} {accepts}");
        }
    }
}

#[test]
fn a_refusal_between_chunks_is_reported() {
    for (failure, expected) in [("yes", vec!["REPORT"]), ("partial", vec!["REPORT"]), ("no", vec![])] {
        let mut harness = Harness::passive(|_| {});
        harness.receive(&send("tid1", "m", &format!("Byte-Range: 1-4/8\nFailure-Report: {failure}"), "abcd", '+'));
        harness.written();
        let Some(Event::IncomingMessage { message, .. }) = harness.events().into_iter().nth(1) else { panic!() };
        harness.session.reject(harness.now, message, Status::STOP_SENDING).unwrap();
        let written = harness.written();
        assert_eq!(written.contains("Status: 000 413 "), failure != "no");
        assert_eq!(written.contains("Byte-Range: 1-4/8\r\n"), failure != "no");
        assert_eq!(written.lines().filter(|line| line.ends_with(" REPORT")).count(), expected.len());
    }
}

#[test]
fn chunks_come_in_any_order_and_may_overlap() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid3", "m", "Byte-Range: 7-9/9", "ghi", '$'));
    harness.receive(&send("tid1", "m", "Byte-Range: 1-4/9", "abcd", '+'));
    assert_eq!(harness.answers(), ["tid3 200", "tid1 200"]);
    harness.receive(&send("tid2", "m", "Byte-Range: 3-*/9", "cdefg", '+'));
    assert_eq!(harness.answers(), [""; 0]);
    let expected = ["bound", "begin m Some(9)", "6:ghi", "0:abcd", "2:cdefg", "complete 9"];
    assert_eq!(told(&mut harness), expected);
}

#[test]
fn complete_is_what_has_all_its_bytes_not_what_ends_in_a_dollar() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 5-8/8", "efgh", '$'));
    assert_eq!(harness.answers(), ["tid1 200"]);
    harness.receive(&send("tid2", "m", "Byte-Range: 1-4/8", "abcd", '+'));
    assert_eq!(harness.answers(), [""; 0]);
    assert_eq!(told(&mut harness).last().unwrap(), "complete 8");
}

#[test]
fn without_a_total_the_last_chunk_says_it() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-*/*", "abcd", '+'));
    harness.receive(&send("tid2", "m", "Byte-Range: 5-*/*", "ef", '$'));
    assert_eq!(told(&mut harness), ["bound", "begin m None", "0:abcd", "4:ef", "complete 6"]);
    // Without the header field, and without a chunk of its own for the end.
    harness.receive(&send("tid3", "n", "", "whole", '$'));
    assert_eq!(told(&mut harness), ["begin n None", "0:whole", "complete 5"]);
    harness.receive(&send("tid4", "o", "Byte-Range: 1-*/*", "abcd", '+'));
    let end = "Message-ID: o\nByte-Range: 5-*/*";
    harness.receive(&Request { id: "tid5", method: "SEND", to: OURS, headers: end, body: None, flag: '$' }.text());
    assert_eq!(told(&mut harness), ["begin o None", "0:abcd", "complete 4"]);
}

/// Nothing may be said to have come that is never given to anybody.
#[test]
fn a_last_chunk_that_leaves_bytes_missing_for_ever_is_refused() {
    for range in ["1-*/10", "1-4/10", "1-10/10"] {
        let mut harness = Harness::passive(|_| {});
        harness.receive(&send("tid1", "m", &format!("Byte-Range: {range}"), "abcd", '$'));
        assert_eq!(harness.answers(), ["tid1 400"], "{range}");
        let expected = ["bound", "begin m Some(10)", "0:abcd", "aborted Refused(Status(400))"];
        assert_eq!(told(&mut harness), expected, "{range}");
    }
    // Who counts the CRLF before the end-line may leave out where the chunk ends.
    for range in ["1-*/6", "1-6/6"] {
        let mut harness = Harness::passive(|_| {});
        harness.receive(&send("tid1", "m", &format!("Byte-Range: {range}"), "abcd", '$'));
        assert_eq!(told(&mut harness), ["bound", "begin m Some(6)", "0:abcd", "complete 4"], "{range}");
    }
}

#[test]
fn messages_interleave() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-2/4", "ab", '+'));
    harness.receive(&send("tid2", "n", "Byte-Range: 1-2/4", "uv", '+'));
    harness.receive(&send("tid3", "m", "Byte-Range: 3-4/4", "cd", '$'));
    harness.receive(&send("tid4", "n", "Byte-Range: 3-4/4", "wx", '$'));
    let complete: Vec<_> = harness
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::IncomingComplete { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(harness.answers(), ["tid1 200", "tid2 200"]);
    for (message, expected) in complete.into_iter().rev().zip(["tid4 200", "tid3 200"]) {
        harness.session.accept(harness.now, message).unwrap();
        assert_eq!(harness.answers(), [expected]);
    }
}

#[test]
fn an_abandoned_message_is_thrown_away_and_may_begin_anew() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-*/9", "ab", '#'));
    assert_eq!(harness.answers(), ["tid1 200"]);
    assert_eq!(told(&mut harness), ["bound", "begin m Some(9)", "0:ab", "aborted BySender"]);
    harness.receive(&send("tid2", "m", "Byte-Range: 1-2/2", "ab", '$'));
    assert_eq!(told(&mut harness), ["begin m Some(2)", "0:ab", "complete 2"]);
}

#[test]
fn a_late_chunk_is_answered_as_its_message_was() {
    let late = || send("late", "m", "Byte-Range: 1-2/2", "ab", '+');
    let first = send("tid1", "m", "Byte-Range: 1-2/2", "ab", '$');
    let mut harness = Harness::passive(|_| {});
    harness.receive(&first);
    harness.receive(&late());
    let message = completed(&mut harness);
    assert_eq!(harness.written(), "");
    harness.session.accept(harness.now, message).unwrap();
    assert_eq!(harness.answers(), ["tid1 200", "late 200"]);
    harness.receive(&late());
    assert_eq!(harness.answers(), ["late 200"]);
    assert_eq!(told(&mut harness), [""; 0]);

    let mut harness = Harness::passive(|_| {});
    harness.receive(&first);
    let message = completed(&mut harness);
    harness.session.reject(harness.now, message, Status::FORBIDDEN).unwrap();
    assert_eq!(harness.answers(), ["tid1 403"]);
    harness.receive(&late());
    assert_eq!(harness.answers(), ["late 403"]);
    assert_eq!(harness.session.accept(harness.now, message), Err(VerdictError::UnknownMessage));
}

#[test]
fn held_transactions_are_bounded() {
    let mut harness = Harness::passive(|configuration| configuration.limits.max_held_transactions = 3);
    for id in ["tid1", "tid2", "tid3", "tid4"] {
        harness.receive(&send(id, "m", "Byte-Range: 1-2/2", "ab", '$'));
    }
    let message = completed(&mut harness);
    harness.session.accept(harness.now, message).unwrap();
    assert_eq!(harness.answers(), ["tid1 200", "tid2 200", "tid3 200"]);
}

#[test]
fn an_empty_send_binds_even_where_no_message_is_taken() {
    let mut harness = Harness::passive(|configuration| configuration.receives = false);
    for headers in ["Message-ID: b", "Message-ID: c\nByte-Range: 1-0/0", "Message-ID: d\nContent-Type: text/plain"] {
        for body in [None, Some("")] {
            harness.receive(&Request { id: "bind", method: "SEND", to: OURS, headers, body, flag: '$' }.text());
            assert_eq!(harness.answers(), ["bind 200"], "{headers}");
        }
    }
    assert_eq!(told(&mut harness), ["bound"]);
    harness.receive(&send("tid1", "m", "Byte-Range: 1-2/2", "ab", '$'));
    assert_eq!(harness.answers(), ["tid1 403"]);
    assert_eq!(told(&mut harness), [""; 0]);
}

/// Every status that a receiver gives of itself; 408 is given to oneself (sending), 506 by `connected`.
#[test]
fn every_refusal_has_its_status() {
    let other = |method: &str, to: &str, headers: &str| {
        Request { id: "tid1", method, to, headers, body: Some("ab"), flag: '$' }.text()
    };
    let plain = "Message-ID: m\nContent-Type: text/plain";
    let cases = [
        ("no Message-ID", other("SEND", OURS, "Content-Type: text/plain"), 400),
        ("content without a type", other("SEND", OURS, "Message-ID: m"), 400),
        ("a malformed Byte-Range", send("tid1", "m", "Byte-Range: 1-2", "ab", '$'), 400),
        ("a type not taken", send("tid1", "m", "X-A: b", "ab", '$').replace("text/plain", "image/png"), 415),
        ("a total too large", send("tid1", "m", "Byte-Range: 1-*/17", "ab", '+'), 413),
        ("content too large", send("tid1", "m", "Byte-Range: 1-*/*", "0123456789abcdefg", '+'), 413),
        ("far away", send("tid1", "m", "Byte-Range: 18446744073709551615-*/*", "ab", '+'), 423),
        ("more than the total", send("tid1", "m", "Byte-Range: 1-*/1", "ab", '$'), 423),
        ("an end after the total", send("tid1", "m", "Byte-Range: 1-3/2", "ab", '$'), 423),
        ("another session", other("SEND", "msrp://192.0.2.1:2855/nobody;tcp", plain), 481),
        ("the session id in other letters", other("SEND", &OURS.replace("ours", "OURS"), plain), 481),
        ("an unknown method", other("NICKNAME", OURS, plain), 501),
    ];
    for (what, text, status) in cases {
        let mut harness = Harness::passive(|configuration| {
            configuration.limits.max_incoming_message_bytes = 16;
            configuration.accept_types = Some(AcceptTypes::parse("text/*"));
        });
        harness.receive(&text);
        assert_eq!(harness.answers(), [format!("tid1 {status}")], "{what}");
        assert!(!told(&mut harness).iter().any(|event| event.starts_with("complete")), "{what}");
        // The session goes on.
        harness.receive(&send("next", "other", "Byte-Range: 1-2/2", "ab", '$'));
        let next = completed(&mut harness);
        harness.session.accept(harness.now, next).unwrap();
        assert_eq!(harness.answers(), ["next 200"], "{what}");
    }
}

#[test]
fn chunks_that_contradict_each_other_end_the_message() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-2/8", "ab", '+'));
    harness.receive(&send("tid2", "m", "Byte-Range: 3-4/9", "cd", '+'));
    harness.receive(&send("tid3", "m", "Byte-Range: 5-8/8", "efgh", '$'));
    assert_eq!(harness.answers(), ["tid1 200", "tid2 400", "tid3 400"]);
    assert_eq!(told(&mut harness)[3..], ["aborted Refused(Status(400))"]);
    // A last chunk that ends before bytes that have come.
    harness.receive(&send("tid4", "n", "Byte-Range: 5-*/*", "ef", '+'));
    harness.receive(&send("tid5", "n", "Byte-Range: 1-*/*", "ab", '$'));
    assert_eq!(harness.answers(), ["tid4 200", "tid5 400"]);
}

#[test]
fn too_large_is_said_before_the_chunk_ends() {
    let mut harness = Harness::passive(|configuration| configuration.limits.max_incoming_message_bytes = 16);
    let text = send("tid1", "m", "Byte-Range: 1-*/17", "ab", '+');
    let at = text.find("ab").unwrap() + 2;
    harness.receive(&text[..at]);
    assert_eq!(harness.answers(), ["tid1 413"]);
    harness.receive(&text[at..]);
    assert_eq!(harness.answers(), [""; 0]);
    assert_eq!(told(&mut harness), ["bound"]);
}

#[test]
fn messages_at_once_and_pieces_of_one_are_bounded() {
    let mut harness = Harness::passive(|configuration| {
        configuration.limits.max_incoming_messages = 2;
        configuration.limits.max_ranges_per_message = 2;
    });
    for (id, message) in [("tid1", "m"), ("tid2", "n"), ("tid3", "o")] {
        harness.receive(&send(id, message, "Byte-Range: 1-1/9", "a", '+'));
    }
    assert_eq!(harness.answers(), ["tid1 200", "tid2 200", "tid3 413"]);
    harness.receive(&send("tid4", "m", "Byte-Range: 3-3/9", "a", '+'));
    harness.receive(&send("tid5", "m", "Byte-Range: 5-5/9", "a", '+'));
    assert_eq!(harness.answers(), ["tid4 200", "tid5 413"]);
    // Complete ones do not count.
    for message in ["p", "q", "r", "s"] {
        harness.receive(&send("tid6", message, "Byte-Range: 1-1/1", "a", '$'));
    }
    assert_eq!(harness.answers(), [""; 0]);
    assert_eq!(harness.session.awaiting_verdict(), 4);
    assert!(told(&mut harness).contains(&"aborted Refused(Status(413))".to_owned()));
}

#[test]
fn a_message_in_too_many_pieces_is_thrown_away() {
    let mut harness = Harness::passive(|configuration| configuration.limits.max_ranges_per_message = 1);
    harness.receive(&send("tid1", "m", "Byte-Range: 1-1/9", "a", '+'));
    harness.receive(&send("tid2", "m", "Byte-Range: 3-3/9", "a", '+'));
    assert_eq!(harness.answers(), ["tid1 200", "tid2 413"]);
    assert_eq!(told(&mut harness).last().unwrap(), "aborted Refused(Status(413))");
}

#[test]
fn reports_are_never_answered() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&report("m", "1-4/4", "000 200 OK"));
    harness.receive(&report("m", "1-4/4", "000 481"));
    harness.receive(&report("m", "nonsense", "000 200"));
    harness.receive(&report("m", "1-4/4", "nonsense"));
    harness.receive(&report("m", "1-4/4", "000 200 OK").replace("ours", "nobody"));
    assert_eq!(harness.written(), "");
    assert!(!harness.session.is_ended());
}

#[test]
fn a_refusal_in_the_middle_of_a_chunk_is_said_at_once() {
    let mut harness = Harness::passive(|_| {});
    let text = send("tid1", "m", "Byte-Range: 1-*/4", "abcd", '$');
    let at = text.find("cd").unwrap();
    harness.receive(&text[..at]);
    let Some(Event::IncomingMessage { message, .. }) = harness.events().into_iter().nth(1) else { panic!() };
    assert_eq!(harness.session.accept(harness.now, message), Err(VerdictError::Incomplete));
    harness.session.reject(harness.now, message, Status::UNSUPPORTED_MEDIA_TYPE).unwrap();
    assert_eq!(harness.answers(), ["tid1 415"]);
    harness.receive(&text[at..]);
    assert_eq!(harness.answers(), [""; 0]);
    assert_eq!(told(&mut harness), [""; 0]);
}

#[test]
fn a_second_connection_is_refused() {
    let mut harness = Harness::passive(|_| {});
    assert_eq!(harness.session.connected(harness.now), Err(Status::BOUND_TO_ANOTHER_CONNECTION));
    harness.receive(&send("tid1", "m", "Byte-Range: 1-1/9", "a", '+'));
    assert_eq!(harness.session.connected(harness.now), Err(Status::BOUND_TO_ANOTHER_CONNECTION));
    harness.session.close();
    assert_eq!(harness.session.connected(harness.now), Err(Status::NO_SUCH_SESSION));
}

#[test]
fn a_connection_that_never_comes_ends_the_session() {
    for role in [Role::Active, Role::Passive] {
        let mut harness = Harness::new(common::configuration(role));
        let wake = harness.session.next_wake().unwrap();
        assert_eq!(wake - harness.now, Duration::from_secs(30));
        harness.wait(Duration::from_secs(29));
        assert_eq!(harness.events(), []);
        harness.wait(Duration::from_secs(1));
        assert_eq!(harness.events(), [Event::Ended { reason: EndReason::ConnectionNeverCame }]);
        assert_eq!(harness.session.next_wake(), None);
    }
}

#[test]
fn a_connection_that_says_nothing_for_us_ends_the_session() {
    let mut harness = Harness::passive(|_| {});
    harness.wait(Duration::from_secs(20));
    let text =
        Request { id: "tid1", method: "SEND", to: "msrp://h/x;tcp", headers: "Message-ID: m", body: None, flag: '$' };
    harness.receive(&text.text());
    assert_eq!(harness.answers(), ["tid1 481"]);
    harness.wait(Duration::from_secs(10));
    assert_eq!(harness.events(), [Event::Ended { reason: EndReason::NeverBound }]);
}

#[test]
fn silence_ends_the_session() {
    let mut harness = Harness::passive(|configuration| configuration.limits.slow_period = Duration::from_secs(600));
    harness.receive(&send("tid1", "m", "Byte-Range: 1-1/9", "a", '+'));
    harness.written();
    harness.events();
    harness.wait(Duration::from_secs(299));
    assert_eq!(harness.events(), []);
    harness.wait(Duration::from_secs(1));
    assert_eq!(told(&mut harness), ["aborted SessionEnded", "ended Idle"]);
}

#[test]
fn a_peer_that_does_not_read_its_answers_is_left() {
    let mut harness = Harness::passive(|configuration| configuration.limits.max_control_bytes = 1000);
    for _ in 0..100 {
        harness.receive(&send("tid1", "m", "Byte-Range: 1-1/9", "a", '+'));
    }
    assert_eq!(told(&mut harness).last().unwrap(), "ended TransmitQueueFull");
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-1/9", "a", '+'));
    harness.wait(Duration::from_secs(60));
    assert_eq!(told(&mut harness).last().unwrap(), "ended Stalled");
}

#[test]
fn a_stream_that_cannot_be_read_ends_the_session() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-1/9", "a", '+'));
    harness.events();
    harness.receive("nonsense\r\n");
    let reason = EndReason::ProtocolError(FramingError::StartLine);
    let expected = [
        Event::IncomingAborted { message: first_of(&mut harness), reason: AbortReason::SessionEnded },
        Event::Ended { reason },
    ];
    assert_eq!(harness.events(), expected);
    // What was to be answered still is.
    assert_eq!(harness.answers(), ["tid1 200"]);
}

/// The id of the first message of any session.
fn first_of(_: &mut Harness) -> IncomingId {
    let mut other = Harness::passive(|_| {});
    other.receive(&send("tid1", "m", "Byte-Range: 1-1/1", "a", '$'));
    completed(&mut other)
}

#[test]
fn a_request_without_a_way_back_ends_the_session() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "X-A: b", "a", '$').replace("From-Path", "From"));
    assert!(matches!(harness.events()[..], [Event::Ended { reason: EndReason::Unanswerable(_) }]));
}

#[test]
fn a_bye_does_not_overtake_what_was_sent() {
    let text = send("tid1", "m", "Byte-Range: 1-4/4", "abcd", '$');
    let mut harness = Harness::passive(|_| {});
    harness.receive(&text[..text.len() - 8]);
    harness.session.drain(harness.now, Duration::from_secs(2));
    harness.receive(&text[text.len() - 8..]);
    let message = completed(&mut harness);
    harness.session.accept(harness.now, message).unwrap();
    assert_eq!(harness.answers(), ["tid1 200"]);
    assert_eq!(harness.session.next_wake(), Some(harness.now + Duration::from_secs(2)));
    harness.wait(Duration::from_secs(2));
    assert_eq!(told(&mut harness), ["ended Drained"]);
}

/// A link may have more in its buffers than comes in a moment.
#[test]
fn a_bye_lets_a_message_come_to_its_end() {
    let text = send("tid1", "m", "Byte-Range: 1-*/400", &"abcd".repeat(100), '$');
    let (begun, rest) = text.split_at(200);
    let mut harness = Harness::passive(|_| {});
    harness.receive(begun);
    harness.session.drain(harness.now, Duration::from_secs(2));
    for piece in rest.as_bytes().chunks(40) {
        harness.wait(Duration::from_secs(1));
        harness.receive(std::str::from_utf8(piece).unwrap());
    }
    let message = completed(&mut harness);
    harness.wait(Duration::from_secs(1));
    harness.session.accept(harness.now, message).unwrap();
    assert_eq!(harness.answers(), ["tid1 200"]);
    // What is quiet is not waited for.
    harness.receive(&send("tid2", "n", "Byte-Range: 1-1/4", "a", '+'));
    harness.wait(Duration::from_secs(2));
    assert_eq!(told(&mut harness)[2..], ["aborted SessionEnded", "ended Drained"]);
}

#[test]
fn a_bye_before_the_connection_still_lets_it_come() {
    let mut harness = Harness::new(common::configuration(Role::Passive));
    harness.session.drain(harness.now, Duration::from_secs(2));
    harness.session.connected(harness.now).unwrap();
    harness.receive(&send("tid1", "m", "Byte-Range: 1-4/4", "abcd", '$'));
    completed(&mut harness);
    harness.session.disconnected();
    assert_eq!(told(&mut harness), ["ended Drained"]);
}

#[test]
fn a_drained_session_aborts_what_is_not_complete() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-1/4", "a", '+'));
    harness.session.drain(harness.now, Duration::from_secs(2));
    harness.wait(Duration::from_secs(2));
    assert_eq!(told(&mut harness)[3..], ["aborted SessionEnded", "ended Drained"]);
}

#[test]
fn what_the_message_asks_for_is_told() {
    let mut harness = Harness::passive(|_| {});
    let headers = "Success-Report: yes\nFailure-Report: partial\nContent-Disposition: inline";
    harness.receive(&send("tid1", "m", headers, "a", '$'));
    let events = harness.events();
    let Event::IncomingMessage { content_type, other_headers, success_report, failure_report, .. } = &events[1] else {
        panic!("{events:?}")
    };
    assert_eq!((content_type.as_str(), *success_report), ("text/plain", true));
    assert_eq!(*failure_report, FailureReport::Partial);
    assert_eq!(other_headers[0].value, "inline");
}

#[test]
fn after_the_end_nothing_is_taken() {
    let mut harness = Harness::passive(|_| {});
    harness.receive(&send("tid1", "m", "Byte-Range: 1-1/1", "a", '$'));
    let message = completed(&mut harness);
    harness.session.disconnected();
    assert_eq!(harness.session.accept(harness.now, message), Err(VerdictError::SessionEnded));
    harness.events();
    harness.session.receive(harness.now, Bytes::from(send("tid2", "n", "Byte-Range: 1-1/1", "a", '$')));
    harness.session.drain(harness.now, Duration::from_secs(1));
    harness.session.close();
    assert_eq!(harness.events(), []);
    assert_eq!(harness.written(), "");
}
