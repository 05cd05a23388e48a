//! What an operator does.

use restante_deferral::decision::Trigger;
use restante_deferral::model::{Delivery, MessageId, Origin, Profile};
use restante_deferral::participating_function::{Input, Reply};

use super::simulator::build::*;
use super::simulator::{Deed, World, takes_all};

fn discards(
    world: &mut World,
    messages: Option<Vec<MessageId>>,
    report: bool,
) -> restante_deferral::participating_function::ReplyToken {
    let reply = world.token();
    world.tell(Input::Discard { reply, messages, report });
    reply
}

#[test]
fn messages_are_dropped_by_number_or_all() {
    let mut world =
        World::with(restante_deferral::participating_function::Limits { max_window_messages: 4, ..Default::default() });
    for number in 1..=11 {
        world.arrives(asking(message(&format!("m{number:02}")), negative()));
    }
    world.seconds(1);
    let named = discards(&mut world, Some(vec![MessageId(2), MessageId(3), MessageId(99)]), false);
    world.seconds(1);
    assert_eq!(world.reply(named), Some(&Reply::Done(2)));
    assert_eq!(world.waiting().len(), 9);
    assert!(world.grew.is_empty());
    world.hold_commits = true;
    let all = discards(&mut world, None, true);
    world.seconds(1);
    assert_eq!(world.reply(all), None, "it is done when it is durable");
    world.let_commits_through();
    world.seconds(1);
    assert_eq!(world.reply(all), Some(&Reply::Done(9)));
    assert!(world.waiting().is_empty());
    assert_eq!(world.grew.len(), 9);
}

#[test]
fn what_is_in_flight_goes_when_its_attempt_ends() {
    for delivered in [true, false] {
        let mut world = World::new();
        world.policy = Box::new(pages_all);
        world.arrives(message("m1"));
        world.seconds(1);
        world.devices = Box::new(move |_, _| {
            let ends = if delivered { end(Some(200), Origin::Device) } else { timeout() };
            vec![(10_000, Deed::Ends(ends))]
        });
        world.registers(&[phone()]);
        world.seconds(5);
        let token = discards(&mut world, None, false);
        world.seconds(1);
        assert_eq!(world.reply(token), Some(&Reply::Done(1)));
        assert_eq!(world.waiting(), ["m1"]);
        world.seconds(20);
        assert!(world.waiting().is_empty());
        world.seconds(3600);
        assert_eq!(world.attempts.len(), 1);
    }
}

#[test]
fn what_was_in_flight_when_the_process_ended_waits_again() {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    world.arrives(message("m1"));
    world.seconds(1);
    world.devices = Box::new(|_, _| Vec::new());
    world.registers(&[phone()]);
    world.seconds(5);
    let token = discards(&mut world, None, false);
    world.seconds(1);
    assert_eq!(world.reply(token), Some(&Reply::Done(1)), "nobody waits for the attempt to end");
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(10);
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn an_operator_and_a_changed_preference_reopen_the_queue() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        restante_deferral::decision::Question::Available(context, _)
            if context.recipient.delivery == Some(Delivery::Hold) =>
        {
            planned(Vec::new())
        }
        question => pages_all(question),
    });
    world.store.profile = Profile { delivery: Some(Delivery::Hold), ..Profile::default() };
    world.arrives(message("m1"));
    world.seconds(1);
    world.registers(&[phone()]);
    world.seconds(1000);
    assert_eq!(world.waiting(), ["m1"]);
    world.tell(Input::Profile(Profile { delivery: Some(Delivery::Push), ..Profile::default() }));
    world.tell(Input::Contacts(vec![phone()], Trigger::Operator));
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(2);
    assert!(world.waiting().is_empty());
    assert_eq!(world.triggers(), [Trigger::Registered, Trigger::Operator]);
}

#[test]
fn who_is_reported_to_be_back_gets_what_waits_as_after_a_registration() {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    world.arrives(message("m1"));
    world.seconds(1);
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.tell(Input::Contacts(vec![phone()], Trigger::Reported));
    assert_eq!(world.waiting(), ["m1"], "the client may not have its own answer yet");
    world.seconds(5);
    assert!(world.waiting().is_empty());
    assert_eq!(world.triggers(), [Trigger::Reported]);
}
