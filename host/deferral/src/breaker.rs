//! Next hops that refuse everything for good.
//!
//! One device that says 404 to one message ends that message. A row of such verdicts from behind one next hop says
//! something about the hop: it is misconfigured, or lost its registrations. The edge asks here before it believes a
//! permanent verdict: while the breaker is open such verdicts count as the core's, which are temporary.
//!
//! | state | what happens | goes to |
//! |---|---|---|
//! | closed | a permanent failure | closed; open after [`BreakerLimits::row`] without a success in between |
//! | closed, open | a success or another end | closed |
//! | open | [`BreakerLimits::open_for`] passes | half open: one verdict is believed |
//! | half open | a permanent failure | open |

use std::collections::BTreeMap;

use crate::model::{Duration, Timestamp};

/// Bounds of a [`Breaker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// So many permanent failures in a row open it.
    pub row: u32,
    /// How long it stays open.
    pub open_for: Duration,
    /// Failures further apart than this are no row.
    pub within: Duration,
    /// Hops that are remembered; the one that was quiet longest is forgotten.
    pub max_hops: usize,
}

impl Default for BreakerLimits {
    fn default() -> BreakerLimits {
        BreakerLimits { row: 5, open_for: Duration::from_secs(60), within: Duration::from_secs(300), max_hops: 1024 }
    }
}

/// Breakers, one per next hop. `Hop` is whatever names one: an address and a transport.
#[derive(Clone, Debug)]
pub struct Breaker<Hop> {
    limits: BreakerLimits,
    hops: BTreeMap<Hop, Row>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    failures: u32,
    last_at: Timestamp,
    open_until: Timestamp,
}

impl<Hop: Ord + Clone> Breaker<Hop> {
    /// All closed.
    #[must_use]
    pub fn new(limits: BreakerLimits) -> Breaker<Hop> {
        Breaker { limits, hops: BTreeMap::new() }
    }

    /// What came from behind this hop: a permanent failure, or anything else that shows that it works.
    pub fn record(&mut self, now: Timestamp, hop: &Hop, permanent: bool) {
        if !permanent {
            self.hops.remove(hop);
            return;
        }
        if !self.hops.contains_key(hop) {
            self.make_room();
        }
        let fresh = Row { failures: 0, last_at: now, open_until: Timestamp::default() };
        let row = self.hops.entry(hop.clone()).or_insert(fresh);
        if now.since(row.last_at) > self.limits.within {
            *row = fresh;
        }
        row.failures = row.failures.saturating_add(1);
        row.last_at = now;
        if row.failures >= self.limits.row {
            row.open_until = now.after(self.limits.open_for);
        }
    }

    /// Whether permanent failures from behind this hop are not to be believed.
    #[must_use]
    pub fn is_open(&self, now: Timestamp, hop: &Hop) -> bool {
        self.hops.get(hop).is_some_and(|row| row.open_until > now)
    }

    /// Hops that are not to be believed now.
    #[must_use]
    pub fn open(&self, now: Timestamp) -> usize {
        self.hops.values().filter(|row| row.open_until > now).count()
    }

    fn make_room(&mut self) {
        while self.hops.len() >= self.limits.max_hops.max(1) {
            let Some(quietest) = self.hops.iter().min_by_key(|(_, row)| row.last_at).map(|(hop, _)| hop.clone()) else {
                return;
            };
            self.hops.remove(&quietest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_000_000 + seconds * 1000)
    }

    #[test]
    fn a_row_opens_and_time_closes() {
        let mut breaker = Breaker::new(BreakerLimits { row: 3, ..BreakerLimits::default() });
        for second in 0..2 {
            breaker.record(at(second), &"a", true);
            assert!(!breaker.is_open(at(second), &"a"));
        }
        breaker.record(at(2), &"a", true);
        assert!(breaker.is_open(at(2), &"a") && breaker.is_open(at(61), &"a"));
        assert!(!breaker.is_open(at(2), &"b"));
        assert!(!breaker.is_open(at(62), &"a"));
        // Half open: the next verdict of that kind opens it again.
        breaker.record(at(63), &"a", true);
        assert!(breaker.is_open(at(64), &"a"));
        breaker.record(at(65), &"a", false);
        assert!(!breaker.is_open(at(65), &"a"));
    }

    #[test]
    fn what_is_far_apart_is_no_row() {
        let mut breaker = Breaker::new(BreakerLimits { row: 2, ..BreakerLimits::default() });
        breaker.record(at(0), &"a", true);
        breaker.record(at(400), &"a", true);
        assert!(!breaker.is_open(at(400), &"a"));
        breaker.record(at(401), &"a", true);
        assert_eq!(breaker.open(at(401)), 1);
    }

    #[test]
    fn it_remembers_so_many_hops_and_no_more() {
        let mut breaker = Breaker::new(BreakerLimits { max_hops: 10, row: 1, ..BreakerLimits::default() });
        for hop in 0..1000_u64 {
            breaker.record(at(hop), &hop, true);
            assert!(breaker.is_open(at(hop), &hop));
        }
        assert_eq!(breaker.hops.len(), 10);
        assert!(breaker.is_open(at(999), &999));
    }
}
