//! Keeps more, larger and longer for those who pay more: what is kept goes by the recipient's subscriber class.

use std::collections::BTreeMap;

use restante_policy_sdk::settings::pointer;
use restante_policy_sdk::{
    Context, Declined, HostAbilities, Incoming, IncomingAnswer, MessageKind, Policy, Problems, Rejection, Usual,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DAY_MILLISECONDS: u64 = 86_400_000;
const MIB: u64 = 1 << 20;

/// What a class gets.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Tier {
    /// Days that a message is kept.
    #[schemars(range(min = 1, max = 365))]
    keep_days: u16,
    /// Bytes of one message.
    max_message_bytes: u64,
    /// Messages that may wait.
    max_messages: u32,
    /// Their bytes.
    max_bytes: u64,
}

impl Default for Tier {
    fn default() -> Self {
        Tier { keep_days: 7, max_message_bytes: MIB, max_messages: 100, max_bytes: 10 * MIB }
    }
}

/// What each class gets.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// By subscriber class, as set with `restante user set --class`.
    tiers: BTreeMap<String, Tier>,
    /// For recipients without a class, or with one that is not in `tiers`.
    otherwise: Tier,
}

impl Settings {
    fn tier(&self, context: &Context) -> &Tier {
        let class = context.recipient.subscriber_class.as_deref();
        class.and_then(|class| self.tiers.get(class)).unwrap_or(&self.otherwise)
    }
}

struct PaidTiers;

impl Policy for PaidTiers {
    type Settings = Settings;

    fn check(settings: &Settings, host: &HostAbilities, problems: &mut Problems) {
        let named = settings.tiers.iter().map(|(name, tier)| (vec!["tiers", name], tier));
        for (place, tier) in named.chain([(vec!["otherwise"], &settings.otherwise)]) {
            let part = |name| pointer(place.iter().copied().chain([name]));
            if tier.max_message_bytes > host.max_message_bytes {
                let text = format!("is more than the {} bytes that this server takes", host.max_message_bytes);
                problems.warning(&part("max_message_bytes"), text);
            }
            if tier.max_bytes < tier.max_message_bytes {
                problems.error(&part("max_bytes"), "expected at least max_message_bytes");
            }
        }
    }

    fn usual<'s>(settings: &'s Settings, context: &Context) -> Usual<'s> {
        let keep_milliseconds = u64::from(settings.tier(context).keep_days).saturating_mul(DAY_MILLISECONDS);
        Usual { keep_milliseconds, max_keep_milliseconds: keep_milliseconds, ..Usual::of(&context.recipient) }
    }

    fn on_incoming(settings: &Settings, context: &Context, incoming: &Incoming) -> Result<IncomingAnswer, Declined> {
        let tier = settings.tier(context);
        // At an INVITE the size may not be known; it is looked at again when the message is complete.
        let size_bytes = incoming.size_bytes.unwrap_or(0);
        let stored = &incoming.recipient_counts;
        if incoming.kind == MessageKind::Message {
            if size_bytes > tier.max_message_bytes {
                return Ok(Rejection::new(413, "Larger than the recipient's plan allows").into());
            }
            let is_full = stored.stored_messages >= tier.max_messages
                || stored.stored_bytes.saturating_add(size_bytes) > tier.max_bytes;
            if is_full {
                return Ok(Rejection::new(403, "Recipient's message store is full").into());
            }
        }
        Ok(Self::usual(settings, context).on_incoming(context, incoming))
    }
}

restante_policy_sdk::export!(PaidTiers);

#[cfg(test)]
mod tests {
    use restante_policy_sdk::testing::{self, DAY, NOW, context, incoming};
    use restante_policy_sdk::{Counts, Incoming, IncomingAnswer, Keep, Policy, Rejection, Severity};

    use super::{MIB, PaidTiers};

    const GOLD: &str =
        r#"{"tiers": {"gold": {"keep_days": 90, "max_message_bytes": 52428800, "max_bytes": 1073741824}}}"#;

    fn answer(class: Option<&str>, incoming: &Incoming) -> IncomingAnswer {
        let mut context = context();
        context.recipient.subscriber_class = class.map(str::to_owned);
        PaidTiers::on_incoming(&testing::settings::<PaidTiers>(GOLD), &context, incoming).unwrap()
    }

    #[test]
    fn a_class_is_kept_for_as_long_as_it_paid_for() {
        for (class, days) in [(None, 7), (Some("silver"), 7), (Some("gold"), 90)] {
            assert_eq!(answer(class, &incoming()), Keep::until(NOW + days * DAY).into(), "{class:?}");
        }
    }

    #[test]
    fn size_and_store_are_bounded_by_class() {
        let large = Incoming { size_bytes: Some(20 * MIB), ..incoming() };
        let too_large = Rejection::new(413, "Larger than the recipient's plan allows");
        assert_eq!(answer(None, &large), too_large.into());
        assert_eq!(answer(Some("gold"), &large), Keep::until(NOW + 90 * DAY).into());
        let counts = Counts { stored_messages: 100, stored_bytes: 1, last_minute: 0, last_hour: 0 };
        let full = Incoming { recipient_counts: counts, ..incoming() };
        assert_eq!(answer(None, &full), Rejection::new(403, "Recipient's message store is full").into());
    }

    #[test]
    fn settings_that_do_not_fit_together_are_named() {
        let json = r#"{"tiers": {"gold": {"max_message_bytes": 1000000000}}, "otherwise": {"keep_days": 0}}"#;
        let found = testing::problems::<PaidTiers>(json);
        assert_eq!((found[0].pointer.as_str(), found[0].severity), ("/otherwise/keep_days", Severity::Error));
        let found = testing::problems::<PaidTiers>(r#"{"tiers": {"a/b": {"max_message_bytes": 1000000000}}}"#);
        let pointers: Vec<_> = found.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/tiers/a~1b/max_message_bytes", "/tiers/a~1b/max_bytes"]);
    }
}
