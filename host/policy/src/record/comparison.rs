//! What two policies, or two versions of one, say to the same questions.

use std::collections::{BTreeMap, BTreeSet};

use restante_deferral::decision::{
    Answer, ExpiryAction, FailureAction, IncomingAnswer, PullAnswer, Question, Step, Undecided,
};
use restante_deferral::model::Mode;
use serde_json::{Value, json};

use super::case::outcome_json;
use super::json::{undecided_name, write_answer, write_question};
use super::record::is_machines_verdict;
use crate::Hook;
use crate::log::harmless;

/// More kinds of changes than this are counted together.
const MAX_GROUPS: usize = 200;
/// The name of that group.
const OTHER_CHANGES: &str = "other changes";
/// More changed values than this are not named in the name of a change.
const MAX_NAMED_VALUES: usize = 4;
/// Longest name of a change.
const MAX_CHANGE_BYTES: usize = 200;
/// Numbers below are named with their values; those above are times, sizes and ids.
const FIRST_LARGE_NUMBER: u64 = 1_000;

/// An answer, or why there is none.
pub type Outcome = Result<Answer, Undecided>;

/// Counts of agreement, and the differences by hook and by what changed.
#[derive(Clone, Debug)]
pub struct Comparison {
    max_examples: usize,
    hooks: BTreeMap<Hook, Agreement>,
    groups: BTreeMap<(Hook, String), Group>,
}

/// How often the two agreed about one hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// The same outcome: the same answer, or none for the same reason.
    pub identical: u64,
    /// Another outcome, `newly_undecided` and `newly_decided` included.
    pub changed: u64,
    /// An answer before, none now.
    pub newly_undecided: u64,
    /// No answer before, one now.
    pub newly_decided: u64,
    /// The clock or the load ended the first decision, and not the second: that says nothing about either.
    pub not_comparable: u64,
}

/// Differences of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Asked what.
    pub hook: Hook,
    /// What changed, for example `keep → reject 403`. Harmless to show.
    pub change: String,
    /// How often.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<Difference>,
}

/// One question with two outcomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The question.
    pub question: Question,
    /// What was said.
    pub before: Outcome,
    /// What is said now.
    pub after: Outcome,
}

impl Comparison {
    /// Nothing compared yet. Of each kind of difference so many examples are kept.
    #[must_use]
    pub fn new(max_examples: usize) -> Comparison {
        Comparison { max_examples, hooks: BTreeMap::new(), groups: BTreeMap::new() }
    }

    /// Counts what two policies said to a question.
    pub fn add(&mut self, question: &Question, before: &Outcome, after: &Outcome) {
        let hook = Hook::of(question);
        let agreement = self.hooks.entry(hook).or_default();
        if before == after {
            return raise(&mut agreement.identical);
        }
        if before.as_ref().is_err_and(|undecided| is_machines_verdict(*undecided)) {
            return raise(&mut agreement.not_comparable);
        }
        raise(&mut agreement.changed);
        match (before, after) {
            (Ok(_), Err(_)) => raise(&mut agreement.newly_undecided),
            (Err(_), Ok(_)) => raise(&mut agreement.newly_decided),
            _ => {}
        }
        let mut key = (hook, change(before, after));
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&key) {
            OTHER_CHANGES.clone_into(&mut key.1);
        }
        let group = self.groups.entry(key).or_insert_with_key(|(hook, change)| Group {
            hook: *hook,
            change: change.clone(),
            count: 0,
            examples: Vec::new(),
        });
        raise(&mut group.count);
        if group.examples.len() < self.max_examples {
            let difference = Difference { question: question.clone(), before: before.clone(), after: after.clone() };
            group.examples.push(difference);
        }
    }

    /// Agreement by hook.
    pub fn hooks(&self) -> impl Iterator<Item = (Hook, Agreement)> {
        self.hooks.iter().map(|(hook, agreement)| (*hook, *agreement))
    }

    /// Agreement of all hooks together.
    #[must_use]
    pub fn total(&self) -> Agreement {
        self.hooks.values().fold(Agreement::default(), |sum, one| Agreement {
            identical: sum.identical.saturating_add(one.identical),
            changed: sum.changed.saturating_add(one.changed),
            newly_undecided: sum.newly_undecided.saturating_add(one.newly_undecided),
            newly_decided: sum.newly_decided.saturating_add(one.newly_decided),
            not_comparable: sum.not_comparable.saturating_add(one.not_comparable),
        })
    }

    /// The differences, the most frequent kind first.
    #[must_use]
    pub fn groups(&self) -> Vec<&Group> {
        let mut groups: Vec<_> = self.groups.values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }

    /// All of it as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let hooks: Vec<Value> = self.hooks().map(|(hook, agreement)| agreement.to_json(Some(hook))).collect();
        let groups: Vec<Value> = self.groups().into_iter().map(Group::to_json).collect();
        json!({ "total": self.total().to_json(None), "hooks": hooks, "groups": groups })
    }
}

impl Agreement {
    fn to_json(self, hook: Option<Hook>) -> Value {
        let mut value = json!({
            "identical": self.identical,
            "changed": self.changed,
            "newly_undecided": self.newly_undecided,
            "newly_decided": self.newly_decided,
            "not_comparable": self.not_comparable,
        });
        if let (Some(hook), Some(object)) = (hook, value.as_object_mut()) {
            object.insert("hook".to_owned(), hook.name().into());
        }
        value
    }
}

