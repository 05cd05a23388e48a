//! Answers in few words.

use crate::types::{
    Abilities, Contact, Context, ExpiringMessage, ExpiryAction, ExpiryAnswer, FailedMessage, Failure, FailureAction,
    FailureAnswer, Incoming, IncomingAnswer, Keep, Mode, PullAnswer, PullDelivery, Rejection, Retry, Timestamp,
};

/// The priority of messages about which nothing special is known.
pub const USUAL_PRIORITY: u8 = 100;

impl Context {
    /// The time so many seconds from now.
    #[must_use]
    pub fn after_seconds(&self, seconds: u64) -> Timestamp {
        self.now.saturating_add(seconds.saturating_mul(1_000))
    }

    /// The value of one of the further `fields`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.name == name).map(|field| field.value.as_str())
    }
}

impl Contact {
    /// Whether it takes messages in this mode.
    #[must_use]
    pub fn takes(&self, mode: Mode) -> bool {
        self.abilities.contains(match mode {
            Mode::Page => Abilities::PAGE_MODE,
            Mode::Large => Abilities::LARGE_MESSAGE_MODE,
        })
    }
}

impl Incoming {
    /// Whether the recipient can take it now in the mode that it came in.
    #[must_use]
    pub fn recipient_is_there(&self) -> bool {
        self.contacts.iter().any(|contact| contact.takes(self.mode))
    }
}

impl Keep {
    /// Kept until then, with the usual priority, and delivered as soon as possible.
    #[must_use]
    pub fn until(expires_at: Timestamp) -> Keep {
        Keep { expires_at, priority: USUAL_PRIORITY, deliver_now: true }
    }

    /// The same with another priority: higher goes first.
    #[must_use]
    pub fn with_priority(self, priority: u8) -> Keep {
        Keep { priority, ..self }
    }
}

impl From<Keep> for IncomingAnswer {
    fn from(keep: Keep) -> Self {
        IncomingAnswer::Keep(keep)
    }
}

impl Rejection {
    /// A refusal with a SIP status from 400 to 699, but not 401, 407 or 503, and a reason of at most 80 bytes.
    #[must_use]
    pub fn new(status: u16, reason: &str) -> Rejection {
        Rejection { status, reason: reason.to_owned(), retry_after_seconds: None }
    }

    /// The same with a Retry-After.
    #[must_use]
    pub fn with_retry_after(self, seconds: u32) -> Rejection {
        Rejection { retry_after_seconds: Some(seconds), ..self }
    }
}

impl From<Rejection> for IncomingAnswer {
    fn from(rejection: Rejection) -> Self {
        IncomingAnswer::Reject(rejection)
    }
}

impl From<Rejection> for PullAnswer {
    fn from(rejection: Rejection) -> Self {
        PullAnswer::Refuse(rejection)
    }
}

impl PullAnswer {
    /// These messages in the client's session; nothing is kept once the client has it.
    #[must_use]
    pub fn session(messages: Vec<u64>) -> PullAnswer {
        PullAnswer::Send(PullDelivery { messages, mode: Mode::Large, keep_copy: false })
    }
}

impl FailureAction {
    /// Again after so many seconds, as `on-available` will say.
    #[must_use]
    pub fn retry_after_seconds(seconds: u64) -> FailureAction {
        let after_milliseconds = seconds.saturating_mul(1_000);
        FailureAction::Retry(Retry { after_milliseconds, mode: None, contact: None })
    }
}

impl Failure {
    /// An answer for each of its messages.
    #[must_use]
    pub fn answer_each(&self, mut action: impl FnMut(&FailedMessage) -> FailureAction) -> Vec<FailureAnswer> {
        let answer = |failed| FailureAnswer { message: FailedMessage::id(failed), action: action(failed) };
        self.messages.iter().map(answer).collect()
    }
}

impl FailedMessage {
    /// The message's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.message.id
    }
}

impl ExpiringMessage {
    /// The answer that does this with it.
    #[must_use]
    pub fn answer(&self, action: ExpiryAction) -> ExpiryAnswer {
        ExpiryAnswer { message: self.message.id, action }
    }
}
