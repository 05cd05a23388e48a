//! Times that come while something else goes on.

use restante_deferral::decision::{AfterDeadline, HoldStep, NotifyStep, Question, Step, Trigger};
use restante_deferral::model::{Duration, MessageId, Origin, Timestamp};
use restante_deferral::participating_function::{AttemptTask, Input};

use super::simulator::build::*;
use super::simulator::{Deed, World, takes_all};

fn with_messages(names: &[&str]) -> World {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    for name in names {
        world.arrives(message(name));
    }
    world.seconds(10);
    world
}

/// The policy does this with all that it is shown for a registration, and pages what comes with other triggers.
fn once(steps: fn(Timestamp, Vec<MessageId>) -> Vec<Step>) -> super::simulator::Policy {
    Box::new(move |question| match question {
        Question::Available(context, availability) if availability.trigger == Trigger::Registered => {
            planned(steps(context.now, ids(&availability.messages)))
        }
        question => pages_all(question),
    })
}

/// The second message takes its device half a minute; everything else is taken at once.
fn slow_with_the_second() -> super::simulator::Devices {
    Box::new(|_, attempt| match &attempt.task {
        AttemptTask::Page { message, .. } if message.id.0 == 2 => {
            vec![(30_000, Deed::Ends(end(Some(200), Origin::Device)))]
        }
        _ => takes_all(attempt),
    })
}

#[test]
fn a_time_that_comes_while_the_plan_that_named_it_runs_is_not_forgotten() {
    let held: fn(Timestamp, Vec<MessageId>) -> Vec<Step> = |now, ids| {
        let until = Some(now.after(Duration::from_secs(20)));
        vec![Step::Hold(HoldStep { messages: vec![ids[0]], until }), Step::Page(any(vec![ids[1]]))]
    };
    let announced: fn(Timestamp, Vec<MessageId>) -> Vec<Step> = |now, ids| {
        let fetch_deadline = now.after(Duration::from_secs(20));
        let afterwards = AfterDeadline::Push;
        let notify = Step::Notify(NotifyStep { messages: vec![ids[0]], fetch_deadline, afterwards });
        vec![notify, Step::Page(any(vec![ids[1]]))]
    };
    for (what, steps) in [("held", held), ("announced", announced)] {
        let mut world = with_messages(&["m1", "m2"]);
        world.policy = once(steps);
        world.devices = slow_with_the_second();
        world.registers(&[subscribed(phone())]);
        world.seconds(60);
        assert_eq!(world.delivered, ["m2", "m1"], "{what}");
    }
}

#[test]
fn a_time_that_comes_while_a_plan_runs_that_left_the_message_alone_is_not_forgotten() {
    let mut world = with_messages(&["m1", "m2"]);
    world.policy = once(|now, ids| {
        let until = Some(now.after(Duration::from_secs(20)));
        vec![Step::Hold(HoldStep { messages: ids, until })]
    });
    world.registers(&[phone()]);
    world.seconds(10);
    // A refresh shows what is held, too; the policy leaves the first as it is, whose time comes meanwhile.
    world.policy = Box::new(|question| match question {
        Question::Available(_, availability) if availability.trigger == Trigger::Operator => {
            planned(vec![Step::Page(any(vec![availability.messages[1].id]))])
        }
        question => pages_all(question),
    });
    world.devices = slow_with_the_second();
    world.tell(Input::Contacts(world.contacts.clone(), Trigger::Operator));
    world.seconds(60);
    assert_eq!(world.delivered, ["m2", "m1"]);
}

#[test]
fn a_hold_that_follows_a_deadline_ends_though_its_plan_runs_longer() {
    let mut world = with_messages(&["m1", "m2"]);
    world.devices = slow_with_the_second();
    world.policy = Box::new(|question| match question {
        Question::Available(context, availability) if availability.trigger == Trigger::Registered => {
            let fetch_deadline = context.now.after(Duration::from_secs(10));
            let messages = ids(&availability.messages);
            planned(vec![Step::Notify(NotifyStep { messages, fetch_deadline, afterwards: AfterDeadline::Ask })])
        }
        Question::Available(context, availability) if availability.messages.len() == 2 => {
            let until = Some(context.now.after(Duration::from_secs(20)));
            let messages = ids(&availability.messages);
            let hold = Step::Hold(HoldStep { messages: vec![messages[0]], until });
            planned(vec![hold, Step::Page(any(vec![messages[1]]))])
        }
        question => pages_all(question),
    });
    world.registers(&[subscribed(phone())]);
    world.seconds(100);
    assert_eq!(world.delivered, ["m2", "m1"]);
}
