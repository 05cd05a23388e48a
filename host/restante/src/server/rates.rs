//! How much came from and for whom lately: approximate, in memory, bounded.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use restante_deferral::model::{CanonicalAddress, TenantName, Timestamp};

const SLICES: usize = 16;
/// Parties remembered per slice; beyond it those that were quiet for an hour are forgotten, then those with the least,
/// until there is room for some time: looking for them takes long.
const MAX_PARTIES: usize = 20_000;
const PARTIES_LEFT: usize = MAX_PARTIES / 10 * 9;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 3_600_000;

/// Whose arrivals are counted.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Party<'a> {
    /// Who sent.
    Sender(&'a TenantName, &'a CanonicalAddress),
    /// In whose domain.
    Tenant(&'a TenantName),
    /// For whom.
    Recipient(&'a TenantName, &'a CanonicalAddress),
}

/// Arrivals per party.
pub struct Rates {
    hashers: [RandomState; 2],
    slices: Vec<Mutex<HashMap<Digest, Arrivals>>>,
}

/// Of a party's name, under keys that nobody knows: names are as long as their senders like.
type Digest = u128;

#[derive(Clone, Copy, Default)]
struct Arrivals {
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
        Rates {
            hashers: [RandomState::new(), RandomState::new()],
            slices: (0..SLICES).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Rates {
    /// Counts an arrival; says how many there were in the last minute and the last hour, this one included.
    pub fn count(&self, party: Party<'_>, now: Timestamp) -> (u32, u32) {
        let party = self.digest(&party);
        let Some(mut parties) = self.slice(party) else { return (0, 0) };
        if parties.len() >= MAX_PARTIES && !parties.contains_key(&party) {
            make_room(&mut parties, now);
        }
        parties.entry(party).or_default().add(now, 1)
    }

    /// How many there were, without one more.
    pub fn look(&self, party: Party<'_>, now: Timestamp) -> (u32, u32) {
        let party = self.digest(&party);
        let parties = self.slice(party);
        parties.and_then(|mut parties| Some(parties.get_mut(&party)?.add(now, 0))).unwrap_or((0, 0))
    }

    fn digest(&self, party: &Party<'_>) -> Digest {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(party)));
        high << 64 | low
    }

    fn slice(&self, party: Digest) -> Option<MutexGuard<'_, HashMap<Digest, Arrivals>>> {
        let slice = self.slices.get(usize::try_from(party % SLICES as u128).unwrap_or(0))?;
        Some(slice.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Forgets who was quiet, then who sent least: a flood of new names must not make anybody forgotten who sends much.
fn make_room(parties: &mut HashMap<Digest, Arrivals>, now: Timestamp) {
    parties.retain(|_, party| party.hour.index.saturating_add(1) >= now.0 / HOUR);
    let mut least = 1_u32;
    while parties.len() > PARTIES_LEFT {
        parties.retain(|_, party| party.hour.current.saturating_add(party.hour.previous) > least);
        least = least.saturating_mul(2);
    }
}

impl Arrivals {
    fn add(&mut self, now: Timestamp, arrivals: u32) -> (u32, u32) {
        (self.minute.add(now, MINUTE, arrivals), self.hour.add(now, HOUR, arrivals))
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

    fn of(name: &str, rate: impl FnOnce(Party<'_>) -> (u32, u32)) -> (u32, u32) {
        rate(Party::Tenant(&TenantName(name.into())))
    }

    #[test]
    fn a_flood_of_names_lets_nobody_forget_who_sends_much() {
        let rates = Rates::default();
        let now = Timestamp(HOUR);
        for _ in 0..5 {
            of("busy", |it| rates.count(it, now));
        }
        for number in 0..2 * SLICES * MAX_PARTIES {
            of(&format!("looked at {number}"), |it| rates.look(it, now));
        }
        assert!(rates.slices.iter().all(|slice| slice.lock().unwrap().len() <= 1), "looking remembers nobody");
        for number in 0..2 * SLICES * MAX_PARTIES {
            of(&format!("flood {number}"), |it| rates.count(it, now));
        }
        assert_eq!(of("busy", |it| rates.look(it, now)), (5, 5));
        assert!(rates.slices.iter().all(|slice| slice.lock().unwrap().len() <= MAX_PARTIES));
    }

    #[test]
    fn where_everybody_sends_room_is_made_seldom() {
        let now = Timestamp(HOUR);
        let digest = |number: usize| number as u128;
        let mut parties = HashMap::new();
        for number in 0..MAX_PARTIES {
            parties.entry(digest(number)).or_insert_with(Arrivals::default).add(now, 2 + number as u32 % 20);
        }
        make_room(&mut parties, now);
        assert!(parties.len() <= PARTIES_LEFT && parties.len() >= MAX_PARTIES / 2, "{}", parties.len());
        assert!(parties.contains_key(&digest(19)), "who sent most");
    }

    #[test]
    fn arrivals_leave_the_windows_in_time() {
        let rates = Rates::default();
        for _ in 0..10 {
            of("a", |it| rates.count(it, Timestamp(HOUR)));
        }
        assert_eq!(of("a", |it| rates.count(it, Timestamp(HOUR))), (11, 11));
        assert_eq!(of("a", |it| rates.look(it, Timestamp(HOUR))), (11, 11), "looking counts nothing");
        assert_eq!(of("b", |it| rates.count(it, Timestamp(HOUR))), (1, 1));
        assert_eq!(
            of("a", |it| rates.count(it, Timestamp(HOUR + MINUTE + MINUTE / 2))),
            (6, 12),
            "half of the minute before counts"
        );
        assert_eq!(of("a", |it| rates.count(it, Timestamp(HOUR + 10 * MINUTE))), (1, 13));
        assert_eq!(of("a", |it| rates.count(it, Timestamp(5 * HOUR))), (1, 1));
    }
}
