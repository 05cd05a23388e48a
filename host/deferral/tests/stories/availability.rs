//! From a registration to delivered messages.

use restante_deferral::decision::{
    AfterDeadline, Answer, DeliveryStep, DiscardStep, HoldStep, IncomingAnswer, Keep, NotifyStep, Plan, Question, Step,
    Target, Trigger, Undecided,
};
use restante_deferral::model::{Abilities, Contact, ContactId, Duration, MessageId, MessageKind, Origin, Timestamp};
use restante_deferral::participating_function::{AttemptTask, Event};

use super::simulator::build::*;
use super::simulator::{Deed, World, takes_all};

#[test]
fn a_client_that_registers_gets_its_messages_in_order() {
    let mut world = with_messages(&["m1", "m2", "m3"]);
    let registered_at = world.now;
    world.registers(&[phone()]);
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2", "m3"]);
    assert!(world.waiting().is_empty());
    assert_eq!(world.triggers(), [Trigger::Registered]);
    // The client has its 200 to the REGISTER first.
    assert_eq!(world.attempt_seconds(registered_at)[0], 2);
    // One MESSAGE after the other.
    let starts: Vec<_> = world.attempts.iter().map(|(at, _)| *at).collect();
    assert!(starts.windows(2).all(|pair| pair[1].since(pair[0]).0 >= 10), "{starts:?}");
}

#[test]
fn what_is_over_the_limit_of_its_hop_goes_in_no_message() {
    // Request-URI and route add a hundred bytes; a hop that is known to be congestion-safe takes more.
    for (page_base_bytes, max_page_bytes, in_page_mode) in
        [(1_200, 1_300, true), (1_201, 1_300, false), (1_201, 65_536, true), (65_437, 65_536, false)]
    {
        let mut world = World::new();
        world.policy = Box::new(pages_all);
        let mut arrival = message("m1");
        arrival.envelope.page_base_bytes = Some(page_base_bytes);
        world.arrives(arrival);
        world.seconds(10);
        world.registers(&[Contact { max_page_bytes, ..phone() }]);
        world.seconds(10);
        assert_eq!(world.delivered, ["m1"], "one way or the other");
        let pages =
            world.attempts.iter().filter(|(_, attempt)| matches!(attempt.task, AttemptTask::Page { .. })).count();
        assert_eq!(pages, usize::from(in_page_mode), "{page_base_bytes} of {max_page_bytes}");
    }
}

#[test]
fn higher_priority_goes_first() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Incoming(context, incoming) => {
            let priority = if incoming.sender.address.contains("boss") { 200 } else { 100 };
            Ok(Answer::Incoming(IncomingAnswer::Keep(Keep { priority, ..keep(context.now) })))
        }
        question => pages_all(question),
    });
    world.arrives(message("m1"));
    world.arrives(from(message("m2"), "sip:boss@example.org"));
    world.arrives(message("m3"));
    world.seconds(1);
    world.registers(&[phone()]);
    world.seconds(5);
    assert_eq!(world.delivered, ["m2", "m1", "m3"]);
}

#[test]
fn a_session_carries_all_and_settles_one_by_one() {
    let mut world = with_messages(&["m1", "m2", "m3", "m4"]);
    world.policy = Box::new(one_session);
    world.registers(&[phone()]);
    world.run_for(Duration::from_millis(2025));
    assert_eq!(world.log(), ["session m1 m2 m3 m4 to 1"]);
    assert_eq!(world.waiting(), ["m3", "m4"]);
    world.seconds(1);
    assert!(world.waiting().is_empty());
    assert_eq!(world.delivered, ["m1", "m2", "m3", "m4"]);
}

#[test]
fn what_a_broken_session_did_not_acknowledge_goes_back() {
    let mut world = with_messages(&["m1", "m2", "m3"]);
    world.policy = Box::new(one_session);
    let mut first = true;
    world.devices = Box::new(move |_, attempt| {
        if !std::mem::take(&mut first) {
            return takes_all(attempt);
        }
        vec![(10, Deed::Takes(MessageId(1))), (20, Deed::Ends(end(Some(200), Origin::Transport)))]
    });
    world.registers(&[phone()]);
    world.seconds(5);
    assert_eq!(world.waiting(), ["m2", "m3"]);
    world.seconds(60);
    assert_eq!(world.log(), ["session m1 m2 m3 to 1", "session m2 m3 to 1"]);
    assert_eq!(world.delivered, ["m1", "m2", "m3"]);
}

