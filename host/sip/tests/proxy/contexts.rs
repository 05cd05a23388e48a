//! The response context: what happens, and what is done then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use restante_sip::proxy::{Action, BranchId, ContextSettings, ResponseContext, TakeOver};

use crate::answer;

const SECOND: Duration = Duration::from_secs(1);

fn settings(is_invite: bool) -> ContextSettings {
    ContextSettings { is_invite, timer_c: 185 * SECOND, first_word: None, take_over: None }
}

fn with_take_over() -> ContextSettings {
    ContextSettings { take_over: Some(TakeOver { after: 15 * SECOND, patience: SECOND }), ..settings(true) }
}

fn with_a_first_word() -> ContextSettings {
    ContextSettings { first_word: Some(15 * SECOND), ..settings(true) }
}

/// Actions in a few words.
fn said(actions: &[Action]) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Begin(BranchId(id)) => format!("begin {id}"),
        Action::Cancel(BranchId(id)) => format!("cancel {id}"),
        Action::GiveUp(BranchId(id)) => format!("give up {id}"),
        Action::Pass(BranchId(id)) => format!("pass {id}"),
        Action::Finish(best) => format!("finish {}", best.status),
        Action::TakeOver => "take over".to_owned(),
        Action::LetGo(BranchId(id)) => format!("let go {id}"),
    };
    actions.iter().map(word).collect()
}

/// What happens: a status on a branch, 0 for a time-out, 1 for one that was not sent; `C` for the caller's CANCEL, `W`
/// for a wake at so many seconds.
enum Step {
    Answer(usize, u16),
    Cancel,
    Wake(u64),
}
use Step::{Answer, Cancel, Wake};

/// Plays a story and compares what was done.
fn tell(name: &str, targets: &[u16], settings: ContextSettings, steps: &[(Step, &[&str])], begun: &[&str]) {
    let targets: Vec<_> = targets.iter().map(|q| (*q, None)).collect();
    tell_of_flows(name, &targets, settings, steps, begun);
}

/// The same where targets follow others.
fn tell_of_flows(
    name: &str,
    targets: &[(u16, Option<BranchId>)],
    settings: ContextSettings,
    steps: &[(Step, &[&str])],
    begun: &[&str],
) {
    let start = Instant::now();
    let mut now = start;
    let (mut context, actions) = ResponseContext::new(now, targets, settings);
    assert_eq!(said(&actions), begun, "{name}");
    for (number, (step, expected)) in steps.iter().enumerate() {
        let actions = match step {
            Answer(branch, 0) => context.timed_out(now, BranchId(*branch)),
            Answer(branch, 1) => context.not_sent(now, BranchId(*branch)),
            Answer(branch, status) => context.answered(now, BranchId(*branch), &answer(*status)),
            Cancel => context.cancelled(now),
            Wake(at) => {
                now = start + *at as u32 * SECOND;
                context.handle_wake(now)
            }
        };
        assert_eq!(said(&actions), *expected, "{name}, step {number}");
    }
}

#[test]
fn branches_ring_together_and_one_answers() {
    tell(
        "one answers",
        &[1000, 1000, 500],
        settings(true),
        &[
            (Answer(0, 100), &[]),
            (Answer(0, 180), &["pass 0"]),
            (Answer(1, 183), &["pass 1"]),
            (Answer(1, 200), &["pass 1", "cancel 0"]),
            (Answer(1, 200), &["pass 1"]),
            (Answer(0, 180), &[]),
            (Answer(0, 487), &[]),
            (Cancel, &[]),
        ],
        &["begin 0", "begin 1"],
    );
    tell(
        "two answer at once",
        &[1000, 1000],
        settings(true),
        &[(Answer(1, 200), &["pass 1", "cancel 0"]), (Answer(0, 200), &["pass 0"])],
        &["begin 0", "begin 1"],
    );
}

#[test]
fn the_next_q_has_its_turn_when_nobody_of_the_one_before_took_it() {
    tell(
        "the order",
        &[200, 1000, 1000],
        settings(true),
        &[
            (Answer(1, 486), &[]),
            (Answer(2, 0), &["begin 0"]),
            (Answer(1, 180), &[]),
            (Answer(0, 480), &["finish 486"]),
            (Answer(0, 480), &[]),
        ],
        &["begin 1", "begin 2"],
    );
    tell("not sent", &[1000], settings(true), &[(Answer(0, 1), &["finish 500"])], &["begin 0"]);
    tell("nobody to ask", &[], settings(true), &[], &["finish 408"]);
}

