//! Times that come while something else goes on, and clocks that are set back.

use restante_deferral::commit::{Change, Transaction};
use restante_deferral::decision::{
    AfterDeadline, Answer, HoldStep, IncomingAnswer, NotifyStep, Question, Step, Trigger,
};
use restante_deferral::model::{Duration, MessageId, Origin, Timestamp};
use restante_deferral::participating_function::{AttemptTask, Input};

use super::simulator::build::*;
use super::simulator::{Deed, World, takes_all};

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

const SIX_HOURS: Duration = Duration::from_secs(6 * 3600);

/// A world whose clock is six hours ahead, in which the first attempt at m1 just failed.
fn failed_while_the_clock_was_ahead(policy: super::simulator::Policy) -> World {
    let mut world = with_messages(&["m1"]);
    world.policy = policy;
    world.devices = Box::new(|_, _| vec![(10, Deed::Ends(end(Some(503), Origin::Core)))]);
    world.registers(&[phone()]);
    world.seconds(5);
    assert_eq!(world.log(), ["page m1 #0 to 1"]);
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world
}

fn waits_after_a_failure() -> super::simulator::Policy {
    Box::new(|question| match question {
        Question::Failure(..) => Ok(Answer::Failure(Vec::new())),
        question => pages_all(question),
    })
}

#[test]
fn who_registers_after_a_clock_was_set_back_gets_what_failed_before() {
    for survives in [false, true] {
        let mut world = failed_while_the_clock_was_ahead(waits_after_a_failure());
        if survives {
            world.clock_is_set_back(SIX_HOURS);
        } else {
            world.crashes();
            world.now = Timestamp(world.now.0 - SIX_HOURS.0);
        }
        world.seconds(10);
        assert!(world.delivered.is_empty());
        world.registers(&[phone()]);
        world.seconds(10);
        assert_eq!(world.delivered, ["m1"], "{survives}");
    }
}

#[test]
fn a_retry_comes_at_its_time_though_the_clock_was_set_back() {
    for crashes in [false, true] {
        // The built-in schedule.
        let mut world = failed_while_the_clock_was_ahead(Box::new(pages_all));
        if crashes {
            world.crashes();
            world.now = Timestamp(world.now.0 - SIX_HOURS.0);
            // As for every recipient that is registered and has messages, after a start.
            let alarm = Change::WakeAt { recipient: world.key.clone(), at: Some(world.now) };
            world.store.apply(world.now, Transaction { changes: vec![alarm], settles: true });
        } else {
            world.clock_is_set_back(SIX_HOURS);
        }
        let set_back_at = world.now;
        world.seconds(60);
        assert_eq!(world.delivered, ["m1"], "{crashes}");
        assert!((20..=35).contains(&world.attempt_seconds(set_back_at)[1]), "{:?}", world.attempt_seconds(set_back_at));
    }
}

#[test]
fn what_waits_for_a_target_is_tried_again_though_the_clock_was_set_back() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Incoming(..) => Ok(Answer::Incoming(IncomingAnswer::HandOver(String::from("sms")))),
        question => pages_all(question),
    });
    world.devices = Box::new(|_, _| vec![(10, Deed::Ends(end(Some(503), Origin::Core)))]);
    world.arrives(message("m1"));
    world.seconds(2);
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.clock_is_set_back(SIX_HOURS);
    world.seconds(3700);
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn an_arrival_is_dealt_with_at_once_after_the_clock_was_set_back() {
    let mut world = with_messages(&[]);
    world.registers(&[phone()]);
    // Within the registration delay.
    world.seconds(1);
    world.clock_is_set_back(SIX_HOURS);
    world.arrives(message("m1"));
    world.seconds(5);
    assert_eq!(world.delivered, ["m1"]);
}
