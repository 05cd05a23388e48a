//! Leaves recipients alone in their quiet hours, by their own clocks. Messages wait for the end of the quiet hours;
//! urgent ones and dispositions go at once, and a client that asks gets everything.

use restante_policy_sdk::{
    Availability, Context, Declined, HostAbilities, MessageKind, Period, Plan, Planner, Policy, Problems, TimeOfDay,
    Timestamp, Usual, Ways, Weekday,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When recipients are left alone.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// The quiet hours.
    quiet: Period,
    /// Other quiet hours on mornings and evenings of Saturday and Sunday.
    weekend: Option<Period>,
    /// Offset from UTC of recipients who did not say theirs.
    #[schemars(range(min = -1440, max = 1440))]
    utc_offset_minutes: i16,
    /// Messages of at least this priority do not wait.
    urgent_priority: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            quiet: Period { from: TimeOfDay::new(22, 0), until: TimeOfDay::new(7, 0) },
            weekend: None,
            utc_offset_minutes: 0,
            urgent_priority: 200,
        }
    }
}

impl Settings {
    /// The end of the quiet hours, if they are now.
    fn quiet_until(&self, context: &Context) -> Option<Timestamp> {
        let now = context.local_time_or(self.utc_offset_minutes);
        let quiet = match now.weekday() {
            Weekday::Saturday | Weekday::Sunday => self.weekend.unwrap_or(self.quiet),
            _ => self.quiet,
        };
        quiet.end(now)
    }
}

struct QuietHours;

impl Policy for QuietHours {
    type Settings = Settings;

    fn check(settings: &Settings, _: &HostAbilities, problems: &mut Problems) {
        for (pointer, period) in [("/quiet", Some(settings.quiet)), ("/weekend", settings.weekend)] {
            if period.is_some_and(|period| period.from == period.until) {
                problems.warning(pointer, "is the whole day: nothing is sent unless it is urgent or asked for");
            }
        }
    }

    fn on_available(settings: &Settings, context: &Context, availability: &Availability) -> Result<Plan, Declined> {
        let usual = Usual::of(&context.recipient);
        let Some(morning) = settings.quiet_until(context) else {
            return Ok(usual.on_available(context, availability));
        };
        let mut plan = Planner::new(Ways::of(context, &availability.contacts).sharing());
        let (sleeping, urgent): (Vec<_>, Vec<_>) = availability
            .messages
            .iter()
            .partition(|message| message.kind == MessageKind::Message && message.priority < settings.urgent_priority);
        usual.place(context, availability, urgent, &mut plan);
        for message in sleeping {
            plan.hold(message, Some(morning));
        }
        Ok(plan.finish())
    }
}

restante_policy_sdk::export!(QuietHours);

#[cfg(test)]
mod tests {
    use restante_policy_sdk::testing::{self, DAY, HOUR, NOW, available, context, disposition, hold, message, page};
    use restante_policy_sdk::{Context, Policy, Severity, Step, WaitingMessage};

    use super::QuietHours;

    /// It is 22:13 in London, on a Tuesday.
    fn steps(json: &str, context: &Context) -> Vec<Step> {
        let settings = testing::settings::<QuietHours>(json);
        let urgent = WaitingMessage { priority: 200, ..message(2) };
        let asked = available(vec![message(1), urgent, disposition(3)]);
        QuietHours::on_available(&settings, context, &asked).unwrap().steps
    }

    #[test]
    fn the_night_is_the_recipients() {
        let cases =
            [(None, Some(NOW - 800_000 + 9 * HOUR)), (Some(540), None), (Some(60), Some(NOW - 800_000 + 8 * HOUR))];
        for (offset, until) in cases {
            let mut context = context();
            context.recipient.utc_offset_minutes = offset;
            let expected = match until {
                Some(until) => vec![page(&[2, 3]), hold(&[1], Some(until))],
                None => vec![page(&[1, 2, 3])],
            };
            assert_eq!(steps("{}", &context), expected, "{offset:?}");
        }
    }

    #[test]
    fn weekends_may_differ() {
        let json = r#"{"weekend": {"from": "23:00", "until": "10:00"}}"#;
        let saturday = Context { now: NOW + 4 * DAY, ..context() };
        assert_eq!(steps(json, &saturday), [page(&[1, 2, 3])]);
        assert_eq!(steps("{}", &saturday).len(), 2);
    }

    #[test]
    fn a_night_without_end_is_warned_of() {
        let found = testing::problems::<QuietHours>(r#"{"quiet": {"from": "08:00", "until": "08:00"}}"#);
        assert_eq!((found[0].pointer.as_str(), found[0].severity), ("/quiet", Severity::Warning));
    }
}
