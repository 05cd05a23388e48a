//! Messages for each of a recipient's devices.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::arbitrary::any as arbitrary;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop, prop_assert, prop_oneof, proptest};
use restante_deferral::decision::{
    Answer, AttemptKind, DeliveryStep, FailureAction, FailureAnswer, HoldStep, Progress, Question, Step, Target,
};
use restante_deferral::model::{Contact, DeviceState, Duration, MessageId, Origin};
use restante_deferral::participating_function::{Attempt, AttemptEnd, AttemptTask, Event, Input, Limits, Outcome};

use super::simulator::build::*;
use super::simulator::{Deed, Policy, Script, World, takes_all};

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
    Contact { id: restante_deferral::model::ContactId(id), ..contact }
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
    let mut request = pull(Some(phone().id), restante_deferral::decision::Selection::All);
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

/// In page mode, in sessions, now this and now that, or some of it later: always for each.
fn fickle(style: u8) -> Policy {
    let mut asked = 0_usize;
    Box::new(move |question| {
        let Question::Available(context, availability) = question else { return pages_all(question) };
        asked += 1;
        let step = if style == 1 || (style > 1 && asked.is_multiple_of(2)) { Step::Session } else { Step::Page };
        let mut messages = ids(&availability.messages);
        let held = if style == 3 { messages.split_off(messages.len().saturating_sub(asked % 3)) } else { Vec::new() };
        let until = Some(context.now.after(Duration::from_secs(5)));
        let steps =
            [step(DeliveryStep { messages, target: Target::Each }), Step::Hold(HoldStep { messages: held, until })];
        planned(steps.into_iter().filter(|step| !step.messages().is_empty()).collect())
    })
}

/// What happens to the recipient.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Arrives,
    /// These of four ways to three devices are registered from now on.
    Registers([bool; 4]),
    Refreshes,
    Crashes,
    /// What each device does with what comes next: takes it at once or in a while, is busy, is not there, or we are too busy
    /// for it.
    Behaves([u8; 4]),
    Passes(u64),
    Pulls(u8),
    /// The operator drops everything.
    Discards,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => Just(Happening::Arrives),
        3 => arbitrary::<[bool; 4]>().prop_map(Happening::Registers),
        1 => Just(Happening::Refreshes),
        1 => Just(Happening::Crashes),
        3 => prop::array::uniform4(0..5u8).prop_map(Happening::Behaves),
        4 => (0..200u64).prop_map(Happening::Passes),
        1 => (0..3u8).prop_map(Happening::Pulls),
        1 => Just(Happening::Discards),
    ]
}

