//! Credentials that were accepted lately, so that an answer may say that their password is known here.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Most that are remembered; the oldest is forgotten, and its answer says nothing of the password.
const MAX_ACCEPTED: usize = 8192;

/// Hashes of credentials and of the tenant that accepted them. Its room is taken at the start, so that what is held
/// does not grow for the first hours.
pub(super) struct Accepted(Mutex<(HashSet<u64>, VecDeque<u64>)>);

impl Default for Accepted {
    fn default() -> Accepted {
        // One more than remain, for the moment between.
        let room = MAX_ACCEPTED + 1;
        Accepted(Mutex::new((HashSet::with_capacity(room), VecDeque::with_capacity(room))))
    }
}

impl Accepted {
    pub(super) fn note(&self, credentials: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (accepted, order) = &mut *known;
        if accepted.insert(credentials) {
            order.push_back(credentials);
        }
        if order.len() > MAX_ACCEPTED
            && let Some(oldest) = order.pop_front()
        {
            accepted.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, credentials: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.contains(&credentials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let accepted = Accepted::default();
        let most = MAX_ACCEPTED as u64;
        (0..most).chain([0]).for_each(|number| accepted.note(number));
        assert!(accepted.contains(0) && accepted.contains(most - 1) && !accepted.contains(most));
        accepted.note(most);
        assert!(!accepted.contains(0) && accepted.contains(1) && accepted.contains(most));
    }
}
