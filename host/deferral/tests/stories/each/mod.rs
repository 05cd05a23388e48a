//! Messages for each of a recipient's devices.

mod properties;
mod slow;

use restante_deferral::decision::{
    Answer, AttemptKind, DeliveryStep, FailureAction, FailureAnswer, Progress, Question, Selection, Step, Target,
};
use restante_deferral::model::{Contact, ContactId, Origin};
use restante_deferral::participating_function::{Attempt, AttemptEnd, AttemptTask, Event, Input, Outcome};

use super::simulator::build::*;
use super::simulator::{Deed, Policy, World, takes_all};

/// Everything goes to each device, in this form.
fn each(step: fn(DeliveryStep) -> Step) -> Policy {
    Box::new(move |question| match question {
        Question::Available(_, availability) => {
            planned(vec![step(DeliveryStep { messages: ids(&availability.messages), target: Target::Each })])
        }
        question => pages_all(question),
    })
}

fn with(policy: Policy) -> World {
    let mut world = World::new();
    world.policy = policy;
    world.side_by_side = true;
    world
}

fn tablet() -> Contact {
    contact(2, 500)
}

fn is_for(attempt: &Attempt, contact: &Contact) -> bool {
    attempt.contact == Some(contact.id)
}

/// A new registration of the same device: another binding.
fn anew(contact: Contact, id: u64) -> Contact {
    Contact { id: ContactId(id), ..contact }
}

#[test]
fn each_device_gets_a_copy_and_then_the_message_goes() {
    for (step, expected) in [
        (
            Step::Page as fn(DeliveryStep) -> Step,
            vec!["page m1 #0 to 1", "page m1 #1 to 2", "page m2 #0 to 1", "page m2 #1 to 2"],
        ),
        (Step::Session, vec!["session m1 m2 to 1", "session m1 m2 to 2"]),
    ] {
        let mut world = with(each(step));
        world.arrives(message("m1"));
        world.arrives(message("m2"));
        world.seconds(1);
        world.registers(&[phone(), tablet()]);
        world.seconds(10);
        assert_eq!(world.log(), expected, "both devices side by side");
        assert!(world.waiting().is_empty());
        assert_eq!(world.count(|event| matches!(event, Event::Delivered(_))), 4);
    }
}

#[test]
fn a_device_that_is_away_gets_its_copy_when_it_is_back_and_nobody_gets_a_second() {
    let mut world = with(each(Step::Page));
    world.devices = Box::new(|_, attempt| match is_for(attempt, &tablet()) {
        true => vec![(32_000, Deed::Ends(timeout()))],
        false => takes_all(attempt),
    });
    world.registers(&[phone(), tablet()]);
    world.seconds(5);
    for name in ["m1", "m2"] {
        world.arrives(message(name));
        world.seconds(40);
    }
    // The tablet holds nobody up a second time.
    assert_eq!(world.log(), ["page m1 #0 to 1", "page m1 #1 to 2", "page m2 #0 to 1"]);
    assert_eq!(world.waiting(), ["m1", "m2"]);
    let asked = |world: &World| {
        world
            .questions
            .iter()
            .any(|it| matches!(it, Question::Failure(_, failure) if failure.attempt == AttemptKind::Page))
    };
    assert!(!asked(&world), "it is delivered, and waits for the other one");
    // What is known is durable: a crash later nobody gets it twice.
    world.crashes();
    world.contacts = vec![phone()];
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.refreshes();
    world.seconds(100);
    assert_eq!(world.log().len(), 3);
    world.registers(&[phone(), anew(tablet(), 7)]);
    world.seconds(20);
    assert_eq!(world.log().get(3..), Some(&["page m1 #0 to 7".to_owned(), "page m2 #0 to 7".to_owned()][..]));
    assert!(world.waiting().is_empty());
}

#[test]
fn a_device_that_is_seen_while_the_message_waits_is_known_and_one_that_comes_later_is_not() {
    let mut world = with(each(Step::Page));
    world.devices = Box::new(|_, attempt| match is_for(attempt, &phone()) {
        true => vec![(100, Deed::Ends(end(Some(486), Origin::Device)))],
        false => takes_all(attempt),
    });
    world.arrives(message("m1"));
    world.registers(&[phone()]);
    world.seconds(5);
    world.registers(&[phone(), tablet()]);
    world.seconds(100);
    assert_eq!(world.waiting(), ["m1"], "the tablet has it, the phone is to get it");
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(60);
    world.refreshes();
    world.seconds(10);
    assert!(world.waiting().is_empty());
    let before = world.log().len();
    world.registers(&[phone(), tablet(), contact(3, 1)]);
    world.seconds(10);
    assert_eq!(world.log().len(), before);
}