#[test]
fn a_6xx_ends_the_others_first() {
    tell(
        "6xx",
        &[1000, 1000, 1],
        settings(true),
        &[(Answer(0, 603), &["cancel 1"]), (Answer(1, 487), &["finish 603"])],
        &["begin 0", "begin 1"],
    );
    tell(
        "6xx, and yet a 2xx",
        &[1000, 1000],
        settings(true),
        &[(Answer(0, 603), &["cancel 1"]), (Answer(1, 200), &["pass 1"])],
        &["begin 0", "begin 1"],
    );
    tell(
        "6xx to a MESSAGE: nothing can be cancelled",
        &[1000, 1000, 1],
        settings(false),
        &[(Answer(0, 603), &[]), (Answer(1, 0), &["finish 603"])],
        &["begin 0", "begin 1"],
    );
}

#[test]
fn the_first_2xx_to_a_message_is_the_only_one() {
    tell(
        "MESSAGE",
        &[1000, 1000],
        settings(false),
        &[(Answer(1, 100), &[]), (Answer(1, 202), &["pass 1"]), (Answer(0, 200), &[]), (Answer(0, 404), &[])],
        &["begin 0", "begin 1"],
    );
}

#[test]
fn the_callers_cancel_goes_to_every_branch_and_487_comes_back() {
    tell(
        "CANCEL",
        &[1000, 1000, 1],
        settings(true),
        &[
            (Answer(0, 180), &["pass 0"]),
            (Cancel, &["cancel 0", "cancel 1"]),
            (Cancel, &[]),
            (Answer(1, 180), &[]),
            (Answer(0, 487), &[]),
            (Answer(1, 0), &["finish 487"]),
        ],
        &["begin 0", "begin 1"],
    );
    tell(
        "CANCEL and 2xx cross",
        &[1000],
        settings(true),
        &[(Cancel, &["cancel 0"]), (Answer(0, 200), &["pass 0"])],
        &["begin 0"],
    );
    tell("of a MESSAGE", &[1000], settings(false), &[(Cancel, &[])], &["begin 0"]);
}

#[test]
fn timer_c_ends_what_rings_too_long() {
    tell(
        "Timer C",
        &[1000, 1000],
        settings(true),
        &[
            (Wake(100), &[]),
            (Answer(0, 100), &[]),
            (Answer(1, 180), &["pass 1"]),
            // 100 does not start it anew, 180 does.
            (Wake(185), &["cancel 0"]),
            (Wake(285), &["cancel 1"]),
            (Answer(0, 0), &[]),
            (Answer(1, 487), &["finish 487"]),
        ],
        &["begin 0", "begin 1"],
    );
    tell("without a word", &[1000], settings(true), &[(Wake(185), &["give up 0", "finish 408"])], &["begin 0"]);
}

#[test]
fn what_nobody_says_a_word_to_is_over_before_timer_b_and_what_rings_is_not() {
    let both = &["begin 0", "begin 1"][..];
    tell(
        "100 is no word, and whoever has a lower q is not asked any more",
        &[1000, 1000, 500],
        with_a_first_word(),
        &[
            (Answer(0, 100), &[]),
            (Wake(14), &[]),
            (Wake(15), &["cancel 0", "give up 1", "finish 408"]),
            (Answer(0, 180), &[]),
            (Answer(0, 487), &[]),
            (Answer(1, 200), &["let go 1"]),
            (Cancel, &[]),
        ],
        both,
    );
    tell(
        "whoever refused said one",
        &[1000, 1000],
        with_a_first_word(),
        &[(Answer(0, 415), &[]), (Wake(15), &["give up 1", "finish 415"])],
        both,
    );
    tell(
        "who declined for all, and one that is silent",
        &[1000, 1000],
        with_a_first_word(),
        &[(Answer(0, 603), &["cancel 1"]), (Wake(15), &["finish 603"]), (Answer(1, 200), &["let go 1"])],
        both,
    );
    tell(
        "what rings has Timer C",
        &[1000, 1000],
        with_a_first_word(),
        &[
            (Answer(0, 180), &["pass 0"]),
            (Wake(15), &[]),
            (Answer(1, 0), &[]),
            (Wake(184), &[]),
            (Answer(0, 200), &["pass 0"]),
        ],
        both,
    );
    tell(
        "the caller gave up before",
        &[1000],
        with_a_first_word(),
        &[(Cancel, &["cancel 0"]), (Wake(15), &[]), (Answer(0, 0), &["finish 487"])],
        &["begin 0"],
    );
    let message = ContextSettings { is_invite: false, ..with_a_first_word() };
    tell("not a MESSAGE", &[1000], message, &[(Wake(15), &[]), (Answer(0, 0), &["finish 408"])], &["begin 0"]);
}

