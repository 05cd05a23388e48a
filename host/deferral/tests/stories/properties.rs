//! What holds whatever happens in whatever order.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use restante_deferral::commit::{Change, CommitError, Transaction};
use restante_deferral::decision::{
    AfterDeadline, Answer, DeliveryStep, DiscardStep, ExpiryAction, ExpiryAnswer, FailureAction, FailureAnswer,
    HandOverStep, HoldStep, IncomingAnswer, Keep, NotifyStep, Plan, Progress, PullAnswer, PullDelivery, Question,
    Rejection, Relay, Retry, Selection, Step, Target, Undecided, WaitingMessage,
};
use restante_deferral::model::{Contact, ContactId, Duration, MessageId, MessageKind, Mode, Origin, Timestamp};
use restante_deferral::participating_function::{
    Attempt, AttemptEnd, AttemptTask, Input, Limits, Outcome, PullRequest,
};

use super::simulator::build::{
    asking, contact, end, ids, large, message, negative, one_session, pages_all, pull, subscribed,
};
use super::simulator::{Deed, Pardoned, Script, World, takes_all};

/// Something that happens from outside.
#[derive(Clone, Debug)]
enum Happening {
    Arrives {
        name: u8,
        large: bool,
        expires_in: Option<u32>,
        report: bool,
    },
    Registers(u8),
    Refreshes,
    Unregisters,
    Pulls {
        contact: Option<u8>,
        listed: Option<Vec<u8>>,
    },
    /// Of those who wait for an answer to a pull the last one does not any more.
    GivesUp,
    Discards(Option<Vec<u8>>),
    Grows,
    Passes(u32),
    /// The clock was ahead by so many milliseconds.
    SetsBack(u32),
    Crashes,
    Evicts,
    HoldsCommits(bool),
    FailsCommits(bool),
    FailsLoads(bool),
    Lags {
        policy: u16,
        load: u16,
        commit: u16,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (any::<u8>(), any::<bool>(), prop::option::weighted(0.3, 0..20_000_u32), prop::bool::weighted(0.1))
            .prop_map(|(name, large, expires_in, report)| Happening::Arrives { name: name % 40, large, expires_in, report }),
        3 => (0..8_u8).prop_map(Happening::Registers),
        2 => Just(Happening::Refreshes),
        1 => Just(Happening::Unregisters),
        3 => (prop::option::of(1..4_u8), prop::option::of(prop::collection::vec(0..40_u8, 0..5)))
            .prop_map(|(contact, listed)| Happening::Pulls { contact, listed }),
        1 => Just(Happening::GivesUp),
        1 => prop::option::weighted(0.8, prop::collection::vec(0..40_u8, 0..4)).prop_map(Happening::Discards),
        1 => Just(Happening::Grows),
        8 => prop_oneof![0..50_u32, 0..5_000_u32, 0..5_000_000_u32].prop_map(Happening::Passes),
        1 => prop_oneof![0..6_000_u32, 0..2_000_000_u32].prop_map(Happening::SetsBack),
        1 => Just(Happening::Crashes),
        3 => Just(Happening::Evicts),
        1 => any::<bool>().prop_map(Happening::HoldsCommits),
        1 => any::<bool>().prop_map(Happening::FailsCommits),
        1 => any::<bool>().prop_map(Happening::FailsLoads),
        1 => (0..300_u16, 0..50_u16, 0..50_u16).prop_map(|(policy, load, commit)| Happening::Lags { policy, load, commit }),
    ]
}

/// Small numbers that look random, the same ones for the same seed.
#[derive(Clone)]
struct Dice(Rc<RefCell<u64>>);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(Rc::new(RefCell::new(seed | 1)))
    }

    fn roll(&self, sides: u64) -> u64 {
        let mut state = self.0.borrow_mut();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % sides
    }
}

fn contacts(which: u8) -> Vec<Contact> {
    let one = contact(1, 500);
    let two = subscribed(contact(2, 900));
    let mut three = contact(3, 100);
    three.abilities.large_message_mode = false;
    [one, two, three].into_iter().enumerate().filter(|(bit, _)| which & (1 << bit) != 0).map(|(_, c)| c).collect()
}

