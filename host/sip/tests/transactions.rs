//! Two endpoints joined by queues in memory, with a made-up clock and settable loss.

mod pair;

use std::time::Duration;

use pair::{ALICE, BOB, Pair, message_of, tcp};
use proptest::prelude::*;
use restante_sip::dialog::{Dialog, DialogId, establish};
use restante_sip::header::NameAddr;
use restante_sip::message::{MessageLimits, Method, Name, SipMessage};
use restante_sip::transaction::{
    ClientTransactionId, Event, OVERLOAD_RETRY_AFTER_SECONDS, SendError, ServerTransactionId, shard_of_branch,
    shard_of_tag,
};
use restante_sip::writer::Builder;

fn requests(pair: &mut Pair, side: usize) -> Vec<(ServerTransactionId, SipMessage)> {
    pair.events(side)
        .into_iter()
        .filter_map(|event| match event {
            Event::Request { transaction, message, .. } => Some((transaction, message)),
            _ => None,
        })
        .collect()
}

/// An INVITE of Alice's with more fields than are taken from others, and how it goes over the wire.
fn large_invite(pair: &mut Pair) -> (ClientTransactionId, SipMessage) {
    let (now, flow) = (pair.now(), tcp(pair.flow(ALICE)));
    let sent = pair.endpoint(ALICE).send_request(now, Method::Invite, flow, "alice", |via| {
        let builder = Builder::request(&Method::Invite, "sip:you@example.org").field("Via", via);
        let builder = builder.field("From", "<sip:me@example.org>;tag=1").field("To", "<sip:you@example.org>");
        let builder = (0..260).fold(builder.field("Call-ID", "large"), |it, _| it.field("X-Further", "x"));
        builder.field("CSeq", "7 INVITE").finish()
    });
    let bytes = pair.endpoint(ALICE).poll_transmit().unwrap().bytes;
    (sent.unwrap(), SipMessage::parse(bytes, &MessageLimits::UNBOUNDED).unwrap())
}

#[test]
fn an_invite_that_is_larger_than_what_is_taken_from_others_is_acknowledged_and_cancelled() {
    for status in [180, 486] {
        let mut pair = Pair::new(1);
        let (client, invite) = large_invite(&mut pair);
        let response = Builder::response(&invite, status, "X", invite.header(Name::Via), Some("t")).finish().unwrap();
        let (now, flow) = (pair.now(), tcp(pair.flow(ALICE)));
        pair.endpoint(ALICE).receive(now, message_of(&response), flow);
        if status < 200 {
            pair.endpoint(ALICE).cancel(now, client);
        }
        let sent = message_of(&pair.endpoint(ALICE).poll_transmit().expect("an ACK or a CANCEL").bytes);
        assert_eq!(sent.method(), Some(if status < 200 { Method::Cancel } else { Method::Ack }));
        assert_eq!((sent.cseq().unwrap().number, sent.list(Name::Via).count()), (7, 1));
    }
}

fn statuses(events: &[Event]) -> Vec<u16> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Response { message, .. } => message.status(),
            _ => None,
        })
        .collect()
}

#[test]
fn a_message_through_heavy_loss_arrives_once_and_its_sender_learns_the_answer() {
    let mut timed_out = 0;
    for seed in 0..100 {
        let mut pair = Pair::new(seed);
        pair.loss_percent = 50;
        let sent = pair.send(ALICE, Method::Message, "m1");
        let mut arrived = 0;
        let mut answered = Vec::new();
        while pair.step() {
            for (transaction, _) in requests(&mut pair, BOB) {
                arrived += 1;
                pair.answer(BOB, transaction, 202);
            }
            for event in pair.events(ALICE) {
                match event {
                    Event::Response { transaction, message, .. } => {
                        assert_eq!(transaction, sent);
                        answered.push(message.status());
                    }
                    Event::TimedOut { .. } => answered.push(None),
                    other => panic!("{other:?}"),
                }
            }
        }
        // Eleven round trips of which three in four fail: about four in a hundred times all of them do.
        timed_out += usize::from(answered == [None]);
        assert!(arrived == 1 && (answered == [Some(202)] || answered == [None]), "seed {seed}: {arrived} {answered:?}");
        assert!(pair.is_empty());
    }
    assert!(timed_out <= 10, "{timed_out}");
}

