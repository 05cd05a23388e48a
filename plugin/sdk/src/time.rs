//! The recipient's local time: times of day, weekdays and periods, such as an operator writes them into settings.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::types::{Context, Timestamp};

const MINUTE: i64 = 60_000;
const MINUTES_PER_DAY: u16 = 1_440;
const DAY: i64 = 86_400_000;

/// A moment as the recipient's clock shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Milliseconds since 1970-01-01T00:00 of the local clock.
    milliseconds: i64,
    offset_minutes: i16,
}

impl Context {
    /// What the recipient's clock shows; none where its offset from UTC is not known.
    #[must_use]
    pub fn local_time(&self) -> Option<LocalTime> {
        self.recipient.utc_offset_minutes.map(|offset| LocalTime::new(self.now, offset))
    }

    /// What the recipient's clock shows, taken to be this far from UTC where that is not known.
    #[must_use]
    pub fn local_time_or(&self, utc_offset_minutes: i16) -> LocalTime {
        LocalTime::new(self.now, self.recipient.utc_offset_minutes.unwrap_or(utc_offset_minutes))
    }
}

impl LocalTime {
    /// A moment on a clock that is so many minutes ahead of UTC.
    #[must_use]
    pub fn new(moment: Timestamp, utc_offset_minutes: i16) -> LocalTime {
        let utc = i64::try_from(moment).unwrap_or(i64::MAX);
        let milliseconds = utc.saturating_add(i64::from(utc_offset_minutes).saturating_mul(MINUTE));
        LocalTime { milliseconds, offset_minutes: utc_offset_minutes }
    }

    /// The time of day.
    #[must_use]
    pub fn time_of_day(self) -> TimeOfDay {
        let minutes = self.milliseconds.rem_euclid(DAY).div_euclid(MINUTE);
        TimeOfDay { minutes: u16::try_from(minutes).unwrap_or(0) }
    }

    /// The day of the week.
    #[must_use]
    pub fn weekday(self) -> Weekday {
        // 1970-01-01 was a Thursday.
        match self.milliseconds.div_euclid(DAY).rem_euclid(7) {
            0 => Weekday::Thursday,
            1 => Weekday::Friday,
            2 => Weekday::Saturday,
            3 => Weekday::Sunday,
            4 => Weekday::Monday,
            5 => Weekday::Tuesday,
            _ => Weekday::Wednesday,
        }
    }

    /// The next moment, after this one, at which this clock shows that time.
    #[must_use]
    pub fn next(self, time: TimeOfDay) -> Timestamp {
        let midnight = self.milliseconds.div_euclid(DAY).saturating_mul(DAY);
        let today = midnight.saturating_add(i64::from(time.minutes).saturating_mul(MINUTE));
        let next = if today > self.milliseconds { today } else { today.saturating_add(DAY) };
        let utc = next.saturating_sub(i64::from(self.offset_minutes).saturating_mul(MINUTE));
        Timestamp::try_from(utc).unwrap_or(0)
    }
}

/// A day of the week; `"monday"` in settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// A time of day to the minute; `"22:00"` in settings, and two bytes once they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimeOfDay {
    minutes: u16,
}

impl TimeOfDay {
    /// A time of day; hours and minutes wrap around.
    #[must_use]
    pub const fn new(hour: u8, minute: u8) -> TimeOfDay {
        TimeOfDay { minutes: (hour as u16 * 60 + minute as u16) % MINUTES_PER_DAY }
    }

    /// 0 to 23.
    #[must_use]
    pub fn hour(self) -> u16 {
        self.minutes / 60
    }

    /// 0 to 59.
    #[must_use]
    pub fn minute(self) -> u16 {
        self.minutes % 60
    }

    fn parse(text: &str) -> Option<TimeOfDay> {
        let number = |text: &str, most: u8| {
            let number = text.parse::<u8>().ok().filter(|number| *number <= most);
            number.filter(|_| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let (hour, minute) = text.split_once(':')?;
        Some(TimeOfDay::new(number(hour, 23)?, number(minute, 59)?))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}:{:02}", self.hour(), self.minute())
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.minutes.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            TimeOfDay::parse(&text)
                .ok_or_else(|| de::Error::custom("expected a time of day from \"00:00\" to \"23:59\""))
        } else {
            let minutes = u16::deserialize(deserializer)?;
            Ok(TimeOfDay { minutes: minutes % MINUTES_PER_DAY })
        }
    }
}

impl JsonSchema for TimeOfDay {
    fn schema_name() -> Cow<'static, str> {
        "TimeOfDay".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A time of day, such as 22:00.",
            "type": "string",
            "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$",
        })
    }
}

/// A part of the day that may go over midnight: `{"from": "22:00", "until": "07:00"}`. From and until the same time is
/// the whole day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Period {
    /// When it begins.
    pub from: TimeOfDay,
    /// When it is over.
    pub until: TimeOfDay,
}

impl Period {
    /// Whether it is then.
    #[must_use]
    pub fn contains(self, time: TimeOfDay) -> bool {
        if self.from < self.until {
            self.from <= time && time < self.until
        } else {
            self.from <= time || time < self.until
        }
    }

    /// When it is over, if it is now.
    #[must_use]
    pub fn end(self, now: LocalTime) -> Option<Timestamp> {
        self.contains(now.time_of_day()).then(|| now.next(self.until))
    }
}

#[cfg(test)]
mod tests;
