//! The INVITE server transaction (RFC 3261 §17.2.1, RFC 6026 §7.1).
//!
//! | state | input | does | next |
//! |---|---|---|---|
//! | Proceeding | INVITE again | send the last 1xx again | Proceeding |
//! | Proceeding | user's 1xx | send | Proceeding |
//! | Proceeding | user's 2xx | send; Timer L; repeat at T1·2ⁿ up to T2 | Accepted |
//! | Proceeding | user's 300-699 | send; Timer H; Timer G unless the transport is reliable, or nothing was said before to who is not known | Completed |
//! | Proceeding | no final answer for `unanswered_invite` | tell: abandoned (the endpoint answers 500) | Proceeding |
//! | Proceeding | another's 2xx that is passed back | send; Timer L | Accepted |
//! | Accepted | INVITE again | nothing | Accepted |
//! | Accepted | another's 2xx that is passed back | send (RFC 6026 §7.1) | Accepted |
//! | Accepted | 2xx repetition due | send the 2xx again | Accepted |
//! | Accepted | first ACK to the 2xx | tell; stop repeating | Accepted |
//! | Accepted | further ACK | nothing | Accepted |
//! | Accepted | Timer L (64·T1) | tell if no ACK came | Terminated |
//! | Completed | INVITE again | send the answer again | Completed |
//! | Completed | Timer G (T1·2ⁿ up to T2) | send the answer again | Completed |
//! | Completed | ACK | Timer I | Confirmed |
//! | Completed | Timer H (64·T1) | – | Terminated |
//! | Confirmed | INVITE or ACK again | nothing | Confirmed |
//! | Confirmed | Timer I (T4; 0 over a reliable transport) | – | Terminated |
//!
//! Deviation: 100 goes out at once instead of after 200 ms (§17.2.1), because proxies in front of an application server
//! count on it, unless a final answer goes out at once; the endpoint gives it in. Deviation: a refusal that is the first that
//! is said of an INVITE is repeated by Timer G (§17.2.1) to those alone whom the user knows: whoever has heard nothing repeats
//! the INVITE (Timer A) and gets it again, and an address that was forged gets one answer to one request, as from a server
//! without state (§8.2.7, §26.3.2.4). Deviation: repeating the 2xx (§13.3.1.4) is done here and not by the user, so
//! that there is one place for it. Over reliable transports too: a later hop may be lossy.

use std::time::Instant;

use bytes::Bytes;

use super::TimerValues;
use super::step::{Step, Tell};
use super::timers::{Repeat, earlier};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Proceeding,
    Accepted { acknowledged: bool },
    Completed,
    Confirmed,
    Terminated,
}

#[derive(Debug)]
pub(super) struct ServerInviteTransaction {
    state: State,
    is_reliable: bool,
    /// Its user knows where the INVITE is from.
    is_known: bool,
    last: Option<Bytes>,
    /// Timer G, or the 2xx's.
    repeat: Option<Repeat>,
    /// Timer H, I or L, or the user's time to answer.
    deadline: Instant,
}

impl ServerInviteTransaction {
    pub(super) fn new(now: Instant, is_reliable: bool, timers: &TimerValues) -> Self {
        let deadline = now + timers.unanswered_invite;
        Self { state: State::Proceeding, is_reliable, is_known: false, last: None, repeat: None, deadline }
    }

    /// Refusals are repeated from now on, whatever was said before.
    pub(super) fn is_from_who_is_known(&mut self) {
        self.is_known = true;
    }

    pub(super) fn request_again(&self) -> Step {
        match (self.state, &self.last) {
            (State::Proceeding | State::Completed, Some(last)) => Step::send(last.clone()),
            _ => Step::nothing(),
        }
    }