#[test]
fn what_belongs_to_a_transaction_is_known_before_it_is_given() {
    let mut pair = Pair::new(1);
    let text = |method: &str, branch: &str| {
        format!(
            "{method} sip:you@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{branch}\r\n\
             From: <sip:me@example.org>;tag=1\r\nTo: <sip:you@example.org>\r\nCall-ID: {branch}\r\n\
             CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let knows = |pair: &mut Pair, method: &str, branch: &str| {
        let request = message_of(&text(method, branch).into_bytes().into());
        pair.endpoint(BOB).knows(&request)
    };
    assert!(!knows(&mut pair, "INVITE", "a"));
    pair.inject(BOB, &text("INVITE", "a"));
    pair.inject(BOB, &text("MESSAGE", "b"));
    for (method, branch, known) in [
        ("INVITE", "a", true),
        ("CANCEL", "a", true),
        ("ACK", "a", true),
        ("MESSAGE", "b", true),
        ("MESSAGE", "a", false),
        ("CANCEL", "b", false),
    ] {
        assert_eq!(knows(&mut pair, method, branch), known, "{method} {branch}");
    }
}

#[test]
fn without_loss_nothing_is_sent_twice() {
    let mut pair = Pair::new(1);
    pair.send(ALICE, Method::Message, "m1");
    pair.deliver();
    let (transaction, _) = requests(&mut pair, BOB).remove(0);
    pair.answer(BOB, transaction, 202);
    pair.run();
    assert_eq!(statuses(&pair.events(ALICE)), [202]);
    assert_eq!(pair.sent, [1, 1]);
}

/// Who forges an address has it sent no more than the request was answered with.
#[test]
fn a_refused_invite_of_somebody_unknown_is_answered_once_for_each_time_it_comes() {
    for (is_known, is_tried, expected) in [(false, false, 2), (true, false, 12), (false, true, 13)] {
        let mut pair = Pair::new(1);
        pair.loss_percent = 100;
        let text = "INVITE sip:you@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKforged\r\n\
                    From: <sip:me@example.org>;tag=1\r\nTo: <sip:you@example.org>\r\nCall-ID: forged\r\n\
                    CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
        pair.inject(BOB, text);
        if is_tried {
            // It is decided about for a while, and there is a 100 meanwhile.
            pair.deliver();
        }
        let (transaction, _) = requests(&mut pair, BOB).remove(0);
        if is_known {
            pair.endpoint(BOB).repeat_refusals(transaction);
        }
        pair.answer(BOB, transaction, 401);
        pair.inject(BOB, text);
        pair.run();
        assert_eq!(pair.sent[BOB], expected, "{is_known} {is_tried}");
    }
}

#[test]
fn a_session_survives_loss() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed);
        pair.loss_percent = 25;
        let (mut caller, mut callee) = (None, None);
        let (mut acknowledged, mut ended, mut bye) = (0, 0, None);
        pair.send(ALICE, Method::Invite, "s1");
        while pair.step() {
            for event in pair.events(BOB) {
                match event {
                    Event::Request { transaction, message, .. } if message.method() == Some(Method::Invite) => {
                        assert!(callee.is_none(), "seed {seed}: two INVITEs");
                        callee = Some(pair.accept(BOB, transaction, &message));
                    }
                    Event::Ack { transaction: Some(_), .. } => acknowledged += 1,
                    Event::Request { transaction, message, .. } => {
                        assert_eq!(DialogId::of_request(&message), callee.as_ref().map(Dialog::id));
                        assert_eq!(callee.as_mut().unwrap().receive(&message), Ok(()));
                        ended += 1;
                        pair.answer(BOB, transaction, 200);
                    }
                    Event::Ack { transaction: None, .. } => {}
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
            for event in pair.events(ALICE) {
                match event {
                    Event::Response { message, .. } if message.cseq().unwrap().method == Method::Invite => {
                        if message.status() == Some(200) {
                            let dialog = Dialog::as_client(&pair.last_request, &message).unwrap();
                            pair.acknowledge(ALICE, &dialog, &message);
                            caller = Some(dialog);
                        }
                    }
                    Event::Response { message, .. } => bye = message.status(),
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
            // Only one who was acknowledged may be sure that BYE means the session both know.
            if acknowledged == 1
                && ended == 0
                && let Some(mut dialog) = caller.take()
            {
                pair.send_in_dialog(ALICE, &mut dialog, &Method::Bye);
            }
        }
        assert_eq!((acknowledged, ended, bye), (1, 1, Some(200)), "seed {seed}");
        assert!(pair.is_empty());
    }
}

#[test]
fn a_cancelled_invite_ends_with_487_even_when_the_cancel_is_lost_at_first() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed);
        let invite = pair.send(ALICE, Method::Invite, "c1");
        pair.deliver();
        let (transaction, _) = requests(&mut pair, BOB).remove(0);
        assert_eq!(statuses(&pair.events(ALICE)), [100]);
        pair.loss_percent = 30;
        pair.cancel(ALICE, invite);
        let (mut cancelled, mut answers) = (0, Vec::new());
        while pair.step() {
            for event in pair.events(BOB) {
                assert!(matches!(event, Event::Cancelled { .. }), "{event:?}");
                cancelled += 1;
                pair.answer(BOB, transaction, 487);
            }
            answers.extend(statuses(&pair.events(ALICE)));
        }
        assert_eq!((cancelled, answers), (1, vec![487]), "seed {seed}");
        assert!(pair.is_empty());
    }
}