#[test]
fn what_nobody_took_is_taken_over_and_never_after_a_2xx_or_the_callers_cancel() {
    let all = &["begin 0", "begin 1"][..];
    tell(
        "all refuse",
        &[1000, 1000],
        with_take_over(),
        &[(Answer(0, 486), &[]), (Answer(1, 603), &["take over"]), (Wake(20), &[]), (Cancel, &[])],
        all,
    );
    tell(
        "one is silent",
        &[1000, 1000],
        with_take_over(),
        &[
            (Answer(0, 180), &["pass 0"]),
            (Wake(14), &[]),
            (Wake(15), &["cancel 0", "cancel 1"]),
            (Answer(0, 487), &[]),
            (Wake(16), &["take over"]),
            (Answer(1, 180), &[]),
            (Answer(1, 200), &["let go 1"]),
        ],
        all,
    );
    tell(
        "all say that they are cancelled",
        &[1000],
        with_take_over(),
        &[(Wake(15), &["cancel 0"]), (Answer(0, 487), &["take over"])],
        &["begin 0"],
    );
    tell(
        "a 2xx at the last moment",
        &[1000],
        with_take_over(),
        &[(Wake(15), &["cancel 0"]), (Answer(0, 200), &["pass 0"]), (Wake(16), &[])],
        &["begin 0"],
    );
    tell(
        "the caller gives up at the last moment",
        &[1000],
        with_take_over(),
        &[(Wake(15), &["cancel 0"]), (Cancel, &[]), (Wake(16), &[]), (Answer(0, 487), &["finish 487"])],
        &["begin 0"],
    );
}

#[test]
fn a_further_flow_takes_the_place_of_one_that_failed_whoever_else_rings() {
    let flows = [(1000, None), (1000, Some(BranchId(0))), (1000, None), (200, None)];
    tell_of_flows(
        "beside another device",
        &flows,
        settings(true),
        &[
            (Answer(2, 180), &["pass 2"]),
            (Answer(0, 430), &["begin 1"]),
            (Answer(2, 486), &[]),
            (Answer(1, 480), &["begin 3"]),
            (Answer(3, 408), &["finish 486"]),
        ],
        &["begin 0", "begin 2"],
    );
    tell_of_flows(
        "one after the other, whatever their q",
        &[(500, None), (1000, Some(BranchId(0))), (100, Some(BranchId(1))), (400, None)],
        settings(true),
        &[(Answer(0, 0), &["begin 1"]), (Answer(1, 1), &["begin 2"]), (Answer(2, 503), &["begin 3"])],
        &["begin 0"],
    );
    for (name, step, expected) in [
        ("after a refusal for everybody", Answer(0, 603), &["cancel 2"][..]),
        ("after the caller's CANCEL", Cancel, &["cancel 0", "cancel 2"]),
        ("after an answer", Answer(2, 200), &["pass 2", "cancel 0"]),
    ] {
        let steps: [(Step, &[&str]); 2] = [(step, expected), (Answer(0, 487), &[])];
        tell_of_flows(name, &flows, settings(true), &steps, &["begin 0", "begin 2"]);
    }
}

/// What may happen to a branch, in any order.
fn happening() -> impl Strategy<Value = (usize, u16)> {
    let statuses = prop_oneof![
        Just(0),
        Just(1),
        prop::sample::select(vec![
            100u16, 180, 183, 200, 202, 302, 401, 404, 407, 408, 480, 486, 487, 500, 503, 600, 603
        ])
    ];
    // Branches 5 and 6 are the caller's CANCEL and the passing of time.
    (0..7usize, statuses)
}

proptest! {
    #[test]
    fn whatever_the_order(
        targets in prop::collection::vec((prop::sample::select(vec![0u16, 500, 1000]), any::<bool>()), 0..5),
        is_invite: bool,
        takes_over: bool,
        is_in_a_hurry: bool,
        happenings in prop::collection::vec(happening(), 0..40),
    ) {
        let mut now = Instant::now();
        let follows = |(index, (q, follows)): (usize, &(u16, bool))| {
            (*q, index.checked_sub(1).filter(|_| *follows).map(BranchId))
        };
        let targets: Vec<_> = targets.iter().enumerate().map(follows).collect();
        let mut settings = settings(is_invite);
        settings.first_word = is_in_a_hurry.then_some(15 * SECOND);
        if takes_over && is_invite {
            settings.take_over = with_take_over().take_over;
        }
        let (mut context, actions) = ResponseContext::new(now, &targets, settings);
        let mut log = Log { is_invite, ..Log::default() };
        log.note(&actions, &targets)?;
        for (branch, status) in happenings {
            let actions = match (branch, status) {
                (5, _) => { log.caller_cancelled |= is_invite && log.ended == 0; context.cancelled(now) }
                (6, _) => {
                    now += 8 * SECOND;
                    context.handle_wake(now)
                }
                (branch, _) if branch >= targets.len() || !log.begun.contains_key(&branch) => continue,
                // A transaction ends once.
                (branch, status) if log.begun[&branch] && !(is_invite && (200..300).contains(&status)) => {
                    let _ = status;
                    continue;
                }
                (branch, 0) => { log.begun.insert(branch, true); context.timed_out(now, BranchId(branch)) }
                (branch, 1) => { log.begun.insert(branch, true); context.not_sent(now, BranchId(branch)) }
                (branch, status) => {
                    if status >= 200 { log.begun.insert(branch, true); }
                    log.came = status;
                    context.answered(now, BranchId(branch), &answer(status))
                }
            };
            log.note(&actions, &targets)?;
        }
        // Every branch ends some time: then the request has its end, and only one.
        for _ in 0..=targets.len() {
            for branch in 0..targets.len() {
                if log.begun.get(&branch) == Some(&false) {
                    log.begun.insert(branch, true);
                    let actions = context.timed_out(now, BranchId(branch));
                    log.note(&actions, &targets)?;
                }
            }
        }
        prop_assert!(context.is_over());
        prop_assert!(log.ended == 1 || log.passed_2xx > 0);
    }
}

