//! The CPM Participating Function as pure state machines. No sockets, no clock, no disk.
//!
//! * [`model`]: messages, contacts, recipients: the plain values that everybody shares.
//! * [`decision`]: what a policy is asked and what it answers (the native mirror of `wit/policy.wit`), the check that an
//!   answer is possible, and the fallback when there is none.
//! * [`commit`]: what is made durable, as values. A store carries them out; this crate says when.
//! * [`participating_function`]: one machine per recipient.
//! * [`breaker`]: next hops whose verdicts are not to be believed.
//!
//! Inputs and `now` go in, [`participating_function::Output`]s and a wake-up time come out.

pub mod breaker;
pub mod commit;
pub mod decision;
pub mod model;
pub mod participating_function;
