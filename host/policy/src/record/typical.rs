//! A typical question to each hook: to try a policy on, and to start one's own questions from.

use restante_deferral::decision::{Question, Selection, WaitingMessage};
use restante_deferral::model::MessageId;
use serde_json::Value;

use super::json::{ShapeError, read_question};
use crate::Hook;

/// A typical question to this hook as JSON, with `hook`, `context` and `input`.
#[must_use]
pub fn typical_question_json(hook: Hook) -> &'static str {
    match hook {
        Hook::Incoming => include_str!("../../questions/on-incoming.json"),
        Hook::Available => include_str!("../../questions/on-available.json"),
        Hook::Pull => include_str!("../../questions/on-pull.json"),
        Hook::Failure => include_str!("../../questions/on-failure.json"),
        Hook::Expiry => include_str!("../../questions/on-expiry.json"),
    }
}

/// A typical question to this hook.
///
/// # Errors
/// Never: a test reads them all.
pub fn typical_question(hook: Hook) -> Result<Question, ShapeError> {
    let mut value: Value =
        serde_json::from_str(typical_question_json(hook)).map_err(|error| ShapeError::at("", error.to_string()))?;
    let mut take = |key: &str| value.get_mut(key).map(Value::take).unwrap_or_default();
    read_question(hook, take("context"), take("input"))
}

/// The same about so many messages, from a handful of senders; `on-incoming` is about one.
///
/// # Errors
/// Never: a test reads them all.
pub fn typical_question_about(hook: Hook, messages: u32) -> Result<Question, ShapeError> {
    let mut question = typical_question(hook)?;
    match &mut question {
        Question::Incoming(..) => {}
        Question::Available(_, availability) => multiply(&mut availability.messages, messages, |it| it),
        Question::Pull(_, pull) => {
            pull.selection = Selection::All;
            multiply(&mut pull.messages, messages, |it| it);
        }
        Question::Failure(_, failure) => multiply(&mut failure.messages, messages, |it| &mut it.message),
        Question::Expiry(_, expiring) => multiply(expiring, messages, |it| &mut it.message),
    }
    Ok(question)
}

fn multiply<T: Clone>(all: &mut Vec<T>, count: u32, message: impl Fn(&mut T) -> &mut WaitingMessage) {
    const SENDERS: u64 = 5;
    let Some(first) = all.first().cloned() else { return };
    *all = (1..=u64::from(count))
        .map(|id| {
            let mut one = first.clone();
            let waiting = message(&mut one);
            waiting.id = MessageId(id);
            waiting.sender = format!("sip:sender{}@example.org", id % SENDERS);
            one
        })
        .collect();
}
