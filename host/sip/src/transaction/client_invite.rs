//! The INVITE client transaction (RFC 3261 §17.1.1, RFC 6026 §7.2) and its CANCEL (RFC 3261 §9.1).
//!
//! | state | input | does | next |
//! |---|---|---|---|
//! | Calling | Timer A (T1·2ⁿ; not over a reliable transport) | send again | Calling |
//! | Calling | Timer B (64·T1) | tell: timed out | Terminated |
//! | Calling | user cancels | remember | Calling |
//! | Calling, Proceeding | 1xx | tell; CANCEL if remembered | Proceeding |
//! | Proceeding | user cancels, or it rang for `ringing` | CANCEL; wait 64·T1 for a final answer | Proceeding |
//! | Proceeding | 64·T1 after the CANCEL | tell: timed out | Terminated |
//! | Calling, Proceeding | 2xx | tell; Timer M | Accepted |
//! | Calling, Proceeding | 300-699 | tell; send ACK; Timer D | Completed |
//! | Calling, Proceeding | the transport failed | (the endpoint tells) | Terminated |
//! | Accepted | 2xx | tell: each may be of another device, each repetition wants its ACK | Accepted |
//! | Accepted | Timer M (64·T1) | – | Terminated |
//! | Completed | 300-699 | send ACK again | Completed |
//! | Completed | Timer D (64·T1; 0 over a reliable transport) | – | Terminated |
//!
//! The ACK to a 2xx is the user's. How long an INVITE may ring is the user's too by §17.1.1.2; there is a bound here so
//! that none rings for ever.

use std::time::Instant;

use bytes::Bytes;

use super::TimerValues;
use super::derived::non_2xx_ack;
use super::step::{Step, Tell};
use super::timers::{Repeat, earlier};
use crate::message::SipMessage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calling { cancel_wanted: bool },
    Proceeding { cancelled: bool },
    Accepted,
    Completed,
    Terminated,
}

#[derive(Debug)]
pub(super) struct ClientInviteTransaction {
    state: State,
    is_reliable: bool,
    request: Bytes,
    /// To answers other than 2xx.
    ack: Option<Bytes>,
    /// Timer A.
    repeat: Option<Repeat>,
    /// Timer B, D or M, or how long it may ring.
    deadline: Instant,
}

impl ClientInviteTransaction {
    /// The request is to be sent at once.
    pub(super) fn new(now: Instant, is_reliable: bool, request: Bytes, timers: &TimerValues) -> Self {
        let state = State::Calling { cancel_wanted: false };
        let repeat = (!is_reliable).then(|| Repeat::after(now, timers.t1));
        Self { state, is_reliable, request, ack: None, repeat, deadline: now + timers.timeout() }
    }

    pub(super) fn request(&self) -> &Bytes {
        &self.request
    }

    pub(super) fn response(&mut self, now: Instant, message: &SipMessage, timers: &TimerValues) -> Step {
        match (self.state, message.status().unwrap_or(0)) {
            (State::Calling { cancel_wanted }, 100..200) => {
                self.repeat = None;
                self.state = State::Proceeding { cancelled: false };
                self.deadline = now + timers.ringing;
                let step = if cancel_wanted { self.cancel(now, timers) } else { Step::nothing() };
                Step { tell: Some(Tell::Message), ..step }
            }
            (State::Proceeding { .. }, 100..200) => Step::tell(Tell::Message),
            (State::Calling { .. } | State::Proceeding { .. }, 200..300) => {
                self.repeat = None;
                self.state = State::Accepted;
                self.deadline = now + timers.timeout();
                Step::tell(Tell::Message)
            }
            (State::Accepted, 200..300) => Step::tell(Tell::Message),
            (State::Calling { .. } | State::Proceeding { .. }, 300..700) => {
                self.repeat = None;
                self.state = if self.is_reliable { State::Terminated } else { State::Completed };
                self.deadline = now + timers.timeout();
                self.ack = non_2xx_ack(&self.request, message).ok();
                Step { send: self.ack.clone(), tell: Some(Tell::Message), cancel: false }
            }
            (State::Completed, 300..700) => self.ack.clone().map_or_else(Step::nothing, Step::send),
            _ => Step::nothing(),
        }
    }

    pub(super) fn cancel(&mut self, now: Instant, timers: &TimerValues) -> Step {
        match self.state {
            State::Calling { .. } => {
                self.state = State::Calling { cancel_wanted: true };
                Step::nothing()
            }
            State::Proceeding { cancelled: false } => {
                self.state = State::Proceeding { cancelled: true };
                self.deadline = now + timers.timeout();
                Step { cancel: true, ..Step::nothing() }
            }
            State::Proceeding { cancelled: true } | State::Accepted | State::Completed | State::Terminated => {
                Step::nothing()
            }
        }
    }

    /// Where it rings and is not cancelled.
    pub(super) fn ring_until(&mut self, until: Instant) {
        if self.state == (State::Proceeding { cancelled: false }) {
            self.deadline = until;
        }
    }

