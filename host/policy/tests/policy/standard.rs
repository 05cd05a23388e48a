//! The policy that ships, through its real component: what its own tests show of its rules is shown here of the way
//! there and back.

use restante_deferral::decision::{
    AfterDeadline, Answer, AttemptKind, Availability, Context, DeliveryStep, ExpiringMessage, ExpiryAction,
    ExpiryAnswer, FailedMessage, Failure, FailureAction, FailureAnswer, HoldStep, Incoming, IncomingAnswer, Keep,
    NotifyStep, Plan, Progress, Pull, PullAnswer, PullDelivery, Question, Rejection, Relay, Retry, Selection, Step,
    Target, Trigger, WaitingMessage,
};
use restante_deferral::model::{
    Abilities, ContactId, Counts, Delivery, Dispositions, ExpirySource, LastResult, MessageId, MessageKind, Mode,
    Origin, Timestamp, Verification,
};
use restante_policy::{LoadError, Severity, decide};

use crate::support::{NOW, availability, contact, context, incoming, standard, waiting};

const DAY: u64 = 86_400_000;
const FETCH: Timestamp = Timestamp(NOW + 600_000);

fn answer(settings: &str, question: Question) -> Answer {
    let loaded = standard(settings).unwrap();
    let first = decide(&loaded.generation, question.clone());
    assert_eq!(first, decide(&loaded.generation, question), "the same question has the same answer");
    first.unwrap()
}

fn wants(delivery: Delivery) -> Context {
    let mut context = context();
    context.recipient.delivery = Some(delivery);
    context
}

fn ids(numbers: &[u64]) -> Vec<MessageId> {
    numbers.iter().copied().map(MessageId).collect()
}

fn page(numbers: &[u64]) -> Step {
    Step::Page(DeliveryStep { messages: ids(numbers), target: Target::Any })
}

fn session(numbers: &[u64], target: Target) -> Step {
    Step::Session(DeliveryStep { messages: ids(numbers), target })
}

fn hold(numbers: &[u64], until: Option<Timestamp>) -> Step {
    Step::Hold(HoldStep { messages: ids(numbers), until })
}

fn notify(numbers: &[u64]) -> Step {
    Step::Notify(NotifyStep { messages: ids(numbers), fetch_deadline: FETCH, afterwards: AfterDeadline::Push })
}

fn keep_until(expires_at: u64) -> Keep {
    Keep { expires_at: Timestamp(expires_at), priority: 100, deliver_now: true }
}

#[test]
fn arrivals() {
    let full = |stored_messages, stored_bytes| Counts { stored_messages, stored_bytes, ..Counts::default() };
    let reject = |status, reason: &str| {
        IncomingAnswer::Reject(Rejection { status, reason: reason.to_owned(), retry_after_seconds: None })
    };
    let store_is_full = "Recipient's message store is full";
    let kept = || IncomingAnswer::Keep(keep_until(NOW + 7 * DAY));
    let relayed = |expires_at| {
        IncomingAnswer::Relay(Relay {
            deadline_milliseconds: 3_000,
            contacts: Vec::new(),
            otherwise: keep_until(expires_at),
        })
    };
    let cases: Vec<(&str, &str, Incoming, IncomingAnswer)> = vec![
        ("default expiry", "{}", incoming(), kept()),
        (
            "the sender's expiry",
            "{}",
            Incoming { expires_at: Some(Timestamp(NOW + DAY)), ..incoming() },
            IncomingAnswer::Keep(keep_until(NOW + DAY)),
        ),
        (
            "cut by the maximum",
            r#"{"max_keep_seconds": 3600}"#,
            Incoming { expires_at: Some(Timestamp(NOW + DAY)), ..incoming() },
            IncomingAnswer::Keep(keep_until(NOW + 3_600_000)),
        ),
        (
            "the operator's default",
            r#"{"default_keep_seconds": 60}"#,
            incoming(),
            IncomingAnswer::Keep(keep_until(NOW + 60_000)),
        ),
        (
            "the recipient's quota of messages",
            r#"{"recipient_quota": {"messages": 5}}"#,
            Incoming { recipient_counts: full(5, 0), ..incoming() },
            reject(403, store_is_full),
        ),
        (
            "the recipient's quota of bytes, with another status",
            r#"{"recipient_quota": {"bytes": 1000}, "quota_status": 413}"#,
            Incoming { recipient_counts: full(1, 900), ..incoming() },
            reject(413, store_is_full),
        ),
        (
            "the sender's quota",
            r#"{"sender_quota": {"messages": 5}}"#,
            Incoming { sender_counts: full(5, 0), ..incoming() },
            reject(403, "Too many of your messages are waiting"),
        ),
        (
            "no quota for dispositions",
            r#"{"recipient_quota": {"messages": 0}}"#,
            Incoming { kind: MessageKind::Disposition, ..incoming() },
            kept(),
        ),
        (
            "may not wait, recipient there",
            "{}",
            Incoming { expires_at: Some(Timestamp(NOW)), contacts: vec![contact(1)], ..incoming() },
            relayed(NOW),
        ),
        (
            "may not wait, recipient away",
            "{}",
            Incoming { expires_at: Some(Timestamp(NOW)), ..incoming() },
            reject(480, "Recipient is not there and the message may not wait"),
        ),
        (
            "relay where the operator wants it",
            r#"{"relay_milliseconds": 3000}"#,
            Incoming { contacts: vec![contact(1)], ..incoming() },
            relayed(NOW + 7 * DAY),
        ),
        (
            "is composing",
            "{}",
            Incoming { wrapped_type: Some("application/im-iscomposing+xml".to_owned()), ..incoming() },
            IncomingAnswer::Discard("an is-composing indication is not worth keeping".to_owned()),
        ),
    ];
    for (name, settings, arrival, expected) in cases {
        let question = Question::Incoming(context(), Box::new(arrival));
        assert_eq!(answer(settings, question), Answer::Incoming(expected), "{name}");
    }
}

