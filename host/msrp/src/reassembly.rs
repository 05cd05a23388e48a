//! Which bytes of a message have come (RFC 4975 §7.3.1): chunks in any order, overlaps allowed.

use thiserror::Error;

use crate::status::Status;

/// Why a chunk does not fit the message it claims to belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReassemblyError {
    /// Two chunks name different totals, or one names less than has come: 400.
    #[error("chunks of one message name different totals")]
    TotalMismatch,
    /// Bytes after the total: 423.
    #[error("bytes after the named total")]
    BeyondTotal,
    /// More bytes than the receiver takes: 413.
    #[error("the message is larger than is taken")]
    TooLarge,
    /// So many holes that keeping count of them is refused: 413.
    #[error("the message has too many holes")]
    TooManyRanges,
}

impl ReassemblyError {
    /// What the chunk is answered.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            ReassemblyError::TotalMismatch => Status::BAD_REQUEST,
            ReassemblyError::BeyondTotal => Status::OUT_OF_BOUNDS,
            ReassemblyError::TooLarge | ReassemblyError::TooManyRanges => Status::STOP_SENDING,
        }
    }
}

/// A set of byte ranges as offsets from 0, ends excluded; neighbours are joined, the number is bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedRanges {
    /// Sorted, disjoint, not touching.
    ranges: Vec<(u64, u64)>,
}

impl ReceivedRanges {
    /// Adds `start..end`; an empty range changes nothing.
    ///
    /// # Errors
    /// [`ReassemblyError::TooManyRanges`] when more than `max_ranges` would be left; the set is unchanged.
    pub fn insert(&mut self, start: u64, end: u64, max_ranges: usize) -> Result<(), ReassemblyError> {
        if start >= end {
            return Ok(());
        }
        let from = self.ranges.partition_point(|&(_, range_end)| range_end < start);
        let to = self.ranges.partition_point(|&(range_start, _)| range_start <= end);
        let joined = self.ranges.get(from..to).unwrap_or_default();
        if joined.is_empty() && self.ranges.len() >= max_ranges {
            return Err(ReassemblyError::TooManyRanges);
        }
        let start = joined.first().map_or(start, |&(first, _)| first.min(start));
        let end = joined.last().map_or(end, |&(_, last)| last.max(end));
        self.ranges.splice(from..to, [(start, end)]);
        Ok(())
    }

    /// How many bytes of `start..end` have not come.
    #[must_use]
    pub fn missing(&self, start: u64, end: u64) -> u64 {
        let from = self.ranges.partition_point(|&(_, range_end)| range_end <= start);
        let inside = self.ranges.iter().skip(from).take_while(|&&(range_start, _)| range_start < end);
        let come = inside.map(|&(first, last)| last.min(end).saturating_sub(first.max(start)));
        come.fold(end.saturating_sub(start), u64::saturating_sub)
    }

    /// Whether every byte of `0..total` has come.
    #[must_use]
    pub fn covers(&self, total: u64) -> bool {
        total == 0 || matches!(self.ranges.first(), Some(&(0, end)) if end >= total)
    }

    /// How many bytes from offset 0 on have come without a hole.
    #[must_use]
    pub fn contiguous_bytes(&self) -> u64 {
        match self.ranges.first() {
            Some(&(0, end)) => end,
            _ => 0,
        }
    }

    /// The offset after the last byte that has come.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |&(_, end)| end)
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether nothing has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// What is known of a message that is coming in. The bytes themselves are the host's to keep, written at their offsets.
#[derive(Clone, Debug)]
pub struct Reassembly {
    ranges: ReceivedRanges,
    total: Option<u64>,
    max_ranges: usize,
    max_bytes: u64,
}

impl Reassembly {
    /// Nothing received yet. `max_bytes`: larger messages are refused; `max_ranges`: more pieces than that are refused.
    #[must_use]
    pub fn new(max_bytes: u64, max_ranges: usize) -> Reassembly {
        Reassembly { ranges: ReceivedRanges::default(), total: None, max_ranges, max_bytes }
    }

    /// Bytes of the whole message, once a chunk said so.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// What has come so far.
    #[must_use]
    pub fn ranges(&self) -> &ReceivedRanges {
        &self.ranges
    }

    /// Takes note of the total that a chunk names.
    ///
    /// # Errors
    /// [`ReassemblyError::TotalMismatch`], [`ReassemblyError::TooLarge`].
    pub fn note_total(&mut self, total: u64) -> Result<(), ReassemblyError> {
        if self.total.is_some_and(|known| known != total) || self.ranges.end() > total {
            return Err(ReassemblyError::TotalMismatch);
        }
        if total > self.max_bytes {
            return Err(ReassemblyError::TooLarge);
        }
        self.total = Some(total);
        Ok(())
    }

    /// The total is less than was said. Bytes beyond it that have come keep it as it was.
    pub fn shorten(&mut self, total: u64) {
        if self.total.is_some_and(|known| total < known) && self.ranges.end() <= total {
            self.total = Some(total);
        }
    }

    /// Whether bytes up to `end` (an offset, excluded) may come.
    ///
    /// # Errors
    /// [`ReassemblyError::BeyondTotal`], [`ReassemblyError::TooLarge`].
    pub fn check_end(&self, end: u64) -> Result<(), ReassemblyError> {
        if self.total.is_some_and(|total| end > total) {
            Err(ReassemblyError::BeyondTotal)
        } else if end > self.max_bytes {
            Err(ReassemblyError::TooLarge)
        } else {
            Ok(())
        }
    }

    /// Takes note that `start..end` has come.
    ///
    /// # Errors
    /// As [`Reassembly::check_end`], and [`ReassemblyError::TooManyRanges`].
    pub fn insert(&mut self, start: u64, end: u64) -> Result<(), ReassemblyError> {
        self.check_end(end)?;
        self.ranges.insert(start, end, self.max_ranges)
    }

    /// Whether the total is known and every byte of it has come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.total.is_some_and(|total| self.ranges.covers(total))
    }
}
