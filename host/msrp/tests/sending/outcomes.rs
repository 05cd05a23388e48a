//! What counts as delivered, and whose word ends a message otherwise.

use super::*;

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