#[test]
fn a_cancel_that_crosses_the_2xx_changes_nothing() {
    let mut pair = Pair::new(7);
    let invite = pair.send(ALICE, Method::Invite, "c2");
    pair.deliver();
    let (transaction, message) = requests(&mut pair, BOB).remove(0);
    pair.events(ALICE);
    pair.cancel(ALICE, invite);
    pair.accept(BOB, transaction, &message);
    pair.deliver();
    assert_eq!(statuses(&pair.events(ALICE)), [200]);
    assert!(pair.events(BOB).is_empty(), "no Cancelled after the final answer");
}

#[test]
fn a_cancel_before_any_answer_waits_for_one() {
    let mut pair = Pair::new(7);
    pair.loss_percent = 100;
    let invite = pair.send(ALICE, Method::Invite, "c3");
    pair.cancel(ALICE, invite);
    pair.deliver();
    assert_eq!(pair.sent[ALICE], 1, "the INVITE alone");
    pair.loss_percent = 0;
    while pair.step() && pair.sent[BOB] == 0 {}
    pair.deliver();
    let events = pair.events(BOB);
    assert!(matches!(events[..], [Event::Request { .. }, Event::Cancelled { .. }]), "{events:?}");
}

#[test]
fn an_invite_that_nobody_acknowledges_is_told() {
    let mut pair = Pair::new(3);
    pair.send(ALICE, Method::Invite, "a1");
    pair.deliver();
    let (transaction, message) = requests(&mut pair, BOB).remove(0);
    pair.accept(BOB, transaction, &message);
    let mut missing = 0;
    while pair.step() {
        pair.events(ALICE);
        missing += pair.events(BOB).iter().filter(|event| matches!(event, Event::AckMissing { .. })).count();
    }
    assert_eq!(missing, 1);
    assert!(pair.is_empty());
}

#[test]
fn what_nobody_answers_times_out_after_64_t1_and_what_cannot_be_sent_at_once() {
    for (method, expected) in [(Method::Message, 32_000), (Method::Invite, 32_000)] {
        let mut pair = Pair::new(3);
        pair.loss_percent = 100;
        let sent = pair.send(ALICE, method.clone(), "t1");
        let mut events = Vec::new();
        while events.is_empty() && pair.step() {
            events = pair.events(ALICE);
        }
        assert!(matches!(events[..], [Event::TimedOut { transaction }] if transaction == sent));
        assert_eq!(pair.elapsed(), Duration::from_millis(expected));
        let sent = pair.send(ALICE, method, "t2");
        pair.endpoint(ALICE).transport_failed(sent);
        pair.endpoint(ALICE).transport_failed(sent);
        assert!(matches!(pair.events(ALICE)[..], [Event::NotSent { transaction }] if transaction == sent));
        pair.run();
        assert!(pair.is_empty());
    }
}

#[test]
fn a_request_that_came_by_two_ways_is_482_while_the_first_lives() {
    let mut pair = Pair::new(3);
    let wire = |branch: &str| {
        format!(
            "MESSAGE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK{branch}\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\r\n"
        )
    };
    pair.inject(BOB, &wire("1"));
    pair.inject(BOB, &wire("2"));
    let answer = message_of(&pair.taken(BOB)[0]);
    assert_eq!(answer.status(), Some(482));
    let arrived = requests(&mut pair, BOB);
    assert_eq!(arrived.len(), 1);
    pair.answer(BOB, arrived[0].0, 202);
    pair.inject(BOB, &wire("3"));
    assert_eq!(pair.taken(BOB).iter().map(|bytes| message_of(bytes).status().unwrap()).collect::<Vec<_>>(), [202, 482]);
    pair.run();
    pair.inject(BOB, &wire("4"));
    let arrived = requests(&mut pair, BOB);
    assert_eq!(arrived.len(), 1, "the first is over");
    pair.answer(BOB, arrived[0].0, 480);
    pair.inject(BOB, &wire("5"));
    assert_eq!(requests(&mut pair, BOB).len(), 1, "a refused one may be tried again");
}

