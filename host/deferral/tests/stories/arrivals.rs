//! From a message's arrival to its answer.

use restante_deferral::commit::CommitError;
use restante_deferral::decision::{Answer, IncomingAnswer, IncomingPhase, Keep, Question, Rejection, Undecided};
use restante_deferral::model::{
    Body, BodyId, Counts, Dispositions, Duration, ExpirySource, MessageKind, Mode, Timestamp,
};
use restante_deferral::participating_function::{Arrival, Event, Input, Invitation, Limits, Reply};

use super::simulator::World;
use super::simulator::build::*;

#[test]
fn a_message_is_accepted_when_it_is_durable_and_not_before() {
    let mut world = World::new();
    world.hold_commits = true;
    let token = world.arrives(message("m1"));
    world.seconds(3);
    assert_eq!(world.reply(token), None);
    assert_eq!(world.commits, 1);
    world.let_commits_through();
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::Accepted));
    assert_eq!(world.waiting(), ["m1"]);
}

#[test]
fn a_message_that_cannot_be_stored_is_refused_and_leaves_nothing() {
    for error in [CommitError::Overloaded, CommitError::Full, CommitError::Failed] {
        let mut world = World::new();
        world.fail_commits = Some(error);
        let spooled = Body::Spooled { id: BodyId(7), size_bytes: 100_000 };
        let token = world.arrives(Arrival { body: spooled, ..large("m1") });
        world.seconds(1);
        assert_eq!(world.reply(token), Some(&Reply::Unavailable(error)));
        assert_eq!(world.dropped_bodies, 1);
        world.fail_commits = None;
        world.seconds(10);
        assert!(world.waiting().is_empty());
        assert!(world.evicts());
    }
}

#[test]
fn a_machine_whose_queue_cannot_be_read_may_go_when_it_has_said_so() {
    let mut world = World::new();
    world.store.fail_loads = true;
    let token = world.arrives(message("m1"));
    assert!(!world.evicts());
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::Unavailable(CommitError::Failed)));
    assert!(world.evicts());
    // What a registration brings waits until it can be read.
    world.registers(&[phone()]);
    world.seconds(10);
    assert!(!world.evicts());
    world.store.fail_loads = false;
    world.seconds(10);
    assert!(world.evicts());
}

#[test]
fn what_the_tenant_has_no_room_for_is_refused_and_leaves_nothing() {
    let crowded = |arrival: Arrival| Arrival { has_room: false, ..arrival };
    let mut world = World::new();
    let spooled = Body::Spooled { id: BodyId(7), size_bytes: 100_000 };
    let large = world.arrives(crowded(Arrival { body: spooled, ..large("m1") }));
    let page = world.arrives(crowded(message("m2")));
    let repetition = world.arrives(crowded(message("m2")));
    world.seconds(1);
    for token in [large, page, repetition] {
        let Some(Reply::Refused { status: 480, retry_after_seconds: Some(60), .. }) = world.reply(token) else {
            panic!("{:?}", world.reply(token));
        };
    }
    assert_eq!((world.commits, world.dropped_bodies), (0, 1));
    assert!(world.evicts());
    let later = world.arrives(message("m2"));
    world.seconds(1);
    assert_eq!(world.reply(later), Some(&Reply::Accepted), "there is room by then");
}

#[test]
fn what_is_not_stored_anyway_needs_no_room() {
    let mut world = World::new();
    let crowded = |name: &str| Arrival { has_room: false, ..message(name) };
    world.policy = Box::new(|_| Ok(Answer::Incoming(IncomingAnswer::Discard("unwanted".to_owned()))));
    let discarded = world.arrives(crowded("m1"));
    world.seconds(1);
    assert_eq!(world.reply(discarded), Some(&Reply::Accepted));
    let refusal = Rejection { status: 603, reason: "No".to_owned(), retry_after_seconds: None };
    world.policy = Box::new(move |_| Ok(Answer::Incoming(IncomingAnswer::Reject(refusal.clone()))));
    let rejected = world.arrives(crowded("m2"));
    world.seconds(1);
    let Some(Reply::Refused { status: 603, .. }) = world.reply(rejected) else { panic!("{:?}", world.reply(rejected)) };
    assert_eq!(world.commits, 0);
}

