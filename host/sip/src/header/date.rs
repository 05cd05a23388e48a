//! SIP-date (RFC 3261 §20.17): `Sat, 13 Nov 2010 23:29:00 GMT`.

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// Seconds since 1970; none when it is no date in GMT.
#[must_use]
pub fn parse_date(text: &str) -> Option<u64> {
    let (weekday, rest) = text.trim().split_once(',')?;
    if !DAYS.contains(&weekday.trim()) {
        return None;
    }
    let mut parts = rest.split_ascii_whitespace();
    let day: u64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let valid = parts.next() == Some("GMT")
        && parts.next().is_none()
        && clock.next().is_none()
        && (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && hour < 24
        && minute < 60
        && second <= 60;
    valid.then(|| (days_since_1970(year, month, day) * 86_400) + hour * 3600 + minute * 60 + second)
}

/// Writes seconds since 1970.
#[must_use]
pub fn write_date(seconds: u64) -> String {
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let weekday = DAYS.get(usize::try_from(days % 7).unwrap_or(0)).unwrap_or(&"Thu");
    let month = MONTHS.get(usize::try_from(month.saturating_sub(1)).unwrap_or(0)).unwrap_or(&"Jan");
    let clock = seconds % 86_400;
    format!("{weekday}, {day:02} {month} {year} {:02}:{:02}:{:02} GMT", clock / 3600, clock / 60 % 60, clock % 60)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, years 1970 to 9999; counted in years that begin in March.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The reverse.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sat, 13 Nov 2010 23:29:00 GMT", 1_289_690_940),
            ("Thu, 29 Feb 2024 12:00:00 GMT", 1_709_208_000),
        ] {
            assert_eq!(parse_date(text), Some(seconds));
            assert_eq!(write_date(seconds), text);
        }
        for wrong in ["", "Fri, 01 Jan 2010 16:00:00 EST", "Sat, 32 Nov 2010 23:29:00 GMT", "13 Nov 2010 23:29:00 GMT"]
        {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn dates_read_back(seconds in 0u64..200_000_000_000) {
            prop_assert_eq!(parse_date(&write_date(seconds)), Some(seconds));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(Sat, )?[0-9A-Za-z: ]{0,40}") {
            let _ = parse_date(&text);
        }
    }
}
