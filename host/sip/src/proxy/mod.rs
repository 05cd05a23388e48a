//! What a stateful proxy does (RFC 3261 §16), without its sockets, timers and transactions.
//!
//! * [`validate`]: whether a request may be passed on at all (§16.3).
//! * [`without_own_routes`], [`Forwarding`]: what is sent: the received bytes with the changes of §16.4 and §16.6.
//! * [`ResponseContext`]: which branches are begun, what of their answers is passed back, and how it ends (§16.7 to §16.10).
//!
//! Targets (§16.5) and next hops are its user's business: they are about registrations.

mod best;
mod forwarding;
mod response_context;
mod validate;

pub use best::Best;
pub use forwarding::{Forwarding, OwnRoutes, Returning, without_own_routes};
pub use response_context::{Action, BranchId, ContextSettings, MAX_BRANCHES, ResponseContext, TakeOver};
pub use validate::{DEFAULT_MAX_BREADTH, Refusal, breadth_of_each, loop_key, validate};
