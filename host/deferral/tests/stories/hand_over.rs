//! Messages for a named target.

use restante_deferral::decision::{Answer, HandOverStep, IncomingAnswer, Question, Step};
use restante_deferral::model::Origin;
use restante_deferral::participating_function::{Event, Reply};

use super::simulator::build::*;
use super::simulator::{Deed, World, takes_all};

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
    let clears_at = world.now.after(restante_deferral::model::Duration::from_secs(600));
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
