//! Whatever waits for nothing is tried, also when nobody registers or refreshes afterwards.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use proptest::prelude::{Just, ProptestConfig, Strategy, prop, prop_assert, prop_oneof, proptest};
use restante_deferral::decision::{
    Answer, ExpiryAction, ExpiryAnswer, FailureAction, FailureAnswer, PullAnswer, PullDelivery, Question, Retry,
    Selection,
};
use restante_deferral::model::{ContactId, Duration, MessageId, Mode, Origin};
use restante_deferral::participating_function::{Attempt, AttemptTask, Input, Limits, PullRequest};

use super::simulator::build::*;
use super::simulator::{Deed, Devices, Policy, World, takes_all};

#[derive(Clone, Debug)]
enum Happening {
    Arrives { expires_in_seconds: Option<u64> },
    Registers,
    Refreshes,
    Passes(u64),
    Discards(u8),
    Crashes,
    Evicts,
    Lags { policy: u64, load: u64, commit: u64 },
    Fetches { keeps: bool },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        5 => prop::option::weighted(0.4, 5..400_u64).prop_map(|after| Happening::Arrives { expires_in_seconds: after }),
        1 => Just(Happening::Registers),
        1 => Just(Happening::Refreshes),
        6 => prop_oneof![0..5_000_u64, 0..200_000_u64].prop_map(Happening::Passes),
        2 => (0..20_u8).prop_map(Happening::Discards),
        1 => Just(Happening::Crashes),
        2 => Just(Happening::Evicts),
        1 => (0..300_u64, 0..50_u64, 0..50_u64)
            .prop_map(|(policy, load, commit)| Happening::Lags { policy, load, commit }),
        1 => prop::bool::ANY.prop_map(|keeps| Happening::Fetches { keeps }),
    ]
}

/// Messages of which the policy said last that they wait for their recipient, who has not come since.
type Waits = Rc<RefCell<BTreeSet<MessageId>>>;

/// Numbers below some bound, one after the other.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Delivers everything in the order in which it came; after failures, and when a time is up, it says anything.
fn policy(seed: u64, in_sessions: bool, waits: Waits, keeps_copies: Rc<Cell<bool>>) -> Policy {
    let mut numbers = Numbers(seed);
    Box::new(move |question| match question {
        Question::Failure(_, failure) => {
            let mut answers = Vec::new();
            for failed in &failure.messages {
                let message = failed.message.id;
                let action = match numbers.below(4) {
                    0 => FailureAction::Wait,
                    1 => FailureAction::HandOver(String::from("sms")),
                    _ => {
                        let mode = [None, Some(Mode::Page), Some(Mode::Large)][numbers.below(3) as usize];
                        let after_milliseconds = numbers.below(100_000);
                        FailureAction::Retry(Retry { after_milliseconds, mode, contact: None })
                    }
                };
                match action {
                    FailureAction::Wait => _ = waits.borrow_mut().insert(message),
                    _ => _ = waits.borrow_mut().remove(&message),
                }
                answers.push(FailureAnswer { message, action });
            }
            Ok(Answer::Failure(answers))
        }
        Question::Expiry(context, messages) => {
            let mut answers = Vec::new();
            for expiring in messages {
                let action = match numbers.below(3) {
                    0 => ExpiryAction::Extend(context.now.after(Duration(numbers.below(1_000_000)))),
                    1 => ExpiryAction::HandOver(String::from("sms")),
                    _ => ExpiryAction::Drop(false),
                };
                answers.push(ExpiryAnswer { message: expiring.message.id, action });
            }
            Ok(Answer::Expiry(answers))
        }
        Question::Pull(_, pull) => {
            let (messages, keep_copy) = (ids(&pull.messages), keeps_copies.get());
            Ok(Answer::Pull(PullAnswer::Send(PullDelivery { messages, mode: Mode::Large, keep_copy })))
        }
        question if in_sessions => one_session(question),
        question => pages_all(question),
    })
}