#[test]
fn what_no_device_took_is_a_failure_and_one_devices_word_is_not_that_of_all() {
    let mut world = with(Box::new(|question| match question {
        Question::Failure(_, failure) => Ok(Answer::Failure(
            failure
                .messages
                .iter()
                .map(|it| FailureAnswer { message: it.message.id, action: FailureAction::GiveUp(false) })
                .collect(),
        )),
        question => each(Step::Page)(question),
    }));
    world.devices = Box::new(|_, attempt| {
        let status = if is_for(attempt, &phone()) { 486 } else { 603 };
        vec![(100, Deed::Ends(end(Some(status), Origin::Device)))]
    });
    world.arrives(message("m1"));
    world.registers(&[phone(), tablet()]);
    world.seconds(20);
    assert_eq!(world.log(), ["page m1 #0 to 1", "page m1 #1 to 2"]);
    assert_eq!(world.waiting(), ["m1"], "the phone only was busy");
    assert_eq!(world.questions.iter().filter(|it| matches!(it, Question::Failure(..))).count(), 1);
}

#[test]
fn what_was_for_each_stays_so_whatever_is_said_later() {
    let mut world = with(each(Step::Page));
    world.devices = Box::new(|_, attempt| match is_for(attempt, &tablet()) {
        true => vec![(100, Deed::Ends(timeout()))],
        false => takes_all(attempt),
    });
    world.arrives(message("m1"));
    world.registers(&[phone(), tablet()]);
    world.seconds(10);
    world.policy = Box::new(pages_all);
    world.registers(&[phone()]);
    world.seconds(100);
    assert_eq!(world.waiting(), ["m1"]);
    // The phone fetches: it has it, and nothing goes.
    let mut request = pull(Some(phone().id), Selection::All);
    request.reply = world.token();
    world.tell(Input::Pull(Box::new(request)));
    world.seconds(5);
    assert_eq!(world.waiting(), ["m1"]);
    world.seconds(8 * 24 * 3600);
    assert!(world.waiting().is_empty(), "its time is up");
}

#[test]
fn three_devices_get_their_copies_in_order_without_registering_again() {
    for step in [Step::Page as fn(DeliveryStep) -> Step, Step::Session] {
        let mut world = with(each(step));
        // The second one takes its time, so that what comes next finds the first message on its way to it.
        world.devices = Box::new(|_, attempt| match is_for(attempt, &tablet()) {
            true => takes_all(attempt).into_iter().map(|(at, deed)| (3_000 + at, deed)).collect(),
            false => takes_all(attempt),
        });
        world.registers(&[phone(), tablet(), contact(3, 100)]);
        world.seconds(5);
        world.arrives(message("m1"));
        world.seconds(1);
        world.arrives(message("m2"));
        world.seconds(60);
        assert!(world.waiting().is_empty(), "{:?}", world.log());
        assert_eq!(world.count(|event| matches!(event, Event::Delivered(_))), 6);
        for id in 1..=3 {
            let to = format!("to {id}");
            let log = world.log();
            let got: Vec<bool> = log.iter().filter(|it| it.ends_with(&to)).map(|it| it.contains("m1")).collect();
            assert!(got == [true, false] || got == [true], "{log:?}");
        }
    }
}

#[test]
fn a_device_that_refuses_or_is_away_does_not_keep_the_last_one_from_its_copy() {
    for end_of_tablet in [end(Some(486), Origin::Device), timeout()] {
        let mut world = with(each(Step::Page));
        world.devices = Box::new(move |_, attempt| match is_for(attempt, &tablet()) {
            true => vec![(1_000, Deed::Ends(end_of_tablet.clone()))],
            false => takes_all(attempt),
        });
        world.registers(&[phone(), tablet(), contact(3, 100)]);
        world.seconds(5);
        world.arrives(message("m1"));
        world.seconds(60);
        assert_eq!(world.log().iter().filter(|it| it.ends_with("to 3")).count(), 1, "{:?}", world.log());
        assert!(world.log().len() <= 4, "the one that refuses is not asked on and on: {:?}", world.log());
        assert_eq!(world.waiting(), ["m1"]);
    }
}