/// A policy that says anything, sense or nonsense.
fn wild_policy(dice: Dice, pardoned: Pardoned) -> super::simulator::Policy {
    Box::new(move |question| {
        if dice.roll(10) == 0 {
            return Err(Undecided::Trapped);
        }
        match question {
            Question::Incoming(context, _) => Ok(Answer::Incoming(wild_incoming(&dice, context.now))),
            Question::Available(context, availability) => {
                Ok(Answer::Available(wild_plan(&dice, context.now, &availability.messages, &pardoned)))
            }
            Question::Pull(_, pull) => Ok(Answer::Pull(wild_pull(&dice, &pull.messages))),
            Question::Failure(context, failure) => Ok(Answer::Failure(
                failure
                    .messages
                    .iter()
                    .filter(|_| dice.roll(8) > 0)
                    .map(|failed| FailureAnswer { message: failed.message.id, action: wild_action(&dice, context.now) })
                    .collect(),
            )),
            Question::Expiry(context, messages) => Ok(Answer::Expiry(
                messages
                    .iter()
                    .filter(|_| dice.roll(8) > 0)
                    .map(|expiring| ExpiryAnswer {
                        message: expiring.message.id,
                        action: match dice.roll(6) {
                            0 => ExpiryAction::Extend(context.now.after(Duration(dice.roll(10_000_000)))),
                            1 => ExpiryAction::HandOver(String::from("sms")),
                            report => ExpiryAction::Drop(report % 2 == 0),
                        },
                    })
                    .collect(),
            )),
        }
    })
}

fn wild_incoming(dice: &Dice, now: Timestamp) -> IncomingAnswer {
    let keep = Keep {
        expires_at: now.after(Duration(dice.roll(100_000_000))),
        priority: [100, 100, 100, 0, 255][dice.roll(5) as usize],
        deliver_now: dice.roll(4) > 0,
    };
    match dice.roll(10) {
        0 => IncomingAnswer::Reject(Rejection {
            status: 399 + dice.roll(300) as u16,
            reason: String::new(),
            retry_after_seconds: None,
        }),
        1 => IncomingAnswer::HandOver(String::from(if dice.roll(2) == 0 { "sms" } else { "nowhere" })),
        2 | 3 => {
            let deadline_milliseconds = dice.roll(10_000) as u32;
            IncomingAnswer::Relay(Relay { deadline_milliseconds, contacts: Vec::new(), otherwise: keep })
        }
        _ => IncomingAnswer::Keep(keep),
    }
}

fn wild_plan(dice: &Dice, now: Timestamp, messages: &[WaitingMessage], pardoned: &Pardoned) -> Plan {
    let mut steps = Vec::new();
    let mut rest: Vec<MessageId> = ids(messages);
    while !rest.is_empty() {
        let count = 1 + dice.roll(rest.len() as u64) as usize;
        let messages: Vec<MessageId> = rest.drain(..count).collect();
        let target = match dice.roll(6) {
            0 => Target::Contact(ContactId(1 + dice.roll(4))),
            _ => Target::Any,
        };
        let later = now.after(Duration(dice.roll(4_000_000)));
        steps.push(match dice.roll(14) {
            0 => Step::Hold(HoldStep { messages, until: (dice.roll(2) == 0).then_some(later) }),
            1 => {
                let afterwards = if dice.roll(2) == 0 { AfterDeadline::Ask } else { AfterDeadline::Push };
                Step::Notify(NotifyStep { messages, fetch_deadline: later, afterwards })
            }
            2 if dice.roll(3) == 0 => {
                pardoned.borrow_mut().extend(&messages);
                Step::Discard(DiscardStep { messages, report: true })
            }
            3 => Step::HandOver(HandOverStep { messages, target: String::from("sms") }),
            4 => continue,
            5 => Step::Page(DeliveryStep { messages: vec![MessageId(9999)], target }),
            6..=9 => Step::Session(DeliveryStep { messages, target }),
            _ => Step::Page(DeliveryStep { messages, target }),
        });
    }
    Plan { steps, ask_again_at: (dice.roll(4) == 0).then(|| now.after(Duration(dice.roll(10_000)))) }
}

