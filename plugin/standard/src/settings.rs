//! `check-settings`: the operator's settings, from JSON once and from a few bytes in every later call.
//!
//! | setting | means | default |
//! |---|---|---|
//! | `delivery` | how recipients get messages: `push`, `pull` or `hold` | `push` |
//! | `precedence` | whose word on that wins where both spoke: the `user`'s or the `operator`'s | `user` |
//! | `few` | up to so many page-mode messages go one by one, in push and in pull alike | 3 |
//! | `fetch_seconds` | how long an announced message waits to be fetched before it is pushed | 600 |
//! | `default_keep_seconds` | how long a message is kept whose sender did not say | 604800 (7 days) |
//! | `max_keep_seconds` | how long a message is kept at most | 2592000 (30 days) |
//! | `retry_seconds` | the waits between attempts; after the last the recipient's next registration or refresh is awaited | [30, 120, 600, 3600] |
//! | `recipient_quota`, `sender_quota` | `{"messages": …, "bytes": …}` that may wait; `"none"` is no limit | 10000 and 1 GiB, 100000 and 10 GiB |
//! | `quota_status` | the status that refuses a message over quota | 403 |
//! | `relay_milliseconds` | pass a MESSAGE on to a recipient who is there and wait so long, 3000 at most, for the device's answer; `"none"` stores first | `"none"` |
//! | `relay_invite_milliseconds` | pass the INVITE of a large message on to a recipient who is there, and take it over after so long, 15000 at most; `"none"` stores first | `"none"` |
//! | `devices` | `any`: the first device that takes a message is enough; `each`: every known one gets its copy | `any` |

mod json;

use serde::{Deserialize, Serialize};

use std::borrow::Cow;

use restante_policy_sdk::{CheckedSettings, Context, Delivery, HostAbilities, Problem, Recipient, Severity, Usual};

/// JSON Schema of the settings.
pub const SCHEMA: &str = include_str!("settings/schema.json");

/// Whose word on delivery wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precedence {
    /// The user's, where the user said something.
    User,
    /// The operator's, always.
    Operator,
}

/// How many of a recipient's devices get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Devices {
    /// The first that takes it.
    Any,
    /// Every one that is known.
    Each,
}

/// How recipients get messages. The contract's [`Delivery`], in a form that can be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliverySetting {
    /// Sent when the client becomes available.
    Push,
    /// Announced.
    Pull,
    /// Kept until asked for.
    Hold,
}

/// How much of one party's may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Messages; none: no limit.
    pub messages: Option<u32>,
    /// Their bytes; none: no limit.
    pub bytes: Option<u64>,
}

/// The settings, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `delivery`
    pub delivery: DeliverySetting,
    /// `precedence`
    pub precedence: Precedence,
    /// `few`
    pub few: u32,
    /// `fetch_seconds`, in milliseconds.
    pub fetch_milliseconds: u64,
    /// `default_keep_seconds`, in milliseconds.
    pub default_keep_milliseconds: u64,
    /// `max_keep_seconds`, in milliseconds.
    pub max_keep_milliseconds: u64,
    /// `retry_seconds`, in milliseconds.
    pub retry_milliseconds: Vec<u64>,
    /// `recipient_quota`
    pub recipient_quota: Quota,
    /// `sender_quota`
    pub sender_quota: Quota,
    /// `quota_status`
    pub quota_status: u16,
    /// `relay_milliseconds`
    pub relay_milliseconds: Option<u32>,
    /// `relay_invite_milliseconds`
    pub relay_invite_milliseconds: Option<u32>,
    /// `devices`
    pub devices: Devices,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY_MILLISECONDS: u64 = 86_400_000;
        const GIB: u64 = 1 << 30;
        Settings {
            delivery: DeliverySetting::Push,
            precedence: Precedence::User,
            few: 3,
            fetch_milliseconds: 600_000,
            default_keep_milliseconds: 7 * DAY_MILLISECONDS,
            max_keep_milliseconds: 30 * DAY_MILLISECONDS,
            retry_milliseconds: vec![30_000, 120_000, 600_000, 3_600_000],
            recipient_quota: Quota { messages: Some(10_000), bytes: Some(GIB) },
            sender_quota: Quota { messages: Some(100_000), bytes: Some(10 * GIB) },
            quota_status: 403,
            relay_milliseconds: None,
            relay_invite_milliseconds: None,
            devices: Devices::Any,
        }
    }
}

impl Settings {
    /// Reads what [`check`] wrote.
    ///
    /// # Errors
    /// When these bytes are not from [`check`] of this policy: the decision is then the host's fallback.
    pub fn read(normalised: &[u8]) -> Result<Settings, String> {
        postcard::from_bytes(normalised).map_err(|error| format!("settings are not of this policy: {error}"))
    }

    /// How this recipient gets messages.
    pub fn delivery_for(&self, recipient: &Recipient) -> Delivery {
        let operators = match self.delivery {
            DeliverySetting::Push => Delivery::Push,
            DeliverySetting::Pull => Delivery::Pull,
            DeliverySetting::Hold => Delivery::Hold,
        };
        match self.precedence {
            Precedence::User => recipient.delivery.unwrap_or(operators),
            Precedence::Operator => operators,
        }
    }