#[test]
fn answers_out_of_order_are_carried_out_in_order_of_arrival() {
    let mut world = World::new();
    world.tell(Input::Wake);
    world.seconds(1);
    let now = world.now;
    world.policy = Box::new(move |_| kept(now));
    world.policy_delay = 500;
    let slow = world.arrives(message("m1"));
    world.policy_delay = 0;
    let fast = world.arrives(message("m2"));
    world.run_for(Duration::from_millis(400));
    assert_eq!((world.reply(slow), world.reply(fast)), (None, None));
    world.seconds(1);
    assert_eq!((world.reply(slow), world.reply(fast)), (Some(&Reply::Accepted), Some(&Reply::Accepted)));
    assert_eq!(world.waiting(), ["m1", "m2"]);
}

#[test]
fn a_repetition_is_answered_like_the_first_and_stored_once() {
    let mut world = World::new();
    world.hold_commits = true;
    let first = world.arrives(message("m1"));
    let while_deciding = world.arrives(message("m1"));
    world.seconds(1);
    let while_committing = world.arrives(message("m1"));
    world.seconds(1);
    assert!(world.replies.is_empty());
    world.let_commits_through();
    world.seconds(1);
    let later = world.arrives(message("m1"));
    world.seconds(1);
    assert!(world.evicts());
    let after_eviction = world.arrives(message("m1"));
    world.seconds(1);
    for token in [first, while_deciding, while_committing, later, after_eviction] {
        assert_eq!(world.reply(token), Some(&Reply::Accepted));
    }
    assert_eq!(world.waiting(), ["m1"]);
    assert_eq!(world.count(|event| matches!(event, Event::Stored(_))), 1);
    assert_eq!(world.count(|event| *event == Event::Duplicate), 4);
}

#[test]
fn a_repetition_of_a_refused_message_is_refused_with_it() {
    let mut world = World::new();
    world.policy_delay = 100;
    world.policy = Box::new(|_| Ok(Answer::Incoming(IncomingAnswer::Reject(refusal(403)))));
    let first = world.arrives(message("m1"));
    let second = world.arrives(message("m1"));
    world.seconds(1);
    assert!(matches!(world.reply(first), Some(Reply::Refused { status: 403, .. })));
    assert_eq!(world.reply(first), world.reply(second));
}

#[test]
fn more_than_may_wait_are_told_that_the_server_is_overloaded() {
    let mut world = World::with(Limits { max_waiting_arrivals: 3, ..Limits::default() });
    world.hold_commits = true;
    let tokens: Vec<_> = (0..5).map(|number| world.arrives(message(&format!("m{number}")))).collect();
    world.seconds(1);
    let refused = tokens.iter().filter(|token| {
        matches!(world.reply(**token), Some(Reply::Refused { status: 503, retry_after_seconds: Some(_), .. }))
    });
    assert_eq!(refused.count(), 2);
    world.let_commits_through();
    world.seconds(1);
    assert_eq!(world.waiting(), ["m0", "m1", "m2"]);
    let later = world.arrives(message("m6"));
    world.seconds(1);
    assert_eq!(world.reply(later), Some(&Reply::Accepted));
}

#[test]
fn an_answer_that_cannot_be_carried_out_is_replaced_and_counted() {
    type Make = fn(Timestamp) -> IncomingAnswer;
    let table: [Make; 6] = [
        |_| IncomingAnswer::Reject(refusal(200)),
        |_| IncomingAnswer::Reject(refusal(401)),
        |_| IncomingAnswer::Reject(refusal(407)),
        |_| IncomingAnswer::Reject(refusal(503)),
        |_| IncomingAnswer::HandOver(String::from("nowhere")),
        |now| IncomingAnswer::Keep(Keep { expires_at: now, priority: 1, deliver_now: true }),
    ];
    for make in table {
        let mut world = World::new();
        let now = world.now;
        world.policy = Box::new(move |_| Ok(Answer::Incoming(make(now))));
        let token = world.arrives(message("m1"));
        world.seconds(1);
        assert_eq!(world.reply(token), Some(&Reply::Accepted));
        assert_eq!(world.waiting(), ["m1"]);
        assert_eq!(world.count(|event| *event == Event::FellBack(Undecided::Impossible, "on-incoming")), 1);
    }
}