fn wild_pull(dice: &Dice, messages: &[WaitingMessage]) -> PullAnswer {
    let messages: Vec<MessageId> = ids(messages).into_iter().filter(|_| dice.roll(4) > 0).collect();
    let mode = if dice.roll(3) == 0 { Mode::Page } else { Mode::Large };
    match dice.roll(8) {
        0 => {
            let reason = String::from("No");
            PullAnswer::Refuse(Rejection { status: 403, reason, retry_after_seconds: None })
        }
        _ => PullAnswer::Send(PullDelivery { messages, mode, keep_copy: dice.roll(4) == 0 }),
    }
}

fn wild_action(dice: &Dice, now: Timestamp) -> FailureAction {
    match dice.roll(8) {
        0 => FailureAction::Wait,
        1 => FailureAction::GiveUp(true),
        2 => FailureAction::Notify(now.after(Duration(dice.roll(1_000_000)))),
        3 => FailureAction::HandOver(String::from("sms")),
        kind => FailureAction::Retry(Retry {
            after_milliseconds: dice.roll(200_000),
            mode: [None, Some(Mode::Page), Some(Mode::Large)][dice.roll(3) as usize],
            contact: (kind == 4).then(|| ContactId(1 + dice.roll(3))),
        }),
    }
}

/// Devices that do anything.
fn wild_devices(dice: Dice, pardoned: Pardoned) -> super::simulator::Devices {
    Box::new(move |_, attempt| {
        let after = dice.roll(40_000);
        let origin = [Origin::Device, Origin::Core, Origin::Timeout, Origin::Transport][dice.roll(4) as usize];
        let status = [None, Some(404), Some(415), Some(486), Some(603), Some(500)][dice.roll(6) as usize];
        let status = if origin == Origin::Timeout { None } else { status };
        let ends = AttemptEnd { retry_after_seconds: (dice.roll(9) == 0).then_some(60), ..end(status, origin) };
        if dice.roll(2) == 0 {
            return takes_all(attempt);
        }
        match &attempt.task {
            AttemptTask::Session { messages, .. } | AttemptTask::Pull { messages, mode: Mode::Large, .. } => {
                let taken = dice.roll(messages.len() as u64 + 1) as usize;
                let mut script: Script =
                    messages[..taken].iter().map(|stored| (dice.roll(after + 1), Deed::Takes(stored.id))).collect();
                let rest = &messages[taken..];
                let failed = Outcome::Failed { progress: Progress::Partial, status: None };
                let outcomes = rest.iter().take(1).map(|stored| (stored.id, failed)).collect();
                script.push((after, Deed::Ends(AttemptEnd { outcomes, ..ends })));
                script
            }
            AttemptTask::Page { message, .. } => {
                if origin == Origin::Device && matches!(status, Some(404 | 603)) {
                    pardoned.borrow_mut().insert(message.id);
                }
                vec![(after, Deed::Ends(ends))]
            }
            _ => vec![(after, Deed::Ends(ends))],
        }
    })
}

fn name_of(number: u8) -> String {
    format!("m{number:02}")
}

/// The newest messages of these names in the store; what a client that read a summary would ask for.
fn numbers(world: &World, names: &[u8]) -> Vec<MessageId> {
    let wanted: Vec<String> = names.iter().map(|name| name_of(*name)).collect();
    world
        .store
        .queue(&world.key)
        .into_iter()
        .filter(|row| row.message.envelope.imdn.as_ref().is_some_and(|imdn| wanted.contains(&imdn.message_id)))
        .map(|row| row.id)
        .collect()
}