#[test]
fn a_device_that_does_not_take_the_shape_gets_it_in_the_other_one_and_is_asked_once() {
    let mut world = with(each(Step::Page));
    world.devices = Box::new(|_, attempt| match (&attempt.task, is_for(attempt, &tablet())) {
        (AttemptTask::Page { .. }, true) => vec![(100, Deed::Ends(end(Some(488), Origin::Device)))],
        _ => takes_all(attempt),
    });
    world.registers(&[phone(), tablet()]);
    world.seconds(5);
    world.arrives(message("m1"));
    world.seconds(60);
    assert_eq!(world.log(), ["page m1 #0 to 1", "page m1 #1 to 2", "session m1 to 2"]);
    assert!(world.waiting().is_empty());
    // One that takes neither is left out until it registers again.
    world.devices = Box::new(|_, attempt| match is_for(attempt, &tablet()) {
        true => vec![(100, Deed::Ends(end(Some(488), Origin::Device)))],
        false => takes_all(attempt),
    });
    world.arrives(message("m2"));
    world.seconds(100);
    world.arrives(message("m3"));
    world.seconds(100);
    let of =
        |world: &World, name: &str| world.log().iter().filter(|it| it.contains(name) && it.ends_with("to 2")).count();
    assert_eq!((of(&world, "m2"), of(&world, "m3")), (2, 2), "{:?}", world.log());
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(60);
    world.refreshes();
    world.seconds(20);
    assert!(world.waiting().is_empty(), "{:?}", world.log());
}

#[test]
fn what_a_device_refuses_in_a_session_that_ends_well_does_not_go_there_again() {
    let mut world = with(each(Step::Session));
    // Its `a=max-size` is small: the session ends as it should, without the message.
    world.devices = Box::new(|_, attempt| match (&attempt.task, is_for(attempt, &tablet())) {
        (AttemptTask::Session { messages, .. }, true) => {
            let too_large = Outcome::Failed { progress: Progress::Refused, status: Some(413) };
            let outcomes = messages.iter().map(|stored| (stored.id, too_large)).collect();
            vec![(100, Deed::Ends(AttemptEnd { outcomes, ..end(Some(200), Origin::Device) }))]
        }
        (AttemptTask::Page { .. }, true) => vec![(100, Deed::Ends(end(Some(488), Origin::Device)))],
        _ => takes_all(attempt),
    });
    world.registers(&[phone(), tablet()]);
    world.seconds(5);
    world.arrives(message("m1"));
    world.seconds(600);
    assert_eq!(world.log(), ["session m1 to 1", "session m1 to 2", "page m1 #2 to 2"]);
    assert_eq!(world.waiting(), ["m1"], "it waits for the tablet to register anew");
}

#[test]
fn who_refuses_everything_is_not_asked_without_end() {
    let mut world = with(each(Step::Page));
    world.devices = Box::new(|_, attempt| match is_for(attempt, &tablet()) {
        true => vec![(1, Deed::Ends(end(Some(488), Origin::Device)))],
        false => takes_all(attempt),
    });
    world.registers(&[phone(), tablet()]);
    world.seconds(5);
    let count = 150;
    for number in 0..count {
        world.arrives(message(&format!("m{number}")));
        world.seconds(5);
    }
    let asked = world.log().iter().filter(|it| it.ends_with("to 2")).count();
    world.seconds(100);
    let then = world.log().iter().filter(|it| it.ends_with("to 2")).count();
    assert!(asked <= 2 * count && then == asked, "{asked} and then {then}");
}

#[test]
fn after_a_crash_while_a_copy_is_on_its_way_it_goes_out_again_without_a_registration() {
    let mut world = with(each(Step::Page));
    world.devices = Box::new(|_, attempt| match is_for(attempt, &tablet()) {
        true => vec![(60_000, Deed::Ends(timeout()))],
        false => takes_all(attempt),
    });
    world.registers(&[phone(), tablet()]);
    world.seconds(5);
    world.arrives(message("m1"));
    world.seconds(20);
    assert_eq!(world.log(), ["page m1 #0 to 1", "page m1 #1 to 2"]);
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(30);
    assert!(world.waiting().is_empty(), "{:?}", world.log());
    assert_eq!(world.log().iter().filter(|it| it.ends_with("to 1")).count(), 1);
}
