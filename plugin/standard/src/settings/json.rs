//! Settings as the operator writes them. Every problem is found, not the first only.

use restante_policy_sdk::{Problem, Severity};
use serde_json::{Map, Value};

use super::{DeliverySetting, Devices, Precedence, Quota, Settings};

/// The longest span of time that a setting may name: ten years.
const MAX_SECONDS: u64 = 10 * 365 * 86_400;
/// More waits than this between attempts are a mistake.
const MAX_RETRIES: usize = 32;
/// The host owns these statuses.
const HOST_STATUSES: [u64; 3] = [401, 407, 503];

/// Reads settings: the defaults where nothing, or nothing usable, was said.
pub fn read(text: &str) -> (Settings, Vec<Problem>) {
    let mut reader = Reader { problems: Vec::new() };
    let mut settings = Settings::default();
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(members)) => {
            for (name, value) in &members {
                reader.setting(&mut settings, name, value);
            }
        }
        Ok(_) => reader.error("", "expected an object of settings"),
        Err(error) => reader.error("", &format!("expected JSON: {error}")),
    }
    (settings, reader.problems)
}

struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn setting(&mut self, settings: &mut Settings, name: &str, value: &Value) {
        let pointer = format!("/{}", escaped(name));
        let pointer = pointer.as_str();
        match name {
            "delivery" => {
                use DeliverySetting::{Hold, Pull, Push};
                self.choice(pointer, value, &[("push", Push), ("pull", Pull), ("hold", Hold)], &mut settings.delivery);
            }
            "precedence" => {
                let choices = [("user", Precedence::User), ("operator", Precedence::Operator)];
                self.choice(pointer, value, &choices, &mut settings.precedence);
            }
            "few" => self.number(pointer, value, 0, 100, &mut settings.few),
            "fetch_seconds" => self.seconds(pointer, value, &mut settings.fetch_milliseconds),
            "default_keep_seconds" => self.seconds(pointer, value, &mut settings.default_keep_milliseconds),
            "max_keep_seconds" => self.seconds(pointer, value, &mut settings.max_keep_milliseconds),
            "retry_seconds" => self.retries(pointer, value, &mut settings.retry_milliseconds),
            "recipient_quota" => self.quota(pointer, value, &mut settings.recipient_quota),
            "sender_quota" => self.quota(pointer, value, &mut settings.sender_quota),
            "quota_status" => {
                self.number(pointer, value, 400, 699, &mut settings.quota_status);
                if value.as_u64().is_some_and(|status| HOST_STATUSES.contains(&status)) {
                    self.error(pointer, "expected any status but 401, 407 and 503, which mean something else");
                }
            }
            "relay_milliseconds" => {
                self.optional(pointer, value, 100, 3_000, &mut settings.relay_milliseconds);
            }
            "relay_invite_milliseconds" => {
                self.optional(pointer, value, 100, 15_000, &mut settings.relay_invite_milliseconds);
            }
            "devices" => {
                let choices = [("any", Devices::Any), ("each", Devices::Each)];
                self.choice(pointer, value, &choices, &mut settings.devices);
            }
            _ => self.error(
                pointer,
                "is not a setting; expected delivery, precedence, few, fetch_seconds, default_keep_seconds, \
                 max_keep_seconds, retry_seconds, recipient_quota, sender_quota, quota_status, relay_milliseconds, \
                 relay_invite_milliseconds or devices",
            ),
        }
    }

    fn error(&mut self, pointer: &str, text: &str) {
        let problem = Problem { pointer: pointer.to_owned(), severity: Severity::Error, text: text.to_owned() };
        self.problems.push(problem);
    }

    fn choice<T: Copy>(&mut self, pointer: &str, value: &Value, choices: &[(&str, T)], into: &mut T) {
        match choices.iter().find(|(name, _)| value.as_str() == Some(name)) {
            Some((_, chosen)) => *into = *chosen,
            None => {
                let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                self.error(pointer, &format!("expected one of {}", names.join(", ")));
            }
        }
    }

    fn number<T: TryFrom<u64>>(&mut self, pointer: &str, value: &Value, least: u64, most: u64, into: &mut T) {
        let number = value.as_u64().filter(|number| (least..=most).contains(number));
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => *into = number,
            None => self.error(pointer, &format!("expected a whole number from {least} to {most}")),
        }
    }

    fn optional<T: TryFrom<u64>>(&mut self, pointer: &str, value: &Value, least: u64, most: u64, into: &mut Option<T>) {
        // TOML has no null.
        if value.is_null() || value.as_str() == Some("none") {
            *into = None;
            return;
        }
        let number = value.as_u64().filter(|number| (least..=most).contains(number));
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => *into = Some(number),
            None => self.error(pointer, &format!("expected a whole number from {least} to {most}, or \"none\"")),
        }
    }

    fn seconds(&mut self, pointer: &str, value: &Value, into_milliseconds: &mut u64) {
        let mut seconds = into_milliseconds.div_euclid(1_000);
        self.number(pointer, value, 1, MAX_SECONDS, &mut seconds);
        *into_milliseconds = seconds.saturating_mul(1_000);
    }

    fn retries(&mut self, pointer: &str, value: &Value, into: &mut Vec<u64>) {
        match value.as_array() {
            Some(waits) if waits.len() <= MAX_RETRIES => {
                into.clear();
                for (index, wait) in waits.iter().enumerate() {
                    let mut milliseconds = 0;
                    self.seconds(&format!("{pointer}/{index}"), wait, &mut milliseconds);
                    into.push(milliseconds);
                }
            }
            _ => self.error(pointer, &format!("expected a list of at most {MAX_RETRIES} numbers of seconds")),
        }
    }

    fn quota(&mut self, pointer: &str, value: &Value, into: &mut Quota) {
        let Some(members) = value.as_object() else {
            return self.error(pointer, "expected an object with \"messages\", \"bytes\" or both");
        };
        self.quota_members(pointer, members, into);
    }

    fn quota_members(&mut self, pointer: &str, members: &Map<String, Value>, into: &mut Quota) {
        for (name, value) in members {
            let pointer = format!("{pointer}/{}", escaped(name));
            match name.as_str() {
                "messages" => self.optional(&pointer, value, 0, u64::from(u32::MAX), &mut into.messages),
                "bytes" => self.optional(&pointer, value, 0, u64::MAX, &mut into.bytes),
                _ => self.error(&pointer, "is not part of a quota; expected messages or bytes"),
            }
        }
    }
}