fn happen(world: &mut World, happening: Happening, dice: &Dice) {
    match happening {
        Happening::Arrives { name, large: is_large, expires_in, report } => {
            let name = name_of(name);
            let mut arrival = if is_large { large(&name) } else { message(&name) };
            arrival.expires_at = expires_in.map(|after| world.now.after(Duration(u64::from(after) * 1000)));
            if report {
                arrival.envelope.kind = MessageKind::Disposition;
            }
            world.arrives(asking(arrival, negative()));
        }
        Happening::Registers(which) => {
            let contacts = contacts(which);
            world.registers(&contacts);
        }
        Happening::Refreshes if world.contacts.is_empty() => {}
        Happening::Refreshes => world.refreshes(),
        Happening::Unregisters => world.unregisters(),
        Happening::Pulls { contact, listed } => {
            let selection = match listed {
                Some(names) => Selection::Listed(numbers(world, &names)),
                None => Selection::All,
            };
            let reply = world.token();
            let contact = contact.map(|id| ContactId(u64::from(id)));
            world.tell(Input::Pull(Box::new(PullRequest { reply, ..pull(contact, selection) })));
            world.fetches.push(reply);
        }
        Happening::GivesUp => world.gives_up(),
        Happening::Discards(names) => {
            let messages = names.map(|names| numbers(world, &names));
            let all = || world.store.queue(&world.key).iter().map(|row| row.id).collect();
            let pardoned: Vec<MessageId> = messages.clone().unwrap_or_else(all);
            // All means those too that are on their way to the store.
            let on_the_way = messages.is_none().then(|| (0..1000).map(MessageId)).into_iter().flatten();
            world.pardoned.borrow_mut().extend(pardoned.into_iter().chain(on_the_way));
            let reply = world.token();
            world.tell(Input::Discard { reply, messages, report: true });
        }
        Happening::Grows => {
            // Whoever stores something elsewhere sets the alarm with it.
            let change = Change::WakeAt { recipient: world.key.clone(), at: Some(world.now) };
            world.store.apply(world.now, Transaction { changes: vec![change], settles: false });
            world.tell(Input::QueueGrew);
        }
        Happening::Passes(milliseconds) => world.run_for(Duration(u64::from(milliseconds))),
        Happening::SetsBack(milliseconds) => {
            // What is expired may be on its way to be dropped.
            let rows = world.store.queue(&world.key);
            let expired: Vec<MessageId> =
                rows.iter().filter(|row| row.message.expires_at <= world.now).map(|row| row.id).collect();
            world.pardoned.borrow_mut().extend(expired);
            world.clock_is_set_back(Duration(u64::from(milliseconds)));
        }
        Happening::Crashes => world.crashes(),
        Happening::Evicts => _ = world.evicts(),
        Happening::HoldsCommits(true) => world.hold_commits = true,
        Happening::HoldsCommits(false) => world.let_commits_through(),
        Happening::FailsCommits(fails) => {
            world.fail_commits = fails.then(|| [CommitError::Full, CommitError::Failed][dice.roll(2) as usize]);
        }
        Happening::FailsLoads(fails) => world.store.fail_loads = fails,
        Happening::Lags { policy, load, commit } => {
            world.policy_delay = u64::from(policy);
            world.load_delay = u64::from(load);
            world.commit_delay = u64::from(commit);
        }
    }
}

/// Everything works again, and the client is there.
fn clear_up(world: &mut World) {
    world.store.fail_loads = false;
    world.fail_commits = None;
    world.let_commits_through();
    (world.policy_delay, world.load_delay, world.commit_delay) = (0, 1, 1);
    world.seconds(120);
}

/// As many as `PROPTEST_CASES` says.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500)
}

