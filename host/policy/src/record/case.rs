//! Questions with the answers that are expected.

use std::fmt;

use restante_deferral::decision::{Answer, Context, HostAbilities, Question, Undecided};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{ShapeError, answer_at, question_of, read, undecided_name, write_answer};
use super::meter::{Meter, Shelf};
use super::record::{Record, is_machines_verdict};
use crate::Hook;
use crate::load::{LoadError, Problem, Severity};
use crate::log::harmless;

/// The name that a case has for `check-settings`, which is no [`Hook`]: it decides about nobody.
const CHECK_SETTINGS: &str = "check-settings";

/// A question, or settings, and what the policy should say to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The settings; none: those that the policy has.
    pub settings: Option<Value>,
    /// What the host can do; none: as usual.
    pub host: Option<HostAbilities>,
    /// What is expected.
    pub expectation: Expectation,
}

/// What a policy should say.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// To a question.
    Decision(Box<Question>, Result<Answer, Undecided>),
    /// To the settings, by place and severity.
    Problems(Vec<ExpectedProblem>),
}

/// A problem with settings that a policy should see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExpectedProblem {
    /// JSON pointer to the value.
    pub pointer: String,
    /// How bad it is.
    pub severity: Severity,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// Why it failed; none when it passed.
    pub failure: Option<CaseFailure>,
}

/// Why a case failed.
#[derive(Clone, Debug, PartialEq)]
pub enum CaseFailure {
    /// The policy says something else.
    Differs {
        /// What was expected.
        expected: Value,
        /// What it says.
        actual: Value,
        /// Why there is no answer, harmless to show.
        why: Option<String>,
    },
    /// The policy cannot be used with the case's settings.
    Unusable(String),
}

/// Longest value that is shown of a case that failed, in bytes.
const MAX_SHOWN_BYTES: usize = 400;

impl fmt::Display for CaseFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Value| harmless(&value.to_string(), MAX_SHOWN_BYTES);
        match self {
            CaseFailure::Differs { expected, actual, why } => {
                write!(formatter, "expected {}, it says {}", shown(expected), shown(actual))?;
                why.as_ref().map_or(Ok(()), |why| write!(formatter, " ({why})"))
            }
            CaseFailure::Unusable(why) => formatter.write_str(&harmless(why, MAX_SHOWN_BYTES)),
        }
    }
}

/// A case as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Form {
    #[serde(default)]
    name: String,
    hook: String,
    settings: Option<Value>,
    host: Option<PartialHost>,
    context: Option<Context>,
    input: Option<Value>,
    expect: Option<Value>,
    expect_undecided: Option<Undecided>,
}

/// What a case says of the host; the rest is as usual.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PartialHost {
    max_page_bytes: Option<u32>,
    max_message_bytes: Option<u64>,
    hand_over_targets: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ExpectedProblems {
    problems: Vec<ExpectedProblem>,
}