/// What was done so far.
#[derive(Default)]
struct Log {
    is_invite: bool,
    /// Branches, and whether their transaction is over.
    begun: BTreeMap<usize, bool>,
    cancelled: Vec<usize>,
    passed_2xx: usize,
    /// Final answers other than 2xx, and take-overs.
    ended: usize,
    caller_cancelled: bool,
    came: u16,
}

impl Log {
    fn note(&mut self, actions: &[Action], targets: &[(u16, Option<BranchId>)]) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::Begin(BranchId(id)) => {
                    prop_assert!(self.begun.insert(*id, false).is_none(), "begun twice");
                    prop_assert!(self.ended == 0 && self.passed_2xx == 0 && !self.caller_cancelled);
                    let is_over = |other| self.begun.get(&other) == Some(&true) || self.cancelled.contains(&other);
                    let (q, follows) = targets[*id];
                    if let Some(BranchId(first)) = follows {
                        prop_assert!(is_over(first), "it takes the place of {}", first);
                        continue;
                    }
                    // Nobody of a higher q is left out, or is still being asked.
                    for (other, (of, follows)) in targets.iter().enumerate() {
                        prop_assert!(*of <= q || follows.is_some() || is_over(other), "q {}", of);
                    }
                }
                Action::Cancel(BranchId(id)) | Action::GiveUp(BranchId(id)) => {
                    prop_assert!(self.is_invite && self.begun.contains_key(id) && !self.cancelled.contains(id));
                    self.cancelled.push(*id);
                }
                Action::Pass(_) if self.came < 200 => {
                    prop_assert!(self.is_invite && self.came > 100 && self.ended == 0 && self.passed_2xx == 0);
                }
                Action::Pass(BranchId(id)) => {
                    prop_assert!(self.ended == 0 && (self.is_invite || self.passed_2xx == 0));
                    self.passed_2xx += 1;
                    prop_assert!(self.begun.contains_key(id));
                }
                Action::Finish(best) => {
                    prop_assert!(self.ended == 0 && self.passed_2xx == 0 && best.status >= 300 && best.status != 503);
                    prop_assert!(!self.caller_cancelled || best.status == 487);
                    self.ended += 1;
                }
                Action::TakeOver => {
                    prop_assert!(self.ended == 0 && self.passed_2xx == 0 && !self.caller_cancelled);
                    for (id, is_over) in &self.begun {
                        prop_assert!(*is_over || self.cancelled.contains(id));
                    }
                    self.ended += 1;
                }
                Action::LetGo(_) => prop_assert!(self.is_invite && self.ended == 1),
            }
        }
        // After the first 2xx, and after the end, nobody goes on ringing.
        if self.is_invite && (self.passed_2xx > 0 || self.ended > 0) {
            for (id, is_over) in &self.begun {
                prop_assert!(*is_over || self.cancelled.contains(id), "branch {} rings on", id);
            }
        }
        Ok(())
    }
}

#[test]
fn what_all_refused_is_settled_and_what_may_still_be_taken_is_not() {
    let start = Instant::now();
    let begin = || ResponseContext::new(start, &[(1000, None), (1000, None)], settings(true)).0;
    let mut refused = begin();
    refused.answered(start, BranchId(0), &answer(486));
    assert!(!refused.is_settled(), "one rings");
    refused.answered(start, BranchId(1), &answer(603));
    assert!(refused.is_over() && refused.is_settled());
    let mut taken = begin();
    taken.answered(start, BranchId(0), &answer(486));
    taken.answered(start, BranchId(1), &answer(200));
    assert!(taken.is_over() && !taken.is_settled(), "it is repeated until the ACK");
    // Timer C: its transaction goes on.
    let mut silent = begin();
    silent.answered(start, BranchId(0), &answer(486));
    silent.handle_wake(start + 200 * SECOND);
    assert!(silent.is_over() && !silent.is_settled());
}