#[test]
fn plans() {
    let steps =
        |settings: &str, context, availability| match answer(settings, Question::Available(context, availability)) {
            Answer::Available(plan) => plan.steps,
            other => panic!("{other:?}"),
        };
    for delivery in [Delivery::Push, Delivery::Pull] {
        assert_eq!(steps("{}", wants(delivery), availability(3)), [page(&[1, 2, 3])], "few, in {delivery:?}");
    }
    let four = || availability(4);
    assert_eq!(steps("{}", context(), four()), [session(&[1, 2, 3, 4], Target::Any)], "more, in push");
    assert_eq!(steps(r#"{"few": 4}"#, context(), four()), [page(&[1, 2, 3, 4])], "few is a setting");
    assert_eq!(steps("{}", wants(Delivery::Pull), four()), [notify(&[1, 2, 3, 4])], "more, in pull");
    let operator = r#"{"delivery": "hold", "precedence": "operator"}"#;
    assert_eq!(steps(operator, wants(Delivery::Push), four()), [hold(&[1, 2, 3, 4], None)], "the operator's word");
    assert_eq!(steps(r#"{"delivery": "pull"}"#, wants(Delivery::Push), four()).len(), 1, "the user's word");

    let mut senders = four();
    senders.messages[1].sender = "sip:carol@example.org".to_owned();
    let by_sender = [session(&[1, 3, 4], Target::Any), session(&[2], Target::Any)];
    assert_eq!(steps("{}", context(), senders.clone()), by_sender);
    senders.contacts[0].abilities = Abilities { cpm_deferred: true, ..senders.contacts[0].abilities };
    assert_eq!(steps("{}", context(), senders), [session(&[1, 2, 3, 4], Target::Contact(ContactId(1)))]);

    let mut mixed = four();
    mixed.messages[0].page_bytes = None;
    mixed.messages[1].kind = MessageKind::Disposition;
    assert_eq!(steps("{}", context(), mixed), [session(&[1, 3, 4], Target::Any), page(&[2])], "dispositions apart");
}

#[test]
fn what_waits_and_when_the_policy_asks_again() {
    let mut queue = Availability { trigger: Trigger::Timer, ..availability(3) };
    queue.messages[1].not_before = Some(Timestamp(NOW + 30_000));
    queue.messages[1].attempts = 1;
    queue.messages[1].last_failure = Some(LastResult { at: Timestamp(NOW), status: Some(480), origin: Origin::Core });
    let expected = Plan {
        steps: vec![hold(&[2, 3], Some(Timestamp(NOW + 30_000))), page(&[1])],
        ask_again_at: Some(Timestamp(NOW + 30_000)),
    };
    assert_eq!(answer("{}", Question::Available(context(), queue.clone())), Answer::Available(expected));
    queue.messages[1].last_failure = Some(LastResult { at: Timestamp(NOW), status: Some(488), origin: Origin::Device });
    let expected = Plan {
        steps: vec![hold(&[2], Some(Timestamp(NOW + 30_000))), page(&[1, 3])],
        ask_again_at: Some(Timestamp(NOW + 30_000)),
    };
    assert_eq!(answer("{}", Question::Available(context(), queue)), Answer::Available(expected));
}

#[test]
fn pulls() {
    let pull = |verification, selection| {
        Question::Pull(
            context(),
            Box::new(Pull {
                contact: Some(contact(1)),
                verification,
                selection,
                accept_types: vec!["message/cpim".to_owned()],
                accept_wrapped_types: vec!["*".to_owned()],
                max_size_bytes: None,
                direction: Default::default(),
                messages: (1..=3).map(waiting).collect(),
                not_shown: 0,
            }),
        )
    };
    let sent = |numbers: &[u64]| {
        Answer::Pull(PullAnswer::Send(PullDelivery { messages: ids(numbers), mode: Mode::Large, keep_copy: false }))
    };
    assert_eq!(answer("{}", pull(Verification::TrustedPeer, Selection::All)), sent(&[1, 2, 3]));
    let two = Selection::Listed(ids(&[3, 1]));
    assert_eq!(answer("{}", pull(Verification::Authenticated, two)), sent(&[1, 3]));
    let refused = answer("{}", pull(Verification::None, Selection::All));
    assert!(matches!(refused, Answer::Pull(PullAnswer::Refuse(rejection)) if rejection.status == 403));
}

#[test]
fn failures() {
    let retry = |after_milliseconds, mode| FailureAction::Retry(Retry { after_milliseconds, mode, contact: None });
    let both_refused = || WaitingMessage { page_refused: true, large_refused: true, ..waiting(1) };
    use AttemptKind::{Page, Session};
    use Origin::{Core, Device, Timeout};
    let cases = [
        ("first retry", Page, Timeout, None, 1, waiting(1), retry(30_000, None)),
        ("second retry", Page, Timeout, None, 2, waiting(1), retry(120_000, None)),
        ("third retry", Page, Core, Some(503), 3, waiting(1), retry(600_000, None)),
        ("fourth retry", Session, Timeout, None, 4, waiting(1), retry(3_600_000, None)),
        ("no more", Session, Timeout, None, 5, waiting(1), FailureAction::Wait),
        ("405 to a MESSAGE", Page, Device, Some(405), 1, waiting(1), retry(0, Some(Mode::Large))),
        ("488 to a session", Session, Device, Some(488), 1, waiting(1), retry(0, Some(Mode::Page))),
        ("500 of a device", Page, Device, Some(500), 1, waiting(1), retry(0, Some(Mode::Large))),
        ("500 of the core", Page, Core, Some(500), 1, waiting(1), retry(30_000, None)),
        ("both refused", Page, Device, Some(415), 2, both_refused(), FailureAction::Notify(FETCH)),
        ("404 of the device", Page, Device, Some(404), 1, waiting(1), FailureAction::GiveUp(true)),
        ("404 of the core", Page, Core, Some(404), 1, waiting(1), retry(30_000, None)),
        ("603 to a MESSAGE", Page, Device, Some(603), 1, waiting(1), FailureAction::GiveUp(true)),
        ("603 to a session", Session, Device, Some(603), 1, waiting(1), FailureAction::Wait),
    ];
    for (name, attempt, origin, status, attempts, message, expected) in cases {
        let failure = Failure {
            attempt,
            contact: Some(ContactId(1)),
            status,
            origin,
            retry_after_seconds: None,
            messages: vec![FailedMessage {
                message: WaitingMessage { attempts, ..message },
                progress: Progress::Refused,
                status: None,
            }],
            other_contacts: Vec::new(),
        };
        let expected = Answer::Failure(vec![FailureAnswer { message: MessageId(1), action: expected }]);
        assert_eq!(answer("{}", Question::Failure(context(), failure)), expected, "{name}");
    }
}

#[test]
fn expiries() {
    let expiring = |id, kind| ExpiringMessage {
        message: WaitingMessage { kind, ..waiting(id) },
        source: ExpirySource::Sender,
        dispositions: Dispositions { negative_delivery: true, ..Dispositions::default() },
    };
    let messages = vec![expiring(1, MessageKind::Message), expiring(2, MessageKind::Disposition)];
    let dropped = |id, report| ExpiryAnswer { message: MessageId(id), action: ExpiryAction::Drop(report) };
    let expected = Answer::Expiry(vec![dropped(1, true), dropped(2, false)]);
    assert_eq!(answer("{}", Question::Expiry(context(), messages)), expected);
}

#[test]
fn settings_are_checked_and_warned_of() {
    let Err(LoadError::Settings(problems)) = standard(r#"{"few": "three", "retry_seconds": [30, -1], "fewer": 1}"#)
    else {
        panic!("bad settings were taken");
    };
    let mut pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/few", "/fewer", "/retry_seconds/1"]);
    assert!(problems.iter().all(|problem| problem.severity == Severity::Error && problem.text.contains("expected")));

    let odd = standard(r#"{"default_keep_seconds": 100, "max_keep_seconds": 10}"#).unwrap();
    assert_eq!(odd.warnings.len(), 1);
    assert_eq!(odd.warnings[0].severity, Severity::Warning);
    assert!(standard("{}").unwrap().warnings.is_empty());
    assert!(matches!(standard("not json"), Err(LoadError::Settings(_))));
    assert!(matches!(standard(&" ".repeat(70_000)), Err(LoadError::SettingsTooLarge { size_bytes: 70_000, .. })));
}

#[test]
fn a_long_queue_is_decided_within_the_bounds_of_an_answer() {
    let Answer::Available(plan) = answer("{}", Question::Available(context(), availability(1_000))) else { panic!() };
    assert_eq!(plan.steps.iter().map(|step| step.messages().len()).sum::<usize>(), 1_000);
    let mut strangers = availability(1_000);
    for message in &mut strangers.messages {
        message.sender = format!("sip:{}@example.org", message.id.0);
    }
    let question = Question::Available(context(), strangers);
    let decided = decide(&standard("{}").unwrap().generation, question);
    assert!(matches!(decided, Ok(Answer::Available(plan)) if plan.steps.len() == 1_000), "a session for each sender");
}
