//! Pings on a quiet connection (RFC 7118 §6, RFC 6455 §5.5.2): a browser cannot send any, and what is between closes what is
//! quiet.
//!
//! | since something came or went | then |
//! |---|---|
//! | one interval | a ping |
//! | one more without anything from the peer, which owes a pong | another ping |
//! | [`MAX_UNANSWERED`] pings unanswered, one more interval, and a moment to read what came meanwhile | the peer is gone |

use std::time::Duration;

use tokio::time::Instant;

/// So many pings may remain without anything from the peer.
const MAX_UNANSWERED: u32 = 2;
/// What this counts to is a last look: whoever serves the connection was perhaps busy with what it sent, and has not read what came.
const LOOKED_AT: u32 = MAX_UNANSWERED + 1;
/// For so long.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Of one connection that a client opened.
#[derive(Debug)]
pub(super) struct KeepAlive {
    interval: Duration,
    due: Instant,
    unanswered: u32,
    /// Bytes that had come from the peer.
    received: u64,
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
        KeepAlive { interval, due: now + interval, unanswered: 0, received: 0 }
    }

    /// When [`KeepAlive::quiet`] has something to say.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether the peer owes a pong.
    pub(super) fn is_owed(&self) -> bool {
        self.unanswered > 0
    }

    /// So many bytes came, all in all: more of them are a sign of life, also where they are one long frame that lets no pong
    /// pass.
    pub(super) fn received(&mut self, now: Instant, bytes: u64) {
        if bytes > std::mem::replace(&mut self.received, bytes) {
            self.came(now);
        }
    }

    /// Something came.
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
        self.unanswered += 1;
        match self.unanswered {
            ..=MAX_UNANSWERED => {
                self.due = now + self.interval;
                Quiet::Ping
            }
            LOOKED_AT => {
                self.due = now + LAST_LOOK;
                Quiet::No
            }
            _ => Quiet::Gone,
        }
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
        assert_eq!((keep_alive.quiet(at(140)), keep_alive.quiet(at(141))), (Quiet::No, Quiet::No));
        assert_eq!((keep_alive.due(), keep_alive.quiet(at(142))), (at(142), Quiet::Gone));
    }

    #[test]
    fn bytes_that_come_are_a_sign_of_life_and_those_that_came_are_none() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut keep_alive = KeepAlive::new(Duration::from_secs(30), start);
        keep_alive.received(at(20), 1_000);
        assert_eq!((keep_alive.quiet(at(49)), keep_alive.quiet(at(50))), (Quiet::No, Quiet::Ping));
        assert!(keep_alive.is_owed());
        keep_alive.received(at(60), 1_000);
        assert_eq!(keep_alive.quiet(at(80)), Quiet::Ping);
        keep_alive.received(at(90), 1_001);
        assert!(!keep_alive.is_owed());
    }
}
