//! Places that did not work.
//!
//! | what happens at a place | its mark |
//! |---|---|
//! | something fails, there is none | as long as the first is |
//! | something fails while it has one | the same: that was under way already, or had nowhere else to go |
//! | something fails after it ended | twice as long as the one before, up to the longest |
//! | it answers 503, there is none | as long as the first is, and not longer the next time: it is there, and who forwards the 503 of somebody behind it may be well |
//! | it answers anything else, but for 100 | none, and the next is as long as the first |
//!
//! A message is tried again after half a minute at the earliest: a mark lasts longer than that, or it would change nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Bounds of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkLimits {
    /// Places that are marked; of more the failures are not noted.
    pub max_marks: usize,
    /// The first mark of a place.
    pub first: Duration,
    /// No mark is longer. A mark that ended longer ago than this is forgotten.
    pub longest: Duration,
}

/// The places that are marked.
#[derive(Debug, Default)]
pub(super) struct Marks(HashMap<SocketAddr, Mark>);

#[derive(Debug)]
struct Mark {
    failed_at: Instant,
    lasts: Duration,
    until: Instant,
}

impl Default for MarkLimits {
    fn default() -> MarkLimits {
        MarkLimits { max_marks: 10_000, first: Duration::from_secs(120), longest: Duration::from_secs(2 * 3_600) }
    }
}

impl Marks {
    /// Something failed there.
    pub(super) fn failed(&mut self, place: SocketAddr, now: Instant, limits: &MarkLimits) {
        if let Some(mark) = self.0.get_mut(&place).filter(|mark| now < mark.until + limits.longest) {
            if mark.until <= now {
                mark.lasts = mark.lasts.saturating_mul(2).min(limits.longest);
                mark.until = now + mark.lasts;
            }
            mark.failed_at = now;
            return;
        }
        if self.0.len() >= limits.max_marks {
            self.0.retain(|_, mark| now < mark.until + limits.longest);
        }
        if self.0.len() < limits.max_marks || self.0.contains_key(&place) {
            let lasts = limits.first;
            self.0.insert(place, Mark { failed_at: now, lasts, until: now + lasts });
        }
    }

    /// It does not serve now.
    pub(super) fn busy(&mut self, place: SocketAddr, now: Instant, limits: &MarkLimits) {
        match self.0.get_mut(&place) {
            Some(mark) if mark.until <= now => {
                mark.failed_at = now;
                mark.until = now + limits.first;
            }
            Some(mark) => mark.failed_at = now,
            None => self.failed(place, now, limits),
        }
    }

    /// It answered.
    pub(super) fn answered(&mut self, place: SocketAddr) {
        self.0.remove(&place);
    }

    /// When something failed at a place that is marked.
    pub(super) fn failed_at(&self, place: SocketAddr, now: Instant) -> Option<Instant> {
        self.0.get(&place).filter(|mark| now < mark.until).map(|mark| mark.failed_at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
