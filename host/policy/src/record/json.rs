//! Reading questions and answers, with the place of what is wrong.

use restante_deferral::decision::{Answer, Question, Undecided};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::Hook;
use crate::generation::Digest;
use crate::log::harmless;

/// Longest description of a problem; it may repeat what was found.
const MAX_PROBLEM_BYTES: usize = 400;

/// JSON that has not the shape that was expected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}{}{problem}", if place.is_empty() { "" } else { ": " })]
pub struct ShapeError {
    /// Where, as `input.messages[0].sender`; empty for the whole.
    pub place: String,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl ShapeError {
    /// At this place.
    pub(super) fn at(place: &str, problem: impl Into<String>) -> ShapeError {
        ShapeError { place: place.to_owned(), problem: problem.into() }
    }
}

/// Reads a question to this hook.
///
/// # Errors
/// A key that the contract does not know, one that is missing, or a value that cannot be.
pub fn read_question(hook: Hook, context: Value, input: Value) -> Result<Question, ShapeError> {
    let context = read("context", context)?;
    question_of(hook, context, input)
}

/// The same with a context that was read.
pub(super) fn question_of(
    hook: Hook,
    context: restante_deferral::decision::Context,
    input: Value,
) -> Result<Question, ShapeError> {
    Ok(match hook {
        Hook::Incoming => Question::Incoming(context, Box::new(read("input", input)?)),
        Hook::Available => Question::Available(context, read("input", input)?),
        Hook::Pull => Question::Pull(context, Box::new(read("input", input)?)),
        Hook::Failure => Question::Failure(context, read("input", input)?),
        Hook::Expiry => Question::Expiry(context, read("input", input)?),
    })
}

/// A question's context and input.
#[must_use]
pub fn write_question(question: &Question) -> (Value, Value) {
    let (context, input) = match question {
        Question::Incoming(context, input) => (context, serde_json::to_value(input)),
        Question::Available(context, input) => (context, serde_json::to_value(input)),
        Question::Pull(context, input) => (context, serde_json::to_value(input)),
        Question::Failure(context, input) => (context, serde_json::to_value(input)),
        Question::Expiry(context, input) => (context, serde_json::to_value(input)),
    };
    // Derived forms of plain values with text keys: there is nothing that could not be written.
    (serde_json::to_value(context).unwrap_or_default(), input.unwrap_or_default())
}

/// Reads an answer of this hook.
///
/// # Errors
/// As [`read_question`].
pub fn read_answer(hook: Hook, answer: Value) -> Result<Answer, ShapeError> {
    answer_at("answer", hook, answer)
}

pub(super) fn answer_at(place: &str, hook: Hook, answer: Value) -> Result<Answer, ShapeError> {
    Ok(match hook {
        Hook::Incoming => Answer::Incoming(read(place, answer)?),
        Hook::Available => Answer::Available(read(place, answer)?),
        Hook::Pull => Answer::Pull(read(place, answer)?),
        Hook::Failure => Answer::Failure(read(place, answer)?),
        Hook::Expiry => Answer::Expiry(read(place, answer)?),
    })
}

/// An answer as its hook returns it.
#[must_use]
pub fn write_answer(answer: &Answer) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}

/// A reason for no answer, in the words of the JSON.
pub(super) fn undecided_name(undecided: Undecided) -> String {
    match serde_json::to_value(undecided) {
        Ok(Value::String(name)) => name,
        _ => format!("{undecided:?}"),
    }
}

/// The SHA-256 of settings in one form, whatever the order of their keys, in hexadecimal.
#[must_use]
pub fn settings_digest(settings: &Value) -> String {
    let mut sorted = settings.clone();
    sorted.sort_all_objects();
    Digest(Sha256::digest(sorted.to_string()).into()).to_string()
}

/// Reads a value that stands at this place.
pub(super) fn read<T: DeserializeOwned>(place: &str, value: Value) -> Result<T, ShapeError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let within = error.path().to_string();
        let place = match (place, within.as_str()) {
            (place, "." | "") => place.to_owned(),
            ("", within) => within.to_owned(),
            (place, within) if within.starts_with('[') => format!("{place}{within}"),
            (place, within) => format!("{place}.{within}"),
        };
        ShapeError {
            place: harmless(&place, MAX_PROBLEM_BYTES),
            problem: harmless(&error.inner().to_string(), MAX_PROBLEM_BYTES),
        }
    })
}