#[test]
fn a_message_for_an_available_recipient_goes_at_once() {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    world.registers(&[phone()]);
    world.seconds(10);
    let token = world.arrives(message("m1"));
    world.seconds(1);
    assert!(world.reply(token).is_some());
    assert_eq!(world.delivered, ["m1"]);
    assert_eq!(world.triggers(), [Trigger::MessageArrived]);
}

#[test]
fn what_arrives_during_a_plan_follows_it() {
    let mut world = with_messages(&["m1", "m2"]);
    world.devices = Box::new(|_, _| vec![(1000, Deed::Ends(end(Some(200), Origin::Device)))]);
    world.registers(&[phone()]);
    world.run_for(Duration::from_millis(2500));
    world.arrives(message("m3"));
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2", "m3"]);
    assert_eq!(world.triggers(), [Trigger::Registered, Trigger::PlanDone]);
}

#[test]
fn a_message_for_the_next_registration_waits_for_it() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Incoming(context, _) => {
            Ok(Answer::Incoming(IncomingAnswer::Keep(Keep { deliver_now: false, ..keep(context.now) })))
        }
        question => pages_all(question),
    });
    world.registers(&[phone()]);
    world.seconds(10);
    world.arrives(message("m1"));
    world.seconds(1000);
    assert_eq!(world.waiting(), ["m1"]);
    world.registers(&[contact(2, 500)]);
    world.seconds(5);
    assert_eq!(world.delivered, ["m1"]);
}

#[test]
fn what_no_step_names_is_held_until_a_refresh() {
    let mut world = with_messages(&["m1", "m2"]);
    world.policy = Box::new(|question| match question {
        Question::Available(_, availability) if availability.trigger == Trigger::Refreshed => pages_all(question),
        Question::Available(_, availability) => planned(vec![Step::Page(any(vec![availability.messages[0].id]))]),
        question => pages_all(question),
    });
    world.registers(&[phone()]);
    world.seconds(3000);
    assert_eq!(world.waiting(), ["m2"]);
    world.refreshes();
    world.seconds(5);
    assert!(world.waiting().is_empty());
    assert_eq!(world.triggers(), [Trigger::Registered, Trigger::Refreshed]);
}

#[test]
fn a_plan_that_does_nothing_ends() {
    let mut world = with_messages(&["m1", "m2"]);
    world.policy = Box::new(|question| match question {
        Question::Available(..) => planned(Vec::new()),
        question => pages_all(question),
    });
    world.registers(&[phone()]);
    world.seconds(3600 * 24);
    assert_eq!(world.triggers(), [Trigger::Registered]);
}

#[test]
fn a_policy_that_wants_to_be_asked_all_the_time_is_paced() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(|question| match question {
        Question::Available(context, _) => {
            Ok(Answer::Available(Plan { steps: Vec::new(), ask_again_at: Some(context.now) }))
        }
        question => pages_all(question),
    });
    world.registers(&[phone()]);
    world.seconds(62);
    // Held without a time, so a timer has nothing to show.
    assert_eq!(world.triggers(), [Trigger::Registered]);
    world.policy = Box::new(|question| match question {
        Question::Available(context, availability) => {
            let hold = Step::Hold(HoldStep { messages: ids(&availability.messages), until: Some(context.now) });
            Ok(Answer::Available(Plan { steps: vec![hold], ask_again_at: Some(context.now) }))
        }
        question => pages_all(question),
    });
    world.refreshes();
    world.seconds(60);
    assert!((10..=62).contains(&world.triggers().len()), "{}", world.triggers().len());
}

