//! What a policy says of itself.

use std::fmt::Write as _;

use thiserror::Error;
use wasmtime::Store;

use crate::contract::{Described, Linked};
use crate::decide::{Guest, failure_text};
use crate::engine::PolicyEngine;
use crate::log::{acts_on_display, harmless};

/// The longest name or version, in bytes.
const MAX_NAME_BYTES: usize = 100;
/// The longest schema, in bytes.
const MAX_SCHEMA_BYTES: usize = 64 << 10;

/// Why a policy's description cannot be used.
#[derive(Debug, Error)]
pub enum DescriptionError {
    /// `describe` came to no end, or its answer could not be read.
    #[error("describe failed: {0}")]
    Failed(String),
    /// The policy has no name.
    #[error("the name is empty; expected 1 to {MAX_NAME_BYTES} bytes")]
    NoName,
    /// A text is too long.
    #[error("{part} has {size_bytes} bytes; at most {max_bytes} are allowed")]
    TooLong {
        /// Which: `name`, `version` or `settings-schema`.
        part: &'static str,
        /// Its size.
        size_bytes: usize,
        /// The most that is taken.
        max_bytes: usize,
    },
    /// The schema is no JSON.
    #[error("settings-schema is not JSON: {0}")]
    NotJson(String),
    /// The schema is JSON, and no schema.
    #[error("settings-schema is not a JSON Schema: expected an object, or true")]
    NoSchema,
}

/// What a policy says of itself. The texts are bounded and harmless to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its own version; may be empty.
    pub version: String,
    /// JSON Schema of its settings, as the policy wrote it: valid JSON, an object or `true`. None: it gave none.
    pub settings_schema: Option<String>,
}

impl Description {
    /// Asks a policy.
    pub(crate) fn ask(policy: &dyn Linked, engine: &PolicyEngine) -> Result<Description, DescriptionError> {
        let limits = engine.limits();
        let failed = |error: &wasmtime::Error| DescriptionError::Failed(failure_text(error));
        let _turn = engine.turn();
        let mut store = Store::new(engine.engine(), Guest::silent(limits));
        store.limiter(|guest| guest);
        engine.grant(&mut store, limits.check_deadline);
        store.set_hostcall_fuel(limits.answer_bytes.saturating_add(MAX_SCHEMA_BYTES.saturating_mul(2)));
        Description::checked(policy.describe(&mut store).map_err(|error| failed(&error))?)
    }

    fn checked(described: Described) -> Result<Description, DescriptionError> {
        let Described { name, version, settings_schema } = described;
        if name.is_empty() {
            return Err(DescriptionError::NoName);
        }
        let text = |part, text: &str| {
            check_length(part, text, MAX_NAME_BYTES)?;
            Ok(harmless(text, MAX_NAME_BYTES))
        };
        let settings_schema = settings_schema.as_deref().map(checked_schema).transpose()?;
        Ok(Description { name: text("name", &name)?, version: text("version", &version)?, settings_schema })
    }
}

fn check_length(part: &'static str, text: &str, max_bytes: usize) -> Result<(), DescriptionError> {
    let size_bytes = text.len();
    if size_bytes > max_bytes { Err(DescriptionError::TooLong { part, size_bytes, max_bytes }) } else { Ok(()) }
}

fn checked_schema(text: &str) -> Result<String, DescriptionError> {
    check_length("settings-schema", text, MAX_SCHEMA_BYTES)?;
    let parsed = serde_json::from_str::<serde_json::Value>(text);
    match parsed.map_err(|error| DescriptionError::NotJson(harmless(&error.to_string(), 200)))? {
        serde_json::Value::Object(_) | serde_json::Value::Bool(true) => Ok(harmless_json(text)),
        _ => Err(DescriptionError::NoSchema),
    }
}

/// The same JSON, with characters that act on a terminal written as escapes. Outside of strings valid JSON has none but
/// its white space.
fn harmless_json(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        if acts_on_display(character) && !matches!(character, '\t' | '\n' | '\r') {
            // All of them lie in the basic plane.
            let _ = write!(result, "\\u{:04x}", u32::from(character));
        } else {
            result.push(character);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(name: &str, schema: Option<&str>) -> Result<Description, DescriptionError> {
        Description::checked(Described {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            settings_schema: schema.map(str::to_owned),
        })
    }

    #[test]
    fn texts_are_harmless_and_the_schema_stays_the_same_json() {
        let description = described("a\u{1b}[31m", Some("{\n\t\"title\": \"a\u{7f}\u{202e}b\\u001b\u{85}\"}")).unwrap();
        assert_eq!((description.name.as_str(), description.version.as_str()), ("a\\u{1b}[31m", "1.0"));
        let schema = description.settings_schema.unwrap();
        assert_eq!(schema, "{\n\t\"title\": \"a\\u007f\\u202eb\\u001b\\u0085\"}");
        let value: serde_json::Value = serde_json::from_str(&schema).unwrap();
        assert_eq!(value["title"], "a\u{7f}\u{202e}b\u{1b}\u{85}");
    }

    #[test]
    fn lengths_are_exact() {
        let schema_of = |bytes: usize| format!("{{\"title\":\"{}\"}}", "x".repeat(bytes - 12));
        assert!(described(&"x".repeat(100), Some(&schema_of(64 << 10))).is_ok());
        let cases =
            [("x".repeat(101), None, "name"), ("x".to_owned(), Some(schema_of((64 << 10) + 1)), "settings-schema")];
        for (name, schema, expected) in cases {
            let error = described(&name, schema.as_deref()).unwrap_err();
            assert!(matches!(error, DescriptionError::TooLong { part, .. } if part == expected), "{error}");
        }
    }
}
