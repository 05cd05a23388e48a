//! The non-INVITE client transaction (RFC 3261 §17.1.2).
//!
//! | state | input | does | next |
//! |---|---|---|---|
//! | Trying | Timer E (T1·2ⁿ up to T2; not over a reliable transport) | send again | Trying |
//! | Trying, Proceeding | 1xx | tell | Proceeding |
//! | Proceeding | Timer E (T2) | send again | Proceeding |
//! | Trying, Proceeding | 200-699 | tell; Timer K | Completed |
//! | Trying, Proceeding | Timer F (64·T1) | tell: timed out | Terminated |
//! | Trying, Proceeding | the transport failed | (the endpoint tells) | Terminated |
//! | Completed | any answer | nothing | Completed |
//! | Completed | Timer K (T4; 0 over a reliable transport) | – | Terminated |

use std::time::Instant;

use bytes::Bytes;

use super::TimerValues;
use super::step::{Step, Tell};
use super::timers::{Repeat, earlier};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug)]
pub(super) struct ClientNonInviteTransaction {
    state: State,
    is_reliable: bool,
    request: Bytes,
    /// Timer E.
    repeat: Option<Repeat>,
    /// Timer F or K.
    deadline: Instant,
}

impl ClientNonInviteTransaction {
    /// The request is to be sent at once.
    pub(super) fn new(now: Instant, is_reliable: bool, request: Bytes, timers: &TimerValues) -> Self {
        let repeat = (!is_reliable).then(|| Repeat::after(now, timers.t1));
        Self { state: State::Trying, is_reliable, request, repeat, deadline: now + timers.timeout() }
    }

    pub(super) fn response(&mut self, now: Instant, status: u16, timers: &TimerValues) -> Step {
        if !self.is_waiting() {
            return Step::nothing();
        }
        if status < 200 {
            self.state = State::Proceeding;
        } else {
            self.state = if self.is_reliable { State::Terminated } else { State::Completed };
            self.repeat = None;
            self.deadline = now + timers.t4;
        }
        Step::tell(Tell::Message)
    }

    pub(super) fn next_timer(&self) -> Instant {
        earlier(self.repeat, self.deadline)
    }

    pub(super) fn handle_timer(&mut self, now: Instant, timers: &TimerValues) -> Step {
        if now >= self.deadline {
            let step = if self.is_waiting() { Step::tell(Tell::TimedOut) } else { Step::nothing() };
            self.state = State::Terminated;
            return step;
        }
        let Some(repeat) = self.repeat.filter(|repeat| repeat.at <= now) else { return Step::nothing() };
        self.repeat = Some(match self.state {
            State::Proceeding => Repeat::after(now, timers.t2),
            _ => repeat.doubled_up_to(now, timers.t2),
        });
        Step::send(self.request.clone())
    }

    pub(super) fn is_waiting(&self) -> bool {
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

    fn run(it: &mut ClientNonInviteTransaction, start: Instant, timers: &TimerValues) -> Vec<u128> {
        let mut log = Vec::new();
        while !it.is_terminated() {
            let now = it.next_timer();
            let step = it.handle_timer(now, timers);
            let expected =
                if it.is_terminated() { Step::tell(Tell::TimedOut) } else { Step::send(Bytes::from_static(b"M")) };
            assert_eq!(step, expected);
            log.push(now.duration_since(start).as_millis());
        }
        log
    }

    fn new(now: Instant, is_reliable: bool) -> ClientNonInviteTransaction {
        ClientNonInviteTransaction::new(now, is_reliable, Bytes::from_static(b"M"), &TimerValues::default())
    }

    #[test]
    fn timer_e_repeats_until_timer_f() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        let times = run(&mut new(now, false), now, &timers);
        assert_eq!(times, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500, 32000]);
        assert_eq!(run(&mut new(now, true), now, &timers), [32000]);
    }

    #[test]
    fn a_provisional_slows_the_repetition_and_does_not_stop_timer_f() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        let mut it = new(now, false);
        assert_eq!(it.response(now + Duration::from_millis(100), 100, &timers), Step::tell(Tell::Message));
        assert_eq!(run(&mut it, now, &timers), [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500, 32000]);
    }

    #[test]
    fn a_final_answer_is_told_once_and_timer_k_absorbs_the_rest() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        for status in [200, 202, 302, 404, 503, 603] {
            let mut it = new(now, false);
            assert_eq!(it.response(now, status, &timers), Step::tell(Tell::Message));
            assert_eq!(it.response(now, status, &timers), Step::nothing());
            assert_eq!(it.next_timer(), now + timers.t4);
            assert_eq!(it.handle_timer(now + timers.t4, &timers), Step::nothing());
            assert!(it.is_terminated());
            let mut it = new(now, true);
            it.response(now, status, &timers);
            assert!(it.is_terminated());
        }
    }
}