    pub(super) fn next_timer(&self) -> Instant {
        earlier(self.repeat, self.deadline)
    }

    pub(super) fn handle_timer(&mut self, now: Instant, timers: &TimerValues) -> Step {
        if now >= self.deadline {
            if self.state == (State::Proceeding { cancelled: false }) {
                return self.cancel(now, timers);
            }
            let step = if self.is_waiting() { Step::tell(Tell::TimedOut) } else { Step::nothing() };
            self.state = State::Terminated;
            return step;
        }
        let Some(repeat) = self.repeat.filter(|repeat| repeat.at <= now) else { return Step::nothing() };
        self.repeat = Some(repeat.doubled(now));
        Step::send(self.request.clone())
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Calling { .. } | State::Proceeding { .. })
    }

    pub(super) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageLimits;
    use std::time::Duration;

    const INVITE: &str = "INVITE sip:bob@b;x=1 SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1;rport\r\nRoute: <sip:p;lr>\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\nContent-Length: 0\r\n\r\n";

    fn answer(status: u16) -> SipMessage {
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:bob@b>;tag=2\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n\r\n"
        );
        SipMessage::parse(text.into(), &MessageLimits::default()).unwrap()
    }

    fn new(now: Instant, is_reliable: bool) -> ClientInviteTransaction {
        ClientInviteTransaction::new(now, is_reliable, INVITE.into(), &TimerValues::default())
    }

    #[test]
    fn timer_a_doubles_without_a_bound_until_timer_b() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        for (is_reliable, expected) in
            [(false, vec![500, 1500, 3500, 7500, 15500, 31500, 32000]), (true, vec![32000_u128])]
        {
            let mut it = new(now, is_reliable);
            let mut times = Vec::new();
            while !it.is_terminated() {
                let at = it.next_timer();
                let step = it.handle_timer(at, &timers);
                times.push(at.duration_since(now).as_millis());
                let over = it.is_terminated();
                assert_eq!(step, if over { Step::tell(Tell::TimedOut) } else { Step::send(INVITE.into()) });
            }
            assert_eq!(times, expected);
        }
    }

    #[test]
    fn a_refusal_is_acknowledged_each_time_until_timer_d() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        let mut it = new(now, false);
        let step = it.response(now, &answer(486), &timers);
        assert_eq!(step.tell, Some(Tell::Message));
        let ack = String::from_utf8(step.send.unwrap().to_vec()).unwrap();
        assert!(ack.starts_with("ACK sip:bob@b;x=1 SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1;rport\r\n"), "{ack}");
        for line in ["\r\nCSeq: 7 ACK\r\n", "\r\nTo: <sip:bob@b>;tag=2\r\n", "\r\nRoute: <sip:p;lr>\r\n"] {
            assert!(ack.contains(line), "{ack}");
        }
        assert_eq!(it.response(now, &answer(486), &timers), Step::send(ack.into()));
        assert_eq!(it.response(now, &answer(200), &timers), Step::nothing());
        assert_eq!(it.next_timer(), now + timers.timeout());
        it.handle_timer(now + timers.timeout(), &timers);
        assert!(it.is_terminated());
        let mut it = new(now, true);
        assert!(it.response(now, &answer(486), &timers).send.is_some());
        assert!(it.is_terminated());
    }

    #[test]
    fn every_2xx_is_told_until_timer_m() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        for is_reliable in [false, true] {
            let mut it = new(now, is_reliable);
            for _ in 0..3 {
                assert_eq!(it.response(now, &answer(200), &timers), Step::tell(Tell::Message));
            }
            assert_eq!(it.response(now, &answer(486), &timers), Step::nothing());
            assert_eq!(it.next_timer(), now + timers.timeout());
            assert_eq!(it.handle_timer(now + timers.timeout(), &timers), Step::nothing());
            assert!(it.is_terminated());
        }
    }

    #[test]
    fn cancelling_waits_for_a_provisional_answer() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        let mut it = new(now, false);
        assert_eq!(it.cancel(now, &timers), Step::nothing());
        let told_and_cancelled = Step { send: None, tell: Some(Tell::Message), cancel: true };
        let ringing = now + Duration::from_secs(3);
        assert_eq!(it.response(ringing, &answer(100), &timers), told_and_cancelled);
        assert_eq!(it.cancel(ringing, &timers), Step::nothing());
        assert_eq!(it.next_timer(), ringing + timers.timeout());
        assert_eq!(it.handle_timer(ringing + timers.timeout(), &timers), Step::tell(Tell::TimedOut));
    }

    #[test]
    fn what_rings_too_long_is_cancelled() {
        let (now, timers) = (Instant::now(), TimerValues::default());
        let mut it = new(now, false);
        it.response(now, &answer(180), &timers);
        let late = it.next_timer();
        assert_eq!(late, now + timers.ringing);
        assert_eq!(it.handle_timer(late, &timers), Step { cancel: true, ..Step::nothing() });
        assert_eq!(it.response(late, &answer(487), &timers).tell, Some(Tell::Message));
    }
}
