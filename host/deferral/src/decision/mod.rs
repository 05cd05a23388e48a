//! What a policy is asked and what it answers: the native mirror of `wit/policy.wit`, item for item.
//!
//! Every item can be written as JSON and read from it, under the contract's own names: records are objects, enums
//! strings, flags lists of names, variants a string or an object with one key. What is absent is none, an empty list, no
//! flags or zero counts; anything else has to be there, and a key that the contract does not know is refused.

mod answer;
pub mod fallback;
mod question;
pub mod validate;

pub use answer::{
    AfterDeadline, Answer, DeliveryStep, DiscardStep, ExpiryAction, ExpiryAnswer, FailureAction, FailureAnswer,
    HandOverStep, HoldStep, IncomingAnswer, Keep, NotifyStep, Plan, PullAnswer, PullDelivery, Rejection, Relay, Retry,
    Step, Target, Undecided,
};
pub use question::{
    AttemptKind, Availability, ContactView, Context, ExpiringMessage, FailedMessage, Failure, Field, HostAbilities,
    Incoming, IncomingPhase, MediaDirection, Progress, Pull, Question, RecipientView, Selection, SenderView, Trigger,
    WaitingMessage,
};
