use std::collections::BTreeMap;

use thiserror::Error;

use super::Nonce;

/// Counts below the highest one that may still come, for requests that overtake each other.
const WINDOW: u32 = 64;

/// Why a nonce count is not taken. Answered with a new challenge that says `stale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CountError {
    /// It was used, or is so far below the highest that this is not known any more.
    #[error("the nonce count was used before")]
    Repeated,
    /// The nonce is older than what is remembered.
    #[error("the nonce is older than those that are remembered")]
    Forgotten,
}

/// Which counts of which nonces were used (RFC 7616 §3.4 and §5.5). Only nonces that somebody with the right password
/// used are in it.
///
/// Bounded: when it is full, the nonce that was issued first is forgotten, and with it every one issued before. None of those
/// is taken again, so that nothing that was used can be used a second time; whoever still has one is given a new one.
#[derive(Debug)]
pub struct NonceCounts {
    max_nonces: usize,
    used: BTreeMap<Issued, Used>,
    forgotten_through: Option<Issued>,
}

/// Order in which nonces were issued.
type Issued = (u64, u64);

#[derive(Debug)]
struct Used {
    highest: u32,
    /// Bit `n`: `highest - n` was used.
    lately: u64,
}

impl NonceCounts {
    /// For so many nonces, at least one.
    #[must_use]
    pub fn new(max_nonces: usize) -> NonceCounts {
        NonceCounts { max_nonces: max_nonces.max(1), used: BTreeMap::new(), forgotten_through: None }
    }

    /// Notes that a count is used.
    ///
    /// # Errors
    /// [`CountError`]
    pub fn note(&mut self, nonce: &Nonce, count: u32, now: u64, lifetime_milliseconds: u64) -> Result<(), CountError> {
        while let Some((issued, _)) = self.used.first_key_value()
            && issued.0.saturating_add(lifetime_milliseconds) < now
        {
            self.forget_first();
        }
        let issued = (nonce.issued_at, nonce.number);
        if let Some(used) = self.used.get_mut(&issued) {
            return used.note(count);
        }
        if count == 0 {
            return Err(CountError::Repeated);
        }
        let is_full = self.used.len() >= self.max_nonces;
        let is_first = || self.used.first_key_value().is_some_and(|(first, _)| issued < *first);
        // One that would be the next to be forgotten makes no room for itself.
        if self.forgotten_through.is_some_and(|through| issued <= through) || (is_full && is_first()) {
            return Err(CountError::Forgotten);
        }
        if is_full {
            self.forget_first();
        }
        self.used.insert(issued, Used { highest: count, lately: 1 });
        Ok(())
    }

    /// How many nonces are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    fn forget_first(&mut self) {
        if let Some((issued, _)) = self.used.pop_first() {
            self.forgotten_through = self.forgotten_through.max(Some(issued));
        }
    }
}

impl Used {
    fn note(&mut self, count: u32) -> Result<(), CountError> {
        if let Some(ahead) = count.checked_sub(self.highest).filter(|ahead| *ahead > 0) {
            self.lately = self.lately.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return Ok(());
        }
        let behind = self.highest.saturating_sub(count);
        let bit = 1u64.checked_shl(behind).filter(|bit| behind < WINDOW && count > 0 && self.lately & bit == 0);
        self.lately |= bit.ok_or(CountError::Repeated)?;
        Ok(())
    }
}