#[test]
fn requests_of_rfc_2543_are_matched_without_a_magic_cookie() {
    let mut pair = Pair::new(3);
    let wire = |method: &str, cseq: u32, branch: &str, tag: &str| {
        format!(
            "{method} sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP a{branch}\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:bob@b>{tag}\r\nCall-ID: c\r\nCSeq: {cseq} {method}\r\n\r\n"
        )
    };
    for branch in ["", ";branch=x", ";branch=z9hG4bK"] {
        let mut arrived = Vec::new();
        for cseq in [1, 1, 2] {
            pair.inject(BOB, &wire("INVITE", cseq, branch, ""));
            arrived.extend(requests(&mut pair, BOB));
        }
        assert_eq!(arrived.len(), 2, "{branch:?}");
        pair.inject(BOB, &wire("CANCEL", 1, branch, ""));
        pair.inject(BOB, &wire("CANCEL", 1, branch, ""));
        assert!(matches!(pair.events(BOB)[..], [Event::Cancelled { transaction }] if transaction == arrived[0].0));
        pair.answer(BOB, arrived[0].0, 487);
        pair.answer(BOB, arrived[1].0, 486);
        for cseq in [1, 2] {
            pair.inject(BOB, &wire("ACK", cseq, branch, ";tag=t"));
        }
        assert!(pair.events(BOB).is_empty(), "an ACK to a refusal is the transaction's");
        pair.taken(BOB);
        pair.run();
        assert!(pair.is_empty());
    }
}

#[test]
fn a_cancel_for_nothing_is_481_with_one_tag_however_often_it_comes() {
    let mut pair = Pair::new(3);
    let cancel = "CANCEL sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK9\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 1 CANCEL\r\n\r\n";
    pair.inject(BOB, cancel);
    pair.inject(BOB, cancel);
    let answers = pair.taken(BOB);
    assert_eq!(message_of(&answers[0]).status(), Some(481));
    assert_eq!((answers.len(), &answers[0]), (2, &answers[1]));
    assert!(pair.events(BOB).is_empty());
}

#[test]
fn over_its_limits_it_says_503_or_busy_and_keeps_nothing() {
    let mut pair = Pair::with_limits(3, 2);
    for index in 0..3 {
        pair.inject(BOB, &format!("MESSAGE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK{index}\r\nFrom: <sip:a@a>;tag={index}\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\r\n"));
    }
    let answer = message_of(&pair.taken(BOB)[0]);
    assert_eq!(answer.status(), Some(503));
    assert_eq!(answer.number(Name::RetryAfter), Ok(Some(OVERLOAD_RETRY_AFTER_SECONDS)));
    assert_eq!((requests(&mut pair, BOB).len(), pair.endpoint(BOB).len().0), (2, 2));
    pair.send(BOB, Method::Message, "1");
    pair.send(BOB, Method::Message, "2");
    assert_eq!(pair.try_send(BOB, Method::Message, "3"), Err(SendError::Busy));
}

#[test]
fn a_request_above_1300_bytes_goes_by_a_reliable_transport_only() {
    let mut pair = Pair::new(3);
    let body = [b'x'; 1300];
    let build = |via: &str| Builder::request(&Method::Message, "sip:b").field("Via", via).finish_with_body(&body);
    let (now, udp) = (pair.now(), pair.flow(ALICE));
    let endpoint = pair.endpoint(ALICE);
    assert_eq!(endpoint.send_request(now, Method::Message, udp, "a", build), Err(SendError::TooLargeForUdp));
    assert!(endpoint.is_empty() && endpoint.poll_transmit().is_none());
    assert!(endpoint.send_request(now, Method::Message, tcp(udp), "a", build).is_ok());
}

#[test]
fn over_tcp_nothing_is_repeated_and_finished_transactions_are_gone_at_once() {
    let mut pair = Pair::new(3);
    pair.use_tcp = true;
    pair.send(ALICE, Method::Message, "1");
    pair.deliver();
    let (transaction, _) = requests(&mut pair, BOB).remove(0);
    pair.answer(BOB, transaction, 200);
    assert!(pair.endpoint(BOB).is_empty());
    pair.deliver();
    assert!(pair.is_empty());
    assert_eq!(pair.sent, [1, 1]);
}

