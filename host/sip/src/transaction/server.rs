//! Server transactions (RFC 3261 §17.2, RFC 6026 §7.1).
//!
//! | state | INVITE | non-INVITE |
//! |---|---|---|
//! | Proceeding | 100 sent at once; a repetition gets the last provisional again | nothing or a provisional sent; a repetition gets the last provisional again |
//! | Accepted | 2xx sent, repeated at T1·2ⁿ up to T2 until its ACK; Timer L ends it | – |
//! | Completed | 300-699 sent, Timer G repeats it, Timer H gives up; ACK → Confirmed | a final answer sent, repetitions get it again; Timer J ends it |
//! | Confirmed | ACKs absorbed; Timer I ends it | – |
//!
//! Deviation: 100 goes out at once instead of after 200 ms (§17.2.1), because proxies in front of an application server
//! count on it. Repeating the 2xx is the endpoint's, not its user's, so that there is one place for it.

use std::time::Instant;

use bytes::Bytes;

use super::Flow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Proceeding,
    Accepted { acknowledged: bool },
    Completed,
    Confirmed,
}

/// One transaction.
#[derive(Debug)]
pub(super) struct ServerTransaction {
    pub(super) state: State,
    pub(super) is_invite: bool,
    pub(super) key: Box<str>,
    /// Where its answers go.
    pub(super) reply: Flow,
    /// The topmost Via with what was added on receipt.
    pub(super) via: Box<str>,
    /// What was sent last.
    pub(super) last: Option<Bytes>,
    /// When Timer G or the 2xx's repetition is set to fire, and its interval.
    pub(super) retransmit: Option<(Instant, std::time::Duration)>,
    /// (Call-ID, CSeq, our To-tag) by which an ACK for a 2xx is recognised.
    pub(super) ack_key: Option<Box<str>>,
    /// The From-tag, Call-ID and CSeq that make a merged request (§8.2.2.2).
    pub(super) merge_key: Option<Box<str>>,
    /// The request of a transaction that is not answered yet: its final answer is built from it.
    pub(super) request: Option<crate::message::SipMessage>,
}
