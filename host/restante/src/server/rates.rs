//! How much came from and for whom lately: approximate, in memory, bounded.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use restante_deferral::model::Timestamp;

const SLICES: usize = 16;
/// Parties remembered per slice; beyond it those that were quiet for an hour are forgotten, then all.
const MAX_PARTIES: usize = 20_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 3_600_000;

/// Arrivals per party.
pub struct Rates {
    hasher: RandomState,
    slices: Vec<Mutex<HashMap<String, Party>>>,
}

#[derive(Clone, Copy, Default)]
struct Party {
    minute: Window,
    hour: Window,
}

/// Two neighbouring intervals; the sliding count takes the earlier one in proportion.
#[derive(Clone, Copy, Default)]
struct Window {
    index: u64,
    current: u32,
    previous: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Rates { hasher: RandomState::new(), slices: (0..SLICES).map(|_| Mutex::default()).collect() }
    }
}

impl Rates {
    /// Counts an arrival; says how many there were in the last minute and the last hour, this one included.
    pub fn count(&self, party: &str, now: Timestamp) -> (u32, u32) {
        self.add(party, now, 1)
    }

    /// How many there were, without one more.
    pub fn look(&self, party: &str, now: Timestamp) -> (u32, u32) {
        self.add(party, now, 0)
    }

    fn add(&self, party: &str, now: Timestamp, arrivals: u32) -> (u32, u32) {
        let slice = usize::try_from(self.hasher.hash_one(party) % SLICES as u64).unwrap_or(0);
        let Some(slice) = self.slices.get(slice) else { return (0, 0) };
        let mut parties = slice.lock().unwrap_or_else(PoisonError::into_inner);
        if parties.len() >= MAX_PARTIES && !parties.contains_key(party) {
            parties.retain(|_, party| party.hour.index.saturating_add(1) >= now.0 / HOUR);
            if parties.len() >= MAX_PARTIES {
                parties.clear();
            }
        }
        if !parties.contains_key(party) {
            parties.insert(party.to_owned(), Party::default());
        }
        let Some(known) = parties.get_mut(party) else { return (0, 0) };
        (known.minute.add(now, MINUTE, arrivals), known.hour.add(now, HOUR, arrivals))
    }
}

impl Window {
    fn add(&mut self, now: Timestamp, length: u64, arrivals: u32) -> u32 {
        let index = now.0 / length;
        if index != self.index {
            self.previous = if index == self.index.saturating_add(1) { self.current } else { 0 };
            self.current = 0;
            self.index = index;
        }
        self.current = self.current.saturating_add(arrivals);
        let left = length - now.0 % length;
        let share = u64::from(self.previous).saturating_mul(left) / length;
        self.current.saturating_add(u32::try_from(share).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_leave_the_windows_in_time() {
        let rates = Rates::default();
        for _ in 0..10 {
            rates.count("a", Timestamp(HOUR));
        }
        assert_eq!(rates.count("a", Timestamp(HOUR)), (11, 11));
        assert_eq!(rates.look("a", Timestamp(HOUR)), (11, 11), "looking counts nothing");
        assert_eq!(rates.count("b", Timestamp(HOUR)), (1, 1));
        assert_eq!(
            rates.count("a", Timestamp(HOUR + MINUTE + MINUTE / 2)),
            (6, 12),
            "half of the minute before counts"
        );
        assert_eq!(rates.count("a", Timestamp(HOUR + 10 * MINUTE)), (1, 13));
        assert_eq!(rates.count("a", Timestamp(5 * HOUR)), (1, 1));
    }
}
