//! Questions and answers between the deferral machine's types and the contract's. Texts are moved, not copied.

mod answer;
mod question;

pub(crate) use answer::{expiry_answers, failure_answers, incoming_answer, plan, pull_answer};
pub(crate) use question::{
    availability, context, expiring_message, failure, host_abilities, incoming, message_count, pull,
};