#[test]
fn a_hold_ends_at_its_time_even_after_eviction() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(|question| match question {
        Question::Available(context, availability) if availability.trigger == Trigger::Registered => {
            let until = Some(context.now.after(Duration::from_secs(3600)));
            planned(vec![Step::Hold(HoldStep { messages: ids(&availability.messages), until })])
        }
        question => pages_all(question),
    });
    world.registers(&[phone()]);
    let registered_at = world.now;
    world.seconds(10);
    assert!(world.evicts());
    world.seconds(3500);
    assert!(world.attempts.is_empty());
    world.seconds(200);
    assert_eq!(world.delivered, ["m1"]);
    assert_eq!(world.attempt_seconds(registered_at), [3602]);
}

#[test]
fn a_hold_to_the_end_of_time_binds_the_policy_that_comes_after_for_a_day() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(|question| match question {
        Question::Available(_, availability) => {
            let until = Some(Timestamp(u64::MAX));
            planned(vec![Step::Hold(HoldStep { messages: ids(&availability.messages), until })])
        }
        question => pages_all(question),
    });
    world.registers(&[phone()]);
    let registered_at = world.now;
    world.seconds(3 * 24 * 3600);
    assert_eq!(world.triggers(), [Trigger::Registered, Trigger::Timer, Trigger::Timer]);
    world.policy = Box::new(pages_all);
    world.seconds(24 * 3600);
    assert_eq!(world.delivered, ["m1"]);
    assert_eq!(world.attempt_seconds(registered_at), [3 * 24 * 3600 + 2]);
}

#[test]
fn refreshes_reopen_a_waiting_queue_but_not_more_often_than_allowed() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(|question| match question {
        Question::Available(..) => planned(Vec::new()),
        question => pages_all(question),
    });
    world.registers(&[phone()]);
    world.seconds(10);
    for _ in 0..100 {
        world.refreshes();
        world.seconds(3);
    }
    // 300 s, one a minute.
    assert!((4..=6).contains(&world.triggers().len()), "{:?}", world.triggers());
    // A refresh that came too soon is not forgotten.
    let before = world.triggers().len();
    world.seconds(100);
    assert_eq!(world.triggers().len(), before + 1);
}

#[test]
fn a_dead_device_does_not_hold_up_one_that_lives() {
    let mut world = with_messages(&["m1", "m2", "m3"]);
    // The tablet is preferred and dead.
    world.devices = Box::new(|_, attempt| match attempt.contact {
        Some(ContactId(9)) => vec![(32_000, Deed::Ends(timeout()))],
        _ => takes_all(attempt),
    });
    world.registers(&[contact(1, 500), contact(9, 1000)]);
    world.seconds(36);
    assert_eq!(world.delivered, ["m1", "m2", "m3"]);
    assert_eq!(world.log(), ["page m1 #0 to 9", "page m1 #1 to 1", "page m2 #0 to 1", "page m3 #0 to 1"]);
    // And nobody had to decide about it.
    assert!(!world.questions.iter().any(|question| matches!(question, Question::Failure(..))));
}

#[test]
fn a_contact_without_the_ability_is_passed_over() {
    let mut world = World::new();
    world.policy = Box::new(one_session);
    world.arrives(large("m1"));
    world.seconds(1);
    let page_only = Contact { abilities: Abilities { page_mode: true, ..Abilities::default() }, ..contact(9, 1000) };
    world.registers(&[page_only, contact(1, 10)]);
    world.seconds(5);
    assert_eq!(world.log(), ["session m1 to 1"]);
}

#[test]
fn impossible_plans_are_replaced_and_counted() {
    type Make = fn(&[MessageId]) -> Step;
    let named = |messages: &[MessageId], target| DeliveryStep { messages: messages.to_vec(), target };
    let _ = named;
    let table: [Make; 7] = [
        |_| Step::Page(any(vec![MessageId(99)])),
        |ids| Step::Page(any(vec![ids[0], ids[0]])),
        |ids| Step::Page(any(vec![ids[1]])),
        |ids| Step::Page(DeliveryStep { messages: vec![ids[0]], target: Target::Contact(ContactId(77)) }),
        |ids| Step::Session(DeliveryStep { messages: vec![ids[0]], target: Target::Contact(ContactId(2)) }),
        |ids| {
            let fetch_deadline = Timestamp(1);
            Step::Notify(NotifyStep { messages: ids.to_vec(), fetch_deadline, afterwards: AfterDeadline::Ask })
        },
        |ids| {
            let target = String::from("nowhere");
            Step::HandOver(restante_deferral::decision::HandOverStep { messages: ids.to_vec(), target })
        },
    ];
    for (index, make) in table.into_iter().enumerate() {
        let mut world = World::new();
        world.policy = Box::new(move |question| match question {
            Question::Available(_, availability) => planned(vec![make(&ids(&availability.messages))]),
            question => pages_all(question),
        });
        world.arrives(message("m1"));
        world.arrives(large("m2"));
        world.seconds(1);
        let page_only = Contact { abilities: Abilities { page_mode: true, ..Abilities::default() }, ..contact(2, 1) };
        world.registers(&[phone(), page_only]);
        world.seconds(5);
        let counted = world.count(|event| *event == Event::FellBack(Undecided::Impossible, "on-available"));
        assert_eq!(counted, 1, "row {index}");
        assert_eq!(world.delivered.len(), 2, "row {index}");
    }
}