#[test]
fn without_a_decision_a_message_is_kept_for_the_default_time() {
    let whys =
        [Undecided::Declined, Undecided::Trapped, Undecided::TimedOut, Undecided::OutOfMemory, Undecided::Overloaded];
    for why in whys {
        let mut world = World::new();
        world.policy = Box::new(move |_| Err(why));
        let began = world.now;
        let token = world.arrives(message("m1"));
        world.seconds(1);
        assert_eq!(world.reply(token), Some(&Reply::Accepted));
        assert_eq!(world.events.first(), Some(&Event::FellBack(why, "on-incoming")));
        let row = world.store.queue(&world.key)[0];
        assert!(row.message.expires_at >= began.after(world.limits.default_keep));
        assert_eq!((row.message.priority, row.message.expiry_source), (100, ExpirySource::Operator));
    }
}

#[test]
fn the_senders_expiry_is_only_shortened() {
    let hour = Duration::from_secs(3600);
    let week = Duration::from_secs(7 * 24 * 3600);
    let year = Duration::from_secs(365 * 24 * 3600);
    let max = Limits::default().max_keep;
    // Sender's, policy's, kept for, whose.
    let table = [
        (Some(hour), week, hour, ExpirySource::Sender),
        (Some(week), hour, hour, ExpirySource::Sender),
        (None, hour, hour, ExpirySource::Operator),
        (None, year, max, ExpirySource::Operator),
        (Some(year), year, max, ExpirySource::Sender),
    ];
    for (senders, policys, expected, source) in table {
        let mut world = World::new();
        world.load_delay = 0;
        let now = world.now;
        let answer = Keep { expires_at: now.after(policys), priority: 100, deliver_now: true };
        world.policy = Box::new(move |_| Ok(Answer::Incoming(IncomingAnswer::Keep(answer))));
        let mut arrival = message("m1");
        arrival.expires_at = senders.map(|senders| now.after(senders));
        world.arrives(arrival);
        world.seconds(1);
        let row = world.store.queue(&world.key)[0];
        assert_eq!((row.message.expires_at, row.message.expiry_source), (now.after(expected), source));
    }
}

#[test]
fn a_policy_refuses_and_discards() {
    let mut world = World::new();
    world.policy = Box::new(|_| Ok(Answer::Incoming(IncomingAnswer::Reject(refusal(486)))));
    let refused = world.arrives(message("m1"));
    world.seconds(1);
    assert!(matches!(world.reply(refused), Some(Reply::Refused { status: 486, .. })));
    world.policy = Box::new(|_| Ok(Answer::Incoming(IncomingAnswer::Discard(String::from("spam")))));
    let discarded = world.arrives(message("m2"));
    world.seconds(1);
    assert_eq!(world.reply(discarded), Some(&Reply::Accepted));
    assert_eq!(world.count(|event| *event == Event::Discarded(None, String::from("spam"))), 1);
    assert!(world.waiting().is_empty());
}

#[test]
fn an_invitation_comes_unless_it_is_refused() {
    let mut world = World::new();
    let now = world.now;
    world.policy = Box::new(move |question| match question {
        Question::Incoming(_, incoming) if incoming.phase == IncomingPhase::Invitation => match incoming.size_bytes {
            Some(size) if size > 1000 => Ok(Answer::Incoming(IncomingAnswer::Reject(refusal(413)))),
            Some(_) => kept(now),
            None => Err(Undecided::TimedOut),
        },
        _ => kept(now),
    });
    for (size_bytes, expected) in [(Some(5000), None), (Some(10), Some(Reply::Invite)), (None, Some(Reply::Invite))] {
        let reply = world.token();
        let invitation = Invitation {
            reply,
            request: Default::default(),
            envelope: large("m1").envelope,
            size_bytes,
            sender_counts: Counts::default(),
            tenant_counts: Counts::default(),
            recipient_rates: Counts::default(),
            upstream_failure: None,
        };
        world.tell(Input::Invitation(Box::new(invitation)));
        world.seconds(1);
        match expected {
            Some(expected) => assert_eq!(world.reply(reply), Some(&expected)),
            None => assert!(matches!(world.reply(reply), Some(Reply::Refused { status: 413, .. }))),
        }
    }
}

