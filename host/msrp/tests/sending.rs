//! The sending half of a session: what is written, when a message counts as delivered, what ends it otherwise.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Harness, OURS, THEIRS, message, report, response, response_to, send};
use restante_msrp::framing::{FailureReport, Frame, Framer, FramingLimits, Header, RequestHead};
use restante_msrp::session::{
    EndReason, Event, Outcome, OutgoingId, OutgoingMessage, RejectionOrigin, Role, SendError, SupplyError,
};
use restante_msrp::status::Status;

const SECOND: Duration = Duration::from_secs(1);

/// Answers every request for content with zeros; gives the other events.
fn feed(harness: &mut Harness) -> Vec<Event> {
    let mut others = Vec::new();
    while let Some(event) = harness.session.poll_event() {
        match event {
            Event::NeedBody { message, max_bytes, .. } => {
                harness.session.supply(harness.now, message, Bytes::from(vec![b'0'; max_bytes])).unwrap();
            }
            other => others.push(other),
        }
    }
    others
}

/// Lets the session send all it can, content supplied, nothing answered.
fn send_all(harness: &mut Harness) -> String {
    let mut written = String::new();
    loop {
        let events = feed(harness);
        assert_eq!(events, []);
        let more = harness.written();
        if more.is_empty() {
            return written;
        }
        written += &more;
    }
}

/// Heads of all requests in a stream, with the content's length and how each ended.
fn chunks(written: &str) -> Vec<(RequestHead, usize, u8)> {
    let mut framer = Framer::new(FramingLimits::default());
    framer.push(Bytes::copy_from_slice(written.as_bytes()));
    let mut chunks: Vec<(RequestHead, usize, u8)> = Vec::new();
    while let Some(frame) = framer.next_frame().unwrap() {
        match frame {
            Frame::Request(head) => chunks.push((*head, 0, b'?')),
            Frame::Content(bytes) => chunks.last_mut().unwrap().1 += bytes.len(),
            Frame::End(flag) => chunks.last_mut().unwrap().2 = flag.as_byte(),
            other => panic!("{other:?}"),
        }
    }
    chunks
}

fn ranges(written: &str) -> Vec<String> {
    let tell = |(head, length, flag): &(RequestHead, usize, u8)| {
        format!("{} {length}{}", head.byte_range.unwrap(), char::from(*flag))
    };
    chunks(written).iter().map(tell).collect()
}

fn settled(message: OutgoingId, outcome: Outcome) -> Event {
    Event::MessageSettled { message, outcome }
}

fn rejected(status: Status, origin: RejectionOrigin) -> Outcome {
    Outcome::Rejected { status, origin }
}

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

