//! Messages for a named target.

use restante_deferral::decision::{
    Answer, HandOverStep, HoldStep, IncomingAnswer, PullAnswer, PullDelivery, Question, Selection, Step, Trigger,
};
use restante_deferral::model::{Contact, ContactId, Duration, MessageId, Mode, Origin};
use restante_deferral::participating_function::{Arrival, AttemptTask, Event, Input, Limits, PullRequest, Reply};

use super::simulator::build::*;
use super::simulator::{Deed, Devices, World, takes_all};

fn hands_over() -> super::simulator::Policy {
    Box::new(|question| match question {
        Question::Incoming(..) => Ok(Answer::Incoming(IncomingAnswer::HandOver(String::from("sms")))),
        question => pages_all(question),
    })
}

#[test]
fn it_is_accepted_when_stored_and_goes_when_the_target_took_it() {
    let mut world = World::new();
    world.policy = hands_over();
    world.hold_commits = true;
    let token = world.arrives(message("m1"));
    world.seconds(1);
    assert!(world.reply(token).is_none() && world.attempts.is_empty());
    world.let_commits_through();
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::Accepted));
    assert_eq!(world.log(), ["hand over m1 to sms"]);
    assert!(world.waiting().is_empty());
    assert_eq!(world.count(|event| matches!(event, Event::HandedOver(_))), 1);
}

#[test]
fn a_target_that_does_not_answer_is_tried_again_in_order_and_by_nobody_else() {
    let mut world = World::new();
    world.policy = hands_over();
    let clears_at = world.now.after(Duration::from_secs(600));
    world.devices = Box::new(move |now, attempt| match now >= clears_at {
        true => takes_all(attempt),
        false => vec![(100, Deed::Ends(end(Some(503), Origin::Core)))],
    });
    world.registers(&[phone()]);
    world.seconds(10);
    world.arrives(message("m1"));
    world.seconds(20);
    assert!(world.log().iter().all(|line| line.starts_with("hand over")), "{:?}", world.log());
    assert!(world.evicts());
    world.seconds(900);
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn a_crash_before_the_attempt_is_followed_by_one() {
    let mut world = World::new();
    world.policy = hands_over();
    world.devices = Box::new(|_, _| Vec::new());
    world.arrives(message("m1"));
    world.seconds(1);
    assert_eq!(world.log().len(), 1);
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(5);
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn a_crash_while_it_is_decided_what_follows_a_failure_is_followed_by_another_attempt() {
    for has_company in [false, true] {
        let mut world = World::new();
        world.policy = hands_over();
        world.devices = Box::new(|_, _| vec![(100, Deed::Ends(end(Some(503), Origin::Core)))]);
        world.arrives(message("m1"));
        world.run_for(Duration::from_millis(50));
        assert_eq!(world.log().len(), 1);
        world.policy_delay = 3000;
        world.run_for(Duration::from_millis(100));
        if has_company {
            // What else becomes durable meanwhile takes no alarm away.
            world.policy_delay = 0;
            world.policy = Box::new(pages_all);
            world.arrives(message("m2"));
        }
        world.seconds(2);
        world.crashes();
        world.policy_delay = 0;
        world.devices = Box::new(|_, attempt| takes_all(attempt));
        world.seconds(60);
        assert_eq!(world.delivered, ["m1"], "{has_company}");
    }
}

#[test]
fn a_plan_hands_over() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Available(_, availability) => {
            let target = String::from("sms");
            planned(vec![Step::HandOver(HandOverStep { messages: ids(&availability.messages), target })])
        }
        question => pages_all(question),
    });
    world.arrives(message("m1"));
    world.arrives(message("m2"));
    world.seconds(1);
    world.registers(&[phone()]);
    world.seconds(5);
    assert_eq!(world.log(), ["hand over m1 to sms", "hand over m2 to sms"]);
    assert!(world.waiting().is_empty());
}

/// Messages of the gateway are handed over; the others wait until the recipient registers, and are held then.
fn hands_some_over() -> super::simulator::Policy {
    Box::new(|question| match question {
        Question::Incoming(_, incoming) if incoming.sender.address.contains("gateway") => {
            Ok(Answer::Incoming(IncomingAnswer::HandOver(String::from("sms"))))
        }
        Question::Available(..) => planned(Vec::new()),
        Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
        question => pages_all(question),
    })
}

/// A world with a window of six messages.
fn small() -> World {
    let mut world = World::with(Limits {
        max_window_messages: 6,
        max_decision_messages: 4,
        hand_over_targets: vec![String::from("sms")],
        ..Limits::default()
    });
    world.policy = hands_some_over();
    world
}

fn to_be_handed_over(name: &str) -> Arrival {
    from(message(name), "sip:gateway@example.org")
}

/// The target says nothing, or takes everything; devices are not there.
fn target(takes: bool) -> Devices {
    Box::new(move |_, attempt| match &attempt.task {
        AttemptTask::HandOver { .. } if takes => takes_all(attempt),
        AttemptTask::HandOver { .. } => Vec::new(),
        _ => vec![(10, Deed::Ends(timeout()))],
    })
}

