//! Client transactions (RFC 3261 §17.1, RFC 6026 §7.2).
//!
//! | state | INVITE | non-INVITE |
//! |---|---|---|
//! | Calling / Trying | Timer A repeats at T1·2ⁿ, Timer B gives up | Timer E repeats at T1·2ⁿ up to T2, Timer F gives up |
//! | Proceeding | a provisional came; no repetition, Timer B no longer counts, the user's deadline does | Timer E repeats at T2, Timer F gives up |
//! | Accepted | 2xx told, later ones too; Timer M ends it | – |
//! | Completed | 300-699 told, ACK sent, repetitions get it again; Timer D ends it | told; repetitions absorbed; Timer K ends it |

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Flow;
use crate::message::Method;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Calling,
    Proceeding,
    Accepted,
    Completed,
}

/// One transaction.
#[derive(Debug)]
pub(super) struct ClientTransaction {
    pub(super) state: State,
    pub(super) method: Method,
    pub(super) branch: Box<str>,
    pub(super) flow: Flow,
    /// The request as sent.
    pub(super) request: Bytes,
    pub(super) retransmit: Option<(Instant, Duration)>,
    /// ACK for a final answer other than 2xx.
    pub(super) ack: Option<Bytes>,
    /// The user wants it cancelled as soon as a provisional answer came (§9.1).
    pub(super) cancel_wanted: bool,
}
