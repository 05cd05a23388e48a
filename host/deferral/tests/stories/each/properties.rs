//! What holds for each of a recipient's devices, whatever happens.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::arbitrary::any as arbitrary;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop, prop_assert, prop_oneof, proptest};
use restante_deferral::decision::{DeliveryStep, HoldStep, Question, Selection, Step, Target};
use restante_deferral::model::{Contact, DeviceState, Duration, MessageId, Origin, Timestamp};
use restante_deferral::participating_function::{AttemptTask, Input, Limits, ReplyToken};

use super::super::simulator::build::*;
use super::super::simulator::{Deed, Devices, Policy, Script, World, takes_all};
use super::{each, with};

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
type Fetches = Rc<RefCell<BTreeMap<ReplyToken, String>>>;

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
        let mut known: BTreeMap<MessageId, (BTreeSet<String>, Timestamp)> = BTreeMap::new();
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
                Happening::Pulls(which) if !world.contacts.iter().any(|it| it.id.0 == u64::from(which) + 1) => {}
                Happening::Pulls(which) => {
                    let mut request = pull(Some(devices[usize::from(which)].id), Selection::All);
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
fn script(had: Had, behaviour: Rc<RefCell<[u8; 4]>>, fetches: Fetches) -> Devices {
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
