//! What changed, in few words.

use restante_deferral::decision::{
    Answer, DeliveryStep, ExpiryAction, ExpiryAnswer, FailureAction, FailureAnswer, HoldStep, IncomingAnswer, Keep,
    Plan, PullAnswer, PullDelivery, Question, Rejection, Retry, Step, Target, Undecided,
};
use restante_deferral::model::{MessageId, Mode, Timestamp};
use restante_policy::Hook;
use restante_policy::record::{Agreement, Comparison, Outcome, typical_question};

fn question(hook: Hook) -> Question {
    typical_question(hook).unwrap()
}

/// The name of the one difference between two outcomes.
fn change(hook: Hook, before: Outcome, after: Outcome) -> String {
    let mut comparison = Comparison::new(1);
    comparison.add(&question(hook), &before, &after);
    let groups = comparison.groups();
    assert_eq!(groups.len(), 1, "{before:?} and {after:?}");
    groups[0].change.clone()
}

fn keep(expires_at: u64, priority: u8, deliver_now: bool) -> Outcome {
    Ok(Answer::Incoming(IncomingAnswer::Keep(Keep { expires_at: Timestamp(expires_at), priority, deliver_now })))
}

fn reject(status: u16) -> Outcome {
    let rejection = Rejection { status, reason: "No".to_owned(), retry_after_seconds: None };
    Ok(Answer::Incoming(IncomingAnswer::Reject(rejection)))
}

fn hand_over(target: &str) -> Outcome {
    Ok(Answer::Incoming(IncomingAnswer::HandOver(target.to_owned())))
}

fn page(ids: &[u64]) -> Step {
    Step::Page(DeliveryStep { messages: ids.iter().copied().map(MessageId).collect(), target: Target::Any })
}

fn session(ids: &[u64]) -> Step {
    Step::Session(DeliveryStep { messages: ids.iter().copied().map(MessageId).collect(), target: Target::Any })
}

fn hold(until: Option<u64>) -> Step {
    Step::Hold(HoldStep { messages: vec![MessageId(9)], until: until.map(Timestamp) })
}

fn plan(steps: Vec<Step>, ask_again_at: Option<u64>) -> Outcome {
    Ok(Answer::Available(Plan { steps, ask_again_at: ask_again_at.map(Timestamp) }))
}

fn send(mode: Mode, keep_copy: bool) -> Outcome {
    Ok(Answer::Pull(PullAnswer::Send(PullDelivery { messages: vec![MessageId(1)], mode, keep_copy })))
}

fn failure(actions: Vec<FailureAction>) -> Outcome {
    let answer = |action| FailureAnswer { message: MessageId(1), action };
    Ok(Answer::Failure(actions.into_iter().map(answer).collect()))
}

fn retry(after_milliseconds: u64) -> FailureAction {
    FailureAction::Retry(Retry { after_milliseconds, mode: None, contact: None })
}

fn expiry(action: ExpiryAction) -> Outcome {
    Ok(Answer::Expiry(vec![ExpiryAnswer { message: MessageId(1), action }]))
}

