//! Whole numbers, and what is said of other values: a type of the programming language means nothing to an operator.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// The largest number of a limit: its seconds fit into milliseconds, and SQLite can hold it.
pub(super) const MOST: u64 = i64::MAX as u64 / 1000;

/// What a limit has to be.
pub(super) fn expected_limit() -> String {
    format!("expected a whole number from 1 to {MOST}")
}

/// Whether it can be a limit.
pub(super) fn can_be_limit(value: u64) -> bool {
    (1..=MOST).contains(&value)
}

struct WholeNumber(u64);

struct WholeNumberVisitor;

impl Visitor<'_> for WholeNumberVisitor {
    type Value = WholeNumber;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a whole number")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<WholeNumber, E> {
        Ok(WholeNumber(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<WholeNumber, E> {
        let invalid = |_| E::invalid_value(Unexpected::Signed(value), &self);
        u64::try_from(value).map(WholeNumber).map_err(invalid)
    }
}

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(WholeNumberVisitor)
    }
}

/// For `deserialize_with`.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    WholeNumber::deserialize(deserializer).map(|it| it.0)
}

/// The same where there may be none.
pub(super) fn whole_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<WholeNumber>::deserialize(deserializer)?.map(|it| it.0))
}

/// The same for what is smaller; what does not fit is too large in any case.
pub(super) fn small<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    whole(deserializer).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
}
