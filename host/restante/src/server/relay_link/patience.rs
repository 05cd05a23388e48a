//! How long the link waits for a session that does not read, while all others wait.
//!
//! A session that takes [`FREE_BYTES_PER_SECOND`] is only slower than the relay: nothing counts of the time that it needs for
//! what it takes. A session does not read while its messages wait for the disk or for a verdict. One that took much may have
//! much to write: it is waited for in proportion to what it took. The rest is bounded for all of them together, so that however
//! many sessions stand still, the others have nine tenths of the time.
//!
//! | what | bound |
//! |---|---|
//! | a session, at first | [`AT_FIRST`] |
//! | and for each [`EARNS_AFTER_BYTES`] that it took | [`EARNED`] more, together at most [`MOST`] |
//! | all sessions | [`MOST`], of which a tenth of what passes comes back |
//!
//! What does not fit into a session's stream after that gives the session up.
//!
//! Deviation: a session that is given up loses its connection, and its peer sends again. RFC 4976 has no flow control by
//! session, so otherwise one that does not read would hold up all others on the relay's connection.

use std::time::{Duration, Instant};

/// Who takes so many is waited for, however long it needs for all of them.
const FREE_BYTES_PER_SECOND: u64 = 1024 * 1024;
/// Of a session that took nothing yet.
const AT_FIRST: Duration = Duration::from_millis(100);
/// So many bytes,
const EARNS_AFTER_BYTES: u64 = 16 * 1024 * 1024;
/// and so much more for them.
const EARNED: Duration = Duration::from_secs(1);
/// For all sessions at a time, and the most for one.
const MOST: Duration = Duration::from_secs(3);
/// One part in so many of what passes comes back.
const COMES_BACK: u32 = 10;

/// Of the link.
pub(super) struct OfLink {
    left: Duration,
    since: Instant,
}

/// Of one session.
#[derive(Default)]
pub(super) struct OfSession {
    taken_bytes: u64,
    spent: Duration,
}

/// How long a session may need for so many bytes, without that it counts.
pub(super) fn free(bytes: usize) -> Duration {
    Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / FREE_BYTES_PER_SECOND)
}

impl OfLink {
    pub(super) fn new(now: Instant) -> OfLink {
        OfLink { left: MOST, since: now }
    }

    /// How long it may wait for a session now.
    pub(super) fn with(&mut self, session: &OfSession, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.since);
        self.left = self.left.saturating_add(passed / COMES_BACK).min(MOST);
        self.since = now;
        self.left.min(session.left())
    }

    /// It waited so long, beyond what is free.
    pub(super) fn spend(&mut self, session: &mut OfSession, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
        session.spent = session.spent.saturating_add(waited);
    }
}

impl OfSession {
    /// It took so many bytes.
    pub(super) fn earn(&mut self, bytes: usize) {
        self.taken_bytes = self.taken_bytes.saturating_add(bytes as u64);
    }

    fn left(&self) -> Duration {
        let earned =
            Duration::from_millis(self.taken_bytes.saturating_mul(EARNED.as_millis() as u64) / EARNS_AFTER_BYTES);
        AT_FIRST.saturating_add(earned).saturating_sub(self.spent).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(bytes: usize) -> OfSession {
        let mut session = OfSession::default();
        session.earn(bytes);
        session
    }

    #[test]
    fn who_took_more_is_waited_for_longer_and_nobody_for_ever() {
        let now = Instant::now();
        let mut link = OfLink::new(now);
        assert_eq!(link.with(&took(0), now), AT_FIRST);
        assert_eq!(link.with(&took(16 << 20), now), AT_FIRST + EARNED);
        assert_eq!(link.with(&took(usize::MAX), now), MOST);
        let mut session = took(16 << 20);
        link.spend(&mut session, EARNED);
        assert_eq!(link.with(&session, now), AT_FIRST);
        link.spend(&mut session, EARNED);
        assert_eq!(link.with(&session, now), Duration::ZERO);
    }

    #[test]
    fn who_takes_all_at_a_modest_rate_is_never_given_up() {
        let mut now = Instant::now();
        let mut link = OfLink::new(now);
        let mut sessions = [OfSession::default(), OfSession::default()];
        for round in 0..10_000 {
            let session = &mut sessions[round % 2];
            let (bytes, needed) = (128 * 1024, Duration::from_millis(124));
            assert!(needed <= free(bytes) + link.with(session, now), "{round}");
            link.spend(session, needed.saturating_sub(free(bytes)));
            session.earn(bytes);
            now += needed;
        }
        assert_eq!(link.with(&OfSession::default(), now), AT_FIRST, "nobody else pays for it");
    }

    #[test]
    fn however_many_stand_still_the_others_have_nine_tenths_of_the_time() {
        let began = Instant::now();
        let mut link = OfLink::new(began);
        let (mut now, mut waited) = (began, Duration::ZERO);
        while now < began + Duration::from_secs(600) {
            let mut session = took(usize::MAX);
            let patience = link.with(&session, now);
            link.spend(&mut session, patience);
            waited += patience;
            now += patience + Duration::from_millis(1);
        }
        assert!(waited <= MOST + (now - began) / 9, "{waited:?}");
    }
}
