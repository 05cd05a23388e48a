//! Times as the administration interface writes them: RFC 3339, in UTC.

use restante_deferral::model::Timestamp;

/// To the second.
#[must_use]
pub fn to_the_second(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "never".to_owned(), |time| time.to_string())
}

/// With milliseconds, for what comes in quick succession.
#[must_use]
pub fn to_the_millisecond(at: Timestamp) -> String {
    let milliseconds = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| "never".to_owned(), |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_one_form_and_have_no_end() {
        let at = Timestamp(1_764_259_200_070);
        assert_eq!(to_the_second(at), "2025-11-27T16:00:00Z");
        assert_eq!(to_the_millisecond(at), "2025-11-27T16:00:00.070Z");
        assert_eq!([to_the_second, to_the_millisecond].map(|of| of(Timestamp(u64::MAX))), ["never", "never"]);
    }
}
