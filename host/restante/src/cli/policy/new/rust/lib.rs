//! What this policy decides, in a sentence or two.

use restante_policy_sdk::{Context, Declined, HostAbilities, Incoming, IncomingAnswer, Policy, Problems, Rejection, Usual};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator can set. The comments go into the JSON Schema.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// Days that a message is kept whose sender did not say.
    #[schemars(range(min = 1, max = 30))]
    keep_days: u16,
    /// The largest message that is kept, in bytes; none: whatever the server takes.
    max_message_bytes: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { keep_days: 7, max_message_bytes: None }
    }
}

struct MyPolicy;

/// Hooks that are left out (`on_available`, `on_pull`, `on_failure`, `on_expiry`) are answered the usual way.
impl Policy for MyPolicy {
    type Settings = Settings;

    fn check(settings: &Settings, host: &HostAbilities, problems: &mut Problems) {
        if settings.max_message_bytes.is_some_and(|most| most > host.max_message_bytes) {
            problems.warning("/max_message_bytes", "is more than this server takes");
        }
    }

    fn usual<'s>(settings: &'s Settings, context: &Context) -> Usual<'s> {
        let keep_milliseconds = u64::from(settings.keep_days) * 86_400_000;
        Usual { keep_milliseconds, ..Usual::of(&context.recipient) }
    }

    fn on_incoming(
        settings: &Settings,
        context: &Context,
        incoming: &Incoming,
    ) -> Result<IncomingAnswer, Declined> {
        let size_bytes = incoming.size_bytes.unwrap_or(0);
        if settings.max_message_bytes.is_some_and(|most| size_bytes > most) {
            restante_policy_sdk::info!("{} bytes from {} are too many", size_bytes, incoming.sender.address);
            return Ok(Rejection::new(413, "Message is too large").into());
        }
        Ok(Self::usual(settings, context).on_incoming(context, incoming))
    }
}

restante_policy_sdk::export!(MyPolicy);

#[cfg(test)]
mod tests {
    use restante_policy_sdk::testing::{self, DAY, NOW, context, incoming};
    use restante_policy_sdk::{Incoming, Keep, Policy, Rejection};

    use super::MyPolicy;

    #[test]
    fn messages_are_kept_for_some_days_unless_they_are_too_large() {
        let settings = testing::settings::<MyPolicy>(r#"{"keep_days": 3, "max_message_bytes": 1000}"#);
        let answer = |incoming| MyPolicy::on_incoming(&settings, &context(), &incoming).unwrap();
        assert_eq!(answer(incoming()), Keep::until(NOW + 3 * DAY).into());
        let large = Incoming { size_bytes: Some(1_001), ..incoming() };
        assert_eq!(answer(large), Rejection::new(413, "Message is too large").into());
    }
}
