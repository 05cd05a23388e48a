//! What waits behind a message that stops the rest is looked at again however that message goes.

use restante_deferral::decision::{
    Answer, ExpiryAction, ExpiryAnswer, FailureAction, FailureAnswer, PullAnswer, PullDelivery, Question, Retry,
    Selection, Trigger,
};
use restante_deferral::model::{ContactId, Duration, MessageId, Mode, Origin, Timestamp};
use restante_deferral::participating_function::{AttemptTask, Input, PullRequest};

use super::simulator::build::*;
use super::simulator::{Deed, Devices, Policy, World, takes_all};

/// On failure, this for the message with this number.
fn on_failure(action: impl Fn(MessageId) -> FailureAction + 'static) -> Policy {
    Box::new(move |question| match question {
        Question::Failure(_, failure) => {
            let answer = |message| FailureAnswer { message, action: action(message) };
            Ok(Answer::Failure(failure.messages.iter().map(|failed| answer(failed.message.id)).collect()))
        }
        question => pages_all(question),
    })
}

/// Nobody answers; targets take everything.
fn silent() -> Devices {
    Box::new(|_, attempt| match attempt.task {
        AttemptTask::HandOver { .. } => takes_all(attempt),
        _ => vec![(32_000, Deed::Ends(timeout()))],
    })
}

fn with_messages(names: &[&str], policy: Policy) -> World {
    let mut world = World::new();
    world.policy = policy;
    for name in names {
        world.arrives(message(name));
    }
    world.seconds(10);
    world
}

fn sms() -> FailureAction {
    FailureAction::HandOver(String::from("sms"))
}

fn retry(seconds: u64) -> FailureAction {
    FailureAction::Retry(Retry { after_milliseconds: 1000 * seconds, mode: None, contact: None })
}

fn discards(world: &mut World, id: u64) {
    let reply = world.token();
    world.tell(Input::Discard { reply, messages: Some(vec![MessageId(id)]), report: false });
}

#[test]
fn one_that_is_handed_over_after_a_failure_lets_the_next_be_tried() {
    let mut world = with_messages(&["m1", "m2", "m3"], on_failure(|_| sms()));
    world.devices = silent();
    world.registers(&[phone()]);
    world.seconds(200);
    let tried = |name| [format!("page {name} #0 to 1"), format!("hand over {name} to sms")];
    let mut log = world.log();
    log.retain(|line| !line.starts_with("hand over"));
    assert_eq!(log, ["m1", "m2", "m3"].map(|name| tried(name)[0].clone()));
    assert_eq!(world.delivered, ["m1", "m2", "m3"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn nobody_is_asked_faster_though_each_is_handed_over() {
    let names: Vec<String> = (10..60).map(|number| format!("m{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = with_messages(&names, on_failure(|_| sms()));
    world.devices = Box::new(|_, attempt| match attempt.task {
        AttemptTask::HandOver { .. } => takes_all(attempt),
        _ => vec![(0, Deed::Ends(end(Some(480), Origin::Core)))],
    });
    world.registers(&[phone()]);
    world.seconds(100);
    let tries: Vec<Timestamp> = world
        .attempts
        .iter()
        .filter(|(_, attempt)| matches!(attempt.task, AttemptTask::Page { .. }))
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(tries.len(), names.len());
    for two in tries.windows(2) {
        assert!(two[1] >= two[0].after(world.limits.min_ask_interval), "{tries:?}");
    }
}

#[test]
fn one_whose_time_is_up_during_its_attempt_lets_the_next_be_tried() {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    let mut first = message("m1");
    first.expires_at = Some(world.now.after(Duration::from_secs(80)));
    world.arrives(first);
    world.arrives(message("m2"));
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { message, .. } if message.id.0 == 1 => vec![(32_000, Deed::Ends(timeout()))],
        _ => takes_all(attempt),
    });
    world.registers(&[phone()]);
    world.seconds(120);
    assert_eq!(world.log(), ["page m1 #0 to 1", "page m1 #1 to 1", "page m2 #0 to 1"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn one_whose_time_is_up_while_it_waits_lets_the_next_be_tried() {
    for (evicted, hands_over) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new();
        world.policy = Box::new(move |question| match question {
            Question::Expiry(_, messages) if hands_over => {
                let answer = |message| ExpiryAnswer { message, action: ExpiryAction::HandOver(String::from("sms")) };
                Ok(Answer::Expiry(messages.iter().map(|expiring| answer(expiring.message.id)).collect()))
            }
            Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
            question => pages_all(question),
        });
        let mut first = message("m1");
        first.expires_at = Some(world.now.after(Duration::from_secs(1000)));
        world.arrives(first);
        world.arrives(message("m2"));
        world.devices = Box::new(|_, attempt| match &attempt.task {
            AttemptTask::Page { message, .. } if message.id.0 == 1 => vec![(32_000, Deed::Ends(timeout()))],
            _ => takes_all(attempt),
        });
        world.registers(&[phone()]);
        world.seconds(500);
        assert_eq!(world.log(), ["page m1 #0 to 1"]);
        assert!(!evicted || world.evicts());
        world.seconds(600);
        assert!(world.log().contains(&String::from("page m2 #0 to 1")), "{evicted} {hands_over} {:?}", world.log());
        assert!(world.waiting().is_empty());
    }
}

#[test]
fn one_that_the_operator_drops_lets_the_next_be_tried() {
    for evicted in [false, true] {
        let mut world = with_messages(&["m1", "m2"], on_failure(|_| FailureAction::Wait));
        world.devices = Box::new(|_, _| vec![(32_000, Deed::Ends(timeout()))]);
        world.registers(&[phone()]);
        world.seconds(500);
        assert_eq!(world.log(), ["page m1 #0 to 1"]);
        assert!(!evicted || world.evicts());
        world.devices = Box::new(|_, attempt| takes_all(attempt));
        discards(&mut world, 1);
        world.seconds(10);
        assert_eq!(world.log()[1..], ["page m2 #0 to 1"], "{evicted}");
    }
}

#[test]
fn what_is_due_behind_one_that_waits_keeps_its_turn() {
    // Both failed in one session; the first waits for the recipient, the second is due before the first is dropped.
    for evicted in [false, true] {
        let action = |id: MessageId| if id.0 == 1 { FailureAction::Wait } else { retry(60) };
        let mut world = World::new();
        let mut fails = on_failure(action);
        world.policy = Box::new(move |question| match question {
            Question::Failure(..) => fails(question),
            question => one_session(question),
        });
        world.arrives(large("m1"));
        world.arrives(large("m2"));
        world.seconds(1);
        world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(timeout()))]);
        world.registers(&[phone()]);
        world.seconds(500);
        assert_eq!(world.log(), ["session m1 m2 to 1"]);
        let wake = world.next_moment();
        assert!(wake.is_some_and(|at| at > world.now.after(Duration::from_secs(3600))), "{wake:?}");
        assert!(!evicted || world.evicts());
        world.devices = Box::new(|_, attempt| takes_all(attempt));
        discards(&mut world, 1);
        world.seconds(10);
        assert_eq!(world.log()[1..], ["session m2 to 1"], "{evicted}");
    }
}

#[test]
fn what_is_due_when_the_first_is_handed_over_is_tried() {
    // The second has failed before, with the first; then the first alone, and is handed over.
    let mut failures = 0;
    let mut world = World::new();
    world.policy = Box::new(move |question| match question {
        Question::Failure(_, failure) => {
            failures += 1;
            let action = |id: MessageId| match (failures, id.0) {
                (2.., 1) => sms(),
                _ => retry(30),
            };
            let answer = |message| FailureAnswer { message, action: action(message) };
            Ok(Answer::Failure(failure.messages.iter().map(|failed| answer(failed.message.id)).collect()))
        }
        Question::Available(_, availability) if availability.trigger == Trigger::Registered => one_session(question),
        question => pages_all(question),
    });
    world.arrives(message("m1"));
    world.arrives(message("m2"));
    world.seconds(1);
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { message, .. } if message.id.0 == 2 => takes_all(attempt),
        AttemptTask::HandOver { .. } => takes_all(attempt),
        _ => vec![(1000, Deed::Ends(timeout()))],
    });
    world.registers(&[phone()]);
    world.seconds(100);
    let expected = ["session m1 m2 to 1", "page m1 #1 to 1", "hand over m1 to sms", "page m2 #1 to 1"];
    assert_eq!(world.log(), expected);
    assert!(world.waiting().is_empty());
}

