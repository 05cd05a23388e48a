//! What a policy is asked and what it answers: the native mirror of `wit/policy.wit`, item for item.

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
    AttemptKind, Availability, ContactView, Context, ExpiringMessage, FailedMessage, Failure, HostAbilities, Incoming,
    IncomingPhase, Progress, Pull, Question, Selection, Trigger, WaitingMessage,
};