#[test]
fn the_fallback_pushes_few_as_messages_and_many_in_a_session_per_sender() {
    let mut world = World::new();
    world.arrives(message("a1"));
    world.arrives(message("a2"));
    world.seconds(1);
    world.registers(&[phone()]);
    world.seconds(5);
    assert_eq!(world.log(), ["page a1 #0 to 1", "page a2 #0 to 1"]);
    world.unregisters();
    world.attempts.clear();
    for name in ["b1", "b2", "b3"] {
        world.arrives(message(name));
        world.arrives(from(message(&format!("c{name}")), "sip:carol@example.org"));
    }
    let mut report = message("d1");
    report.envelope.kind = MessageKind::Disposition;
    world.arrives(report);
    world.seconds(1);
    world.registers(&[phone()]);
    world.seconds(5);
    assert_eq!(world.log(), ["session b1 b2 b3 to 1", "session cb1 cb2 cb3 to 1", "page d1 #0 to 1"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn a_policy_discards_with_a_report() {
    let mut world = World::new();
    world.policy = Box::new(|question| match question {
        Question::Available(_, availability) => {
            planned(vec![Step::Discard(DiscardStep { messages: ids(&availability.messages), report: true })])
        }
        question => pages_all(question),
    });
    world.arrives(asking(message("m1"), negative()));
    world.seconds(1);
    world.registers(&[phone()]);
    world.seconds(5);
    assert!(world.waiting().is_empty());
    assert_eq!(world.grew.len(), 1);
    assert!(world.attempts.is_empty());
}

#[test]
fn everything_that_waits_is_shown_part_by_part() {
    let mut world = World::new();
    for number in 0..130 {
        world.arrives(message(&format!("m{number:03}")));
        world.seconds(1);
    }
    world.policy = Box::new(one_session);
    world.registers(&[phone()]);
    world.seconds(60);
    assert_eq!(world.delivered.len(), 130);
    assert!(world.delivered.is_sorted());
    assert_eq!(world.triggers(), [Trigger::Registered, Trigger::PlanDone, Trigger::PlanDone]);
    let Some(Question::Available(_, first)) = world.questions.iter().find(|q| matches!(q, Question::Available(..)))
    else {
        panic!("no question")
    };
    assert_eq!((first.messages.len(), first.not_shown), (50, 80));
}

#[test]
fn nothing_is_sent_when_the_client_is_gone_before_the_delay_is_over() {
    let mut world = with_messages(&["m1"]);
    world.registers(&[phone()]);
    world.seconds(1);
    world.unregisters();
    world.seconds(100);
    assert!(world.attempts.is_empty());
    assert_eq!(world.waiting(), ["m1"]);
}

#[test]
fn private_senders_are_not_shown() {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    let mut arrival = message("m1");
    arrival.envelope.sender.private = true;
    world.arrives(arrival);
    world.seconds(1);
    world.registers(&[phone()]);
    world.seconds(5);
    let shown = world.questions.iter().find_map(|question| match question {
        Question::Available(_, availability) => Some(availability.messages[0].sender.clone()),
        _ => None,
    });
    assert_eq!(shown.as_deref(), Some(""));
}

#[test]
fn a_notified_client_that_never_fetches_is_asked_about_again_or_pushed_to() {
    for afterwards in [AfterDeadline::Ask, AfterDeadline::Push] {
        let mut world = with_messages(&["m1", "m2"]);
        world.policy = Box::new(move |question| match question {
            Question::Available(context, availability) if availability.trigger == Trigger::Registered => {
                let fetch_deadline = context.now.after(Duration::from_secs(600));
                let messages = ids(&availability.messages);
                planned(vec![Step::Notify(NotifyStep { messages, fetch_deadline, afterwards })])
            }
            question => pages_all(question),
        });
        world.registers(&[subscribed(phone())]);
        let registered_at = world.now;
        world.seconds(500);
        assert_eq!(world.log(), ["notify m1 m2 to 1"]);
        assert!(world.store.queue(&world.key).iter().all(|row| row.fetch_deadline.is_some()));
        // The deadline is durable: it comes though nobody keeps the machine.
        assert!(world.evicts());
        world.seconds(200);
        assert_eq!(world.delivered, ["m1", "m2"], "{afterwards:?}");
        assert_eq!(world.attempt_seconds(registered_at)[1], 602);
        let asked = world.triggers().contains(&Trigger::FetchDeadline);
        assert_eq!(asked, afterwards == AfterDeadline::Ask);
    }
}

#[test]
fn a_decision_that_takes_its_time_is_judged_by_the_time_it_was_asked() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(move |question| match question {
        Question::Available(context, availability) => {
            let fetch_deadline = context.now.after(Duration::from_secs(1));
            let messages = ids(&availability.messages);
            planned(vec![Step::Notify(NotifyStep { messages, fetch_deadline, afterwards: AfterDeadline::Push })])
        }
        question => pages_all(question),
    });
    world.policy_delay = 300;
    world.registers(&[subscribed(phone())]);
    world.seconds(3);
    assert_eq!(world.log(), ["notify m1 to 1"]);
    assert_eq!(world.count(|event| matches!(event, Event::FellBack(..))), 0);
}

#[test]
fn without_a_usable_notification_messages_are_pushed() {
    let notify_all = |question: &Question| match question {
        Question::Available(context, availability) => {
            let fetch_deadline = context.now.after(Duration::from_secs(600));
            let messages = ids(&availability.messages);
            planned(vec![Step::Notify(NotifyStep { messages, fetch_deadline, afterwards: AfterDeadline::Ask })])
        }
        question => pages_all(question),
    };
    // Nobody subscribed.
    let mut world = with_messages(&["m1", "m2"]);
    world.policy = Box::new(notify_all);
    world.registers(&[phone()]);
    world.seconds(10);
    assert_eq!(world.delivered, ["m1", "m2"]);
    // The one who did refuses.
    let mut world = with_messages(&["m1", "m2"]);
    world.policy = Box::new(notify_all);
    world.devices = Box::new(|_, attempt| match &attempt.task {
        restante_deferral::participating_function::AttemptTask::Notify { .. } => {
            vec![(10, Deed::Ends(end(Some(405), Origin::Device)))]
        }
        _ => takes_all(attempt),
    });
    world.registers(&[subscribed(phone())]);
    world.seconds(60);
    assert_eq!(world.delivered, ["m1", "m2"]);
}

#[test]
fn every_contact_that_can_be_notified_is() {
    let mut world = with_messages(&["m1"]);
    world.policy = Box::new(|question| match question {
        Question::Available(context, availability) => {
            let fetch_deadline = context.now.after(Duration::from_secs(600));
            let messages = ids(&availability.messages);
            planned(vec![Step::Notify(NotifyStep { messages, fetch_deadline, afterwards: AfterDeadline::Ask })])
        }
        question => pages_all(question),
    });
    world.devices = Box::new(|_, attempt| match attempt.contact {
        Some(ContactId(2)) => vec![(32_000, Deed::Ends(timeout()))],
        _ => takes_all(attempt),
    });
    world.registers(&[subscribed(contact(1, 10)), subscribed(contact(2, 20)), contact(3, 30)]);
    world.seconds(40);
    assert_eq!(world.log(), ["notify m1 to 2", "notify m1 to 1"]);
    assert!(world.store.queue(&world.key)[0].notified_at.is_some());
}
