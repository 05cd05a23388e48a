use super::*;
use crate::testing;

/// 2023-11-14T22:13:20Z, a Tuesday.
const MOMENT: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;

#[test]
fn a_clock_shows_its_own_day() {
    let cases = [
        (0, "22:13", Weekday::Tuesday),
        (60, "23:13", Weekday::Tuesday),
        (120, "00:13", Weekday::Wednesday),
        (-23 * 60, "23:13", Weekday::Monday),
        (345, "03:58", Weekday::Wednesday),
    ];
    for (offset, time, weekday) in cases {
        let local = LocalTime::new(MOMENT, offset);
        assert_eq!((local.time_of_day().to_string().as_str(), local.weekday()), (time, weekday), "{offset}");
    }
    let before = LocalTime::new(0, -60);
    assert_eq!((before.time_of_day(), before.weekday()), (TimeOfDay::new(23, 0), Weekday::Wednesday));
}

#[test]
fn the_next_moment_is_never_now() {
    let local = LocalTime::new(22 * HOUR, 60);
    assert_eq!(local.next(TimeOfDay::new(23, 0)), 46 * HOUR);
    assert_eq!(local.next(TimeOfDay::new(23, 1)), 22 * HOUR + 60_000);
    assert_eq!(local.next(TimeOfDay::new(7, 0)), 30 * HOUR);
    assert!(LocalTime::new(u64::MAX, 1_440).next(TimeOfDay::new(0, 0)) > u64::MAX / 4);
    assert_eq!(LocalTime::new(0, i16::MIN).next(TimeOfDay::new(0, 0)), 1_088 * 60_000);
}

#[test]
fn a_period_may_go_over_midnight() {
    let night = Period { from: TimeOfDay::new(22, 0), until: TimeOfDay::new(7, 0) };
    let lunch = Period { from: TimeOfDay::new(12, 0), until: TimeOfDay::new(13, 30) };
    for (hour, minute, at_night, at_lunch) in [
        (21, 59, false, false),
        (22, 0, true, false),
        (6, 59, true, false),
        (7, 0, false, false),
        (13, 29, false, true),
    ] {
        let time = TimeOfDay::new(hour, minute);
        assert_eq!((night.contains(time), lunch.contains(time)), (at_night, at_lunch), "{time}");
    }
    assert_eq!(night.end(LocalTime::new(23 * HOUR, 0)), Some(31 * HOUR));
    assert_eq!(night.end(LocalTime::new(29 * HOUR, 60)), Some(30 * HOUR));
    assert_eq!(night.end(LocalTime::new(12 * HOUR, 0)), None);
    let always = Period { from: TimeOfDay::new(0, 0), until: TimeOfDay::new(0, 0) };
    assert!(always.contains(TimeOfDay::new(0, 0)) && always.contains(TimeOfDay::new(23, 59)));
}

#[test]
fn a_recipient_without_an_offset_has_no_clock() {
    let mut context = testing::context();
    assert_eq!(context.local_time(), None);
    assert_eq!(context.local_time_or(60).time_of_day().hour(), 23);
    context.recipient.utc_offset_minutes = Some(120);
    assert_eq!(context.local_time(), Some(LocalTime::new(context.now, 120)));
    assert_eq!(context.local_time_or(60).time_of_day().hour(), 0);
}

#[test]
fn times_of_day_are_read_as_they_are_written() {
    let time: TimeOfDay = serde_json::from_str("\"07:30\"").unwrap();
    assert_eq!((time, serde_json::to_string(&time).unwrap().as_str()), (TimeOfDay::new(7, 30), "\"07:30\""));
    for wrong in ["24:00", "07:60", "7:30", "07:3", "0730", "+7:30", "", "07:30:00", "-1:30"] {
        assert!(serde_json::from_str::<TimeOfDay>(&format!("\"{wrong}\"")).is_err(), "{wrong}");
    }
    let bytes = postcard::to_allocvec(&time).unwrap();
    assert_eq!((postcard::from_bytes(&bytes), bytes.len()), (Ok(time), 2));
}
