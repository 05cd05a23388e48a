//! Devices that are slow, silent or refuse, and what the others get meanwhile.

use restante_deferral::decision::{DeliveryStep, Question, Step};
use restante_deferral::model::{Contact, ContactId, Duration, Origin};
use restante_deferral::participating_function::Limits;

use super::super::simulator::build::*;
use super::super::simulator::{Deed, World, takes_all};
use super::{each, is_for, tablet, with};

#[test]
fn a_device_that_does_not_answer_holds_up_neither_the_other_one_nor_its_own_return() {
    let mut world = with(each(Step::Page));
    world.devices = Box::new(|_, attempt| match is_for(attempt, &tablet()) {
        true => vec![(32_000, Deed::Ends(timeout()))],
        false => takes_all(attempt),
    });
    world.registers(&[phone(), tablet()]);
    world.seconds(5);
    world.arrives(message("m1"));
    world.seconds(1);
    world.arrives(message("m2"));
    world.seconds(1);
    assert_eq!(world.log(), ["page m1 #0 to 1", "page m1 #1 to 2", "page m2 #0 to 1"]);
    // It registers anew while the attempt at its old place goes on: what comes of that does not count against it.
    let back = Contact { expires_at: world.now.after(Duration::from_secs(3600)), ..tablet() };
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.registers(&[phone(), back]);
    world.seconds(60);
    assert_eq!(world.log().get(3..), Some(&["page m1 #2 to 2".to_owned(), "page m2 #1 to 2".to_owned()][..]));
    assert!(world.waiting().is_empty());
}

#[test]
fn a_silent_device_holds_up_none_of_the_others_wherever_it_stands() {
    for (step, silent) in [Step::Page as fn(DeliveryStep) -> Step, Step::Session]
        .into_iter()
        .flat_map(|step| (1..=3).map(move |silent| (step, silent)))
    {
        let mut world = with(each(step));
        world.devices = Box::new(move |_, attempt| match attempt.contact.is_some_and(|contact| contact.0 == silent) {
            true => vec![(32_000, Deed::Ends(timeout()))],
            false => takes_all(attempt),
        });
        world.registers(&[phone(), tablet(), contact(3, 100)]);
        world.seconds(5);
        for name in ["m1", "m2"] {
            world.arrives(message(name));
            world.seconds(1);
            for id in (1..=3).filter(|id| *id != silent) {
                let got = |it: &&String| it.contains(name) && it.ends_with(&format!("to {id}"));
                assert_eq!(world.log().iter().filter(got).count(), 1, "{silent} is silent: {:?}", world.log());
            }
        }
        let to_the_silent =
            |world: &World| world.log().iter().filter(|it| it.ends_with(&format!("to {silent}"))).count();
        assert_eq!((to_the_silent(&world), world.waiting().len()), (1, 2));
        world.seconds(60);
        world.devices = Box::new(|_, attempt| takes_all(attempt));
        world.refreshes();
        world.seconds(20);
        assert!(world.waiting().is_empty(), "{:?}", world.log());
    }
}

#[test]
fn after_a_crash_in_the_middle_whoever_has_it_gets_no_second_copy_and_nobody_is_left_out() {
    let mut world = with(each(Step::Page));
    world.devices = Box::new(|_, attempt| match attempt.contact.map(|contact| contact.0) {
        Some(1) => vec![(60_000, Deed::Ends(timeout()))],
        Some(2) => vec![(5_000, Deed::Ends(end(Some(200), Origin::Device)))],
        _ => takes_all(attempt),
    });
    world.registers(&[phone(), tablet(), contact(3, 100)]);
    world.seconds(5);
    world.arrives(message("m1"));
    world.seconds(2);
    assert_eq!(world.log(), ["page m1 #0 to 1", "page m1 #1 to 2", "page m1 #2 to 3"]);
    world.crashes();
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(30);
    assert!(world.waiting().is_empty(), "{:?}", world.log());
    let again = world.log().split_off(3);
    assert_eq!(again.iter().map(|it| &it[it.len() - 1..]).collect::<Vec<_>>(), ["1", "2"], "{again:?}");
}

#[test]
fn a_device_that_is_reached_in_two_ways_gets_one_copy() {
    let mut world = with(each(Step::Page));
    let second_way = Contact { id: ContactId(7), ..phone() };
    world.devices = Box::new(|_, attempt| match is_for(attempt, &phone()) {
        true => vec![(3_000, Deed::Ends(timeout()))],
        false => takes_all(attempt),
    });
    world.registers(&[phone(), second_way, tablet()]);
    world.seconds(5);
    world.arrives(message("m1"));
    world.seconds(2);
    assert_eq!(world.log(), ["page m1 #0 to 1", "page m1 #1 to 2"]);
    world.seconds(30);
    assert_eq!(world.log().get(2..), Some(&["page m1 #2 to 7".to_owned()][..]));
    assert!(world.waiting().is_empty());
}

#[test]
fn a_moment_of_our_own_overload_is_no_absence_of_a_device() {
    for step in [Step::Page as fn(DeliveryStep) -> Step, Step::Session] {
        let mut world = with(each(step));
        let mut times = 0;
        world.devices = Box::new(move |_, attempt| {
            times += usize::from(is_for(attempt, &tablet()));
            match is_for(attempt, &tablet()) && times <= 3 {
                true => vec![(0, Deed::Ends(too_busy()))],
                false => takes_all(attempt),
            }
        });
        world.registers(&[phone(), tablet()]);
        world.seconds(5);
        world.arrives(message("m1"));
        let since = world.now;
        // Neither the tablet nor anybody else does anything.
        world.seconds(60);
        assert!(world.waiting().is_empty(), "{:?}", world.log());
        assert_eq!(world.attempt_seconds(since), [0, 0, 1, 3, 7], "after a rest, and a longer one: {:?}", world.log());
        let asked = world.questions.iter().any(|it| matches!(it, Question::Failure(..)));
        assert!(!asked, "the phone has it");
        world.arrives(message("m2"));
        world.seconds(2);
        assert!(world.waiting().is_empty(), "{:?}", world.log());
    }
}