#[test]
fn more_than_the_window_holds_are_all_handed_over_after_a_crash() {
    for contacts in [vec![], vec![phone()]] {
        let mut world = small();
        world.registers(&contacts);
        world.seconds(10);
        world.devices = target(false);
        // Every other one is for the recipient.
        for number in 10..50 {
            world.arrives(to_be_handed_over(&format!("h{number}")));
            world.arrives(message(&format!("m{number}")));
        }
        world.seconds(5);
        assert_eq!(world.log(), ["hand over h10 to sms"]);
        world.crashes();
        world.devices = target(true);
        world.seconds(60);
        let handed_over: Vec<String> = (10..50).map(|number| format!("h{number}")).collect();
        let mut delivered = world.delivered.clone();
        // Nobody waits for the rest of the window where nobody is registered, so that the order is kept.
        if !contacts.is_empty() {
            delivered.sort();
        }
        assert_eq!(delivered, handed_over, "{contacts:?}");
        assert!(world.evicts());
    }
}

#[test]
fn what_the_window_let_go_is_handed_over_at_its_time() {
    let mut world = small();
    world.devices = Box::new(|_, _| vec![(10, Deed::Ends(end(Some(503), Origin::Core)))]);
    world.arrives(to_be_handed_over("h1"));
    world.seconds(1);
    for number in 10..30 {
        world.arrives(message(&format!("m{number}")));
    }
    // The target is to be tried again after an hour; meanwhile the recipient comes and goes.
    world.registers(&[phone()]);
    world.seconds(10);
    world.unregisters();
    world.devices = target(true);
    world.seconds(3500);
    assert_eq!(world.log(), ["hand over h1 to sms"]);
    world.seconds(200);
    assert_eq!(world.delivered, ["h1"]);
    assert_eq!(world.waiting().len(), 20);
    assert!(world.evicts());
}

#[test]
fn a_machine_that_is_made_before_its_alarm_rings_hands_over_what_the_alarm_was_for() {
    for expires_before in [false, true] {
        let mut world = small();
        world.devices = Box::new(|_, _| vec![(10, Deed::Ends(end(Some(503), Origin::Core)))]);
        world.arrives(to_be_handed_over("h1"));
        if expires_before {
            let expires_at = Some(world.now.after(Duration::from_secs(1800)));
            world.arrives(Arrival { expires_at, ..message("m0") });
        }
        world.seconds(10);
        assert!(world.evicts());
        world.arrives(message("m1"));
        world.devices = target(true);
        world.seconds(3500);
        assert!(world.delivered.is_empty());
        world.seconds(200);
        assert_eq!(world.delivered, ["h1"], "{expires_before}");
        assert_eq!(world.waiting(), ["m1"]);
    }
}

#[test]
fn what_comes_due_while_something_else_is_to_follow_a_pull_is_not_forgotten() {
    let mut world = small();
    let due = world.now.after(Duration::from_secs(60));
    world.policy = Box::new(move |question| match question {
        Question::Available(_, availability) if availability.trigger == Trigger::Timer => pages_all(question),
        // One of twenty, that is in memory no more, is held until then, the others without a time.
        Question::Available(_, availability) => {
            let messages = ids(&availability.messages).into_iter().filter(|id| id.0 == 10).collect();
            planned(vec![Step::Hold(HoldStep { messages, until: Some(due) })])
        }
        Question::Pull(_, pull) => Ok(Answer::Pull(PullAnswer::Send(PullDelivery {
            messages: ids(&pull.messages),
            mode: Mode::Page,
            keep_copy: false,
        }))),
        question => pages_all(question),
    });
    world.devices = Box::new(move |now, attempt| match &attempt.task {
        AttemptTask::Pull { .. } => vec![(due.since(now).0, Deed::Ends(end(Some(200), Origin::Device)))],
        _ => takes_all(attempt),
    });
    for number in 10..30 {
        world.arrives(message(&format!("m{number}")));
    }
    world.registers(&[phone()]);
    world.seconds(50);
    assert!(world.attempts.is_empty());
    let reply = world.token();
    let named = Selection::Listed(vec![MessageId(1)]);
    world.tell(Input::Pull(Box::new(PullRequest { reply, ..pull(Some(ContactId(1)), named) })));
    world.seconds(60);
    assert_eq!(world.delivered, ["m10", "m19"]);
}

#[test]
fn what_waits_for_the_recipient_stops_no_hand_over() {
    for contacts in [Vec::<Contact>::new(), vec![phone()]] {
        let mut world = small();
        world.policy = Box::new(|question| match question {
            Question::Available(..) => pages_all(question),
            question => hands_some_over()(question),
        });
        world.devices = target(false);
        world.registers(&[phone()]);
        world.seconds(10);
        // The first is not delivered; those behind it wait for it.
        for number in 10..30 {
            world.arrives(message(&format!("m{number}")));
        }
        world.seconds(5);
        world.arrives(to_be_handed_over("h1"));
        world.seconds(5);
        assert_eq!(world.log(), ["page m10 #0 to 1", "hand over h1 to sms"]);
        world.crashes();
        world.contacts = contacts;
        world.devices = target(true);
        world.seconds(60);
        assert_eq!(world.delivered, ["h1"], "{}", world.contacts.len());
        assert_eq!(world.log().len(), 3, "{:?}", world.log());
        assert!(world.store.rows_read < 200, "{}", world.store.rows_read);
    }
}