/// The host of cases that do not say another.
#[must_use]
pub fn typical_host() -> HostAbilities {
    HostAbilities { max_page_bytes: 1_300, max_message_bytes: 100 << 20, hand_over_targets: Vec::new() }
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn from_json(value: Value) -> Result<Case, ShapeError> {
        let form: Form = read("", value)?;
        let expectation = if form.hook == CHECK_SETTINGS {
            if form.context.is_some() || form.input.is_some() || form.expect_undecided.is_some() {
                return Err(ShapeError::at("", "a case for `check-settings` has `settings`, `host` and `expect` only"));
            }
            let expected = form.expect.ok_or_else(|| ShapeError::at("", "missing field `expect`"))?;
            let ExpectedProblems { mut problems } = read("expect", expected)?;
            problems.sort();
            Expectation::Problems(problems)
        } else {
            let hook: Hook = read("hook", Value::String(form.hook))?;
            let context = form.context.ok_or_else(|| ShapeError::at("", "missing field `context`"))?;
            let input = form.input.ok_or_else(|| ShapeError::at("", "missing field `input`"))?;
            let outcome = match (form.expect, form.expect_undecided) {
                (Some(answer), None) => Ok(answer_at("expect", hook, answer)?),
                (None, Some(undecided)) => Err(undecided),
                _ => return Err(ShapeError::at("", "expected either `expect` or `expect-undecided`")),
            };
            Expectation::Decision(Box::new(question_of(hook, context, input)?), outcome)
        };
        let host = form.host.map(|host| {
            let usual = typical_host();
            HostAbilities {
                max_page_bytes: host.max_page_bytes.unwrap_or(usual.max_page_bytes),
                max_message_bytes: host.max_message_bytes.unwrap_or(usual.max_message_bytes),
                hand_over_targets: host.hand_over_targets.unwrap_or(usual.hand_over_targets),
            }
        });
        Ok(Case { name: form.name, settings: form.settings, host, expectation })
    }

    /// That the policy says what it said; none for a decision that the clock or the load ended.
    #[must_use]
    pub fn of_record(record: Record) -> Option<Case> {
        if record.outcome.as_ref().is_err_and(|undecided| is_machines_verdict(*undecided)) {
            return None;
        }
        Some(Case {
            name: format!("{} at {}", record.hook().name(), record.at.0),
            settings: Some(record.settings),
            host: Some(record.host),
            expectation: Expectation::Decision(Box::new(record.question), record.outcome),
        })
    }

    /// The hook that it is about.
    #[must_use]
    pub fn hook(&self) -> &'static str {
        match &self.expectation {
            Expectation::Decision(question, _) => Hook::of(question).name(),
            Expectation::Problems(_) => CHECK_SETTINGS,
        }
    }
}

/// Holds a component to cases.
pub struct CaseRunner<'a> {
    policies: Shelf<'a>,
    settings: Value,
    host: HostAbilities,
}

impl<'a> CaseRunner<'a> {
    /// For cases that do not say their own, these are the settings and the host.
    #[must_use]
    pub fn new(meter: &'a Meter, component: &'a [u8], settings: Value, host: HostAbilities) -> CaseRunner<'a> {
        CaseRunner { policies: Shelf::new(meter, component), settings, host }
    }

    /// Tries one case.
    pub fn run(&mut self, case: &Case) -> CaseResult {
        CaseResult { name: case.name.clone(), failure: self.failure(case) }
    }

    fn failure(&mut self, case: &Case) -> Option<CaseFailure> {
        let settings = case.settings.as_ref().unwrap_or(&self.settings);
        let policy = self.policies.policy(settings, case.host.as_ref().unwrap_or(&self.host));
        match &case.expectation {
            Expectation::Decision(question, expected) => {
                let policy = match policy {
                    Ok(policy) => policy,
                    Err(error) => return Some(CaseFailure::Unusable(error.to_string())),
                };
                let measured = policy.decide(Question::clone(question));
                (measured.outcome != *expected).then(|| CaseFailure::Differs {
                    expected: outcome_json(expected),
                    actual: outcome_json(&measured.outcome),
                    why: measured.why,
                })
            }
            Expectation::Problems(expected) => {
                let found = match policy {
                    Ok(policy) => problems(policy.warnings()),
                    Err(LoadError::Settings(refused)) => problems(refused),
                    Err(error) => return Some(CaseFailure::Unusable(error.to_string())),
                };
                (found != *expected).then(|| CaseFailure::Differs {
                    expected: serde_json::json!({ "problems": expected }),
                    actual: serde_json::json!({ "problems": found }),
                    why: policy.as_ref().err().map(LoadError::to_string),
                })
            }
        }
    }
}

fn problems(found: &[Problem]) -> Vec<ExpectedProblem> {
    let mut problems: Vec<_> = found
        .iter()
        .map(|problem| ExpectedProblem { pointer: problem.pointer.clone(), severity: problem.severity })
        .collect();
    problems.sort();
    problems
}

/// An outcome beside another one: the answer, or the word for why there is none.
pub(super) fn outcome_json(outcome: &Result<Answer, Undecided>) -> Value {
    match outcome {
        Ok(answer) => write_answer(answer),
        Err(undecided) => serde_json::json!({ "undecided": undecided_name(*undecided) }),
    }
}