fn limits() -> Limits {
    Limits {
        max_window_messages: 6,
        max_decision_messages: 4,
        max_waiting_arrivals: 12,
        hand_over_targets: vec![String::from("sms")],
        ..Limits::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No message is lost, none is sent again that a device has, none is in two attempts, everybody is answered once,
    /// and the machine comes to rest; see the assertions of [`World`].
    #[test]
    fn nothing_is_lost_whatever_happens(
        seed in any::<u64>(),
        happenings in prop::collection::vec(happening(), 1..60),
    ) {
        let dice = Dice::new(seed);
        let mut world = World::with(limits());
        let pardoned = Rc::clone(&world.pardoned);
        world.strict = true;
        world.policy = wild_policy(dice.clone(), Rc::clone(&pardoned));
        world.devices = wild_devices(dice.clone(), pardoned);
        for happening in happenings {
            happen(&mut world, happening, &dice);
        }
        // From now on everything goes well.
        clear_up(&mut world);
        prop_assert!(world.everybody_is_answered());
        world.policy = Box::new(|_| Err(Undecided::Declined));
        world.devices = Box::new(|_, attempt: &Attempt| takes_all(attempt));
        world.registers(&[contact(7, 1000)]);
        world.seconds(120);
        for _ in 0..100 {
            world.refreshes();
            world.seconds(4000);
        }
        // What is not expired reached the client, the target, or somebody dropped it.
        prop_assert!(
            world.waiting().is_empty(),
            "still there: {:#?}\n{:?}\n{:?}",
            world.store.queue(&world.key),
            world.log(),
            world.events
        );
        prop_assert!(world.evicts(), "not idle: {:#?}", world.machine);
    }
}

/// Devices that are there or not, and never refuse.
fn honest_devices(dice: Dice) -> super::simulator::Devices {
    Box::new(move |_, attempt| {
        if dice.roll(3) > 0 {
            return takes_all(attempt);
        }
        let origin = [Origin::Core, Origin::Timeout, Origin::Transport][dice.roll(3) as usize];
        let ends = end((origin == Origin::Core).then_some(480), origin);
        let mut script = Script::new();
        if let AttemptTask::Session { messages, .. } = &attempt.task {
            let taken = dice.roll(messages.len() as u64 + 1) as usize;
            for (index, stored) in messages[..taken].iter().enumerate() {
                script.push((10 * (index as u64 + 1), Deed::Takes(stored.id)));
            }
        }
        script.push((1000, Deed::Ends(ends)));
        script
    })
}

fn orderly() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (0..40_u8).prop_map(|name| Happening::Arrives { name, large: false, expires_in: None, report: false }),
        2 => (1..4_u8).prop_map(Happening::Registers),
        2 => Just(Happening::Refreshes),
        1 => Just(Happening::Unregisters),
        8 => prop_oneof![0..50_u32, 0..5_000_u32, 0..500_000_u32].prop_map(Happening::Passes),
        1 => prop_oneof![0..6_000_u32, 0..2_000_000_u32].prop_map(Happening::SetsBack),
        1 => Just(Happening::Crashes),
        3 => Just(Happening::Evicts),
        1 => any::<bool>().prop_map(Happening::HoldsCommits),
        1 => (0..300_u16, 0..50_u16, 0..50_u16).prop_map(|(policy, load, commit)| Happening::Lags { policy, load, commit }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// As long as devices refuse nothing and the policy asks for no other order, messages reach the recipient in the
    /// order in which they were stored.
    #[test]
    fn the_order_is_kept_whoever_was_there(
        seed in any::<u64>(),
        in_sessions in any::<bool>(),
        happenings in prop::collection::vec(orderly(), 1..60),
    ) {
        let dice = Dice::new(seed);
        let mut world = World::with(limits());
        world.strict = true;
        let roll = dice.clone();
        world.policy = Box::new(move |question| match question {
            Question::Failure(_, failure) => {
                let action = match roll.roll(3) {
                    0 => FailureAction::Wait,
                    _ => {
                        let after_milliseconds = roll.roll(100_000);
                        FailureAction::Retry(Retry { after_milliseconds, mode: None, contact: None })
                    }
                };
                let answer = |message| FailureAnswer { message, action: action.clone() };
                Ok(Answer::Failure(failure.messages.iter().map(|failed| answer(failed.message.id)).collect()))
            }
            question if in_sessions => one_session(question),
            question => pages_all(question),
        });
        world.devices = honest_devices(dice.clone());
        for happening in happenings {
            happen(&mut world, happening, &dice);
        }
        clear_up(&mut world);
        world.devices = Box::new(|_, attempt: &Attempt| takes_all(attempt));
        world.registers(&[contact(7, 1000)]);
        world.seconds(120);
        for _ in 0..10 {
            world.refreshes();
            world.seconds(100);
        }
        prop_assert_eq!(world.waiting(), Vec::<String>::new());
        let mut first_times = Vec::new();
        for name in &world.delivered {
            if !first_times.contains(name) {
                first_times.push(name.clone());
            }
        }
        let stored: Vec<String> = world.store.history.iter().filter(|name| first_times.contains(name)).cloned().collect();
        prop_assert_eq!(first_times, stored);
    }
}