#[test]
fn an_answer_is_matched_by_branch_and_method_and_nothing_else() {
    let mut pair = Pair::new(3);
    pair.loss_percent = 100;
    pair.send(ALICE, Method::Message, "1");
    let request = message_of(&pair.taken(ALICE)[0]);
    let via = request.top_via().unwrap();
    let branch = via.branch().unwrap().to_owned();
    assert_eq!(shard_of_branch(&branch), Some(1));
    let answer = |branch: &str, method: &str| {
        format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP elsewhere:1;branch={branch}\r\nFrom: <sip:x@x>\r\nTo: <sip:y@y>\r\nCall-ID: other\r\nCSeq: 9 {method}\r\n\r\n"
        )
    };
    let mut wrong = branch.clone();
    wrong.pop();
    for text in [answer(&wrong, "MESSAGE"), answer(&branch, "CANCEL"), answer("z9hG4bKr01", "MESSAGE")] {
        pair.inject(ALICE, &text);
        assert!(pair.events(ALICE).is_empty());
    }
    pair.inject(ALICE, &answer(&branch, "MESSAGE"));
    assert_eq!(statuses(&pair.events(ALICE)), [200]);
}

#[test]
fn an_unanswered_invite_gets_500_and_its_user_is_told() {
    let mut pair = Pair::new(3);
    pair.inject(BOB, "INVITE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK9\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n");
    assert_eq!(requests(&mut pair, BOB).len(), 1);
    pair.taken(BOB);
    let wake = pair.endpoint(BOB).next_wake().unwrap();
    pair.endpoint(BOB).handle_wake(wake);
    assert!(matches!(pair.events(BOB)[..], [Event::Abandoned { .. }]));
    let answer = message_of(&pair.taken(BOB)[0]);
    assert_eq!(answer.status(), Some(500));
    assert_eq!(shard_of_tag(answer.to().unwrap().tag().unwrap()), Some(2));
    pair.run();
    assert!(pair.is_empty());
}

#[test]
fn answers_follow_the_source_when_rport_is_asked_for() {
    let mut pair = Pair::new(3);
    for (rport, port) in [(";rport", 5061), ("", 7000)] {
        pair.inject(BOB, &format!("MESSAGE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:7000;branch=z9hG4bK{port}{rport}\r\nFrom: <sip:a@a>;tag={port}\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\r\n"));
        let (transaction, _) = requests(&mut pair, BOB).remove(0);
        let response = pair.endpoint(BOB).response(transaction, 200, Some("t")).unwrap().finish().unwrap();
        let now = pair.now();
        pair.endpoint(BOB).respond(now, transaction, 200, response);
        let sent = pair.endpoint(BOB).poll_transmit().unwrap();
        assert_eq!((sent.flow.remote.ip().to_string().as_str(), sent.flow.remote.port()), ("192.0.2.1", port));
        assert!(message_of(&sent.bytes).top_via().unwrap().to_string().contains("received=192.0.2.1"));
    }
}

/// What a random story is made of.
#[derive(Clone, Debug)]
enum Act {
    Send(usize, bool, u8),
    Answer(usize, u8, u16),
    Cancel(usize, u8),
    Fail(usize, u8),
    Steps(u8),
    Loss(u8),
    Noise(usize, String),
}