#[test]
fn each_change_has_a_name() {
    use Hook::{Available, Expiry, Failure, Incoming, Pull};
    let cases = [
        (Incoming, keep(5_000, 100, true), reject(403), "keep → reject 403"),
        (Incoming, keep(5_000, 100, true), keep(6_000, 100, true), "keep: expires-at ↑"),
        (
            Incoming,
            keep(5_000, 100, true),
            keep(4_000, 90, false),
            "keep: deliver-now true → false, expires-at ↓, priority 100 → 90",
        ),
        (Incoming, reject(403), reject(486), "reject 403 → reject 486"),
        (Incoming, hand_over("sms"), hand_over("a\u{1b}[2J"), "hand-over sms → hand-over a\\u{1b}[2J"),
        (Incoming, keep(5_000, 100, true), Err(Undecided::Trapped), "keep → trapped"),
        (Incoming, Err(Undecided::OutOfMemory), reject(403), "out-of-memory → reject 403"),
        (Incoming, keep(5_000, 100, true), Err(Undecided::TimedOut), "keep → timed-out"),
        (Available, plan(vec![page(&[1, 2])], None), plan(vec![session(&[1, 2])], None), "page → session"),
        (Available, plan(vec![session(&[1]), session(&[2])], None), plan(vec![], None), "session → no step"),
        (Available, plan(vec![page(&[1, 2])], None), plan(vec![page(&[2, 1])], None), "page: steps page messages"),
        (
            Available,
            plan(vec![hold(None), page(&[1])], None),
            plan(vec![page(&[1]), hold(None)], None),
            "hold, page → page, hold",
        ),
        (
            Available,
            plan(vec![hold(Some(5_000))], Some(5_000)),
            plan(vec![hold(Some(9_000))], None),
            "hold: ask-again-at, steps hold until ↑",
        ),
        (Pull, send(Mode::Large, false), send(Mode::Page, false), "send large → send page"),
        (Pull, send(Mode::Large, false), send(Mode::Large, true), "send large: keep-copy false → true"),
        (
            Failure,
            failure(vec![retry(1), FailureAction::Wait]),
            failure(vec![retry(2), FailureAction::Wait]),
            "retry, wait: action retry after-milliseconds 1 → 2",
        ),
        (Failure, failure(vec![retry(1)]), failure(vec![]), "retry → no action"),
        (Failure, failure(vec![retry(1)]), failure(vec![retry(1), retry(1)]), "retry: messages"),
        (Expiry, expiry(ExpiryAction::Drop(true)), expiry(ExpiryAction::Extend(Timestamp(1))), "drop → extend"),
        (Expiry, expiry(ExpiryAction::Drop(true)), expiry(ExpiryAction::Drop(false)), "drop: action drop true → false"),
    ];
    for (hook, before, after, expected) in cases {
        assert_eq!(change(hook, before, after), expected);
    }
}

#[test]
fn differences_are_counted_by_kind_with_the_first_examples() {
    let mut comparison = Comparison::new(2);
    let arrival = question(Hook::Incoming);
    for expires_at in 1_001..=1_003 {
        comparison.add(&arrival, &keep(1_000, 100, true), &keep(expires_at, 100, true));
    }
    comparison.add(&arrival, &keep(1_000, 100, true), &keep(1_000, 100, true));
    comparison.add(&arrival, &Err(Undecided::Trapped), &Err(Undecided::Trapped));
    comparison.add(&arrival, &keep(1_000, 100, true), &Err(Undecided::TimedOut));
    comparison.add(&arrival, &Err(Undecided::Declined), &reject(403));
    comparison.add(&question(Hook::Available), &plan(vec![], None), &plan(vec![], None));
    let incoming = Agreement { identical: 2, changed: 5, newly_undecided: 1, newly_decided: 1, not_comparable: 0 };
    let available = Agreement { identical: 1, ..Agreement::default() };
    assert_eq!(comparison.hooks().collect::<Vec<_>>(), [(Hook::Incoming, incoming), (Hook::Available, available)]);
    assert_eq!(comparison.total(), Agreement { identical: 3, ..incoming });
    let groups = comparison.groups();
    assert_eq!((groups.len(), groups[0].count, groups[0].examples.len()), (3, 3, 2));
    assert_eq!(groups[0].examples[1].after, keep(1_002, 100, true));
    let json = comparison.to_json();
    assert_eq!(json["groups"][0]["examples"][0]["before"]["keep"]["expires-at"], 1_000);
    assert_eq!(json["groups"][0]["examples"][0]["input"]["sender"]["address"], "sip:alice@example.org");
    assert_eq!(json["hooks"][0]["newly_decided"], 1);
}

#[test]
fn a_verdict_of_the_clock_or_the_load_is_equal_to_itself_and_comparable_to_nothing() {
    let mut comparison = Comparison::new(1);
    let arrival = question(Hook::Incoming);
    for verdict in [Undecided::TimedOut, Undecided::Overloaded, Undecided::Suspended] {
        comparison.add(&arrival, &Err(verdict), &Err(verdict));
        comparison.add(&arrival, &Err(verdict), &keep(1, 1, true));
        comparison.add(&arrival, &Err(verdict), &Err(Undecided::Trapped));
    }
    let expected = Agreement { identical: 3, not_comparable: 6, ..Agreement::default() };
    assert_eq!((comparison.total(), comparison.groups().len()), (expected, 0));
}

#[test]
fn kinds_of_differences_are_bounded() {
    let mut comparison = Comparison::new(1);
    let arrival = question(Hook::Incoming);
    for number in 0..1_000 {
        comparison.add(&arrival, &keep(1, 1, true), &hand_over(&format!("target-{number}")));
    }
    let groups = comparison.groups();
    assert_eq!((groups.len(), groups[0].change.as_str(), groups[0].count), (201, "other changes", 800));
}