    pub(super) fn respond(&mut self, now: Instant, status: u16, bytes: Bytes, timers: &TimerValues) -> Step {
        if self.state != State::Proceeding {
            return Step::nothing();
        }
        if status >= 200 {
            let is_success = status < 300;
            self.state = if is_success { State::Accepted { acknowledged: false } } else { State::Completed };
            let repeats = is_success || (!self.is_reliable && (self.is_known || self.has_spoken()));
            self.repeat = repeats.then(|| Repeat::after(now, timers.t1));
            self.deadline = now + timers.timeout();
        }
        self.last = Some(bytes.clone());
        Step::send(bytes)
    }

    /// A 2xx of somebody else's, who repeats it and hears of its ACK.
    pub(super) fn pass(&mut self, now: Instant, bytes: Bytes, timers: &TimerValues) -> Step {
        match self.state {
            State::Proceeding => {
                self.state = State::Accepted { acknowledged: true };
                self.deadline = now + timers.timeout();
                Step::send(bytes)
            }
            State::Accepted { .. } => Step::send(bytes),
            State::Completed | State::Confirmed | State::Terminated => Step::nothing(),
        }
    }

    /// Gives its user more time to answer.
    pub(super) fn answer_until(&mut self, until: Instant) {
        if self.state == State::Proceeding {
            self.deadline = until;
        }
    }

    /// An ACK with the branch of the INVITE. False: it is none to an answer other than 2xx.
    pub(super) fn acknowledge_failure(&mut self, now: Instant, timers: &TimerValues) -> bool {
        match self.state {
            State::Completed => {
                self.repeat = None;
                self.deadline = now + timers.t4;
                self.state = if self.is_reliable { State::Terminated } else { State::Confirmed };
                true
            }
            State::Confirmed => true,
            State::Proceeding | State::Accepted { .. } | State::Terminated => false,
        }
    }

    /// An ACK to the 2xx.
    pub(super) fn acknowledge_success(&mut self) -> Step {
        if self.state != (State::Accepted { acknowledged: false }) {
            return Step::nothing();
        }
        self.state = State::Accepted { acknowledged: true };
        self.repeat = None;
        Step::tell(Tell::Message)
    }

    pub(super) fn next_timer(&self) -> Instant {
        earlier(self.repeat, self.deadline)
    }

    pub(super) fn handle_timer(&mut self, now: Instant, timers: &TimerValues) -> Step {
        if now >= self.deadline {
            return match self.state {
                State::Proceeding => Step::tell(Tell::Abandoned),
                State::Accepted { acknowledged: false } => self.terminate(Step::tell(Tell::AckMissing)),
                _ => self.terminate(Step::nothing()),
            };
        }
        match self.repeat.filter(|repeat| repeat.at <= now) {
            Some(repeat) => {
                self.repeat = Some(repeat.doubled_up_to(now, timers.t2));
                self.last.clone().map_or_else(Step::nothing, Step::send)
            }
            None => Step::nothing(),
        }
    }

    /// Something was sent.
    pub(super) fn has_spoken(&self) -> bool {
        self.last.is_some()
    }

    pub(super) fn is_unanswered(&self) -> bool {
        self.state == State::Proceeding
    }

