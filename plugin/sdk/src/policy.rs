//! What a policy's author writes.

use std::fmt;

use crate::settings::{Problems, Settings};
use crate::types::{
    Availability, Context, ExpiringMessage, ExpiryAnswer, Failure, FailureAnswer, HostAbilities, Incoming,
    IncomingAnswer, Plan, Pull, PullAnswer,
};
use crate::usual::{self, Usual};

/// A policy. Each function is one hook of the contract and has the usual answer where it is left out.
///
/// The hooks are asked in an instance of their own each: what one writes into a static is gone for the next.
pub trait Policy {
    /// The operator's settings: [`NoSettings`](crate::NoSettings), or a type of one's own.
    type Settings: Settings;

    /// Looks at settings that can be read one by one for what does not fit together, and at the host for what it
    /// cannot do.
    fn check(settings: &Self::Settings, host: &HostAbilities, problems: &mut Problems) {
        let _ = (settings, host, problems);
    }

    /// The figures of the usual way, from which the hooks that are left out answer.
    fn usual<'s>(settings: &'s Self::Settings, context: &Context) -> Usual<'s> {
        let _ = settings;
        Usual::of(&context.recipient)
    }

    /// A message arrives for a served user.
    ///
    /// # Errors
    /// The policy cannot decide; the host does what loses nothing.
    fn on_incoming(
        settings: &Self::Settings,
        context: &Context,
        incoming: &Incoming,
    ) -> Result<IncomingAnswer, Declined> {
        Ok(Self::usual(settings, context).on_incoming(context, incoming))
    }

    /// The recipient can be reached and messages wait for it.
    ///
    /// # Errors
    /// The policy cannot decide; the host does what loses nothing.
    fn on_available(
        settings: &Self::Settings,
        context: &Context,
        availability: &Availability,
    ) -> Result<Plan, Declined> {
        Ok(Self::usual(settings, context).on_available(context, availability))
    }

    /// The client asks for its messages.
    ///
    /// # Errors
    /// The policy cannot decide; the host does what loses nothing.
    fn on_pull(settings: &Self::Settings, context: &Context, pull: &Pull) -> Result<PullAnswer, Declined> {
        let _ = (settings, context);
        Ok(usual::on_pull(pull))
    }

    /// A delivery attempt failed. A message without an answer waits.
    ///
    /// # Errors
    /// The policy cannot decide; the host does what loses nothing.
    fn on_failure(
        settings: &Self::Settings,
        context: &Context,
        failure: &Failure,
    ) -> Result<Vec<FailureAnswer>, Declined> {
        Ok(Self::usual(settings, context).on_failure(context, failure))
    }

    /// The time of some messages is up. A message without an answer is dropped with a report.
    ///
    /// # Errors
    /// The policy cannot decide; the host does what loses nothing.
    fn on_expiry(
        settings: &Self::Settings,
        context: &Context,
        messages: &[ExpiringMessage],
    ) -> Result<Vec<ExpiryAnswer>, Declined> {
        let _ = (settings, context);
        Ok(usual::on_expiry(messages))
    }
}

/// A policy could not decide, and why. The host falls back, counts it and logs the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined(pub String);

impl fmt::Display for Declined {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Declined {}

impl From<&str> for Declined {
    fn from(why: &str) -> Self {
        Declined(why.to_owned())
    }
}

impl From<String> for Declined {
    fn from(why: String) -> Self {
        Declined(why)
    }
}
