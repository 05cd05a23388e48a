//! A row of refusals for good behind one next hop says something about the hop, not about its users: a core that lost its
//! database answers 404 to everything.

use std::collections::HashMap;
use std::net::SocketAddr;

use restante_deferral::model::Timestamp;

/// Refusals in a row that open the breaker of a hop.
const REFUSALS: u32 = 5;
/// How long a hop's refusals then count as the hop's.
const OPEN_MILLISECONDS: u64 = 600_000;
/// Hops remembered.
const MAX_HOPS: usize = 10_000;

/// What each hop did lately.
#[derive(Debug, Default)]
pub struct Hops {
    hops: HashMap<SocketAddr, Hop>,
}

#[derive(Debug, Default)]
struct Hop {
    refusals: u32,
    open_until: Timestamp,
}

impl Hops {
    /// Notes a final answer through a hop. True: its refusals are not to be believed now.
    pub fn note(&mut self, now: Timestamp, hop: SocketAddr, refused_for_good: bool) -> bool {
        if !refused_for_good {
            self.hops.remove(&hop);
            return false;
        }
        if self.hops.len() >= MAX_HOPS && !self.hops.contains_key(&hop) {
            self.hops.retain(|_, known| known.open_until > now);
            if self.hops.len() >= MAX_HOPS {
                self.hops.clear();
            }
        }
        let known = self.hops.entry(hop).or_default();
        known.refusals = known.refusals.saturating_add(1);
        if known.refusals >= REFUSALS {
            known.open_until = Timestamp(now.0.saturating_add(OPEN_MILLISECONDS));
        }
        known.open_until > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_refusals_is_the_hops_until_it_answers_well() {
        let (mut hops, hop, other) =
            (Hops::default(), "192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5060".parse().unwrap());
        let believed: Vec<bool> = (0..6).map(|_| !hops.note(Timestamp(1), hop, true)).collect();
        assert_eq!(believed, [true, true, true, true, false, false]);
        assert!(!hops.note(Timestamp(1), other, true), "another hop is not touched");
        assert!(!hops.note(Timestamp(2), hop, false));
        assert!(!hops.note(Timestamp(3), hop, true), "it begins anew after a good answer");
    }
}
