//! For a school: what strangers send to pupils waits until the hours in which a guardian is beside them, or until the
//! guardian approves, which is a change of the pupil's subscriber class. What the school and its friends send goes the
//! usual way.

use restante_policy_sdk::{
    Availability, Context, Declined, HostAbilities, MessageKind, Period, Plan, Planner, Policy, Problems, Pull,
    PullAnswer, TimeOfDay, Usual, WaitingMessage, Ways, Weekday, info, usual,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who is guarded, from whom, and when guardians are there.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// Recipients of this subscriber class are guarded. A guardian approves by having it changed.
    class: String,
    /// Domains whose users are no strangers, such as `school.example`.
    #[schemars(length(max = 1000))]
    friends: Vec<String>,
    /// The hours in which a guardian is there.
    hours: Period,
    /// The days on which these hours are; none: every day.
    days: Vec<Weekday>,
    /// Offset from UTC of recipients who did not say theirs.
    #[schemars(range(min = -1440, max = 1440))]
    utc_offset_minutes: i16,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            class: "pupil".to_owned(),
            friends: Vec::new(),
            hours: Period { from: TimeOfDay::new(17, 0), until: TimeOfDay::new(19, 0) },
            days: Vec::new(),
            utc_offset_minutes: 0,
        }
    }
}

impl Settings {
    /// Whether this message waits for the guardian. A sender who hides its address is a stranger.
    fn is_held(&self, context: &Context, message: &WaitingMessage) -> bool {
        let now = context.local_time_or(self.utc_offset_minutes);
        let is_guarded = context.recipient.subscriber_class.as_deref() == Some(self.class.as_str());
        let is_hour =
            self.hours.contains(now.time_of_day()) && (self.days.is_empty() || self.days.contains(&now.weekday()));
        let domain = message.sender.rsplit_once('@').map(|(_, domain)| domain);
        let is_friend =
            domain.is_some_and(|domain| self.friends.iter().any(|friend| friend.eq_ignore_ascii_case(domain)));
        message.kind == MessageKind::Message && is_guarded && !is_hour && !is_friend
    }
}

struct GuardianHold;

impl Policy for GuardianHold {
    type Settings = Settings;

    fn check(settings: &Settings, _: &HostAbilities, problems: &mut Problems) {
        if settings.friends.is_empty() {
            problems.warning("/friends", "is empty: also what the school sends waits for the guardian");
        }
        if settings.class.is_empty() {
            problems.error("/class", "expected the name of a subscriber class");
        }
    }

    fn on_available(settings: &Settings, context: &Context, availability: &Availability) -> Result<Plan, Declined> {
        let mut plan = Planner::new(Ways::of(context, &availability.contacts).sharing());
        let (held, others): (Vec<_>, Vec<_>) =
            availability.messages.iter().partition(|message| settings.is_held(context, message));
        // On a day without hours the policy is asked again and holds on.
        let until = context.local_time_or(settings.utc_offset_minutes).next(settings.hours.from);
        if !held.is_empty() {
            info!("{} messages wait for the guardian", held.len());
        }
        Usual::of(&context.recipient).place(context, availability, others, &mut plan);
        for message in held {
            plan.hold(message, Some(until));
        }
        Ok(plan.finish())
    }

    /// A client that asks gets no more than it is sent.
    fn on_pull(settings: &Settings, context: &Context, pull: &Pull) -> Result<PullAnswer, Declined> {
        let mut allowed = pull.clone();
        allowed.messages.retain(|message| !settings.is_held(context, message));
        Ok(usual::on_pull(&allowed))
    }
}

restante_policy_sdk::export!(GuardianHold);

#[cfg(test)]
mod tests {
    use restante_policy_sdk::testing::{self, HOUR, NOW, available, context, hold, message_from, page, pull};
    use restante_policy_sdk::{Context, Policy, PullAnswer, Step, WaitingMessage};

    use super::GuardianHold;

    const SETTINGS: &str = r#"{"friends": ["School.example"], "days": ["monday", "tuesday"]}"#;

    fn messages() -> Vec<WaitingMessage> {
        let senders = ["sip:teacher@school.example", "sip:mallory@example.net", ""];
        (1..).zip(senders).map(|(id, sender)| message_from(id, sender)).collect()
    }

    /// A pupil at 22:13 UTC on a Tuesday.
    fn pupil(class: &str, utc_offset_minutes: i16) -> Context {
        let mut context = context();
        context.recipient.subscriber_class = Some(class.to_owned());
        context.recipient.utc_offset_minutes = Some(utc_offset_minutes);
        context
    }

    fn steps(context: &Context) -> Vec<Step> {
        let settings = testing::settings::<GuardianHold>(SETTINGS);
        GuardianHold::on_available(&settings, context, &available(messages())).unwrap().steps
    }

    #[test]
    fn strangers_wait_for_the_guardians_hours() {
        let hours = NOW - 800_000 + 19 * HOUR;
        assert_eq!(steps(&pupil("pupil", 0)), [page(&[1]), hold(&[2, 3], Some(hours))]);
        assert_eq!(steps(&pupil("pupil", -300)), [page(&[1, 2, 3])], "it is 17:13");
        assert_eq!(steps(&pupil("pupil", 1_140)).len(), 2, "it is 17:13 on a Wednesday");
    }

    #[test]
    fn approval_and_other_classes_are_not_guarded() {
        for class in ["pupil-approved", "teacher"] {
            assert_eq!(steps(&pupil(class, 0)), [page(&[1, 2, 3])], "{class}");
        }
    }

    #[test]
    fn a_client_that_asks_gets_no_more() {
        let settings = testing::settings::<GuardianHold>(SETTINGS);
        let answer = GuardianHold::on_pull(&settings, &pupil("pupil", 0), &pull(messages())).unwrap();
        assert_eq!(answer, PullAnswer::session(vec![1]));
    }
}
