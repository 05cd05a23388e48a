//! Refuses senders who send too fast, and strangers sooner. The server counts what each sender sent lately, to all users
//! of the tenant; the policy remembers nothing.

use restante_policy_sdk::{
    Context, Declined, HostAbilities, Incoming, IncomingAnswer, MessageKind, Policy, Problems, Rejection, Usual,
    Verification, info,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How fast a sender may send.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// Messages of one sender in a minute.
    #[schemars(range(min = 1))]
    per_minute: u32,
    /// Messages of one sender in an hour.
    #[schemars(range(min = 1))]
    per_hour: u32,
    /// Messages in a minute of a sender whose identity nobody vouches for.
    unverified_per_minute: u32,
    /// Senders who may send as much as they like, such as `sip:alerts@example.org`.
    #[schemars(length(max = 1000))]
    exempt: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { per_minute: 30, per_hour: 300, unverified_per_minute: 3, exempt: Vec::new() }
    }
}

impl Settings {
    /// After how many seconds this sender may try again; none: it may send now.
    fn brake(&self, incoming: &Incoming) -> Option<u32> {
        let sender = &incoming.sender;
        if incoming.kind == MessageKind::Disposition || self.exempt.contains(&sender.address) {
            return None;
        }
        let per_minute = match sender.verification {
            Verification::None => self.unverified_per_minute.min(self.per_minute),
            Verification::TrustedPeer | Verification::Authenticated => self.per_minute,
        };
        let counts = &incoming.sender_counts;
        if counts.last_hour >= self.per_hour {
            Some(600)
        } else if counts.last_minute >= per_minute {
            Some(60)
        } else {
            None
        }
    }
}

struct SpamBrake;

impl Policy for SpamBrake {
    type Settings = Settings;

    fn check(settings: &Settings, _: &HostAbilities, problems: &mut Problems) {
        if settings.per_hour < settings.per_minute {
            problems.warning("/per_hour", "is less than per_minute, which then never brakes");
        }
    }

    fn on_incoming(settings: &Settings, context: &Context, incoming: &Incoming) -> Result<IncomingAnswer, Declined> {
        if let Some(seconds) = settings.brake(incoming) {
            info!("{} sends too fast", incoming.sender.address);
            return Ok(Rejection::new(480, "Too many messages").with_retry_after(seconds).into());
        }
        Ok(Usual::of(&context.recipient).on_incoming(context, incoming))
    }
}

restante_policy_sdk::export!(SpamBrake);

#[cfg(test)]
mod tests {
    use restante_policy_sdk::testing::{self, context, incoming};
    use restante_policy_sdk::{Counts, Incoming, IncomingAnswer, MessageKind, Policy, Sender, Severity, Verification};

    use super::SpamBrake;

    fn sent(verification: Verification, last_minute: u32, last_hour: u32) -> Incoming {
        let usual = incoming();
        Incoming {
            sender: Sender { verification, ..usual.sender.clone() },
            sender_counts: Counts { last_minute, last_hour, ..usual.sender_counts },
            ..usual
        }
    }

    /// Seconds of the Retry-After; none when the message is kept.
    fn brake(json: &str, incoming: &Incoming) -> Option<u32> {
        match SpamBrake::on_incoming(&testing::settings::<SpamBrake>(json), &context(), incoming).unwrap() {
            IncomingAnswer::Keep(_) => None,
            IncomingAnswer::Reject(rejection) => rejection.retry_after_seconds,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sender_is_braked_by_the_minute_and_by_the_hour() {
        use Verification::{None as Nobody, TrustedPeer};
        let cases = [
            (TrustedPeer, 29, 299, None),
            (TrustedPeer, 30, 30, Some(60)),
            (TrustedPeer, 1, 300, Some(600)),
            (Nobody, 2, 2, None),
            (Nobody, 3, 3, Some(60)),
        ];
        for (verification, last_minute, last_hour, expected) in cases {
            let message = sent(verification, last_minute, last_hour);
            assert_eq!(brake("{}", &message), expected, "{verification:?} {last_minute} {last_hour}");
        }
        assert_eq!(testing::log_lines().len(), 3);
    }

    #[test]
    fn dispositions_and_exempt_senders_are_not_braked() {
        let flood = sent(Verification::TrustedPeer, 1_000, 1_000);
        assert_eq!(brake(r#"{"exempt": ["sip:alice@example.org"]}"#, &flood), None);
        let report = Incoming { kind: MessageKind::Disposition, ..flood };
        assert_eq!(brake("{}", &report), None);
    }

    #[test]
    fn an_hour_shorter_than_a_minute_is_warned_of() {
        let found = testing::problems::<SpamBrake>(r#"{"per_hour": 5}"#);
        assert_eq!((found[0].pointer.as_str(), found[0].severity), ("/per_hour", Severity::Warning));
    }
}
