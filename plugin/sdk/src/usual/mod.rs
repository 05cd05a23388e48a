//! What happens where a policy has nothing to say. It is also what the policy that ships with Restante does, whose
//! settings are the figures of [`Usual`].
//!
//! A policy can change figures (`Usual { few: 0, ..Usual::of(&context.recipient) }`), answer some questions itself and
//! leave the others to this, or treat some messages of a plan itself and [`place`](Usual::place) the rest.

mod available;
mod expiry;
mod failure;
mod gate;
mod incoming;
mod pull;

use std::borrow::Cow;

pub use gate::{Gate, Readiness, refuses_form};
pub use incoming::is_composing;

use crate::plan::Planner;
use crate::types::{
    Availability, Context, Delivery, ExpiringMessage, ExpiryAnswer, Failure, FailureAnswer, Incoming, IncomingAnswer,
    Plan, Pull, PullAnswer, Recipient, Timestamp, WaitingMessage,
};

/// The waits between attempts: 30 s, 2 min, 10 min, 1 h.
pub const RETRY_MILLISECONDS: [u64; 4] = [30_000, 120_000, 600_000, 3_600_000];
const DAY_MILLISECONDS: u64 = 86_400_000;

/// The figures of the usual way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usual<'a> {
    /// How the recipient gets messages.
    pub delivery: Delivery,
    /// Up to so many page-mode messages go one by one, in push and in pull alike.
    pub few: u32,
    /// How long an announced message waits to be fetched before it is pushed.
    pub fetch_milliseconds: u64,
    /// How long a message is kept whose sender did not say.
    pub keep_milliseconds: u64,
    /// How long a message is kept at most.
    pub max_keep_milliseconds: u64,
    /// The waits between attempts; after the last the recipient's next registration or refresh is awaited.
    pub retry_milliseconds: Cow<'a, [u64]>,
    /// Pass a MESSAGE on to a recipient who is there and wait so long for the device's own answer; none: store first.
    pub relay_milliseconds: Option<u32>,
    /// The same for the INVITE of a large message, which is taken over after that.
    pub relay_invite_milliseconds: Option<u32>,
    /// Each of the recipient's devices gets its copy; otherwise the first that takes a message is enough.
    pub to_each_device: bool,
}

impl Default for Usual<'_> {
    fn default() -> Self {
        Usual {
            delivery: Delivery::Push,
            few: 3,
            fetch_milliseconds: 600_000,
            keep_milliseconds: 7 * DAY_MILLISECONDS,
            max_keep_milliseconds: 30 * DAY_MILLISECONDS,
            retry_milliseconds: Cow::Borrowed(&RETRY_MILLISECONDS),
            relay_milliseconds: None,
            relay_invite_milliseconds: None,
            to_each_device: false,
        }
    }
}

impl Usual<'_> {
    /// As this recipient prefers.
    #[must_use]
    pub fn of(recipient: &Recipient) -> Self {
        Usual { delivery: recipient.delivery.unwrap_or(Delivery::Push), ..Usual::default() }
    }

    /// Until when what is announced now may be fetched.
    #[must_use]
    pub fn fetch_deadline(&self, context: &Context) -> Timestamp {
        context.now.saturating_add(self.fetch_milliseconds)
    }

    /// Until when this message is kept: the sender's expiry or the usual time, neither beyond the longest.
    #[must_use]
    pub fn expiry(&self, context: &Context, incoming: &Incoming) -> Timestamp {
        let latest = context.now.saturating_add(self.max_keep_milliseconds);
        let asked = incoming.expires_at.unwrap_or(context.now.saturating_add(self.keep_milliseconds));
        asked.min(latest)
    }

    /// Whether a message is kept: all are, but "is composing", which is worth nothing later. What may not wait is passed
    /// on at once or refused.
    #[must_use]
    pub fn on_incoming(&self, context: &Context, incoming: &Incoming) -> IncomingAnswer {
        incoming::decide(self, context, incoming)
    }

    /// What goes out now, how, and what waits.
    #[must_use]
    pub fn on_available(&self, context: &Context, availability: &Availability) -> Plan {
        available::decide(self, context, availability)
    }

    /// The same for some of the messages of a question, in delivery order, within a plan that says more.
    pub fn place<'m>(
        &self,
        context: &Context,
        availability: &'m Availability,
        messages: impl IntoIterator<Item = &'m WaitingMessage>,
        planner: &mut Planner<'m>,
    ) {
        available::place(self, context, availability, messages.into_iter(), planner);
    }

    /// What becomes of messages that were not delivered.
    #[must_use]
    pub fn on_failure(&self, context: &Context, failure: &Failure) -> Vec<FailureAnswer> {
        failure::decide(self, context, failure)
    }
}

/// Which messages a client gets that asks: those that it asked for and can take, in one session.
#[must_use]
pub fn on_pull(pull: &Pull) -> PullAnswer {
    pull::decide(pull)
}

/// What becomes of messages whose time is up: they go, and their senders are told.
#[must_use]
pub fn on_expiry(messages: &[ExpiringMessage]) -> Vec<ExpiryAnswer> {
    expiry::decide(messages)
}
