//! Next hops that refuse everything for good.
//!
//! One device that says 404 to one message ends that message. A row of such verdicts from behind one next hop says
//! something about the hop: it is misconfigured, or lost its registrations. The edge asks here before it believes a
//! permanent verdict: while the breaker is open such verdicts count as the core's, which are temporary.
//!
//! | state | what happens | goes to | the verdict |
//! |---|---|---|---|
//! | closed | a permanent failure, the [`BreakerLimits::row`]th with no more than [`BreakerLimits::within`] after the one before | open | is not believed |
//! | closed | any other permanent failure | closed | is believed |
//! | closed | a success or another end | closed, the row begins anew | |
//! | open | a permanent failure | open, for [`BreakerLimits::open_for`] from now | is not believed |
//! | open | a success or another end | closed | |
//! | open | no verdict for [`BreakerLimits::open_for`] | closed | |
//!
//! No verdict is believed for a trial: what waits is tried again anyhow, a success among it closes, and each verdict that is
//! believed is a message that is lost.

use std::collections::BTreeMap;

use crate::model::{Duration, Timestamp};

/// Bounds of a [`Breaker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// So many permanent failures in a row open it.
    pub row: u32,
    /// How long it stays open after the last of them. More than what lies between two attempts at a message that waits, or
    /// a fault that lasts longer than that loses messages each time.
    pub open_for: Duration,
    /// Failures further apart than this are no row.
    pub within: Duration,
    /// Hops that are remembered; the one that was quiet longest is forgotten.
    pub max_hops: usize,
}

impl Default for BreakerLimits {
    /// For a core that lost its database, for as long as its operator needs. The usual schedules try again after an hour at
    /// the latest.
    fn default() -> BreakerLimits {
        BreakerLimits {
            row: 5,
            open_for: Duration::from_secs(2 * 3600),
            within: Duration::from_secs(300),
            max_hops: 10_000,
        }
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
}

impl Row {
    fn is_open(self, limits: &BreakerLimits, now: Timestamp) -> bool {
        self.failures >= limits.row && self.last_at.after(limits.open_for) > now
    }
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
        let fresh = Row { failures: 0, last_at: now };
        let row = self.hops.entry(hop.clone()).or_insert(fresh);
        if !row.is_open(&self.limits, now) && now.since(row.last_at) > self.limits.within {
            *row = fresh;
        }
        row.failures = row.failures.saturating_add(1);
        row.last_at = now;
    }

    /// Whether permanent failures from behind this hop are not to be believed.
    #[must_use]
    pub fn is_open(&self, now: Timestamp, hop: &Hop) -> bool {
        self.hops.get(hop).is_some_and(|row| row.is_open(&self.limits, now))
    }

    /// Hops that are not to be believed now.
    #[must_use]
    pub fn open(&self, now: Timestamp) -> usize {
        self.hops.values().filter(|row| row.is_open(&self.limits, now)).count()
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

    /// Whether a refusal for good at this second is believed.
    fn is_believed(breaker: &mut Breaker<&'static str>, second: u64) -> bool {
        breaker.record(at(second), &"a", true);
        !breaker.is_open(at(second), &"a")
    }

    fn after_a_row() -> Breaker<&'static str> {
        let mut breaker = Breaker::new(BreakerLimits::default());
        let believed = [0, 1, 2, 3, 4].map(|second| is_believed(&mut breaker, second));
        assert_eq!(believed, [true, true, true, true, false]);
        breaker
    }

    #[test]
    fn a_row_opens_for_this_hop_and_a_success_closes() {
        let mut breaker = after_a_row();
        assert_eq!((breaker.is_open(at(4), &"b"), breaker.open(at(4))), (false, 1));
        breaker.record(at(5), &"a", false);
        assert_eq!((breaker.is_open(at(5), &"a"), breaker.open(at(5))), (false, 0));
        assert!(is_believed(&mut breaker, 6), "the row begins anew");
    }

    /// What waits is tried again, more and more seldom (30 s, 2 min, 10 min, 1 h), and by whoever registers.
    #[test]
    fn no_attempt_at_what_waits_is_believed_while_a_fault_lasts() {
        let mut breaker = after_a_row();
        let mut second = 4;
        for pause in [30, 120, 600, 601, 3600, 1, 3600] {
            second += pause;
            assert!(!is_believed(&mut breaker, second), "{pause} s after the one before");
        }
    }

    #[test]
    fn a_hop_of_which_nothing_was_heard_for_long_is_believed_again() {
        let mut breaker = after_a_row();
        assert!(breaker.is_open(at(4 + 2 * 3600 - 1), &"a"));
        assert!(!breaker.is_open(at(4 + 2 * 3600), &"a"));
        let believed = [0, 1, 2, 3, 4].map(|second| is_believed(&mut breaker, 4 + 2 * 3600 + second));
        assert_eq!(believed, [true, true, true, true, false], "a row of its own");
    }

    #[test]
    fn what_is_far_apart_is_no_row() {
        let mut breaker = Breaker::new(BreakerLimits::default());
        assert!((0..20).all(|number| is_believed(&mut breaker, number * 301)));
        let believed = [0, 300, 600, 900].map(|second| is_believed(&mut breaker, 19 * 301 + second));
        assert_eq!(believed, [true, true, true, false], "with the one before");
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