    /// The SDK's usual way with these figures.
    pub fn usual(&self, context: &Context) -> Usual<'_> {
        Usual {
            delivery: self.delivery_for(&context.recipient),
            few: self.few,
            fetch_milliseconds: self.fetch_milliseconds,
            keep_milliseconds: self.default_keep_milliseconds,
            max_keep_milliseconds: self.max_keep_milliseconds,
            retry_milliseconds: Cow::Borrowed(&self.retry_milliseconds),
            relay_milliseconds: self.relay_milliseconds,
            relay_invite_milliseconds: self.relay_invite_milliseconds,
            to_each_device: self.devices == Devices::Each,
        }
    }
}

/// Checks the operator's settings.
///
/// # Errors
/// All that is wrong with them, each with what was expected.
pub fn check(settings: &str, host: &HostAbilities) -> Result<CheckedSettings, Vec<Problem>> {
    let (settings, mut problems) = json::read(settings);
    if settings.default_keep_milliseconds > settings.max_keep_milliseconds {
        problems.push(warning("/default_keep_seconds", "is longer than max_keep_seconds, which wins"));
    }
    let largest =
        settings.recipient_quota.bytes.unwrap_or(u64::MAX).min(settings.sender_quota.bytes.unwrap_or(u64::MAX));
    if largest < host.max_message_bytes {
        let text = format!("a message may have {} bytes here and would never fit the quota", host.max_message_bytes);
        problems.push(warning("", &text));
    }
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(problems);
    }
    match postcard::to_allocvec(&settings) {
        Ok(normalised) => Ok(CheckedSettings { normalised, problems }),
        Err(error) => Err(vec![Problem { pointer: String::new(), severity: Severity::Error, text: error.to_string() }]),
    }
}

fn warning(pointer: &str, text: &str) -> Problem {
    Problem { pointer: pointer.to_owned(), severity: Severity::Warning, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use restante_policy_sdk::testing::{context, host};

    #[test]
    fn nothing_said_means_the_defaults_and_they_survive_being_written_down() {
        let checked = check("{}", &host()).unwrap();
        assert_eq!(Settings::read(&checked.normalised).unwrap(), Settings::default());
        assert!(checked.problems.is_empty(), "{:?}", checked.problems);
        assert!(checked.normalised.len() < 100);
        assert!(Settings::read(b"\xff").is_err());
    }

    #[test]
    fn every_setting_is_read() {
        let text = r#"{"delivery": "pull", "precedence": "operator", "few": 0, "fetch_seconds": 60,
            "default_keep_seconds": 3600, "max_keep_seconds": 7200, "retry_seconds": [1, 2],
            "recipient_quota": {"messages": 5, "bytes": null}, "sender_quota": {"messages": null},
            "quota_status": 413, "relay_milliseconds": 2500, "relay_invite_milliseconds": 15000, "devices": "each"}"#;
        let expected = Settings {
            delivery: DeliverySetting::Pull,
            precedence: Precedence::Operator,
            few: 0,
            fetch_milliseconds: 60_000,
            default_keep_milliseconds: 3_600_000,
            max_keep_milliseconds: 7_200_000,
            retry_milliseconds: vec![1_000, 2_000],
            recipient_quota: Quota { messages: Some(5), bytes: None },
            sender_quota: Quota { messages: None, bytes: Settings::default().sender_quota.bytes },
            quota_status: 413,
            relay_milliseconds: Some(2_500),
            relay_invite_milliseconds: Some(15_000),
            devices: Devices::Each,
        };
        let checked = check(text, &host()).unwrap();
        assert_eq!(Settings::read(&checked.normalised).unwrap(), expected);
    }

    #[test]
    fn whose_word_wins_is_a_setting() {
        let cases = [
            (Precedence::User, Some(Delivery::Push), Delivery::Push),
            (Precedence::User, None, Delivery::Hold),
            (Precedence::Operator, Some(Delivery::Push), Delivery::Hold),
            (Precedence::Operator, None, Delivery::Hold),
        ];
        for (precedence, preference, expected) in cases {
            let settings = Settings { delivery: DeliverySetting::Hold, precedence, ..Settings::default() };
            let mut context = context();
            context.recipient.delivery = preference;
            assert_eq!(settings.usual(&context).delivery, expected, "{precedence:?} {preference:?}");
        }
    }

    #[test]
    fn what_is_not_set_is_the_usual() {
        assert_eq!(Settings::default().usual(&context()), Usual::of(&context().recipient));
    }

    #[test]
    fn a_default_beyond_the_maximum_and_a_quota_below_one_message_are_warned_of() {
        let pointers = |text| {
            let checked = check(text, &host()).unwrap();
            checked.problems.into_iter().map(|problem| (problem.severity, problem.pointer)).collect::<Vec<_>>()
        };
        assert_eq!(
            pointers(r#"{"default_keep_seconds": 100, "max_keep_seconds": 10}"#),
            [(Severity::Warning, "/default_keep_seconds".to_owned())]
        );
        assert_eq!(pointers(r#"{"sender_quota": {"bytes": 1000}}"#), [(Severity::Warning, String::new())]);
    }
}