impl Group {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let examples: Vec<Value> = self.examples.iter().map(Difference::to_json).collect();
        json!({ "hook": self.hook.name(), "change": self.change, "count": self.count, "examples": examples })
    }
}

impl Difference {
    /// As JSON: the question, and both outcomes.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (context, input) = write_question(&self.question);
        let (before, after) = (outcome_json(&self.before), outcome_json(&self.after));
        json!({ "context": context, "input": input, "before": before, "after": after })
    }
}

fn raise(count: &mut u64) {
    *count = count.saturating_add(1);
}

/// What changed, in a few words.
fn change(before: &Outcome, after: &Outcome) -> String {
    let (was, is) = (summary(before), summary(after));
    let text = match (before, after) {
        (Ok(before), Ok(after)) if was == is => {
            let mut changed = BTreeSet::new();
            collect_changes("", &write_answer(before), &write_answer(after), &mut changed);
            let variant = format!("{} ", was.split(' ').next().unwrap_or_default());
            let named: Vec<&str> = changed
                .iter()
                .take(MAX_NAMED_VALUES)
                .map(|change| change.strip_prefix(variant.as_str()).unwrap_or(change))
                .collect();
            let more = if changed.len() > MAX_NAMED_VALUES { ", …" } else { "" };
            format!("{was}: {}{more}", named.join(", "))
        }
        _ => format!("{was} → {is}"),
    };
    harmless(&text, MAX_CHANGE_BYTES)
}

/// An outcome in a word or two.
fn summary(outcome: &Outcome) -> String {
    match outcome {
        Err(undecided) => undecided_name(*undecided),
        Ok(Answer::Incoming(answer)) => match answer {
            IncomingAnswer::Relay(_) => "relay".to_owned(),
            IncomingAnswer::Keep(_) => "keep".to_owned(),
            IncomingAnswer::Reject(rejection) => format!("reject {}", rejection.status),
            IncomingAnswer::HandOver(target) => format!("hand-over {target}"),
            IncomingAnswer::Discard(_) => "discard".to_owned(),
        },
        Ok(Answer::Available(plan)) => {
            let mut steps: Vec<&str> = plan.steps.iter().map(step_name).collect();
            steps.dedup();
            if steps.is_empty() { "no step".to_owned() } else { steps.join(", ") }
        }
        Ok(Answer::Pull(PullAnswer::Send(delivery))) => match delivery.mode {
            Mode::Page => "send page".to_owned(),
            Mode::Large => "send large".to_owned(),
        },
        Ok(Answer::Pull(PullAnswer::Refuse(rejection))) => format!("refuse {}", rejection.status),
        Ok(Answer::Failure(answers)) => actions(answers.iter().map(|answer| match answer.action {
            FailureAction::Retry(_) => "retry",
            FailureAction::Notify(_) => "notify",
            FailureAction::Wait => "wait",
            FailureAction::HandOver(_) => "hand-over",
            FailureAction::GiveUp(_) => "give-up",
        })),
        Ok(Answer::Expiry(answers)) => actions(answers.iter().map(|answer| match answer.action {
            ExpiryAction::Drop(_) => "drop",
            ExpiryAction::Extend(_) => "extend",
            ExpiryAction::HandOver(_) => "hand-over",
        })),
    }
}

fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Page(_) => "page",
        Step::Session(_) => "session",
        Step::Notify(_) => "notify",
        Step::Hold(_) => "hold",
        Step::Discard(_) => "discard",
        Step::HandOver(_) => "hand-over",
    }
}

/// What is done to messages, each named once.
fn actions(names: impl Iterator<Item = &'static str>) -> String {
    let names: BTreeSet<&str> = names.collect();
    if names.is_empty() { "no action".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(", ") }
}

/// Names the values that differ: their keys from the outside in, places in lists left out.
fn collect_changes(place: &str, before: &Value, after: &Value, changes: &mut BTreeSet<String>) {
    let within = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place} {key}") };
    match (before, after) {
        (before, after) if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let of = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                collect_changes(&within(key), &of(before), &of(after), changes);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() && !is_ids(before) => {
            for (before, after) in before.iter().zip(after) {
                collect_changes(place, before, after, changes);
            }
        }
        (Value::Bool(before), Value::Bool(after)) => {
            changes.insert(format!("{place} {before} → {after}").trim_start().to_owned());
        }
        (Value::Number(before), Value::Number(after)) => {
            let (before, after) = (before.as_u64().unwrap_or(u64::MAX), after.as_u64().unwrap_or(u64::MAX));
            let is_small = before < FIRST_LARGE_NUMBER && after < FIRST_LARGE_NUMBER;
            let arrow = if after > before { "↑" } else { "↓" };
            let how = if is_small { format!("{before} → {after}") } else { arrow.to_owned() };
            changes.insert(format!("{place} {how}").trim_start().to_owned());
        }
        _ => {
            changes.insert(if place.is_empty() { "messages".to_owned() } else { place.to_owned() });
        }
    }
}

/// A list of numbers: which messages, of which each is another one.
fn is_ids(values: &[Value]) -> bool {
    values.iter().all(Value::is_number)
}