/// A name as part of a JSON pointer (RFC 6901 §3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_named_by_its_pointer() {
        let cases: [(&str, &[&str]); 12] = [
            (r#"{"few": -1}"#, &["/few"]),
            (r#"{"few": "3"}"#, &["/few"]),
            (r#"{"few": 101, "delivery": "Push"}"#, &["/delivery", "/few"]),
            (r#"{"precedence": null}"#, &["/precedence"]),
            (r#"{"few/~more": 1}"#, &["/few~1~0more"]),
            (r#"{"retry_seconds": [30, 0, "x"]}"#, &["/retry_seconds/1", "/retry_seconds/2"]),
            (r#"{"retry_seconds": 30}"#, &["/retry_seconds"]),
            (
                r#"{"sender_quota": {"messages": 1.5, "octets": 1}}"#,
                &["/sender_quota/messages", "/sender_quota/octets"],
            ),
            (r#"{"recipient_quota": 10}"#, &["/recipient_quota"]),
            (r#"{"quota_status": 503}"#, &["/quota_status"]),
            (r#"{"quota_status": 200, "relay_milliseconds": 6000}"#, &["/quota_status", "/relay_milliseconds"]),
            (r#"{"fetch_seconds": 0, "max_keep_seconds": 999999999999}"#, &["/fetch_seconds", "/max_keep_seconds"]),
        ];
        for (text, expected) in cases {
            let (_, problems) = read(text);
            let mut pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
            pointers.sort_unstable();
            assert_eq!(pointers, expected, "{text}");
            assert!(problems.iter().all(|problem| problem.severity == Severity::Error));
            assert!(problems.iter().all(|problem| problem.text.contains("expected")), "{problems:?}");
        }
    }

    /// The bounds that the schema names are those that hold: each is accepted, and one step beyond is not.
    #[test]
    fn the_schema_says_what_is_accepted() {
        let schema: Value = serde_json::from_str(crate::settings::SCHEMA).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(properties.len(), 13);
        let accepts = |name: &str, value: &Value| read(&serde_json::json!({ name: value }).to_string()).1.is_empty();
        let resolved = |kind: &Value| match kind["$ref"].as_str() {
            Some(place) => schema.pointer(place.trim_start_matches('#')).unwrap().clone(),
            None => kind.clone(),
        };
        let mut defaults = Map::new();
        for (name, property) in properties {
            defaults.insert(name.clone(), property["default"].clone());
            let kind = resolved(property);
            let number = kind["anyOf"].get(0).unwrap_or(&kind);
            if let (Some(least), Some(most)) = (number["minimum"].as_i64(), number["maximum"].as_i64()) {
                for (value, expected) in [(least, true), (most, true), (least - 1, false), (most + 1, false)] {
                    assert_eq!(accepts(name, &value.into()), expected, "{name} {value}");
                }
            }
            for value in kind["enum"].as_array().into_iter().flatten() {
                assert!(accepts(name, value), "{name} {value}");
            }
            for value in kind["not"]["enum"].as_array().into_iter().flatten() {
                assert!(!accepts(name, value), "{name} {value}");
            }
        }
        let (settings, problems) = read(&Value::Object(defaults).to_string());
        assert_eq!((settings, problems.len()), (Settings::default(), 0));
        for name in schema["$defs"]["quota"]["properties"].as_object().unwrap().keys() {
            assert!(accepts("sender_quota", &serde_json::json!({ name: 7 })), "{name}");
        }
    }

    #[test]
    fn limits_can_be_lifted_by_null_and_by_a_word() {
        for none in ["null", "\"none\""] {
            let (settings, problems) = read(&format!(r#"{{"sender_quota": {{"messages": {none}, "bytes": 5}}}}"#));
            assert!(problems.is_empty(), "{problems:?}");
            assert_eq!(settings.sender_quota, Quota { messages: None, bytes: Some(5) });
        }
    }

    #[test]
    fn what_is_no_object_is_a_problem_of_the_whole() {
        for text in ["", "[]", "{", "3", "null"] {
            let (settings, problems) = read(text);
            assert_eq!(problems.len(), 1, "{text}");
            assert_eq!(problems[0].pointer, "");
            assert_eq!(settings, Settings::default());
        }
    }
}