/// Per message: devices that acknowledged it.
type Had = Rc<RefCell<BTreeMap<MessageId, BTreeSet<String>>>>;
/// Per pull: which device fetches.
type Fetches = Rc<RefCell<BTreeMap<restante_deferral::participating_function::ReplyToken, String>>>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nobody_gets_a_second_copy_and_it_goes_only_when_all_known_have_it_or_its_time_is_up(
        style in 0..4u8,
        window in prop_oneof![Just(6_u32), Just(200)],
        happenings in prop::collection::vec(happening(), 1..40),
    ) {
        let mut world = World::with(Limits { max_window_messages: window, max_decision_messages: 4, ..Limits::default() });
        world.side_by_side = true;
        world.policy = fickle(style);
        let had = Had::default();
        let behaviour = Rc::new(RefCell::new([0_u8; 4]));
        let mut devices = [1, 2, 3, 4].map(|id| contact(id, 900 - 100 * id as u16));
        // Two ways to one device.
        devices[3].device = contact(1, 0).device;
        let fetches = Fetches::default();
        world.devices = script(had.clone(), behaviour.clone(), fetches.clone());
        let mut known: BTreeMap<MessageId, (BTreeSet<String>, restante_deferral::model::Timestamp)> = BTreeMap::new();
        let mut dropped: BTreeSet<MessageId> = BTreeSet::new();
        let mut arrived = 0;
        for happening in happenings {
            match happening {
                Happening::Arrives => {
                    arrived += 1;
                    world.arrives(message(&format!("m{arrived}")));
                }
                Happening::Registers(which) => {
                    let there: Vec<Contact> = devices.iter().zip(which).filter(|(_, is)| *is).map(|(it, _)| it.clone()).collect();
                    world.registers(&there);
                }
                Happening::Refreshes => world.refreshes(),
                Happening::Crashes => {
                    world.crashes();
                    // What was acknowledged and is not durable may come again.
                    for row in world.store.queue(&world.key) {
                        let is_had = |state: &&DeviceState| state.delivered_at.is_some();
                        let durable = row.devices.iter().filter(is_had).map(|state| state.device.clone()).collect();
                        had.borrow_mut().insert(row.id, durable);
                    }
                }
                Happening::Discards => {
                    dropped.extend(known.keys());
                    let reply = world.token();
                    world.tell(Input::Discard { reply, messages: None, report: false });
                }
                Happening::Behaves(how) => *behaviour.borrow_mut() = how,
                Happening::Passes(seconds) => world.seconds(seconds),
                // A pull of a device that is not registered is an attempt with nobody's contact.
                Happening::Pulls(which) if !world.contacts.contains(&devices[usize::from(which)]) => {}
                Happening::Pulls(which) => {
                    let mut request = pull(Some(devices[usize::from(which)].id), restante_deferral::decision::Selection::All);
                    request.reply = world.token();
                    fetches.borrow_mut().insert(request.reply, request.device.clone());
                    world.tell(Input::Pull(Box::new(request)));
                }
            }
            world.run_for(Duration::from_millis(700));
            let key = world.key.clone();
            let rows = world.store.queue(&key);
            for row in &rows {
                let entry = known.entry(row.id).or_insert_with(|| (BTreeSet::new(), row.message.expires_at));
                entry.0.extend(row.devices.iter().map(|state| state.device.clone()));
            }
            for (id, (devices, expires_at)) in &known {
                let is_dropped = dropped.contains(id);
                if !rows.iter().any(|row| row.id == *id) && *expires_at > world.now && !is_dropped {
                    let had = had.borrow();
                    let had = had.get(id).cloned().unwrap_or_default();
                    prop_assert!(devices.is_subset(&had) && !had.is_empty(), "{id:?} went: known {devices:?}, had {had:?}");
                }
            }
        }
        // In the end every device comes, and everything is delivered to all that are known.
        *behaviour.borrow_mut() = [0; 4];
        for _ in 0..4 {
            world.registers(&devices);
            world.seconds(400);
            world.refreshes();
            world.seconds(400);
        }
        prop_assert!(world.waiting().is_empty(), "{:?}", world.waiting());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_device_that_takes_what_it_gets_has_everything_in_order_however_the_others_are(
        in_sessions: bool,
        // Milliseconds between arrivals.
        pauses in prop::collection::vec(0..4_000u64, 1..12),
        // How each of four devices behaves: it takes what comes after so long, refuses it, or is silent.
        behaviours in prop::array::uniform4(prop_oneof![
            4 => (0..3_000u64).prop_map(|after| (0, after)),
            1 => Just((486, 100)),
            1 => Just((488, 100)),
            1 => Just((408, 5_000)),
            1 => Just((0, 31_000)),
        ]),
    ) {
        let mut world = with(each(if in_sessions { Step::Session } else { Step::Page }));
        world.devices = Box::new(move |_, attempt| {
            let index = attempt.contact.map_or(0, |contact| contact.0 as usize - 1);
            let (status, after) = behaviours.get(index).copied().unwrap_or_default();
            match status {
                0 => takes_all(attempt).into_iter().map(|(at, deed)| (after + at, deed)).collect(),
                408 => vec![(after, Deed::Ends(timeout()))],
                status => vec![(after, Deed::Ends(end(Some(status), Origin::Device)))],
            }
        });
        let devices = [1, 2, 3, 4].map(|id| contact(id, 1000 - 100 * id as u16));
        world.registers(&devices);
        world.seconds(5);
        for (number, pause) in pauses.iter().enumerate() {
            world.arrives(message(&format!("m{number:02}.")));
            world.run_for(Duration::from_millis(*pause));
        }
        world.seconds(400);
        for (index, (status, _)) in behaviours.iter().enumerate().filter(|(_, (status, _))| *status == 0) {
            let to = format!("to {}", index + 1);
            let names: Vec<String> = world
                .log()
                .iter()
                .filter(|it| it.ends_with(&to))
                .flat_map(|it| it.split(' ').filter(|word| word.ends_with('.')).map(str::to_owned).collect::<Vec<_>>())
                .collect();
            let expected: Vec<String> = (0..pauses.len()).map(|number| format!("m{number:02}.")).collect();
            prop_assert!(names == expected, "{status}: {:?}", world.log());
        }
        prop_assert!(world.attempts.len() < 40 * (pauses.len() + 1), "nobody is asked on and on: {:?} {:?}", world.log().len(), world.log().into_iter().take(20).collect::<Vec<_>>());
    }
}

/// Devices that behave as they are told; none may get what it acknowledged.
fn script(had: Had, behaviour: Rc<RefCell<[u8; 4]>>, fetches: Fetches) -> super::simulator::Devices {
    Box::new(move |_, attempt| {
        let device = match (attempt.contact, &attempt.task) {
            (Some(contact), _) => format!("urn:uuid:{}", if contact.0 == 4 { 1 } else { contact.0 }),
            // It went while its fetch waited, and gets it all the same.
            (None, AttemptTask::Pull { reply, .. }) => fetches.borrow().get(reply).cloned().unwrap_or_default(),
            (None, _) => return takes_all(attempt),
        };
        let index = attempt.contact.map(|contact| contact.0 as usize - 1);
        let how = index.and_then(|index| behaviour.borrow().get(index).copied()).unwrap_or(0);
        let messages: Vec<MessageId> = match &attempt.task {
            AttemptTask::Page { message, .. } => vec![message.id],
            AttemptTask::Session { messages, .. } | AttemptTask::Pull { messages, .. } => {
                messages.iter().map(|stored| stored.id).collect()
            }
            _ => Vec::new(),
        };
        for id in &messages {
            let known = had.borrow().get(id).is_some_and(|devices| devices.contains(&device));
            assert!(!known, "{device} gets {id:?} a second time");
        }
        let script: Script = match how {
            0 => takes_all(attempt),
            1 => vec![(50, Deed::Ends(end(Some(486), Origin::Device)))],
            3 => takes_all(attempt).into_iter().map(|(at, deed)| (3_000 + at, deed)).collect(),
            4 => vec![(0, Deed::Ends(too_busy()))],
            _ => vec![(500, Deed::Ends(timeout()))],
        };
        if matches!(how, 0 | 3) {
            for id in messages {
                had.borrow_mut().entry(id).or_default().insert(device.clone());
            }
        }
        script
    })
}

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
    let second_way = Contact { id: restante_deferral::model::ContactId(7), ..phone() };
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
