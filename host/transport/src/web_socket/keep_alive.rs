//! Pings on a quiet connection (RFC 7118 §6, RFC 6455 §5.5.2): a browser cannot send any, and what is between closes what is
//! quiet.
//!
//! | since something came or went | then |
//! |---|---|
//! | one interval | a ping |
//! | one more without anything from the peer, which owes a pong | another ping |
//! | [`MAX_UNANSWERED`] pings unanswered, and one more interval | the peer is gone |

use std::time::Duration;

use tokio::time::Instant;

/// So many pings may remain without anything from the peer.
const MAX_UNANSWERED: u32 = 2;

/// Of one connection that a client opened.
#[derive(Debug)]
pub(super) struct KeepAlive {
    interval: Duration,
    due: Instant,
    unanswered: u32,
}

/// What is to be done about a quiet connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quiet {
    /// Nothing yet.
    No,
    /// A ping.
    Ping,
    /// Nobody is there.
    Gone,
}

impl KeepAlive {
    pub(super) fn new(interval: Duration, now: Instant) -> KeepAlive {
        KeepAlive { interval, due: now + interval, unanswered: 0 }
    }

    /// When [`KeepAlive::quiet`] has something to say.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Something came, or more of something.
    pub(super) fn came(&mut self, now: Instant) {
        self.unanswered = 0;
        self.due = now + self.interval;
    }

    /// Something was sent. Where pings are owed an answer that changes nothing: who takes it may be what is between.
    pub(super) fn went(&mut self, now: Instant) {
        if self.unanswered == 0 {
            self.due = now + self.interval;
        }
    }

    /// Whether it was quiet for long. A ping counts as sent.
    pub(super) fn quiet(&mut self, now: Instant) -> Quiet {
        if now < self.due {
            return Quiet::No;
        }
        if self.unanswered >= MAX_UNANSWERED {
            return Quiet::Gone;
        }
        self.unanswered += 1;
        self.due = now + self.interval;
        Quiet::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_connection_is_pinged_and_one_that_answers_nothing_is_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut keep_alive = KeepAlive::new(Duration::from_secs(30), start);
        assert_eq!(keep_alive.quiet(at(29)), Quiet::No);
        keep_alive.went(at(20));
        assert_eq!(keep_alive.quiet(at(49)), Quiet::No);
        assert_eq!((keep_alive.due(), keep_alive.quiet(at(50))), (at(50), Quiet::Ping));
        keep_alive.came(at(51));
        assert_eq!(keep_alive.quiet(at(81)), Quiet::Ping, "again, once it answered");
        // What we send to somebody who does not answer says nothing.
        keep_alive.went(at(100));
        assert_eq!(keep_alive.quiet(at(111)), Quiet::Ping);
        assert_eq!((keep_alive.quiet(at(140)), keep_alive.quiet(at(141))), (Quiet::No, Quiet::Gone));
    }
}
