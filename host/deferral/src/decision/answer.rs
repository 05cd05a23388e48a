//! Answers. Every item means what the item of the same name in `wit/policy.wit` means.

use serde::{Deserialize, Serialize};

use crate::model::{ContactId, MessageId, Mode, Timestamp};

/// Store a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Keep {
    /// Until when.
    pub expires_at: Timestamp,
    /// Higher goes first; 100 is usual.
    pub priority: u8,
    /// Try at once when the recipient is available.
    pub deliver_now: bool,
}

/// Pass a request on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Relay {
    /// How long the sender may wait for the device's answer.
    pub deadline_milliseconds: u32,
    /// To these alone; empty: to all.
    #[serde(default)]
    pub contacts: Vec<ContactId>,
    /// How it is kept when there is none.
    pub otherwise: Keep,
}

/// Refuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rejection {
    /// 400 to 699 except 401, 407 and 503.
    pub status: u16,
    /// At most 80 bytes.
    pub reason: String,
    /// Retry-After.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// Answer to `on-incoming`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncomingAnswer {
    /// Pass it on now.
    Relay(Relay),
    /// Store it.
    Keep(Keep),
    /// Refuse it.
    Reject(Rejection),
    /// Give it to a named target.
    HandOver(String),
    /// Accept and drop it; why.
    Discard(String),
}

/// To whom a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Any one contact, best first.
    Any,
    /// This one.
    Contact(ContactId),
    /// To each device that is known, and the message stays until all have it or it expires.
    Each,
}

/// Send messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeliveryStep {
    /// Which, in this order.
    pub messages: Vec<MessageId>,
    /// To whom.
    pub target: Target,
}

/// What follows a fetch deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterDeadline {
    /// Ask again.
    Ask,
    /// Push.
    Push,
}

/// Announce messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NotifyStep {
    /// Which.
    pub messages: Vec<MessageId>,
    /// Until when the client may fetch them.
    pub fetch_deadline: Timestamp,
    /// What then.
    pub afterwards: AfterDeadline,
}

/// Leave messages alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HoldStep {
    /// Which.
    pub messages: Vec<MessageId>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Drop messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiscardStep {
    /// Which.
    pub messages: Vec<MessageId>,
    /// Tell the sender, if it asked.
    pub report: bool,
}

/// Hand messages over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HandOverStep {
    /// Which.
    pub messages: Vec<MessageId>,
    /// To which named target.
    pub target: String,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// One MESSAGE after the other.
    Page(DeliveryStep),
    /// One session.
    Session(DeliveryStep),
    /// Announce.
    Notify(NotifyStep),
    /// Leave alone.
    Hold(HoldStep),
    /// Drop.
    Discard(DiscardStep),
    /// Give to somebody else.
    HandOver(HandOverStep),
}

impl Step {
    /// The messages that it names.
    #[must_use]
    pub fn messages(&self) -> &[MessageId] {
        match self {
            Step::Page(step) | Step::Session(step) => &step.messages,
            Step::Notify(step) => &step.messages,
            Step::Hold(step) => &step.messages,
            Step::Discard(step) => &step.messages,
            Step::HandOver(step) => &step.messages,
        }
    }
}

/// Answer to `on-available`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// When to ask again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask_again_at: Option<Timestamp>,
}

/// Messages for a client that asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PullDelivery {
    /// Which, in this order.
    pub messages: Vec<MessageId>,
    /// How.
    pub mode: Mode,
    /// Keep them after this device has them.
    pub keep_copy: bool,
}

/// Answer to `on-pull`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullAnswer {
    /// It gets these.
    Send(PullDelivery),
    /// It gets none.
    Refuse(Rejection),
}

/// Try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retry {
    /// How long to wait.
    pub after_milliseconds: u64,
    /// In which mode; none: as `on-available` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// With whom; none: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<ContactId>,
}

/// What to do with a message that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureAction {
    /// Try again.
    Retry(Retry),
    /// Announce it, with this fetch deadline.
    Notify(Timestamp),
    /// Wait for a registration or refresh.
    Wait,
    /// Give it to a named target.
    HandOver(String),
    /// Give up; whether to tell the sender.
    GiveUp(bool),
}

/// The action for one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FailureAnswer {
    /// The message.
    pub message: MessageId,
    /// What to do.
    pub action: FailureAction,
}

/// What to do with a message whose time is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpiryAction {
    /// Let it go; whether to tell the sender.
    Drop(bool),
    /// Keep it until then.
    Extend(Timestamp),
    /// Give it to a named target.
    HandOver(String),
}

/// The action for one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExpiryAnswer {
    /// The message.
    pub message: MessageId,
    /// What to do.
    pub action: ExpiryAction,
}

/// An answer of a policy. In JSON it is what the hook returns; which hook is said beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To `on-incoming`.
    Incoming(IncomingAnswer),
    /// To `on-available`.
    Available(Plan),
    /// To `on-pull`.
    Pull(PullAnswer),
    /// To `on-failure`.
    Failure(Vec<FailureAnswer>),
    /// To `on-expiry`.
    Expiry(Vec<ExpiryAnswer>),
}

/// Why there is no answer. What follows is the fallback, see [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undecided {
    /// The policy said `err`.
    Declined,
    /// It trapped.
    Trapped,
    /// It did not finish in time.
    TimedOut,
    /// It used more memory than it may.
    OutOfMemory,
    /// Too many questions are waiting.
    Overloaded,
    /// Its answer cannot be carried out.
    Impossible,
    /// It failed too often lately and is not asked now.
    Suspended,
}