#[test]
fn the_policy_sees_what_waits_and_who_asks() {
    let mut world = World::new();
    world.arrives(message("m1"));
    world.seconds(1);
    let mut arrival = message("m2");
    arrival.sender_counts = Counts { last_minute: 4, ..Counts::default() };
    arrival.recipient_rates = Counts { last_hour: 9, ..Counts::default() };
    world.arrives(arrival);
    world.seconds(1);
    let Some(Question::Incoming(context, incoming)) = world.questions.last() else { panic!("no question") };
    assert_eq!((context.queue.messages, context.queue.size_bytes), (1, 10));
    assert_eq!((incoming.recipient_counts.stored_messages, incoming.recipient_counts.last_hour), (1, 9));
    assert_eq!((incoming.sender_counts.last_minute, incoming.content_type.as_str()), (4, "message/cpim"));
}

#[test]
fn a_sender_that_asked_for_processing_hears_that_it_is_stored() {
    let mut world = World::new();
    world.hold_commits = true;
    let asked = Dispositions { processing: true, ..Dispositions::default() };
    world.arrives(asking(message("m1"), asked));
    world.seconds(1);
    assert!(world.grew.is_empty());
    world.let_commits_through();
    world.seconds(1);
    let alice = key("sip:alice@example.org");
    assert_eq!(world.grew, std::slice::from_ref(&alice));
    let report = world.store.queue(&alice)[0];
    assert_eq!(report.message.envelope.kind, MessageKind::Disposition);
    assert_eq!(report.message.envelope.mode, Mode::Page);
    let Body::Inline(body) = &report.message.body else { panic!("inline") };
    let text = String::from_utf8_lossy(body);
    assert!(text.contains("<stored/>") && text.contains("<message-id>m1</message-id>"), "{text}");
    assert_eq!(report.message.envelope.request_uri, "sip:alice@example.org");
    assert!(world.store.wake_at(&alice).is_some());
}

#[test]
fn an_alarm_that_was_set_for_a_report_that_was_there_before_does_not_ring_on() {
    let mut world = World::new();
    let asked = Dispositions { processing: true, ..Dispositions::default() };
    world.arrives(asking(message("m1"), asked));
    world.seconds(1);
    // The same comes again, and the process has ended meanwhile: the alarm is set, and nothing is stored.
    world.crashes();
    world.grew.clear();
    world.arrives(asking(message("m1"), asked));
    world.seconds(1);
    assert_eq!(world.grew, [key("sip:alice@example.org")]);
    assert_eq!(world.count(|event| *event == Event::Reported), 1);
}

#[test]
fn nobody_is_told_of_a_report() {
    let mut world = World::new();
    let asked = Dispositions { processing: true, negative_delivery: true, ..Dispositions::default() };
    let mut arrival = asking(message("m1"), asked);
    arrival.envelope.kind = MessageKind::Disposition;
    world.arrives(arrival);
    world.seconds(3600 * 24 * 8);
    assert!(world.waiting().is_empty());
    assert!(world.grew.is_empty());
}

#[test]
fn a_later_expiry_writes_no_alarm() {
    let mut world = World::new();
    for number in 0..10 {
        world.arrives(message(&format!("m{number}")));
        world.seconds(5);
    }
    assert_eq!(world.store.alarms_written, 1);
}

fn refusal(status: u16) -> Rejection {
    Rejection { status, reason: String::from("No"), retry_after_seconds: None }
}