/// Devices that are often not there; targets that are.
fn devices(seed: u64) -> Devices {
    let mut numbers = Numbers(seed);
    Box::new(move |_, attempt| {
        if matches!(attempt.task, AttemptTask::HandOver { .. }) || numbers.below(4) == 0 {
            return takes_all(attempt);
        }
        let after = numbers.below(32_000);
        match numbers.below(3) {
            0 => vec![(after, Deed::Ends(end(Some(480), Origin::Core)))],
            1 => vec![(after, Deed::Ends(end(Some(486), Origin::Device)))],
            _ => vec![(after, Deed::Ends(timeout()))],
        }
    })
}

/// As many as `PROPTEST_CASES` says.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500)
}

fn happen(world: &mut World, happening: Happening, waits: &Waits, keeps_copies: &Cell<bool>, arrived: &mut usize) {
    match happening {
        Happening::Arrives { expires_in_seconds } => {
            *arrived += 1;
            let mut arrival = message(&format!("m{arrived:02}"));
            arrival.expires_at = expires_in_seconds.map(|after| world.now.after(Duration::from_secs(after)));
            world.arrives(arrival);
        }
        Happening::Registers => {
            waits.borrow_mut().clear();
            world.registers(&[phone()]);
        }
        Happening::Refreshes => {
            waits.borrow_mut().clear();
            world.refreshes();
        }
        Happening::Passes(milliseconds) => world.run_for(Duration(milliseconds)),
        Happening::Discards(number) => {
            let reply = world.token();
            let messages = Some(vec![MessageId(u64::from(number))]);
            world.tell(Input::Discard { reply, messages, report: false });
        }
        Happening::Crashes => world.crashes(),
        Happening::Evicts => _ = world.evicts(),
        Happening::Lags { policy, load, commit } => {
            (world.policy_delay, world.load_delay, world.commit_delay) = (policy, load, commit);
        }
        Happening::Fetches { keeps } => {
            keeps_copies.set(keeps);
            let reply = world.token();
            world.tell(Input::Pull(Box::new(PullRequest { reply, ..pull(Some(ContactId(1)), Selection::All) })));
        }
    }
    // What was durable when its answer went out has an alarm by now.
    world.run_for(Duration(100));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is first in the queue in the end, when the device has taken everything for hours, waits because the policy
    /// said so of it, and because its recipient has not come since. Nobody looks at it before something happens.
    #[test]
    fn what_waits_for_nothing_is_tried_however_those_before_it_went(
        seed: u64,
        in_sessions: bool,
        window in prop_oneof![Just(4_u32), Just(200)],
        happenings in prop::collection::vec(happening(), 1..40),
    ) {
        let limits = Limits {
            max_window_messages: window,
            max_decision_messages: 4,
            hand_over_targets: vec![String::from("sms")],
            ..Limits::default()
        };
        let mut world = World::with(limits);
        let waits = Waits::default();
        let keeps_copies = Rc::new(Cell::new(false));
        world.policy = policy(seed, in_sessions, Rc::clone(&waits), Rc::clone(&keeps_copies));
        world.devices = devices(seed.rotate_left(32));
        world.registers(&[phone()]);
        let mut arrived = 0;
        for happening in happenings {
            happen(&mut world, happening, &waits, &keeps_copies, &mut arrived);
        }
        world.devices = Box::new(|_, attempt: &Attempt| takes_all(attempt));
        world.seconds(4 * 3600);
        let rows = world.store.queue(&world.key);
        // Copies that were kept are for another device.
        if let Some(first) = rows.iter().find(|row| row.devices.is_empty()) {
            prop_assert!(
                waits.borrow().contains(&first.id),
                "nobody looks after {:?}: {:#?}\n{:?}\n{:?}",
                first.id, rows, world.log(), world.machine.as_ref().map(|machine| machine.next_wake())
            );
        }
        let next = world.next_moment();
        prop_assert!(
            next.is_none_or(|at| at > world.now.after(Duration::from_secs(3600))),
            "nothing is to be done, and it looks again at {next:?}, now {:?}: {rows:#?}\n{:?}", world.now, world.log()
        );
    }
}
