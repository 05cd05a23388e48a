//! Whether what comes in comes fast enough. A byte now and then is no silence, and would hold a session for ever.

use std::time::Instant;

use super::SessionLimits;

/// Bytes of the peer while part of something has come and the rest is awaited: a head, a chunk, a message. While it is a
/// message, only bytes of messages that had not come yet.
///
/// | state | on | goes to |
/// |---|---|---|
/// | at rest | part of something | a period of [`SessionLimits::slow_period`] |
/// | a period | nothing is awaited any more | at rest |
/// | a period | its end, with as much as [`SessionLimits::min_bytes_per_second`] asks for | the next period |
/// | a period | its end, with less | the session ends |
/// | a period | the host did not read | a period from now on |
#[derive(Debug, Default)]
pub(super) struct Pace(Option<Period>);

#[derive(Debug)]
struct Period {
    began: Instant,
    bytes: u64,
}

impl Pace {
    /// So many bytes that count came, and after them the rest of something is awaited or nothing.
    pub(super) fn came(&mut self, now: Instant, bytes: u64, is_amid: bool) {
        if !is_amid {
            self.0 = None;
            return;
        }
        let period = self.0.get_or_insert(Period { began: now, bytes: 0 });
        period.bytes = period.bytes.saturating_add(bytes);
    }

    /// What did not come until now was not the peer's doing.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        if let Some(period) = &mut self.0 {
            *period = Period { began: now, bytes: 0 };
        }
    }

    /// When the period ends.
    pub(super) fn next_wake(&self, limits: &SessionLimits) -> Option<Instant> {
        self.0.as_ref().map(|period| period.began + limits.slow_period)
    }

    /// Whether a period is over that brought too little. One that brought enough is followed by the next.
    pub(super) fn is_too_slow(&mut self, now: Instant, limits: &SessionLimits) -> bool {
        let Some(period) = &mut self.0 else { return false };
        if period.began + limits.slow_period > now {
            return false;
        }
        let needed = limits.min_bytes_per_second.saturating_mul(limits.slow_period.as_secs());
        let is_too_slow = period.bytes < needed;
        *period = Period { began: now, bytes: 0 };
        is_too_slow
    }
}
