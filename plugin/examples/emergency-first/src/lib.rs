//! Lets warnings overtake everything else: they are kept with the highest priority, go out first and one by one, also to
//! a recipient who wants messages announced or held, and do not expire while they are of use.

use restante_policy_sdk::{
    Availability, Context, Declined, Delivery, ExpiringMessage, ExpiryAction, ExpiryAnswer, ExpirySource,
    HostAbilities, Incoming, IncomingAnswer, Keep, Plan, Planner, Policy, Problems, Usual, WaitingMessage, Ways, usual,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The priority of warnings, and of nothing else.
const EMERGENCY: u8 = 255;
const DAY_MILLISECONDS: u64 = 86_400_000;

/// What a warning is.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// Whatever these send is a warning, such as `sip:warnings@example.org`.
    #[schemars(length(max = 1000))]
    senders: Vec<String>,
    /// Whatever is of one of these media types is a warning.
    #[schemars(length(max = 100))]
    content_types: Vec<String>,
    /// Days that a warning is tried to be delivered, if its sender did not say.
    #[schemars(range(min = 1, max = 30))]
    days: u8,
}

impl Default for Settings {
    fn default() -> Self {
        let alerts = "application/common-alerting-protocol+xml".to_owned();
        Settings { senders: Vec::new(), content_types: vec![alerts], days: 3 }
    }
}

impl Settings {
    fn is_warning(&self, incoming: &Incoming) -> bool {
        let is_alert = |media_type: &str| self.content_types.iter().any(|kind| kind.eq_ignore_ascii_case(media_type));
        self.senders.contains(&incoming.sender.address)
            || is_alert(&incoming.content_type)
            || incoming.wrapped_type.as_deref().is_some_and(is_alert)
    }
}

fn is_urgent(message: &WaitingMessage) -> bool {
    message.priority == EMERGENCY
}

struct EmergencyFirst;

impl Policy for EmergencyFirst {
    type Settings = Settings;

    fn check(settings: &Settings, _: &HostAbilities, problems: &mut Problems) {
        if settings.senders.is_empty() && settings.content_types.is_empty() {
            problems.warning("", "without senders and content_types nothing is a warning");
        }
    }

    fn on_incoming(settings: &Settings, context: &Context, incoming: &Incoming) -> Result<IncomingAnswer, Declined> {
        let usual = Usual::of(&context.recipient);
        if !settings.is_warning(incoming) {
            return Ok(usual.on_incoming(context, incoming));
        }
        Ok(Keep::until(usual.expiry(context, incoming)).with_priority(EMERGENCY).into())
    }

    fn on_available(_: &Settings, context: &Context, availability: &Availability) -> Result<Plan, Declined> {
        let usual = Usual::of(&context.recipient);
        let (urgent, others): (Vec<_>, Vec<_>) = availability.messages.iter().partition(|message| is_urgent(message));
        let mut plan = Planner::new(Ways::of(context, &availability.contacts).sharing());
        let at_once = Usual { delivery: Delivery::Push, few: u32::MAX, ..usual.clone() };
        at_once.place(context, availability, urgent, &mut plan);
        usual.place(context, availability, others, &mut plan);
        Ok(plan.finish())
    }

    fn on_expiry(
        settings: &Settings,
        context: &Context,
        messages: &[ExpiringMessage],
    ) -> Result<Vec<ExpiryAnswer>, Declined> {
        let mut answers = usual::on_expiry(messages);
        for (expiring, answer) in messages.iter().zip(&mut answers) {
            let days = u64::from(settings.days).saturating_mul(DAY_MILLISECONDS);
            let until = expiring.message.received_at.saturating_add(days);
            if is_urgent(&expiring.message) && expiring.source == ExpirySource::Operator && until > context.now {
                answer.action = ExpiryAction::Extend(until);
            }
        }
        Ok(answers)
    }
}

restante_policy_sdk::export!(EmergencyFirst);

#[cfg(test)]
mod tests {
    use restante_policy_sdk::testing::{self, DAY, NOW, available, context, expiring, hold, incoming, message, page};
    use restante_policy_sdk::{Delivery, ExpiryAction, ExpirySource, Incoming, Keep, Policy, WaitingMessage};

    use super::EmergencyFirst;

    fn warning(id: u64) -> WaitingMessage {
        WaitingMessage { priority: 255, ..message(id) }
    }

    #[test]
    fn a_warning_is_known_by_its_sender_or_its_type() {
        let settings = testing::settings::<EmergencyFirst>(r#"{"senders": ["sip:warnings@example.org"]}"#);
        let kept = Keep::until(NOW + 7 * DAY);
        let priority_of = |incoming: &Incoming| EmergencyFirst::on_incoming(&settings, &context(), incoming);
        let mut by_sender = incoming();
        by_sender.sender.address = "sip:warnings@example.org".to_owned();
        let alert = Some("Application/common-alerting-protocol+xml".to_owned());
        for warning in [by_sender, Incoming { wrapped_type: alert, ..incoming() }] {
            assert_eq!(priority_of(&warning), Ok(kept.with_priority(255).into()));
        }
        assert_eq!(priority_of(&incoming()), Ok(kept.into()));
    }

    #[test]
    fn warnings_reach_a_recipient_who_wants_messages_held() {
        let mut holds = context();
        holds.recipient.delivery = Some(Delivery::Hold);
        let asked = available(vec![warning(4), warning(5), message(1), message(2)]);
        let plan = EmergencyFirst::on_available(&testing::settings::<EmergencyFirst>("{}"), &holds, &asked).unwrap();
        assert_eq!(plan.steps, [page(&[4, 5]), hold(&[1, 2], None)]);
    }

    #[test]
    fn a_warning_is_extended_while_it_is_of_use() {
        let settings = testing::settings::<EmergencyFirst>("{}");
        let stale = WaitingMessage { received_at: NOW - 3 * DAY, ..warning(2) };
        let messages = [warning(1), stale, message(3)].map(|message| expiring(message, ExpirySource::Operator));
        let answers = EmergencyFirst::on_expiry(&settings, &context(), &messages).unwrap();
        let actions: Vec<_> = answers.into_iter().map(|answer| answer.action).collect();
        let until = NOW - 60_000 + 3 * DAY;
        assert_eq!(actions, [ExpiryAction::Extend(until), ExpiryAction::Drop(true), ExpiryAction::Drop(true)]);
    }
}