/// Failure-Report × Success-Report × what comes back: the outcome at once, and after 30 s.
#[test]
fn what_counts_as_delivered() {
    use FailureReport::{No, Partial, Yes};
    let timeout = rejected(Status::TIMED_OUT, RejectionOrigin::Timeout);
    let answered = |status| rejected(status, RejectionOrigin::Response);
    let reported = rejected(Status::FORBIDDEN, RejectionOrigin::Report);
    let acknowledged = Outcome::Acknowledged;
    let too_large = answered(Status::STOP_SENDING);
    type Row = (FailureReport, bool, &'static str, bool, Option<Outcome>, Option<Outcome>);
    let rows: [Row; 22] = [
        (Yes, false, "200", false, Some(acknowledged), None),
        (Yes, true, "200", false, Some(acknowledged), None),
        (Yes, true, "report", false, Some(acknowledged), None),
        (Yes, false, "413", false, Some(too_large), None),
        (Yes, false, "failure", false, Some(reported), None),
        (Yes, false, "nothing", false, None, Some(timeout)),
        (Yes, false, "nothing", true, None, Some(timeout)),
        (Partial, false, "200", false, None, Some(Outcome::Unreported)),
        (Partial, false, "nothing", false, None, Some(Outcome::Unreported)),
        (Partial, false, "nothing", true, None, Some(acknowledged)),
        (Partial, false, "413", true, Some(too_large), None),
        (Partial, true, "report", false, Some(acknowledged), None),
        (Partial, true, "failure", false, Some(reported), None),
        (Partial, true, "nothing", false, None, Some(Outcome::Unreported)),
        (Partial, true, "nothing", true, None, Some(acknowledged)),
        (No, false, "nothing", false, Some(Outcome::Unreported), None),
        (No, false, "nothing", true, Some(acknowledged), None),
        (No, true, "nothing", false, None, Some(Outcome::Unreported)),
        (No, true, "nothing", true, None, Some(acknowledged)),
        (No, true, "report", false, Some(acknowledged), None),
        (No, true, "half", false, None, Some(Outcome::Unreported)),
        (No, true, "failure", false, Some(reported), None),
    ];
    for (failure_report, success_report, comes, counts, at_once, later) in rows {
        let row = format!("{failure_report:?} {success_report} {comes} {counts}");
        let mut harness = Harness::active(|configuration| configuration.count_unreported_as_delivered = counts);
        let sent = OutgoingMessage { success_report, failure_report, ..message("m1", 10) };
        let id = harness.session.send_message(harness.now, sent).unwrap();
        feed(&mut harness);
        let written = harness.written();
        assert_eq!(written.contains("Failure-Report:"), failure_report != Yes, "{row}");
        match comes {
            "200" => harness.receive(&response_to(&written, 200)),
            "413" => harness.receive(&response_to(&written, 413)),
            "report" => harness.receive(&report("m1", "1-10/10", "000 200 OK")),
            "half" => harness.receive(&report("m1", "1-5/10", "000 200 OK")),
            "failure" => harness.receive(&report("m1", "1-10/10", "000 403")),
            _ => {}
        }
        let outcome = |events: Vec<Event>| match events[..] {
            [] => None,
            [Event::MessageSettled { message, outcome }] if message == id => Some(outcome),
            [Event::MessageSettled { message, outcome }, Event::Ended { .. }] if message == id => Some(outcome),
            _ => panic!("{row}: {events:?}"),
        };
        assert_eq!(outcome(harness.events()), at_once, "{row}");
        harness.wait(29 * SECOND);
        assert_eq!(harness.events(), [], "{row}");
        assert_eq!(
            harness.session.next_wake().is_some_and(|wake| wake <= harness.now + SECOND),
            later.is_some(),
            "{row}"
        );
        harness.wait(SECOND);
        assert_eq!(outcome(harness.events()), later, "{row}");
        assert_eq!(harness.session.is_ended(), later == Some(timeout), "{row}");
    }
}

#[test]
fn behind_relays_a_200_is_only_the_next_hop() {
    let mut harness = Harness::active(|configuration| {
        configuration.remote_path = format!("msrp://relay.example:1/r;tcp {THEIRS}").parse().unwrap();
    });
    let sent = OutgoingMessage { success_report: true, ..message("m1", 10) };
    let id = harness.session.send_message(harness.now, sent).unwrap();
    let written = send_all(&mut harness);
    assert!(written.contains("To-Path: msrp://relay.example:1/r;tcp msrp://"));
    harness.receive(&response_to(&written, 200));
    assert_eq!(harness.events(), []);
    harness.receive(&report("m1", "1-10/10", "000 200 OK"));
    assert_eq!(harness.events(), [settled(id, Outcome::Acknowledged)]);
}

/// No news is good news only of what the next hop has.
#[test]
fn what_the_next_hop_never_took_is_not_delivered() {
    let through_relay = || {
        Harness::active(|configuration| {
            configuration.remote_path = format!("msrp://relay.example:1/r;tcp {THEIRS}").parse().unwrap();
            configuration.count_unreported_as_delivered = true;
            configuration.limits.report_timeout = 10 * SECOND;
            configuration.limits.max_chunk_bytes = 5;
        })
    };
    // Of two chunks one is answered: nothing is said after 10 s, and after 30 s that it timed out.
    let mut harness = through_relay();
    let sent = OutgoingMessage { success_report: true, ..message("m1", 10) };
    let id = harness.session.send_message(harness.now, sent.clone()).unwrap();
    let written = send_all(&mut harness);
    let first = chunks(&written)[0].0.transaction_id.as_str().to_owned();
    harness.receive(&response(&first, 200));
    assert_eq!(harness.session.next_wake(), Some(harness.now + 30 * SECOND));
    harness.wait(29 * SECOND);
    assert_eq!(harness.events(), []);
    harness.wait(SECOND);
    assert_eq!(harness.events()[..1], [settled(id, rejected(Status::TIMED_OUT, RejectionOrigin::Timeout))]);
    // Both are.
    let mut harness = through_relay();
    let id = harness.session.send_message(harness.now, sent).unwrap();
    let written = send_all(&mut harness);
    harness.receive(&response_to(&written, 200));
    assert_eq!(harness.session.next_wake(), Some(harness.now + 10 * SECOND));
    harness.wait(10 * SECOND);
    assert_eq!(harness.events(), [settled(id, Outcome::Acknowledged)]);
}

/// A relay says 200 when it has it all, and passes it on to a slow link.
#[test]
fn the_clock_of_a_report_starts_when_the_next_hop_has_it_all() {
    let behind_relay = |total_bytes: u64| {
        let mut harness = Harness::active(|configuration| {
            configuration.remote_path = format!("msrp://relay.example:1/r;tcp {THEIRS}").parse().unwrap();
            configuration.limits.chunk_window = 100;
            configuration.limits.idle_timeout = 60 * SECOND;
        });
        let sent = OutgoingMessage { success_report: true, ..message("m1", total_bytes) };
        let id = harness.session.send_message(harness.now, sent).unwrap();
        let written = send_all(&mut harness);
        harness.wait(25 * SECOND);
        harness.receive(&response_to(&written, 200));
        (harness, id)
    };
    let (mut harness, id) = behind_relay(10);
    harness.wait(29 * SECOND);
    assert_eq!(harness.events(), []);
    harness.receive(&report("m1", "1-10/10", "000 200 OK"));
    assert_eq!(harness.events(), [settled(id, Outcome::Acknowledged)]);
    // What is large takes longer, and its session is not idle meanwhile.
    let (mut harness, id) = behind_relay(100 * 16 * 1024);
    harness.wait(129 * SECOND);
    assert_eq!(harness.events(), []);
    harness.wait(SECOND);
    assert_eq!(harness.events(), [settled(id, Outcome::Unreported)]);
    harness.wait(59 * SECOND);
    assert!(!harness.session.is_ended());
    harness.wait(SECOND);
    assert_eq!(harness.events(), [Event::Ended { reason: EndReason::Idle }]);
}

#[test]
fn reports_of_parts_add_up() {
    let mut harness = Harness::active(|_| {});
    let sent = OutgoingMessage { success_report: true, failure_report: FailureReport::No, ..message("m1", 10) };
    let id = harness.session.send_message(harness.now, sent).unwrap();
    send_all(&mut harness);
    harness.receive(&report("m1", "6-10/10", "000 200 OK"));
    harness.receive(&report("m1", "1-4/10", "000 200 OK"));
    assert_eq!(harness.events(), []);
    harness.receive(&report("m1", "4-7/10", "000 200 OK"));
    assert_eq!(harness.events(), [settled(id, Outcome::Acknowledged)]);
}

#[test]
fn a_report_cannot_speak_of_what_was_not_sent() {
    let mut harness = Harness::active(|configuration| {
        configuration.limits.max_chunk_bytes = 5;
        configuration.limits.chunk_window = 1;
    });
    let sent = OutgoingMessage { success_report: true, ..message("m1", 10) };
    harness.session.send_message(harness.now, sent).unwrap();
    let written = send_all(&mut harness);
    harness.receive(&report("m1", "1-10/10", "000 200 OK"));
    assert_eq!(harness.events(), []);
    // Nor does it count once the rest is sent.
    harness.receive(&response_to(&written, 200));
    assert_eq!(ranges(&send_all(&mut harness)), ["6-10/10 5$"]);
    assert_eq!(harness.events(), []);
    harness.receive(&report("nobody", "1-10/10", "000 200 OK"));
    assert!(matches!(&harness.events()[..], [Event::UnmatchedReport { message_id, .. }] if message_id == "nobody"));
}

/// A refusal of one message leaves the session, except 408, 481 and 506.
#[test]
fn each_status_ends_what_it_has_to() {
    for status in [400, 403, 408, 413, 415, 423, 481, 501, 506, 499] {
        let mut harness = Harness::active(|_| {});
        let first = harness.session.send_message(harness.now, message("m1", 10)).unwrap();
        let second = harness.session.send_message(harness.now, message("m2", 10)).unwrap();
        let written = send_all(&mut harness);
        harness.receive(&response_to(&written, status));
        let status = Status::new(status).unwrap();
        let events = harness.events();
        assert_eq!(events[0], settled(first, rejected(status, RejectionOrigin::Response)));
        if status.ends_session() {
            let reason = EndReason::Refused(status);
            assert_eq!(events[1..], [settled(second, Outcome::Unsent), Event::Ended { reason }]);
        } else {
            assert_eq!(events[1..], [Event::NeedBody { message: second, offset: 0, max_bytes: 10 }]);
        }
    }
}

#[test]
fn a_refused_message_stops_in_the_middle_of_a_chunk() {
    let mut harness = Harness::active(|configuration| configuration.limits.max_write_bytes = 4000);
    let id = harness.session.send_message(harness.now, message("m1", 50_000)).unwrap();
    let next = harness.session.send_message(harness.now, message("m2", 3)).unwrap();
    feed(&mut harness);
    let begun = String::from_utf8(harness.session.poll_transmit(harness.now).unwrap().to_vec()).unwrap();
    harness.receive(&response_to(&begun, 413));
    let refused = settled(id, rejected(Status::STOP_SENDING, RejectionOrigin::Response));
    assert_eq!(feed(&mut harness), [refused]);
    let written = begun + &harness.written();
    assert_eq!(ranges(&written), ["1-*/50000 4000#", "1-3/3 3$"]);
    assert_eq!(harness.session.supply(harness.now, id, Bytes::from_static(b"x")), Err(SupplyError::Settled));
    harness.receive(&response_to(&written, 200));
    assert_eq!(harness.events(), [settled(next, Outcome::Acknowledged)]);
}

#[test]
fn the_clock_of_a_chunk_starts_with_its_last_byte() {
    let mut harness = Harness::active(|configuration| configuration.limits.max_write_bytes = 4000);
    let id = harness.session.send_message(harness.now, message("m1", 5000)).unwrap();
    feed(&mut harness);
    assert!(harness.session.poll_transmit(harness.now).is_some());
    harness.wait(40 * SECOND);
    assert_eq!(harness.events(), []);
    assert!(harness.session.poll_transmit(harness.now).is_some());
    harness.wait(29 * SECOND);
    assert_eq!(harness.events(), []);
    harness.wait(SECOND);
    assert_eq!(harness.events()[..1], [settled(id, rejected(Status::TIMED_OUT, RejectionOrigin::Timeout))]);
}

/// Each message would be waited for as long as the first.
#[test]
fn who_answers_nothing_is_asked_for_nothing_more() {
    for (by_relay, origin) in [(false, RejectionOrigin::Timeout), (true, RejectionOrigin::Report)] {
        let mut harness = Harness::active(|_| {});
        let first = harness.session.send_message(harness.now, message("m1", 10)).unwrap();
        let second = harness.session.send_message(harness.now, message("m2", 10)).unwrap();
        send_all(&mut harness);
        if by_relay {
            harness.receive(&report("m1", "1-10/10", "000 408"));
        } else {
            harness.wait(30 * SECOND);
        }
        let reason = EndReason::Refused(Status::TIMED_OUT);
        let timed_out = settled(first, rejected(Status::TIMED_OUT, origin));
        assert_eq!(harness.events(), [timed_out, settled(second, Outcome::Unsent), Event::Ended { reason }]);
    }
}

/// All of a window counts as written while a slow link has it in its buffers.
#[test]
fn what_is_answered_gives_what_is_behind_it_time() {
    for (answered, last) in [(4, Outcome::Acknowledged), (2, rejected(Status::TIMED_OUT, RejectionOrigin::Timeout))] {
        let mut harness = Harness::active(|configuration| {
            configuration.limits.max_chunk_bytes = 100;
            configuration.limits.chunk_window = 4;
        });
        let id = harness.session.send_message(harness.now, message("m1", 400)).unwrap();
        let sent = chunks(&send_all(&mut harness));
        assert_eq!(sent.len(), 4);
        for (head, ..) in sent.iter().take(answered) {
            harness.wait(25 * SECOND);
            assert_eq!(harness.events(), []);
            harness.receive(&response(head.transaction_id.as_str(), 200));
        }
        if answered < 4 {
            harness.wait(29 * SECOND);
            assert_eq!(harness.events(), []);
            harness.wait(SECOND);
        }
        assert_eq!(harness.events()[..1], [settled(id, last)], "{answered}");
    }
}

#[test]
fn a_200_that_comes_before_the_chunk_is_written_counts_for_nothing() {
    let mut harness = Harness::active(|configuration| configuration.limits.max_write_bytes = 4000);
    harness.session.send_message(harness.now, message("m1", 5000)).unwrap();
    feed(&mut harness);
    let begun = String::from_utf8(harness.session.poll_transmit(harness.now).unwrap().to_vec()).unwrap();
    harness.receive(&response_to(&begun, 200));
    harness.written();
    assert_eq!(harness.events(), []);
    harness.receive(&response_to(&begun, 200));
    assert!(matches!(harness.events()[..], [Event::MessageSettled { outcome: Outcome::Acknowledged, .. }]));
}

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
