//! The Byte-Range header field (RFC 4975 §7.1, §9).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::status::Status;

/// Why a Byte-Range cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ByteRangeError {
    /// Not `start-end/total`: 400.
    #[error("Byte-Range is not start-end/total")]
    Malformed,
    /// The numbers contradict each other, such as an end after the total: 423.
    #[error("the numbers of Byte-Range contradict each other")]
    OutOfBounds,
}

impl ByteRangeError {
    /// What a request with it is answered.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            ByteRangeError::Malformed => Status::BAD_REQUEST,
            ByteRangeError::OutOfBounds => Status::OUT_OF_BOUNDS,
        }
    }
}

/// `start-end/total` in bytes, the first byte being 1; `*` where unknown. An empty range ends one before its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// Position of the first byte, from 1.
    pub start: u64,
    /// Position of the last byte. Of a chunk that may be interrupted it is unknown; a receiver never relies on it (§7.1.1).
    pub end: Option<u64>,
    /// Bytes of the whole message.
    pub total: Option<u64>,
}

impl ByteRange {
    /// What a request without the header field means: from the first byte, the rest unknown.
    pub const UNSTATED: ByteRange = ByteRange { start: 1, end: None, total: None };

    /// All of a message of `total` bytes.
    #[must_use]
    pub fn whole(total: u64) -> ByteRange {
        ByteRange { start: 1, end: Some(total), total: Some(total) }
    }

    /// Offset of the first byte, from 0.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.start.saturating_sub(1)
    }
}

impl FromStr for ByteRange {
    type Err = ByteRangeError;

    fn from_str(text: &str) -> Result<ByteRange, ByteRangeError> {
        let (range, total) = text.split_once('/').ok_or(ByteRangeError::Malformed)?;
        let (start, end) = range.split_once('-').ok_or(ByteRangeError::Malformed)?;
        let start = parse_number(start.trim())?;
        let end = parse_number_or_star(end.trim())?;
        let total = parse_number_or_star(total.trim())?;
        let before_start = start.checked_sub(1).ok_or(ByteRangeError::OutOfBounds)?;
        let ends_early = end.is_some_and(|end| end < before_start);
        let starts_late = total.is_some_and(|total| before_start > total);
        let ends_late = matches!((end, total), (Some(end), Some(total)) if end > total);
        if ends_early || starts_late || ends_late {
            return Err(ByteRangeError::OutOfBounds);
        }
        Ok(ByteRange { start, end, total })
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-", self.start)?;
        match self.end {
            Some(end) => write!(formatter, "{end}/")?,
            None => formatter.write_str("*/")?,
        }
        match self.total {
            Some(total) => write!(formatter, "{total}"),
            None => formatter.write_str("*"),
        }
    }
}

fn parse_number(text: &str) -> Result<u64, ByteRangeError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ByteRangeError::Malformed);
    }
    // All digits, so what fails is a number that no message can have.
    text.parse().map_err(|_| ByteRangeError::OutOfBounds)
}

fn parse_number_or_star(text: &str) -> Result<Option<u64>, ByteRangeError> {
    if text == "*" { Ok(None) } else { parse_number(text).map(Some) }
}
