//! One decision, written down.

use restante_deferral::decision::{Answer, Context, HostAbilities, Question, Undecided};
use restante_deferral::model::{TenantName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{ShapeError, answer_at, question_of, read, settings_digest, write_answer, write_question};
use crate::Hook;

/// The version of the form of records that this host writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// One decision: everything that it followed from, what came of it, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When it was made.
    pub at: Timestamp,
    /// Whose policy decided.
    pub tenant: TenantName,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The tenant's settings.
    pub settings: Value,
    /// What the host could do.
    pub host: HostAbilities,
    /// The question.
    pub question: Question,
    /// What the policy says to this very question; a verdict of the live run where the clock or the load spoke.
    pub outcome: Result<Answer, Undecided>,
    /// How long the live decision took, in microseconds.
    pub micros: u64,
    /// Instructions that the decision takes.
    pub cost: u64,
    /// The most memory that it has, in bytes.
    pub memory_bytes: u64,
    /// Addresses are pseudonyms.
    pub is_pseudonymised: bool,
    /// The answer that was acted on was another one, because the question was.
    pub live_differed: bool,
}

/// A record as it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Form {
    format: u32,
    hook: Hook,
    at: Timestamp,
    tenant: TenantName,
    digest: String,
    settings_digest: String,
    settings: Value,
    host: HostAbilities,
    context: Context,
    input: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    undecided: Option<Undecided>,
    micros: u64,
    cost: u64,
    memory_bytes: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pseudonymised: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    live_differed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Record {
    /// The hook that was asked.
    #[must_use]
    pub fn hook(&self) -> Hook {
        Hook::of(&self.question)
    }

    /// The SHA-256 of the settings, see [`settings_digest`].
    #[must_use]
    pub fn settings_digest(&self) -> String {
        settings_digest(&self.settings)
    }

    /// As one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (context, input) = (context_of(&self.question).clone(), write_question(&self.question).1);
        let form = Form {
            format: FORMAT,
            hook: self.hook(),
            at: self.at,
            tenant: self.tenant.clone(),
            digest: self.digest.clone(),
            settings_digest: self.settings_digest(),
            settings: self.settings.clone(),
            host: self.host.clone(),
            context,
            input,
            answer: self.outcome.as_ref().ok().map(write_answer),
            undecided: self.outcome.as_ref().err().copied(),
            micros: self.micros,
            cost: self.cost,
            memory_bytes: self.memory_bytes,
            pseudonymised: self.is_pseudonymised,
            live_differed: self.live_differed,
        };
        // Plain values with text keys: there is nothing that could not be written.
        serde_json::to_value(form).unwrap_or_default()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// What is wrong and where. A record of another format is none.
    pub fn from_json(value: Value) -> Result<Record, ShapeError> {
        let format = value.get("format").and_then(Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            return Err(ShapeError::at("format", format!("expected {FORMAT}: other records are not known here")));
        }
        let form: Form = read("", value)?;
        let outcome = match (form.answer, form.undecided) {
            (Some(answer), None) => Ok(answer_at("answer", form.hook, answer)?),
            (None, Some(undecided)) => Err(undecided),
            _ => return Err(ShapeError::at("", "expected either `answer` or `undecided`")),
        };
        if form.settings_digest != settings_digest(&form.settings) {
            return Err(ShapeError::at("settings-digest", "is not that of the settings"));
        }
        Ok(Record {
            at: form.at,
            tenant: form.tenant,
            digest: form.digest,
            settings: form.settings,
            host: form.host,
            question: question_of(form.hook, form.context, form.input)?,
            outcome,
            micros: form.micros,
            cost: form.cost,
            memory_bytes: form.memory_bytes,
            is_pseudonymised: form.pseudonymised,
            live_differed: form.live_differed,
        })
    }
}

/// What every question has.
pub(super) fn context_of(question: &Question) -> &Context {
    let (Question::Incoming(context, _)
    | Question::Available(context, _)
    | Question::Pull(context, _)
    | Question::Failure(context, _)
    | Question::Expiry(context, _)) = question;
    context
}

/// Whether the machine spoke and not the policy: the clock, a queue that was full, or failures before this question.
pub(super) fn is_machines_verdict(undecided: Undecided) -> bool {
    matches!(undecided, Undecided::TimedOut | Undecided::Overloaded | Undecided::Suspended)
}