#[test]
fn where_we_are_too_busy_for_all_devices_the_policy_says_when_and_they_are_there_still() {
    let mut world = with(each(Step::Page));
    world.devices = Box::new(|_, _| vec![(0, Deed::Ends(too_busy()))]);
    world.registers(&[phone(), tablet()]);
    world.seconds(5);
    world.arrives(message("m1"));
    world.seconds(1);
    assert_eq!(world.log().len(), 2, "{:?}", world.log());
    let mut of_failure = world.questions.iter().filter_map(|it| match it {
        Question::Failure(_, failure) => Some(failure),
        _ => None,
    });
    let failure = of_failure.next().expect("a question");
    assert_eq!(failure.other_contacts.iter().filter(|contact| contact.last_failure.is_some()).count(), 0);
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(60);
    assert!(world.waiting().is_empty(), "tried again without a word of theirs: {:?}", world.log());
}

#[test]
fn our_own_overload_counts_against_no_contact_of_a_message_for_any() {
    let mut world = World::new();
    world.policy = Box::new(pages_all);
    world.devices = Box::new(|_, _| vec![(0, Deed::Ends(too_busy()))]);
    world.registers(&[phone(), tablet()]);
    world.seconds(5);
    world.arrives(message("m1"));
    world.seconds(1);
    assert_eq!(world.log(), ["page m1 #0 to 1"], "another one would meet the same");
    world.devices = Box::new(|_, attempt| takes_all(attempt));
    world.seconds(120);
    assert_eq!(world.log().get(1..), Some(&["page m1 #1 to 1".to_owned()][..]), "the better one is not in doubt");
    assert!(world.waiting().is_empty());
}

#[test]
fn a_slow_device_gets_a_long_queue_in_order_behind_a_quick_one() {
    // One that takes longer than anybody waits for is left behind, and gets what it missed afterwards.
    for (window, count, takes) in [(6, 40, 500), (200, 700, 500), (6, 40, 6_000)] {
        let mut world = World::with(Limits { max_window_messages: window, ..Limits::default() });
        world.side_by_side = true;
        world.policy = each(Step::Page);
        world.devices = Box::new(move |_, attempt| match is_for(attempt, &tablet()) {
            true => takes_all(attempt).into_iter().map(|(at, deed)| (takes + at, deed)).collect(),
            false => takes_all(attempt),
        });
        for number in 0..count {
            world.arrives(message(&format!("m{number:03}.")));
            world.run_for(Duration::from_millis(5));
        }
        world.registers(&[phone(), tablet()]);
        world.seconds(60);
        assert!(takes == 500 || world.delivered.len() > count, "the quick one has all of them");
        world.seconds(600);
        assert!(world.waiting().is_empty(), "{}: {:?}", world.waiting().len(), world.log());
        for id in 1..=2 {
            let to = format!("to {id}");
            let log = world.log();
            let names: Vec<&str> = log.iter().filter(|it| it.ends_with(&to)).map(|it| &it[5..10]).collect();
            assert!(names.is_sorted() && names.len() == count, "{id}: {names:?}");
        }
    }
}

#[test]
fn a_device_that_was_silent_for_a_while_gets_what_it_missed_before_what_came_later() {
    for first_takes in [6_000, 20_000] {
        let mut world = with(each(Step::Page));
        world.side_by_side = true;
        // As quick as the other one, but for the first.
        let mut is_first = true;
        world.devices = Box::new(move |_, attempt| match is_for(attempt, &tablet()) {
            true if std::mem::take(&mut is_first) => {
                takes_all(attempt).into_iter().map(|(at, deed)| (first_takes + at, deed)).collect()
            }
            _ => takes_all(attempt).into_iter().map(|(at, deed)| (40 + at, deed)).collect(),
        });
        let count = 300;
        for number in 0..count {
            world.arrives(message(&format!("m{number:03}.")));
            world.run_for(Duration::from_millis(5));
        }
        world.registers(&[phone(), tablet()]);
        world.seconds(600);
        assert!(world.waiting().is_empty(), "{first_takes}: {:?}", world.waiting());
        for id in 1..=2 {
            let to = format!("to {id}");
            let log = world.log();
            let names: Vec<&str> = log.iter().filter(|it| it.ends_with(&to)).map(|it| &it[5..10]).collect();
            assert!(names.is_sorted() && names.len() == count, "{id}: {names:?}");
        }
    }
}

#[test]
fn who_refuses_all_of_a_long_queue_is_asked_for_it_once_a_pass() {
    for status in [486, 480, 403, 404, 603] {
        let mut world = with(each(Step::Page));
        world.side_by_side = true;
        world.devices = Box::new(move |_, attempt| match is_for(attempt, &tablet()) {
            true => vec![(1, Deed::Ends(end(Some(status), Origin::Device)))],
            false => takes_all(attempt),
        });
        let count = 300;
        for number in 0..count {
            world.arrives(message(&format!("m{number:03}.")));
            world.run_for(Duration::from_millis(5));
        }
        world.registers(&[phone(), tablet()]);
        world.seconds(600);
        let asked = |world: &World| world.log().iter().filter(|it| it.ends_with("to 2")).count();
        let (before, questions) = (asked(&world), world.questions.len());
        assert!(before <= 2 * count, "{status}: {before}");
        world.seconds(600);
        assert_eq!((asked(&world), world.questions.len()), (before, questions), "{status}: not by itself");
    }
}
