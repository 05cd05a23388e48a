//! The non-INVITE server transaction (RFC 3261 §17.2.2).
//!
//! | state | input | does | next |
//! |---|---|---|---|
//! | Trying | request again | nothing | Trying |
//! | Trying, Proceeding | user's 1xx | send | Proceeding |
//! | Proceeding | request again | send the 1xx again | Proceeding |
//! | Trying, Proceeding | user's 200-699 | send; Timer J | Completed |
//! | Trying, Proceeding | 64·T1 without a final answer | tell: abandoned | Terminated |
//! | Completed | request again | send the answer again | Completed |
//! | Completed | user's answer | nothing | Completed |
//! | Completed | Timer J (64·T1; 0 over a reliable transport) | – | Terminated |
//!
//! Nothing is sent for a request that was not answered in time: the client has given up by then (RFC 4320 §4.2).

use std::time::Instant;

use bytes::Bytes;

use super::TimerValues;
use super::step::{Step, Tell};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug)]
pub(super) struct ServerNonInviteTransaction {
    state: State,
    is_reliable: bool,
    last: Option<Bytes>,
    deadline: Instant,
}

impl ServerNonInviteTransaction {
    pub(super) fn new(now: Instant, is_reliable: bool, timers: &TimerValues) -> Self {
        Self { state: State::Trying, is_reliable, last: None, deadline: now + timers.timeout() }
    }

    pub(super) fn request_again(&self) -> Step {
        self.last.clone().map_or_else(Step::nothing, Step::send)
    }

    pub(super) fn respond(&mut self, now: Instant, status: u16, bytes: Bytes, timers: &TimerValues) -> Step {
        if !self.is_unanswered() {
            return Step::nothing();
        }
        self.state = match status {
            ..200 => State::Proceeding,
            _ if self.is_reliable => State::Terminated,
            _ => {
                self.deadline = now + timers.timeout();
                State::Completed
            }
        };
        self.last = Some(bytes.clone());
        Step::send(bytes)
    }

    pub(super) fn next_timer(&self) -> Instant {
        self.deadline
    }

    pub(super) fn handle_timer(&mut self, now: Instant) -> Step {
        if now < self.deadline {
            return Step::nothing();
        }
        let step = if self.is_unanswered() { Step::tell(Tell::Abandoned) } else { Step::nothing() };
        self.state = State::Terminated;
        step
    }

    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.state, State::Trying | State::Proceeding)
    }

    pub(super) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const T: TimerValues = TimerValues {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        ringing: Duration::from_secs(180),
        unanswered_invite: Duration::from_secs(180),
    };

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn repetitions_get_what_was_sent_last() {
        let now = Instant::now();
        let mut it = ServerNonInviteTransaction::new(now, false, &T);
        assert_eq!(it.request_again(), Step::nothing());
        assert_eq!(it.respond(now, 100, bytes("100"), &T), Step::send(bytes("100")));
        assert_eq!((it.state, it.request_again()), (State::Proceeding, Step::send(bytes("100"))));
        assert_eq!(it.respond(now, 202, bytes("202"), &T), Step::send(bytes("202")));
        assert_eq!((it.state, it.request_again()), (State::Completed, Step::send(bytes("202"))));
        assert_eq!(it.respond(now, 500, bytes("500"), &T), Step::nothing());
        assert_eq!(it.request_again(), Step::send(bytes("202")));
    }

    #[test]
    fn timer_j_counts_from_the_answer_and_only_over_unreliable_transports() {
        let now = Instant::now();
        let answered = now + Duration::from_secs(3);
        let mut it = ServerNonInviteTransaction::new(now, false, &T);
        it.respond(answered, 202, bytes("202"), &T);
        assert_eq!(it.next_timer(), answered + T.timeout());
        assert_eq!(it.handle_timer(now + T.timeout()), Step::nothing());
        assert!(!it.is_terminated());
        assert_eq!(it.handle_timer(answered + T.timeout()), Step::nothing());
        assert!(it.is_terminated());
        let mut it = ServerNonInviteTransaction::new(now, true, &T);
        it.respond(answered, 202, bytes("202"), &T);
        assert!(it.is_terminated());
    }

    #[test]
    fn what_nobody_answers_ends_in_silence() {
        let now = Instant::now();
        let mut it = ServerNonInviteTransaction::new(now, false, &T);
        assert_eq!(it.handle_timer(now + T.timeout()), Step::tell(Tell::Abandoned));
        assert!(it.is_terminated());
    }
}