fn act() -> impl Strategy<Value = Act> {
    let side = 0..2_usize;
    prop_oneof![
        (side.clone(), any::<bool>(), 0..4_u8).prop_map(|(side, invite, name)| Act::Send(side, invite, name)),
        (side.clone(), any::<u8>(), prop::sample::select(vec![100, 180, 200, 202, 302, 404, 486, 487, 503, 603]))
            .prop_map(|(side, which, status)| Act::Answer(side, which, status)),
        (side.clone(), any::<u8>()).prop_map(|(side, which)| Act::Cancel(side, which)),
        (side.clone(), any::<u8>()).prop_map(|(side, which)| Act::Fail(side, which)),
        (1..20_u8).prop_map(Act::Steps),
        (0..100_u8).prop_map(Act::Loss),
        (side, "(INVITE|ACK|CANCEL|MESSAGE|BYE) sip:b SIP/2\\.0\r\nVia: SIP/2\\.0/(UDP|TCP) (a|\\[::1\\])(:[0-9]{1,2})?(;branch=(z9hG4bKr010000000000000001|z9hG4bK)?[0-9]{1,2})?(;rport)?\r\n(From: <sip:a@a>(;tag=1)?\r\n)?To: <sip:b>(;tag=[12])?\r\nCall-ID: [ab]\r\nCSeq: [12] (INVITE|MESSAGE|ACK)\r\n\r\n")
            .prop_map(|(side, text)| Act::Noise(side, text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Each request of ours ends in exactly one final event, nothing panics, and the tables are empty in the end.
    #[test]
    fn whatever_happens_every_transaction_ends(seed in any::<u64>(), acts in prop::collection::vec(act(), 1..60)) {
        let mut pair = Pair::with_limits(seed, 8);
        let mut open: [Vec<ServerTransactionId>; 2] = Default::default();
        let mut sent: [Vec<(ClientTransactionId, u32)>; 2] = Default::default();
        let collect = |pair: &mut Pair, open: &mut [Vec<ServerTransactionId>; 2], sent: &mut [Vec<(ClientTransactionId, u32)>; 2]| {
            for side in [ALICE, BOB] {
                for event in pair.events(side) {
                    let ended = match event {
                        Event::Request { transaction, .. } => { open[side].push(transaction); continue }
                        Event::Response { transaction, message, .. } if message.status() >= Some(300) || message.status() >= Some(200) && message.cseq().unwrap().method != Method::Invite => transaction,
                        // Of an INVITE several 2xx may be told: they count once.
                        Event::Response { transaction, message, .. } if message.status() >= Some(200) => {
                            if let Some(entry) = sent[side].iter_mut().find(|(id, _)| *id == transaction) { entry.1 = 1 }
                            continue
                        }
                        Event::TimedOut { transaction } | Event::NotSent { transaction } => transaction,
                        _ => continue,
                    };
                    if let Some(entry) = sent[side].iter_mut().find(|(id, _)| *id == ended) { entry.1 += 1 }
                }
            }
        };
        for act in acts {
            match act {
                Act::Send(side, invite, name) => {
                    let method = if invite { Method::Invite } else { Method::Message };
                    if let Ok(id) = pair.try_send(side, method, &format!("n{name}")) { sent[side].push((id, 0)) }
                }
                Act::Answer(side, which, status) => if !open[side].is_empty() {
                    let transaction = open[side][usize::from(which) % open[side].len()];
                    pair.answer(side, transaction, status);
                }
                Act::Cancel(side, which) => if !sent[side].is_empty() {
                    let (id, _) = sent[side][usize::from(which) % sent[side].len()];
                    pair.cancel(side, id);
                }
                Act::Fail(side, which) => if !sent[side].is_empty() {
                    let (id, _) = sent[side][usize::from(which) % sent[side].len()];
                    pair.endpoint(side).transport_failed(id);
                }
                Act::Steps(count) => for _ in 0..count { pair.step(); }
                Act::Loss(percent) => pair.loss_percent = percent,
                Act::Noise(side, text) => pair.inject(side, &text),
            }
            collect(&mut pair, &mut open, &mut sent);
        }
        let mut left = 5000;
        while pair.step() {
            collect(&mut pair, &mut open, &mut sent);
            left -= 1;
            prop_assert!(left > 0, "never ends");
        }
        collect(&mut pair, &mut open, &mut sent);
        prop_assert!(pair.is_empty());
        for (id, finals) in sent.iter().flatten() {
            prop_assert_eq!(*finals, 1, "{:?}", id);
        }
    }
}

#[test]
fn dialogs_are_made_with_record_routes_in_both_orders() {
    let mut pair = Pair::new(1);
    pair.inject(BOB, "INVITE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK9\r\nRecord-Route: <sip:p2;lr>, <sip:p1;lr>\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContact: <sip:a@10.0.0.1>\r\n\r\n");
    let (transaction, message) = requests(&mut pair, BOB).remove(0);
    pair.taken(BOB);
    let response = pair.endpoint(BOB).response(transaction, 200, Some("t")).unwrap();
    let response = message_of(&establish(response, &message, "sip:bob@b").finish().unwrap());
    let callee = Dialog::as_server(&message, "t").unwrap();
    let caller = Dialog::as_client(&message, &response).unwrap();
    assert_eq!(callee.route_set, ["sip:p2;lr", "sip:p1;lr"]);
    assert_eq!(caller.route_set, ["sip:p1;lr", "sip:p2;lr"]);
    assert_eq!(NameAddr::parse(response.header(Name::Contact).unwrap()).unwrap().uri.to_string(), "sip:bob@b");
}