    pub(super) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }

    fn terminate(&mut self, step: Step) -> Step {
        self.state = State::Terminated;
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    /// Milliseconds at which something was sent or told, until it is over.
    fn run(it: &mut ServerInviteTransaction, start: Instant, timers: &TimerValues) -> Vec<(u128, Step)> {
        let mut log = Vec::new();
        while !it.is_terminated() {
            let now = it.next_timer();
            let step = it.handle_timer(now, timers);
            log.push((now.duration_since(start).as_millis(), step));
        }
        log
    }

    fn times(log: &[(u128, Step)]) -> Vec<u128> {
        log.iter().map(|(at, _)| *at).collect()
    }

    const REPEATS: [u128; 11] = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500, 32000];

    #[test]
    fn a_2xx_is_repeated_until_timer_l_and_the_missing_ack_is_told() {
        for is_reliable in [false, true] {
            let (now, timers) = (Instant::now(), TimerValues::default());
            let mut it = ServerInviteTransaction::new(now, is_reliable, &timers);
            assert_eq!(it.respond(now, 200, bytes("200"), &timers), Step::send(bytes("200")));
            let log = run(&mut it, now, &timers);
            assert_eq!(times(&log), REPEATS);
            assert_eq!(log[9].1, Step::send(bytes("200")));
            assert_eq!(log[10].1, Step::tell(Tell::AckMissing));
        }
    }

    #[test]
    fn an_ack_stops_the_2xx_and_later_invites_are_absorbed() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        let mut it = ServerInviteTransaction::new(now, false, &timers);
        it.respond(now, 200, bytes("200"), &timers);
        assert!(!it.acknowledge_failure(now, &timers));
        assert_eq!(it.acknowledge_success(), Step::tell(Tell::Message));
        assert_eq!(it.acknowledge_success(), Step::nothing());
        assert_eq!(it.request_again(), Step::nothing());
        assert_eq!(it.respond(now, 500, bytes("500"), &timers), Step::nothing());
        assert_eq!(run(&mut it, now, &timers), [(32000, Step::nothing())]);
    }

    #[test]
    fn a_refusal_before_anything_else_is_said_again_to_whoever_asks_again_alone() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        let mut it = ServerInviteTransaction::new(now, false, &timers);
        assert_eq!(it.respond(now, 401, bytes("401"), &timers), Step::send(bytes("401")));
        assert_eq!(it.request_again(), Step::send(bytes("401")));
        assert_eq!(run(&mut it, now, &timers), [(32000, Step::nothing())]);
    }

    #[test]
    fn a_refusal_is_repeated_by_timer_g_until_timer_h() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        let mut it = ServerInviteTransaction::new(now, false, &timers);
        it.is_from_who_is_known();
        it.respond(now, 486, bytes("486"), &timers);
        assert_eq!(it.request_again(), Step::send(bytes("486")));
        let log = run(&mut it, now, &timers);
        assert_eq!(times(&log), REPEATS);
        assert_eq!(log[10].1, Step::nothing());
        let mut it = ServerInviteTransaction::new(now, true, &timers);
        it.respond(now, 486, bytes("486"), &timers);
        assert_eq!(run(&mut it, now, &timers), [(32000, Step::nothing())]);
    }

    #[test]
    fn an_ack_confirms_a_refusal_for_timer_i() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        let mut it = ServerInviteTransaction::new(now, false, &timers);
        assert!(!it.acknowledge_failure(now, &timers));
        it.respond(now, 486, bytes("486"), &timers);
        assert!(it.acknowledge_failure(now, &timers));
        assert_eq!((it.state, it.request_again()), (State::Confirmed, Step::nothing()));
        assert!(it.acknowledge_failure(now + Duration::from_secs(1), &timers));
        assert_eq!(run(&mut it, now, &timers), [(5000, Step::nothing())]);
        let mut it = ServerInviteTransaction::new(now, true, &timers);
        it.respond(now, 486, bytes("486"), &timers);
        assert!(it.acknowledge_failure(now, &timers));
        assert!(it.is_terminated());
    }

    #[test]
    fn provisionals_are_given_again_and_silence_is_told() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        let mut it = ServerInviteTransaction::new(now, false, &timers);
        assert_eq!(it.respond(now, 100, bytes("100"), &timers), Step::send(bytes("100")));
        assert_eq!(it.respond(now, 180, bytes("180"), &timers), Step::send(bytes("180")));
        assert_eq!(it.request_again(), Step::send(bytes("180")));
        let late = it.next_timer();
        assert_eq!(late, now + timers.unanswered_invite);
        assert_eq!(it.handle_timer(late, &timers), Step::tell(Tell::Abandoned));
        assert!(it.is_unanswered());
    }
}