#[test]
fn what_stands_before_the_one_that_failed_is_not_forgotten() {
    // The policy sends the second first.
    let mut world = with_messages(&["m1", "m2"], Box::new(pages_all));
    world.policy = Box::new(|question| match question {
        Question::Available(_, availability) => {
            let mut messages = ids(&availability.messages);
            messages.reverse();
            planned(vec![restante_deferral::decision::Step::Page(any(messages))])
        }
        Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
        question => pages_all(question),
    });
    world.devices = Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { message, .. } if message.id.0 == 2 => vec![(0, Deed::Ends(timeout()))],
        _ => takes_all(attempt),
    });
    world.registers(&[phone()]);
    world.seconds(20);
    assert_eq!(world.log(), ["page m2 #0 to 1", "page m1 #0 to 1"]);
    assert_eq!(world.waiting(), ["m2"]);
}

#[test]
fn nobody_looks_again_and_again_at_a_kept_copy_whose_retry_was_due() {
    let mut world = with_messages(&["m1", "m2"], Box::new(pages_all));
    let mut fails = on_failure(|_| retry(100));
    world.policy = Box::new(move |question| match question {
        Question::Failure(..) => fails(question),
        Question::Pull(_, pull) => {
            let delivery = PullDelivery { messages: ids(&pull.messages), mode: Mode::Large, keep_copy: true };
            Ok(Answer::Pull(PullAnswer::Send(delivery)))
        }
        question => pages_all(question),
    });
    world.devices = Box::new(|_, attempt| match attempt.task {
        AttemptTask::Pull { .. } => takes_all(attempt),
        _ => vec![(1000, Deed::Ends(timeout()))],
    });
    world.registers(&[phone()]);
    world.seconds(20);
    let reply = world.token();
    let request = pull(Some(ContactId(1)), Selection::Listed(vec![MessageId(1)]));
    world.tell(Input::Pull(Box::new(PullRequest { reply, ..request })));
    world.seconds(20);
    assert_eq!(world.delivered, ["m1"]);
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(100);
    assert_eq!(world.delivered, ["m1", "m2"], "it stops nobody any more");
    assert_eq!(world.waiting(), ["m1"]);
    let wake = world.next_moment();
    assert!(wake.is_some_and(|at| at > world.now.after(Duration::from_secs(3600))), "{wake:?}");
    world.registers(&[phone(), contact(2, 500)]);
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2", "m1"], "another device gets it, too");
}
